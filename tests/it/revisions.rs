//! Between revisions of the older era: what came later than the client's becomes what it knows (protocol revisions
//! 2025-03-26 to 2025-11-25, their changelogs), or is refused to the server that asks.

use serde_json::{Value, json};

use super::fixture::{Client, Hub, rogue};

/// A process that is greeted by the hub, with the newest revision, whoever calls.
fn hub() -> Hub {
    Hub::start(&rogue("r", &[], "isolation = 'call'"))
}

async fn client(hub: &Hub, revision: &str) -> Client {
    Client::open_as(hub, "/r/mcp", revision, json!({ "elicitation": {}, "sampling": {} })).await
}

async fn result(client: &Client, json: &Value) -> Value {
    client.call("result", json!({ "json": json.to_string() })).await.last()["result"].clone()
}

#[tokio::test]
async fn kinds_of_content_that_are_newer_become_text() {
    let hub = hub();
    let all = json!({ "content": [{ "type": "audio", "data": "eA==", "mimeType": "audio/wav" },
        { "type": "resource_link", "uri": "file:///a", "name": "a" }, { "type": "text", "text": "t" }] });
    for (revision, kinds) in [
        ("2024-11-05", ["text", "text", "text"]),
        ("2025-03-26", ["audio", "text", "text"]),
        ("2025-06-18", ["audio", "resource_link", "text"]),
        ("2025-11-25", ["audio", "resource_link", "text"]),
    ] {
        let got = result(&client(&hub, revision).await, &all).await;
        let content = got["content"].as_array().unwrap();
        assert_eq!(
            content.iter().map(|block| block["type"].as_str().unwrap()).collect::<Vec<_>>(),
            kinds,
            "{revision}"
        );
        assert!(content[1]["text"].as_str().is_none_or(|text| text.contains("file:///a")), "{got}");
    }
}

#[tokio::test]
async fn structured_content_is_said_in_text_to_those_who_read_no_other() {
    let hub = hub();
    let structured = json!({ "content": [], "structuredContent": { "n": 1 } });
    for revision in ["2024-11-05", "2025-03-26"] {
        let got = result(&client(&hub, revision).await, &structured).await;
        let text: Value = serde_json::from_str(got["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text, json!({ "n": 1 }), "{revision}");
    }
    assert_eq!(result(&client(&hub, "2025-06-18").await, &structured).await, structured);
}

/// What a client is asked in mid call, if it is; and what the server gets as an answer.
async fn asked(client: &Client, tool: &str, params: Value, answer: Value) -> (Option<Value>, Value) {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": tool, "arguments": { "json": params.to_string() } } });
    let mut stream = client.stream(&call).await;
    let mut question = None;
    loop {
        let message = stream.message().await.expect("an answer");
        if message.get("method").is_none() {
            let text = message["result"]["content"][0]["text"].as_str().unwrap();
            return (question, serde_json::from_str(text).unwrap());
        }
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": answer });
        assert_eq!(client.send(&answer).await.status, 202);
        question = Some(message["params"].clone());
    }
}

#[tokio::test]
async fn forms_are_as_the_clients_revision_has_them() {
    let hub = hub();
    let form =
        |field: Value| json!({ "message": "?", "requestedSchema": { "type": "object", "properties": { "f": field } } });
    let titled = form(json!({ "type": "string", "default": "a", "oneOf": [{ "const": "a", "title": "A" }] }));
    let accepted = json!({ "action": "accept", "content": { "f": "a" } });
    let old = client(&hub, "2025-06-18").await;
    let (question, answer) = asked(&old, "ask_form", titled.clone(), accepted.clone()).await;
    let field = question.unwrap()["requestedSchema"]["properties"]["f"].clone();
    assert_eq!(field, json!({ "type": "string", "enum": ["a"], "enumNames": ["A"] }));
    assert_eq!(answer["result"], accepted);
    let new = client(&hub, "2025-11-25").await;
    assert_eq!(asked(&new, "ask_form", titled.clone(), accepted).await.0, Some(titled));
    // A choice of several has no older form: the server is told, and the client is not asked.
    let several = form(json!({ "type": "array", "items": { "type": "string", "enum": ["a", "b"] } }));
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": { "name": "ask_form", "arguments": { "json": several.to_string() } } });
    let refused: Value = serde_json::from_str(&old.send(&call).await.tool_text()).unwrap();
    assert_eq!(refused["error"]["code"], -32602);
}

#[tokio::test]
async fn sampling_has_one_block_of_content_before_2025_11_25() {
    let hub = hub();
    let block = json!({ "type": "text", "text": "hi" });
    let params = json!({ "maxTokens": 9, "messages": [{ "role": "user", "content": [block] }] });
    let sampled = json!({ "role": "assistant", "model": "m", "content": block });
    let (question, answer) =
        asked(&client(&hub, "2025-06-18").await, "ask_model", params.clone(), sampled.clone()).await;
    assert_eq!(question.unwrap()["messages"][0]["content"], block);
    assert_eq!(answer["result"], sampled);
    let (question, _) = asked(&client(&hub, "2025-11-25").await, "ask_model", params.clone(), sampled).await;
    assert_eq!(question, Some(params));
}

#[tokio::test]
async fn an_address_that_cannot_be_opened_is_in_the_text_of_the_error() {
    let hub = hub();
    let error = json!({ "code": -32042, "message": "sign in",
        "data": { "elicitations": [{ "mode": "url", "url": "https://a.example/b", "elicitationId": "e", "message": "?" }] } });
    let told = async |revision| {
        let arguments = json!({ "json": error.to_string() });
        client(&hub, revision).await.call("error", arguments).await.last()["error"].clone()
    };
    let old = told("2025-06-18").await;
    assert_eq!((&old["code"], &old["message"]), (&json!(-32603), &json!("sign in https://a.example/b")));
    assert_eq!(told("2025-11-25").await, error);
}

#[tokio::test]
async fn p59_tasks_of_2025_11_25_are_the_sessions_own() {
    let offered = json!({ "tools": {}, "tasks": { "list": {}, "requests": { "tools": { "call": {} } } } }).to_string();
    let flags = ["--capabilities", &offered];
    let hub = Hub::start(&[rogue("own", &flags, ""), rogue("all", &flags, "isolation = 'shared'")].concat());
    let (one, two) = (Client::open(&hub, "/own/mcp").await, Client::open(&hub, "/own/mcp").await);
    assert!(one.greeting["capabilities"]["tasks"]["list"].is_object());
    let made = one.request("tools/call", json!({ "name": "echo", "task": { "ttl": 60_000 } })).await.last();
    let task = json!({ "taskId": made["result"]["task"]["taskId"] });
    assert!(task["taskId"].is_string(), "{made}");
    assert_eq!(one.request("tasks/get", task.clone()).await.last()["result"]["status"], "completed");
    let result = one.request("tasks/result", task.clone()).await;
    assert_eq!(result.tool_text(), "done");
    assert_eq!(result.last()["result"]["_meta"]["io.modelcontextprotocol/related-task"], task);
    assert_eq!(two.request("tasks/get", task.clone()).await.error().0, -32602, "it is the other one's");
    // Where strangers share a process, and where the revision has none, there are no tasks.
    let shared = Client::open(&hub, "/all/mcp").await;
    let older = Client::open_as(&hub, "/own/mcp", "2025-06-18", json!({})).await;
    for client in [&shared, &older] {
        assert_eq!(client.greeting["capabilities"]["tasks"], Value::Null);
        assert_eq!(client.request("tasks/get", task.clone()).await.error().0, -32601);
    }
}
