//! `/{name}/mcp`: Streamable HTTP, 2025-03-26 to 2025-11-25.

use std::sync::{Arc, atomic::Ordering};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, HeaderName},
    },
    web,
};
use serde_json::Value;

use super::{
    address, door, forward,
    guard::{self, Accepts},
    modern,
    rescue::Refusal,
    sessionless, stream,
};
use crate::{
    access::{Held, Permit, Principal},
    config::Isolation,
    hub::{
        House, dispatch,
        isolation::{self, offer},
        replay::{EventId, NoStream},
        routes::Route,
        session::{Session, Transport},
    },
    observe::{meter::Outcome, trace::Why},
    wire::{
        Id, Kind, Message, Revision,
        envelope::{self, Claim},
        message::{self, Body},
    },
};

/// How soon a call may be tried again that could not be recorded.
const AUDIT_WAIT: std::time::Duration = std::time::Duration::from_secs(5);
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const ALLOW: &str = "GET, POST, DELETE";

/// What went wrong, and for which request.
type Refused = (Refusal, Option<Id>);

/// Serves one request to a mount.
pub async fn serve(
    request: HttpRequest,
    mut payload: web::Payload,
    house: &Arc<House>,
    route: Arc<Route>,
    principal: Principal,
) -> HttpResponse {
    let mut unread = has_body(&request);
    let served = match *request.method() {
        Method::POST => post(&request, &mut payload, house, &route, &principal, &mut unread).await,
        Method::GET | Method::DELETE if house.config.load().stateless => {
            Err((Refusal::Method { method: request.method().to_string(), allow: "POST" }, None))
        }
        Method::GET => get(&request, house, &route, &principal).map_err(|refusal| (refusal, None)),
        Method::DELETE => delete(&request, house, &route, &principal).map_err(|refusal| (refusal, None)),
        _ => Err((Refusal::Method { method: request.method().to_string(), allow: ALLOW }, None)),
    };
    served.unwrap_or_else(|(refusal, id)| refusal.respond(id.as_ref(), unread.then_some(payload)))
}

/// Does the request have a body that somebody should read?
pub fn has_body(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
        || headers.contains_key(header::TRANSFER_ENCODING)
}

async fn post(
    request: &HttpRequest,
    payload: &mut web::Payload,
    house: &Arc<House>,
    route: &Arc<Route>,
    principal: &Principal,
    unread: &mut bool,
) -> Result<HttpResponse, Refused> {
    // 1. What the headers alone decide.
    let early = |refusal| (refusal, None);
    guard::json_body(request).map_err(early)?;
    let accepts = guard::accepts(request);
    if accepts == (Accepts { json: false, events: false }) {
        return Err(early(Refusal::Accept("application/json or text/event-stream")));
    }
    // 2. The body, whole and valid.
    let bytes_max = house.config.load().limits.body_bytes_max;
    let bytes = guard::body(request, payload, bytes_max).await.map_err(early)?;
    *unread = false;
    let body = message::read_client(bytes).map_err(|error| early(error.into()))?;
    let id = match &body {
        Body::One(message) if message.kind() == Kind::Request => message.id().cloned(),
        _ => None,
    };
    let refused = |refusal: Refusal| (refusal, id.clone());
    // 3. The era: what carries an envelope stands alone.
    let first = match &body {
        Body::One(message) => message,
        Body::Batch(messages) if messages.iter().any(|message| envelope::claim(message) != Claim::None) => {
            return Err(refused(Refusal::BadRequest(format!("revision {} has no batches", envelope::VERSION))));
        }
        Body::Batch(messages) => &messages[0],
    };
    match envelope::claim(first) {
        Claim::Modern(envelope) => {
            let message = forward::request(first.clone(), request.headers(), route);
            // Boxed, as what follows is: a request's future is moved more than once, and is as large as its largest way.
            return Box::pin(modern::serve(request, house, route, principal, message, envelope, accepts)).await;
        }
        Claim::Malformed(why) => return Err(refused(Refusal::Envelope(why))),
        Claim::None => {}
    }
    modern_header(request, first).map_err(refused)?;
    version(request).map_err(refused)?;
    if house.config.load().stateless {
        let body = forward::body(body, request.headers(), route);
        return Box::pin(sessionless::serve(request, house, route, principal, body, accepts)).await.map_err(refused);
    }
    // 4. The session: `initialize` makes one.
    if let Body::One(message) = &body
        && message.method() == "initialize"
        && message.kind() == Kind::Request
    {
        let message = forward::request(message.clone(), request.headers(), route);
        return Box::pin(initialize(request, house, route, principal, &message)).await.map_err(refused);
    }
    let session = session(request, house, route, principal).map_err(refused)?;
    // 5. Messages one by one, or in an array where the revision has them.
    let (messages, batch) = match forward::body(body, request.headers(), route) {
        Body::One(message) => (vec![message], false),
        Body::Batch(messages) => (messages, true),
    };
    no_new_calls(house, &messages).map_err(refused)?;
    if batch {
        batch_allowed(&session, &messages).map_err(refused)?;
    }
    let permits = places(house, &session, &messages).map_err(refused)?;
    // 6. On their way; and the answer, as JSON or as a stream.
    let calls = dispatch::dispatch(route, &session, messages, permits).await.map_err(|error| refused(error.into()))?;
    match calls {
        None => Ok(HttpResponse::Accepted().finish()),
        Some(mut calls) => {
            calls.arrived(|| address::arrival(request, &house.config.load().trusted_proxies));
            Ok(stream::answer(request, house, calls, batch, accepts).await)
        }
    }
}

