//! One request of the newer era on its way through an upstream.
//!
//! An older server's questions end the request with `input_required`; the call stays parked until the retry. A newer
//! server's own `input_required` passes, with its state sealed: it can bind a state to us only, and whose it is we have
//! to know. Dropping an exchange is the cancellation.

mod ending;

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    address, door,
    guard::Accepts,
    modern::{answer_json, family, profile},
    rescue,
    rescue::Refusal,
};
use crate::{
    access::{Held, Permit},
    bridge::{Profile, ask::judge, content, input, older, seal::Binding, shape},
    hub::{
        House,
        audience::{Level, level_of},
        dispatch::{self, Calls},
        parking::{Outcome, Retry},
        routes::Route,
        session::Session,
        tasks,
        tools::policy,
    },
    link::connection::Event,
    observe::trace::{self, Arrival, Way},
    wire::{
        Id, Message,
        envelope::{self, Envelope, MISSING_CAPABILITY, SERVER_INFO},
        members,
        message::{self, INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND},
        object::Object,
    },
};

/// How long an answer may still become plain JSON (python-sdk waits as long).
const WINDOW: Duration = Duration::from_secs(15);

/// One request on its way.
pub struct Exchange {
    house: Arc<House>,
    route: Arc<Route>,
    session: Arc<Session>,
    message: Message,
    id: Id,
    /// The least severe log message that was asked for; none: no log messages at all.
    level: Option<Level>,
    token: Option<Id>,
    source: Source,
    profile: Arc<Profile>,
    /// A capability that the server wanted and the client did not declare.
    missing: Option<Value>,
    _permit: Option<Permit>,
    /// Of a retry; that of the first request goes with its calls.
    way: Way,
}

enum Source {
    Calls(Box<Calls>),
    Parked(mpsc::Receiver<Outcome>),
    Done,
}

enum Out {
    Note(Bytes),
    Final(Bytes, StatusCode),
}

impl Exchange {
    /// `request`: where arguments are repeated in headers, these have to agree.
    pub async fn start(
        request: Option<&HttpRequest>,
        house: &Arc<House>,
        route: &Arc<Route>,
        session: Arc<Session>,
        message: Message,
        envelope: &Envelope,
        level: Option<Level>,
    ) -> Result<Exchange, Refusal> {
        let permit = door::hold(house, &session.owner, Held::Calls)?;
        // One that finds no upstream is a call too, and counts.
        let profile = profile(route, &session)
            .await
            .inspect_err(|_| dispatch::record::begin(route, &session, &message).fails())?;
        if let Some(family) = family(message.method()).filter(|family| !profile.can(&[family])) {
            return Err(Refusal::NoMethod(format!("{} (the upstream offers no {family})", message.method())));
        }
        let token = message.progress_token().map_err(|error| Refusal::Envelope(error.to_string()))?;
        let mut exchange = Exchange {
            house: house.clone(),
            route: route.clone(),
            session,
            id: message.id().cloned().unwrap_or_else(|| Id::from(0)),
            message,
            level,
            token: token.map(|(token, _)| token),
            source: Source::Done,
            profile,
            missing: None,
            _permit: permit,
            way: Way::default(),
        };
        exchange.task(envelope)?;
        let call = request.filter(|_| exchange.message.method() == "tools/call");
        // What does not exist for callers has no headers to agree with.
        if let Some(request) = call.filter(|_| policy::refusal(&route.config, &exchange.message).is_none()) {
            super::params::check(request, route, &exchange.session, &exchange.message).await?;
        }
        exchange.source = exchange.begin().await?;
        exchange.trace(request);
        Ok(exchange)
    }

    /// Tells of how the request came, where it is traced. A retry is a request of its own, whatever it joins.
    fn trace(&mut self, request: Option<&HttpRequest>) {
        if !trace::is_on() {
            return;
        }
        let config = self.house.config.load();
        let arrival = || request.map_or(Arrival::PIPE, |request| address::arrival(request, &config.trusted_proxies));
        match &mut self.source {
            Source::Calls(calls) => calls.arrived(arrival),
            Source::Parked(_) => {
                let name = envelope::name_of(&self.message);
                self.way = dispatch::record::way(&self.route, &self.session, &self.message, name.as_deref());
                self.way.arrived(&arrival());
            }
            Source::Done => {}
        }
    }

