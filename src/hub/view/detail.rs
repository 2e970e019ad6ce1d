//! One upstream, with all that there is to see of it.

use serde_json::{Value, json};

use super::*;
use crate::{
    config::{shown, snippet::snippets},
    hub::session::Transport,
    observe::{
        journal::Line,
        meter::{Call, Minute, Moment},
        shelf::timestamp,
    },
};

/// Lines that are shown.
const LINES_MAX: usize = 200;
/// Clients that are shown.
const CLIENTS_MAX: usize = 200;

pub fn detail(house: &House, hub: &HubConfig, route: &Route) -> Value {
    let mut detail = upstream(house, hub, route);
    let meter = &route.serving.meter;
    detail["config"] = shown(&route.config).into();
    detail["clients_list"] = clients(route);
    detail["tool_list"] = tools(route);
    detail["log"] = route.serving.journal.tail(LINES_MAX).iter().map(line).collect();
    detail["recent"] = meter.calls().iter().map(call).collect();
    detail["timeline"] = meter.moments().iter().map(happened).collect();
    detail["minutes"] = meter.hour().iter().map(minute).collect();
    detail["connect"] = connect(house, hub, route);
    detail
}

/// What to give to a client, as the one who looks would write it down.
fn connect(house: &House, hub: &HubConfig, route: &Route) -> Value {
    let (name, mounts) = (route.name.as_str(), house.mounts(hub, route));
    // The default upstream has a shorter one too, which another may take over.
    let own = mounts.iter().find(|mount| mount.ends_with(&format!("/{name}/mcp"))).or(mounts.first());
    let url = own.map_or("", String::as_str);
    let needs_token = hub.access.is_asked_for();
    json!({ "url": url, "needs_token": needs_token, "clients": snippets(name, url, needs_token) })
}

fn clients(route: &Route) -> Value {
    let sessions = route.audience.all();
    let all = sessions.iter().take(CLIENTS_MAX).map(|session| {
        json!({
            "principal": session.owner.name(),
            "client": session.greeting().map(|greeting| greeting.client.clone()),
            "revision": session.speaks(),
            "transport": match session.transport {
                Transport::Streamable => "streamable-http",
                Transport::Sse => "sse",
                Transport::Stateless => "stateless",
            },
            "age_seconds": session.age().as_secs(),
            "idle_seconds": session.idle_for().as_secs(),
            "busy": session.is_busy(),
        })
    });
    all.collect()
}

fn tools(route: &Route) -> Value {
    let Some(tools) = route.serving.tools.last() else { return Value::Null };
    let visible = route.serving.tools.visible(&route.config).unwrap_or_default();
    let all = tools.iter().map(|(name, _)| json!({ "name": name, "withheld": !visible.contains(name) }));
    all.collect()
}

fn line(line: &Line) -> Value {
    json!({ "time": timestamp(line.time), "pid": line.pid, "kind": line.kind.as_str(), "line": &*line.text })
}

fn call(call: &Call) -> Value {
    json!({
        "time": timestamp(call.at),
        "principal": &*call.principal,
        "method": call.method,
        "tool": call.name.as_deref(),
        "outcome": call.outcome.as_str(),
        "code": call.outcome.code(),
        "ms": millis(call.took),
        "bytes_in": call.bytes_in,
        "bytes_out": call.bytes_out,
    })
}

fn happened(happened: &Moment) -> Value {
    json!({ "time": timestamp(happened.at), "event": happened.event, "text": happened.text })
}

fn minute(minute: &Minute) -> Value {
    json!({
        "calls": minute.calls,
        "errors": minute.errors,
        "p50_ms": minute.p50.map(millis),
        "p95_ms": minute.p95.map(millis),
    })
}
