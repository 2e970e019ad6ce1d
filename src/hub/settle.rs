//! What the hub does itself with a client's messages: because it is between it and the client, or because several
//! clients share one upstream and their wishes have to be brought together.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    audience::{Wish, level_of, uri_of},
    isolation::seat,
    routes::Route,
    session::{Session, Transport},
    tasks,
    tools::policy,
    upstream::Unavailable,
};
use crate::{
    bridge::{Bridged, content},
    config::Isolation,
    link::connection::Event,
    wire::{
        Id, Kind, Message,
        message::{self, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND},
    },
};

/// Longest wait for an upstream to settle a wish of a client.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// A request that the hub answers itself. Each request comes by here: what few need is boxed, so that its future is
/// small.
pub async fn settle(route: &Arc<Route>, session: &Arc<Session>, message: &Message) -> Option<Event> {
    let id = message.id()?;
    let done = || Event::Response(message::response(id, "{}"));
    let error = |code, why: &str| Event::Response(message::error_response(Some(id), code, why, None));
    let alive = session.own.load().as_ref().is_some_and(|own| !own.connection.is_over());
    let unknown = || session.greeting().is_some() && !alive && route.serving.profile.load().is_none();
    if is_wish(message.method()) && unknown() {
        // How it serves is known once it runs; what is wrong with it, too.
        let _ = Box::pin(seat(route, session)).await;
    }
    let keeps_own = alive || route.isolation() == Isolation::Session;
    match message.method() {
        "ping" => Some(done()),
        // A process that was started now would be greeted without the client's own words (2024-11-05).
        _ if session.greeting().is_none() => {
            Some(error(INVALID_REQUEST, "the session is not initialized; `initialize` comes first"))
        }
        "initialize" => Some(error(INVALID_REQUEST, "the session is initialized already")),
        "tools/call" => {
            let why = policy::refusal(&route.config, message)?;
            tracing::debug!(upstream = %route.name, "a call was refused: {why}");
            Some(error(INVALID_PARAMS, &why))
        }
        // Asked by a client of the newer era: the exchange has seen to it that the task is its own.
        method if tasks::is_method(method) && session.transport == Transport::Stateless => None,
        method if method.starts_with("tasks/") => {
            // As `initialize` told it.
            let both = session.revision().tasks();
            let offered = session.own.load().as_ref().is_some_and(|own| both && own.profile.can(&["tasks"]));
            match offered && session.transport != Transport::Stateless {
                true => None,
                false => Some(error(METHOD_NOT_FOUND, "tasks are not offered here")),
            }
        }
        "logging/setLevel" => {
            let Some(level) = level_of(message) else {
                return Some(error(INVALID_PARAMS, "`level` must be one of the eight levels of RFC 5424"));
            };
            if route.isolation() == Isolation::Call && !keeps_own {
                return Some(error(METHOD_NOT_FOUND, "each call may meet another process: there is no level to keep"));
            }
            if keeps_own {
                session.set_level(level);
                return None;
            }
            let before = route.audience.level();
            let shared = match Box::pin(able(route, session, &["logging"])).await {
                Ok(Some(shared)) => shared,
                Ok(None) => return Some(error(METHOD_NOT_FOUND, "this upstream offers no logging")),
                Err(unavailable) => return Some(Event::Response(unavailable.trouble().response(Some(id)))),
            };
            session.set_level(level);
            if shared.profile.is_modern() {
                // It is told with each request.
                return Some(done());
            }
            match route.audience.level() {
                Some(now) if before != Some(now) => {
                    let params = format!(r#"{{"level":"{}"}}"#, now.as_str());
                    Some(Box::pin(relay(&shared, id, "logging/setLevel", &params)).await)
                }
                _ => Some(done()),
            }
        }
        method @ ("resources/subscribe" | "resources/unsubscribe") => {
            let on = method == "resources/subscribe";
            let Some(uri) = uri_of(message) else { return Some(error(INVALID_PARAMS, "`uri` must be a string")) };
            if route.isolation() == Isolation::Call && !keeps_own {
                return Some(error(
                    METHOD_NOT_FOUND,
                    "each call may meet another process: none could be subscribed to",
                ));
            }
            if keeps_own {
                session.subscribe(&uri, on);
                return None;
            }
            let shared = match Box::pin(able(route, session, &["resources", "subscribe"])).await {
                Ok(Some(shared)) => shared,
                Ok(None) => return Some(error(METHOD_NOT_FOUND, "this upstream offers no subscriptions")),
                Err(unavailable) => return Some(Event::Response(unavailable.trouble().response(Some(id)))),
            };
            let apart = shared.keeps_apart();
            if route.audience.subscribe(session, &uri, on, apart) == Wish::Settled {
                return Some(done());
            }
            if shared.profile.is_modern() {
                let taken = Box::pin(shared.subscribe(&session.whose(), &uri, on)).await || !on;
                if !taken {
                    route.audience.subscribe(session, &uri, false, apart);
                }
                let refused = || error(INVALID_PARAMS, "the upstream does not tell of changes of this resource");
                return Some(if taken { done() } else { refused() });
            }
            let params = serde_json::json!({ "uri": uri }).to_string();
            let answer = Box::pin(relay(&shared, id, method, &params)).await;
            let refused = |bytes: &Bytes| memchr::memmem::find(bytes, b"\"error\"").is_some();
            if on && matches!(&answer, Event::Response(bytes) if refused(bytes)) {
                route.audience.subscribe(session, &uri, false, apart);
            }
            Some(answer)
        }
        _ => None,
    }
}

/// What is settled in another way where a process is shared.
fn is_wish(method: &str) -> bool {
    matches!(method, "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe")
}

/// The process that everybody shares, if there is one and it can do this. A pool has none, and starts none.
async fn able(route: &Route, session: &Arc<Session>, capability: &[&str]) -> Result<Option<Arc<Bridged>>, Unavailable> {
    if route.isolation() != Isolation::Shared {
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
pub async fn notify(route: &Arc<Route>, session: &Arc<Session>, message: &Message) {
    if message.kind() == Kind::Response {
        if let Some((bridged, number)) = message.id().and_then(|id| session.answered(id)) {
            // Before 2025-11-25 a sampled message had one block of content.
            let plain = message.result().and_then(|result| content::answer(result, bridged.profile.speaks));
            let plain = plain.and_then(|result| message::one(message::response(message.id()?, &result)));
            bridged.connection.answer(number, plain.as_ref().unwrap_or(message)).await;
        }
        return;
    }
    let member = |name| {
        let [value] = message.param([name]).ok()?;
        Id::read(value?)
    };
    match message.method() {
        // Ours was sent with the handshake.
        "notifications/initialized" => {}
        // A newer server asks for the roots when it needs them.
        "notifications/roots/list_changed" if session.own.load().is_none() => {}
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
        // A call that wants no answer would still be a call.
        "tools/call" if policy::is_guarded(&route.config) => {
            tracing::debug!(upstream = %route.name, "a call without an id was not passed on");
        }
        method => match session.own.load_full().filter(|own| !own.connection.is_over()) {
            Some(own) => drop(own.connection.notify(message.bytes().clone()).await),
            // What one client says of itself means nothing to a process that others use too.
            None => tracing::debug!(upstream = %route.name, method, "a notification was not passed on"),
        },
    }
}
