//! A remote server as a Link: Streamable HTTP of every revision, and HTTP+SSE of 2024-11-05.
//!
//! Each request is an exchange of its own and a task of its own, so callers do not wait for each other. What comes on
//! the stream of a request is about that request; what comes on the stream that belongs to none is about nobody. A
//! session that the peer has lost is opened again behind the caller's back: the peer refused the request, so nothing
//! was done twice.
//!
//! Invariant: the Link ends when nobody can be reached by it any more, never because one request failed.

mod answer;
pub mod events;
mod exchange;
mod http;
mod marks;
pub mod probe;
mod session;
mod sse;
mod standing;
mod tls;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, atomic::AtomicBool},
    time::Duration,
};

pub use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, watch},
    task::AbortHandle,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::{http::Failure, marks::Marks, session::Session};
use super::{Inbound, Link, Outbound, pair};
use crate::{
    auth::{AuthError, Credentials},
    wire::{Id, Kind, Message, message},
};

pub use tls::{HttpSpec, builder, client};

/// How long a peer may take to be told that its session is over.
const FAREWELL_MAX: Duration = Duration::from_millis(400);
/// Exchanges at once. Calls have their own maximum; this one is for what nobody waits for.
const TASKS_MAX: usize = 4096;
/// Longest wait for a peer to take the end of the handshake.
const INITIALIZED_MAX: Duration = Duration::from_secs(10);
/// How long the head of the stream that belongs to no request is waited for.
const HEARING_MAX: Duration = Duration::from_secs(2);

/// How a peer is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP, and HTTP+SSE where that is refused.
    #[default]
    Auto,
    StreamableHttp,
    Sse,
}

/// How to reach a remote server.
#[derive(Clone)]
pub struct RemoteSpec {
    /// What logs and errors call it.
    pub name: Arc<str>,
    pub url: Url,
    pub transport: Transport,
    /// Sent with each request.
    pub headers: HeaderMap,
    pub http: Client,
    pub credentials: Arc<Credentials>,
    pub message_bytes_max: usize,
    /// May an error tell what the peer's error page says?
    pub expose_errors: bool,
    /// What it must not tell even then, the longest first.
    pub secrets: Vec<String>,
}

/// The handle to a remote server.
#[derive(Clone)]
pub struct Remote(Arc<Control>);

/// What the tasks of a link and its owner share.
struct Control {
    stop: CancellationToken,
    over: CancellationToken,
    why: OnceLock<String>,
    /// Does it say anything unasked? Unknown until it was asked.
    hears: watch::Sender<Option<bool>>,
    /// How it turned out to speak.
    transport: OnceLock<Transport>,
    /// Why it takes none of our credentials.
    unauthorized: Mutex<Option<AuthError>>,
    /// Another session was opened.
    renewed: Notify,
}

/// What every task of a link knows.
struct Endpoint {
    spec: RemoteSpec,
    control: Arc<Control>,
    to_us: mpsc::Sender<Inbound>,
    session: Mutex<Session>,
    /// Held while a lost session is opened again.
    renewing: tokio::sync::Mutex<()>,
    marks: Mutex<Marks>,
    /// What ends the exchange of a request.
    under_way: Mutex<HashMap<u64, AbortHandle>>,
    /// HTTP+SSE: where messages go.
    mailbox: OnceLock<Url>,
    /// Where requests go, once the peer has led us elsewhere on its own origin.
    moved: Mutex<Option<Url>>,
    /// It has answered before: where it cannot be reached now, it may come back.
    reached: AtomicBool,
}

/// Reaches for a remote server. Nothing is sent before the Link is used.
pub fn open(spec: RemoteSpec, io: &Handle) -> (Remote, Link) {
    let (link, peer) = pair();
    let control = Arc::new(Control {
        stop: CancellationToken::new(),
        over: CancellationToken::new(),
        why: OnceLock::new(),
        hears: watch::Sender::new(None),
        transport: OnceLock::new(),
        unauthorized: Mutex::default(),
        renewed: Notify::new(),
    });
    let endpoint = Arc::new(Endpoint {
        spec,
        control: control.clone(),
        to_us: peer.to,
        session: Mutex::default(),
        renewing: tokio::sync::Mutex::default(),
        marks: Mutex::default(),
        under_way: Mutex::default(),
        mailbox: OnceLock::new(),
        moved: Mutex::default(),
        reached: AtomicBool::new(false),
    });
    io.spawn(drive(endpoint, peer.from));
    (Remote(control), link)
}

impl Remote {
    /// Lets go of it: its session is ended, if it has one.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Resolves when nothing more will come, with the cause.
    pub async fn ended(&self) -> String {
        self.0.over.cancelled().await;
        self.why()
    }

    pub fn why(&self) -> String {
        self.0.why.get().cloned().unwrap_or_else(|| "was let go".into())
    }

    /// Will changes be told unasked? Waits a moment for the peer to say so.
    pub async fn hears(&self) -> bool {
        let mut hears = self.0.hears.subscribe();
        let known = tokio::time::timeout(HEARING_MAX, hears.wait_for(|known| known.is_some()));
        known.await.ok().and_then(Result::ok).and_then(|known| *known).unwrap_or(true)
    }

