//! What passes between the client's pipes and the server's HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    fixture::Hub,
    peer::{Peer, Reply, legacy, modern},
};

const META: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"}}"#;

fn meta() -> Value {
    serde_json::from_str(META).expect("JSON")
}

#[tokio::test]
async fn p4_whatever_comes_first_is_answered_and_nothing_ends() {
    let peer = legacy(|_| None).await;
    let mut bridge = Bridge::start(&[&peer.url("/mcp")]);
    bridge.line("no JSON at all").await;
    assert_eq!(bridge.hear().await["error"]["code"], -32700);
    bridge.line(r#"{"jsonrpc":"2.0","id":"x"}"#).await;
    assert_eq!(bridge.hear().await["error"]["code"], -32600);
    assert_eq!(bridge.ask("tools/list", json!({})).await["error"]["code"], -32600);
    assert_eq!(bridge.ask("ping", json!({})).await["result"], json!({}));
    assert!(bridge.ask("server/discover", json!({})).await["result"]["supportedVersions"].is_array());
    // Notifications get no answer (S3.57): the next line is the next request's.
    bridge.say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 99 } })).await;
    bridge.open().await;
    assert_eq!(bridge.echo("hello").await, "hello");
}

#[tokio::test]
async fn s4_78_servers_and_clients_of_both_eras_meet_over_both_transports() {
    let hub = Hub::start("[upstreams.demo]\ncommand = \"hubward\"\nargs = [\"demo\"]\n");
    let newer = modern(|_| None).await;
    for (url, sum) in [(hub.url("/demo/mcp"), true), (hub.url("/demo/sse"), true), (newer.url("/mcp"), false)] {
        let mut bridge = Bridge::start(&[&url]);
        // Requests that stand alone, before and beside a session.
        let (name, arguments) = if sum { ("add", json!({ "a": 2, "b": 3 })) } else { ("echo", json!({ "text": "5" })) };
        let call = |meta: Value| json!({ "name": name, "arguments": arguments, "_meta": meta });
        let answer = bridge.ask("tools/call", call(meta())).await;
        assert_eq!(
            (&answer["result"]["content"][0]["text"], &answer["result"]["resultType"]),
            (&json!("5"), &json!("complete"))
        );
        assert_eq!(bridge.open().await["result"]["protocolVersion"], "2025-06-18");
        let answer = bridge.ask("tools/call", call(json!({}))).await;
        assert_eq!(
            (&answer["result"]["content"][0]["text"], &answer["result"]["resultType"]),
            (&json!("5"), &Value::Null)
        );
    }
}

