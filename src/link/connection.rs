//! Many callers over one Link: ids, the pending table, and the [`Reply`].
//!
//! Every request gets an id of ours, never used twice, so that two clients who both count from 0 cannot meet
//! (P7, P8). The same number replaces the progress token. What comes back is matched by that number alone: an
//! answer without a match is dropped and counted, never guessed at and never broadcast (F18-F21).
//!
//! Invariant: each call gets exactly one final [`Event`], unless its [`Reply`] was dropped first. Room for that
//! event is reserved before the call is sent, so a slow caller can lose progress, but neither its answer nor
//! anybody else's time: the reader never waits for a caller.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
};
use tokio_util::sync::CancellationToken;

use super::{Inbound, Link};
use crate::wire::{
    Id, Kind, Message,
    message::{self, INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND},
};

/// Events that may wait for one caller; progress and log messages beyond are dropped.
pub const EVENTS_MAX: usize = 256;
/// How long an id that was cancelled still counts as busy when messages are attributed.
const TOMBSTONE_AGE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for the cause of death before the calls in flight are told without it (F4: within 100 ms).
const OBITUARY_WAIT_MAX: Duration = Duration::from_millis(80);

/// A link that many callers share. Dropping the last handle closes it.
#[derive(Debug)]
pub struct Connection(Arc<Inner>);

struct Inner {
    /// The upstream's name, for errors and logs.
    name: Arc<str>,
    to: mpsc::Sender<Bytes>,
    table: Mutex<Table>,
    /// How many calls may be under way.
    calls_max: usize,
    attribution: Attribution,
    unsolicited: Box<dyn Fn(Message) + Send + Sync>,
    /// We want no more of it: the owner should stop the peer.
    closing: CancellationToken,
    /// Nothing more will come.
    ended: CancellationToken,
    /// It ended before we wanted it to.
    died: AtomicBool,
    why: OnceLock<Arc<str>>,
    /// Whether the negotiated revision allows arrays.
    batches: AtomicBool,
    /// A call timed out: the owner should see whether the peer still lives.
    suspected: Notify,
    heard: AtomicU64,
    used: AtomicU64,
    opened: Instant,
    dropped: AtomicU64,
}

/// Whom a message without an address may concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// All callers are one client: its latest eligible call is asked.
    OneClient,
    /// Callers are strangers: only a call that is alone can be meant.
    Strangers,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    pending: HashMap<u64, Pending>,
    asks: HashMap<u64, PendingAsk>,
    ended: bool,
}

struct Pending {
    original: Id,
    token: Option<Id>,
    /// May the server ask the client something on behalf of this call?
    askable: bool,
    caller: u64,
    state: PendingState,
}

enum PendingState {
    Waiting {
        events: mpsc::Sender<Event>,
        room: mpsc::OwnedPermit<Event>,
    },
    /// Cancelled; kept so that a late answer is known for what it is.
    Cancelled {
        at: Instant,
    },
}

struct PendingAsk {
    /// The id the upstream gave it.
    id: Id,
    token: Option<Id>,
    call: u64,
    method: Box<str>,
}

/// What a call yields, in order, until its final event.
#[derive(Debug)]
pub enum Event {
    /// Progress of the call, with the caller's own token.
    Progress(Bytes),
    /// A log message that concerns the call.
    Log(Message),
    /// The server asks the client something.
    Ask(Ask),
    /// The server no longer wants an answer to this ask.
    Withdrawn { ask: u64 },
    /// Final: the response, with the caller's own id.
    Response(Bytes),
    /// Final: there will be no response.
    Failed { id: Id, error: CallError },
}

/// A question of the server; answer it by its number.
#[derive(Debug)]
pub struct Ask {
    pub number: u64,
    pub message: Message,
}

/// Why a call got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("upstream `{name}` {why} while the call was under way; it was not repeated")]
    Lost { name: Arc<str>, why: Arc<str> },
    #[error("upstream `{name}` has {max} calls in flight already; try again later")]
    Overloaded { name: Arc<str>, max: usize },
    #[error("upstream `{name}` answered with {bytes} bytes, more than message_bytes_max allows")]
    TooLong { name: Arc<str>, bytes: u64 },
    #[error("upstream `{name}` answered with a batch, which its revision does not have")]
    Batched { name: Arc<str> },
    #[error("upstream `{name}` did not answer within {limit:?}; the call was cancelled")]
    Timeout { name: Arc<str>, limit: Duration },
    #[error("a request names `{0}` twice")]
    Ambiguous(&'static str),
}

