//! Requests of 2026-07-28 on `/{name}/mcp`: no session, each stands alone.
//!
//! In the order that decides what a client concludes from an error (basic/versioning, basic/transports): the
//! envelope, the headers, the version, the method, the arguments repeated in headers; then the upstream.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, Responder, http::StatusCode, http::header};
use actix_web_lab::sse::{Data, Event as SseEvent, Sse};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{guard::Accepts, listen, mcp, rescue, rescue::Refusal};
use crate::{
    bridge::{Profile, ask::judge, seal::Binding, shape},
    config::Isolation,
    hub::{
        House,
        audience::{Level, level_of},
        dispatch::{self, Calls},
        isolation::{self, offer},
        parking::{Outcome, Retry},
        routes::Route,
        session::Session,
    },
    link::connection::Event,
    wire::{
        Id, Kind, Message, Revision,
        envelope::{self, Envelope, MISSING_CAPABILITY, SERVER_INFO, VERSION},
        message::{self, Body, INTERNAL_ERROR, INVALID_PARAMS},
        object::Object,
    },
};

/// How long an answer may still become plain JSON (python-sdk waits as long).
const WINDOW: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Callers without authentication are one principal.
const PRINCIPAL: &str = "local";

type Refused = (Refusal, Option<Id>);

/// Serves one message that carries an envelope.
pub async fn serve(
    request: &HttpRequest,
    house: &Arc<House>,
    route: &Arc<Route>,
    message: Message,
    envelope: Envelope,
    accepts: Accepts,
) -> Result<HttpResponse, Refused> {
    let id = message.id().cloned();
    let refused = |refusal: Refusal| (refusal, id.clone());
    headers(request, &message, &envelope).map_err(refused)?;
    if house.draining.is_cancelled() {
        return Err(refused(Refusal::Draining));
    }
    let (Kind::Request, Some(own)) = (message.kind(), &id) else { return Ok(HttpResponse::Accepted().finish()) };
    if !is_known(message.method()) {
        return Err(refused(Refusal::NoMethod(message.method().to_owned())));
    }
    let level = match envelope.log_level.as_deref().map(Level::read) {
        Some(None) => return Err(refused(Refusal::Envelope("the log level is none of RFC 5424".into()))),
        level => level.flatten(),
    };
    let session = identity(house, route, &envelope).map_err(refused)?;
    session.touch();
    let _busy = session.busy();
    if message.method() == "server/discover" {
        let profile = profile(route, &session).await.map_err(refused)?;
        return Ok(answer_json(message::response(own, &discovered(&profile, route.config.isolation)), StatusCode::OK));
    }
    if message.method() == "subscriptions/listen" {
        return listen::serve(request, house, route, &session, &message).await.map_err(refused);
    }
    let exchange = Exchange::start(request, house, route, session, message, level).await.map_err(refused)?;
    Ok(exchange.answer(request, accepts).await)
}

/// Methods of this era. `ping`, `initialize`, `logging/setLevel` and the like are gone.
fn is_known(method: &str) -> bool {
    matches!(
        method,
        "server/discover"
            | "tools/list"
            | "tools/call"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "completion/complete"
            | "subscriptions/listen"
    )
}

/// The capability that a method belongs to.
fn family(method: &str) -> Option<&'static str> {
    match method.split('/').next()? {
        "tools" => Some("tools"),
        "prompts" => Some("prompts"),
        "resources" => Some("resources"),
        _ => None,
    }
}