#[tokio::test]
async fn s3_52_s3_58_progress_and_what_a_server_says_or_asks_reach_the_client() {
    let hub = Hub::start("[upstreams.demo]\ncommand = \"hubward\"\nargs = [\"demo\"]\n");
    for url in [hub.url("/demo/mcp"), hub.url("/demo/sse")] {
        let mut bridge = Bridge::start(&[&url]);
        let mut hello = initialize("2025-06-18");
        hello["capabilities"] = json!({ "elicitation": {} });
        bridge.ask("initialize", hello).await;
        bridge.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        let call =
            json!({ "name": "slow", "arguments": { "steps": 2, "seconds": 0.02 }, "_meta": { "progressToken": "p" } });
        let call = bridge.request("tools/call", call);
        bridge.say(&call).await;
        let mut methods = Vec::new();
        loop {
            let message = bridge.hear().await;
            if message["id"] == call["id"] {
                assert!(message["result"].is_object(), "{message}");
                break;
            }
            methods.push((message["method"].clone(), message["params"]["progressToken"].clone()));
        }
        assert!(methods.contains(&(json!("notifications/progress"), json!("p"))), "{methods:?}");
        let ask = bridge.request("tools/call", json!({ "name": "ask_name", "arguments": {} }));
        bridge.say(&ask).await;
        let question = bridge.hear().await;
        assert_eq!(question["method"], "elicitation/create", "{question}");
        let answer = json!({ "action": "accept", "content": { "name": "Ada" } });
        bridge.say(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": answer })).await;
        let answer = bridge.hear().await;
        assert!(answer["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains("Ada")), "{answer}");
    }
}

#[tokio::test]
async fn s3_49_s3_50_each_request_has_the_headers_of_its_revision_and_session() {
    let peer = legacy(|_| None).await;
    let mut bridge = Bridge::start(&[&peer.url("/mcp")]);
    bridge.open().await;
    bridge.echo("x").await;
    let call = peer.until("tools/call", 1).await.remove(0);
    assert_eq!(call.header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(call.header("mcp-session-id"), Some("s1"));
    // What was agreed on with this server, and not a revision for all.
    assert_eq!(call.header("mcp-protocol-version"), Some("2025-11-25"));
    // Once, although the client says it too (S3.51).
    assert_eq!(peer.until("notifications/initialized", 1).await.len(), 1);
}

#[tokio::test]
async fn s3_53_an_error_of_http_is_told_with_its_status_and_details() {
    let peer = legacy(|seen| match seen.method() {
        "tools/call" => Some(Reply::status(503).header("retry-after", "7").bytes("the kitchen is closed")),
        _ => None,
    })
    .await;
    let mut bridge = Bridge::start(&[&peer.url("/mcp")]);
    bridge.open().await;
    let answer = bridge.ask("tools/call", json!({ "name": "echo" })).await;
    let error = &answer["error"];
    assert_eq!((&error["code"], &error["data"]["http_status"]), (&json!(-32603), &json!(503)), "{answer}");
    assert_eq!(error["data"]["retryAfterMs"], 7000);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("the kitchen is closed")), "{answer}");
}

#[tokio::test]
async fn s3_56_calls_do_not_wait_for_each_other() {
    let gate = crate::peer::Gate::new();
    let door = gate.clone();
    let peer = legacy(move |seen| match seen.body["params"]["arguments"]["text"].as_str() {
        Some("slow") => Some(Reply::json(&seen.text("slow")).wait(&door)),
        _ => None,
    })
    .await;
    let mut bridge = Bridge::start(&[&peer.url("/mcp")]);
    bridge.open().await;
    let slow = bridge.request("tools/call", json!({ "name": "echo", "arguments": { "text": "slow" } }));
    bridge.say(&slow).await;
    peer.until("tools/call", 1).await;
    assert_eq!(bridge.echo("fast").await, "fast");
    gate.open();
    assert_eq!(bridge.hear().await["id"], slow["id"]);
}

#[tokio::test]
async fn f134_stdin_ends_and_so_does_everything_within_a_second_with_delete_sent() {
    let peer = legacy(|seen| (seen.method() == "tools/call").then(|| Reply::nothing().hold())).await;
    let mut bridge = Bridge::start(&[&peer.url("/mcp")]);
    bridge.open().await;
    let call = bridge.request("tools/call", json!({ "name": "echo" }));
    bridge.say(&call).await;
    peer.until("tools/call", 1).await;
    let (_, code, said, took) = bridge.close().await;
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(took < Duration::from_secs(1), "{took:?}");
    let bye = peer.until("DELETE", 1).await.remove(0);
    assert_eq!(bye.header("mcp-session-id"), Some("s1"));
}

#[tokio::test]
async fn f134_what_is_piped_in_is_answered_although_stdin_has_ended() {
    let peer = legacy(|_| None).await;
    let mut bridge = Bridge::start(&[&peer.url("/mcp")]);
    let hello = bridge.request("initialize", initialize("2025-06-18"));
    let call = bridge.request("tools/call", json!({ "name": "echo", "arguments": { "text": "last" } }));
    bridge.say(&hello).await;
    bridge.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    bridge.say(&call).await;
    let (rest, code, ..) = bridge.close().await;
    assert_eq!(code, 0);
    let answers: Vec<&Value> = rest.iter().map(|message| &message["id"]).collect();
    assert_eq!(answers, [&hello["id"], &call["id"]], "{rest:?}");
}

#[tokio::test]
async fn f135_s3_59_nothing_but_messages_on_stdout_and_nothing_secret_in_the_log() {
    let peer = legacy(|_| None).await;
    let mut bridge = Bridge::start(&[&peer.url("/mcp"), "--debug", "--header", "Authorization: Bearer t0psecret"]);
    bridge.open().await;
    bridge.echo("x").await;
    let (rest, code, said, _) = bridge.close().await;
    assert_eq!((rest.len(), code), (0, 0));
    assert!(said.contains("DEBUG") && !said.contains("t0psecret"), "{said}");
    assert_eq!(peer.of("tools/call")[0].header("authorization"), Some("Bearer t0psecret"));
}

#[tokio::test]
async fn s2_17_f141_a_server_that_goes_and_comes_back_is_used_again() {
    let peer = legacy(|_| None).await;
    let mut bridge = Bridge::start(&[&peer.url("/mcp")]);
    bridge.open().await;
    assert_eq!(bridge.echo("before").await, "before");
    peer.stop().await;
    let lost = bridge.ask("tools/call", json!({ "name": "echo" })).await;
    assert!(lost["error"]["message"].as_str().is_some_and(|text| text.contains("cannot be reached")), "{lost}");
    peer.restart().await;
    for _ in 0..200 {
        let answer = bridge.ask("tools/call", json!({ "name": "echo", "arguments": { "text": "after" } })).await;
        if answer["result"]["content"][0]["text"] == "after" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it was not used again");
}

#[tokio::test]
async fn a_newer_client_cancels_and_listens_over_stdio() {
    let hub = Hub::start("[upstreams.demo]\ncommand = \"hubward\"\nargs = [\"demo\"]\n");
    let mut bridge = Bridge::start(&[&hub.url("/demo/mcp")]);
    let listen = bridge
        .request("subscriptions/listen", json!({ "notifications": { "toolsListChanged": true }, "_meta": meta() }));
    bridge.say(&listen).await;
    let first = bridge.hear().await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
    let slow = json!({ "name": "slow", "arguments": { "steps": 1, "seconds": 60 }, "_meta": meta() });
    let slow = bridge.request("tools/call", slow);
    bridge.say(&slow).await;
    bridge
        .say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": slow["id"] } }))
        .await;
    let answer =
        bridge.ask("tools/call", json!({ "name": "echo", "arguments": { "text": "x" }, "_meta": meta() })).await;
    assert_eq!(answer["result"]["content"][0]["text"], "x");
    let (rest, code, ..) = bridge.close().await;
    assert!(code == 0 && rest.iter().all(|message| message["id"] != slow["id"]), "{rest:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_and_no_end() {
    let gone = Peer::new(|_| Reply::status(204)).await;
    gone.stop().await;
    let mut bridge = Bridge::start(&[&gone.url("/mcp")]);
    let answer = bridge.ask("initialize", initialize("2025-06-18")).await;
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("cannot be reached")), "{answer}");
    assert_eq!(bridge.ask("ping", json!({})).await["result"], json!({}));
}
