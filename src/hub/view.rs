//! What is shown of the hub: the same for the status page, the API and `hubward status`.

pub mod detail;

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{
    House,
    certificate::days_left,
    routes::{Route, State},
};
use crate::{
    bridge::Profile,
    config::{HubConfig, Isolation, Start},
    link::tunnel,
};

/// Names of tools that are shown of each upstream.
const NAMES_MAX: usize = 100;

/// The hub, with those upstreams that somebody may know of.
pub fn status(house: &House, may: impl Fn(&Route) -> bool) -> Value {
    let config = house.config.load();
    let routes = house.table.load();
    let mut status = hub(house);
    status["upstreams"] =
        routes.by_name.values().filter(|route| may(route)).map(|r| upstream(house, &config, r)).collect();
    status
}

/// The hub without its upstreams.
pub fn hub(house: &House) -> Value {
    let hub = house.status.load();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": time(hub.started),
        "now": time(SystemTime::now()),
        "draining": house.leaving.is_cancelled(),
        "url": house.outside(&house.config.load()),
        "listeners": house.listeners.get(),
        "tunnel": tunnel(house),
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
    })
}

/// The way in from elsewhere; nothing where none is wanted.
fn tunnel(house: &House) -> Value {
    match &*house.tunnel.borrow() {
        tunnel::State::Off => Value::Null,
        tunnel::State::Opening(why) => json!({ "state": "opening", "url": null, "error": why }),
        tunnel::State::Open(lease) => json!({ "state": "open", "url": lease.base(), "error": null }),
        tunnel::State::Refused(why) => json!({ "state": "refused", "url": null, "error": why }),
    }
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

/// One upstream, in a few lines.
pub fn upstream(house: &House, hub: &HubConfig, route: &Route) -> Value {
    let (config, serving) = (&route.config, &route.serving);
    let status = serving.status.load();
    let profile = serving.profile.load();
    let tools = serving.tools.status(config);
    let changed = tools.changed.iter().take(NAMES_MAX).map(|(name, what)| json!({ "name": name, "what": what }));
    let lately = serving.meter.lately();
    let (legacy, modern) = route.audience.eras();
    json!({
        "name": route.name.as_str(),
        "state": status.state.as_str(),
        "reason": status.reason,
        "next": next(route, status.state, !tools.withheld.is_empty()),
        "notice": serving.notice.load_full().or_else(|| serving.journal.trouble()).as_deref(),
        "since": status.since.map(time),
        "retry_in_seconds": status.retry_in.map(seconds),
        "kind": if config.remote.is_some() { "remote" } else { "stdio" },
        "url": config.remote.as_ref().map(|remote| remote.url_shown()),
        "command": config.remote.is_none().then(|| config.command.to_string()),
        "isolation": match config.isolation {
            Isolation::Session => "session",
            Isolation::Call => "call",
            Isolation::Shared => "shared",
        },
        "start": match config.start { Start::Lazy => "lazy", Start::Eager => "eager" },
        "pids": status.pids,
        "restarts": status.restarts,
        "sessions": legacy + modern,
        "clients": { "legacy": legacy, "modern": modern },
        "in_flight": serving.meter.in_flight(),
        "calls": serving.meter.calls_forwarded(),
        "errors": serving.meter.calls_lost(),
        "calls_per_minute": lately.calls_per_minute,
        "p50_ms": lately.p50.map(millis),
        "p95_ms": lately.p95.map(millis),
        "error_percent": lately.errors,
        "revision": profile.as_ref().map(|profile| profile.speaks.as_str()),
        "era": profile.as_deref().map(era),
        "server": profile.as_ref().map(|profile| profile.result["serverInfo"].clone()),
        "mounts": house.mounts(hub, route),
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

/// What the operator can type, where something is to be done.
fn next(route: &Route, state: State, withheld: bool) -> Option<String> {
    let name = &route.name;
    let stopped = route.serving.stopped.load(Ordering::Relaxed);
    match state {
        State::NeedsAuth => Some(format!("hubward auth login {name}")),
        State::Disabled if stopped => Some(format!("hubward start {name}")),
        State::Disabled => Some(format!("enabled = true in [upstreams.{name}]")),
        State::Failed if route.config.unavailable.is_none() => Some(format!("hubward restart {name}")),
        State::Failed => Some("hubward check".into()),
        State::Waiting => Some(format!("hubward logs {name}")),
        _ if withheld => Some(format!("hubward accept {name}")),
        _ => None,
    }
}

fn era(profile: &Profile) -> &'static str {
    if profile.is_modern() { "modern" } else { "legacy" }
}

fn time(at: SystemTime) -> Value {
    let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let at = jiff::Timestamp::from_millisecond(millis as i64);
    at.map(|at| Value::from(format!("{at:.0}"))).unwrap_or(Value::Null)
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}
