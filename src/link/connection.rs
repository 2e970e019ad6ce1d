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

use super::{
    Inbound, Link,
    pending::{Answer, Pending, PendingAsk, PendingState, Table, askable, leftover},
};
use crate::wire::{
    Id, Kind, Message, envelope,
    message::{self, INVALID_PARAMS, METHOD_NOT_FOUND},
};

/// Events that may wait for one caller; progress and log messages beyond are dropped.
pub const EVENTS_MAX: usize = 256;
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
    /// A notification of a subscription (2026-07-28).
    Notice(Message),
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
    #[error("{why}; the call to upstream `{name}` was cancelled")]
    Ended { name: Arc<str>, why: Arc<str> },
    #[error("`params` must be an object")]
    Malformed,
    #[error("`{0}` must stand once in a request, as a string or an integer")]
    Ambiguous(&'static str),
}

impl CallError {
    /// May the same call be tried again as it is?
    pub fn retryable(&self) -> bool {
        matches!(self, CallError::Lost { .. } | CallError::Overloaded { .. } | CallError::Timeout { .. })
    }
}

/// The caller of requests that no client sent.
pub(super) const OURSELVES: u64 = 0;

/// Who calls: a number of the caller's, and whether the server may ask it something.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Cancellations of one caller never touch another's calls.
    pub key: u64,
    pub askable: bool,
    /// May a log message that bears no address be about its calls?
    pub logs: bool,
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
        self.0.send(message, caller, false, events).await
    }

    /// Sends a `subscriptions/listen` (2026-07-28). It is open until its reply is dropped, or a final event comes.
    pub async fn listen(&self, message: &Message, events: &mpsc::Sender<Event>) -> Result<Reply, CallError> {
        self.0.listen(message, events).await
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
        let Some(pending) = self.0.table().asks.remove(&ask) else { return };
        match pending.to {
            Some(to) => drop(to.try_send((ask, response.clone()))),
            None => drop(self.notify(response.with_id(&pending.id, None)).await),
        }
    }

    /// Registers a question that is put to a client in the peer's name; its answer goes to `to`.
    pub fn pose(&self, method: &str, to: &mpsc::Sender<Answer>) -> u64 {
        let mut table = self.0.table();
        table.last_id += 1;
        let number = table.last_id;
        let ask =
            PendingAsk { id: Id::from(number), token: None, call: 0, method: method.into(), to: Some(to.clone()) };
        table.asks.insert(number, ask);
        number
    }

    /// Takes such a question back.
    pub fn retract(&self, ask: u64) {
        self.0.table().asks.remove(&ask);
    }

    /// Does the peer still wait for an answer to this ask?
    pub fn is_asking(&self, ask: u64) -> bool {
        self.0.table().asks.contains_key(&ask)
    }

    /// Answers an ask with an error.
    pub fn refuse(&self, ask: u64, code: i32, why: &str) {
        let Some(pending) = self.0.table().asks.remove(&ask) else { return };
        let refusal = message::error_response(Some(&pending.id), code, why, None);
        match (pending.to, message::read_upstream(refusal.clone())) {
            (None, _) => self.0.post(refusal),
            (Some(to), Ok(message::Body::One(refusal))) => drop(to.try_send((ask, refusal))),
            (Some(_), _) => {}
        }
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

    /// The peer sends nothing more for a call once it has read that it is cancelled.
    pub fn heeds_cancels(&self) {
        self.0.table().heeds_cancels = true;
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
        table.pending.values().filter(|pending| pending.is_under_way()).count()
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

    /// Resolves when no call is accepted any more.
    pub async fn over(&self) {
        tokio::select! {
            () = self.closing() => {}
            () = self.ended() => {}
        }
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
        table.pending.values().filter(|pending| pending.is_under_way()).count()
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
        if !table.pending.values().any(Pending::is_under_way) {
            self.close(why);
        }
    }

    /// As [`Connection::listen`].
    pub async fn listen(&self, message: &Message, events: &mpsc::Sender<Event>) -> Result<Reply, CallError> {
        self.0.listen(message, events).await
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
    async fn listen(self: &Arc<Self>, message: &Message, events: &mpsc::Sender<Event>) -> Result<Reply, CallError> {
        let nobody = Caller { key: OURSELVES, askable: false, logs: false };
        self.send(message, nobody, true, events).await
    }

    async fn send(
        self: &Arc<Self>,
        message: &Message,
        caller: Caller,
        standing: bool,
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
                logs: caller.logs,
                standing,
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
        let ourselves = Caller { key: OURSELVES, askable: false, logs: true };
        let reply = self.send(&message, ourselves, false, &events).await?;
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
            let waiting = table.pending.get_mut(&id).filter(|pending| pending.is_waiting());
            let Some(pending) = waiting else { return false };
            let cancelled = PendingState::Cancelled { at: Instant::now(), silent: false };
            let PendingState::Waiting { events, .. } = std::mem::replace(&mut pending.state, cancelled) else {
                return false;
            };
            if !tell {
                table.pending.remove(&id);
            }
            (events, table.disown(id, None))
        };
        drop(events);
        for ask in asks {
            self.post(leftover(&ask));
        }
        if tell {
            self.post(message::cancelled(&id.into(), reason));
            self.table().told_of(id);
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
            (Kind::Notification, "notifications/message") => match self.logger() {
                Some(events) => drop(events.try_send(Event::Log(message))),
                None => (self.unsolicited)(message),
            },
            (Kind::Notification, "notifications/cancelled") => self.withdraw(&message),
            (Kind::Notification, _) => match envelope::subscription(&message) {
                Some(id) => self.notice(id, message),
                None => (self.unsolicited)(message),
            },
        }
    }

    fn respond(&self, message: Message) {
        let (pending, asks) = match message.id().and_then(Id::as_u64) {
            Some(id) => {
                let mut table = self.table();
                let pending = table.pending.remove(&id);
                table.answered(id);
                // A question of one client's process may have been another call's: then it stays open.
                let heir = (self.attribution == Attribution::OneClient).then(|| table.latest_askable()).flatten();
                (pending, table.disown(id, heir))
            }
            None => (None, Vec::new()),
        };
        asks.iter().for_each(|ask| self.post(leftover(ask)));
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
                Attribution::OneClient => table.latest_askable(),
                Attribution::Strangers => table.alone(|_| true).filter(|id| table.pending[id].askable),
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
                table.asks.insert(number, PendingAsk { id: id.clone(), token, call, method, to: None });
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
        let asked = |(_, ask): &(&u64, &PendingAsk)| ask.to.is_none() && ask.id == id;
        let Some(number) = table.asks.iter().find(asked).map(|(number, _)| *number) else {
            let ended = id.as_u64().filter(|id| table.pending.get(id).is_some_and(|pending| pending.standing));
            drop(table);
            let why = "it ended the subscription".into();
            return ended
                .into_iter()
                .for_each(|id| self.fail(id, CallError::Ended { name: self.name.clone(), why: Arc::clone(&why) }));
        };
        let Some(ask) = table.asks.remove(&number) else { return };
        if let Some(Pending { state: PendingState::Waiting { events, .. }, .. }) = table.pending.get(&ask.call) {
            let _ = events.try_send(Event::Withdrawn { ask: number });
        }
    }

    /// The queue of the one call that a log message can be about.
    fn logger(&self) -> Option<mpsc::Sender<Event>> {
        let table = self.table();
        // What a cancelled call of the same client still says is no secret from it.
        let counts =
            |pending: &Pending| pending.logs && (pending.is_waiting() || self.attribution == Attribution::Strangers);
        match &table.pending[&table.alone(counts)?].state {
            PendingState::Waiting { events, .. } => Some(events.clone()),
            PendingState::Cancelled { .. } => None,
        }
    }

    /// A notification that bears the id of the subscription it belongs to.
    fn notice(&self, id: Id, message: Message) {
        let table = self.table();
        match id.as_u64().and_then(|id| table.pending.get(&id)).filter(|pending| pending.standing) {
            Some(Pending { state: PendingState::Waiting { events, .. }, .. }) => {
                // A listener that does not keep up loses a notice, never the others their time.
                let _ = events.try_send(Event::Notice(message));
            }
            // Late news of a subscription that was ended.
            Some(_) => {}
            None => {
                drop(table);
                self.drop_one("a notice of a subscription that is not there");
            }
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
