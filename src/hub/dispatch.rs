//! What each message of a client does: the hub [settles](super::settle) it, or forwards it.

mod place;
pub mod record;
mod time;
mod way;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

pub use way::put_on;

use super::{
    crossing::{self, Crossing, Next},
    isolation::Seat,
    routes::Route,
    session::{Busy, Session, Transport, Waiting},
    settle::{notify, settle},
    tools::policy,
    upstream::Unavailable,
};
use crate::{
    access::Permit,
    bridge::Bridged,
    link::connection::{CallError, EVENTS_MAX, Event, Reply, queue},
    observe::{meter::Outcome, record::Record},
    wire::{Id, Kind, Message, message},
};

/// Progress renews a call's deadline, up to this many times `request_timeout` in all.
const RENEWALS_MAX: u32 = 10;

/// The requests of one POST, under way.
pub struct Calls {
    events: queue::Receiver,
    /// Its other end, which the calls under way keep open.
    to: queue::WeakSender,
    /// No call of these is under way at the upstream.
    drained: bool,
    /// Cancel what is unfinished when they are dropped. They go before the seat, so that it knows.
    replies: Vec<Reply>,
    seat: Option<Seat>,
    /// Until all are sent: what of them was cancelled.
    waiting: Option<Waiting>,
    session: Arc<Session>,
    route: Arc<Route>,
    /// Where the upstream is of the newer era and the client is not.
    crossing: Option<Box<Crossing>>,
    /// Somebody asks for the tools.
    lists: bool,
    /// Requests without a final event.
    open: Vec<Message>,
    /// What is recorded of those.
    records: Vec<(Id, Record)>,
    asked: Vec<u64>,
    limit: Duration,
    deadline: Instant,
    last_deadline: Instant,
    _busy: Busy,
    /// Their places among the calls of their principal.
    _permits: Vec<Permit>,
}

/// What became of a request that was to be forwarded.
enum Forwarded {
    Sent,
    Cancelled,
    /// The upstream is not asked.
    Refused(Bytes),
}

/// Sends the messages of one body on their way. Answers with the calls whose responses are to come, if any.
///
/// Fails where a lone request finds no upstream; in a batch that is the answer of one request among others.
pub async fn dispatch(
    route: &Arc<Route>,
    session: &Arc<Session>,
    messages: Vec<Message>,
    permits: Vec<Permit>,
) -> Result<Option<Calls>, Unavailable> {
    session.touch();
    let alone = messages.len() == 1;
    let requests: Vec<Message> = messages.iter().filter(|message| request_id(message).is_some()).cloned().collect();
    if requests.is_empty() {
        for message in &messages {
            Box::pin(notify(route, session, message)).await;
        }
        return Ok(None);
    }
    let (to, events) = queue::channel(EVENTS_MAX + requests.len());
    let (now, limit) = (Instant::now(), route.config.request_timeout);
    let mut calls = Calls {
        events,
        to: to.downgrade(),
        drained: false,
        replies: Vec::with_capacity(requests.len()),
        seat: None,
        waiting: None,
        session: session.clone(),
        route: route.clone(),
        crossing: None,
        records: requests.iter().filter_map(|request| begun(route, session, request)).collect(),
        lists: requests.iter().any(|request| request.method() == "tools/list"),
        open: requests,
        asked: Vec::new(),
        limit,
        deadline: now + limit,
        last_deadline: now + limit * RENEWALS_MAX,
        _busy: session.busy(),
        _permits: permits,
    };
    for message in &messages {
        let Some(id) = request_id(message) else {
            Box::pin(notify(route, session, message)).await;
            continue;
        };
        let answer = match settle(route, session, message).await {
            Some(answer) => answer,
            None => match calls.forward(message, id, &to).await {
                Ok(Ok(Forwarded::Sent)) => {
                    calls.record_sent(id);
                    continue;
                }
                Ok(Ok(Forwarded::Cancelled)) => {
                    calls.finish(Some(id));
                    continue;
                }
                Ok(Ok(Forwarded::Refused(answer))) => Event::Response(answer),
                Ok(Err(error)) => Event::Failed { id: id.clone(), error },
                Err(unavailable) if alone => {
                    calls.because(id, "unavailable", &unavailable);
                    return Err(unavailable);
                }
                Err(unavailable) => Event::Response(unavailable.trouble().response(Some(id))),
            },
        };
        let _ = to.try_send(answer);
    }
    calls.waiting = None;
    Ok(Some(calls))
}