    /// A task is its maker's alone, and a foreign one looks like one that never was.
    fn task(&self, envelope: &Envelope) -> Result<(), Refusal> {
        let method = self.message.method();
        if !tasks::is_method(method) {
            return Ok(());
        }
        if !self.profile.is_modern() || !self.profile.can(&["extensions", tasks::EXTENSION]) {
            return Err(Refusal::NoMethod(format!("{method} (the upstream offers no tasks)")));
        }
        let capabilities: Value = serde_json::from_str(&envelope.capabilities).unwrap_or_default();
        if !capabilities["extensions"][tasks::EXTENSION].is_object() {
            return Err(Refusal::NoTasks);
        }
        let owned = envelope::name_of(&self.message);
        match owned.is_some_and(|task| self.route.serving.tasks.owns(&task, self.session.owner.id())) {
            true => Ok(()),
            false => Err(Refusal::Task),
        }
    }

    /// A retry joins its parked call; anything else goes to the upstream.
    async fn begin(&self) -> Result<Source, Refusal> {
        let [state, answers] = self
            .message
            .param(["requestState", "inputResponses"])
            .map_err(|error| Refusal::Envelope(error.to_string()))?;
        let mut message = self.message.clone();
        if let Some(state) = state {
            let text = members::string(state).ok_or(Refusal::State)?;
            let sealer = self.house.parking.sealer.as_ref().ok_or(Refusal::State)?;
            let state =
                sealer.open(&text, self.binding(&self.target(), &self.arguments())).map_err(|_| Refusal::State)?;
            if state.call != 0 {
                let answers = answers.and_then(Object::read);
                let answers = answers.iter().flat_map(|answers| answers.members());
                let answers = answers.map(|member| (member.name.to_string(), member.value.get().to_owned())).collect();
                let (watcher, outcomes) = mpsc::channel(64);
                let joined = self.house.parking.join(state.call, Retry { round: state.round, answers, watcher }).await;
                return if joined { Ok(Source::Parked(outcomes)) } else { Err(Refusal::State) };
            }
            message = shape::with_state(&message, state.inner.as_deref()).ok_or(Refusal::State)?;
        }
        if !self.profile.is_modern() {
            self.set_level().await;
        }
        match dispatch::dispatch(&self.route, &self.session, vec![message], Vec::new()).await? {
            Some(calls) => Ok(Source::Calls(Box::new(calls))),
            None => Ok(Source::Done),
        }
    }

