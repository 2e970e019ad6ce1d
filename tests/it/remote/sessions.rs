//! A server that has lost our session gets another one, and the caller does not notice; and none is left behind.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::*;
use crate::{fixture::eventually, peer::legacy};

/// An older server that knows the sessions from this number on only.
async fn forgetful(refusal: fn(&Seen) -> Reply) -> (Peer, Arc<AtomicUsize>) {
    let first = Arc::new(AtomicUsize::new(1));
    let known = first.clone();
    let peer = legacy(move |seen| {
        let number = seen.header("mcp-session-id").and_then(|id| id.strip_prefix('s')?.parse::<usize>().ok());
        match number {
            Some(number) if number < known.load(Ordering::SeqCst) => Some(refusal(seen)),
            Some(_) if seen.method() == "GET" => Some(Reply::events(&[]).hold()),
            _ => None,
        }
    })
    .await;
    (peer, first)
}

fn unknown(_: &Seen) -> Reply {
    Reply::json(&json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32001, "message": "Session not found" } }))
        .with(404)
}

fn in_words(_: &Seen) -> Reply {
    let message = "Bad Request: No valid session ID provided";
    Reply::json(&json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32000, "message": message } })).with(400)
}

#[tokio::test]
async fn p51_f113_a_lost_session_is_opened_again_and_told_what_the_last_one_was() {
    for refusal in [unknown as fn(&Seen) -> Reply, in_words, |_| Reply::status(404)] {
        let (peer, first) = forgetful(refusal).await;
        let hub = Hub::start(&peer.upstream("a", ""));
        let client = Client::open(&hub, "/a/mcp").await;
        let mut unasked = client.get(None).await;
        client.request("logging/setLevel", json!({ "level": "info" })).await;
        for uri in ["x://1", "x://2", "x://gone"] {
            client.request("resources/subscribe", json!({ "uri": uri })).await;
        }
        client.request("resources/unsubscribe", json!({ "uri": "x://gone" })).await;
        peer.until("GET", 1).await;
        first.store(2, Ordering::SeqCst);
        let answer = echo(&client, "still here").await;
        assert_eq!(
            (answer.tool_text().as_str(), answer.last()["id"].as_i64()),
            ("still here", Some(client.next_id() - 1))
        );
        let seen = peer.seen();
        let second: Vec<&Seen> = seen.iter().filter(|seen| seen.header("mcp-session-id") == Some("s2")).collect();
        let mut told: Vec<String> = second
            .iter()
            .filter(|seen| seen.verb == "POST")
            .map(|seen| format!("{} {}", seen.method(), seen.body["params"]["uri"].as_str().unwrap_or_default()))
            .collect();
        assert_eq!(told.pop().as_deref(), Some("tools/call "), "the call comes last, once");
        let expected = [
            "notifications/initialized ",
            "logging/setLevel ",
            "resources/subscribe x://1",
            "resources/subscribe x://2",
        ];
        assert_eq!(told, expected);
        let greetings = peer.of("initialize");
        assert_eq!(greetings.len(), 2);
        assert_eq!(greetings[0].body["params"], greetings[1].body["params"]);
        assert_eq!(greetings[1].header("mcp-session-id"), None);
        // What may have been missed is read again.
        let mut heard: Vec<String> = Vec::new();
        for _ in 0..4 {
            let message = unasked.message().await.unwrap();
            heard.push(message["method"].as_str().unwrap_or_default().to_owned());
        }
        let expected = [
            "notifications/tools/list_changed",
            "notifications/resources/list_changed",
            "notifications/resources/updated",
            "notifications/resources/updated",
        ];
        assert_eq!(heard, expected);
        // The stream that belongs to no request is one of the new session.
        eventually("it listens again", || {
            peer.of("GET").iter().any(|seen| seen.header("mcp-session-id") == Some("s2"))
        })
        .await;
    }
}

#[tokio::test]
async fn p51_a_session_that_is_lost_twice_is_told() {
    let peer = legacy(|seen| (seen.method() == "tools/call").then(|| Reply::status(404))).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let answer = echo(&client, "x").await;
    assert_eq!((answer.status, answer.error().0), (200, -32603), "{answer:?}");
    assert_eq!(data(&answer)["http_status"], 404);
    assert_eq!((peer.count("tools/call"), peer.count("initialize")), (2, 2));
}

#[tokio::test]
async fn p51_many_calls_that_find_the_session_lost_open_one() {
    let (peer, first) = forgetful(unknown).await;
    let hub = Hub::start(&peer.upstream("a", "isolation = 'shared'"));
    let client = Client::open(&hub, "/a/mcp").await;
    first.store(2, Ordering::SeqCst);
    let calls = (0..20).map(|number| {
        let client = client.clone();
        async move { echo(&client, &number.to_string()).await.tool_text() }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(peer.count("initialize"), 2);
}

#[tokio::test]
async fn p51_one_that_opens_no_other_is_let_go_and_greeted_anew() {
    let lost = Arc::new(AtomicUsize::new(0));
    let script = lost.clone();
    let peer = legacy(move |seen| match (script.load(Ordering::SeqCst), seen.method()) {
        (1, "initialize") => Some(Reply::status(400)),
        (1, _) => Some(Reply::status(404)),
        _ => None,
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", "isolation = 'shared'"));
    let client = Client::open(&hub, "/a/mcp").await;
    lost.store(1, Ordering::SeqCst);
    let answer = echo(&client, "x").await;
    assert!(answer.last()["error"].is_object(), "{answer:?}");
    lost.store(0, Ordering::SeqCst);
    let began = std::time::Instant::now();
    while echo(&client, "back").await.last()["result"] == Value::Null {
        assert!(began.elapsed() < crate::fixture::PATIENCE, "it does not come back");
    }
}

#[tokio::test]
async fn f124_looking_after_a_server_opens_no_sessions_and_none_is_left_behind() {
    let peer = legacy(|_| None).await;
    let mut hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    for _ in 0..20 {
        hub.status().await;
        client.request("ping", json!({})).await;
        echo(&client, "x").await;
    }
    assert_eq!((peer.count("initialize"), peer.count("server/discover")), (1, 1));
    assert_eq!(client.delete().await, 204);
    let ended = peer.until("DELETE", 1).await;
    assert_eq!(ended[0].header("mcp-session-id"), Some("s1"));
    Client::open(&hub, "/a/mcp").await;
    hub.signal("TERM");
    hub.ended();
    assert_eq!(peer.count("DELETE"), 2);
    assert_eq!(peer.of("DELETE")[1].header("mcp-session-id"), Some("s2"));
}

#[tokio::test]
async fn f124_an_idle_connection_is_closed_and_its_session_ended() {
    let peer = legacy(|_| None).await;
    let hub = Hub::start(&peer.upstream("a", "isolation = 'shared'\nidle_timeout = '300ms'"));
    let client = Client::open(&hub, "/a/mcp").await;
    peer.until("DELETE", 1).await;
    assert_eq!(echo(&client, "again").await.tool_text(), "again");
    assert_eq!(peer.count("initialize"), 2);
}