/// A header that names the newer era needs a body of that era.
fn modern_header(request: &HttpRequest, message: &Message) -> Result<(), Refusal> {
    let named = request.headers().get(&VERSION).and_then(|value| value.to_str().ok());
    if named != Some(envelope::VERSION) {
        return Ok(());
    }
    match message.method() {
        "initialize" => {
            Err(Refusal::Mismatch("the header MCP-Protocol-Version names a revision without `initialize`".into()))
        }
        _ => {
            let [version, capabilities] = [envelope::PROTOCOL_VERSION, envelope::CLIENT_CAPABILITIES];
            Err(Refusal::Envelope(format!("`params._meta` lacks `{version}` and `{capabilities}`")))
        }
    }
}

/// Opens a session. The answer waits for the upstream, which may be starting.
async fn initialize(
    request: &HttpRequest,
    house: &Arc<House>,
    route: &Arc<Route>,
    principal: &Principal,
    message: &Message,
) -> Result<HttpResponse, Refusal> {
    if request.headers().get(&SESSION).is_some() {
        session(request, house, route, principal)?;
        return Err(Refusal::BadRequest("the session is initialized already".into()));
    }
    let session = open(house, route, principal, Transport::Streamable)?;
    let answer = greet(route, &session, message).await;
    // Registered before the client learns its id, and not at all where the upstream did not answer.
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => {
            house.end_session(route, &session, "its session did not open");
            return Err(refusal);
        }
    };
    session.touch();
    house.admit_session(route, session.clone());
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .insert_header(("Mcp-Session-Id", &*session.id))
        .insert_header(("Cache-Control", "no-store"))
        .body(answer))
}

/// Makes a session, if there is room for one more.
pub fn open(
    house: &Arc<House>,
    route: &Route,
    owner: &Principal,
    transport: Transport,
) -> Result<Arc<Session>, Refusal> {
    may_call(house)?;
    let permit = door::hold(house, owner, Held::Sessions)?;
    room(house)?;
    let limits = house.engine.limits.load();
    let session = Session::new(transport, owner.clone(), limits.replay_events_max, limits.replay_bytes_max);
    let session = session.ok_or_else(|| {
        tracing::error!(upstream = %route.name, "the system gives no random numbers");
        Refusal::Full("no sessions", "the system gives no random numbers")
    })?;
    session.hold(permit);
    if let Some(events) = house.events.get() {
        session.streams(|streams| streams.keep_in(events.clone(), session.key));
    }
    Ok(session)
}

/// Each request takes a place among the calls of its principal.
pub fn places(house: &House, session: &Session, messages: &[Message]) -> Result<Vec<Permit>, Refusal> {
    let requests = messages.iter().filter(|message| message.kind() == Kind::Request);
    let permits: Result<Vec<_>, _> = requests.map(|_| door::hold(house, &session.owner, Held::Calls)).collect();
    Ok(permits?.into_iter().flatten().collect())
}

/// Is there room for one more session? The longest idle ones make room.
pub fn room(house: &House) -> Result<(), Refusal> {
    let full = house.engine.sessions.load(Ordering::Relaxed) >= house.engine.limits.load().sessions_max;
    match full && !house.evict_idle_session() {
        true => Err(Refusal::Full("sessions_max sessions", "none of them idle")),
        false => Ok(()),
    }
}

/// Answers `initialize` for a session: with its own process, or with what the shared one said.
pub async fn greet(route: &Arc<Route>, session: &Arc<Session>, message: &Message) -> Result<bytes::Bytes, Refusal> {
    let mut record = dispatch::record::begin(route, session, message);
    let params: Value = serde_json::from_str(message.params().unwrap_or("null")).unwrap_or_default();
    if !params["protocolVersion"].is_string() {
        return Err(Refusal::BadRequest("`params.protocolVersion` must be a string".into()));
    }
    if !session.greet(params) {
        return Err(Refusal::BadRequest("the session is initialized already".into()));
    }
    let known = route.serving.profile.load_full().filter(|_| route.isolation() == Isolation::Call);
    let profile = match known {
        Some(profile) => profile,
        None => {
            let seat = isolation::seat(route, session).await;
            let seat = seat.inspect_err(|error| {
                record.fails();
                record.way.because(|| Why::new("unavailable", error));
            })?;
            seat.bridged().profile.clone()
        }
    };
    let result = profile.answer(session.revision(), offer(route.isolation()));
    let id = message.id().ok_or_else(|| Refusal::BadRequest("`initialize` needs an id".into()))?;
    let answer = message::response(id, &result);
    record.end(Outcome::Ok, answer.len());
    Ok(answer)
}

