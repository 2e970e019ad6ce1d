//! Scripts of well-behaved servers, for tests that change one thing.

use serde_json::{Value, json};

use super::{Peer, Reply, Seen};

/// A server of 2025-11-25 with sessions `s1`, `s2` … and one tool, `echo`; `over` may answer in its place.
pub async fn legacy(over: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Peer {
    Peer::new(legacy_script(over)).await
}

pub fn legacy_script(over: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> impl Fn(&Seen) -> Reply {
    move |seen| over(seen).unwrap_or_else(|| older(seen))
}

/// What a server of the older era answers.
pub fn older(seen: &Seen) -> Reply {
    let capabilities = json!({
        "tools": { "listChanged": true }, "logging": {}, "resources": { "subscribe": true, "listChanged": true } });
    match seen.method() {
        "server/discover" => Reply::json(&seen.error(-32601, "no such method", Value::Null)),
        "initialize" => Reply::json(&seen.result(json!({
            "protocolVersion": "2025-11-25", "capabilities": capabilities,
            "serverInfo": { "name": "older", "version": "1" } })))
        .header("mcp-session-id", &format!("s{}", seen.before + 1)),
        "GET" => Reply::status(405),
        "DELETE" => Reply::status(204),
        "tools/list" => Reply::json(&seen.result(tools())),
        "tools/call" => Reply::json(&seen.text(seen.body["params"]["arguments"]["text"].as_str().unwrap_or("called"))),
        _ if seen.body["id"].is_null() || seen.method() == "an answer" => Reply::status(202),
        _ => Reply::json(&seen.result(json!({}))),
    }
}

/// A server of 2026-07-28 with one tool, `echo`; `over` may answer in its place.
pub async fn modern(over: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Peer {
    Peer::new(move |seen| over(seen).unwrap_or_else(|| newer(seen))).await
}

/// What a server of the newer era answers.
pub fn newer(seen: &Seen) -> Reply {
    let complete = |mut result: Value| {
        result["resultType"] = "complete".into();
        Reply::json(&seen.result(result))
    };
    match seen.method() {
        "server/discover" => complete(json!({
            "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} }, "ttlMs": 0, "cacheScope": "public",
            "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "newer", "version": "1" } } })),
        "tools/list" => complete(tools()),
        "tools/call" => Reply::json(&seen.text(seen.body["params"]["arguments"]["text"].as_str().unwrap_or("called"))),
        "GET" | "DELETE" => Reply::status(405),
        _ => Reply::json(&seen.error(-32601, "no such method", Value::Null)).with(404),
    }
}

fn tools() -> Value {
    json!({ "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }] })
}