impl CallError {
    /// May the same call be tried again as it is?
    pub fn retryable(&self) -> bool {
        matches!(self, CallError::Lost { .. } | CallError::Overloaded { .. } | CallError::Timeout { .. })
    }
}

/// The caller of requests that no client sent.
const OURSELVES: u64 = 0;

/// Who calls: a number of the caller's, and whether the server may ask it something.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Cancellations of one caller never touch another's calls.
    pub key: u64,
    pub askable: bool,
}

/// The receiving end of one call. Dropping it before the final event cancels the call.
#[derive(Debug)]
pub struct Reply {
    connection: Arc<Inner>,
    id: u64,
    /// `initialize` may not be cancelled (2025-11-25, basic/utilities/cancellation).
    cancellable: bool,
    sent: bool,
}

impl Connection {
    /// Puts a Link to work: its reader runs on `io`. `obituary` tells why the peer ended, once it has.
    pub fn open(
        name: Arc<str>,
        link: Link,
        io: &Handle,
        calls_max: usize,
        attribution: Attribution,
        unsolicited: impl Fn(Message) + Send + Sync + 'static,
        obituary: impl Future<Output = String> + Send + 'static,
    ) -> Connection {
        let inner = Arc::new(Inner {
            name,
            to: link.to,
            table: Mutex::default(),
            calls_max,
            attribution,
            unsolicited: Box::new(unsolicited),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            died: AtomicBool::new(false),
            why: OnceLock::new(),
            batches: AtomicBool::new(false),
            suspected: Notify::new(),
            heard: AtomicU64::new(0),
            used: AtomicU64::new(0),
            opened: Instant::now(),
            dropped: AtomicU64::new(0),
        });
        io.spawn(read(inner.clone(), link.from, obituary));
        Connection(inner)
    }

    /// Sends a request. Its events arrive at `events`, which several calls of one caller may share.
    /// Where it fails at once, nothing was sent.
    pub async fn call(
        &self,
        message: &Message,
        caller: Caller,
        events: &mpsc::Sender<Event>,
    ) -> Result<Reply, CallError> {
        self.0.call(message, caller, events).await
    }

    /// A request of our own, and its response.
    pub async fn request(&self, method: &str, params: Option<&str>, limit: Duration) -> Result<Message, CallError> {
        self.0.request(method, params, limit).await
    }

    /// Sends a notification.
    pub async fn notify(&self, bytes: Bytes) -> Result<(), CallError> {
        self.0.to.send(bytes).await.map_err(|_| self.0.lost())
    }

    /// Cancels the calls of a caller that bear this id. Answers whether there was one.
    pub fn cancel(&self, caller: u64, original: &Id, reason: &str) -> bool {
        let ids: Vec<u64> = {
            let table = self.0.table();
            let own = |(_, pending): &(&u64, &Pending)| pending.caller == caller && pending.original == *original;
            table.pending.iter().filter(own).map(|(id, _)| *id).collect()
        };
        ids.iter().filter(|id| self.0.abandon(**id, reason, true)).count() > 0
    }

    /// Passes a client's response to an ask on. Unknown numbers are ignored.
    pub async fn answer(&self, ask: u64, response: &Message) {
        let Some(ask) = self.0.table().asks.remove(&ask) else { return };
        let _ = self.notify(response.with_id(&ask.id, None)).await;
    }

    /// Answers an ask with an error.
    pub fn refuse(&self, ask: u64, code: i32, why: &str) {
        let Some(ask) = self.0.table().asks.remove(&ask) else { return };
        self.0.post(message::error_response(Some(&ask.id), code, why, None));
    }

    /// Passes on the progress a client made with an ask.
    pub fn ask_progress(&self, ask: u64, progress: &Message) {
        let token = self.0.table().asks.get(&ask).and_then(|ask| ask.token.clone());
        if let (Some(token), Ok([Some(raw)])) = (token, progress.param(["progressToken"])) {
            self.0.post(progress.with(progress.span(raw), token.as_json()));
        }
    }

    /// Lets the peer go: its owner sees [`ConnectionWatch::closing`] and stops it. `why` is what calls in flight are told.
    pub fn close(&self, why: &str) {
        let _ = self.0.why.set(why.into());
        self.0.closing.cancel();
    }

    pub fn allow_batches(&self, allowed: bool) {
        self.0.batches.store(allowed, Ordering::Relaxed);
    }

    /// No call is accepted any more.
    pub fn is_over(&self) -> bool {
        self.0.closing.is_cancelled() || self.0.ended.is_cancelled()
    }

