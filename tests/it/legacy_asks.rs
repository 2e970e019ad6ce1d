//! Questions of a server of the newer era to clients with sessions: real requests on the call's stream (P44).

use serde_json::{Value, json};

use super::{
    fixture::{Answer, Client, Hub, LATEST, Stream, alive, eventually, file_until, modern},
    request::{no_complaints, until_seen},
};

/// How many rounds of questions one call may have.
const ROUNDS_MAX: usize = 8;

async fn able(hub: &Hub, revision: &str) -> Client {
    let abilities = json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} });
    Client::open_as(hub, "/m/mcp", revision, abilities).await
}

fn hub() -> Hub {
    Hub::start(&modern("m", &[], ""))
}

fn call(id: i64, tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

/// Answers every question on a stream with one result; the questions, and what the call came to.
async fn answered(client: &Client, mut stream: Stream, result: Value) -> (Vec<Value>, Value) {
    let mut questions = Vec::new();
    loop {
        let message = stream.message().await.expect("an answer");
        if message.get("method").is_none() {
            return (questions, message);
        }
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
        assert_eq!(client.send(&answer).await.status, 202);
        questions.push(message);
    }
}

/// What was told to the server, by rounds.
fn told(done: &Value) -> Value {
    let text = done["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {done}"));
    serde_json::from_str(text).unwrap_or_else(|_| panic!("it ended badly: {text}"))
}

fn is_error(answer: &Value) -> bool {
    answer["result"]["isError"] == true
}

