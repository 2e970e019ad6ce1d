//! Children that ask back, or have news, while several clients are attached.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, LATEST, Stream, eventually, rogue};

fn call(id: u64, tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

/// Reads a call's stream: answers the one question on it, and returns the question's message and the tool's text.
async fn asked(client: &Client, mut stream: Stream, name: &str) -> (String, Value) {
    let ask = stream.message().await.unwrap();
    assert_eq!(ask["method"], "elicitation/create", "{ask}");
    let result = json!({ "action": "accept", "content": { "name": name } });
    let answered = client.send(&json!({ "jsonrpc": "2.0", "id": ask["id"], "result": result })).await;
    assert_eq!(answered.status, 202);
    let response = stream.message().await.unwrap();
    assert!(stream.message().await.is_none(), "the response ends the stream");
    let text = response["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{response}"));
    (ask["params"]["message"].as_str().unwrap().to_owned(), serde_json::from_str(text).unwrap())
}

async fn able(hub: &Hub) -> Client {
    Client::open_as(hub, "/a/mcp", LATEST, json!({ "elicitation": {}, "sampling": {}, "roots": {} })).await
}

#[tokio::test]
async fn f28_a_question_reaches_only_the_client_whose_call_caused_it() {
    for isolation in ["session", "call", "shared"] {
        let hub = Hub::start(&rogue("a", &[], &format!("isolation = '{isolation}'")));
        let (one, two) = (able(&hub).await, able(&hub).await);
        let mut unasked = [one.get(None).await, two.get(None).await];
        let stream = one.stream(&call(1, "ask_elicitation", json!({ "message": "who?" }))).await;
        let (message, answer) = asked(&one, stream, "Ann").await;
        assert_eq!((message.as_str(), &answer["result"]["content"]["name"]), ("who?", &json!("Ann")), "{isolation}");
        // Neither a second time, nor on the stream of messages that belong to no call.
        if isolation == "call" {
            continue;
        }
        one.call("add_tool", json!({ "name": "x" })).await;
        two.call("add_tool", json!({ "name": "y" })).await;
        for unasked in &mut unasked {
            assert_eq!(unasked.message().await.unwrap()["method"], "notifications/tools/list_changed", "{isolation}");
        }
    }
}

#[tokio::test]
async fn p53_a_question_that_nobody_can_be_shown_to_have_caused_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start_in(folder, &rogue("a", &["--log", log.to_str().unwrap()], "isolation = 'shared'"));
    let (one, two) = (able(&hub).await, able(&hub).await);
    let mut unasked = [one.get(None).await, two.get(None).await];
    let waiting = {
        let two = two.clone();
        tokio::spawn(async move { two.call("hang", json!({})).await })
    };
    eventually("the other call is there", || calls(&log, "hang") == 1).await;
    for tool in ["ask_elicitation", "ask_sampling", "ask_roots"] {
        let answer = one.call(tool, json!({ "message": "secret", "prompt": "secret" })).await;
        let text: Value = serde_json::from_str(&answer.tool_text()).unwrap();
        assert_eq!((&text["error"]["code"], answer.messages().len()), (&json!(-32602), 1), "{answer:?}");
    }
    // Unprompted, with no call at all under way, in both isolations that have a stream for it.
    waiting.abort();
    one.delete().await;
    drop(two);
    let [_, second] = &mut unasked;
    let three = able(&hub).await;
    three.call("add_tool", json!({ "name": "x" })).await;
    assert_eq!(second.message().await.unwrap()["method"], "notifications/tools/list_changed", "zero bytes before");
}

#[tokio::test]
async fn p53_an_unprompted_question_is_refused_in_every_isolation() {
    for isolation in ["session", "shared"] {
        let hub = Hub::start(&rogue("a", &[], &format!("isolation = '{isolation}'")));
        let client = able(&hub).await;
        let mut unasked = client.get(None).await;
        client.call("ask_unprompted", json!({ "message": "secret" })).await;
        let began = Instant::now();
        // These calls take no time in which the question could be taken for theirs.
        let answer = loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let answer: Value = serde_json::from_str(&client.call("last_answer", json!({})).await.tool_text()).unwrap();
            if !answer.is_null() {
                break answer;
            }
            assert!(began.elapsed() < crate::fixture::PATIENCE);
        };
        assert_eq!(answer["error"]["code"], -32602, "{isolation}");
        client.call("add_tool", json!({ "name": "x" })).await;
        assert_eq!(unasked.message().await.unwrap()["method"], "notifications/tools/list_changed", "{isolation}");
    }
}

#[tokio::test]
async fn f28_a_client_is_asked_only_what_it_declared() {
    for isolation in ["session", "call", "shared"] {
        let hub = Hub::start(&rogue("a", &[], &format!("isolation = '{isolation}'")));
        let client = Client::open_as(&hub, "/a/mcp", LATEST, json!({ "elicitation": {} })).await;
        for tool in ["ask_sampling", "ask_roots"] {
            let answer = client.call(tool, json!({})).await;
            let text: Value = serde_json::from_str(&answer.tool_text()).unwrap();
            assert_eq!(
                (&text["error"]["code"], answer.messages().len()),
                (&json!(-32601), 1),
                "{isolation}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn p54_a_shared_child_is_told_of_no_abilities_and_a_pooled_one_of_all() {
    let cases = [
        ("shared", json!({})),
        ("call", json!({ "roots": {}, "sampling": {}, "elicitation": {} })),
        ("session", json!({ "elicitation": {}, "sampling": {}, "roots": {} })),
    ];
    for (isolation, expected) in cases {
        let hub = Hub::start(&rogue("a", &[], &format!("isolation = '{isolation}'")));
        let client = able(&hub).await;
        let who: Value = serde_json::from_str(&client.call("who", json!({})).await.tool_text()).unwrap();
        assert_eq!(who["capabilities"], expected, "{isolation}");
        let name = if isolation == "session" { "test" } else { "hubward" };
        assert_eq!(who["clientInfo"]["name"], name);
    }
}

#[tokio::test]
async fn f29_a_storm_of_list_changed_becomes_four_a_second_for_each_client() {
    for isolation in ["session", "shared"] {
        let hub = Hub::start(&rogue("a", &[], &format!("isolation = '{isolation}'")));
        let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
        let listen = async |client: &Client| {
            let (mut stream, seen) = (client.get(None).await, Arc::new(Mutex::new(0u32)));
            let count = seen.clone();
            let reader = tokio::spawn(async move {
                while let Some(message) = stream.message().await {
                    assert_eq!(message["method"], "notifications/tools/list_changed");
                    *count.lock().unwrap() += 1;
                }
            });
            (seen, reader)
        };
        let ((seen, reader), (other, _other_reader)) = (listen(&one).await, listen(&two).await);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1100) {
            one.call("list_changed", json!({ "count": 300 })).await;
        }
        let before = *seen.lock().unwrap();
        one.call("list_changed", json!({ "count": 300 })).await;
        eventually("the last change is told", || *seen.lock().unwrap() > before).await;
        let most = began.elapsed().as_millis() as u32 / 250 + 1;
        let count = *seen.lock().unwrap();
        assert!((2..=most).contains(&count), "{isolation}: {count} of at most {most}");
        match isolation {
            "shared" => assert!((2..=most).contains(&*other.lock().unwrap())),
            _ => assert_eq!(*other.lock().unwrap(), 0, "the other one's process said nothing"),
        }
        one.delete().await;
        reader.await.unwrap();
    }
}