fn begun(route: &Route, session: &Session, request: &Message) -> Option<(Id, Record)> {
    Some((request_id(request)?.clone(), record::begin(route, session, request)))
}

fn request_id(message: &Message) -> Option<&Id> {
    (message.kind() == Kind::Request).then(|| message.id())?
}

impl Calls {
    async fn forward(
        &mut self,
        message: &Message,
        id: &Id,
        to: &queue::Sender,
    ) -> Result<Result<Forwarded, CallError>, Unavailable> {
        let Some(mut bridged) = self.sit(id).await? else { return Ok(Ok(Forwarded::Cancelled)) };
        if self.was_cancelled(id) {
            return Ok(Ok(Forwarded::Cancelled));
        }
        self.route.serving.meter.forwarded();
        let mut sent = self.send(message, &bridged, to).await;
        let lost = matches!(sent, Err(CallError::Lost { .. }));
        if lost && self.replies.is_empty() && !self.session.ended.is_cancelled() {
            // The process ended this instant, and nothing of the call has left us.
            self.stand();
            bridged = match self.sit(id).await? {
                Some(bridged) => bridged,
                None => return Ok(Ok(Forwarded::Cancelled)),
            };
            sent = self.send(message, &bridged, to).await;
        }
        Ok(sent.map(|reply| match reply {
            Err(answer) => Forwarded::Refused(answer),
            // Dropped, the reply tells the process, in case it was cancelled in between.
            Ok(_) if self.was_cancelled(id) => Forwarded::Cancelled,
            Ok(reply) => {
                self.replies.push(reply);
                Forwarded::Sent
            }
        }))
    }

