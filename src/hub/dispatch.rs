//! What each message of a client does.
//!
//! Some things the hub settles itself, because they are between it and the client, or because several clients
//! share one upstream and their wishes have to be brought together. Everything else is forwarded as it came.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::poll_immediate;
use tokio::sync::mpsc;

use super::{
    audience::{Wish, level_of, uri_of},
    isolation::{Seat, seat},
    routes::Route,
    session::{Busy, Session, Waiting},
    upstream::Unavailable,
};
use crate::{
    bridge::Bridged,
    config::Isolation,
    link::connection::{CallError, EVENTS_MAX, Event, Reply},
    wire::{
        Id, Kind, Message,
        message::{self, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND},
    },
};

/// Progress renews a call's deadline, up to this many times `request_timeout` in all.
const RENEWALS_MAX: u32 = 10;
/// Longest wait for an upstream to settle a wish of a client.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// The requests of one POST, under way.
pub struct Calls {
    events: mpsc::Receiver<Event>,
    /// Cancel what is unfinished when they are dropped. They go before the seat, so that it knows.
    replies: Vec<Reply>,
    seat: Option<Seat>,
    /// Until all are sent: what of them was cancelled.
    waiting: Option<Waiting>,
    session: Arc<Session>,
    route: Arc<Route>,
    /// Requests without a final event.
    open: Vec<Id>,
    asked: Vec<u64>,
    limit: Duration,
    deadline: Instant,
    last_deadline: Instant,
    _busy: Busy,
}

/// What became of a request that was to be forwarded.
enum Forwarded {
    Sent,
    Cancelled,
}

/// Sends the messages of one body on their way. Answers with the calls whose responses are to come, if any.
///
/// Fails where a lone request finds no upstream; in a batch that is the answer of one request among others.
pub async fn dispatch(
    route: &Arc<Route>,
    session: &Arc<Session>,
    messages: Vec<Message>,
) -> Result<Option<Calls>, Unavailable> {
    session.touch();
    let alone = messages.len() == 1;
    let requests: Vec<Id> = messages.iter().filter_map(|message| request_id(message).cloned()).collect();
    if requests.is_empty() {
        for message in &messages {
            notify(route, session, message).await;
        }
        return Ok(None);
    }
    let (to, events) = mpsc::channel(EVENTS_MAX + requests.len());
    let (now, limit) = (Instant::now(), route.config.request_timeout);
    let mut calls = Calls {
        events,
        replies: Vec::with_capacity(requests.len()),
        seat: None,
        waiting: None,
        session: session.clone(),
        route: route.clone(),
        open: requests,
        asked: Vec::new(),
        limit,
        deadline: now + limit,
        last_deadline: now + limit * RENEWALS_MAX,
        _busy: session.busy(),
    };
    for message in &messages {
        let Some(id) = request_id(message) else {
            notify(route, session, message).await;
            continue;
        };
        let answer = match settle(route, session, message).await {
            Some(answer) => answer,
            None => match calls.forward(message, id, &to).await {
                Ok(Ok(Forwarded::Sent)) => continue,
                Ok(Ok(Forwarded::Cancelled)) => {
                    calls.finish(Some(id));
                    continue;
                }
                Ok(Err(error)) => Event::Failed { id: id.clone(), error },
                Err(unavailable) if alone => return Err(unavailable),
                Err(unavailable) => Event::Response(unavailable_response(id, &unavailable)),
            },
        };
        let _ = to.try_send(answer);
    }
    calls.waiting = None;
    Ok(Some(calls))
}

fn request_id(message: &Message) -> Option<&Id> {
    (message.kind() == Kind::Request).then(|| message.id())?
}

fn unavailable_response(id: &Id, unavailable: &Unavailable) -> Bytes {
    message::error_response(Some(id), message::INTERNAL_ERROR, &unavailable.to_string(), None)
}