    /// Did the peer end it, unasked?
    pub fn died(&self) -> bool {
        self.0.died.load(Ordering::Relaxed)
    }

    /// A watch on this connection that does not keep it open.
    pub fn watch(&self) -> ConnectionWatch {
        ConnectionWatch(self.0.clone())
    }

    /// Why it ended or is ending.
    pub fn why(&self) -> Arc<str> {
        self.0.why()
    }

    /// Calls under way; cancelled ones do not count.
    pub fn in_flight(&self) -> usize {
        let table = self.0.table();
        table.pending.values().filter(|pending| matches!(pending.state, PendingState::Waiting { .. })).count()
    }

    /// Is the peer still busy with anything, a cancelled call included?
    pub fn is_busy(&self) -> bool {
        !self.0.table().pending.is_empty()
    }

    pub fn attribution(&self) -> Attribution {
        self.0.attribution
    }

    /// A call timed out: is the peer still there?
    pub fn suspect(&self) {
        self.0.suspected.notify_one();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.0.why.set("was let go".into());
        self.0.closing.cancel();
    }
}

/// What the owner of a peer may know of the connection to it.
#[derive(Clone)]
pub struct ConnectionWatch(Arc<Inner>);

impl ConnectionWatch {
    /// Resolves when nobody wants the connection any more.
    pub async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// Resolves when nothing more comes from the peer.
    pub async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// Resolves when a call has timed out.
    pub async fn suspected(&self) {
        self.0.suspected.notified().await;
    }

    pub fn is_over(&self) -> bool {
        self.0.closing.is_cancelled() || self.0.ended.is_cancelled()
    }

    /// Did the peer end it, unasked? Callers that let go of it afterwards change nothing.
    pub fn died(&self) -> bool {
        self.0.died.load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> usize {
        let table = self.0.table();
        table.pending.values().filter(|pending| matches!(pending.state, PendingState::Waiting { .. })).count()
    }

    /// Time since anything came from the peer.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(self.0.now() - self.0.heard.load(Ordering::Relaxed).min(self.0.now()))
    }

    /// Time since the last call was sent or ended.
    pub fn unused_for(&self) -> Duration {
        Duration::from_millis(self.0.now() - self.0.used.load(Ordering::Relaxed).min(self.0.now()))
    }

    /// Lets the peer go; `why` is what calls in flight are told.
    pub fn close(&self, why: &str) {
        let _ = self.0.why.set(why.into());
        self.0.closing.cancel();
    }

    /// Lets the peer go if no call is under way. A call that comes now is told so before anything is sent.
    pub fn close_unused(&self, why: &str) {
        let table = self.0.table();
        if !table.pending.values().any(Pending::is_waiting) {
            self.close(why);
        }
    }

    /// Asks the peer for a sign of life.
    pub async fn ping(&self, limit: Duration) -> bool {
        self.0.request("ping", None, limit).await.is_ok()
    }
}

impl Reply {
    /// The call is over; there is nothing left to cancel.
    pub fn finished(&self) -> bool {
        !self.connection.table().pending.contains_key(&self.id)
    }

    /// Cancels the call with a reason other than "the client left".
    pub fn cancel(self, reason: &str) {
        self.connection.abandon(self.id, reason, self.sent && self.cancellable);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.connection.abandon(self.id, "the client is gone", self.sent && self.cancellable);
    }
}

impl Inner {
    /// Sends a request. Its events arrive at `events`, which several calls of one caller may share.
    async fn call(
        self: &Arc<Self>,
        message: &Message,
        caller: Caller,
        events: &mpsc::Sender<Event>,
    ) -> Result<Reply, CallError> {
        let inner = self;
        let Some(original) = message.id().cloned() else { return Err(CallError::Ambiguous("id")) };
        let token = message.progress_token().map_err(|_| CallError::Ambiguous("progressToken"))?;
        let room = events.clone().try_reserve_owned().map_err(|_| inner.overloaded())?;
        let id = {
            let mut table = inner.table();
            if table.ended || inner.closing.is_cancelled() {
                return Err(inner.lost());
            }
            table.bury();
            // Our own requests are few, and a probe that is refused would say nothing about the peer.
            if caller.key != OURSELVES && table.is_full(inner.calls_max) {
                return Err(inner.overloaded());
            }
            table.last_id += 1;
            let id = table.last_id;
            let pending = Pending {
                original,
                token: token.as_ref().map(|(token, _)| token.clone()),
                askable: caller.askable && askable(message.method()),
                caller: caller.key,
                state: PendingState::Waiting { events: events.clone(), room },
            };
            table.pending.insert(id, pending);
            id
        };
        inner.used.store(inner.now(), Ordering::Relaxed);
        // From here on dropping the reply gives the id back.
        let cancellable = message.method() != "initialize";
        let mut reply = Reply { connection: inner.clone(), id, cancellable, sent: false };
        let number = Id::from(id);
        let bytes = message.with_id(&number, token.map(|(_, span)| (span, &number)));
        // Where the queue is gone, the reader is about to tell every caller why.
        let _ = inner.to.send(bytes).await;
        reply.sent = true;
        Ok(reply)
    }

