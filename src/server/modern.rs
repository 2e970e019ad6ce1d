//! Requests of 2026-07-28 on `/{name}/mcp`: no session, each stands alone.
//!
//! In the order that decides what a client concludes from an error (basic/versioning, basic/transports): the
//! envelope, the headers, the version, the method, the arguments repeated in headers; then the upstream.

use std::{borrow::Cow, cell::RefCell, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName},
    },
};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde_json::{Value, json};

use super::{
    door,
    exchange::Exchange,
    guard::Accepts,
    listen::{self, Listening},
    mcp,
    rescue::Refusal,
    stream,
};
use crate::{
    access::{Held, Principal},
    bridge::Profile,
    config::{Isolation, hex},
    hub::{
        House,
        audience::Level,
        dispatch,
        isolation::{self, offer},
        routes::Route,
        session::Session,
        tasks,
    },
    observe::meter::Outcome,
    wire::{
        Id, Kind, Message, Revision,
        envelope::{self, Envelope, SERVER_INFO, VERSION},
        message,
    },
};

const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The longest words of a client that are remembered, in bytes.
const KNOWN_MAX: usize = 8 << 10;

type Refused = (Refusal, Option<Id>);

/// What becomes of a message that stands alone.
pub enum Begun {
    /// A notification: there is nothing to say.
    Taken,
    Answer(Bytes),
    Exchange(Box<Exchange>),
    Listening(Box<Listening>),
}

/// Serves one message that carries an envelope, over HTTP.
pub async fn serve(
    request: &HttpRequest,
    house: &Arc<House>,
    route: &Arc<Route>,
    principal: &Principal,
    message: Message,
    envelope: Envelope,
    accepts: Accepts,
) -> Result<HttpResponse, Refused> {
    let id = message.id().cloned();
    let refused = |refusal: Refusal| (refusal, id.clone());
    headers(request, &message, &envelope).map_err(refused)?;
    let begun = begin(Some(request), house, route, principal, message, &envelope).await.map_err(refused)?;
    Ok(match begun {
        Begun::Taken => HttpResponse::Accepted().finish(),
        Begun::Answer(bytes) => answer_json(bytes, StatusCode::OK),
        Begun::Exchange(exchange) => exchange.answer(request, accepts).await,
        Begun::Listening(listening) => {
            let rest = unfold(listening, |mut listening| async move { Some((listening.next().await?, listening)) });
            stream::messages(request, rest)
        }
    })
}

/// Sends a message that stands alone on its way. Over stdio there is no HTTP request whose headers have to agree.
pub async fn begin(
    request: Option<&HttpRequest>,
    house: &Arc<House>,
    route: &Arc<Route>,
    principal: &Principal,
    message: Message,
    envelope: &Envelope,
) -> Result<Begun, Refusal> {
    if envelope.version != VERSION {
        return Err(Refusal::ModernVersion(envelope.version.chars().take(40).collect()));
    }
    mcp::may_call(house)?;
    let (Kind::Request, Some(id)) = (message.kind(), message.id().cloned()) else { return Ok(Begun::Taken) };
    if !is_known(message.method()) && !tasks::is_method(message.method()) {
        return Err(Refusal::NoMethod(message.method().to_owned()));
    }
    let level = match envelope.log_level.as_deref().map(Level::read) {
        Some(None) => return Err(Refusal::Envelope("the log level is none of RFC 5424".into())),
        level => level.flatten(),
    };
    let mut session = identity(house, route, principal, envelope)?;
    let mut _busy = session.busy();
    if session.ended.is_cancelled() {
        // It was idle for too long this instant.
        session = identity(house, route, principal, envelope)?;
        _busy = session.busy();
    }
    session.touch();
    match message.method() {
        "server/discover" | "subscriptions/listen" => {
            let record = dispatch::record::begin(route, &session, &message);
            let begun = match message.method() {
                "server/discover" => Begun::Answer(discover(route, &session, &id).await?),
                _ => Begun::Listening(Box::new(listen::open(house, route, &session, &message).await?)),
            };
            record.end(Outcome::Ok, if let Begun::Answer(answer) = &begun { answer.len() } else { 0 });
            Ok(begun)
        }
        _ => {
            let exchange = Exchange::start(request, house, route, session, message, envelope, level).await?;
            Ok(Begun::Exchange(Box::new(exchange)))
        }
    }
}

