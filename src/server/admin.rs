//! Health and status.
//!
//! `/ping`, `/healthz` and `/readyz` answer anybody with one word.

use std::{
    sync::atomic::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{HttpRequest, HttpResponse, http::Method};
use serde_json::{Value, json};

use super::rescue::Refusal;
use crate::{
    access::Principal,
    config::{HubConfig, Isolation, Start},
    hub::{
        House,
        certificate::days_left,
        routes::{Route, State},
    },
};

/// Names of tools that are shown of each upstream.
const NAMES_MAX: usize = 100;

/// Answers anybody with one word, if the path asks for one.
pub fn word(request: &HttpRequest, house: &House, path: &str) -> Option<Result<HttpResponse, Refusal>> {
    let serving = !house.draining.is_cancelled();
    let response = match path {
        "/ping" => said(true, "pong", ""),
        "/healthz" => said(true, "ok", ""),
        "/readyz" => said(serving && house.status.load().generation > 0, "ready", "not ready"),
        _ => return None,
    };
    Some(looked_at(request, response))
}

/// Serves another page of the hub's own, to those who may know of it.
pub fn serve(
    request: &HttpRequest,
    house: &House,
    config: &HubConfig,
    principal: &Principal,
    path: &str,
) -> Result<HttpResponse, Refusal> {
    let gate = house.gate.load();
    let may = |route: &Route| house.bars(&gate, config, route, principal).is_none();
    if path == "/api/v1/status" {
        return looked_at(request, HttpResponse::Ok().json(status(house, may)));
    }
    let route = path.strip_prefix("/readyz/").and_then(|name| house.table.find(name));
    let route = route.filter(|route| may(route)).ok_or(Refusal::NoMount)?;
    let state = route.serving.status.load().state;
    let ready = !house.draining.is_cancelled() && matches!(state, State::Idle | State::Starting | State::Ready);
    looked_at(request, said(ready, "ready", state.as_str()))
}

fn said(ready: bool, good: &'static str, bad: &'static str) -> HttpResponse {
    let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.content_type("text/plain; charset=utf-8").body(if ready { good } else { bad })
}

fn looked_at(request: &HttpRequest, response: HttpResponse) -> Result<HttpResponse, Refusal> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(response),
        _ => Err(Refusal::Method { method: request.method().to_string(), allow: "GET, HEAD" }),
    }
}

/// The hub as JSON, with those upstreams that somebody may know of.
pub fn status(house: &House, may: impl Fn(&Route) -> bool) -> Value {
    let hub = house.status.load();
    let routes = house.table.load();
    let upstreams: Vec<Value> =
        routes.by_name.values().filter(|route| may(route)).map(|route| upstream(route)).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": time(hub.started),
        "draining": house.draining.is_cancelled(),
        "sessions": house.engine.sessions.load(Ordering::Relaxed),
        "streams": house.engine.streams.load(Ordering::Relaxed),
        "supervisor_panics": hub.panics,
        "reload": {
            "generation": hub.generation,
            "hash": hub.hash,
            "applied": time(hub.applied),
            "plan": hub.plan,
            "rejected": hub.rejected,
        },
        "certificates": certificates(house),
        "upstreams": upstreams,
    })
}

/// With what we speak TLS; none where we do not.
fn certificates(house: &House) -> Vec<Value> {
    let config = house.config.load();
    let all = config.tls.iter().map(|tls| {
        json!({
            "names": tls.identity.names,
            "not_after": time(tls.identity.not_after),
            "days_left": days_left(tls),
            "error": house.renewal.error(),
        })
    });
    all.collect()
}

fn upstream(route: &Route) -> Value {
    let (config, serving) = (&route.config, &route.serving);
    let status = serving.status.load();
    let profile = serving.profile.load();
    let tools = serving.tools.status(config);
    let changed = tools.changed.iter().take(NAMES_MAX).map(|(name, what)| json!({ "name": name, "what": what }));
    json!({
        "name": route.name.as_str(),
        "state": status.state.as_str(),
        "reason": status.reason,
        "notice": serving.notice.load().as_deref(),
        "since": status.since.map(time),
        "retry_in_seconds": status.retry_in.map(|after| after.as_secs_f64()),
        "kind": if config.remote.is_some() { "remote" } else { "stdio" },
        "url": config.remote.as_ref().map(|remote| remote.url_shown()),
        "isolation": match config.isolation {
            Isolation::Session => "session",
            Isolation::Call => "call",
            Isolation::Shared => "shared",
        },
        "start": match config.start { Start::Lazy => "lazy", Start::Eager => "eager" },
        "pids": status.pids,
        "restarts": status.restarts,
        "sessions": route.audience.len(),
        "calls": serving.calls.load(Ordering::Relaxed),
        "errors": serving.errors.load(Ordering::Relaxed),
        "revision": profile.as_ref().map(|profile| profile.speaks.as_str()),
        "server": profile.as_ref().map(|profile| profile.result["serverInfo"].clone()),
        "tools": {
            "count": tools.count,
            "hash": tools.hash,
            "since": tools.since.map(time),
            "changed": changed.collect::<Vec<_>>(),
            "changes": tools.changes,
            "pinned": config.pin_tools,
            "withheld": tools.withheld.iter().take(NAMES_MAX).collect::<Vec<_>>(),
            "trouble": tools.trouble,
        },
        "stderr": status.stderr,
    })
}

fn time(at: SystemTime) -> Value {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    jiff::Timestamp::from_second(seconds as i64).map(|at| Value::from(at.to_string())).unwrap_or(Value::Null)
}