    /// A request of our own, and its response.
    async fn request(
        self: &Arc<Self>,
        method: &str,
        params: Option<&str>,
        limit: Duration,
    ) -> Result<Message, CallError> {
        let (events, mut answers) = mpsc::channel(4);
        let bytes = message::request(&Id::from(0), method, params);
        let Ok(message::Body::One(message)) = message::read_upstream(bytes) else {
            return Err(CallError::Ambiguous("params"));
        };
        let reply = self.call(&message, Caller { key: OURSELVES, askable: false }, &events).await?;
        let answer = async {
            loop {
                match answers.recv().await {
                    Some(Event::Response(bytes)) => match message::read_upstream(bytes) {
                        Ok(message::Body::One(message)) => return Ok(message),
                        _ => return Err(self.lost()),
                    },
                    Some(Event::Failed { error, .. }) => return Err(error),
                    Some(_) => {}
                    None => return Err(self.lost()),
                }
            }
        };
        let outcome = tokio::time::timeout(limit, answer).await;
        drop(reply);
        outcome.unwrap_or_else(|_| Err(CallError::Timeout { name: self.name.clone(), limit }))
    }

    /// Ends a call from our side; answers whether there was one.
    fn abandon(&self, id: u64, reason: &str, tell: bool) -> bool {
        let (events, asks) = {
            let mut table = self.table();
            let Some(pending) = table.pending.get_mut(&id) else { return false };
            let cancelled = PendingState::Cancelled { at: Instant::now() };
            let PendingState::Waiting { events, .. } = std::mem::replace(&mut pending.state, cancelled) else {
                return false;
            };
            if !tell {
                table.pending.remove(&id);
            }
            let numbers: Vec<u64> =
                table.asks.iter().filter(|(_, ask)| ask.call == id).map(|(number, _)| *number).collect();
            (events, numbers.iter().filter_map(|number| table.asks.remove(number)).collect::<Vec<_>>())
        };
        drop(events);
        for ask in asks {
            self.post(leftover(&ask));
        }
        if tell {
            self.post(message::cancelled(&id.into(), reason));
        }
        true
    }