/// At shutdown calls under way may finish, which takes answers and cancellations; new ones are refused.
pub fn no_new_calls(house: &House, messages: &[Message]) -> Result<(), Refusal> {
    if !messages.iter().any(|message| message.kind() == Kind::Request) {
        return Ok(());
    }
    may_call(house)
}

/// New calls are refused while the hub ends, and while they could not be recorded where they have to be.
pub fn may_call(house: &House) -> Result<(), Refusal> {
    if house.draining.is_cancelled() {
        return Err(Refusal::Draining);
    }
    match house.engine.audit.load().as_ref().is_some_and(|audit| audit.refuses()) {
        true => Err(Refusal::Unsure("the call could not be recorded in the audit", AUDIT_WAIT)),
        false => Ok(()),
    }
}

/// 2025-03-26 has batches; `initialize` may not be in one.
pub fn batch_allowed(session: &Session, messages: &[Message]) -> Result<(), Refusal> {
    if !session.revision().batches() {
        return Err(Refusal::BadRequest(format!("revision {} has no batches", session.revision())));
    }
    match messages.iter().any(|message| message.method() == "initialize") {
        true => Err(Refusal::BadRequest("`initialize` may not be part of a batch".into())),
        false => Ok(()),
    }
}

/// Opens the stream for what belongs to no call, or resumes any stream of the session.
fn get(
    request: &HttpRequest,
    house: &Arc<House>,
    route: &Arc<Route>,
    principal: &Principal,
) -> Result<HttpResponse, Refusal> {
    version(request)?;
    if !guard::accepts(request).events {
        return Err(Refusal::Accept("text/event-stream"));
    }
    let session = session(request, house, route, principal)?;
    let place = stream::Place::find(house, principal)?;
    let primes = session.revision().primes();
    let reader = match request.headers().get("last-event-id") {
        None => session.streams(|streams| streams.attach(primes)).map_err(|_| Refusal::Taken)?,
        Some(id) => {
            let id = id.to_str().ok().and_then(EventId::read);
            // Never 404, which would tell the client that its whole session is gone.
            let unknown = || Refusal::BadRequest("this event id cannot be resumed from".into());
            let resumed = session.streams(|streams| streams.resume(id.ok_or(NoStream::Unknown)?));
            resumed.map_err(|_: NoStream| unknown())?
        }
    };
    session.touch();
    Ok(stream::events(request, place, reader, session.busy(), None))
}

/// Ends the session.
fn delete(
    request: &HttpRequest,
    house: &Arc<House>,
    route: &Arc<Route>,
    principal: &Principal,
) -> Result<HttpResponse, Refusal> {
    version(request)?;
    let session = session(request, house, route, principal)?;
    house.end_session(route, &session, "its session was deleted");
    Ok(HttpResponse::NoContent().finish())
}

/// The session of the request's header. One of another mount or principal is as unknown as one that never was.
fn session(
    request: &HttpRequest,
    house: &House,
    route: &Route,
    principal: &Principal,
) -> Result<Arc<Session>, Refusal> {
    let Some(id) = request.headers().get(&SESSION) else {
        return Err(Refusal::BadRequest("the header Mcp-Session-Id is missing; initialize first".into()));
    };
    known(id.to_str().unwrap_or_default(), Transport::Streamable, house, route, principal)
}

/// The session of this id.
pub fn known(
    id: &str,
    transport: Transport,
    house: &House,
    route: &Route,
    principal: &Principal,
) -> Result<Arc<Session>, Refusal> {
    let session = route.audience.get(id).filter(|session| session.transport == transport);
    session.filter(|session| belongs(session, principal, route)).ok_or(match house.draining.is_cancelled() {
        // It could open no new one either: by this a balancer finds the hub that has it (F128).
        true => Refusal::Draining,
        false => Refusal::NoSession,
    })
}

/// Is it theirs? That it is not is told to us alone.
fn belongs(session: &Session, principal: &Principal, route: &Route) -> bool {
    let own = session.owner.id() == principal.id();
    if !own {
        let (owner, principal) = (session.owner.name(), principal.name());
        tracing::warn!(upstream = %route.name, owner, principal, "a foreign session was asked for");
    }
    own
}

/// A version header must name a revision we know (2025-06-18, basic/transports).
fn version(request: &HttpRequest) -> Result<(), Refusal> {
    let Some(value) = request.headers().get(&VERSION) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    if Revision::read(text).is_some() {
        return Ok(());
    }
    if matches!(*request.method(), Method::GET | Method::DELETE) && crate::wire::revision::is_later(text) {
        return Err(Refusal::Method { method: format!("{} in revision {}", request.method(), text), allow: "POST" });
    }
    Err(Refusal::Version(text.chars().take(40).collect()))
}
