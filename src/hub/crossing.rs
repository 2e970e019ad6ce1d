//! Calls between two revisions: how a request goes out, and what its client sees of what comes back.
//!
//! Between two older ones only words may [differ](aged); where both speak the same, everything passes as it came.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::{
    audience::Level,
    dispatch::put_on,
    isolation::{self, Seat},
    marks,
    rounds::{Rounds, Step, stopped},
    routes::Route,
    session::{Session, Transport},
    tools::policy,
};
use crate::{
    bridge::{Bridged, content, input, input::Outcome, older, shape},
    link::connection::{CallError, Caller, Event, Reply, queue},
    wire::{
        Id, Message, Revision,
        envelope::{self, LOG_LEVEL},
        message::{self, INTERNAL_ERROR},
        object::Object,
        trace::Context,
        trouble::{Reason, Retry, Trouble},
    },
};

/// Takes the calls of one POST across, to a newer server.
pub struct Crossing {
    session: Arc<Session>,
    route: Arc<Route>,
    rounds: Rounds,
    doing: FuturesUnordered<BoxFuture<'static, Next>>,
    ready: VecDeque<Next>,
}

/// What happens next.
pub enum Next {
    /// A call was sent again; to another process, where the last one has gone.
    Sent(Reply, Option<Seat>),
    Event(Event),
    /// A call is to be sent again.
    Retry(Id, Vec<(String, String)>, Option<String>, queue::Sender),
    /// The client wants this call no more.
    Cancelled(Id),
}

impl Crossing {
    pub fn new(session: &Arc<Session>, route: &Arc<Route>) -> Crossing {
        Crossing {
            session: session.clone(),
            route: route.clone(),
            rounds: Rounds::default(),
            doing: FuturesUnordered::new(),
            ready: VecDeque::new(),
        }
    }

    /// A response in the client's words. None: the call goes on, because the client is asked something first.
    /// `sender` makes the queue for what is still to come of it.
    pub fn response(
        &mut self,
        request: &Message,
        bytes: Bytes,
        bridged: &Arc<Bridged>,
        sender: impl FnOnce() -> queue::Sender,
    ) -> Option<Event> {
        let revision = self.session.revision();
        let Some(id) = request.id() else { return Some(Event::Response(bytes)) };
        let method = request.method();
        let Some(response) = message::one(bytes.clone()) else { return Some(Event::Response(bytes)) };
        let Some(result) = response.result() else {
            let error = older::error(response.error().unwrap_or("{}"));
            return Some(Event::Response(message::failure(id, &error)));
        };
        match input::outcome(method, result) {
            Outcome::Complete => {}
            Outcome::Required(required) => {
                let waiting = self.session.waits(std::slice::from_ref(id));
                return match self.rounds.open(id, required, bridged, sender(), waiting) {
                    Ok(asks) => {
                        self.ready.extend(asks.into_iter().map(|ask| Next::Event(Event::Ask(ask))));
                        None
                    }
                    Err(why) => Some(Event::Response(stopped(id, method, &self.blame(&why), None))),
                };
            }
            Outcome::Invalid(why) => {
                return Some(Event::Response(self.trouble(&why).response(Some(id))));
            }
        }
        let structured = method == "tools/call"
            && Object::read(result)
                .and_then(|result| result.get("structuredContent"))
                .is_some_and(|value| value.get().starts_with('{'));
        if !structured {
            return Some(Event::Response(finished(id, method, result, false, revision)));
        }
        // Whether the client knows this tool's results inside an object is a matter of its schema.
        let (route, session, request, result) =
            (self.route.clone(), self.session.clone(), request.clone(), result.to_owned());
        self.doing.push(Box::pin(async move {
            let name = envelope::name_of(&request).unwrap_or_default();
            let wrapped = marks::of(&route, &session).await.is_ok_and(|marks| marks.wrapped.contains(&*name));
            let id = request.id().cloned().unwrap_or_else(|| Id::from(0));
            Next::Event(Event::Response(finished(&id, request.method(), &result, wrapped, revision)))
        }));
        None
    }

    /// What the server did that no client can do anything about.
    fn trouble(&self, why: &str) -> Trouble {
        Trouble::new(INTERNAL_ERROR, Reason::Failed, Retry::No, self.blame(why)).of(self.route.name.as_str())
    }

    fn blame(&self, why: &str) -> String {
        format!("upstream `{}`: {why}", self.route.name)
    }

