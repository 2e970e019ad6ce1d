//! Streamable HTTP of the older revisions without sessions (`hub.stateless`): each request stands alone, so that any
//! hub of several can take it.
//!
//! What needs to come back to its client later has no place here: questions of the server, subscriptions, a log level,
//! streams that are resumed.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use serde_json::{Value, json};

use super::{
    address,
    guard::Accepts,
    mcp::{self, VERSION},
    modern::{self, answer_json},
    rescue::Refusal,
    stream,
};
use crate::{
    access::Principal,
    bridge::Offer,
    hub::{
        House, dispatch,
        routes::Route,
        session::{Session, Transport},
    },
    observe::meter::Outcome,
    wire::{
        Kind, Message, Revision,
        message::{self, Body},
    },
};

/// Serves one body. What it holds is done when it is answered, or with its stream.
pub async fn serve(
    request: &HttpRequest,
    house: &Arc<House>,
    route: &Arc<Route>,
    principal: &Principal,
    body: Body,
    accepts: Accepts,
) -> Result<HttpResponse, Refusal> {
    let (messages, batch) = match body {
        Body::One(message) => (vec![message], false),
        Body::Batch(messages) => (messages, true),
    };
    if !messages.iter().any(|message| message.kind() == Kind::Request) {
        // Notifications are about what other requests left behind, and they leave nothing.
        return Ok(HttpResponse::Accepted().finish());
    }
    let session = mcp::open(house, route, principal, Transport::Streamable)?;
    if let [message] = messages.as_slice()
        && message.method() == "initialize"
    {
        return initialize(route, &session, message).await;
    }
    let lasting = |message: &Message| matches!(message.method(), "resources/subscribe" | "logging/setLevel");
    if let Some(lasting) = messages.iter().find(|message| lasting(message)) {
        let why = format!("`{}` needs a session, and this hub keeps none (`stateless` in [hub])", lasting.method());
        return Err(Refusal::BadRequest(why));
    }
    let named = request.headers().get(&VERSION).and_then(|value| value.to_str().ok());
    session.greet(json!({
        "protocolVersion": named.unwrap_or(Revision::ASSUMED.as_str()),
        // It cannot be asked anything: its answer would come as another request.
        "capabilities": {},
        "clientInfo": { "name": "unnamed", "version": "0" },
    }));
    mcp::no_new_calls(house, &messages)?;
    if batch {
        mcp::batch_allowed(&session, &messages)?;
    }
    let permits = mcp::places(house, &session, &messages)?;
    match dispatch::dispatch(route, &session, messages, permits).await? {
        None => Ok(HttpResponse::Accepted().finish()),
        Some(mut calls) => {
            calls.arrived(|| address::arrival(request, &house.config.load().trusted_proxies));
            Ok(stream::answer(request, house, calls, batch, accepts).await)
        }
    }
}

/// Says what the upstream is, and gives no session.
async fn initialize(route: &Arc<Route>, session: &Arc<Session>, message: &Message) -> Result<HttpResponse, Refusal> {
    let record = dispatch::record::begin(route, session, message);
    let params: Value = serde_json::from_str(message.params().unwrap_or("null")).unwrap_or_default();
    if !params["protocolVersion"].is_string() {
        return Err(Refusal::BadRequest("`params.protocolVersion` must be a string".into()));
    }
    let id = message.id().ok_or_else(|| Refusal::BadRequest("`initialize` needs an id".into()))?;
    session.greet(params);
    let profile = modern::profile(route, session).await?;
    let answer = message::response(id, &profile.answer(session.revision(), Offer::SingleCalls));
    record.end(Outcome::Ok, answer.len());
    Ok(answer_json(answer, StatusCode::OK))
}
