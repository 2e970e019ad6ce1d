//! What a remote server asks, and what it says unasked: on the stream of a call it is that call's, elsewhere nobody's.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::{
    fixture::{LATEST, eventually},
    peer::{Gate, Mouth, legacy, modern},
};

fn question(id: &str, method: &str) -> Value {
    let params = json!({ "messages": [], "maxTokens": 1, "message": "?", "requestedSchema": { "type": "object" } });
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// A server that asks on the stream of a call, and answers once it was answered; and has something to say unasked.
async fn asking() -> (Peer, Arc<Mutex<Option<Mouth>>>, Gate) {
    let (mouth, gate): (Arc<Mutex<Option<Mouth>>>, _) = (Arc::default(), Gate::new());
    let (kept, held) = (mouth.clone(), gate.clone());
    let peer = legacy(move |seen| match (seen.method(), wish(seen)) {
        ("GET", _) => {
            let (reply, new) = Reply::told();
            *kept.lock().unwrap() = Some(new);
            Some(reply)
        }
        ("tools/call", "plain") => None,
        ("tools/call", wish) => {
            let asked = match wish {
                "hold" => Reply::events(&[]),
                "elicit" => Reply::events(&[question("q-elicit", "elicitation/create")]),
                wish => Reply::events(&[question(&format!("q-{wish}"), "sampling/createMessage")]),
            };
            Some(asked.wait(&held).event(&seen.text(wish)))
        }
        _ => None,
    })
    .await;
    (peer, mouth, gate)
}

async fn client(hub: &Hub) -> Client {
    Client::open_as(hub, "/a/mcp", LATEST, json!({ "sampling": {}, "elicitation": {} })).await
}

fn call(id: &str, text: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "echo", "arguments": { "text": text } } })
}

#[tokio::test]
async fn p_7_3_a_question_on_the_stream_of_a_call_reaches_exactly_its_caller() {
    let (peer, _, gate) = asking().await;
    let hub = Hub::start(&peer.upstream("a", "isolation = 'shared'"));
    let (one, two) = (client(&hub).await, client(&hub).await);
    let (mut first, mut second) = (one.stream(&call("1", "one")).await, two.stream(&call("1", "two")).await);
    for (client, stream, own) in [(&two, &mut second, "two"), (&one, &mut first, "one")] {
        let asked = stream.message().await.unwrap();
        assert_eq!(asked["method"], "sampling/createMessage");
        let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "said": own } });
        assert_eq!(client.send(&answer).await.status, 202);
    }
    let mut answers: Vec<_> = peer
        .until("an answer", 2)
        .await
        .iter()
        .map(|seen| (seen.body["id"].as_str().unwrap_or_default().to_owned(), seen.body["result"]["said"].clone()))
        .collect();
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(answers, [("q-one".to_owned(), json!("one")), ("q-two".to_owned(), json!("two"))]);
    gate.open();
    for (stream, own) in [(first, "one"), (second, "two")] {
        let rest = stream.rest().await;
        assert_eq!(rest.len(), 1, "{rest:?}");
        assert_eq!(rest[0].json()["result"]["content"][0]["text"], own);
    }
}

#[tokio::test]
async fn p_7_3_an_elicitation_reaches_its_caller_too() {
    let (peer, _, gate) = asking().await;
    let hub = Hub::start(&peer.upstream("a", "isolation = 'shared'"));
    let one = client(&hub).await;
    let mut stream = one.stream(&call("1", "elicit")).await;
    let asked = stream.message().await.unwrap();
    assert_eq!(asked["method"], "elicitation/create");
    one.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "decline" } })).await;
    assert_eq!(peer.until("an answer", 1).await[0].body["result"]["action"], "decline");
    gate.open();
    assert_eq!(stream.message().await.unwrap()["id"], "1");
}

