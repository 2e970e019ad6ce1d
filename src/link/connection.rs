//! Many callers over one Link: ids, the pending table, and the [`Reply`].
//!
//! Every request gets an id of ours, never used twice, so that two clients who both count from 0 cannot meet
//! (P7, P8). The same number replaces the progress token. What comes back is matched by that number alone: an
//! answer without a match is dropped and counted, never guessed at and never broadcast (F18-F21).
//!
//! Invariant: each call gets exactly one final [`Event`], unless its [`Reply`] was dropped first. Room for that
//! event is reserved before the call is sent, so a slow caller can lose progress, but neither its answer nor
//! anybody else's time: the reader never waits for a caller.

mod event;
mod hearing;
mod leaving;
pub mod queue;
mod watch;

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

pub use event::{Ask, CallError, Event};
pub use watch::{ConnectionWatch, Reply};

use super::{
    Inbound, Link, Outbound,
    home::Home,
    pending::{Answer, Pending, PendingAsk, PendingState, Table, askable, leftover},
    tap::Probe,
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
    to: mpsc::Sender<Outbound>,
    home: Home,
    table: Mutex<Table>,
    /// How many calls may be under way.
    calls_max: usize,
    attribution: Attribution,
    unsolicited: Box<dyn Fn(Message) + Send + Sync>,
    /// We want no more of it: the owner should stop the peer.
    closing: CancellationToken,
    /// Nothing more will come.
    ended: CancellationToken,
    /// One of both, which costs less to ask.
    over: AtomicBool,
    /// It ended before we wanted it to.
    died: AtomicBool,
    /// And whether that was our wish.
    why: OnceLock<(Arc<str>, bool)>,
    /// Whether the negotiated revision allows arrays.
    batches: AtomicBool,
    /// A call timed out: the owner should see whether the peer still lives.
    suspected: Notify,
    heard: AtomicU64,
    used: AtomicU64,
    opened: Instant,
    dropped: AtomicU64,
    /// Where those who watch are told what passes.
    probe: OnceLock<Probe>,
}

/// Whom a message without an address may concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// All callers are one client: its latest eligible call is asked.
    OneClient,
    /// Callers are strangers: only a call that is alone can be meant.
    Strangers,
    /// Callers are strangers, and each call has a stream of its own: what comes by none of these is about none.
    Streams,
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

impl Connection {
    /// Puts a Link to work: its reader runs where the link is at home, else on `io`. `obituary` tells why the peer ended,
    /// once it has.
    pub fn open(
        name: Arc<str>,
        link: Link,
        io: &Handle,
        calls_max: usize,
        attribution: Attribution,
        unsolicited: impl Fn(Message) + Send + Sync + 'static,
        obituary: impl Future<Output = String> + Send + 'static,
    ) -> Connection {
        let home = link.home.unwrap_or_else(|| io.into());
        let inner = Arc::new(Inner {
            name,
            to: link.to,
            home: home.clone(),
            table: Mutex::default(),
            calls_max,
            attribution,
            unsolicited: Box::new(unsolicited),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            over: AtomicBool::new(false),
            died: AtomicBool::new(false),
            why: OnceLock::new(),
            batches: AtomicBool::new(false),
            suspected: Notify::new(),
            heard: AtomicU64::new(0),
            used: AtomicU64::new(0),
            opened: Instant::now(),
            dropped: AtomicU64::new(0),
            probe: OnceLock::new(),
        });
        let reader = inner.clone();
        io.spawn(home.live((link.from, obituary), move |state, lease| hearing::read(reader.clone(), state, lease)));
        Connection(inner)
    }

    /// Sends a request. Its events arrive at `events`, which several calls of one caller may share.
    /// Where it fails at once, nothing was sent.
    pub async fn call(&self, message: &Message, caller: Caller, events: &queue::Sender) -> Result<Reply, CallError> {
        self.0.send(message, caller, false, events).await
    }

    /// A request of our own, and its response.
    pub async fn request(&self, method: &str, params: Option<&str>, limit: Duration) -> Result<Message, CallError> {
        self.0.request(method, params, limit).await
    }