    /// An upstream has one level: it gets the most verbose one that was ever asked for, and we filter.
    async fn set_level(&self) {
        let Some(level) = self.level.filter(|level| self.session.level().is_none_or(|now| *level < now)) else {
            return;
        };
        let params = format!(r#"{{"level":"{}"}}"#, level.as_str());
        let request = message::request(&Id::from(0), "logging/setLevel", Some(&params));
        let Some(request) = message::one(request) else { return };
        if let Ok(Some(mut calls)) = dispatch::dispatch(&self.route, &self.session, vec![request], Vec::new()).await {
            while calls.next().await.is_some() {}
        }
    }

    fn target(&self) -> String {
        envelope::name_of(&self.message).unwrap_or_default().into_owned()
    }

    fn arguments(&self) -> String {
        match self.message.param(["arguments"]) {
            Ok([Some(arguments)]) => arguments.to_owned(),
            _ => String::new(),
        }
    }

    fn binding<'a>(&'a self, target: &'a str, arguments: &'a str) -> Binding<'a> {
        let principal = &*self.session.id;
        Binding { mount: self.route.name.as_str(), principal, method: self.message.method(), target, arguments }
    }

    async fn next(&mut self) -> Option<Out> {
        let out = self.go_on().await;
        if let Some(Out::Final(bytes, _)) = &out {
            self.way.end(dispatch::record::outcome(bytes));
        }
        out
    }

    async fn go_on(&mut self) -> Option<Out> {
        loop {
            let event = match &mut self.source {
                Source::Done => return None,
                Source::Calls(calls) => match calls.next().await {
                    Some(event) => event,
                    None => return self.fail("the call was cancelled"),
                },
                Source::Parked(outcomes) => match outcomes.recv().await {
                    Some(Outcome::Event(event)) => event,
                    Some(Outcome::Asked { call, round, questions }) => {
                        return self.input_required(call, round, questions);
                    }
                    Some(Outcome::Stale) => return self.error(INVALID_PARAMS, &Refusal::State.to_string(), None),
                    None => return self.fail("the call ended while it waited for an answer"),
                },
            };
            match event {
                Event::Progress(bytes) => {
                    if let Some(bytes) = self.with_own_token(bytes) {
                        return Some(Out::Note(bytes));
                    }
                }
                Event::Log(log) => {
                    if self.level.is_some_and(|least| level_of(&log).is_none_or(|level| level >= least)) {
                        return Some(Out::Note(log.bytes().clone()));
                    }
                }
                Event::Withdrawn { .. } | Event::Notice(_) => {}
                Event::Ask(ask) => {
                    let abilities = self.session.abilities();
                    let room = match self.house.parking.has_room() {
                        true => Ok(()),
                        false => Err((INTERNAL_ERROR, "too many calls wait for an answer")),
                    };
                    let verdict = judge(&ask.message, abilities).and(room);
                    let Source::Calls(mut calls) = std::mem::replace(&mut self.source, Source::Done) else { continue };
                    match verdict {
                        Ok(()) => {
                            calls.parked();
                            self.source = Source::Parked(self.house.parking.park(*calls, ask, abilities));
                        }
                        Err((code, why)) => {
                            self.missing = Some(required(&ask.message));
                            if let Some(bridged) = calls.bridged() {
                                bridged.connection.refuse(ask.number, code, why);
                            }
                            self.source = Source::Calls(calls);
                        }
                    }
                }
                Event::Response(bytes) => return self.finish(bytes),
                Event::Failed { error, .. } => {
                    self.source = Source::Done;
                    let bytes = rescue::failed(&self.id, self.route.name.as_str(), &error);
                    return Some(Out::Final(bytes, rescue::status(&error)));
                }
            }
        }
    }

    /// Progress of a parked call bears the first request's token; each retry has its own.
    fn with_own_token(&self, bytes: Bytes) -> Option<Bytes> {
        let token = self.token.as_ref()?;
        let progress = message::one(bytes)?;
        let [Some(raw)] = progress.param(["progressToken"]).ok()? else { return None };
        Some(progress.with(progress.span(raw), token.as_json()))
    }

    /// The next message for its client; none after the last.
    pub async fn message(&mut self) -> Option<Bytes> {
        let (Out::Note(bytes) | Out::Final(bytes, _)) = self.next().await?;
        Some(bytes)
    }

    /// JSON where the result comes first and in time; else a stream. Dropping either cancels the call.
    pub async fn answer(mut self, request: &HttpRequest, accepts: Accepts) -> HttpResponse {
        let window = tokio::time::sleep(WINDOW);
        tokio::pin!(window);
        let first = loop {
            tokio::select! {
                biased;
                out = self.next() => match out {
                    Some(Out::Final(bytes, status)) if accepts.json || status != StatusCode::OK => return answer_json(bytes, status),
                    None => return HttpResponse::Accepted().finish(),
                    Some(_) if !accepts.events => {}
                    out => break out,
                },
                () = &mut window, if accepts.events => break None,
            }
        };
        let rest = stream::unfold((first, self), |(first, mut exchange)| async move {
            let out = match first {
                Some(out) => Some(out),
                None => exchange.next().await,
            };
            let (Out::Note(bytes) | Out::Final(bytes, _)) = out?;
            Some((bytes, (None, exchange)))
        });
        super::stream::messages(request, rest)
    }
}

/// The capability that a server's question needs.
fn required(ask: &Message) -> Value {
    match ask.method() {
        "sampling/createMessage" => json!({ "sampling": {} }),
        "roots/list" => json!({ "roots": {} }),
        _ => json!({ "elicitation": {} }),
    }
}
