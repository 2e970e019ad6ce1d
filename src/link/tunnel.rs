//! A tunnel: connections that we open to a server in the open, by which others then reach us.
//!
//! The protocol is pipenet's, of localtunnel's kind: one request registers us ([`registration`]), then plain TCP
//! connections are opened to the port that was answered, and on each the server sends HTTP/1.1 requests as if it had
//! connected to us. When one ends another takes its place. Nothing but the name says whose they are, and nothing on
//! them is encrypted: the server sees all, and so does everybody on the way to it.
//!
//! Here is what becomes of connections; who serves what comes on them is the caller's business.

pub mod registration;

use std::{cell::Cell, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch, time};
use url::Url;

use self::registration::{Lease, Verdict};
use super::keepalive::keep_alive;
use crate::auth::cause;

/// A registration has to be answered within this time,
const REGISTRATION_MAX: Duration = Duration::from_secs(30);
/// in no more than this.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// So many times another server may be named in its place, such as by one that only wants TLS.
const REDIRECTS_MAX: usize = 5;
/// The wait before the next registration; it doubles, up to the second.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// A data connection has to be open within this time.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// One that was open for so long was taken: a server that knows nothing of us closes it at once.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// Where to register, and as whom.
#[derive(Clone, Debug)]
pub struct TunnelSpec {
    pub server: Url,
    pub name: Option<String>,
}

/// How it is with a tunnel.
#[derive(Clone, Debug, Default)]
pub enum State {
    /// There is none, or none any more.
    #[default]
    Off,
    /// The server is being asked; the last failure, if there was one.
    Opening(Option<String>),
    Open(Arc<Lease>),
    /// The server said no, and asking again would not change that.
    Refused(String),
}

impl State {
    /// What the server promised, while it keeps that.
    pub fn lease(&self) -> Option<&Arc<Lease>> {
        match self {
            State::Open(lease) => Some(lease),
            _ => None,
        }
    }
}

/// Keeps a tunnel open for as long as this is polled, or until the server refuses. `serve` gets each data connection
/// when the first byte is there, and ends with it.
pub async fn keep<F>(spec: TunnelSpec, state: &watch::Sender<State>, serve: impl Fn(TcpStream, SocketAddr) -> F)
where
    F: Future<Output = ()>,
{
    let client = reqwest::Client::builder()
        .timeout(REGISTRATION_MAX)
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
        .referer(false)
        .user_agent(concat!("hubward/", env!("CARGO_PKG_VERSION")))
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return refused(state, format!("the HTTP client cannot be made: {}", cause(&error))),
    };
    let server = &spec.server;
    let (mut wait, mut before) = (RETRY[0], None::<String>);
    state.send_replace(State::Opening(None));
    loop {
        // The name that was given is asked for again, so that the URL lasts longer than a connection.
        let wanted = spec.name.as_deref().or(before.as_deref());
        let why = match register(&client, server, wanted).await {
            Verdict::Open(lease) => {
                if wanted.is_some_and(|wanted| wanted != lease.id) {
                    tracing::warn!(
                        wanted,
                        given = lease.id,
                        "the tunnel server gave another name, for this one is taken"
                    );
                }
                before = Some(lease.id.clone());
                let ended = hold(&lease, state, &serve).await;
                if ended.settled {
                    wait = RETRY[0];
                }
                format!("no data connection to {}:{} lasts: {}", lease.host, lease.port, ended.why)
            }
            Verdict::Refused(why) if spec.name.is_none() && before.take().is_some() => why,
            Verdict::Refused(why) => return refused(state, format!("{server} refuses the tunnel: {why}")),
            Verdict::Again(why) => why,
        };
        tracing::warn!(%server, retry_in = ?wait, "the tunnel is not open: {why}");
        state.send_replace(State::Opening(Some(why)));
        time::sleep(wait).await;
        wait = (wait * 2).min(RETRY[1]);
    }
}

fn refused(state: &watch::Sender<State>, why: String) {
    tracing::error!("{why}; the hub goes on without it");
    state.send_replace(State::Refused(why));
}

