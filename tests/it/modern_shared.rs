//! One process of the newer era serves everybody, whatever `isolation` says, and nobody notices (P7, P8, P58).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    fixture::{Answer, Client, Hub, SseClient, alive, modern},
    request::{Request, no_complaints, seen, until_seen},
};

/// A call with an id and a token that everybody uses.
fn params(tool: &str, arguments: Value) -> Value {
    json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": 1 } })
}

fn call(id: i64, tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params(tool, arguments) })
}

/// The progress of a call that has this total, and its answer: nobody else's.
fn check(answer: &Answer, total: u64) {
    let messages = answer.messages();
    let (last, progress) = messages.split_last().unwrap();
    assert_eq!((&last["id"], answer.tool_text()), (&json!(1), total.to_string()));
    assert_eq!(progress.len() as u64, total);
    for (step, message) in progress.iter().enumerate() {
        assert_eq!(message["params"], json!({ "progressToken": 1, "progress": step + 1, "total": total }));
    }
}

#[tokio::test]
async fn p7_p8_equal_ids_and_tokens_of_many_clients_never_meet() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log").display().to_string();
    let hub = Hub::start_in(folder, &modern("m", &["--log", &log], ""));
    let mut clients = Vec::new();
    for number in 0..3_u64 {
        let client = Client::open(&hub, "/m/mcp").await;
        clients.push(tokio::spawn(async move {
            for round in 0..10 {
                let total = 10 + 10 * number + round % 3;
                check(&client.send(&call(1, "slow", json!({ "count": total, "ms": 1 }))).await, total);
            }
        }));
        let totals = (0..10).map(|round| 50 + 10 * number + round % 3);
        let requests: Vec<_> = totals
            .map(|total| {
                (total, Request::new(&hub, "/m/mcp", "tools/call", params("slow", json!({ "count": total, "ms": 1 }))))
            })
            .collect();
        clients.push(tokio::spawn(async move {
            for (total, request) in requests {
                check(&request.send().await, total);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    no_complaints(&hub, "/m/mcp").await;
    let log = std::fs::read_to_string(log).unwrap();
    let sent = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let requests: Vec<Value> = sent.filter(|sent| sent.get("id").is_some()).collect();
    let distinct =
        |at: &str| requests.iter().filter_map(|sent| sent.pointer(at)).map(Value::to_string).collect::<BTreeSet<_>>();
    assert_eq!(distinct("/id").len(), requests.len(), "an id of its own for each");
    assert_eq!(distinct("/params/_meta/progressToken").len(), 60, "and a token");
}

#[tokio::test]
async fn one_process_serves_all_clients_and_sessions() {
    for isolation in ["session", "call", "shared"] {
        let folder = tempfile::tempdir().unwrap();
        let counter = folder.path().join("counter").display().to_string();
        let keys = format!("isolation = '{isolation}'");
        let hub = Hub::start_in(folder, &modern("m", &["--counter", &counter], &keys));
        let mut pids = BTreeSet::new();
        for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
            let client = Client::open(&hub, "/m/mcp").await;
            pids.insert(client.call("pid", json!({})).await.tool_text());
            let named = Client::open_as(&hub, "/m/mcp", revision, json!({ "roots": {} })).await;
            pids.insert(named.call("pid", json!({})).await.tool_text());
            assert_eq!(client.delete().await, 204);
        }
        for name in ["ada", "bob"] {
            let client = json!({ "name": name, "version": "1" });
            let request = Request::call(&hub, "/m/mcp", "pid", json!({}));
            let request = request.meta("io.modelcontextprotocol/clientInfo", client);
            pids.insert(request.capable(json!({ "sampling": {} })).send().await.tool_text());
        }
        let mut oldest = SseClient::greeted(&hub, "/m/sse", json!({})).await;
        oldest.send(&call(1, "pid", json!({}))).await;
        let told = oldest.stream.message().await.unwrap();
        pids.insert(told["result"]["content"][0]["text"].as_str().unwrap().to_owned());
        assert_eq!(pids.len(), 1, "{isolation}: {pids:?}");
        assert_eq!(std::fs::read_to_string(counter).unwrap().lines().count(), 1, "{isolation}");
        assert!(alive(pids.first().unwrap().parse().unwrap()), "{isolation}: it outlives the sessions");
        no_complaints(&hub, "/m/mcp").await;
    }
}

#[tokio::test]
async fn p58_what_one_client_does_to_its_call_concerns_no_other() {
    let hub = Hub::start(&modern("m", &[], ""));
    let clients = [Client::open(&hub, "/m/mcp").await, Client::open(&hub, "/m/mcp").await];
    let slow = json!({ "count": 1, "ms": 4000 });
    let [kept, other] = clients.clone().map(|client| {
        let body = call(1, "slow", slow.clone());
        tokio::spawn(async move { client.send(&body).await })
    });
    let newer = tokio::spawn(Request::new(&hub, "/m/mcp", "tools/call", params("slow", slow.clone())).send());
    until_seen(&hub, "/m/mcp", |told| told["inFlight"] == 3).await;
    // The same id as the others'.
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    assert_eq!(clients[1].send(&cancel).await.status, 202);
    other.await.unwrap();
    let told = until_seen(&hub, "/m/mcp", |told| told["inFlight"] == 2).await;
    assert_eq!(told["cancelled"].as_array().unwrap().len(), 1);
    // One that does not read what it asked for.
    let unread = clients[1].stream(&call(2, "slow", json!({ "count": 20_000, "ms": 0 }))).await;
    // One that leaves in the middle, in either era.
    drop(clients[1].stream(&call(3, "slow", json!({ "count": 3, "ms": 100 }))).await);
    let leaving = Request::new(&hub, "/m/mcp", "tools/call", params("slow", json!({ "count": 1_000, "ms": 5 })));
    drop(leaving.stream().await);
    // One that ends its session.
    assert_eq!(clients[1].delete().await, 204);
    for number in 0..50 {
        let text = json!({ "n": number }).to_string();
        let answer = clients[0].call("echo", json!({ "n": number })).await;
        assert_eq!(answer.tool_text(), text);
    }
    drop(unread);
    assert_eq!(kept.await.unwrap().tool_text(), "1");
    assert_eq!(newer.await.unwrap().tool_text(), "1");
    assert_eq!(hub.upstream("m").await["restarts"], 0);
    until_seen(&hub, "/m/mcp", |told| told["inFlight"] == 0).await;
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn questions_of_two_clients_at_once_reach_each_its_own() {
    let hub = Hub::start(&modern("m", &[], ""));
    let mut streams = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        let client = Client::open_as(&hub, "/m/mcp", "2025-06-18", json!({ "elicitation": {} })).await;
        let stream = client.stream(&call(1, "ask", json!({ "message": name }))).await;
        streams.push((name, client, stream));
    }
    for (name, client, stream) in &mut streams {
        let question = stream.message().await.unwrap();
        assert_eq!(question["params"]["message"], *name);
        let result = json!({ "action": "accept", "content": { "name": name } });
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": result });
        assert_eq!(client.send(&answer).await.status, 202);
    }
    for (name, _, mut stream) in streams {
        let text = stream.message().await.unwrap()["result"]["content"][0]["text"].to_string();
        assert!(text.contains(name), "{text}");
    }
    let told = seen(&hub, "/m/mcp").await;
    assert_eq!((&told["pending"], &told["complaints"]), (&json!(0), &json!([])));
}