#[tokio::test]
async fn p44_a_question_comes_on_the_stream_of_its_call_and_the_retry_is_a_new_request() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log").display().to_string();
    let hub = Hub::start_in(folder, &modern("m", &["--log", &log], ""));
    let client = able(&hub, LATEST).await;
    let mut get = client.get(None).await;
    let accepted = json!({ "action": "accept", "content": { "name": "Ada" } });
    let stream = client.stream(&call(7, "ask", json!({ "message": "Who?" }))).await;
    let (questions, done) = answered(&client, stream, accepted.clone()).await;
    assert_eq!(questions.len(), 1);
    assert_eq!(
        (&questions[0]["method"], &questions[0]["params"]["message"]),
        (&json!("elicitation/create"), &json!("Who?"))
    );
    assert!(questions[0]["id"].is_string() || questions[0]["id"].is_number(), "{questions:?}");
    assert_eq!((&done["id"], told(&done)["answers"].clone()), (&json!(7), json!([{ "q": accepted }])));
    assert_eq!(done["result"].get("resultType"), None);
    // Nothing of it came on the other stream.
    until_seen(&hub, "/m/mcp", |told| !told["listens"].as_array().unwrap().is_empty()).await;
    client.call("change", json!({ "kind": "tools" })).await;
    assert_eq!(get.message().await.unwrap()["method"], "notifications/tools/list_changed");
    no_complaints(&hub, "/m/mcp").await;
    let log = file_until(log.as_ref(), |text| text.contains("inputResponses")).await;
    let asks = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ids: Vec<_> = asks.filter(|sent| sent["params"]["name"] == "ask").map(|sent| sent["id"].clone()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn p44_three_questions_in_one_round_are_three_requests() {
    let hub = hub();
    let client = able(&hub, LATEST).await;
    let mut stream = client.stream(&call(1, "ask_many", json!({ "message": "?" }))).await;
    let mut questions = Vec::new();
    for _ in 0..3 {
        questions.push(stream.message().await.unwrap());
    }
    let find = |method: &str| questions.iter().find(|question| question["method"] == method).unwrap()["id"].clone();
    let results = [
        (find("roots/list"), json!({ "roots": [{ "uri": "file:///x" }] })),
        (
            find("sampling/createMessage"),
            json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "hi" } }),
        ),
        (find("elicitation/create"), json!({ "action": "cancel" })),
    ];
    assert!(results[0].0 != results[1].0 && results[1].0 != results[2].0 && results[0].0 != results[2].0);
    for (id, result) in &results {
        assert_eq!(client.send(&json!({ "jsonrpc": "2.0", "id": id, "result": result })).await.status, 202);
    }
    let done = stream.message().await.unwrap();
    let [r, s, e] = results.map(|(_, result)| result);
    assert_eq!(told(&done)["answers"], json!([{ "e": e, "s": s, "r": r }]));
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p44_rounds_are_counted_and_too_many_are_an_error() {
    let hub = hub();
    let client = able(&hub, LATEST).await;
    for (id, count, ends_well) in [(1, 3, true), (2, ROUNDS_MAX, true), (3, 50, false)] {
        let stream = client.stream(&call(id, "ask_rounds", json!({ "message": "again", "count": count }))).await;
        let (questions, done) = answered(&client, stream, json!({ "action": "decline" })).await;
        let texts: Vec<_> = questions.iter().map(|question| question["params"]["message"].clone()).collect();
        let expected: Vec<_> = (0..count.min(ROUNDS_MAX)).map(|round| json!(format!("again {round}"))).collect();
        assert_eq!(texts, expected);
        assert_eq!(!is_error(&done), ends_well, "{done}");
        assert!(!ends_well || told(&done)["answers"].as_array().unwrap().len() == count, "{done}");
        let mut ids: Vec<_> = questions.iter().map(|question| question["id"].to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), texts.len(), "an id of its own for each");
    }
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p44_a_result_with_a_state_only_is_retried_but_not_in_haste() {
    let hub = hub();
    let client = Client::open(&hub, "/m/mcp").await;
    let done = client.call("ask_state", json!({ "count": 2 })).await.last();
    let waits = told(&done)["waits"].clone();
    let waits: Vec<_> = waits.as_array().unwrap().iter().map(|wait| wait.as_u64().unwrap()).collect();
    // The server's clock starts a moment after the hub's could.
    assert!(waits.len() == 2 && waits.iter().all(|wait| *wait >= 245), "{waits:?}");
    assert!(is_error(&client.call("ask_state", json!({ "count": 50 })).await.last()), "it ends some time");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p44_prompts_and_resources_ask_too() {
    let hub = hub();
    let client = able(&hub, LATEST).await;
    for (id, method, params) in
        [(1, "prompts/get", json!({ "name": "asks" })), (2, "resources/read", json!({ "uri": "modern://asks" }))]
    {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let (questions, done) = answered(&client, client.stream(&body).await, json!({ "action": "decline" })).await;
        assert_eq!(questions.len(), 1, "{method}");
        assert!(done["id"] == id && done["result"].to_string().contains("decline"), "{method}: {done}");
    }
    // And nothing else may.
    let params =
        json!({ "ref": { "type": "ref/prompt", "name": "asks" }, "argument": { "name": "topic", "value": "ask" } });
    let refused: Answer = client.request("completion/complete", params).await;
    assert_eq!((refused.status, refused.error().0), (200, -32603), "P43");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn a_client_that_answers_with_an_error_ends_the_call() {
    let hub = hub();
    let client = able(&hub, LATEST).await;
    let mut stream = client.stream(&call(1, "ask_many", json!({ "message": "?" }))).await;
    for _ in 0..3 {
        let question = stream.message().await.unwrap();
        let error = json!({ "code": -1, "message": "the user said no" });
        assert_eq!(client.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "error": error })).await.status, 202);
    }
    let mut done = stream.message().await.unwrap();
    // Answers to the other questions are not needed any more.
    while done["method"] == "notifications/cancelled" {
        done = stream.message().await.unwrap();
    }
    assert!(done["id"] == 1 && is_error(&done), "there is no place for an error in the answers: {done}");
    assert!(done["result"]["content"][0]["text"].is_string(), "{done}");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn a_process_that_goes_while_the_client_thinks_is_replaced_by_one_that_goes_on() {
    let hub = hub();
    let client = able(&hub, LATEST).await;
    let mut stream = client.stream(&call(1, "ask", json!({ "message": "?" }))).await;
    let question = stream.message().await.unwrap();
    let old = hub.upstream("m").await["pids"][0].as_u64().unwrap() as u32;
    assert!(std::process::Command::new("kill").args(["-9", &old.to_string()]).status().unwrap().success());
    // Until the hub has noticed, the retry could still be sent to the dead one, and would be lost with it.
    hub.until_upstream("m", |upstream| upstream["pids"] != json!([old])).await;
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } });
    assert_eq!(client.send(&answer).await.status, 202);
    // This server's states are worth nothing to its next process: what matters is that it was asked, and at once.
    let done = stream.message().await.unwrap();
    assert_eq!((&done["id"], &done["error"]["code"]), (&json!(1), &json!(-32602)), "{done}");
    assert_ne!(hub.upstream("m").await["pids"][0], old);
}

