//! The event streams of Streamable HTTP: which message goes where, and what a client that left can read later.

use std::{collections::HashSet, path::Path, time::Instant};

use serde_json::{Value, json};

use super::{
    fixture::{Answer, Client, Hub, SseEvent, Stream, answer, eventually, file_until, rogue},
    raw::{self, Raw},
};

/// The revisions of Streamable HTTP.
const REVISIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": "tools/call",
            "params": { "name": tool, "arguments": arguments, "_meta": { "progressToken": "t" } } })
}

fn accepted(question: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "accept", "content": {} } })
}

/// A client that can be asked things.
async fn askable(hub: &Hub, revision: &str) -> Client {
    Client::open_as(hub, "/a/mcp", revision, json!({ "elicitation": {}, "sampling": {}, "roots": {} })).await
}

/// Calls a tool that asks something, and reads until it does; the event comes too.
async fn question(client: &Client, id: i64) -> (Stream, SseEvent) {
    let mut stream = client.stream(&call(id, "ask_elicitation", json!({ "message": format!("q{id}") }))).await;
    loop {
        let event = stream.next().await.expect("a question");
        if !event.data.is_empty() {
            assert_eq!(event.json()["params"]["message"], format!("q{id}"));
            return (stream, event);
        }
    }
}

/// What was said, without what only serves the stream.
fn messages(events: Vec<SseEvent>) -> Vec<Value> {
    events.iter().filter(|event| !event.data.is_empty()).map(SseEvent::json).collect()
}

async fn cancels(client: &Client) -> String {
    client.call("received_cancels", json!({})).await.tool_text()
}

#[tokio::test]
async fn p17_what_belongs_to_a_call_comes_on_its_stream_and_nowhere_else() {
    let hub = Hub::start(&rogue("a", &[], ""));
    for revision in REVISIONS {
        let client = askable(&hub, revision).await;
        let mut unasked = client.get(None).await;
        let progress = client.send(&call(1, "progress", json!({ "count": 3 }))).await;
        let messages = progress.messages();
        let steps: Vec<_> =
            messages[..3].iter().map(|step| (&step["method"], &step["params"]["progressToken"])).collect();
        assert_eq!(steps, vec![(&json!("notifications/progress"), &json!("t")); 3], "{revision}");
        assert_eq!((messages.len(), &messages[3]["id"]), (4, &json!(1)));
        let log = client.send(&call(2, "log", json!({ "level": "error", "text": "l" }))).await.messages();
        assert_eq!((log.len(), &log[0]["method"], &log[1]["id"]), (2, &json!("notifications/message"), &json!(2)));
        for tool in ["ask_elicitation", "ask_sampling", "ask_roots"] {
            let mut stream = client.stream(&call(3, tool, json!({}))).await;
            let question = stream.message().await.unwrap();
            assert!(question["method"].is_string(), "{question}");
            assert_eq!(client.send(&accepted(&question)).await.status, 202);
            assert_eq!(stream.message().await.unwrap()["id"], 3);
            assert_eq!(stream.message().await, None, "the stream ends behind the response");
        }
        // The first thing on the other stream is what belongs to no call.
        client.call("updated", json!({ "uri": "x:1" })).await;
        assert_eq!(unasked.message().await.unwrap()["params"]["uri"], "x:1", "{revision}");
    }
}

