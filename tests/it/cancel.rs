//! What cancels a call, and what does not.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fixture::{Client, Hub, SseClient, file_until, rogue};

const SHARED: &str = "isolation = 'shared'";

fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

fn cancel(id: impl Into<Value>) -> Value {
    let params = json!({ "requestId": id.into(), "reason": "changed my mind" });
    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })
}

/// A hub with an upstream `a` that writes down what it hears.
fn hub(keys: &str) -> (Hub, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    (Hub::start(&rogue("a", &["--log", log.to_str().unwrap()], keys)), log, folder)
}

/// Calls a tool that never answers; the mark tells the call in the log.
async fn hanging(client: &Client, log: &Path, id: impl Into<Value>, mark: &str) -> tokio::task::JoinHandle<Vec<Value>> {
    let (client, body) = (client.clone(), call(id, "hang", json!({ "mark": mark })));
    let call = tokio::spawn(async move { client.send(&body).await.messages() });
    file_until(log, |log| log.contains(&format!(r#""mark":"{mark}""#))).await;
    call
}

/// What the log says of a message: the id or, of a cancellation, the `requestId`.
fn upstream_id(log: &str, mark: &str) -> Value {
    let line = log.lines().find(|line| line.contains(&format!(r#""mark":"{mark}""#))).unwrap();
    serde_json::from_str::<Value>(line).unwrap()["id"].clone()
}

fn cancelled(log: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.contains("notifications/cancelled"));
    lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["params"]["requestId"].clone()).collect()
}

async fn inflight(client: &Client) -> String {
    client.call("inflight", json!({})).await.tool_text()
}

#[tokio::test]
async fn a_cancellation_reaches_the_process_with_the_id_it_knows() {
    for keys in ["", SHARED] {
        let (hub, log, _folder) = hub(keys);
        for (revision, id) in [("2025-03-26", json!(7)), ("2025-06-18", json!("seven")), ("2025-11-25", json!(7))] {
            let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
            let mark = format!("{revision}{}", keys.len());
            let call = hanging(&client, &log, id.clone(), &mark).await;
            // The same number as a string is another id.
            let other = if id.is_string() { json!(7) } else { json!("7") };
            assert_eq!(client.send(&cancel(other)).await.status, 202);
            assert_eq!(inflight(&client).await, "1");
            assert_eq!(client.send(&cancel(id)).await.status, 202);
            let answers = call.await.unwrap();
            assert!(answers.iter().all(Value::is_null), "a cancelled call is not answered: {answers:?}");
            let text = file_until(&log, |log| cancelled(log).contains(&upstream_id(log, &mark))).await;
            assert_ne!(upstream_id(&text, &mark), json!("seven"));
            assert_eq!(inflight(&client).await, "0");
        }
    }
}

#[tokio::test]
async fn p58_f79_nobody_cancels_what_is_anothers() {
    let (hub, log, _folder) = hub(SHARED);
    let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let older = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let call = hanging(&one, &log, 5, "one").await;
    let own = upstream_id(&std::fs::read_to_string(&log).unwrap(), "one");
    // Neither by the id the client gave it nor by the one the process knows.
    for id in (0..20).map(Value::from).chain([own, json!("5"), Value::Null, json!([5]), json!({}), json!(5.0)]) {
        assert_eq!(two.send(&cancel(id.clone())).await.status, 202);
        assert_eq!(older.send(&cancel(id)).await, 202);
    }
    for broken in [json!({}), json!([])] {
        let body = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": broken });
        assert_eq!(two.send(&body).await.status, 202);
    }
    assert_eq!(two.delete().await, 204);
    drop(older);
    hub.until("the others have left", |status| status["sessions"] == 1).await;
    assert_eq!(inflight(&one).await, "1");
    assert_eq!(cancelled(&std::fs::read_to_string(&log).unwrap()), [] as [Value; 0]);
    one.send(&cancel(5)).await;
    call.await.unwrap();
    file_until(&log, |log| cancelled(log).len() == 1).await;
}

#[tokio::test]
async fn p58_two_calls_of_one_id_are_told_apart_by_their_client() {
    let (hub, log, _folder) = hub(SHARED);
    let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let first = hanging(&one, &log, 1, "first").await;
    let second = hanging(&two, &log, 1, "second").await;
    two.send(&cancel(1)).await;
    second.await.unwrap();
    let text = file_until(&log, |log| !cancelled(log).is_empty()).await;
    assert_eq!(cancelled(&text), [upstream_id(&text, "second")]);
    assert_eq!(inflight(&two).await, "1");
    one.send(&cancel(1)).await;
    first.await.unwrap();
}

#[tokio::test]
async fn of_a_batch_one_call_can_be_cancelled() {
    let (hub, log, _folder) = hub("");
    let client = Client::open_as(&hub, "/a/mcp", "2025-03-26", json!({})).await;
    let batch = json!([call(1, "hang", json!({ "mark": "b" })), call(2, "sleep", json!({ "ms": 300 }))]);
    let answer = tokio::spawn({
        let client = client.clone();
        async move { client.send(&batch).await }
    });
    file_until(&log, |log| log.contains(r#""mark":"b""#)).await;
    client.send(&cancel(1)).await;
    let answer = answer.await.unwrap();
    let found: Vec<Value> = match answer.is_stream() {
        true => answer.messages(),
        false => serde_json::from_str(&answer.text).unwrap(),
    };
    assert_eq!(found.iter().map(|message| message["id"].clone()).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_lost_connection_cancels_nothing() {
    for keys in ["", SHARED] {
        let (hub, log, _folder) = hub(keys);
        let client = Client::open(&hub, "/a/mcp").await;
        let stream = client.stream(&call(1, "hang", json!({}))).await;
        drop(stream);
        hub.until("it is gone", |status| status["streams"] == 0).await;
        assert_eq!(inflight(&client).await, "1");
        assert_eq!(cancelled(&std::fs::read_to_string(&log).unwrap()), [] as [Value; 0]);
        // It can still be cancelled in words.
        client.send(&cancel(1)).await;
        file_until(&log, |log| cancelled(log).len() == 1).await;
    }
}

#[tokio::test]
async fn delete_cancels_what_the_session_has_under_way() {
    let (hub, log, _folder) = hub(SHARED);
    let (leaves, stays) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let calls = [hanging(&leaves, &log, 1, "l1").await, hanging(&leaves, &log, 2, "l2").await];
    let kept = hanging(&stays, &log, 1, "kept").await;
    assert_eq!(leaves.delete().await, 204);
    for call in calls {
        let answers = call.await.unwrap();
        assert!(answers[0]["error"]["message"].as_str().unwrap().contains("its session was deleted"), "{answers:?}");
    }
    let text = file_until(&log, |log| cancelled(log).len() == 2).await;
    for mark in ["l1", "l2"] {
        assert!(cancelled(&text).contains(&upstream_id(&text, mark)));
    }
    assert_eq!(inflight(&stays).await, "1");
    stays.send(&cancel(1)).await;
    kept.await.unwrap();
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled_and_answered() {
    for keys in ["", SHARED, "isolation = 'call'"] {
        let (hub, log, _folder) = hub(&format!("request_timeout = '300ms'\n{keys}"));
        let client = Client::open(&hub, "/a/mcp").await;
        let answer = client.send(&call("x", "hang", json!({ "mark": "m" }))).await;
        assert_eq!((answer.status, answer.error().0, &answer.last()["id"]), (200, -32603, &json!("x")), "{keys}");
        let data = &answer.last()["error"]["data"];
        assert_eq!(data, &json!({ "upstream": "a", "reason": "timeout", "retryable": true }));
        let text = file_until(&log, |log| !cancelled(log).is_empty()).await;
        assert_eq!(cancelled(&text)[0], upstream_id(&text, "m"));
    }
}

#[tokio::test]
async fn progress_renews_the_time_of_a_call() {
    let (hub, log, _folder) = hub("request_timeout = '1500ms'");
    let client = Client::open(&hub, "/a/mcp").await;
    let mut long = call(2, "progress", json!({ "count": 8, "ms": 250 }));
    long["params"]["_meta"] = json!({ "progressToken": 1 });
    assert_eq!(client.send(&long).await.tool_text(), "8");
    assert_eq!(cancelled(&std::fs::read_to_string(&log).unwrap()), [] as [Value; 0]);
}

#[tokio::test]
async fn a_late_answer_to_a_cancelled_call_goes_nowhere() {
    let (hub, log, _folder) = hub(SHARED);
    let client = Client::open(&hub, "/a/mcp").await;
    let mut unasked = client.get(None).await;
    let stubborn = tokio::spawn({
        let client = client.clone();
        async move { client.send(&call(1, "sleep_stubborn", json!({ "ms": 300, "mark": "s" }))).await.messages() }
    });
    file_until(&log, |log| log.contains(r#""mark":"s""#)).await;
    client.send(&cancel(1)).await;
    assert!(stubborn.await.unwrap().iter().all(Value::is_null));
    while inflight(&client).await != "0" {}
    client.call("list_changed", json!({ "count": 1 })).await;
    assert_eq!(unasked.message().await.unwrap()["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn a_call_that_waits_for_a_process_can_be_cancelled() {
    let (hub, log, _folder) = hub("isolation = 'call'\nprocess_max = 1");
    let client = Client::open_as(&hub, "/a/mcp", "2025-03-26", json!({})).await;
    let busy = hanging(&client, &log, 1, "busy").await;
    // The only process is taken: these wait.
    let never = |id: i64| call(id, "echo", json!({ "mark": "never" }));
    for body in [never(2), json!([never(3), never(4), never(5)])] {
        let waits = tokio::spawn({
            let client = client.clone();
            async move { client.send(&body).await }
        });
        // Until the hub has the call there is nothing to cancel.
        while !waits.is_finished() {
            for id in [5, 4, 3, 2] {
                client.send(&cancel(id)).await;
            }
        }
        let answer = waits.await.unwrap();
        assert_eq!((answer.status, answer.text.as_str()), (202, ""), "a cancelled call is not answered");
    }
    client.send(&cancel(1)).await;
    busy.await.unwrap();
    // Refused until the process whose call was cancelled has made room for a new one.
    while client.call("echo", json!({ "text": "after" })).await.last()["error"].is_object() {}
    assert!(!std::fs::read_to_string(&log).unwrap().contains("never"), "the process heard of it");
}

#[tokio::test]
async fn a_call_that_waits_for_its_process_to_start_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&rogue("a", &["--slow-start", "1", "--log", log.to_str().unwrap()], ""));
    let mut client = SseClient::open(&hub, "/a/sse").await;
    client.send(&super::fixture::initialize("2024-11-05", json!({}))).await;
    client.send(&call(1, "echo", json!({ "text": "never" }))).await;
    file_until(&log, |log| log.contains("initialize")).await;
    client.send(&cancel(1)).await;
    assert_eq!(client.stream.message().await.unwrap()["id"], 0);
    client.send(&call(2, "echo", json!({ "text": "after" }))).await;
    assert_eq!(client.stream.message().await.unwrap()["id"], 2);
    assert!(!std::fs::read_to_string(&log).unwrap().contains("never"), "the process heard of it");
}

#[tokio::test]
async fn initialize_cannot_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&rogue("a", &["--slow-start", "0.5", "--log", log.to_str().unwrap()], ""));
    let mut client = SseClient::open(&hub, "/a/sse").await;
    client.send(&super::fixture::initialize("2024-11-05", json!({}))).await;
    file_until(&log, |log| log.contains("initialize")).await;
    client.send(&cancel(0)).await;
    let answer = client.stream.message().await.unwrap();
    assert_eq!((&answer["id"], answer["result"].is_object()), (&json!(0), true));
    assert_eq!(cancelled(&std::fs::read_to_string(&log).unwrap()), [] as [Value; 0]);
}