/// A request that the hub answers itself.
async fn settle(route: &Arc<Route>, session: &Arc<Session>, message: &Message) -> Option<Event> {
    let id = message.id()?;
    let done = || Event::Response(message::response(id, "{}"));
    let error = |code, why: &str| Event::Response(message::error_response(Some(id), code, why, None));
    let keeps_own = session.own.load().is_some() || route.config.isolation == Isolation::Session;
    match message.method() {
        "ping" => Some(done()),
        // A process that was started now would be greeted without the client's own words (2024-11-05).
        _ if session.greeting().is_none() => {
            Some(error(INVALID_REQUEST, "the session is not initialized; `initialize` comes first"))
        }
        "initialize" => Some(error(INVALID_REQUEST, "the session is initialized already")),
        method if method.starts_with("tasks/") => Some(error(METHOD_NOT_FOUND, "tasks are not offered here")),
        "logging/setLevel" => {
            let Some(level) = level_of(message) else {
                return Some(error(INVALID_PARAMS, "`level` must be one of the eight levels of RFC 5424"));
            };
            if route.config.isolation == Isolation::Call && !keeps_own {
                return Some(error(METHOD_NOT_FOUND, "each call may meet another process: there is no level to keep"));
            }
            if keeps_own {
                session.set_level(level);
                return None;
            }
            let before = route.audience.level();
            let shared = match able(route, session, &["logging"]).await {
                Ok(Some(shared)) => shared,
                Ok(None) => return Some(error(METHOD_NOT_FOUND, "this upstream offers no logging")),
                Err(unavailable) => return Some(Event::Response(unavailable_response(id, &unavailable))),
            };
            session.set_level(level);
            match route.audience.level() {
                Some(now) if before != Some(now) => {
                    let params = format!(r#"{{"level":"{}"}}"#, now.as_str());
                    Some(relay(&shared, id, "logging/setLevel", &params).await)
                }
                _ => Some(done()),
            }
        }
        method @ ("resources/subscribe" | "resources/unsubscribe") => {
            let on = method == "resources/subscribe";
            let Some(uri) = uri_of(message) else { return Some(error(INVALID_PARAMS, "`uri` must be a string")) };
            if route.config.isolation == Isolation::Call && !keeps_own {
                return Some(error(
                    METHOD_NOT_FOUND,
                    "each call may meet another process: none could be subscribed to",
                ));
            }
            if keeps_own {
                session.subscribe(&uri, on);
                return None;
            }
            let shared = match able(route, session, &["resources", "subscribe"]).await {
                Ok(Some(shared)) => shared,
                Ok(None) => return Some(error(METHOD_NOT_FOUND, "this upstream offers no subscriptions")),
                Err(unavailable) => return Some(Event::Response(unavailable_response(id, &unavailable))),
            };
            if route.audience.subscribe(session, &uri, on) == Wish::Settled {
                return Some(done());
            }
            let params = serde_json::json!({ "uri": uri }).to_string();
            let answer = relay(&shared, id, method, &params).await;
            let refused = |bytes: &Bytes| memchr::memmem::find(bytes, b"\"error\"").is_some();
            if on && matches!(&answer, Event::Response(bytes) if refused(bytes)) {
                route.audience.subscribe(session, &uri, false);
            }
            Some(answer)
        }
        _ => None,
    }
}

/// The process that everybody shares, if there is one and it can do this. A pool has none, and starts none.
async fn able(
    route: &Route,
    session: &Arc<Session>,
    capability: &[&str],
) -> Result<Option<Arc<Bridged>>, Unavailable> {
    if route.config.isolation != Isolation::Shared {
        return Ok(None);
    }
    let shared = seat(route, session).await?.bridged().clone();
    Ok(Some(shared).filter(|shared| shared.profile.can(capability)))
}

/// A request of the hub's own, whose answer is the client's too.
async fn relay(shared: &Bridged, id: &Id, method: &str, params: &str) -> Event {
    match shared.connection.request(method, Some(params), SETTLE_MAX).await {
        Ok(answer) => Event::Response(answer.with_id(id, None)),
        Err(error) => Event::Failed { id: id.clone(), error },
    }
}

/// A notification or a response of the client.
async fn notify(route: &Arc<Route>, session: &Arc<Session>, message: &Message) {
    if message.kind() == Kind::Response {
        if let Some((bridged, number)) = message.id().and_then(|id| session.answered(id)) {
            bridged.connection.answer(number, message).await;
        }
        return;
    }
    let member = |name| {
        let [value] = message.param([name]).ok()?;
        Id::read(value?.get())
    };
    match message.method() {
        // Ours was sent with the handshake.
        "notifications/initialized" => {}
        "notifications/cancelled" => {
            let Some(id) = member("requestId") else { return };
            let reason = "the client cancelled the request";
            // In this order, or a request on its way from the one to the other would miss it.
            session.cancel_waiting(&id);
            for bridged in session.in_use() {
                bridged.connection.cancel(session.key, &id, reason);
            }
        }
        "notifications/progress" => {
            let asked = member("progressToken").and_then(|token| session.ask_with_token(token.as_u64()?));
            if let Some((bridged, number)) = asked {
                bridged.connection.ask_progress(number, message);
            }
        }
        method => match session.own.load_full() {
            Some(own) => drop(own.connection.notify(message.bytes().clone()).await),
            // What one client says of itself means nothing to a process that others use too.
            None => tracing::debug!(upstream = %route.name, method, "a notification was not passed on"),
        },
    }
}

impl Calls {
    async fn forward(
        &mut self,
        message: &Message,
        id: &Id,
        to: &mpsc::Sender<Event>,
    ) -> Result<Result<Forwarded, CallError>, Unavailable> {
        let Some(mut bridged) = self.sit(id).await? else { return Ok(Ok(Forwarded::Cancelled)) };
        if self.was_cancelled(id) {
            return Ok(Ok(Forwarded::Cancelled));
        }
        self.route.serving.count_call();
        let mut sent = bridged.connection.call(message, self.session.caller(), to).await;
        let lost = matches!(sent, Err(CallError::Lost { .. }));
        if lost && self.replies.is_empty() && !self.session.ended.is_cancelled() {
            // The process ended this instant, and nothing of the call has left us.
            self.stand();
            bridged = match self.sit(id).await? {
                Some(bridged) => bridged,
                None => return Ok(Ok(Forwarded::Cancelled)),
            };
            sent = bridged.connection.call(message, self.session.caller(), to).await;
        }
        Ok(sent.map(|reply| {
            // Dropped, the reply tells the process, in case it was cancelled in between.
            if self.was_cancelled(id) {
                return Forwarded::Cancelled;
            }
            self.replies.push(reply);
            Forwarded::Sent
        }))
    }

    /// The connection of these calls; none where the client cancels the request before there is one.
    async fn sit(&mut self, id: &Id) -> Result<Option<Arc<Bridged>>, Unavailable> {
        if let Some(seat) = &self.seat {
            return Ok(Some(seat.bridged().clone()));
        }
        let Some(seat) = self.wait_for_seat(id).await? else { return Ok(None) };
        let bridged = seat.bridged().clone();
        self.session.uses(&bridged);
        // The wait for a process is not the call's.
        let now = Instant::now();
        self.deadline = now + self.limit;
        self.last_deadline = now + self.limit * RENEWALS_MAX;
        self.seat = Some(seat);
        Ok(Some(bridged))
    }

    fn stand(&mut self) {
        if let Some(seat) = self.seat.take() {
            self.session.used(seat.bridged());
        }
    }

    /// A connection; none where the client cancels the request before there is one.
    async fn wait_for_seat(&mut self, id: &Id) -> Result<Option<Seat>, Unavailable> {
        let (route, session) = (self.route.clone(), self.session.clone());
        let mut seat = std::pin::pin!(seat(&route, &session));
        // Mostly it is there at once.
        if let Some(seat) = poll_immediate(&mut seat).await {
            return seat.map(Some);
        }
        let waiting = self.waiting.get_or_insert_with(|| session.waits(&self.open));
        tokio::select! {
            seat = seat => seat.map(Some),
            () = waiting.cancelled(id) => Ok(None),
        }
    }

    fn was_cancelled(&self, id: &Id) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.is_cancelled(id))
    }

    /// The connection the calls run on, if any is needed.
    pub fn bridged(&self) -> Option<&Arc<Bridged>> {
        self.seat.as_ref().map(Seat::bridged)
    }

    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// The next event; none after the last final one, or when the calls were cancelled.
    pub async fn next(&mut self) -> Option<Event> {
        if self.open.is_empty() {
            return None;
        }
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event?,
            () = self.session.ended.cancelled() => return self.session_ended(),
            () = tokio::time::sleep_until(self.deadline.into()) => return self.time_out(),
        };
        match &event {
            Event::Response(bytes) => {
                let id = match self.open.as_slice() {
                    [only] => Some(only.clone()),
                    // Only a batch has to look whose answer it is.
                    _ => match message::read_upstream(bytes.clone()) {
                        Ok(message::Body::One(message)) => message.id().cloned(),
                        _ => None,
                    },
                };
                self.finish(id.as_ref());
            }
            Event::Failed { id, .. } => {
                let id = id.clone();
                self.route.serving.count_error();
                self.finish(Some(&id));
            }
            Event::Progress(_) => self.deadline = (Instant::now() + self.limit).min(self.last_deadline),
            Event::Ask(ask) => self.asked.push(ask.number),
            Event::Log(_) | Event::Withdrawn { .. } => {}
        }
        Some(event)
    }

    /// Gives the call more time: its client was asked something.
    pub fn extend(&mut self, by: Duration) {
        let until = Instant::now() + by + self.limit;
        self.deadline = self.deadline.max(until);
        self.last_deadline = self.last_deadline.max(until);
    }

    /// Starts the call's time again: its client has answered.
    pub fn renew(&mut self) {
        self.deadline = Instant::now() + self.limit;
        self.last_deadline = self.last_deadline.max(self.deadline);
    }

    fn finish(&mut self, id: Option<&Id>) {
        if let Some(at) = self.open.iter().position(|open| Some(open) == id) {
            self.open.swap_remove(at);
        }
    }

    /// Whoever still reads hears why there is no answer.
    fn session_ended(&mut self) -> Option<Event> {
        let id = self.open.pop()?;
        self.route.serving.count_error();
        let name: Arc<str> = self.route.name.as_str().into();
        Some(Event::Failed { id, error: CallError::Ended { name, why: self.session.why() } })
    }

    fn time_out(&mut self) -> Option<Event> {
        let id = self.open.pop()?;
        self.route.serving.count_error();
        let name: Arc<str> = self.route.name.as_str().into();
        if self.open.is_empty() {
            self.replies.drain(..).for_each(|reply| reply.cancel("the call took longer than request_timeout"));
        }
        if let Some(bridged) = self.bridged() {
            bridged.connection.suspect();
        }
        let limit = if self.deadline < self.last_deadline { self.limit } else { self.limit * RENEWALS_MAX };
        Some(Event::Failed { id, error: CallError::Timeout { name, limit } })
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(bridged) = self.seat.as_ref().map(|seat| seat.bridged().clone()) {
            self.session.used(&bridged);
            // Before the seat, which wants to know whether the process is still busy.
            self.replies.clear();
            self.asked.retain(|ask| !bridged.connection.is_asking(*ask));
            self.session.forget_asks(&self.asked, &bridged);
        }
    }
}
