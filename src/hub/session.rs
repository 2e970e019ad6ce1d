//! A session: what an older client calls by `Mcp-Session-Id`, or by its event stream (2024-11-05).
//!
//! It outlives its child. What a new process has to be told again is kept here: the greeting, the log level,
//! the subscriptions. Invariant: a session belongs to one mount, and its id is unguessable; a foreign id is
//! answered exactly like an unknown one.

mod hearing;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use hearing::Listen;

use super::{
    audience::{Level, is_list_change},
    lifecycle::Lifecycle,
    replay::{ReplayLimits, STANDALONE, Streams},
};
use crate::{
    access::{Permit, Principal},
    bridge::{Abilities, Bridged, Profile, feed::Whose, handshake::Hello, older::Introduction},
    link::connection::Caller,
    wire::{Id, Message, Revision, revision::MODERN},
};

/// Repeated `list_changed` notifications of one kind within this time become one (F29).
const COALESCE: Duration = Duration::from_millis(250);
/// How often it is looked whether a stream that has to close still owes an answer.
const ANSWER_LOOK: Duration = Duration::from_millis(10);

/// How the client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP, from 2025-03-26.
    Streamable,
    /// HTTP+SSE of 2024-11-05: one stream, whose end is the session's.
    Sse,
    /// 2026-07-28 has no sessions; this is what one client's requests share by its identity, nothing it names.
    Stateless,
}

/// One session of one client on one mount.
pub struct Session {
    pub id: Box<str>,
    /// Names the session to the connections it calls.
    pub key: u64,
    pub transport: Transport,
    /// To whom it belongs. For anybody else it is not there.
    pub owner: Principal,
    /// Its place among those of its owner.
    held: Mutex<Option<Permit>>,
    /// Known once `initialize` was answered.
    greeting: OnceLock<Greeting>,
    /// In isolation `session`: the process of its own.
    pub own: ArcSwapOption<Bridged>,
    /// One attempt to connect at a time; never held on the way of a call.
    pub connecting: tokio::sync::Mutex<Option<Lifecycle>>,
    state: Mutex<State>,
    /// Ends everything that belongs to the session.
    pub ended: CancellationToken,
    why: OnceLock<Arc<str>>,
    /// HTTP+SSE: the client has left.
    gone: tokio::sync::Notify,
    /// Streams and calls that are open: such a session is not idle.
    busy: AtomicUsize,
    used: AtomicU64,
    born: Instant,
    last_ask: AtomicU64,
}

/// What `initialize` settled.
#[derive(Clone, Debug)]
pub struct Greeting {
    pub revision: Revision,
    pub abilities: Abilities,
    pub hello: Hello,
    /// What a newer server is told of the client with each request.
    pub introduction: Arc<Introduction>,
    /// `clientInfo.name`, for the status.
    pub client: String,
}

struct State {
    streams: Streams,
    /// Questions the client was asked, by the id it was given: whose they are.
    asks: HashMap<u64, (Arc<Bridged>, u64)>,
    /// Connections with calls of this session on them, one entry per POST.
    in_use: Vec<Arc<Bridged>>,
    /// Requests that wait for a process, one entry per POST.
    waiting: Vec<Arc<Unsent>>,
    /// What a new process has to be told again.
    level: Option<Level>,
    subscriptions: BTreeSet<String>,
    /// Open `subscriptions/listen` requests of a client without sessions.
    listens: Vec<Listen>,
    /// When a kind of notification was last passed on, and whether another waits.
    coalesced: HashMap<String, (Instant, bool)>,
}

/// Keeps a session from being idle.
pub struct Busy(Arc<Session>);

/// Requests that no process has heard of yet, and what tells each that its client wants it no more.
type Unsent = Vec<(Id, CancellationToken)>;

/// Requests of one POST that can be cancelled although they wait for a process.
pub struct Waiting {
    session: Arc<Session>,
    unsent: Arc<Unsent>,
}