    /// Sends a call again.
    pub fn retry(
        &mut self,
        request: &Message,
        answers: &[(String, String)],
        state: Option<&str>,
        bridged: &Arc<Bridged>,
        context: Option<Context>,
        to: queue::Sender,
    ) {
        let Some(id) = request.id().cloned() else { return };
        let again = self::request(&self.session, request, bridged).and_then(|(other, caller)| {
            let again = input::retry(other.as_ref().unwrap_or(request), answers, state);
            let again = again.map(|again| match &context {
                Some(context) => put_on(context, &again, &self.route),
                None => again,
            });
            again.map(|again| (again, caller)).ok_or(CallError::Malformed)
        });
        let (mut bridged, route, session) = (bridged.clone(), self.route.clone(), self.session.clone());
        self.doing.push(Box::pin(async move {
            let sent = async {
                let (again, caller) = again?;
                let mut seat = None;
                if bridged.connection.is_over() {
                    // The retry says all there is to say: another process can go on with it.
                    let why = bridged.connection.why();
                    let asked = !bridged.connection.died();
                    let lost = |_| CallError::Lost { name: route.name.as_str().into(), why, asked };
                    let new = isolation::seat(&route, &session).await.map_err(lost)?;
                    bridged = new.bridged().clone();
                    seat = Some(new);
                }
                if route.config.pin_tools
                    && let Err(answer) = policy::vet(&route, &bridged, &again).await
                {
                    return Ok(Err(answer));
                }
                Ok(Ok((bridged.connection.call(&again, caller, &to).await?, seat)))
            };
            let sent: Result<_, CallError> = sent.await;
            match sent {
                Ok(Ok((reply, seat))) => Next::Sent(reply, seat),
                Ok(Err(answer)) => Next::Event(Event::Response(answer)),
                Err(error) => Next::Event(Event::Failed { id, error }),
            }
        }));
    }

    /// Is there anything that [`next`](Crossing::next) could yield?
    pub fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.doing.is_empty() || self.rounds.is_waiting()
    }

    /// The next thing to happen. Nothing is lost where this is dropped and called again.
    pub async fn next(&mut self, method_of: impl Fn(&Id) -> String) -> Next {
        if let Some(event) = self.ready.pop_front() {
            return event;
        }
        tokio::select! {
            biased;
            Some(done) = self.doing.next() => done,
            step = self.rounds.next(), if self.rounds.is_waiting() => match step {
                Step::Retry { id, answers, state, to } => Next::Retry(id, answers, state, to),
                Step::Stop { id, why, error, unanswered } => {
                    let bytes = stopped(&id, &method_of(&id), &why, error.as_deref());
                    self.after_taking_back(unanswered, Next::Event(Event::Response(bytes)))
                }
                Step::Cancelled { id, unanswered } => self.after_taking_back(unanswered, Next::Cancelled(id)),
            },
            else => std::future::pending().await,
        }
    }

    /// The client learns first that some questions need no answer any more.
    fn after_taking_back(&mut self, questions: Vec<u64>, then: Next) -> Next {
        let mut all = questions.into_iter().map(|ask| Next::Event(Event::Withdrawn { ask })).chain([then]);
        let first = all.next();
        self.ready.extend(all);
        first.unwrap_or(Next::Cancelled(Id::BLANK))
    }

    /// Questions that nobody needs an answer to any more.
    pub fn unanswered(&self) -> impl Iterator<Item = u64> {
        self.rounds.unanswered()
    }
}

/// A request in the upstream's words, where they are others than the client's; and on whose behalf it goes.
pub fn request(
    session: &Session,
    request: &Message,
    bridged: &Bridged,
) -> Result<(Option<Message>, Caller), CallError> {
    let mut caller = session.caller();
    // A newer server has no requests to write.
    caller.askable &= !bridged.profile.is_modern();
    let other = match (session.transport == Transport::Stateless, bridged.profile.is_modern()) {
        (false, false) => return Ok((None, caller)),
        (true, false) => shape::to_legacy(request),
        (true, true) => {
            caller.logs = matches!(request.meta([LOG_LEVEL]), Ok([Some(_)]));
            return Ok((None, caller));
        }
        (false, true) => {
            let level = session.level().unwrap_or(Level::UNASKED);
            let level = bridged.profile.can(&["logging"]).then(|| level.as_str());
            let introduction = session.greeting().map(|greeting| &greeting.introduction);
            caller.logs = level.is_some();
            introduction.and_then(|introduction| older::request(request, introduction, level))
        }
    };
    match other {
        Some(other) => Ok((Some(other), caller)),
        None => Err(CallError::Malformed),
    }
}

/// Does what comes back from this upstream need other words for this client?
pub fn is_needed(session: &Session, bridged: &Bridged) -> bool {
    // Its own server side knows what a newer client sees.
    session.transport != Transport::Stateless && bridged.profile.is_modern()
}

/// An older server's response in the words of a client that is older still.
pub fn aged(request: &Message, response: Bytes, revision: Revision) -> Bytes {
    let method = request.method();
    if !content::may_differ(method, &response, revision) {
        return response;
    }
    let (Some(id), Some(read)) = (request.id(), message::one(response.clone())) else { return response };
    let other = match (read.result(), read.error()) {
        (Some(result), _) => content::result(method, result, revision).map(|result| message::response(id, &result)),
        (None, error) => content::error(error.unwrap_or("{}"), revision).map(|error| message::failure(id, &error)),
    };
    other.unwrap_or(response)
}

/// A newer server's result for a client of this revision.
fn finished(id: &Id, method: &str, result: &str, wrapped: bool, revision: Revision) -> Bytes {
    let plain = older::result(method, result, wrapped);
    let plain = plain.as_deref().unwrap_or(result);
    message::response(id, content::result(method, plain, revision).as_deref().unwrap_or(plain))
}