    /// Sends a notification.
    pub async fn notify(&self, bytes: Bytes) -> Result<(), CallError> {
        self.0.pass(bytes.into()).await.map_err(|_| self.0.lost())
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

    /// The upstream's name.
    pub fn name(&self) -> &str {
        &self.0.name
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
        match (pending.to, message::one(refusal.clone())) {
            (None, _) => self.0.post(refusal),
            (Some(to), Some(refusal)) => drop(to.try_send((ask, refusal))),
            (Some(_), None) => {}
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
        self.0.shut(why, true);
    }

    /// From now on those who watch are told what passes.
    pub fn record(&self, probe: Probe) {
        let _ = self.0.probe.set(probe);
    }

    /// The peer sends nothing more for a call once it has read that it is cancelled.
    pub fn heeds_cancels(&self) {
        self.0.table().heeds_cancels = true;
    }

    /// Whether several messages may go as one array: a matter of the revision (2025-03-26 only).
    pub fn allow_batches(&self, allowed: bool) {
        self.0.batches.store(allowed, Ordering::Relaxed);
    }

    /// No call is accepted any more.
    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
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

    /// Is the peer still busy with anything, a cancelled call included?
    pub fn is_busy(&self) -> bool {
        !self.0.table().pending.is_empty()
    }

    /// How it is told whose a message is that names no request.
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
        self.0.shut("was let go", true);
    }
}

impl Inner {
    async fn send(
        self: &Arc<Self>,
        message: &Message,
        caller: Caller,
        standing: bool,
        events: &queue::Sender,
    ) -> Result<Reply, CallError> {
        let inner = self;
        let Some(original) = message.id().cloned() else { return Err(CallError::Ambiguous("id")) };
        let token = message.progress_token().map_err(|_| CallError::Ambiguous("progressToken"))?;
        let room = events.reserve().ok_or_else(|| inner.lost())?;
        let id = {
            let mut table = inner.table();
            if table.ended || inner.over.load(Ordering::Acquire) {
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
                state: PendingState::Waiting { room },
            };
            table.pending.insert(id, pending);
            id
        };
        // What we ask on our own behalf is no use of the peer.
        if caller.key != OURSELVES {
            let now = inner.now();
            inner.used.store(now, Ordering::Relaxed);
            inner.home.call(now);
        }
        // From here on dropping the reply gives the id back.
        let cancellable = message.method() != "initialize";
        let mut reply = Reply { connection: inner.clone(), id, cancellable, sent: false };
        let number = Id::from(id);
        let bytes = message.with_id(&number, token.map(|(_, span)| (span, &number)));
        // Where the queue is gone, the reader is about to tell every caller why.
        let _ = inner.pass(Outbound { bytes, headers: message.headers().cloned() }).await;
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
        let (events, mut answers) = queue::channel(4);
        let bytes = message::request(&Id::from(0), method, params);
        let message = message::one(bytes).ok_or(CallError::Ambiguous("params"))?;
        let ourselves = Caller { key: OURSELVES, askable: false, logs: true };
        let reply = self.send(&message, ourselves, false, &events).await?;
        let answer = async {
            loop {
                match answers.recv().await {
                    Some(Event::Response(bytes)) => return message::one(bytes).ok_or_else(|| self.lost()),
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
    fn abandon(self: &Arc<Self>, id: u64, reason: &str, tell: bool) -> bool {
        let (room, asks) = {
            let mut table = self.table();
            let waiting = table.pending.get_mut(&id).filter(|pending| pending.is_waiting());
            let Some(pending) = waiting else { return false };
            let at = Instant::now();
            let cancelled = PendingState::Cancelled { at, silent: false };
            let PendingState::Waiting { room } = std::mem::replace(&mut pending.state, cancelled) else {
                return false;
            };
            // It may be kept for a minute: without small pieces that hold whole pages of memory.
            (pending.original, pending.token) = (Id::BLANK, None);
            match tell {
                true => table.cancelled(at),
                false => drop(table.pending.remove(&id)),
            }
            (room, table.disown(id, None))
        };
        drop(room);
        for ask in asks {
            self.post(leftover(&ask));
        }
        if tell {
            self.post(message::cancelled(&id.into(), reason));
            self.table().told_of(id);
        }
        true
    }

    fn fail(&self, id: u64, error: CallError) {
        let pending = self.table().pending.remove(&id);
        if let Some(Pending { original, state: PendingState::Waiting { room }, .. }) = pending {
            room.send(Event::Failed { id: original, error });
        }
    }

    /// We want no more of it. `asked`: that is a wish of ours, and no fault of the peer's.
    fn shut(&self, why: &str, asked: bool) {
        let _ = self.why.set((why.into(), asked));
        self.over.store(true, Ordering::Release);
        self.closing.cancel();
    }

    fn lost(&self) -> CallError {
        let asked = self.why.get().is_some_and(|(_, asked)| *asked);
        CallError::Lost { name: self.name.clone(), why: self.why(), asked }
    }

    fn overloaded(&self) -> CallError {
        CallError::Overloaded { name: self.name.clone(), max: self.calls_max }
    }

    fn why(&self) -> Arc<str> {
        self.why.get().map_or_else(|| "ended".into(), |(why, _)| why.clone())
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
