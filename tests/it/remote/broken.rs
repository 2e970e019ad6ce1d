//! Answers that break off, come slowly, twice, out of order, or too large.

use std::{sync::Mutex, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    fixture::eventually,
    peer::{Gate, legacy, modern},
};

/// What is broken is an error at once, and the next call works.
async fn breaks(peer: &Peer, wishes: &[&str]) {
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    for wish in wishes {
        let answer = echo(&client, wish).await;
        assert_eq!((answer.status, answer.error().0), (200, -32603), "{wish}: {answer:?}");
        assert_eq!(data(&answer)["retryable"], true, "{wish}: {answer:?}");
        assert_eq!(echo(&client, "fine").await.tool_text(), "fine", "after {wish}");
    }
    assert_eq!(peer.count("tools/call"), wishes.len() * 2, "none is repeated");
}

fn break_off(seen: &Seen) -> Option<Reply> {
    let answer = seen.text("half").to_string();
    let half = &answer[..answer.len() / 2];
    Some(match wish(seen) {
        "mid-event" => Reply::events(&[]).bytes(format!("data: {half}")).cut(),
        "before the blank line" => Reply::events(&[]).bytes(format!("data: {answer}\n")).cut(),
        "mid-utf-8" => Reply::events(&[]).bytes(b"data: \xc3".as_slice()).cut(),
        "after a note" => Reply::events(&[json!({ "jsonrpc": "2.0", "method": "notifications/x" })]).cut(),
        "document" => Reply::json(&Value::Null).bytes(half).cut(),
        "head only" => Reply::events(&[]).cut(),
        "nothing" => Reply::nothing().cut(),
        _ => return None,
    })
}

const BREAKS: [&str; 7] =
    ["mid-event", "before the blank line", "mid-utf-8", "after a note", "document", "head only", "nothing"];

#[tokio::test]
async fn f119_an_answer_that_breaks_off_is_an_error() {
    breaks(&legacy(break_off).await, &BREAKS).await;
}

#[tokio::test]
async fn f119_and_so_it_is_from_a_newer_server() {
    breaks(&modern(break_off).await, &BREAKS).await;
}