    /// How it turned out to speak, once it has answered anything.
    pub fn transport(&self) -> Option<Transport> {
        self.0.transport.get().copied()
    }

    /// Why it takes none of our credentials, where that is its last word.
    pub fn unauthorized(&self) -> Option<AuthError> {
        self.0.unauthorized.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// Sends what is queued, until nobody wants the peer any more or it cannot be reached.
async fn drive(endpoint: Arc<Endpoint>, mut queue: mpsc::Receiver<Outbound>) {
    let control = endpoint.control.clone();
    let mut tasks = tokio::task::JoinSet::new();
    if endpoint.spec.transport == Transport::Sse {
        let opened = tokio::select! {
            opened = sse::open(&endpoint) => opened,
            () = control.stop.cancelled() => Err(Failure::Odd("was let go".into())),
        };
        match opened {
            Ok(events) => {
                let endpoint = endpoint.clone();
                tasks.spawn(async move { sse::read(&endpoint, events).await });
            }
            Err(failure) => endpoint.end(failure.into_error(&endpoint.spec).to_string()),
        }
    }
    loop {
        let outbound = tokio::select! {
            biased;
            () = control.stop.cancelled() => break,
            () = control.over.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            // A peer that takes its time slows its callers.
            outbound = queue.recv(), if tasks.len() < TASKS_MAX => outbound,
        };
        let Some(outbound) = outbound else { break };
        let Some(message) = message::one(outbound.bytes) else { continue };
        let dispatched = endpoint.dispatch(message.with_headers(outbound.headers), &mut tasks);
        tokio::select! {
            () = dispatched => {}
            () = control.stop.cancelled() => break,
        }
    }
    queue.close();
    tasks.shutdown().await;
    let _ = tokio::time::timeout(FAREWELL_MAX, endpoint.take_leave()).await;
    drop(endpoint);
    control.over.cancel();
}

impl Endpoint {
    /// Sends a message, each in its own way.
    async fn dispatch(self: &Arc<Self>, message: Message, tasks: &mut tokio::task::JoinSet<()>) {
        let endpoint = self.clone();
        match (message.kind(), message.id().and_then(Id::as_u64)) {
            (Kind::Request, Some(id)) => {
                // Held meanwhile, so that a task that ends at once finds itself.
                let mut under_way = self.under_way();
                let task = tasks.spawn(async move {
                    endpoint.exchange(id, &message).await;
                    endpoint.under_way().remove(&id);
                });
                under_way.insert(id, task);
            }
            (Kind::Notification, _) if message.method() == "notifications/cancelled" => {
                let [id] = message.param(["requestId"]).unwrap_or_default();
                let id = id.and_then(Id::read).and_then(|id| id.as_u64());
                let task = id.and_then(|id| self.under_way().remove(&id));
                if self.cancels_by_leaving() {
                    return task.iter().for_each(AbortHandle::abort);
                }
                // Over HTTP+SSE a request is under way although its POST is over.
                if task.is_some() || self.mailbox.get().is_some() {
                    tasks.spawn(async move {
                        endpoint.tell(&message).await;
                        task.iter().for_each(AbortHandle::abort);
                    });
                }
            }
            // Some servers serve nothing before they have read it, so nothing may overtake it.
            (Kind::Notification, _) if message.method() == "notifications/initialized" => {
                let _ = tokio::time::timeout(INITIALIZED_MAX, endpoint.tell(&message)).await;
                self.stand_by(tasks);
            }
            _ => drop(tasks.spawn(async move { endpoint.tell(&message).await })),
        }
    }

    /// Is the end of its stream all that a peer has to hear of a cancelled request (2026-07-28,
    /// basic/patterns/cancellation)?
    fn cancels_by_leaving(&self) -> bool {
        self.mailbox.get().is_none() && self.session().revision.is_none()
    }

    /// The link is of no use any more.
    fn end(&self, why: String) {
        let _ = self.control.why.set(why);
        self.control.over.cancel();
    }

    async fn hear(&self, inbound: Inbound) {
        // Where nobody reads any more, the link is about to end.
        let _ = self.to_us.send(inbound).await;
    }

    /// A request gets no answer.
    async fn fail(&self, id: u64, failure: Failure) {
        if failure.is_network() {
            self.hear(Inbound::Doubt).await;
        }
        self.hear(Inbound::Failed(id, failure.into_error(&self.spec))).await;
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<u64, AbortHandle>> {
        self.under_way.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Headers as they are written in a configuration.
pub fn header_map<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<HeaderMap, String> {
    pairs
        .map(|(name, text)| {
            let key =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no name of a header"))?;
            let mut value =
                HeaderValue::from_str(text).map_err(|_| format!("the header `{name}` has no such value"))?;
            // Most of them are keys.
            value.set_sensitive(true);
            Ok((key, value))
        })
        .collect()
}

/// A value of a header; what cannot be one is left out.
fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}
