//! A session outlives its child: whoever takes over is told what the client told the last one.

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, rogue};

async fn memory(client: &Client, tool: &str) -> Value {
    serde_json::from_str(&client.call(tool, json!({})).await.tool_text()).unwrap()
}

#[tokio::test]
async fn a_session_outlives_its_own_child_with_greeting_level_and_subscriptions() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start_in(folder, &rogue("a", &["--log", log.to_str().unwrap()], ""));
    let capabilities = json!({ "elicitation": {}, "roots": { "listChanged": true } });
    let client = Client::open_as(&hub, "/a/mcp", "2025-06-18", capabilities.clone()).await;
    for uri in ["rogue://one", "rogue://two"] {
        assert!(client.request("resources/subscribe", json!({ "uri": uri })).await.last()["result"].is_object());
    }
    client.request("resources/unsubscribe", json!({ "uri": "rogue://two" })).await;
    client.request("logging/setLevel", json!({ "level": "info" })).await;
    client.request("logging/setLevel", json!({ "level": "error" })).await;
    let mut unasked = client.get(None).await;
    let first = pid(&client).await;
    kill(first);
    // The death may be noticed by the next call; no client needs to open a new session for it.
    let second = loop {
        let answer = client.call("pid", json!({})).await;
        if answer.last()["result"].is_object() {
            break answer.tool_text().parse::<u32>().unwrap();
        }
        assert_eq!((answer.status, answer.error().0), (200, -32603));
    };
    assert_ne!(first, second);
    let who = memory(&client, "who").await;
    assert_eq!((&who["protocolVersion"], &who["capabilities"]), (&json!("2025-06-18"), &capabilities));
    assert_eq!(who["clientInfo"]["name"], "test");
    assert_eq!(memory(&client, "levels").await, json!(["error"]));
    assert_eq!(memory(&client, "subscriptions").await, json!(["subscribe rogue://one"]));
    assert_eq!(received(&log, "notifications/initialized").len(), 2);
    // The stream that was open before hears the new process.
    client.call("updated", json!({ "uri": "rogue://one" })).await;
    assert_eq!(unasked.message().await.unwrap()["params"]["uri"], "rogue://one");
}

#[tokio::test]
async fn sessions_outlive_a_shared_child_with_the_wishes_of_all() {
    let hub = Hub::start(&rogue("a", &[], "isolation = 'shared'"));
    let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    one.request("resources/subscribe", json!({ "uri": "rogue://one" })).await;
    two.request("resources/subscribe", json!({ "uri": "rogue://two" })).await;
    one.request("logging/setLevel", json!({ "level": "error" })).await;
    two.request("logging/setLevel", json!({ "level": "debug" })).await;
    let mut unasked = one.get(None).await;
    let first = pid(&one).await;
    kill(first);
    // Nobody has to call: a resource is watched, so the process is there again by itself.
    let pids = hub
        .until_upstream("a", |status| {
            status["pids"].as_array().is_some_and(|pids| !pids.is_empty() && pids[0] != first)
        })
        .await;
    assert_eq!(pid(&two).await, pids["pids"][0].as_u64().unwrap() as u32);
    let told = async |tool: &str, expected: Value| {
        // The calls overtake the replay, which nobody waits for.
        let began = std::time::Instant::now();
        while memory(&one, tool).await != expected {
            assert!(began.elapsed() < crate::fixture::PATIENCE, "{tool}: {}", memory(&one, tool).await);
        }
    };
    told("levels", json!(["debug"])).await;
    told("subscriptions", json!(["subscribe rogue://one", "subscribe rogue://two"])).await;
    two.call("updated", json!({ "uri": "rogue://one" })).await;
    assert_eq!(unasked.message().await.unwrap()["params"]["uri"], "rogue://one");
}

#[tokio::test]
async fn a_session_of_the_older_transport_outlives_its_child_too() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let mut client = crate::fixture::SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let call =
        |id: u64, tool: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool } });
    client.send(&call(1, "crash")).await;
    let error = client.stream.message().await.unwrap();
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(1), &json!(-32603)));
    client.send(&call(2, "pid")).await;
    let answer = client.stream.message().await.unwrap();
    assert_eq!((&answer["id"], answer["result"].is_object()), (&json!(2), true), "{answer}");
}
