//! A reload that replaces a process of the newer era: those who listen notice no more than they have to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    fixture::{Client, Hub, Stream, alive, eventually, modern},
    request::{Request, listen, no_complaints, seen, tag, until_seen},
};

fn toml(text: &str) -> String {
    modern("m", &["--instructions", text], "")
}

/// What comes on a stream up to the news of a part of `modern://one`, counted by method and URI.
async fn heard(stream: &mut Stream) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    loop {
        let message = stream.message().await.expect("the stream stays open");
        if message["params"]["uri"] == "modern://one/marker" {
            return all;
        }
        let uri = message["params"]["uri"].as_str().unwrap_or_default();
        *all.entry(format!("{} {uri}", message["method"].as_str().unwrap())).or_default() += 1;
    }
}

/// Replaces the process; answers when the new one is asked to watch what the old one watched.
async fn replace(hub: &Hub) {
    let old = seen(hub, "/m/mcp").await["pid"].clone();
    hub.edit(&toml("two"));
    until_seen(hub, "/m/mcp", |told| told["pid"] != old && told["listens"].to_string().contains("modern://one")).await;
    Request::call(hub, "/m/mcp", "update", json!({ "uri": "modern://one/marker" })).send().await;
    eventually("the old process ends", || !alive(old.as_u64().unwrap() as u32)).await;
}

#[tokio::test]
async fn a_listen_stays_and_hears_of_each_kind_once() {
    let hub = Hub::start(&toml("one"));
    let wanted = json!({ "toolsListChanged": true, "promptsListChanged": true,
                         "resourceSubscriptions": ["modern://one"] });
    let (mut stream, _) = listen(&hub, "/m/mcp", wanted).await;
    replace(&hub).await;
    // The news of the new process may come before what makes up for the time between the two.
    let mut all = BTreeMap::new();
    for _ in 0..4 {
        let message = stream.message().await.expect("the stream stays open");
        let uri = message["params"]["uri"].as_str().unwrap_or_default();
        *all.entry(format!("{} {uri}", message["method"].as_str().unwrap())).or_default() += 1;
    }
    let expected = [
        "notifications/prompts/list_changed ",
        "notifications/resources/updated modern://one",
        "notifications/resources/updated modern://one/marker",
        "notifications/tools/list_changed ",
    ];
    assert_eq!(all, expected.map(|kind| (kind.to_owned(), 1)).into());
    Request::call(&hub, "/m/mcp", "change", json!({ "kind": "tools" })).send().await;
    let notice = stream.message().await.unwrap();
    assert_eq!((&notice["method"], tag(&notice)), (&json!("notifications/tools/list_changed"), json!("sub")));
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn sessions_stay_and_hear_of_each_kind_once() {
    let hub = Hub::start(&toml("one"));
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let client = Client::open(&hub, "/m/mcp").await;
        let stream = client.get(None).await;
        let subscribed = client.request("resources/subscribe", json!({ "uri": "modern://one" })).await;
        assert_eq!(subscribed.last()["result"], json!({}));
        client.request("logging/setLevel", json!({ "level": "debug" })).await;
        sessions.push((client, stream));
    }
    replace(&hub).await;
    for (client, mut stream) in sessions {
        let mut heard = heard(&mut stream).await;
        assert!(heard.remove("notifications/resources/updated modern://one").is_none_or(|times| times == 1));
        let expected = ["prompts", "resources", "tools"].map(|kind| (format!("notifications/{kind}/list_changed "), 1));
        assert_eq!(heard, expected.into());
        let logged = client.call("log", json!({ "level": "debug", "text": "x" })).await;
        assert_eq!(logged.messages().len(), 2, "its level is remembered: {logged:?}");
    }
    let newer = Client::open(&hub, "/m/mcp").await;
    assert_eq!(newer.greeting["instructions"], "two");
    assert_eq!(hub.upstream("m").await["state"], "ready");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn a_call_finishes_where_it_began_while_others_are_at_the_new_process() {
    let hub = Hub::start(&toml("one"));
    let client = Client::open(&hub, "/m/mcp").await;
    let old: u32 = client.call("pid", json!({})).await.tool_text().parse().unwrap();
    let slow = {
        let client = client.clone();
        tokio::spawn(async move { client.call("slow", json!({ "count": 1, "ms": 3000 })).await })
    };
    until_seen(&hub, "/m/mcp", |told| told["inFlight"] == 1).await;
    hub.edit(&toml("two"));
    // Without pause, until the new process answers, and in either era.
    until_seen(&hub, "/m/mcp", |told| told["pid"] != old).await;
    let new = loop {
        let answering = client.call("pid", json!({})).await.tool_text();
        if answering != old.to_string() {
            break answering;
        }
    };
    assert!(alive(old), "a call is still under way there");
    assert_eq!(slow.await.unwrap().tool_text(), "1");
    eventually("the old process ends", || !alive(old)).await;
    assert_eq!(client.call("pid", json!({})).await.tool_text(), new);
}

#[tokio::test]
async fn an_upstream_may_change_its_era() {
    let hub = Hub::start(&modern("m", &["--probe", "error"], ""));
    let greeted = async || Client::open(&hub, "/m/mcp").await.greeting["serverInfo"]["name"].clone();
    assert_eq!(greeted().await, "not so modern");
    for (flags, name, generation) in [(&[][..], "modern", 2), (&["--probe", "exit"], "not so modern", 3)] {
        hub.edit(&modern("m", flags, ""));
        hub.generation(generation).await;
        let began = std::time::Instant::now();
        while greeted().await != name {
            assert!(began.elapsed() < super::fixture::PATIENCE, "it is not {name}");
        }
        let request = Request::call(&hub, "/m/mcp", "pid", json!({}));
        let answer: Value = request.send().await.last();
        assert!(answer["result"]["content"].is_array(), "{answer}");
    }
}