impl Session {
    pub fn new(transport: Transport, owner: Principal, events_max: usize, bytes_max: usize) -> Option<Arc<Session>> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).ok()?;
        Some(Session::named(URL_SAFE_NO_PAD.encode(secret), transport, owner, events_max, bytes_max))
    }

    /// What the requests of a client without sessions share. The name is no secret and opens nothing.
    pub fn of_identity(name: String, owner: Principal) -> Arc<Session> {
        Session::named(name, Transport::Stateless, owner, 1, 1)
    }

    fn named(id: String, transport: Transport, owner: Principal, events_max: usize, bytes_max: usize) -> Arc<Session> {
        static KEYS: AtomicU64 = AtomicU64::new(1);
        let limits = ReplayLimits { events_max, bytes_max, resumable: transport == Transport::Streamable };
        Arc::new(Session {
            id: id.into(),
            key: KEYS.fetch_add(1, Ordering::Relaxed),
            transport,
            owner,
            held: Mutex::new(None),
            greeting: OnceLock::new(),
            own: ArcSwapOption::empty(),
            connecting: tokio::sync::Mutex::new(None),
            state: Mutex::new(State {
                streams: Streams::new(limits),
                asks: HashMap::new(),
                in_use: Vec::new(),
                waiting: Vec::new(),
                level: None,
                subscriptions: BTreeSet::new(),
                listens: Vec::new(),
                coalesced: HashMap::new(),
            }),
            ended: CancellationToken::new(),
            why: OnceLock::new(),
            gone: tokio::sync::Notify::new(),
            busy: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            born: Instant::now(),
            last_ask: AtomicU64::new(0),
        })
    }

    /// Keeps a place among the sessions of its owner until it ends.
    pub fn hold(&self, permit: Option<Permit>) {
        *self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = permit;
    }

    /// Settles what `initialize` asked for. Answers whether this was the first time.
    pub fn greet(&self, params: Value) -> bool {
        let revision = Revision::negotiate(params["protocolVersion"].as_str().unwrap_or_default());
        let introduction = match self.transport {
            Transport::Stateless => Introduction::of_newer_client(&params),
            _ => Introduction::of_client(&params, revision),
        };
        let greeting = Greeting {
            revision,
            abilities: Abilities::read(&params["capabilities"]),
            introduction: Arc::new(introduction),
            client: params["clientInfo"]["name"].as_str().unwrap_or("unnamed").chars().take(80).collect(),
            hello: Hello::of_client(params, revision),
        };
        self.greeting.set(greeting).is_ok()
    }

    pub fn greeting(&self) -> Option<&Greeting> {
        self.greeting.get()
    }

    /// In whose name a newer server is asked on behalf of this client.
    pub fn whose(&self) -> Whose {
        self.greeting.get().map(|greeting| greeting.introduction.clone())
    }

    /// The revision that its client speaks, as text.
    pub fn speaks(&self) -> &'static str {
        match self.transport {
            Transport::Stateless => MODERN,
            _ => self.revision().as_str(),
        }
    }

    /// How long ago it was opened.
    pub fn age(&self) -> Duration {
        self.born.elapsed()
    }

    pub fn revision(&self) -> Revision {
        self.greeting.get().map_or(Revision::ASSUMED, |greeting| greeting.revision)
    }

    pub fn abilities(&self) -> Abilities {
        self.greeting.get().map(|greeting| greeting.abilities).unwrap_or_default()
    }

    pub fn caller(&self) -> Caller {
        // A client without sessions is judged when it is asked, so that it learns what it lacked.
        Caller { key: self.key, askable: self.transport == Transport::Stateless || self.abilities().any(), logs: true }
    }

    /// The streams, for as long as the lock is held.
    pub fn streams<T>(&self, work: impl FnOnce(&mut Streams) -> T) -> T {
        work(&mut self.state().streams)
    }

    /// Are streams or calls open?
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Registers a question; the id is the one the client sees.
    pub fn asked(&self, from: &Arc<Bridged>, number: u64) -> Id {
        let id = self.last_ask.fetch_add(1, Ordering::Relaxed) + 1;
        self.state().asks.insert(id, (from.clone(), number));
        Id::from(id)
    }

    /// Whose question the client answers.
    pub fn answered(&self, id: &Id) -> Option<(Arc<Bridged>, u64)> {
        self.state().asks.remove(&id.as_u64()?)
    }

    /// A question was taken back: the id the client knows it by.
    pub fn unask(&self, from: &Arc<Bridged>, number: u64) -> Option<Id> {
        let mut state = self.state();
        let same = |(_, (bridged, own)): &(&u64, &(Arc<Bridged>, u64))| Arc::ptr_eq(bridged, from) && *own == number;
        let id = state.asks.iter().find(same).map(|(id, _)| *id)?;
        state.asks.remove(&id);
        Some(Id::from(id))
    }

    /// Whose question a progress token belongs to: the token is the connection's number of the ask.
    pub fn ask_with_token(&self, token: u64) -> Option<(Arc<Bridged>, u64)> {
        let state = self.state();
        state.asks.values().find(|(_, number)| *number == token).cloned()
    }

    /// Questions of calls that are over need no place any more.
    pub fn forget_asks(&self, numbers: &[u64], from: &Arc<Bridged>) {
        if !numbers.is_empty() {
            self.state().asks.retain(|_, (bridged, number)| !(Arc::ptr_eq(bridged, from) && numbers.contains(number)));
        }
    }

    /// A POST calls over this connection.
    pub fn uses(&self, bridged: &Arc<Bridged>) {
        self.state().in_use.push(bridged.clone());
    }

    /// A POST is done with it.
    pub fn used(&self, bridged: &Arc<Bridged>) {
        let in_use = &mut self.state().in_use;
        if let Some(at) = in_use.iter().position(|used| Arc::ptr_eq(used, bridged)) {
            in_use.swap_remove(at);
        }
    }

    /// Where a call of this session may be under way.
    pub fn in_use(&self) -> Vec<Arc<Bridged>> {
        self.state().in_use.clone()
    }

    /// Requests of a POST have to wait.
    pub fn waits(self: &Arc<Self>, ids: &[Id]) -> Waiting {
        let unsent: Arc<Unsent> = Arc::new(ids.iter().map(|id| (id.clone(), CancellationToken::new())).collect());
        self.state().waiting.push(unsent.clone());
        Waiting { session: self.clone(), unsent }
    }

    /// The client cancels a request that may still wait.
    pub fn cancel_waiting(&self, id: &Id) {
        let state = self.state();
        let cancelled = state.waiting.iter().flat_map(|unsent| unsent.iter()).filter(|(waiting, _)| waiting == id);
        cancelled.for_each(|(_, token)| token.cancel());
    }

    pub fn level(&self) -> Option<Level> {
        self.state().level
    }

    pub fn set_level(&self, level: Level) {
        self.state().level = Some(level);
    }

    pub fn subscriptions(&self) -> BTreeSet<String> {
        self.state().subscriptions.clone()
    }

    /// Remembers or forgets a subscription. Answers whether that changed anything.
    pub fn subscribe(&self, uri: &str, on: bool) -> bool {
        let subscriptions = &mut self.state().subscriptions;
        match on {
            true => subscriptions.insert(uri.to_owned()),
            false => subscriptions.remove(uri),
        }
    }

    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    pub fn touch(&self) {
        self.used.store(self.born.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Time since the client was last heard of; zero while a stream or a call is open.
    pub fn idle_for(&self) -> Duration {
        match self.busy.load(Ordering::Relaxed) {
            0 => self.born.elapsed().saturating_sub(Duration::from_millis(self.used.load(Ordering::Relaxed))),
            _ => Duration::ZERO,
        }
    }

    /// The stream that was the session has ended.
    pub fn leave(&self) {
        self.gone.notify_one();
    }

    /// Resolves when the session's stream has ended, or the session itself.
    pub async fn left(&self) {
        tokio::select! {
            () = self.gone.notified() => {}
            () = self.ended.cancelled() => {}
        }
    }

    /// Closes the stream for what belongs to no call, as the mount or the hub goes. Where calls are answered on it
    /// too (2024-11-05), after the last answer.
    pub fn see_off(self: Arc<Self>) {
        if self.transport == Transport::Streamable {
            return self.streams(|streams| streams.detach(STANDALONE));
        }
        tokio::spawn(async move {
            // One for the stream itself.
            while self.busy.load(Ordering::Relaxed) > 1 {
                tokio::time::sleep(ANSWER_LOOK).await;
            }
            self.streams(|streams| streams.detach(STANDALONE));
        });
    }

    /// Ends the session and all its work. Calls in flight are cancelled, which is told on their streams; its process
    /// is let go.
    pub fn end(self: &Arc<Self>, why: &str) {
        let _ = self.why.set(why.into());
        self.ended.cancel();
        self.hold(None);
        if let Some(own) = self.own.swap(None) {
            own.connection.close(why);
        }
        self.state().asks.clear();
        self.clone().see_off();
    }

    /// Why it ended.
    pub fn why(&self) -> Arc<str> {
        self.why.get().cloned().unwrap_or_else(|| "its session ended".into())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Waiting {
    /// Resolves when the client cancels the request.
    pub async fn cancelled(&self, id: &Id) {
        match self.unsent.iter().find(|(waiting, _)| waiting == id) {
            Some((_, token)) => token.cancelled().await,
            None => std::future::pending().await,
        }
    }

    pub fn is_cancelled(&self, id: &Id) -> bool {
        self.unsent.iter().any(|(waiting, token)| waiting == id && token.is_cancelled())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.session.state().waiting.retain(|unsent| !Arc::ptr_eq(unsent, &self.unsent));
    }
}

impl Busy {
    pub fn session(&self) -> &Arc<Session> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
