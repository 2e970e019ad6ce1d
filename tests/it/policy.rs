//! Which tools exist for callers (`tools.allow`, `tools.deny`): in every list and for every call (T21).

use std::fs;

use serde_json::{Value, json};

use super::{
    fixture::{Answer, Client, Hub, SseClient, file_until, modern, rogue},
    request::{Request, code, listen},
};

const FILTER: &str = "tools = { deny = ['crash', 'k*'] }\n";
const CHANGED: &str = "notifications/tools/list_changed";

/// The names in a list of tools.
pub fn names(answer: &Value) -> Vec<String> {
    let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools in {answer}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

fn unknown(answer: &Value) -> String {
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

fn call(id: u64, tool: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": {} } })
}

fn list(id: u64) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list" })
}

fn expect_list(answer: &Value) {
    let all = names(answer);
    assert!(all.contains(&"echo".to_owned()) && !all.contains(&"crash".to_owned()), "{all:?}");
    assert!(!all.iter().any(|name| name.starts_with('k')), "{all:?}");
}

/// Every way to list and to call: what is denied is nowhere, and no call of it reaches the upstream.
async fn everywhere(hub: &Hub, path: &str) {
    let streamable = Client::open_as(hub, &format!("{path}/mcp"), "2025-03-26", json!({})).await;
    expect_list(&streamable.request("tools/list", json!({})).await.last());
    assert_eq!(unknown(&streamable.call("crash", json!({})).await.last()), "Unknown tool: crash");
    assert_eq!(unknown(&streamable.call("kill_self", json!({})).await.last()), "Unknown tool: kill_self");
    // A batch: each answer is judged for itself, whatever their order.
    let batch = streamable.send(&json!([call(50, "crash"), list(51), call(52, "pid"), call(53, "crash")])).await;
    let answers: Vec<Value> = match serde_json::from_str(&batch.text) {
        Ok(Value::Array(all)) => all,
        _ => batch.messages().into_iter().flat_map(|one| one.as_array().cloned().unwrap_or(vec![one])).collect(),
    };
    let of = |id: u64| answers.iter().find(|answer| answer["id"] == id).unwrap_or_else(|| panic!("{answers:?}"));
    assert_eq!((unknown(of(50)), unknown(of(53))), ("Unknown tool: crash".into(), "Unknown tool: crash".into()));
    expect_list(of(51));
    assert!(of(52)["result"].is_object());
    // A call without an id would still be a call.
    let note = json!({ "jsonrpc": "2.0", "method": "tools/call", "params": { "name": "crash" } });
    assert_eq!(streamable.send(&note).await.status, 202);
    let mut sse = SseClient::greeted(hub, &format!("{path}/sse"), json!({})).await;
    sse.send(&list(7)).await;
    expect_list(&sse.stream.message().await.unwrap());
    sse.send(&call(8, "crash")).await;
    assert_eq!(unknown(&sse.stream.message().await.unwrap()), "Unknown tool: crash");
    let newer = format!("{path}/mcp");
    expect_list(&Request::new(hub, &newer, "tools/list", json!({})).send().await.last());
    let refused: Answer = Request::call(hub, &newer, "crash", json!({})).send().await;
    assert_eq!(code(&refused), (200, -32602));
    assert_eq!(refused.error().1, "Unknown tool: crash");
    assert!(Request::call(hub, &newer, "pid", json!({})).send().await.last()["result"].is_object());
    // It all still runs, which it would not had one arrived.
    assert!(streamable.call("pid", json!({})).await.last()["result"].is_object());
}

#[tokio::test]
async fn t21_what_is_denied_is_nowhere_and_nothing_of_it_reaches_the_upstream() {
    for isolation in ["session", "call", "shared"] {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let keys = format!("isolation = '{isolation}'\n{FILTER}");
        let hub = Hub::start_in(folder, &rogue("a", &["--log", &log.display().to_string()], &keys));
        everywhere(&hub, "/a").await;
        let heard = fs::read_to_string(&log).unwrap();
        assert!(
            heard.contains("\"pid\"") && !heard.contains("crash") && !heard.contains("kill_self"),
            "{isolation}: {heard}"
        );
    }
}

#[tokio::test]
async fn t21_a_server_of_the_newer_era_is_filtered_for_clients_of_both() {
    let hub = Hub::start(&modern("m", &[], "tools = { allow = ['echo', 'seen', 'ad*'], deny = ['add'] }\n"));
    let newer = Request::new(&hub, "/m/mcp", "tools/list", json!({})).send().await.last();
    let older = Client::open(&hub, "/m/mcp").await;
    for list in [newer, older.request("tools/list", json!({})).await.last()] {
        assert!(names(&list).contains(&"echo".to_owned()), "{list}");
        assert!(names(&list).iter().all(|name| name == "echo" || name == "seen" || name.starts_with("ad")), "{list}");
    }
    assert_eq!(unknown(&older.call("change", json!({ "kind": "tools" })).await.last()), "Unknown tool: change");
    let refused = Request::call(&hub, "/m/mcp", "change", json!({ "kind": "tools" })).send().await;
    assert_eq!(unknown(&refused.last()), "Unknown tool: change");
    assert!(older.call("echo", json!({ "text": "hi" })).await.last()["result"].is_object());
    super::request::no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn t21_a_denied_call_starts_no_process_and_a_name_that_cannot_be_read_is_denied() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    let flags = ["--counter", &counter.display().to_string()];
    let keys = format!("isolation = 'call'\n{FILTER}");
    let hub = Hub::start_in(folder, &rogue("a", &flags, &keys));
    let client = Client::open(&hub, "/a/mcp").await;
    let started = || fs::read_to_string(&counter).unwrap().lines().count();
    let before = started();
    for _ in 0..3 {
        assert_eq!(unknown(&client.call("crash", json!({})).await.last()), "Unknown tool: crash");
    }
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pid","name":"crash"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"cr\u0061sh"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["crash"]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
    ] {
        let post = client.http.post(&client.url).header("mcp-session-id", &client.session);
        let post =
            post.header("content-type", "application/json").header("accept", "application/json, text/event-stream");
        let answer = super::fixture::answer(post.body(body)).await;
        assert_eq!(answer.error().0, -32602, "{body}: {answer:?}");
    }
    assert_eq!(started(), before);
}

