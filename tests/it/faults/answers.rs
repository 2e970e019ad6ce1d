//! Answers that match no call, or match too well; and ids that stay whose they are.

use std::collections::HashSet;

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, answer, eventually, file_until, rogue};

#[tokio::test]
async fn f18_f19_f20_answers_without_a_call_are_dropped_and_reach_nobody() {
    let hub = Hub::start(&rogue("a", &[], "isolation = 'shared'"));
    let (client, peer) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let waiting = {
        let peer = peer.clone();
        tokio::spawn(async move { peer.call("sleep", json!({ "ms": 1500 })).await })
    };
    let mut unasked = peer.get(None).await;
    for (tool, text) in [("wrong_id", "right"), ("twice", "first"), ("string_id", "right")] {
        let answer = client.call(tool, json!({})).await;
        assert_eq!((answer.tool_text().as_str(), answer.messages().len()), (text, 1), "{tool}");
        assert_eq!(client.call("echo", json!({ "text": tool })).await.tool_text(), tool);
    }
    eventually("three were counted", || {
        hub.log().matches("dropped an answer to a call that is not there").count() == 3
    })
    .await;
    let waiting = waiting.await.unwrap();
    assert_eq!((waiting.tool_text().as_str(), waiting.messages().len()), ("slept", 1));
    client.call("add_tool", json!({ "name": "x" })).await;
    assert_eq!(unasked.message().await.unwrap()["method"], "notifications/tools/list_changed", "nothing came before");
}

#[tokio::test]
async fn f21_an_answer_after_the_cancellation_is_dropped_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start_in(folder, &rogue("a", &["--log", log.to_str().unwrap()], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let call = json!({ "jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": { "name": "sleep_stubborn", "arguments": { "ms": 400 } } });
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.send(&call).await })
    };
    file_until(&log, |text| text.contains("sleep_stubborn")).await;
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": "c" } });
    assert_eq!(client.send(&cancel).await.status, 202);
    let cancelled = waiting.await.unwrap();
    assert!(cancelled.events.is_empty() && cancelled.text.is_empty(), "{cancelled:?}");
    // The stubborn answer comes before this one, and is nobody's.
    assert_eq!(client.call("sleep_stubborn", json!({ "ms": 500 })).await.tool_text(), "slept");
    assert!(!hub.log().contains("dropped"), "{}", hub.log());
    let cancelled = received(&log, "notifications/cancelled");
    assert_eq!((cancelled.len(), &cancelled[0]["params"]["requestId"]), (1, &received(&log, "tools/call")[0]["id"]));
}

#[tokio::test]
async fn p1_p8_concurrent_writers_never_mix_lines_and_no_id_is_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start_in(folder, &rogue("a", &["--log", log.to_str().unwrap()], "isolation = 'shared'"));
    let mut writers = Vec::new();
    for writer in 0..8 {
        let client = Client::open(&hub, "/a/mcp").await;
        writers.push(tokio::spawn(async move {
            for number in 0..12 {
                let text = format!("{writer}-{number}-{}", "x".repeat([0, 10, 5_000, 100_000][number % 4]));
                let call = json!({ "jsonrpc": "2.0", "id": number, "method": "tools/call", "params": { "name": "echo", "arguments": { "text": text } } });
                // Pretty-printed: line ends between all its tokens.
                let body = serde_json::to_string_pretty(&call).unwrap().replace('\n', "\r\n");
                let request = client.http.post(&client.url).header("content-type", "application/json");
                let answer = answer(request.header("mcp-session-id", &client.session).body(body)).await;
                assert!(!answer.last().is_null(), "{answer:?}");
                assert_eq!((answer.tool_text(), &answer.last()["id"]), (text, &json!(number)));
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let requests: Vec<Value> = received(&log, "tools/call");
    let ids: HashSet<String> = requests.iter().map(|request| request["id"].to_string()).collect();
    assert_eq!((requests.len(), ids.len()), (96, 96));
}

#[tokio::test]
async fn p6_ids_keep_their_type_and_their_digits() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let ids = [
        "1",
        "\"1\"",
        "0",
        "-7",
        "9007199254740993",
        "18446744073709551615",
        "123456789012345678901234567890",
        "\"\"",
        "\"café\"",
    ];
    let all = ids.map(|id| {
        let client = client.clone();
        tokio::spawn(async move {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"sleep","arguments":{{"ms":50}}}}}}"#);
            let request = client.http.post(&client.url).header("content-type", "application/json");
            (id, answer(request.header("mcp-session-id", &client.session).body(body)).await)
        })
    });
    for one in all {
        let (id, answer) = one.await.unwrap();
        let text = match answer.is_stream() {
            true => answer.events.last().unwrap().data.clone(),
            false => answer.text.clone(),
        };
        assert!(
            text.contains("slept") && text.contains(&format!(r#""id":{id},"#))
                || text.contains(&format!(r#""id":{id}}}"#)),
            "{id} in {text}"
        );
    }
}

#[tokio::test]
async fn p7_equal_ids_and_tokens_of_two_clients_never_meet() {
    let hub = Hub::start(&rogue("a", &[], "isolation = 'shared'"));
    let mut clients = Vec::new();
    for number in 1..=6u64 {
        let client = Client::open(&hub, "/a/mcp").await;
        clients.push(tokio::spawn(async move {
            for _ in 0..5 {
                // How many steps there are tells whose progress it is.
                let params = json!({ "name": "progress", "arguments": { "count": number, "ms": 5 }, "_meta": { "progressToken": 1 } });
                let answer = client.send(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).await;
                let messages = answer.messages();
                assert_eq!(messages.len() as u64, number + 1, "{answer:?}");
                for (step, message) in messages[..number as usize].iter().enumerate() {
                    let expected = json!({ "progressToken": 1, "progress": step + 1, "total": number });
                    assert_eq!(message["params"], expected);
                }
                assert_eq!((answer.tool_text(), &answer.last()["id"]), (number.to_string(), &json!(1)));
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}
