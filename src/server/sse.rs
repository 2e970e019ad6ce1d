//! `/{name}/sse` and `/{name}/message`: HTTP+SSE of 2024-11-05.
//!
//! One stream carries everything that the server says; its end is the session's. The first event names the path
//! for POSTs, as the client sees it from outside: a path, so that it has no host to be wrong about.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::Method, web};

use super::{address, forward, guard, mcp, rescue::Refusal, stream};
use crate::{
    access::{Permit, Principal},
    hub::{
        House,
        dispatch::{self, Calls},
        replay::STANDALONE,
        routes::Route,
        session::{Session, Transport},
    },
    observe::trace::{self, Arrival},
    wire::{
        Kind, Message,
        message::{self, Body},
    },
};

/// Opens a session and its stream. `path`: where its messages are to be posted.
pub fn open(
    request: &HttpRequest,
    payload: web::Payload,
    house: &Arc<House>,
    route: &Arc<Route>,
    principal: Principal,
    path: String,
) -> HttpResponse {
    let unread = mcp::has_body(request).then_some(payload);
    try_open(request, house, route, &principal, path).unwrap_or_else(|refusal| refusal.respond(None, unread))
}

fn try_open(
    request: &HttpRequest,
    house: &Arc<House>,
    route: &Arc<Route>,
    principal: &Principal,
    path: String,
) -> Result<HttpResponse, Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal::Method { method: request.method().to_string(), allow: "GET" });
    }
    if !guard::accepts(request).events {
        return Err(Refusal::Accept("text/event-stream"));
    }
    let place = stream::Place::find(house, principal)?;
    let session = mcp::open(house, route, principal, Transport::Sse)?;
    let reader = session.streams(|streams| streams.attach(false)).map_err(|_| Refusal::Taken)?;
    let endpoint = format!("{path}?sessionId={}", session.id);
    let response = stream::events(request, place, reader, session.busy(), Some(endpoint));
    house.admit_session(route, session.clone());
    let (house, route) = (house.clone(), route.clone());
    actix_web::rt::spawn(async move {
        session.left().await;
        house.end_session(&route, &session, "its event stream ended");
    });
    Ok(response)
}

/// Takes one message; what it brings about travels on the stream.
pub async fn post(
    request: HttpRequest,
    mut payload: web::Payload,
    house: &Arc<House>,
    route: Arc<Route>,
    principal: Principal,
) -> HttpResponse {
    let mut unread = mcp::has_body(&request);
    match try_post(&request, &mut payload, house, route, &principal, &mut unread).await {
        Ok(response) => response,
        Err(refusal) => refusal.respond(None, unread.then_some(payload)),
    }
}

async fn try_post(
    request: &HttpRequest,
    payload: &mut web::Payload,
    house: &Arc<House>,
    route: Arc<Route>,
    principal: &Principal,
    unread: &mut bool,
) -> Result<HttpResponse, Refusal> {
    if request.method() != Method::POST {
        return Err(Refusal::Method { method: request.method().to_string(), allow: "POST" });
    }
    let session = session(request, house, &route, principal)?;
    guard::json_body(request)?;
    let bytes_max = house.config.load().limits.body_bytes_max;
    let bytes = guard::body(request, payload, bytes_max).await?;
    *unread = false;
    let messages = match forward::body(message::read_client(bytes)?, request.headers(), &route) {
        Body::One(message) => vec![message],
        Body::Batch(messages) => {
            mcp::batch_allowed(&session, &messages)?;
            messages
        }
    };
    mcp::no_new_calls(house, &messages)?;
    let permits = mcp::places(house, &session, &messages)?;
    let arrival = trace::is_on().then(|| address::arrival(request, &house.config.load().trusted_proxies));
    actix_web::rt::spawn(async move {
        let ended = session.ended.clone();
        let calls = tokio::select! {
            calls = serve(&route, &session, messages, permits) => calls,
            () = ended.cancelled() => None,
        };
        if let Some(mut calls) = calls {
            calls.arrived(|| arrival.unwrap_or(Arrival::PIPE));
            stream::pump(calls, STANDALONE).await;
        }
    });
    Ok(HttpResponse::Accepted().content_type("text/plain; charset=utf-8").body("Accepted"))
}

/// Sends messages on their way; what has its answer already is said.
pub async fn serve(
    route: &Arc<Route>,
    session: &Arc<Session>,
    messages: Vec<Message>,
    permits: Vec<Permit>,
) -> Option<Calls> {
    if let [message] = messages.as_slice()
        && message.method() == "initialize"
        && message.kind() == Kind::Request
    {
        let answer = match mcp::greet(route, session, message).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.message(message.id()),
        };
        session.say(answer);
        return None;
    }
    let ids: Vec<_> =
        messages.iter().filter(|message| message.kind() == Kind::Request).map(|m| m.id().cloned()).collect();
    match dispatch::dispatch(route, session, messages, permits).await {
        Ok(calls) => calls,
        Err(unavailable) => {
            let refusal = Refusal::from(unavailable);
            ids.into_iter().for_each(|id| session.say(refusal.message(id.as_ref())));
            None
        }
    }
}

/// The session of the query. Foreign ones are as unknown as those that never were.
fn session(
    request: &HttpRequest,
    house: &House,
    route: &Route,
    principal: &Principal,
) -> Result<Arc<Session>, Refusal> {
    let query = request.query_string();
    let id = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == "sessionId");
    let Some((_, id)) = id else { return Err(Refusal::BadRequest("the query needs a sessionId".into())) };
    mcp::known(id, Transport::Sse, house, route, principal)
}
