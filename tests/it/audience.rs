//! What several clients together want of a process that they share.

use serde_json::{Value, json};

use super::fixture::{Client, Hub, SseClient, Stream, rogue};

const SHARED: &str = "isolation = 'shared'";

fn hub() -> Hub {
    Hub::start(&rogue("a", &[], SHARED))
}

/// What the process remembers, by the tool that tells it.
async fn remembered(client: &Client, tool: &str) -> Value {
    serde_json::from_str(&client.call(tool, json!({})).await.tool_text()).unwrap()
}

async fn subscribe(client: &Client, method: &str, uri: &str) {
    let answer = client.request(&format!("resources/{method}"), json!({ "uri": uri })).await;
    assert_eq!(answer.last()["result"], json!({}), "{answer:?}");
}

/// The resource of the next message.
async fn updated(stream: &mut Stream) -> String {
    let message = stream.message().await.unwrap();
    assert_eq!(message["method"], "notifications/resources/updated");
    message["params"]["uri"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn p55_a_resource_is_subscribed_with_the_first_and_released_with_the_last() {
    let hub = hub();
    let (one, two, third) =
        (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let (mut to_one, mut to_two, mut to_third) = (one.get(None).await, two.get(None).await, third.get(None).await);
    subscribe(&one, "subscribe", "rogue://one").await;
    subscribe(&one, "subscribe", "rogue://one").await;
    subscribe(&two, "subscribe", "rogue://one").await;
    subscribe(&two, "subscribe", "rogue://two").await;
    let so_far = json!(["subscribe rogue://one", "subscribe rogue://two"]);
    assert_eq!(remembered(&one, "subscriptions").await, so_far);
    // Each hears of what it subscribed to, and of its parts.
    for uri in ["rogue://two", "rogue://one", "rogue://two/part"] {
        third.call("updated", json!({ "uri": uri })).await;
    }
    assert_eq!(updated(&mut to_one).await, "rogue://one");
    assert_eq!(updated(&mut to_two).await, "rogue://two");
    assert_eq!(updated(&mut to_two).await, "rogue://one");
    assert_eq!(updated(&mut to_two).await, "rogue://two/part");
    // One leaves; for the other nothing changes.
    subscribe(&one, "unsubscribe", "rogue://one").await;
    subscribe(&one, "unsubscribe", "rogue://one").await;
    assert_eq!(remembered(&one, "subscriptions").await, so_far);
    third.call("updated", json!({ "uri": "rogue://one" })).await;
    assert_eq!(updated(&mut to_two).await, "rogue://one");
    // The last one leaves, by words or by the end of its session.
    subscribe(&two, "unsubscribe", "rogue://one").await;
    assert_eq!(two.delete().await, 204);
    let mut all = Value::Null;
    while all.as_array().is_none_or(|all| all.len() < 4) {
        all = remembered(&one, "subscriptions").await;
    }
    assert_eq!([&all[2], &all[3]], ["unsubscribe rogue://one", "unsubscribe rogue://two"]);
    // Who never subscribed heard nothing: this is the first it hears.
    third.call("list_changed", json!({ "count": 1 })).await;
    for stream in [&mut to_one, &mut to_third] {
        assert_eq!(stream.message().await.unwrap()["method"], "notifications/tools/list_changed");
    }
}

#[tokio::test]
async fn p55_subscriptions_outlive_the_process_and_the_connection() {
    let hub = hub();
    let (client, other) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    subscribe(&client, "subscribe", "rogue://one").await;
    let mut stream = client.get(None).await;
    other.call("updated", json!({ "uri": "rogue://one" })).await;
    assert_eq!(updated(&mut stream).await, "rogue://one");
    // The reader comes back, and has missed nothing.
    drop(stream);
    hub.until("it is gone", |status| status["streams"] == 0).await;
    other.call("updated", json!({ "uri": "rogue://one" })).await;
    let mut stream = client.get(None).await;
    assert_eq!(updated(&mut stream).await, "rogue://one");
    // A new process is told what the last one knew.
    let pid = remembered(&other, "pid").await;
    other.call("crash", json!({ "code": 3 })).await;
    hub.until_upstream("a", |upstream| {
        upstream["pids"].as_array().is_some_and(|pids| pids.len() == 1 && pids[0] != pid)
    })
    .await;
    while remembered(&other, "subscriptions").await != json!(["subscribe rogue://one"]) {}
    other.call("updated", json!({ "uri": "rogue://one" })).await;
    let mut message = stream.message().await.unwrap();
    while message["method"] != "notifications/resources/updated" {
        message = stream.message().await.unwrap();
    }
}

#[tokio::test]
async fn p56_each_client_gets_the_level_it_asked_for() {
    let hub = hub();
    let quiet = Client::open(&hub, "/a/mcp").await;
    let verbose = Client::open(&hub, "/a/mcp").await;
    let level = async |client: &Client, level: &str| {
        let answer = client.request("logging/setLevel", json!({ "level": level })).await;
        assert_eq!(answer.last()["result"], json!({}), "{answer:?}");
    };
    // A log message that comes within a call is that call's.
    let heard = async |client: &Client, level: &str| {
        let messages = client.call("log", json!({ "level": level, "text": "x" })).await.messages();
        messages.iter().filter(|message| message["method"] == "notifications/message").count()
    };
    level(&quiet, "error").await;
    level(&verbose, "debug").await;
    for (client, severity, expected) in [
        (&quiet, "debug", 0),
        (&quiet, "warning", 0),
        (&quiet, "error", 1),
        (&quiet, "emergency", 1),
        (&verbose, "debug", 1),
        (&verbose, "info", 1),
    ] {
        assert_eq!(heard(client, severity).await, expected, "{severity}");
    }
    level(&quiet, "debug").await;
    assert_eq!(heard(&quiet, "debug").await, 1);
    // The process is told the most verbose level, and only when it changes.
    assert_eq!(remembered(&quiet, "levels").await.as_array().unwrap().last(), Some(&json!("debug")));
    for bad in [json!({ "level": "loud" }), json!({ "level": 7 }), json!({}), json!({ "level": "DEBUG" })] {
        assert_eq!(quiet.request("logging/setLevel", bad.clone()).await.error().0, -32602, "{bad}");
    }
}

#[tokio::test]
async fn p56_a_level_of_ones_own_process_is_its_own() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    for (client, level) in [(&one, "error"), (&two, "debug")] {
        client.request("logging/setLevel", json!({ "level": level })).await;
        assert_eq!(remembered(client, "levels").await, json!([level]));
    }
}

#[tokio::test]
async fn p7_progress_of_equal_tokens_is_told_apart() {
    let hub = hub();
    let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let mut older = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let call = |count: u64| {
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": { "name": "progress", "arguments": { "count": count, "ms": 2 }, "_meta": { "progressToken": 1 } } })
    };
    let (twenty, thirty) = (call(20), call(30));
    older.send(&call(10)).await;
    let (first, second) = tokio::join!(one.send(&twenty), two.send(&thirty));
    for (answer, count) in [(first, 20), (second, 30)] {
        let messages = answer.messages();
        let (last, progress) = messages.split_last().unwrap();
        assert_eq!((last["id"].as_i64(), progress.len()), (Some(1), count));
        assert!(progress.iter().all(|step| step["params"]["total"] == count && step["params"]["progressToken"] == 1));
    }
    for _ in 0..10 {
        assert_eq!(older.stream.message().await.unwrap()["params"]["total"], 10);
    }
    assert_eq!(older.stream.message().await.unwrap()["result"]["content"][0]["text"], "10");
}

#[tokio::test]
async fn p7_a_token_that_only_looks_like_anothers_is_refused() {
    let hub = hub();
    let client = Client::open(&hub, "/a/mcp").await;
    for token in ["7.0", "7e0", "true", "{}", "[7]"] {
        // Sent to a process that prints numbers its own way, 7.0 would come back as the token of another call.
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"progress","arguments":{{"count":1}},"_meta":{{"progressToken":{token}}}}}}}"#
        );
        let refused = client.send(&serde_json::from_str(&text).unwrap()).await;
        assert_eq!((refused.status, refused.error().0), (200, -32602), "{token}");
    }
}