/// Headers must say what the body says.
fn headers(request: &HttpRequest, message: &Message, envelope: &Envelope) -> Result<(), Refusal> {
    let mismatch = |name: &str, why: &str| Refusal::Mismatch(format!("the header {name} {why}"));
    let header = |name: &str| -> Result<Option<String>, Refusal> {
        let mut all = request.headers().get_all(name);
        let Some(value) = all.next() else { return Ok(None) };
        if all.next().is_some() {
            return Err(mismatch(name, "stands twice"));
        }
        let text = value.to_str().map_err(|_| mismatch(name, "has characters that need base64"))?;
        envelope::decode(text).map(|text| Some(text.into_owned())).map_err(|why| mismatch(name, why))
    };
    let version = header("MCP-Protocol-Version")?;
    if version.as_ref().is_some_and(|version| *version != envelope.version) {
        return Err(mismatch("MCP-Protocol-Version", "differs from the version in the body"));
    }
    if envelope.version != VERSION {
        return Err(Refusal::ModernVersion(envelope.version.chars().take(40).collect()));
    }
    if version.is_none() {
        return Err(mismatch("MCP-Protocol-Version", "is missing"));
    }
    if message.kind() != Kind::Request {
        return Ok(());
    }
    match header("Mcp-Method")? {
        None => return Err(mismatch("Mcp-Method", "is missing")),
        Some(method) if method != message.method() => return Err(mismatch("Mcp-Method", "differs from the body")),
        Some(_) => {}
    }
    if envelope::is_named(message.method()) {
        match (header("Mcp-Name")?, envelope::name_of(message)) {
            (None, _) => return Err(mismatch("Mcp-Name", "is missing")),
            (Some(header), body) if body.as_ref() != Some(&header) => {
                return Err(mismatch("Mcp-Name", "differs from the body"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What requests of one client share: its processes in isolation `session`, its listeners.
fn identity(house: &Arc<House>, route: &Route, envelope: &Envelope) -> Result<Arc<Session>, Refusal> {
    let info = envelope.client.clone().unwrap_or_else(|| json!({ "name": "unnamed", "version": "0" }));
    let parts = json!([PRINCIPAL, info["name"], info["version"], envelope.capabilities]).to_string();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parts.as_bytes());
    let name: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(session) = route.audience.get(&name) {
        return Ok(session);
    }
    mcp::room(house)?;
    let session = Session::of_identity(name);
    session.greet(json!({
        "protocolVersion": Revision::LATEST.as_str(),
        "capabilities": envelope.capabilities,
        "clientInfo": info,
    }));
    Ok(house.admit_identity(route, session))
}

/// What the upstream said of itself; starts it where it never ran.
pub async fn profile(route: &Arc<Route>, session: &Arc<Session>) -> Result<Arc<Profile>, Refusal> {
    match route.serving.profile.load_full() {
        Some(profile) => Ok(profile),
        None => Ok(isolation::seat(route, session).await?.bridged().profile.clone()),
    }
}

fn discovered(profile: &Profile, isolation: Isolation) -> String {
    let mut result = json!({
        "resultType": "complete",
        "supportedVersions": [VERSION],
        "capabilities": profile.capabilities(offer(isolation)),
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": { SERVER_INFO: profile.result["serverInfo"] },
    });
    if let Some(instructions) = profile.result.get("instructions") {
        result["instructions"] = instructions.clone();
    }
    result.to_string()
}

/// A plain JSON answer.
fn answer_json(body: Bytes, status: StatusCode) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("application/json")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(body)
}

/// One request on its way through an older upstream.
struct Exchange {
    house: Arc<House>,
    route: Arc<Route>,
    session: Arc<Session>,
    message: Message,
    id: Id,
    /// The least severe log message that was asked for; none: no log messages at all.
    level: Option<Level>,
    token: Option<Id>,
    source: Source,
    server_info: Value,
    /// A capability that the server wanted and the client did not declare.
    missing: Option<Value>,
}

enum Source {
    Calls(Calls),
    Parked(mpsc::Receiver<Outcome>),
    Done,
}

enum Out {
    Note(Bytes),
    Final(Bytes, StatusCode),
}

impl Exchange {
    async fn start(
        request: &HttpRequest,
        house: &Arc<House>,
        route: &Arc<Route>,
        session: Arc<Session>,
        message: Message,
        level: Option<Level>,
    ) -> Result<Exchange, Refusal> {
        let profile = profile(route, &session).await?;
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
            server_info: profile.result["serverInfo"].clone(),
            missing: None,
        };
        if exchange.message.method() == "tools/call" {
            super::params::check(request, route, &exchange.session, &exchange.message).await?;
        }
        exchange.source = exchange.begin().await?;
        Ok(exchange)
    }

    /// A retry joins its parked call; anything else goes to the upstream.
    async fn begin(&self) -> Result<Source, Refusal> {
        let [state, answers] = self
            .message
            .param(["requestState", "inputResponses"])
            .map_err(|error| Refusal::Envelope(error.to_string()))?;
        if let Some(state) = state {
            let text = serde_json::from_str::<String>(state.get()).map_err(|_| Refusal::State)?;
            let sealer = self.house.parking.sealer.as_ref().ok_or(Refusal::State)?;
            let state =
                sealer.open(&text, self.binding(&self.target(), &self.arguments())).map_err(|_| Refusal::State)?;
            if state.call != 0 {
                let answers = answers.and_then(|answers| Object::read(answers.get()));
                let answers = answers.iter().flat_map(|answers| answers.members());
                let answers = answers.map(|member| (member.name.to_string(), member.value.get().to_owned())).collect();
                let (watcher, outcomes) = mpsc::channel(64);
                let joined = self.house.parking.join(state.call, Retry { round: state.round, answers, watcher }).await;
                return if joined { Ok(Source::Parked(outcomes)) } else { Err(Refusal::State) };
            }
        }
        self.set_level().await;
        let plain =
            shape::to_legacy(&self.message).ok_or_else(|| Refusal::Envelope("`params` must be an object".into()))?;
        match dispatch::dispatch(&self.route, &self.session, vec![plain]).await? {
            Some(calls) => Ok(Source::Calls(calls)),
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
        let Ok(Body::One(request)) = message::read_upstream(request) else { return };
        if let Ok(Some(mut calls)) = dispatch::dispatch(&self.route, &self.session, vec![request]).await {
            while calls.next().await.is_some() {}
        }
    }

    fn target(&self) -> String {
        envelope::name_of(&self.message).unwrap_or_default()
    }

    fn arguments(&self) -> String {
        match self.message.param(["arguments"]) {
            Ok([Some(arguments)]) => arguments.get().to_owned(),
            _ => String::new(),
        }
    }

    fn binding<'a>(&'a self, target: &'a str, arguments: &'a str) -> Binding<'a> {
        let principal = &*self.session.id;
        Binding { mount: self.route.name.as_str(), principal, method: self.message.method(), target, arguments }
    }

    async fn next(&mut self) -> Option<Out> {
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
                Event::Withdrawn { .. } => {}
                Event::Ask(ask) => {
                    let abilities = self.session.abilities();
                    let verdict = judge(&ask.message, abilities);
                    let Source::Calls(calls) = std::mem::replace(&mut self.source, Source::Done) else { continue };
                    match verdict {
                        Ok(()) => self.source = Source::Parked(self.house.parking.park(calls, ask, abilities)),
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
                    return Some(Out::Final(bytes, StatusCode::BAD_GATEWAY));
                }
            }
        }
    }

    /// Progress of a parked call bears the first request's token; each retry has its own.
    fn with_own_token(&self, bytes: Bytes) -> Option<Bytes> {
        let token = self.token.as_ref()?;
        let Ok(Body::One(progress)) = message::read_upstream(bytes) else { return None };
        let [Some(raw)] = progress.param(["progressToken"]).ok()? else { return None };
        Some(progress.with(progress.span(raw), token.as_json()))
    }

    fn finish(&mut self, bytes: Bytes) -> Option<Out> {
        self.source = Source::Done;
        let Ok(Body::One(response)) = message::read_upstream(bytes) else {
            return self.fail("its answer is no message");
        };
        if let Some(result) = response.result() {
            return match shape::to_modern(self.message.method(), result, &self.server_info) {
                Some(result) => Some(Out::Final(message::response(&self.id, &result), StatusCode::OK)),
                None => self.fail("its result is no object"),
            };
        }
        let error = response.error().unwrap_or("{}");
        let parsed: Value = serde_json::from_str(error).unwrap_or_default();
        let code = parsed["code"].as_i64();
        if code == Some(-32042) {
            return self.url_required(&parsed);
        }
        if let Some(missing) = self.missing.take() {
            let why = "the call needs a capability that the client did not declare";
            return self.error(MISSING_CAPABILITY, why, Some(json!({ "requiredCapabilities": missing })));
        }
        let uri = (self.message.method() == "resources/read").then(|| self.target());
        let error = shape::error_to_modern(error, uri.as_deref());
        let status = if code == Some(MISSING_CAPABILITY.into()) { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Some(Out::Final(format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, self.id).into(), status))
    }

    /// "Visit this address first" of 2025-11-25 as questions; the retry sends the call again.
    fn url_required(&mut self, error: &Value) -> Option<Out> {
        let all = error["data"]["elicitations"].as_array().cloned().unwrap_or_default();
        if !self.session.abilities().elicitation_url || all.is_empty() {
            let urls: Vec<&str> = all.iter().filter_map(|one| one["url"].as_str()).collect();
            let text =
                format!("{} {}", error["message"].as_str().unwrap_or("an address has to be visited"), urls.join(" "));
            return self.error(INTERNAL_ERROR, text.trim(), None);
        }
        let questions = all.into_iter().enumerate().map(|(at, mut params)| {
            if let Some(params) = params.as_object_mut() {
                params.remove("elicitationId");
                params.insert("mode".into(), "url".into());
            }
            (format!("url{at}"), shape::question("elicitation/create", Some(&params.to_string())))
        });
        self.input_required(0, 0, questions.collect())
    }

    fn input_required(&mut self, call: u64, round: u32, questions: Vec<(String, String)>) -> Option<Out> {
        self.source = Source::Done;
        let sealer = self.house.parking.sealer.as_ref();
        let state =
            sealer.and_then(|sealer| sealer.seal(call, round, None, self.binding(&self.target(), &self.arguments())));
        let Some(state) = state else { return self.fail("the system gives no random numbers") };
        let questions: Vec<String> =
            questions.iter().map(|(key, question)| format!("{}:{question}", Value::from(key.as_str()))).collect();
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{{{}}},"requestState":{},"_meta":{}}}"#,
            questions.join(","),
            Value::from(state),
            json!({ SERVER_INFO: self.server_info }),
        );
        Some(Out::Final(message::response(&self.id, &result), StatusCode::OK))
    }

    fn fail(&mut self, why: &str) -> Option<Out> {
        let why = format!("upstream `{}`: {why}", self.route.name);
        self.error(INTERNAL_ERROR, &why, Some(json!({ "upstream": self.route.name.as_str() })))
    }

    fn error(&mut self, code: i32, why: &str, data: Option<Value>) -> Option<Out> {
        self.source = Source::Done;
        let status = if code == MISSING_CAPABILITY { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Some(Out::Final(message::error_response(Some(&self.id), code, why, data.as_ref()), status))
    }

    /// JSON where the result comes first and in time; else a stream. Dropping either cancels the call.
    async fn answer(mut self, request: &HttpRequest, accepts: Accepts) -> HttpResponse {
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
            let data = Data::new(ByteString::try_from(bytes).unwrap_or_default()).event("message");
            Some((SseEvent::Data(data), (None, exchange)))
        });
        Sse::from_infallible_stream(rest)
            .with_keep_alive(KEEP_ALIVE)
            .customize()
            .insert_header(("X-Accel-Buffering", "no"))
            .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
            .respond_to(request)
            .map_into_boxed_body()
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
