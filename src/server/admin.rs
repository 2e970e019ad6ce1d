//! Health and status.
//!
//! `/ping`, `/healthz` and `/readyz` answer anybody with one word.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{HttpRequest, HttpResponse, http::Method};
use serde_json::{Value, json};

use super::rescue::Refusal;
use crate::{
    config::{Isolation, Start},
    hub::{
        House,
        certificate::days_left,
        routes::{Route, State},
    },
};

/// Serves a path of the hub's own, if it is one.
pub fn serve(request: &HttpRequest, house: &Arc<House>, path: &str) -> Option<Result<HttpResponse, Refusal>> {
    let word = |ready: bool, good: &'static str, bad: &'static str| {
        let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
        response.content_type("text/plain; charset=utf-8").body(if ready { good } else { bad })
    };
    let serving = !house.draining.is_cancelled();
    let response = match path {
        "/ping" => word(true, "pong", ""),
        "/healthz" => word(true, "ok", ""),
        "/readyz" => word(serving && house.status.load().generation > 0, "ready", "not ready"),
        "/api/v1/status" => HttpResponse::Ok().json(status(house)),
        _ => {
            let route = house.table.find(path.strip_prefix("/readyz/")?)?;
            let state = route.serving.status.load().state;
            word(serving && matches!(state, State::Idle | State::Starting | State::Ready), "ready", state.as_str())
        }
    };
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Some(Ok(response));
    }
    Some(Err(Refusal::Method { method: request.method().to_string(), allow: "GET, HEAD" }))
}

/// The whole hub as JSON.
pub fn status(house: &House) -> Value {
    let hub = house.status.load();
    let upstreams: Vec<Value> = house.table.load().by_name.values().map(|route| upstream(route)).collect();
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
        "stderr": status.stderr,
    })
}

fn time(at: SystemTime) -> Value {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    jiff::Timestamp::from_second(seconds as i64).map(|at| Value::from(at.to_string())).unwrap_or(Value::Null)
}