    /// Queues a message that nobody waits for.
    fn post(&self, bytes: Bytes) {
        if let Err(mpsc::error::TrySendError::Full(bytes)) = self.to.try_send(bytes) {
            // As many tasks as calls at most; each ends with the queue.
            let to = self.to.clone();
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(async move { to.send(bytes).await });
            }
        }
    }

    fn handle(&self, inbound: Inbound) {
        self.heard.store(self.now(), Ordering::Relaxed);
        match inbound {
            Inbound::Message(message) => self.route(message),
            Inbound::Batch(messages) if self.batches.load(Ordering::Relaxed) => {
                messages.into_iter().for_each(|message| self.route(message));
            }
            Inbound::Batch(messages) => {
                self.drop_one("a batch its revision does not have");
                let owned = messages.iter().filter(|message| message.kind() == Kind::Response);
                for id in owned.filter_map(|message| message.id()?.as_u64()) {
                    self.fail(id, CallError::Batched { name: self.name.clone() });
                }
            }
            Inbound::TooLong { id, bytes } => match id.and_then(|id| id.as_u64()) {
                Some(id) => self.fail(id, CallError::TooLong { name: self.name.clone(), bytes }),
                None => self.drop_one("a message above message_bytes_max"),
            },
        }
    }

    fn route(&self, message: Message) {
        match (message.kind(), message.method()) {
            (Kind::Response, _) => self.respond(message),
            (Kind::Request, "ping") => {
                let Some(id) = message.id() else { return };
                self.post(message::response(id, "{}"));
            }
            (Kind::Request, "sampling/createMessage" | "elicitation/create" | "roots/list") => self.ask(message),
            (Kind::Request, method) => {
                let why = format!("the client does not know the method {method}");
                self.post(message::error_response(message.id(), METHOD_NOT_FOUND, &why, None));
            }
            (Kind::Notification, "notifications/progress") => self.progress(&message),
            (Kind::Notification, "notifications/message") => match self.concerned(|_| true) {
                Some(events) => drop(events.try_send(Event::Log(message))),
                None => (self.unsolicited)(message),
            },
            (Kind::Notification, "notifications/cancelled") => self.withdraw(&message),
            (Kind::Notification, _) => (self.unsolicited)(message),
        }
    }

    fn respond(&self, message: Message) {
        let pending = message.id().and_then(Id::as_u64).and_then(|id| {
            let mut table = self.table();
            // Questions about a call that has its answer need none any more.
            table.asks.retain(|_, ask| ask.call != id);
            table.pending.remove(&id)
        });
        self.used.store(self.now(), Ordering::Relaxed);
        match pending {
            Some(Pending { original, state: PendingState::Waiting { room, .. }, .. }) => {
                room.send(Event::Response(message.with_id(&original, None)));
            }
            // Cancelled before the server knew: dropped quietly (F21).
            Some(_) => {}
            None => self.drop_one("an answer to a call that is not there"),
        }
    }

    fn fail(&self, id: u64, error: CallError) {
        let pending = self.table().pending.remove(&id);
        if let Some(Pending { original, state: PendingState::Waiting { room, .. }, .. }) = pending {
            room.send(Event::Failed { id: original, error });
        }
    }

    fn progress(&self, message: &Message) {
        let Ok([Some(raw)]) = message.param(["progressToken"]) else { return };
        let span = message.span(raw);
        let table = self.table();
        let pending = Id::read(raw.get()).and_then(|token| token.as_u64()).and_then(|id| table.pending.get(&id));
        match pending {
            Some(Pending { token: Some(token), state: PendingState::Waiting { events, .. }, .. }) => {
                let _ = events.try_send(Event::Progress(message.with(span, token.as_json())));
            }
            // Late progress of a call that was cancelled.
            Some(_) => {}
            None => {
                drop(table);
                self.drop_one("progress of a call that is not there");
            }
        }
    }

    /// Finds the call a question belongs to, or refuses it. Guessing would show one client's data to another.
    fn ask(&self, message: Message) {
        let Some(id) = message.id().cloned() else { return };
        let token = message.progress_token().ok().flatten();
        let asked = {
            let mut table = self.table();
            let call = match self.attribution {
                Attribution::OneClient => {
                    let eligible = table.pending.iter().filter(|(_, pending)| pending.askable && pending.is_waiting());
                    eligible.map(|(id, _)| *id).max()
                }
                Attribution::Strangers => table.alone().filter(|id| table.pending[id].askable),
            };
            let events = call.and_then(|call| match &table.pending.get(&call)?.state {
                PendingState::Waiting { events, .. } => Some((call, events.clone())),
                PendingState::Cancelled { .. } => None,
            });
            events.and_then(|(call, events)| {
                table.last_id += 1;
                let number = table.last_id;
                let method = message.method().into();
                let text = match &token {
                    // The client answers progress with the number, which it cannot use to reach another's ask.
                    Some((_, span)) => message.with(span.clone(), Id::from(number).as_json()),
                    None => message.bytes().clone(),
                };
                let Ok(message::Body::One(message)) = message::read_upstream(text) else { return None };
                let token = token.map(|(token, _)| token);
                table.asks.insert(number, PendingAsk { id: id.clone(), token, call, method });
                if events.try_send(Event::Ask(Ask { number, message })).is_err() {
                    table.asks.remove(&number);
                    return None;
                }
                Some(())
            })
        };
        if asked.is_none() {
            let why = "this request cannot be attributed to a request of one client (SEP-2260)";
            self.post(message::error_response(Some(&id), INVALID_PARAMS, why, None));
        }
    }

    /// The server takes a question of its own back.
    fn withdraw(&self, message: &Message) {
        let Ok([Some(raw)]) = message.param(["requestId"]) else { return };
        let Some(id) = Id::read(raw.get()) else { return };
        let mut table = self.table();
        let Some(number) = table.asks.iter().find(|(_, ask)| ask.id == id).map(|(number, _)| *number) else { return };
        let Some(ask) = table.asks.remove(&number) else { return };
        if let Some(Pending { state: PendingState::Waiting { events, .. }, .. }) = table.pending.get(&ask.call) {
            let _ = events.try_send(Event::Withdrawn { ask: number });
        }
    }

    /// The queue of the one call that a message without an address can concern.
    fn concerned(&self, wanted: impl Fn(&Pending) -> bool) -> Option<mpsc::Sender<Event>> {
        let table = self.table();
        match &table.pending.get(&table.alone()?).filter(|pending| wanted(pending))?.state {
            PendingState::Waiting { events, .. } => Some(events.clone()),
            PendingState::Cancelled { .. } => None,
        }
    }

    /// The end: each call in flight hears of it once.
    fn end(&self, why: &str) {
        let _ = self.why.set(why.into());
        self.died.store(!self.closing.is_cancelled(), Ordering::Relaxed);
        let pending = {
            let mut table = self.table();
            table.ended = true;
            table.asks.clear();
            std::mem::take(&mut table.pending)
        };
        self.ended.cancel();
        for pending in pending.into_values() {
            if let PendingState::Waiting { room, .. } = pending.state {
                room.send(Event::Failed { id: pending.original, error: self.lost() });
            }
        }
    }

    fn drop_one(&self, what: &str) {
        let count = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        // The first few, then each power of two: a flood must not become a flood of log lines.
        if count <= 5 || count.is_power_of_two() {
            tracing::warn!(upstream = %self.name, count, "dropped {what}");
        }
    }

    fn lost(&self) -> CallError {
        CallError::Lost { name: self.name.clone(), why: self.why() }
    }

    fn overloaded(&self) -> CallError {
        CallError::Overloaded { name: self.name.clone(), max: self.calls_max }
    }

    fn why(&self) -> Arc<str> {
        self.why.get().cloned().unwrap_or_else(|| "ended".into())
    }

    fn now(&self) -> u64 {
        self.opened.elapsed().as_millis() as u64
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Connection").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Pending {
    fn is_waiting(&self) -> bool {
        matches!(self.state, PendingState::Waiting { .. })
    }
}

