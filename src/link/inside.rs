//! A server within this program as a peer: whoever makes its links is asked for one for each instance.

use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{Link, Peer, pair};

/// The handle to a server within this program.
#[derive(Clone, Default)]
pub struct Inside {
    stop: CancellationToken,
    over: CancellationToken,
}

/// Goes round a link, so that it can be let go of.
pub fn open(link: Link, io: &Handle) -> (Inside, Link) {
    let inside = Inside::default();
    let Link { to: onward, from: back, .. } = link;
    let (ours, Peer { from, to }) = pair();
    let end = inside.clone();
    io.spawn(async move {
        let say = async {
            pass(from, onward).await;
            // What it says last is heard, although nothing more is said to it.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = pass(back, to) => {}
            () = say => {}
            () = end.stop.cancelled() => {}
        }
        end.over.cancel();
    });
    (inside, ours)
}

async fn pass<T>(mut from: mpsc::Receiver<T>, to: mpsc::Sender<T>) {
    loop {
        let next = tokio::select! {
            next = from.recv() => next,
            () = to.closed() => None,
        };
        let Some(message) = next else { return };
        if to.send(message).await.is_err() {
            return;
        }
    }
}

impl Inside {
    /// Lets go of it: its link ends.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Resolves when it is gone.
    pub async fn ended(&self) -> String {
        self.over.cancelled().await;
        "ended".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Outbound;

    #[tokio::test]
    async fn s4_66_a_server_within_is_let_go_of_and_its_end_is_seen() {
        for told in [true, false] {
            let (link, mut server) = pair();
            let (inside, ours) = open(link, &Handle::current());
            ours.to.send(Outbound::from(bytes::Bytes::from_static(b"{}"))).await.expect("room");
            assert_eq!(server.from.recv().await.expect("a message").bytes, "{}");
            if told {
                inside.stop();
                assert!(server.from.recv().await.is_none(), "its link has ended");
            }
            drop((server, ours));
            inside.ended().await;
        }
    }
}
