//! Hears those who connect: one command each, in bounded time.

use std::{future::Future, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    LINE_BYTES_MAX,
    command::{self, Command},
    is_own,
    socket::{Held, Socket},
};
use crate::hub::{House, HubAddress};

/// Clients at once; the next one waits in the socket's own queue.
const CLIENTS_MAX: usize = 32;
/// A question must have come within this time, and each line of an answer must be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a client that waits for news hears that the hub is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Clients at once that stay to hear what goes on: the others must find a place.
const FOLLOWERS_MAX: usize = CLIENTS_MAX / 2;
/// Pause after an error to accept: mostly the descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What commands need.
#[derive(Clone)]
pub struct Desk {
    pub house: Arc<House>,
    pub hub: HubAddress,
    /// Places for those who stay.
    pub followers: Arc<Semaphore>,
}

/// The socket, as long as it is served.
pub struct Admin {
    _ends: DropGuard,
    _held: Held,
}

impl Admin {
    /// Serves the socket on the current runtime, until dropped.
    pub fn serve(socket: Socket, house: Arc<House>, hub: HubAddress) -> Admin {
        let ends = CancellationToken::new();
        let (over, desk) = (ends.clone(), Desk { house, hub, followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)) });
        let Socket { listener, held } = socket;
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = accept(&listener, desk, &over) => {}
                () = over.cancelled() => {}
            }
        });
        Admin { _ends: ends.drop_guard(), _held: held }
    }
}

async fn accept(listener: &UnixListener, desk: Desk, over: &CancellationToken) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("the admin socket takes nobody: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !is_own(&stream) {
            tracing::warn!("a process of another user was turned away at the admin socket");
            continue;
        }
        let (desk, over) = (desk.clone(), over.clone());
        tokio::task::spawn_local(async move {
            let _place = place;
            tokio::select! {
                () = hear(stream, &desk) => {}
                () = over.cancelled() => {}
            }
        });
    }
}

/// One client, from its question to the last line of the answer.
async fn hear(stream: UnixStream, desk: &Desk) {
    let (from, to) = stream.into_split();
    let (mut from, mut answer) = (BufReader::new(from), Answer { to, gone: false, patience: Some(PATIENCE) });
    let (exit, error) = match question(&mut from).await {
        Err(why) => (2, Some(why)),
        Ok(command) => tokio::select! {
            done = command::run(command, desk, &mut answer) => match done {
                Ok(()) => (0, None),
                Err(why) => (1, Some(why)),
            },
            // What it asked for goes on where that cannot be stopped half way.
            () = left(&mut from) => return,
        },
    };
    let mut last = json!({ "done": true, "exit": exit });
    if let Some(error) = error {
        last["error"] = error.into();
    }
    answer.say(&last).await;
}

async fn question(from: &mut BufReader<OwnedReadHalf>) -> Result<Command, String> {
    let mut line = Vec::new();
    let mut bounded = from.take(LINE_BYTES_MAX as u64);
    match tokio::time::timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await {
        Err(_) => return Err(format!("no line within {PATIENCE:?}")),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(_)) if line.last() != Some(&b'\n') => {
            return Err(format!("a question is a line of at most {LINE_BYTES_MAX} bytes"));
        }
        Ok(Ok(_)) => {}
    }
    serde_json::from_slice(&line).map_err(|error| format!("this hub knows no such command: {error}"))
}

/// Resolves when the client has left. What it says beyond its question is not heard.
async fn left(from: &mut BufReader<OwnedReadHalf>) {
    let mut unheard = [0; 512];
    while from.read(&mut unheard).await.is_ok_and(|count| count > 0) {}
}

/// The way back to a client.
pub struct Answer {
    to: OwnedWriteHalf,
    gone: bool,
    /// How long a line may take to be taken.
    patience: Option<Duration>,
}

impl Answer {
    /// One line. A client that does not take it gets no more.
    pub async fn say(&mut self, line: &Value) {
        if self.gone {
            return;
        }
        let text = format!("{line}\n");
        let said = self.to.write_all(text.as_bytes());
        self.gone = match self.patience {
            Some(patience) => !matches!(tokio::time::timeout(patience, said).await, Ok(Ok(()))),
            None => said.await.is_err(),
        };
    }

    /// From here on the client hears what goes on, and may take its time: nothing waits for it but this answer.
    pub fn goes_on(&mut self) {
        self.patience = None;
    }

    /// Waits for something, and lets the client know meanwhile that the hub is there.
    pub async fn wait<T>(&mut self, something: impl Future<Output = T>) -> T {
        let mut something = std::pin::pin!(something);
        loop {
            match tokio::time::timeout(KEEP_ALIVE, &mut something).await {
                Ok(done) => return done,
                Err(_) => self.live().await,
            }
        }
    }

    /// Did the client stop to listen?
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// A sign of life.
    pub async fn live(&mut self) {
        self.say(&json!({ "alive": true })).await;
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::admin::ask::ask;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_news_hears_that_the_hub_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let hub = async {
            let (from, to) = listener.accept().await.unwrap().0.into_split();
            let mut question = String::new();
            BufReader::new(from).read_line(&mut question).await.unwrap();
            let mut answer = Answer { to, gone: false, patience: Some(PATIENCE) };
            answer.wait(tokio::time::sleep(Duration::from_secs(3600))).await;
            answer.say(&json!({ "news": 1 })).await;
            answer.say(&json!({ "done": true, "exit": 0 })).await;
        };
        let mut news = Vec::new();
        let question = json!({ "command": "tap" });
        let asks = ask(&path, &question, |line| {
            news.push(line);
            ControlFlow::Continue(())
        });
        let (done, ()) = tokio::join!(asks, hub);
        assert_eq!((done.map(|done| done.exit).unwrap(), news), (0, vec![json!({ "news": 1 })]));
    }
}