impl Table {
    /// The only call the upstream can be working on, if there is just one.
    fn alone(&self) -> Option<u64> {
        let recent = |pending: &Pending| match pending.state {
            PendingState::Waiting { .. } => true,
            PendingState::Cancelled { at } => at.elapsed() < TOMBSTONE_AGE_MAX,
        };
        let mut busy = self.pending.iter().filter(|(_, pending)| recent(pending)).map(|(id, _)| *id);
        match (busy.next(), busy.next()) {
            (Some(id), None) => Some(id),
            _ => None,
        }
    }

    /// Is there no room for another call? One that was cancelled frees its place, but as long as its answer may
    /// still come it must be remembered, and that is bounded too.
    fn is_full(&self, calls_max: usize) -> bool {
        let counts = |pending: &&Pending| pending.is_waiting() && pending.caller != OURSELVES;
        let waiting = || self.pending.values().filter(counts).count();
        self.pending.len() >= calls_max && (self.pending.len() >= calls_max * 2 + 64 || waiting() >= calls_max)
    }

    /// Forgets cancelled calls whose answer will not come any more.
    fn bury(&mut self) {
        if self.pending.len() >= 64 {
            self.pending.retain(|_, pending| match pending.state {
                PendingState::Waiting { .. } => true,
                PendingState::Cancelled { at } => at.elapsed() < TOMBSTONE_AGE_MAX,
            });
        }
    }
}

/// Calls that a server may interrupt with a question (2026-07-28, basic/patterns/mrtr, and SEP-2260).
fn askable(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// What a server hears whose question outlived its call so that it does not wait for ever.
fn leftover(ask: &PendingAsk) -> Bytes {
    match &*ask.method {
        "elicitation/create" => message::response(&ask.id, r#"{"action":"cancel"}"#),
        "sampling/createMessage" => {
            message::error_response(Some(&ask.id), -1, "the call this was asked for is over", None)
        }
        _ => message::error_response(Some(&ask.id), INTERNAL_ERROR, "the call this was asked for is over", None),
    }
}

async fn read(inner: Arc<Inner>, mut from: mpsc::Receiver<Inbound>, obituary: impl Future<Output = String>) {
    while let Some(inbound) = from.recv().await {
        inner.handle(inbound);
    }
    let why = match inner.why.get() {
        Some(why) => why.to_string(),
        None => {
            let known = tokio::time::timeout(OBITUARY_WAIT_MAX, obituary).await;
            known.unwrap_or_else(|_| "closed its output".to_owned())
        }
    };
    inner.end(&why);
}