#[tokio::test]
async fn t21_every_page_is_filtered_and_all_other_bytes_pass() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tools");
    let first = r#"{ "x":1.50,"tools": [ {"name":"a", "n":1E+2},{"title":"no\u0020name"} , {"name":"crash"},{"name":"\u0062"} ],"nextCursor":"1","y":[ ]}"#;
    let second = r#"{"tools":[{"name":"c","big":123456789012345678901234567890}],"z": null}"#;
    fs::write(&file, format!("{first}\n{second}\n")).unwrap();
    let hub = Hub::start_in(folder, &rogue("a", &["--tools", &file.display().to_string()], FILTER));
    let client = Client::open(&hub, "/a/mcp").await;
    let one = client.request("tools/list", json!({})).await;
    let kept = r#"{ "x":1.50,"tools": [{"name":"a", "n":1E+2},{"name":"\u0062"}],"nextCursor":"1","y":[ ]}"#;
    assert!(one.text.contains(kept), "{}", one.text);
    let two = client.request("tools/list", json!({ "cursor": "1" })).await;
    assert!(two.text.contains(second), "{}", two.text);
    assert_eq!(hub.upstream("a").await["tools"]["count"], Value::Null, "a list with a nameless tool is not learned");
    // What cannot be read is not passed on unread.
    for page in [
        r#"{"tools":{"a":1}}"#,
        r#"{"tools":[],"tools":[{"name":"crash"}]}"#,
        r#"{"tools":[],"t\u006fols":[{"name":"crash"}]}"#,
    ] {
        fs::write(&file, page).unwrap();
        let answer = client.request("tools/list", json!({})).await;
        assert!(answer.error().1.contains("cannot be read"), "{page}: {answer:?}");
    }
}