#[tokio::test]
async fn p_7_3_a_question_on_the_stream_of_nobody_is_refused_where_strangers_share() {
    let (peer, mouth, gate) = asking().await;
    let hub = Hub::start(&peer.upstream("a", "isolation = 'shared'"));
    let one = client(&hub).await;
    peer.until("GET", 1).await;
    let held = one.clone();
    let held = tokio::spawn(async move { held.send(&call("1", "hold")).await });
    peer.until("tools/call", 1).await;
    mouth.lock().unwrap().as_ref().unwrap().say(&question("lost", "sampling/createMessage"));
    let refused = peer.until("an answer", 1).await;
    assert_eq!((&refused[0].body["id"], &refused[0].body["error"]["code"]), (&json!("lost"), &json!(-32602)));
    gate.open();
    let answer = held.await.unwrap();
    assert_eq!((answer.tool_text().as_str(), answer.messages().len()), ("hold", 1));
}

#[tokio::test]
async fn p_7_3_in_a_session_of_its_own_it_reaches_the_client() {
    let (peer, mouth, gate) = asking().await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let one = client(&hub).await;
    peer.until("GET", 1).await;
    let sender = one.clone();
    let open = tokio::spawn(async move { sender.stream(&call("1", "hold")).await });
    peer.until("tools/call", 1).await;
    mouth.lock().unwrap().as_ref().unwrap().say(&question("q", "sampling/createMessage"));
    let mut stream = open.await.unwrap();
    let asked = stream.message().await.unwrap();
    assert_eq!(asked["method"], "sampling/createMessage");
    one.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "ok": 1 } })).await;
    assert_eq!(peer.until("an answer", 1).await[0].body["result"]["ok"], 1);
    gate.open();
    assert_eq!(stream.message().await.unwrap()["id"], "1");
}

#[tokio::test]
async fn t3_what_is_said_unasked_reaches_everybody() {
    let (peer, mouth, _) = asking().await;
    let hub = Hub::start(&peer.upstream("a", "isolation = 'shared'"));
    let (one, two) = (client(&hub).await, client(&hub).await);
    assert_eq!(one.greeting["capabilities"]["tools"]["listChanged"], true);
    let (mut first, mut second) = (one.get(None).await, two.get(None).await);
    peer.until("GET", 1).await;
    let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
    mouth.lock().unwrap().as_ref().unwrap().say(&changed);
    for stream in [&mut first, &mut second] {
        assert_eq!(stream.message().await.unwrap()["method"], "notifications/tools/list_changed");
    }
}

#[tokio::test]
async fn t3_one_that_says_nothing_unasked_is_not_promised_to_do_so() {
    let peer = legacy(|_| None).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let capabilities = client(&hub).await.greeting["capabilities"].clone();
    assert!(capabilities["tools"].is_object() && capabilities["resources"].is_object(), "{capabilities}");
    for (family, promise) in [("tools", "listChanged"), ("resources", "listChanged"), ("resources", "subscribe")] {
        assert_ne!(capabilities[family][promise], true, "{capabilities}");
    }
}

#[tokio::test]
async fn t3_t5_a_cancelled_call_is_told_to_an_older_server_and_left_at_a_newer_one() {
    fn held(seen: &Seen) -> Option<Reply> {
        (wish(seen) == "held").then(|| Reply::events(&[]).hold())
    }
    for (peer, told) in [(legacy(held).await, 1), (modern(held).await, 0)] {
        let hub = Hub::start(&peer.upstream("a", ""));
        let client = client(&hub).await;
        let sender = client.clone();
        let waiting = tokio::spawn(async move { sender.send(&call("c", "held")).await });
        let sent = peer.until("tools/call", 1).await;
        let params = json!({ "requestId": "c", "reason": "enough" });
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
        eventually("the stream is left", || sent[0].left()).await;
        waiting.await.unwrap();
        assert_eq!(echo(&client, "next").await.tool_text(), "next");
        let cancels = peer.of("notifications/cancelled");
        assert_eq!(cancels.len(), told);
        assert!(cancels.iter().all(|cancel| cancel.body["params"]["requestId"] == sent[0].body["id"]));
    }
}