    /// Sends a request to the upstream, or answers in its place.
    async fn send(
        &mut self,
        message: &Message,
        bridged: &Arc<Bridged>,
        to: &queue::Sender,
    ) -> Result<Result<Reply, Bytes>, CallError> {
        if self.route.config.pin_tools
            && let Err(answer) = Box::pin(policy::vet(&self.route, bridged, message)).await
        {
            return Ok(Err(answer));
        }
        let (other, caller) = crossing::request(&self.session, message, bridged)?;
        let other = self.traced(other.as_ref().unwrap_or(message), bridged).or(other);
        let sent = bridged.connection.call(other.as_ref().unwrap_or(message), caller, to).await;
        self.numbered(message.id(), &sent);
        sent.map(Ok)
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

    /// Has any of them no final event yet?
    pub fn is_under_way(&self) -> bool {
        !self.open.is_empty()
    }

    /// The next event; none after the last final one, or when the calls were cancelled.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let crossing = self.crossing.as_mut().filter(|crossing| crossing.is_busy());
            if self.open.is_empty() || (self.drained && crossing.is_none()) {
                return None;
            }
            let open = &self.open;
            let method_of = |id: &Id| request_of(open, Some(id)).map_or_else(String::new, |r| r.method().to_owned());
            let event = tokio::select! {
                biased;
                Some(next) = async { Some(crossing?.next(method_of).await) } => match next {
                    Next::Event(event) => return Some(self.seen(event)),
                    Next::Sent(reply, seat) => {
                        if let Some(seat) = seat {
                            self.stand();
                            self.session.uses(seat.bridged());
                            self.seat = Some(seat);
                        }
                        self.replies.push(reply);
                        continue;
                    }
                    Next::Cancelled(id) => {
                        self.finish(Some(&id));
                        continue;
                    }
                    Next::Retry(id, answers, state, to) => {
                        self.renew();
                        let context = self.sent_again(&id);
                        let request = request_of(&self.open, Some(&id));
                        if let (Some(request), Some(seat), Some(crossing)) = (request, &self.seat, &mut self.crossing) {
                            crossing.retry(request, &answers, state.as_deref(), seat.bridged(), context, to);
                        }
                        continue;
                    }
                },
                event = self.events.recv(), if !self.drained => match event {
                    Some(event) => event,
                    None => {
                        self.drained = true;
                        continue;
                    }
                },
                () = self.session.ended.cancelled() => return self.session_ended(),
                () = tokio::time::sleep_until(self.deadline.into()) => return self.time_out(),
            };
            let Some(event) = self.across(event) else { continue };
            return Some(self.seen(event));
        }
    }

    /// The event as its client is to see it; none where something else comes first.
    fn across(&mut self, event: Event) -> Option<Event> {
        let Event::Response(mut bytes) = event else { return Some(event) };
        self.answered(&bytes);
        if self.lists
            && let Some(request) = request_of(&self.open, response_id(&self.open, &bytes).as_ref())
            && request.method() == "tools/list"
        {
            bytes = policy::listed(&self.route, self.session.key, request, bytes);
        }
        let same = |bytes| Some(Event::Response(bytes));
        let Some(seat) = &self.seat else { return same(bytes) };
        let Some(request) = request_of(&self.open, response_id(&self.open, &bytes).as_ref()) else {
            return same(bytes);
        };
        let bridged = seat.bridged();
        if !bridged.profile.is_modern() && self.session.transport != Transport::Stateless {
            return same(crossing::aged(request, bytes, self.session.revision()));
        }
        let Some(crossing) = &mut self.crossing else { return same(bytes) };
        let request = request.clone();
        let (to, events, drained) = (&mut self.to, &mut self.events, &mut self.drained);
        crossing.response(&request, bytes, bridged, || {
            to.upgrade().unwrap_or_else(|| {
                // All of this POST is answered but this one. What was said stays to be read.
                let mut said = Vec::new();
                while let Some(event) = events.try_recv() {
                    said.push(event);
                }
                let (new, from) = queue::channel(EVENTS_MAX + said.len());
                said.into_iter().for_each(|event| drop(new.try_send(event)));
                (*to, *events, *drained) = (new.downgrade(), from, false);
                new
            })
        })
    }

    /// Keeps in mind what an event says of the calls.
    fn seen(&mut self, event: Event) -> Event {
        match &event {
            Event::Response(bytes) => {
                let id = response_id(&self.open, bytes);
                self.record(id.as_ref(), || (record::outcome(bytes), bytes.len()));
                self.finish(id.as_ref());
            }
            Event::Failed { id, error } => {
                self.route.serving.meter.lost();
                self.because(id, error.kind(), error);
                self.record(Some(id), || (Outcome::Failed, 0));
                self.finish(Some(id));
            }
            Event::Progress(_) => {
                let renewed = (Instant::now() + self.limit).min(self.last_deadline);
                // A client that is asked meanwhile has its own time.
                self.deadline = self.deadline.max(renewed);
            }
            Event::Ask(ask) => {
                self.asked.push(ask.number);
                self.extend();
            }
            Event::Withdrawn { ask } => {
                if let Some(bridged) = self.bridged() {
                    bridged.connection.retract(*ask);
                }
            }
            Event::Log(_) | Event::Notice(_) => {}
        }
        event
    }

    /// Lets go of the upstream: all is answered.
    pub fn release(&mut self) {
        self.replies.clear();
        self.stand();
    }

    fn finish(&mut self, id: Option<&Id>) {
        self.records.retain(|(own, _)| Some(own) != id);
        if let Some(at) = self.open.iter().position(|open| open.id() == id) {
            self.open.swap_remove(at);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(bridged) = self.seat.as_ref().map(|seat| seat.bridged().clone()) {
            self.session.used(&bridged);
            // Before the seat, which wants to know whether the process is still busy.
            self.replies.clear();
            let unanswered = self.crossing.iter().flat_map(|crossing| crossing.unanswered());
            unanswered.for_each(|ask| bridged.connection.retract(ask));
            self.asked.retain(|ask| !bridged.connection.is_asking(*ask));
            self.session.forget_asks(&self.asked, &bridged);
        }
    }
}

/// Whose response this is. Only where several are open one has to look.
fn response_id(open: &[Message], bytes: &Bytes) -> Option<Id> {
    match open {
        [only] => only.id().cloned(),
        _ => message::one(bytes.clone())?.id().cloned(),
    }
}

fn request_of<'a>(open: &'a [Message], id: Option<&Id>) -> Option<&'a Message> {
    open.iter().find(|request| request.id() == id)
}