async fn until_changed(stream: &mut super::fixture::Stream) {
    while stream.message().await.expect("the stream is open")["method"] != CHANGED {}
}

#[tokio::test]
async fn t21_a_changed_filter_is_live_and_clients_hear_of_it() {
    let toml = |keys: &str| format!("[defaults]\ntools = {{ deny = ['crash'] }}\n{}", rogue("a", &[], keys));
    let hub = Hub::start(&toml(""));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut stream = client.get(None).await;
    let (mut listen, _) = listen(&hub, "/a/mcp", json!({ "toolsListChanged": true })).await;
    let pid = client.call("pid", json!({})).await.tool_text();
    assert!(!names(&client.request("tools/list", json!({})).await.last()).contains(&"crash".to_owned()));
    // Nobody sees a difference, so nobody is told: what follows is the first word.
    hub.edit(&toml("tools = { deny = ['crash', 'nothing_*'] }\n"));
    hub.generation(2).await;
    hub.edit(&toml("tools = { allow = ['pid', 'echo'] }\n"));
    hub.generation(3).await;
    until_changed(&mut stream).await;
    until_changed(&mut listen).await;
    assert_eq!(names(&client.request("tools/list", json!({})).await.last()), ["echo", "pid"]);
    assert_eq!(unknown(&client.call("who", json!({})).await.last()), "Unknown tool: who");
    assert_eq!(client.call("pid", json!({})).await.tool_text(), pid, "the process is the same");
    hub.edit(&toml("tools = { allow = ['*'], deny = [] }\n"));
    hub.generation(4).await;
    until_changed(&mut stream).await;
    assert!(names(&client.request("tools/list", json!({})).await.last()).contains(&"crash".to_owned()));
    assert!(client.call("who", json!({})).await.last()["result"].is_object());
    assert_eq!(stream_rest(&client, stream).await, 0, "one word for each change");
}

/// Counts what else of it is on the stream, up to a log message that we bring about.
async fn stream_rest(client: &Client, mut stream: super::fixture::Stream) -> usize {
    client.call("updated", json!({ "uri": "rogue://mark" })).await;
    let mut count = 0;
    loop {
        match stream.message().await.expect("the stream is open")["method"].as_str() {
            Some(CHANGED) => count += 1,
            Some("notifications/resources/updated") => return count,
            _ => {}
        }
    }
}

#[tokio::test]
async fn t21_a_filter_and_a_new_command_arrive_together() {
    let toml = |flags: &[&str], keys: &str| format!("[hub]\ndrain_timeout = '10s'\n{}", rogue("a", flags, keys));
    let hub = Hub::start(&toml(&[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut stream = client.get(None).await;
    client.request("tools/list", json!({})).await;
    hub.edit(&toml(&["--instructions", "two"], FILTER));
    hub.logged("the new definition serves").await;
    until_changed(&mut stream).await;
    // Its own process still answers, under the filter of now.
    assert_eq!(unknown(&client.call("crash", json!({})).await.last()), "Unknown tool: crash");
    expect_list(&client.request("tools/list", json!({})).await.last());
}

#[tokio::test]
async fn t21_a_bad_pattern_is_a_mistake_with_its_place() {
    let hub = Hub::start(&rogue("a", &[], FILTER));
    hub.edit(&rogue("a", &[], "tools = { deny = ['[a'] }\n"));
    let status = hub.until("it is rejected", |status| status["reload"]["rejected"].is_string()).await;
    let drawn = status["reload"]["rejected"].as_str().unwrap();
    assert!(drawn.contains("this is no pattern") && drawn.contains("^"), "{drawn}");
    let client = Client::open(&hub, "/a/mcp").await;
    assert_eq!(unknown(&client.call("crash", json!({})).await.last()), "Unknown tool: crash", "the old filter holds");
    file_until(&hub.path(), |text| text.contains("[a")).await;
}