#[tokio::test]
async fn a_reload_waits_for_a_client_that_thinks() {
    let hub = hub();
    let client = able(&hub, LATEST).await;
    let mut stream = client.stream(&call(1, "ask", json!({ "message": "?" }))).await;
    let question = stream.message().await.unwrap();
    let old = hub.upstream("m").await["pids"][0].as_u64().unwrap() as u32;
    hub.edit(&modern("m", &["--instructions", "new"], ""));
    hub.until_upstream("m", |upstream| upstream["pids"][0].as_u64().is_some_and(|pid| pid != u64::from(old))).await;
    assert!(alive(old), "it has a call to finish");
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } });
    assert_eq!(client.send(&answer).await.status, 202);
    let mut done = stream.message().await.unwrap();
    while done["method"].is_string() {
        done = stream.message().await.unwrap();
    }
    assert!(!is_error(&done), "{done}");
    eventually("the old one goes then", || !alive(old)).await;
}

#[tokio::test]
async fn what_a_client_did_not_declare_is_not_asked() {
    let hub = hub();
    let mute = Client::open(&hub, "/m/mcp").await;
    for tool in ["ask", "ask_many", "ask_url"] {
        let refused = mute.call(tool, json!({ "message": "?" })).await;
        assert_eq!((refused.status, refused.error().0), (200, -32021), "{tool}");
        assert_eq!(refused.messages().len(), 1, "{tool}");
    }
    // URLs came with 2025-11-25, and need an id there.
    let old = able(&hub, "2025-06-18").await;
    assert_eq!(old.call("ask_url", json!({})).await.error().0, -32021);
    let client = able(&hub, LATEST).await;
    let stream = client.stream(&call(1, "ask_url", json!({ "message": "?" }))).await;
    let (questions, done) = answered(&client, stream, json!({ "action": "accept" })).await;
    let params = &questions[0]["params"];
    assert_eq!((&params["mode"], &params["url"]), (&json!("url"), &json!("https://example.com/consent")));
    assert!(params["elicitationId"].is_string(), "{params}");
    assert_eq!(told(&done)["answers"], json!([{ "u": { "action": "accept" } }]));
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_asks_is_not_retried() {
    let hub = hub();
    let client = able(&hub, LATEST).await;
    let mut stream = client.stream(&call(1, "ask", json!({ "message": "?" }))).await;
    let question = stream.message().await.unwrap();
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    assert_eq!(client.send(&cancel).await.status, 202);
    let late = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } });
    assert_eq!(client.send(&late).await.status, 202, "too late, and no matter");
    // What came after it has been served: a retry would have been seen.
    assert!(!client.call("pid", json!({})).await.tool_text().is_empty());
    let told = until_seen(&hub, "/m/mcp", |told| told["inFlight"] == 0).await;
    assert_eq!((&told["pending"], &told["complaints"]), (&json!(1), &json!([])));
}

#[tokio::test]
async fn a_question_waits_for_a_client_that_lost_its_connection() {
    let hub = hub();
    let client = able(&hub, LATEST).await;
    let mut stream = client.stream(&call(1, "ask", json!({ "message": "?" }))).await;
    let question = loop {
        let event = stream.next().await.unwrap();
        if !event.data.is_empty() {
            break event;
        }
    };
    drop(stream);
    hub.until("the connection is gone", |status| status["streams"] == 0).await;
    let answer = json!({ "jsonrpc": "2.0", "id": question.json()["id"], "result": { "action": "decline" } });
    assert_eq!(client.send(&answer).await.status, 202);
    let done = client.get(question.id.as_deref()).await.message().await.unwrap();
    assert_eq!((&done["id"], told(&done)["answers"].clone()), (&json!(1), json!([{ "q": { "action": "decline" } }])));
    no_complaints(&hub, "/m/mcp").await;
}
