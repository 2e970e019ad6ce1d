//! Clients with sessions before a server of the newer era: the hub says what they cannot (P31, P45, P56).

use serde_json::{Value, json};

use super::{
    fixture::{Answer, Client, Hub, LATEST, SseClient, Stream, modern},
    request::{VERSION, no_complaints, until_seen},
};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

fn hub() -> Hub {
    Hub::start(&modern("m", &["--instructions", "Be strict."], ""))
}

/// The `_meta` that arrived with a call of `echo`.
async fn envelope(client: &Client) -> Value {
    let last = client.call("echo", json!({})).await.last();
    serde_json::from_str(last["result"]["content"][1]["text"].as_str().unwrap()).unwrap()
}

/// The next message of this method.
async fn until(stream: &mut Stream, method: &str) -> Value {
    loop {
        let message = stream.message().await.unwrap();
        if message["method"] == method {
            return message;
        }
    }
}

#[tokio::test]
async fn p31_initialize_is_answered_from_what_the_server_told() {
    let hub = hub();
    for revision in REVISIONS {
        let client = Client::open_as(&hub, "/m/mcp", revision, json!({})).await;
        let greeting = &client.greeting;
        assert_eq!(greeting["protocolVersion"], revision);
        assert_eq!(
            (&greeting["serverInfo"]["name"], &greeting["instructions"]),
            (&json!("modern"), &json!("Be strict."))
        );
        for (family, detail) in [("tools", "listChanged"), ("prompts", "listChanged"), ("resources", "subscribe")] {
            assert_eq!(greeting["capabilities"][family][detail], true, "{family}");
        }
        assert!(greeting["capabilities"]["logging"].is_object(), "{greeting}");
        assert!(!client.call("pid", json!({})).await.tool_text().is_empty());
    }
    let unknown = super::fixture::initialize("2099-01-01", json!({}));
    let answer = super::fixture::post(&super::fixture::http(), &hub.url("/m/mcp"), &[], &unknown).await;
    assert_eq!(answer.last()["result"]["protocolVersion"], LATEST);
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn each_request_has_the_envelope_of_its_session() {
    let hub = hub();
    let cases = [
        (LATEST, json!({}), json!({})),
        (
            LATEST,
            json!({ "roots": { "listChanged": true }, "elicitation": {}, "sampling": {}, "tasks": { "list": {} } }),
            json!({ "roots": {}, "elicitation": { "form": {} }, "sampling": {} }),
        ),
        (
            LATEST,
            json!({ "elicitation": { "form": {}, "url": {} }, "experimental": { "x": {} } }),
            json!({ "elicitation": { "form": {}, "url": {} }, "experimental": { "x": {} } }),
        ),
        // Nobody had URLs before 2025-11-25.
        ("2025-06-18", json!({ "elicitation": { "form": {}, "url": {} } }), json!({ "elicitation": { "form": {} } })),
    ];
    for (revision, declared, expected) in cases {
        let client = Client::open_as(&hub, "/m/mcp", revision, declared.clone()).await;
        let meta = envelope(&client).await;
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], VERSION);
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"], json!({ "name": "test", "version": "1" }));
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], expected, "{revision} {declared}");
        assert!(meta.get("io.modelcontextprotocol/logLevel").is_none_or(|level| level == "warning"), "{meta}");
    }
    let client = Client::open(&hub, "/m/mcp").await;
    let meta = json!({ "progressToken": "mine", "example.com/x": { "y": 1.5 } });
    let answer = client.request("tools/call", json!({ "name": "echo", "_meta": meta })).await;
    let arrived = answer.last()["result"]["content"][1]["text"].as_str().unwrap().to_owned();
    assert!(arrived.contains(r#""example.com/x":{"y":1.5}"#) && !arrived.contains("mine"), "{arrived}");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p45_what_the_newer_era_does_not_know_works_or_is_absorbed() {
    let hub = hub();
    let client = Client::open_as(&hub, "/m/mcp", LATEST, json!({ "roots": { "listChanged": true } })).await;
    let mut get = client.get(None).await;
    assert_eq!(client.request("ping", json!({})).await.last()["result"], json!({}));
    let changed = json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" });
    assert_eq!(client.send(&changed).await.status, 202);
    let uri = |uri: &str| json!({ "uri": uri });
    assert_eq!(client.request("resources/subscribe", uri("modern://one")).await.last()["result"], json!({}));
    let refused = client.request("resources/subscribe", uri("elsewhere://one")).await;
    assert_eq!((refused.status, refused.error().0), (200, -32602), "the server does not watch it");
    client.call("update", uri("modern://two")).await;
    client.call("update", uri("modern://one")).await;
    let notice = until(&mut get, "notifications/resources/updated").await;
    assert_eq!(notice["params"], json!({ "uri": "modern://one" }));
    for kind in ["tools", "prompts", "resources"] {
        client.call("change", json!({ "kind": kind })).await;
        let notice = until(&mut get, &format!("notifications/{kind}/list_changed")).await;
        assert!(!notice.to_string().contains("subscriptionId"), "{notice}");
    }
    assert_eq!(client.request("resources/unsubscribe", uri("modern://one")).await.last()["result"], json!({}));
    until_seen(&hub, "/m/mcp", |told| !told["listens"].to_string().contains("modern://one")).await;
    client.call("update", uri("modern://one")).await;
    client.call("change", json!({ "kind": "tools" })).await;
    assert_eq!(get.message().await.unwrap()["method"], "notifications/tools/list_changed", "no update any more");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p45_what_the_server_does_not_offer_is_not_there() {
    let hub = Hub::start(&modern("m", &["--capabilities", r#"{"tools":{},"resources":{}}"#], ""));
    let client = Client::open(&hub, "/m/mcp").await;
    assert_eq!(client.greeting["capabilities"].get("logging"), None);
    for (method, params) in [
        ("logging/setLevel", json!({ "level": "debug" })),
        ("resources/subscribe", json!({ "uri": "modern://one" })),
        ("x/y", json!({})),
    ] {
        let answer = client.request(method, params).await;
        assert_eq!((answer.status, answer.error().0), (200, -32601), "{method}: 404 would end the session");
    }
    no_complaints(&hub, "/m/mcp").await;
}

fn logged(answer: &Answer) -> Vec<Value> {
    let messages = answer.messages().into_iter();
    messages.filter(|message| message["method"] == "notifications/message").collect()
}

#[tokio::test]
async fn p56_each_client_has_its_own_log_level() {
    let hub = hub();
    let mut clients = Vec::new();
    for level in [Some("debug"), Some("error"), None] {
        let client = Client::open(&hub, "/m/mcp").await;
        if let Some(level) = level {
            assert_eq!(client.request("logging/setLevel", json!({ "level": level })).await.last()["result"], json!({}));
            let meta = envelope(&client).await;
            assert_eq!(meta["io.modelcontextprotocol/logLevel"], level);
        }
        clients.push(client);
    }
    for (number, level, heard) in
        [(0, "debug", 1), (0, "error", 1), (1, "warning", 0), (1, "error", 1), (1, "critical", 1), (2, "info", 0)]
    {
        let answer = clients[number].call("log", json!({ "level": level, "text": "x" })).await;
        assert_eq!((answer.tool_text().as_str(), logged(&answer).len()), ("ok", heard), "client {number}, {level}");
    }
    let wrong = clients[0].request("logging/setLevel", json!({ "level": "loud" })).await;
    assert_eq!(wrong.error().0, -32602);
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p56_a_log_message_that_may_be_anybodys_is_nobodys() {
    let hub = hub();
    let (one, two) = (Client::open(&hub, "/m/mcp").await, Client::open(&hub, "/m/mcp").await);
    for client in [&one, &two] {
        client.request("logging/setLevel", json!({ "level": "debug" })).await;
    }
    let hanging = {
        let two = two.clone();
        tokio::spawn(async move { two.call("slow", json!({ "count": 1, "ms": 1500 })).await })
    };
    until_seen(&hub, "/m/mcp", |told| told["inFlight"] == 1).await;
    let answer = one.call("log", json!({ "level": "error", "text": "secret" })).await;
    assert_eq!(answer.tool_text(), "ok");
    assert!(logged(&hanging.await.unwrap()).is_empty(), "another's message");
}

#[tokio::test]
async fn tasks_of_the_one_era_are_not_led_to_the_other() {
    let hub = Hub::start(&modern("m", &["--tasks"], ""));
    let client = Client::open_as(&hub, "/m/mcp", LATEST, json!({ "tasks": { "list": {}, "cancel": {} } })).await;
    assert!(!client.greeting["capabilities"].to_string().contains("tasks"), "{}", client.greeting);
    let task = client.request("tools/call", json!({ "name": "task", "task": { "ttl": 60_000 } })).await;
    assert_eq!((task.status, task.error().0), (200, -32601));
    for method in ["tasks/get", "tasks/list", "tasks/result", "tasks/cancel"] {
        let answer = client.request(method, json!({ "taskId": "t1" })).await;
        assert_eq!((answer.status, answer.error().0), (200, -32601), "{method}");
    }
    assert_eq!(client.call("task", json!({})).await.tool_text(), "ok");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn progress_and_cancels_belong_to_their_call() {
    let hub = hub();
    let client = Client::open(&hub, "/m/mcp").await;
    let slow = |id: i64| {
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "slow",
                "arguments": { "count": 3, "ms": 1 }, "_meta": { "progressToken": "mine" } } })
    };
    let messages = client.send(&slow(5)).await.messages();
    let progress = messages.iter().filter(|message| message["method"] == "notifications/progress");
    assert!(progress.clone().all(|message| message["params"]["progressToken"] == "mine"));
    assert_eq!((progress.count(), &messages.last().unwrap()["id"]), (3, &json!(5)));
    let hang = json!({ "jsonrpc": "2.0", "id": "h", "method": "tools/call", "params": { "name": "hang" } });
    let hanging = {
        let client = client.clone();
        tokio::spawn(async move { client.send(&hang).await })
    };
    until_seen(&hub, "/m/mcp", |told| told["inFlight"] == 1).await;
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": "h" } });
    assert_eq!(client.send(&cancel).await.status, 202);
    let told = until_seen(&hub, "/m/mcp", |told| told["cancelled"].as_array().unwrap().len() == 1).await;
    assert_eq!((&told["inFlight"], &told["complaints"]), (&json!(0), &json!([])));
    hanging.await.unwrap();
}

#[tokio::test]
async fn a_client_of_the_oldest_transport_is_served_too() {
    let hub = hub();
    let mut client = SseClient::greeted(&hub, "/m/sse", json!({ "elicitation": {} })).await;
    let call = |id: i64, tool: &str| {
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
                "params": { "name": tool, "arguments": { "message": "?", "kind": "tools" } } })
    };
    assert_eq!(client.send(&call(1, "pid")).await, 202);
    assert_eq!(client.stream.message().await.unwrap()["id"], 1);
    assert_eq!(client.send(&call(2, "ask")).await, 202);
    let question = until(&mut client.stream, "elicitation/create").await;
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } });
    assert_eq!(client.send(&answer).await, 202);
    let done = client.stream.message().await.unwrap();
    assert!(done["id"] == 2 && done.to_string().contains("decline"), "{done}");
    until_seen(&hub, "/m/mcp", |told| !told["listens"].as_array().unwrap().is_empty()).await;
    assert_eq!(client.send(&call(3, "change")).await, 202);
    until(&mut client.stream, "notifications/tools/list_changed").await;
    no_complaints(&hub, "/m/mcp").await;
}
