//! One upstream for one client at the other end of a link: our own stdin and stdout.
//!
//! The client opens with `initialize`, and then has the one session there is, as over HTTP+SSE; or its requests stand
//! alone; or both (2026-07-28, basic/transports/stdio). Whatever comes first, it is answered and nothing ends.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::{sync::mpsc, task::AbortHandle};
use tokio_util::task::TaskTracker;

use super::{
    mcp,
    modern::{self, Begun},
    rescue::Refusal,
    sse, stream,
};
use crate::{
    access::Principal,
    hub::{
        House,
        replay::STANDALONE,
        routes::Route,
        session::{Session, Transport},
    },
    link::{Inbound, Link, Outbound},
    observe::trace::Arrival,
    wire::{
        Id, Kind, Message,
        envelope::{self, Claim, Envelope},
        message::{self, INVALID_PARAMS, INVALID_REQUEST},
        object::Object,
    },
};

/// How long calls under way may go on when the client has closed stdin.
const LAST_CALLS_MAX: Duration = Duration::from_millis(400);

/// Which tools the client is not to see.
pub type Hides = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// What serves the client.
struct Desk {
    house: Arc<House>,
    route: Arc<Route>,
    /// Whoever started us.
    principal: Principal,
    to: mpsc::Sender<Outbound>,
    /// The session that `initialize` opened.
    session: Mutex<Option<Arc<Session>>>,
    /// Requests that stand alone, by their ids.
    alone: Mutex<HashMap<Id, AbortHandle>>,
    hides: Option<Hides>,
    /// Requests for the list of tools, where some are hidden.
    lists: Mutex<HashSet<Id>>,
    calls: TaskTracker,
    /// What lasts as long as the client does.
    streams: TaskTracker,
}

/// Serves the client until it closes either end.
pub async fn serve(house: Arc<House>, route: Arc<Route>, link: Link, hides: Option<Hides>) {
    let Link { to, mut from, .. } = link;
    let desk = Arc::new(Desk {
        principal: Principal::default(),
        house,
        route,
        to,
        session: Mutex::default(),
        alone: Mutex::default(),
        hides,
        lists: Mutex::default(),
        calls: TaskTracker::new(),
        streams: TaskTracker::new(),
    });
    loop {
        tokio::select! {
            inbound = from.recv() => match inbound {
                Some(inbound) => desk.take(inbound).await,
                None => break,
            },
            // Nobody reads what we say.
            () = desk.to.closed() => break,
        }
    }
    desk.close().await;
}

impl Desk {
    async fn take(self: &Arc<Self>, inbound: Inbound) {
        let refused = |id: Option<&Id>, why: &str| message::error_response(id, INVALID_REQUEST, why, None);
        match inbound {
            Inbound::Message(message) if self.is_hidden(&message) => {
                let why = "there is no such tool";
                self.say(message::error_response(message.id(), INVALID_PARAMS, why, None)).await;
            }
            Inbound::Message(message) => match envelope::claim(&message) {
                Claim::Modern(envelope) => self.stands_alone(message, envelope),
                Claim::Malformed(why) => self.say(Refusal::Envelope(why).message(message.id())).await,
                Claim::None => self.belongs(vec![message]).await,
            },
            Inbound::Batch(messages) => {
                let allowed = match self.session() {
                    Some(session) => mcp::batch_allowed(&session, &messages),
                    None => Err(Refusal::BadRequest("a batch needs a session that has them".into())),
                };
                match allowed {
                    Ok(()) => self.belongs(messages).await,
                    Err(refusal) => self.say(refusal.message(None)).await,
                }
            }
            Inbound::Unreadable(error) => self.say(Refusal::Message(error.clone()).message(error.id.as_ref())).await,
            Inbound::TooLong { id, .. } => self.say(refused(id.as_ref(), "the message is too large")).await,
            // What clients do not send.
            Inbound::About(..) | Inbound::Failed(..) | Inbound::Doubt => {}
        }
    }

    /// Requests that stand alone; each is a task of its own.
    fn stands_alone(self: &Arc<Self>, message: Message, envelope: Envelope) {
        if message.kind() != Kind::Request {
            self.cancel(&message);
            return;
        }
        let Some(id) = message.id().cloned() else { return };
        let desk = self.clone();
        let standing = message.method() == "subscriptions/listen";
        let tracker = if standing { &self.streams } else { &self.calls };
        let task = tracker.spawn_local({
            let id = id.clone();
            async move {
                desk.answer(&id, message, envelope).await;
                lock(&desk.alone).remove(&id);
            }
        });
        lock(&self.alone).insert(id, task.abort_handle());
    }

    async fn answer(&self, id: &Id, message: Message, envelope: Envelope) {
        match modern::begin(None, &self.house, &self.route, &self.principal, message, &envelope).await {
            Ok(Begun::Taken) => {}
            Ok(Begun::Answer(bytes)) => self.say(bytes).await,
            Ok(Begun::Exchange(mut exchange)) => {
                while let Some(bytes) = exchange.message().await {
                    self.say(bytes).await;
                }
            }
            Ok(Begun::Listening(mut listening)) => {
                while let Some(bytes) = listening.next().await {
                    self.say(bytes).await;
                }
                // Over stdio there is no stream whose end could be seen (2026-07-28, basic/patterns/cancellation).
                self.say(message::cancelled(id, "the subscription ended")).await;
            }
            Err(refusal) => self.say(refusal.message(Some(id))).await,
        }
    }