/// The answer to `server/discover`.
pub async fn discover(route: &Arc<Route>, session: &Arc<Session>, id: &Id) -> Result<Bytes, Refusal> {
    let profile = profile(route, session).await?;
    Ok(message::response(id, &discovered(&profile, route.isolation())))
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
pub fn family(method: &str) -> Option<&'static str> {
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
    let header = |key: &HeaderName, name: &str| -> Result<Option<Cow<'_, str>>, Refusal> {
        let mut all = request.headers().get_all(key);
        let Some(value) = all.next() else { return Ok(None) };
        if all.next().is_some() {
            return Err(mismatch(name, "stands twice"));
        }
        let text = value.to_str().map_err(|_| mismatch(name, "has characters that need base64"))?;
        envelope::decode(text).map(Some).map_err(|why| mismatch(name, why))
    };
    let version = header(&mcp::VERSION, "MCP-Protocol-Version")?;
    if version.as_ref().is_some_and(|version| *version != envelope.version) {
        return Err(mismatch("MCP-Protocol-Version", "differs from the version in the body"));
    }
    // One that is not spoken here has headers of its own.
    if version.is_none() && envelope.version == VERSION {
        return Err(mismatch("MCP-Protocol-Version", "is missing"));
    }
    if message.kind() != Kind::Request || envelope.version != VERSION {
        return Ok(());
    }
    match header(&MCP_METHOD, "Mcp-Method")? {
        None => return Err(mismatch("Mcp-Method", "is missing")),
        Some(method) if method != message.method() => return Err(mismatch("Mcp-Method", "differs from the body")),
        Some(_) => {}
    }
    if envelope::is_named(message.method()) {
        match (header(&MCP_NAME, "Mcp-Name")?, envelope::name_of(message)) {
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
fn identity(
    house: &Arc<House>,
    route: &Route,
    principal: &Principal,
    envelope: &Envelope,
) -> Result<Arc<Session>, Refusal> {
    let name = Known::name(principal, envelope);
    if let Some(session) = route.audience.get(&name) {
        return Ok(session);
    }
    let permit = door::hold(house, principal, Held::Sessions)?;
    mcp::room(house)?;
    let session = Session::of_identity(name.to_string(), principal.clone());
    session.hold(permit);
    session.greet(json!({
        "protocolVersion": Revision::LATEST.as_str(),
        "capabilities": read(&envelope.capabilities),
        "clientInfo": client_info(envelope),
    }));
    Ok(house.admit_identity(route, session))
}

/// An identity, and what it was made of.
struct Known {
    principal: String,
    client: Option<Box<str>>,
    capabilities: Box<str>,
    name: Arc<str>,
}

impl Known {
    /// Names what requests of one client share.
    fn name(principal: &Principal, envelope: &Envelope) -> Arc<str> {
        // Mostly a worker's next request is of the same client.
        thread_local!(static LAST: RefCell<Option<Known>> = const { RefCell::new(None) });
        LAST.with_borrow_mut(|last| {
            if let Some(last) = last.as_ref().filter(|last| last.is(principal, envelope)) {
                return last.name.clone();
            }
            // As text in one order, however the client wrote it.
            let (info, capabilities) = (client_info(envelope), read(&envelope.capabilities));
            let parts = serde_json::to_vec(&(principal.id(), &info["name"], &info["version"], &capabilities));
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parts.unwrap_or_default());
            let name: Arc<str> = hex(digest.as_ref()).into();
            let Envelope { client, capabilities, .. } = envelope;
            *last = (client.as_deref().map_or(0, str::len) + capabilities.len() < KNOWN_MAX).then(|| Known {
                principal: principal.id().to_owned(),
                client: client.clone(),
                capabilities: capabilities.clone(),
                name: name.clone(),
            });
            name
        })
    }

    fn is(&self, principal: &Principal, envelope: &Envelope) -> bool {
        self.capabilities == envelope.capabilities && self.client == envelope.client && self.principal == principal.id()
    }
}

fn read(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

fn client_info(envelope: &Envelope) -> Value {
    envelope.client.as_deref().map_or_else(|| json!({ "name": "unnamed", "version": "0" }), read)
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
        "capabilities": match profile.is_modern() {
            // What it offers is agreed on with each request, between the two.
            true => profile.result["capabilities"].clone(),
            false => profile.capabilities(offer(isolation)),
        },
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
pub fn answer_json(body: Bytes, status: StatusCode) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    response.content_type("application/json").insert_header((header::CACHE_CONTROL, "no-store")).body(body)
}
