//! TLS handshakes, by turns with all else that a worker does.
//!
//! A handshake is some 0.3 ms of computing. Where many clients arrive at once, a worker that took them one after another
//! would keep those who are connected waiting for all of them (F74). So each step of a handshake waits for its turn, and
//! between two turns the worker does whatever else is ready.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::{Protocol, error::DispatchError};
use actix_service::Service;
use actix_tls::accept::{TlsError, rustls_0_23::TlsStream};
use actix_utils::counter::Counter;
use futures_util::{future::LocalBoxFuture, pending, poll};
use rustls::ServerConfig;
use tokio::{
    net::TcpStream,
    sync::Mutex,
    task::{spawn_local, yield_now},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::accept::settle;

/// A handshake must be done within this time.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Handshakes under way on each worker; beyond them connections wait to be accepted. Of clients that say nothing it
/// takes a hundred a second and worker to keep others waiting.
const HANDSHAKES_MAX: usize = 512;

thread_local! {
    static UNDER_WAY: Counter = Counter::new(HANDSHAKES_MAX);
    /// Whoever holds it computes.
    static TURN: Arc<Mutex<()>> = Arc::default();
}

/// Makes of each socket a TLS stream, and tells which HTTP is spoken there.
pub(super) struct Handshakes {
    acceptor: TlsAcceptor,
    under_way: Counter,
    turn: Arc<Mutex<()>>,
}

impl Handshakes {
    /// Those of this worker.
    pub fn here(config: Arc<ServerConfig>) -> Handshakes {
        let (under_way, turn) = (UNDER_WAY.with(Counter::clone), TURN.with(Arc::clone));
        Handshakes { acceptor: config.into(), under_way, turn }
    }
}

impl Service<TcpStream> for Handshakes {
    type Response = (TlsStream<TcpStream>, Protocol, Option<SocketAddr>);
    type Error = TlsError<io::Error, DispatchError>;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.under_way.available(context) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&self, socket: TcpStream) -> Self::Future {
        let (acceptor, turn, place) = (self.acceptor.clone(), self.turn.clone(), self.under_way.get());
        Box::pin(async move {
            let _place = place;
            let address = settle(&socket);
            let shaken = timeout(HANDSHAKE_WAIT_MAX, by_turns(&turn, acceptor.accept(socket))).await;
            let stream = TlsStream::from(shaken.map_err(|_| TlsError::Timeout)?.map_err(TlsError::Tls)?);
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok((stream, if is_h2 { Protocol::Http2 } else { Protocol::Http1 }, address))
        })
    }
}

/// Does each step of `work` when it is its turn. Must run on a `LocalSet`.
async fn by_turns<F: Future + Unpin>(turn: &Arc<Mutex<()>>, mut work: F) -> F::Output {
    loop {
        let turn = turn.clone().lock_owned().await;
        let step = poll!(&mut work);
        // The next turn is when the worker has looked at its sockets, and has gone through what is ready.
        spawn_local(async move {
            yield_now().await;
            drop(turn);
        });
        if let Poll::Ready(done) = step {
            return done;
        }
        // It has left word to be woken when there is more to do.
        pending!();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use futures_util::future::{join, join_all};
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn f74_between_two_steps_of_handshakes_is_whatever_else_is_ready() {
        let (turn, log) = (&Arc::default(), &RefCell::new(String::new()));
        // Those who are connected: one of them is always ready.
        let calls = async {
            while log.borrow().matches('h').count() < 60 {
                log.borrow_mut().push('c');
                yield_now().await;
            }
        };
        let handshakes = (0..20).map(|_| {
            let work = async {
                for _ in 0..3 {
                    log.borrow_mut().push('h');
                    yield_now().await;
                }
            };
            by_turns(turn, Box::pin(work))
        });
        let all = timeout(Duration::from_secs(20), join(join_all(handshakes), calls));
        LocalSet::new().run_until(all).await.expect("all get done");
        let log = log.borrow();
        assert!(!log.contains("hh"), "{log}");
    }
}
