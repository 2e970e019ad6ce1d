//! Listens of many clients on one process of the newer era: one upstream, each client its own (P36, P55, P57).

use serde_json::{Value, json};

use super::{
    fixture::{Client, Hub, alive, eventually, modern},
    request::{Request, listen, no_complaints, seen, tag, until_seen},
};

const TOOLS: &str = "notifications/tools/list_changed";
const UPDATED: &str = "notifications/resources/updated";

fn hub() -> Hub {
    Hub::start(&modern("m", &[], ""))
}

async fn call(hub: &Hub, tool: &str, arguments: Value) {
    assert_eq!(Request::call(hub, "/m/mcp", tool, arguments).send().await.status, 200);
}

/// The URIs that the server is asked to watch.
fn watched(told: &Value) -> Vec<String> {
    let listens = told["listens"].as_array().unwrap().iter();
    let uris = listens.filter_map(|filter| filter["resourceSubscriptions"].as_array()).flatten();
    let mut uris: Vec<_> = uris.map(|uri| uri.as_str().unwrap().to_owned()).collect();
    uris.sort();
    uris
}

#[tokio::test]
async fn p36_listen_is_acknowledged_tagged_and_ended_with_a_result() {
    let mut hub = hub();
    let wanted = json!({ "toolsListChanged": true, "promptsListChanged": false,
                         "resourceSubscriptions": ["modern://one", "elsewhere://one"] });
    let (mut stream, honoured) = listen(&hub, "/m/mcp", wanted).await;
    assert_eq!(honoured["toolsListChanged"], true);
    assert_eq!(honoured["resourceSubscriptions"], json!(["modern://one"]), "the honoured subset only");
    assert!(honoured["promptsListChanged"] != true && honoured["resourcesListChanged"] != true, "{honoured}");
    // Nothing that was not asked for comes before what was.
    call(&hub, "change", json!({ "kind": "prompts" })).await;
    call(&hub, "update", json!({ "uri": "modern://two" })).await;
    call(&hub, "change", json!({ "kind": "tools" })).await;
    let notice = stream.message().await.unwrap();
    assert_eq!((&notice["method"], tag(&notice)), (&json!(TOOLS), json!("sub")));
    call(&hub, "update", json!({ "uri": "modern://one" })).await;
    let notice = stream.message().await.unwrap();
    assert_eq!((&notice["method"], tag(&notice)), (&json!(UPDATED), json!("sub")));
    assert_eq!(notice["params"]["uri"], "modern://one");
    no_complaints(&hub, "/m/mcp").await;
    hub.signal("TERM");
    let last = loop {
        let next = stream.message().await.expect("a result ends the stream");
        if next.get("result").is_some() {
            break next;
        }
    };
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("sub"), &json!("complete")));
    assert!(hub.ended().success());
}