/// One question to the server.
async fn register(client: &reqwest::Client, server: &Url, wanted: Option<&str>) -> Verdict {
    let asked = async {
        let mut answer =
            client.get(registration::question(server, wanted)).send().await.map_err(|error| cause(&error))?;
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|error| cause(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > REPLY_BYTES_MAX {
                return Err(format!("its answer is larger than {REPLY_BYTES_MAX} bytes"));
            }
        }
        Ok((status, body))
    };
    match asked.await {
        Ok((status, body)) => registration::judge(server, wanted, status, &body),
        Err(why) => Verdict::Again(why),
    }
}

/// How a registration came to its end.
struct Ended {
    why: String,
    /// A connection of it was good for something.
    settled: bool,
}

/// What the data connections of one registration know of each other.
#[derive(Default)]
struct Lanes {
    /// Those that the server has taken.
    settled: Cell<usize>,
    /// Those that failed since one was taken.
    failed: Cell<usize>,
    ever: Cell<bool>,
}

/// One that was taken, until it ends.
struct Settled<'a>(&'a Lanes);

impl<'a> Settled<'a> {
    fn new(lanes: &'a Lanes) -> Settled<'a> {
        lanes.settled.set(lanes.settled.get() + 1);
        lanes.failed.set(0);
        lanes.ever.set(true);
        Settled(lanes)
    }
}

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        self.0.settled.set(self.0.settled.get() - 1);
    }
}

/// Opens the data connections, and others in place of those that end, for as long as the server takes them. It has
/// forgotten us when all fail while none is open.
async fn hold<F>(lease: &Arc<Lease>, state: &watch::Sender<State>, serve: &impl Fn(TcpStream, SocketAddr) -> F) -> Ended
where
    F: Future<Output = ()>,
{
    let lanes = Lanes::default();
    // It is there with the first connection: what was promised may not be reached.
    let opened = || {
        if state.borrow().lease().is_none() {
            tracing::info!(url = %lease.url, connections = lease.lanes, "the tunnel is open; its server sees all that passes, tokens too");
            state.send_replace(State::Open(lease.clone()));
        }
    };
    let lane = |after| lane(lease, after, &lanes, &opened, serve);
    let mut all: FuturesUnordered<_> = (0..lease.lanes).map(|_| lane(Duration::ZERO)).collect();
    while let Some(end) = all.next().await {
        let Err(why) = end else {
            all.push(lane(Duration::ZERO));
            continue;
        };
        tracing::debug!("a data connection of the tunnel: {why}");
        lanes.failed.set(lanes.failed.get() + 1);
        if lanes.settled.get() == 0 && lanes.failed.get() >= lease.lanes {
            return Ended { why, settled: lanes.ever.get() };
        }
        all.push(lane(RETRY[0]));
    }
    Ended { why: "there is none".into(), settled: false }
}

/// One data connection, from its opening to its end. An error: the server would not have it.
async fn lane<F>(
    lease: &Lease,
    after: Duration,
    lanes: &Lanes,
    opened: &impl Fn(),
    serve: &impl Fn(TcpStream, SocketAddr) -> F,
) -> Result<(), String>
where
    F: Future<Output = ()>,
{
    time::sleep(after).await;
    let (stream, peer) = time::timeout(CONNECT_MAX, open(lease))
        .await
        .map_err(|_| format!("it was not open within {} s", CONNECT_MAX.as_secs()))?
        .map_err(|error| error.to_string())?;
    opened();
    let early = time::timeout(SETTLED_AFTER, asked(&stream)).await;
    if early == Ok(false) {
        return Err("the server closed it at once".into());
    }
    let settled = Settled::new(lanes);
    if early.is_err() && !asked(&stream).await {
        return Ok(());
    }
    serve(stream, peer).await;
    drop(settled);
    Ok(())
}

/// Connects, and says whose connection it is where many share the port.
async fn open(lease: &Lease) -> io::Result<(TcpStream, SocketAddr)> {
    let mut stream = TcpStream::connect((lease.host.as_str(), lease.port)).await?;
    keep_alive(&stream);
    stream.set_nodelay(true)?;
    if lease.shared {
        stream.write_all(format!("{}\n", lease.id).as_bytes()).await?;
    }
    let peer = stream.peer_addr()?;
    Ok((stream, peer))
}

/// Waits for the first byte; the end in its place is no. The byte stays there to be read.
async fn asked(stream: &TcpStream) -> bool {
    stream.peek(&mut [0]).await.is_ok_and(|bytes| bytes > 0)
}

#[cfg(test)]
mod tests;
