//! What each request says of itself in its headers, and what it never says.

use serde_json::json;

use super::*;
use crate::{
    fixture::{answer, http},
    peer::{legacy, modern},
    request::Request,
};

const KEYS: &str = "headers = { X-Key = 'ours' }\nforward_headers = ['x-trace', 'x-tenant']\nisolation = 'shared'";

#[tokio::test]
async fn t5_a_request_to_a_newer_server_says_what_it_is() {
    let peer = modern(|_| None).await;
    let hub = Hub::start(&peer.upstream("a", KEYS));
    let client = Client::open(&hub, "/a/mcp").await;
    client.request("tools/list", json!({})).await;
    for tool in ["echo", "grüße", " blank", "=?base64?x?="] {
        client.call(tool, json!({})).await;
    }
    for seen in peer.seen() {
        assert_eq!((seen.verb.as_str(), seen.header("content-type")), ("POST", Some("application/json")));
        assert_eq!(seen.header("accept"), Some("application/json, text/event-stream"));
        assert_eq!(seen.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(seen.header("mcp-method"), Some(seen.method()));
        assert_eq!((seen.header("mcp-session-id"), seen.header("x-key")), (None, Some("ours")));
        assert_eq!(seen.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    }
    let calls = peer.of("tools/call");
    let names: Vec<_> = calls.iter().map(|seen| seen.header("mcp-name").unwrap_or_default()).collect();
    let expected = ["echo", "=?base64?Z3LDvMOfZQ==?=", "=?base64?IGJsYW5r?=", "=?base64?PT9iYXNlNjQ/eD89?="];
    assert_eq!(names, expected);
    assert_eq!(peer.of("tools/list")[0].header("mcp-name"), None);
}

#[tokio::test]
async fn t3_a_request_to_an_older_server_names_its_session() {
    let peer = legacy(|_| None).await;
    let hub = Hub::start(&peer.upstream("a", KEYS));
    let client = Client::open(&hub, "/a/mcp").await;
    echo(&client, "x").await;
    peer.until("GET", 1).await;
    let mut seen = peer.seen();
    seen.retain(|seen| seen.method() != "server/discover");
    let greeting = seen.remove(0);
    assert_eq!((greeting.header("mcp-session-id"), greeting.header("mcp-protocol-version")), (None, None));
    for seen in seen {
        let found = (seen.header("mcp-session-id"), seen.header("mcp-protocol-version"));
        assert_eq!(found, (Some("s1"), Some("2025-11-25")), "{seen:?}");
        assert_eq!((seen.header("mcp-method"), seen.header("x-key")), (None, Some("ours")));
        let accept = if seen.verb == "GET" { "text/event-stream" } else { "application/json, text/event-stream" };
        assert_eq!(seen.header("accept"), Some(accept));
    }
}

#[tokio::test]
async fn p63_a_callers_credentials_end_at_the_hub() {
    for peer in [legacy(|_| None).await, modern(|_| None).await] {
        let hub = Hub::start(&peer.upstream("a", KEYS));
        let client = Client::open(&hub, "/a/mcp").await;
        let older = http()
            .post(&client.url)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-session-id", &client.session)
            .body(
                json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": { "name": "echo" } }).to_string(),
            );
        let newer = Request::call(&hub, "/a/mcp", "echo", json!({})).build();
        for request in [older, newer] {
            let request = request
                .header("content-type", "application/json")
                .header("authorization", "Bearer CALLER")
                .header("cookie", "k=CALLER")
                .header("proxy-authorization", "Basic CALLER")
                .header("x-api-key", "CALLER")
                .header("x-trace", "t1")
                .header("x-tenant", "t2")
                .header("x-key", "CALLER");
            let answer = answer(request).await;
            assert_eq!(answer.tool_text(), "called");
        }
        let calls = peer.of("tools/call");
        assert_eq!(calls.len(), 2);
        for call in calls {
            let found = ["x-trace", "x-tenant", "x-key"].map(|name| call.header(name).unwrap_or_default().to_owned());
            assert_eq!(found, ["t1", "t2", "ours"]);
        }
        assert!(peer.seen().iter().all(|seen| !format!("{:?}", seen.headers).contains("CALLER")));
    }
}

#[tokio::test]
async fn p50_what_a_newer_client_repeats_for_nobody_we_know_goes_on() {
    for peer in [modern(|_| None).await, legacy(|_| None).await] {
        let hub = Hub::start(&peer.upstream("a", "isolation = 'shared'"));
        let request = Request::call(&hub, "/a/mcp", "echo", json!({})).build();
        let answer = answer(request.header("mcp-param-region", "eu").header("x-trace", "no")).await;
        assert_eq!(answer.tool_text(), "called");
        let call = &peer.of("tools/call")[0];
        assert_eq!((call.header("mcp-param-region"), call.header("x-trace")), (Some("eu"), None));
    }
}

#[tokio::test]
async fn reload_the_headers_to_pass_on_change_in_place() {
    let peer = modern(|_| None).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let send = async || {
        let request = Request::call(&hub, "/a/mcp", "echo", json!({})).build().header("x-trace", "t");
        assert_eq!(answer(request).await.tool_text(), "called");
        peer.of("tools/call").last().unwrap().header("x-trace").map(str::to_owned)
    };
    assert_eq!(send().await, None);
    hub.edit(&peer.upstream("a", "forward_headers = ['X-Trace']"));
    hub.generation(2).await;
    assert_eq!(send().await.as_deref(), Some("t"));
    assert_eq!(peer.count("server/discover"), 1);
}