#[tokio::test]
async fn p18_what_belongs_to_no_call_waits_for_a_reader_within_bounds() {
    let hub = Hub::start(&format!("[hub.limits]\nreplay_events_max = 5\n{}", rogue("a", &[], "")));
    for revision in REVISIONS {
        let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        let update = async |n: usize| drop(client.call("updated", json!({ "uri": format!("x:{n}") })).await);
        let read = async |stream: &mut Stream| stream.message().await.unwrap()["params"]["uri"].to_string();
        update(1).await;
        update(2).await;
        let mut stream = client.get(None).await;
        assert_eq!([read(&mut stream).await, read(&mut stream).await], [r#""x:1""#, r#""x:2""#]);
        drop(stream);
        let mut stream = client.get(None).await;
        while stream.status == 409 {
            stream = client.get(None).await;
        }
        update(3).await;
        assert_eq!(read(&mut stream).await, r#""x:3""#, "nothing comes twice");
        drop(stream);
        hub.until("the reader is gone", |status| status["streams"] == 0).await;
        for n in 4..24 {
            update(n).await;
        }
        let mut stream = client.get(None).await;
        for n in 19..24 {
            assert_eq!(read(&mut stream).await, format!(r#""x:{n}""#), "the latest are kept");
        }
    }
}

#[tokio::test]
async fn p19_f35_a_lost_connection_cancels_nothing_and_the_result_is_read_later() {
    let hub = Hub::start(&rogue("a", &[], ""));
    for revision in REVISIONS {
        let client = askable(&hub, revision).await;
        let (stream, asked) = question(&client, 1).await;
        let id = asked.id.clone().expect("an event id");
        drop(stream);
        hub.until("the connection is gone", |status| status["streams"] == 0).await;
        // The call is still under way, and can still be answered.
        assert_eq!(client.call("inflight", json!({})).await.tool_text(), "1");
        assert_eq!(client.send(&accepted(&asked.json())).await.status, 202);
        let mut resumed = client.get(Some(&id)).await;
        assert_eq!(resumed.status, 200);
        let response = resumed.message().await.unwrap();
        assert_eq!((&response["id"], response["error"].is_null()), (&json!(1), true), "{revision}: {response}");
        assert_eq!(resumed.message().await, None, "the stream ends behind the response");
        // And once more, as long as it is kept.
        let again = messages(client.get(Some(&id)).await.rest().await);
        assert_eq!(again, [response]);
        assert_eq!(cancels(&client).await, "[]");
    }
}

#[tokio::test]
async fn f35_a_client_that_left_before_the_stream_opened_cancels_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&rogue("a", &["--log", log.to_str().unwrap()], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut raw = Raw::connect(&hub).await;
    let session = format!("Mcp-Session-Id: {}\r\n", client.session);
    raw.send(raw::post("/a/mcp", &session, &call(1, "sleep", json!({ "ms": 300 })).to_string())).await;
    file_until(&log, |log| log.contains(r#""name":"sleep""#)).await;
    drop(raw);
    while client.call("inflight", json!({})).await.tool_text() != "0" {}
    assert_eq!(cancels(&client).await, "[]");
}

#[tokio::test]
async fn p20_f80_only_an_event_of_ones_own_can_be_resumed_from() {
    let hub = Hub::start(&rogue("a", &[], ""));
    for revision in REVISIONS {
        let (client, other) = (askable(&hub, revision).await, askable(&hub, revision).await);
        let (one, asked_one) = question(&client, 1).await;
        let (two, asked_two) = question(&client, 2).await;
        let (_theirs, asked_theirs) = question(&other, 1).await;
        let ids: HashSet<_> = [&asked_one, &asked_two].into_iter().map(|event| event.id.clone().unwrap()).collect();
        assert_eq!(ids.len(), 2, "ids are unique in a session");
        drop((one, two));
        // Answered crosswise, each stream carries its own response only.
        for asked in [&asked_two, &asked_one] {
            client.send(&accepted(&asked.json())).await;
        }
        for (asked, id) in [(&asked_one, 1), (&asked_two, 2)] {
            let found = messages(client.get(asked.id.as_deref()).await.rest().await);
            let found: Vec<_> = found.iter().map(|message| message["id"].clone()).collect();
            assert_eq!(found, [id], "{revision}");
        }
        // Another session's event: its stream here is another one, or none; never theirs.
        let silent = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        let forged = [
            "garbage",
            "",
            "0",
            "0-",
            "-",
            "0-0",
            "0-99",
            "99-1",
            "1-1-1",
            "-1-1",
            "1.0-1",
            " 0-1",
            "99999999999999999999-1",
            "0-99999999999999999999",
            asked_theirs.id.as_deref().unwrap(),
        ];
        for id in forged {
            let refused = silent.get(Some(id)).await;
            assert_eq!(refused.status, 400, "{id:?}");
        }
        let mut get = silent.http.get(&silent.url).header("accept", "text/event-stream");
        get = get.header("mcp-session-id", &silent.session).header("last-event-id", b"\xff\xfe".as_slice());
        assert_eq!(answer(get).await.status, 400);
        // It is the event that is unknown, not the session.
        assert_eq!(silent.request("ping", json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn p21_only_newer_clients_are_primed_and_told_when_to_retry() {
    let hub = Hub::start(&rogue("a", &[], ""));
    for revision in REVISIONS {
        let client = askable(&hub, revision).await;
        let primed = revision == "2025-11-25";
        let posted = client.send(&call(1, "progress", json!({ "count": 1 }))).await.events;
        client.call("updated", json!({ "uri": "x:1" })).await;
        let mut get = client.get(None).await;
        let mut gotten = Vec::new();
        while gotten.iter().filter(|event: &&SseEvent| event.retry.is_none()).count() < 1 + usize::from(primed) {
            gotten.push(get.next().await.unwrap());
        }
        for events in [posted, gotten] {
            let empty: Vec<_> = events.iter().filter(|event| event.data.is_empty() && event.retry.is_none()).collect();
            assert_eq!(empty.len(), usize::from(primed), "{revision}: {events:?}");
            assert!(empty.iter().all(|event| event.id.is_some()));
            let retry: Vec<_> = events.iter().filter_map(|event| event.retry).collect();
            assert_eq!(retry.len(), usize::from(primed), "{revision}: {events:?}");
            assert!(events.iter().filter(|event| !event.data.is_empty()).all(|event| event.id.is_some()));
        }
    }
    // The priming event of a call's stream is its first, and good to resume from.
    let client = askable(&hub, "2025-11-25").await;
    let mut stream = client.stream(&call(1, "ask_elicitation", json!({ "message": "q1" }))).await;
    let first = loop {
        let event = stream.next().await.unwrap();
        if event.retry.is_none() {
            break event;
        }
    };
    assert_eq!(first.data, "");
    let asked = stream.message().await.unwrap();
    drop(stream);
    let mut resumed = client.get(first.id.as_deref()).await;
    assert_eq!(resumed.message().await.unwrap(), asked);
    client.send(&accepted(&asked)).await;
    assert_eq!(resumed.message().await.unwrap()["id"], 1);
}

#[tokio::test]
async fn resuming_takes_the_stream_from_an_earlier_reader() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = askable(&hub, "2025-11-25").await;
    // The client has lost its connection, and the hub does not know it yet.
    let (mut stale, asked) = question(&client, 1).await;
    let mut resumed = client.get(asked.id.as_deref()).await;
    assert_eq!(resumed.status, 200);
    assert_eq!(stale.message().await, None);
    client.send(&accepted(&asked.json())).await;
    assert_eq!(resumed.message().await.unwrap()["id"], 1);
}

#[tokio::test]
async fn f81_of_a_long_stream_the_latest_events_are_kept() {
    let hub = Hub::start(&format!("[hub.limits]\nreplay_events_max = 5\n{}", rogue("a", &[], "")));
    let client = askable(&hub, "2025-11-25").await;
    let events = client.send(&call(1, "progress", json!({ "count": 20 }))).await.events;
    let ids: Vec<_> = events.iter().filter_map(|event| event.id.as_deref()).collect();
    assert_eq!(ids.len(), 22, "the priming event, the progress, the response");
    assert_eq!(client.get(Some(ids[0])).await.status, 400, "dropped");
    assert_eq!(client.get(Some(ids[15])).await.status, 400, "a gap would go unnoticed");
    assert_eq!(client.get(Some(ids[16])).await.rest().await.iter().filter(|event| event.id.is_some()).count(), 5);
    let last = client.get(Some(ids[20])).await.rest().await;
    assert_eq!(last.last().unwrap().json()["id"], 1);
}

#[tokio::test]
async fn an_answer_that_comes_first_is_json_and_anything_else_a_stream() {
    let hub = Hub::start(&rogue("a", &[], ""));
    for revision in REVISIONS {
        let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        let with = async |accept: &str, body: Value| -> Answer {
            let post =
                client.http.post(&client.url).header("accept", accept).header("content-type", "application/json");
            answer(post.header("mcp-session-id", &client.session).body(body.to_string())).await
        };
        let (both, one, three) = (
            "application/json, text/event-stream",
            call(1, "echo", json!({ "text": "x" })),
            call(1, "progress", json!({ "count": 3 })),
        );
        let plain = with(both, one.clone()).await;
        assert_eq!((plain.headers["content-type"].as_str(), plain.status), ("application/json", 200));
        assert_eq!(plain.headers["content-length"], plain.text.len().to_string());
        let events = with(both, three.clone()).await;
        assert!(events.is_stream());
        assert_eq!(events.headers["x-accel-buffering"], "no");
        assert!(events.headers["cache-control"].contains("no-cache"));
        // A client that takes only one of them gets that one.
        for body in [one.clone(), three.clone()] {
            let json = with("application/json", body.clone()).await;
            assert_eq!((json.headers["content-type"].as_str(), &json.last()["id"]), ("application/json", &json!(1)));
            let events = with("text/event-stream", body).await;
            assert!(events.is_stream());
            assert_eq!(events.last()["id"], 1);
        }
        for any in ["*/*", "application/json, */*;q=0.1"] {
            assert_eq!(with(any, one.clone()).await.status, 200);
        }
        for neither in ["text/html", "application/json;q=0", "image/png, text/plain"] {
            assert_eq!(with(neither, one.clone()).await.status, 406, "{neither}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_long_in_coming_opens_a_stream_after_a_second() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let soon = client.send(&call(1, "sleep", json!({ "ms": 20 }))).await;
    assert!(!soon.is_stream());
    let began = Instant::now();
    let mut stream = client.stream(&call(2, "hang", json!({}))).await;
    assert!(began.elapsed().as_millis() >= 950, "the head was sent before the window was over");
    assert_eq!((stream.status, stream.headers["content-type"].as_str()), (200, "text/event-stream"));
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 2 } });
    assert_eq!(client.send(&cancel).await.status, 202);
    assert_eq!(stream.message().await, None, "nothing follows a cancellation");
}

#[tokio::test]
async fn a_carriage_return_between_tokens_does_not_cut_an_event() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let line =
        "{\"jsonrpc\":\"2.0\",\r\"method\":\"notifications/message\",\r\"params\":{\"level\":\"error\",\r\"data\":1}}";
    let said = client.send(&call(1, "raw", json!({ "line": line }))).await.messages();
    assert_eq!((said.len(), &said[0]["params"]["data"], &said[1]["id"]), (2, &json!(1), &json!(1)));
}

/// How many descriptors the hub has open.
fn descriptors(hub: &Hub) -> usize {
    std::fs::read_dir(Path::new("/proc").join(hub.pid().to_string()).join("fd")).unwrap().count()
}

#[tokio::test]
async fn f37_clients_that_break_off_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&rogue("a", &["--log", log.to_str().unwrap()], "request_timeout = '500ms'"));
    let client = Client::open(&hub, "/a/mcp").await;
    client.call("pid", json!({})).await;
    let before = descriptors(&hub);
    let session = format!("Mcp-Session-Id: {}\r\n", client.session);
    for id in 0..10 {
        let whole = raw::post("/a/mcp", &session, &call(id, "hang", json!({ "id": id })).to_string());
        let get = format!("GET /a/mcp HTTP/1.1\r\nHost: localhost\r\n{session}Accept: text/event-stream\r\n\r\n");
        for part in [
            "",
            "POST /a/mcp HT",
            &whole[..whole.len() - 5],
            &whole,
            &get,
            "GET /a/sse HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ] {
            let mut raw = Raw::connect(&hub).await;
            raw.send(part).await;
        }
    }
    file_until(&log, |log| log.matches(r#""name":"hang""#).count() == 10).await;
    // Their calls go on, up to their deadline.
    file_until(&log, |log| log.matches("notifications/cancelled").count() == 10).await;
    let quiet = |status: &Value| status["streams"] == 0 && status["sessions"] == 1;
    hub.until("streams and their sessions are gone", quiet).await;
    eventually("their sockets are closed", || descriptors(&hub) <= before).await;
    assert_eq!(client.call("inflight", json!({})).await.tool_text(), "0");
}