    /// Does a notification cancel a request that stands alone?
    fn cancel(&self, message: &Message) -> bool {
        if message.method() != "notifications/cancelled" {
            return false;
        }
        let [raw] = message.param(["requestId"]).unwrap_or_default();
        let id = raw.and_then(Id::read);
        let task = id.and_then(|id| lock(&self.alone).remove(&id));
        task.is_some_and(|task| {
            task.abort();
            true
        })
    }

    /// Messages of the session, or what comes before there is one.
    async fn belongs(self: &Arc<Self>, messages: Vec<Message>) {
        if let [message] = messages.as_slice() {
            if self.cancel(message) {
                return;
            }
            let opens = (message.kind(), message.method()) == (Kind::Request, "initialize");
            if opens
                && self.session().is_none()
                && let Err(refusal) = self.open()
            {
                return self.say(refusal.message(message.id())).await;
            }
        }
        let Some(session) = self.session() else {
            return self.before_session(&messages).await;
        };
        let route = self.route.clone();
        self.calls.spawn_local(async move {
            let ended = session.ended.clone();
            let calls = tokio::select! {
                calls = sse::serve(&route, &session, messages, Vec::new()) => calls,
                () = ended.cancelled() => None,
            };
            if let Some(mut calls) = calls {
                calls.arrived(|| Arrival::PIPE);
                stream::pump(calls, STANDALONE).await;
            }
        });
    }

    /// Opens the session, and passes on what is said in it.
    fn open(self: &Arc<Self>) -> Result<(), Refusal> {
        let session = mcp::open(&self.house, &self.route, &self.principal, Transport::Sse)?;
        let mut reader = session.streams(|streams| streams.attach(false)).map_err(|_| Refusal::Taken)?;
        self.house.admit_session(&self.route, session.clone());
        *lock(&self.session) = Some(session.clone());
        let (desk, busy) = (self.clone(), session.busy());
        self.streams.spawn_local(async move {
            let _busy = busy;
            while let Some(sent) = reader.recv().await {
                desk.say(sent.data).await;
            }
        });
        Ok(())
    }

    /// Before there is a session some questions can be answered all the same.
    async fn before_session(self: &Arc<Self>, messages: &[Message]) {
        for message in messages.iter().filter(|message| message.kind() == Kind::Request) {
            let Some(id) = message.id().cloned() else { continue };
            match message.method() {
                "ping" => self.say(message::response(&id, "{}")).await,
                "server/discover" => {
                    let desk = self.clone();
                    self.calls.spawn_local(async move {
                        let stranger = Session::of_identity("stdio".into(), desk.principal.clone());
                        let answer = modern::discover(&desk.route, &stranger, &id).await;
                        desk.say(answer.unwrap_or_else(|refusal| refusal.message(Some(&id)))).await;
                    });
                }
                _ => {
                    let why = "there is no session: send `initialize` first, or `_meta` with each request";
                    self.say(message::error_response(Some(&id), INVALID_REQUEST, why, None)).await;
                }
            }
        }
    }

    /// The client is gone: what is under way may finish, for a moment.
    async fn close(&self) {
        self.calls.close();
        let _ = tokio::time::timeout(LAST_CALLS_MAX, self.calls.wait()).await;
        for (_, task) in lock(&self.alone).drain() {
            task.abort();
        }
        if let Some(session) = self.session() {
            self.house.end_session(&self.route, &session, "the client closed stdin");
            session.streams(|streams| streams.detach_all());
        }
        self.streams.close();
        let _ = tokio::time::timeout(LAST_CALLS_MAX, self.streams.wait()).await;
    }

    fn session(&self) -> Option<Arc<Session>> {
        lock(&self.session).clone()
    }

    async fn say(&self, bytes: Bytes) {
        let shown = if self.hides.is_some() { self.without_hidden(&bytes) } else { None };
        // Where nobody reads, this is the end.
        let _ = self.to.send(shown.unwrap_or(bytes).into()).await;
    }

    /// Is this a call of a tool that the client is not to see? Keeps in mind which answers are lists.
    fn is_hidden(&self, request: &Message) -> bool {
        let (Some(hides), Some(id)) = (&self.hides, request.id()) else { return false };
        match request.method() {
            "tools/list" => {
                lock(&self.lists).insert(id.clone());
                false
            }
            "tools/call" => envelope::name_of(request).is_some_and(|name| hides(&name)),
            _ => false,
        }
    }

    /// A list of tools without those that are hidden; none where it is something else.
    fn without_hidden(&self, bytes: &Bytes) -> Option<Bytes> {
        let hides = self.hides.as_ref()?;
        if lock(&self.lists).is_empty() {
            return None;
        }
        let answer = message::one(bytes.clone()).filter(|message| message.kind() == Kind::Response)?;
        let id = answer.id().filter(|id| lock(&self.lists).remove(id))?;
        let result = Object::read(answer.result()?)?;
        let tools: Vec<&RawValue> = serde_json::from_str(result.get("tools")?.get()).ok()?;
        let name = |tool: &RawValue| Object::read(tool.get()).and_then(|tool| tool.string("name"));
        let shown = tools.iter().filter(|tool| name(tool).is_none_or(|name| !hides(&name)));
        let shown: Vec<&str> = shown.map(|tool| tool.get()).collect();
        let result = result.edit().set("tools", format!("[{}]", shown.join(","))).apply();
        Some(message::response(id, &result))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