#[tokio::test]
async fn f119_a_stream_with_ids_is_resumed_where_it_broke_off() {
    let call: Mutex<Option<Seen>> = Mutex::default();
    let peer = legacy(move |seen| match (seen.verb.as_str(), wish(seen), seen.header("last-event-id")) {
        ("POST", "resume", _) => {
            *call.lock().unwrap() = Some(seen.clone());
            Some(Reply::events(&[]).bytes("id: e1\nretry: 0\ndata:\n\nid: e2\ndata: {\"jso").cut())
        }
        ("GET", _, Some("e1")) => {
            let answer = call.lock().unwrap().as_ref()?.text("the rest");
            Some(Reply::events(&[answer]))
        }
        _ => None,
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    assert_eq!(echo(&client, "resume").await.tool_text(), "the rest");
    assert_eq!(peer.count("tools/call"), 1);
    let resumed: Vec<Seen> = peer.of("GET").into_iter().filter(|get| get.header("last-event-id").is_some()).collect();
    assert_eq!(resumed.len(), 1);
    assert_eq!(resumed[0].header("mcp-session-id"), Some("s1"));
}

#[tokio::test]
async fn f119_a_newer_servers_stream_is_never_resumed() {
    let peer =
        modern(|seen| (wish(seen) == "resume").then(|| Reply::events(&[]).bytes("id: e1\ndata:\n\n").cut())).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    assert_eq!(echo(&client, "resume").await.error().0, -32603);
    assert_eq!((peer.count("GET"), peer.count("tools/call")), (0, 1));
}

#[tokio::test]
async fn f120_a_stream_is_read_to_the_rules() {
    let peer = legacy(|seen| {
        let answer = seen.text("read").to_string();
        let text = match wish(seen) {
            "cr" => format!("\u{feff}: a comment\rretry: 0\rid: 1\r\revent: strange\rdata: {{}}\r\rdata: {answer}\r\r"),
            "crlf" => format!("event: message\r\ndata: {answer}\r\n\r\n"),
            "no blank" => format!("data:{answer}\n\n"),
            "junk" => format!("data: not json\n\nfield: x\ndata: []\n\n: {}\n\ndata: {answer}\n\n", "c".repeat(500)),
            "huge" => format!("data: {}\n\n", "x".repeat(200 << 10)),
            _ => return None,
        };
        Some(Reply::events(&[]).bytes(text))
    })
    .await;
    let hub = Hub::start(&format!("[hub.limits]\nmessage_bytes_max = '64 KiB'\n{}", peer.upstream("a", "")));
    let client = Client::open(&hub, "/a/mcp").await;
    for wish in ["cr", "crlf", "no blank", "junk"] {
        assert_eq!(echo(&client, wish).await.tool_text(), "read", "{wish}");
    }
    let answer = echo(&client, "huge").await;
    assert!(answer.error().1.contains("message_bytes_max"), "{answer:?}");
    assert_eq!(echo(&client, "fine").await.tool_text(), "fine");
    assert_eq!(peer.count("initialize"), 1);
}

#[tokio::test]
async fn f122_a_server_that_is_slow_or_never_answers_has_a_deadline() {
    let peer = legacy(|seen| {
        let slow = format!("data: {}\n\n", seen.text("slow"));
        Some(match wish(seen) {
            "byte by byte" => Reply::events(&[]).drip(slow, Duration::from_millis(100)),
            "document by byte" => Reply::status(200).drip(slow, Duration::from_millis(100)),
            "head only" => Reply::events(&[]).hold(),
            "nothing" => Reply::nothing().hold(),
            _ => return None,
        })
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", "request_timeout = '400ms'"));
    let client = Client::open(&hub, "/a/mcp").await;
    for wished in ["byte by byte", "document by byte", "head only", "nothing"] {
        let answer = echo(&client, wished).await;
        assert!(answer.error().1.contains("did not answer within"), "{wished}: {answer:?}");
        eventually("the hub has left", || peer.of("tools/call").iter().any(|seen| wish(seen) == wished && seen.left()))
            .await;
        assert_eq!(echo(&client, "fine").await.tool_text(), "fine", "after {wished}");
    }
    assert_eq!(peer.count("initialize"), 1);
    assert_eq!(peer.count("notifications/cancelled"), 4);
}

#[tokio::test]
async fn f123_answers_reach_whom_they_are_for() {
    let (gate, opened) = (Gate::new(), Gate::new());
    let (first, second) = (gate.clone(), opened.clone());
    let peer = legacy(move |seen| {
        let (answer, mut other) = (seen.text(wish(seen)), seen.text("not yours"));
        other["id"] = json!(987_654);
        Some(match wish(seen) {
            "last" => Reply::events(&[]).wait(&first).event(&answer),
            "other" => Reply::events(&[other, answer]),
            "twice" => Reply::events(&[answer.clone(), answer]),
            "string" => {
                let mut answer = answer;
                answer["id"] = json!(seen.body["id"].to_string());
                Reply::json(&answer)
            }
            "only other" => Reply::json(&other),
            "held" => Reply::events(&[]).wait(&second).event(&answer),
            _ => return None,
        })
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", "isolation = 'shared'"));
    let (client, peer_client) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let last = tokio::spawn(async move { echo(&peer_client, "last").await });
    peer.until("tools/call", 1).await;
    for wish in ["other", "twice", "string"] {
        let answer = echo(&client, wish).await;
        assert_eq!((answer.tool_text().as_str(), answer.messages().len()), (wish, 1));
    }
    assert_eq!(echo(&client, "only other").await.error().0, -32603);
    gate.open();
    opened.open();
    assert_eq!(last.await.unwrap().tool_text(), "last");
}
