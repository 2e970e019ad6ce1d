//! The audit: a line for each call, and what happens where it cannot be written.

use std::{os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Value, json};

use super::{
    fixture::{Client, Hub, echo, file_until, hubward, rogue},
    request::Request,
};

const SHARED: &str = "isolation = 'shared'";

fn hub(audit: &str) -> Hub {
    Hub::start(&format!("[hub]\nlog = {{ audit = {audit} }}\n{}", echo("a", SHARED)))
}

/// The lines, once there are so many.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    let text = file_until(path, |text| text.lines().count() >= count).await;
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn t25_each_call_is_a_line_that_says_who_what_and_how_and_not_about_what() {
    let hub = hub("{ path = 'audit.jsonl' }");
    let client = Client::open(&hub, "/a/mcp").await;
    client.call("echo", json!({ "text": "the-secret-of-the-call" })).await;
    client.call("no-such-tool", json!({})).await;
    client.request("no/such/method", json!({})).await;
    client.request("ping", json!({})).await;
    let old = Client::open_as(&hub, "/a/mcp", "2025-03-26", json!({})).await;
    let one = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let two = json!({ "jsonrpc": "2.0", "id": 2, "method": "ping" });
    assert_eq!(old.send(&json!([one, two])).await.status, 200);
    Request::call(&hub, "/a/mcp", "echo", json!({ "text": "x" })).send().await;
    Request::new(&hub, "/a/mcp", "server/discover", json!({})).send().await;
    let path = hub.folder.path().join("audit.jsonl");
    let lines = lines(&path, 10).await;
    let seen: Vec<(&str, &str)> =
        lines.iter().map(|line| (line["method"].as_str().unwrap(), line["outcome"].as_str().unwrap())).collect();
    let sorted = |mut all: Vec<(&'static str, &'static str)>| {
        all.sort_unstable();
        all
    };
    let expected = sorted(vec![
        ("initialize", "ok"),
        ("tools/call", "ok"),
        ("tools/call", "error"),
        ("no/such/method", "error"),
        ("ping", "ok"),
        ("initialize", "ok"),
        ("tools/list", "ok"),
        ("ping", "ok"),
        ("tools/call", "ok"),
        ("server/discover", "ok"),
    ]);
    let mut got = seen.clone();
    got.sort_unstable();
    assert_eq!(got, expected, "{lines:#?}");
    let call = lines.iter().find(|line| line["tool"] == "echo").unwrap();
    assert_eq!((&call["principal"], &call["upstream"]), (&json!("local"), &json!("a")));
    assert!(call["ms"].is_u64() && call["bytes_in"].as_u64() > Some(50) && call["bytes_out"].as_u64() > Some(20));
    assert!(call["time"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 24), "{call}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("the-secret-of-the-call"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_call_that_is_cancelled_or_lost_is_a_line_too() {
    let hub =
        Hub::start(&format!("[hub]\nlog = {{ audit = {{ path = 'audit.jsonl' }} }}\n{}", rogue("a", &[], SHARED)));
    let client = Client::open(&hub, "/a/mcp").await;
    let slow = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "sleep", "arguments": { "ms": 20_000 } } });
    let calling = {
        let client = client.clone();
        tokio::spawn(async move { client.send(&slow).await })
    };
    hub.until_upstream("a", |upstream| upstream["calls"] == 1).await;
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } })).await;
    calling.await.unwrap();
    let path = hub.folder.path().join("audit.jsonl");
    let text = file_until(&path, |text| text.contains("cancelled")).await;
    assert!(
        text.lines().any(|line| line.contains(r#""tool":"sleep""#) && line.contains(r#""outcome":"cancelled""#)),
        "{text}"
    );
}

#[tokio::test]
async fn f101_a_full_disk_stops_calls_only_where_that_is_wanted() {
    let open = hub("{ path = '/dev/full' }");
    let client = Client::open(&open, "/a/mcp").await;
    open.logged("the audit cannot be written").await;
    for _ in 0..3 {
        assert_eq!(client.call("echo", json!({ "text": "x" })).await.tool_text(), "x");
    }
    let closed = hub("{ path = '/dev/full', on_failure = 'closed' }");
    let client = Client::open(&closed, "/a/mcp").await;
    closed.logged("the audit cannot be written").await;
    let refused = client.call("echo", json!({ "text": "x" })).await;
    assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{refused:?}");
    let modern = Request::call(&closed, "/a/mcp", "echo", json!({ "text": "x" })).send().await;
    assert_eq!(modern.status, 503);
    // Somewhere else it can be written, and calls go on.
    closed.edit(&format!(
        "[hub]\nlog = {{ audit = {{ path = 'there', on_failure = 'closed' }} }}\n{}",
        echo("a", SHARED)
    ));
    closed.generation(2).await;
    assert_eq!(client.call("echo", json!({ "text": "x" })).await.tool_text(), "x");
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_anew() {
    let hub = hub("{ path = 'audit.jsonl' }");
    let client = Client::open(&hub, "/a/mcp").await;
    let path = hub.folder.path().join("audit.jsonl");
    lines(&path, 1).await;
    std::fs::rename(&path, hub.folder.path().join("audit.1")).unwrap();
    let began = std::time::Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < super::fixture::PATIENCE);
        client.call("echo", json!({ "text": "x" })).await;
    }
}

#[tokio::test]
async fn an_audit_that_cannot_be_begun_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    let toml = format!("[hub]\nlog = {{ audit = {{ path = 'no/such/folder/audit' }} }}\n{}", echo("a", SHARED));
    std::fs::write(&path, &toml).unwrap();
    let refused = hubward(&["serve", "--bind", "127.0.0.1:0", "-c"]).arg(&path).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot write the audit"));
    let hub = hub("{ path = 'audit.jsonl' }");
    hub.edit(&toml);
    let rejected = hub.until("a rejection", |status| status["reload"]["rejected"].is_string()).await;
    assert!(rejected["reload"]["rejected"].as_str().unwrap().contains("make its folder"));
    Client::open(&hub, "/a/mcp").await;
}