#[tokio::test]
async fn listens_are_one_upstream_and_each_client_hears_its_own() {
    let hub = hub();
    // Equal ids, different wishes.
    let (mut tools, _) = listen(&hub, "/m/mcp", json!({ "toolsListChanged": true })).await;
    let (mut prompts, _) = listen(&hub, "/m/mcp", json!({ "promptsListChanged": true })).await;
    let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": ["modern://one"] });
    let (mut both, _) = listen(&hub, "/m/mcp", wanted).await;
    let is_one = |told: &Value| told["listens"].as_array().unwrap().len() == 1;
    let told = until_seen(&hub, "/m/mcp", is_one).await;
    let filter = &told["listens"][0];
    assert_eq!((&filter["toolsListChanged"], &filter["promptsListChanged"]), (&json!(true), &json!(true)));
    assert_eq!(watched(&told), ["modern://one"]);
    for kind in ["prompts", "tools"] {
        call(&hub, "change", json!({ "kind": kind })).await;
    }
    call(&hub, "update", json!({ "uri": "modern://one" })).await;
    call(&hub, "change", json!({ "kind": "tools" })).await;
    assert_eq!(prompts.message().await.unwrap()["method"], "notifications/prompts/list_changed");
    for method in [TOOLS, TOOLS] {
        assert_eq!(tools.message().await.unwrap()["method"], method);
    }
    for method in [TOOLS, UPDATED, TOOLS] {
        let notice = both.message().await.unwrap();
        assert_eq!((&notice["method"], tag(&notice)), (&json!(method), json!("sub")));
    }
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p55_subscriptions_are_counted_and_survive_the_process() {
    let hub = hub();
    let uri = json!({ "uri": "modern://one" });
    let (one, two) = (Client::open(&hub, "/m/mcp").await, Client::open(&hub, "/m/mcp").await);
    let (mut first, mut second) = (one.get(None).await, two.get(None).await);
    for client in [&one, &two] {
        assert_eq!(client.request("resources/subscribe", uri.clone()).await.last()["result"], json!({}));
    }
    let (mut stream, _) =
        listen(&hub, "/m/mcp", json!({ "resourceSubscriptions": ["modern://one", "modern://two"] })).await;
    let both = |told: &Value| watched(told) == ["modern://one", "modern://two"];
    until_seen(&hub, "/m/mcp", both).await;
    // A part of what is watched concerns those who watch the whole.
    call(&hub, "update", json!({ "uri": "modern://one/part" })).await;
    for stream in [&mut first, &mut second] {
        let notice = until(stream, UPDATED).await;
        assert_eq!(notice["params"], json!({ "uri": "modern://one/part" }), "and no listen's id");
    }
    // The process dies: the new one is asked the same.
    let old = seen(&hub, "/m/mcp").await["pid"].as_u64().unwrap() as u32;
    let crashed = Request::call(&hub, "/m/mcp", "crash", json!({ "code": 3 })).send().await;
    assert_eq!(crashed.error().0, -32603);
    eventually("it is dead", || !alive(old)).await;
    until_seen(&hub, "/m/mcp", |told| told["pid"] != old && both(told)).await;
    // Whoever leaves is counted out: by ending its session, by closing its stream, by unsubscribing.
    while until(&mut stream, UPDATED).await["params"]["uri"] != "modern://two" {}
    assert_eq!(one.delete().await, 204);
    drop(stream);
    until_seen(&hub, "/m/mcp", |told| watched(told) == ["modern://one"]).await;
    assert_eq!(two.request("resources/unsubscribe", uri).await.last()["result"], json!({}));
    until_seen(&hub, "/m/mcp", |told| watched(told).is_empty()).await;
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p55_who_leaves_while_the_process_is_replaced_is_counted_out_too() {
    let hub = hub();
    let (stream, _) = listen(&hub, "/m/mcp", json!({ "resourceSubscriptions": ["modern://one"] })).await;
    let old = seen(&hub, "/m/mcp").await["pid"].clone();
    Request::call(&hub, "/m/mcp", "crash", json!({ "code": 3 })).send().await;
    until_seen(&hub, "/m/mcp", |told| told["pid"] != old && watched(told) == ["modern://one"]).await;
    drop(stream);
    until_seen(&hub, "/m/mcp", |told| watched(told).is_empty()).await;
    no_complaints(&hub, "/m/mcp").await;
}

/// The next message of this method on a stream that carries others, too.
async fn until(stream: &mut super::fixture::Stream, method: &str) -> Value {
    loop {
        let message = stream.message().await.unwrap();
        if message["method"] == method {
            return message;
        }
    }
}

#[tokio::test]
async fn a_listen_that_the_server_ends_is_opened_again_under_the_client() {
    let hub = hub();
    let (mut stream, _) = listen(&hub, "/m/mcp", json!({ "toolsListChanged": true })).await;
    let session = Client::open(&hub, "/m/mcp").await;
    let mut get = session.get(None).await;
    call(&hub, "end_listens", json!({})).await;
    let notice = stream.message().await.unwrap();
    assert_eq!((&notice["method"], tag(&notice)), (&json!(TOOLS), json!("sub")), "changes may have been missed");
    until(&mut get, TOOLS).await;
    until_seen(&hub, "/m/mcp", |told| !told["listens"].as_array().unwrap().is_empty()).await;
    call(&hub, "change", json!({ "kind": "tools" })).await;
    assert_eq!(stream.message().await.unwrap()["method"], TOOLS, "one for what was missed, one for this");
    until(&mut get, TOOLS).await;
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn a_dead_process_is_replaced_under_a_listener() {
    let hub = hub();
    let (mut stream, _) = listen(&hub, "/m/mcp", json!({ "toolsListChanged": true })).await;
    Request::call(&hub, "/m/mcp", "crash", json!({ "code": 3 })).send().await;
    assert_eq!(stream.message().await.unwrap()["method"], TOOLS, "changes may have been missed");
    until_seen(&hub, "/m/mcp", |told| told["listens"].as_array().unwrap().len() == 1).await;
    call(&hub, "change", json!({ "kind": "tools" })).await;
    assert_eq!(stream.message().await.unwrap()["method"], TOOLS);
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p57_what_a_client_reads_after_a_notice_is_not_older_than_the_notice() {
    let hub = hub();
    let read = async || {
        let request = Request::new(&hub, "/m/mcp", "resources/read", json!({ "uri": "modern://one" }));
        request.send().await.last()["result"]["contents"][0]["text"].as_str().unwrap().to_owned()
    };
    let (mut stream, _) = listen(&hub, "/m/mcp", json!({ "resourceSubscriptions": ["modern://one"] })).await;
    for version in 0..20 {
        // The server allows a minute of caching.
        assert_eq!(read().await, format!("version {version}"));
        call(&hub, "update", json!({ "uri": "modern://one" })).await;
        assert_eq!(stream.message().await.unwrap()["method"], UPDATED);
        assert_eq!(read().await, format!("version {}", version + 1));
    }
}

#[tokio::test]
async fn p57_what_was_told_to_a_question_is_asked_for_each_time() {
    let hub = hub();
    for name in ["ada", "bob"] {
        let request = Request::new(&hub, "/m/mcp", "resources/read", json!({ "uri": "modern://asks" }));
        let request = request.capable(json!({ "elicitation": {} }));
        let asked = super::fixture::answer(request.build()).await.last()["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{name}: {asked}");
        let answers = json!({ "q": { "action": "accept", "content": { "name": name } } });
        let done = request.retry(&asked, answers).send().await.last()["result"].to_string();
        assert!(done.contains(name), "{done}");
    }
}
