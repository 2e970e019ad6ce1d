//! Children that live and do nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, alive, eventually, file_until, rogue};

#[tokio::test]
async fn f5_a_child_that_reads_no_more_is_replaced() {
    let toml = [rogue("silent", &[], "request_timeout = '1s'"), rogue("full", &[], "stop_timeout = '500ms'")];
    let hub = Hub::start(&toml.concat());
    let (silent, full) = (Client::open(&hub, "/silent/mcp").await, Client::open(&hub, "/full/mcp").await);
    let (first, other) = (pid(&silent).await, pid(&full).await);
    // One lets a call time out, and then gives no sign of life either.
    let timed_out = silent.call("freeze", json!({})).await.error().1;
    assert!(timed_out.contains("did not answer within 1s"), "{timed_out}");
    // The other one's pipe is full.
    let frozen = {
        let full = full.clone();
        tokio::spawn(async move { full.call("freeze", json!({})).await })
    };
    let (began, stuffed) = (Instant::now(), full.call("echo", json!({ "text": "x".repeat(3 << 20) })).await.error());
    assert!(began.elapsed() > Duration::from_secs(25), "the write side has its time: {:?}", began.elapsed());
    assert_eq!(stuffed.0, -32603);
    assert_eq!(frozen.await.unwrap().error().0, -32603);
    assert_ne!(pid(&full).await, other);
    // Three times ten seconds for a sign of life.
    let began = Instant::now();
    while alive(first) {
        assert!(began.elapsed() < Duration::from_secs(40));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(pid(&silent).await, first);
    eventually("both are gone", || !alive(other)).await;
    assert_eq!(hub.upstream("silent").await["restarts"], 1);
}

#[tokio::test]
async fn f22_a_call_without_an_answer_times_out_is_cancelled_and_frees_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let keys = "request_timeout = '500ms'";
    let toml =
        format!("[hub.limits]\ncalls_in_flight_max = 1\n{}", rogue("a", &["--log", log.to_str().unwrap()], keys));
    let hub = Hub::start_in(folder, &toml);
    let client = Client::open(&hub, "/a/mcp").await;
    let first = pid(&client).await;
    let began = Instant::now();
    let answer = client.call("hang", json!({})).await;
    assert!((450..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let (code, text) = answer.error();
    assert_eq!((answer.messages().len(), code), (1, -32603));
    assert!(text.contains("did not answer within 500ms; the call was cancelled"), "{text}");
    file_until(&log, |text| text.contains("notifications/cancelled")).await;
    let hung = received(&log, "tools/call").into_iter().find(|call| call["params"]["name"] == "hang").unwrap();
    assert_eq!(received(&log, "notifications/cancelled")[0]["params"]["requestId"], hung["id"]);
    // The same healthy process goes on.
    assert_eq!(pid(&client).await, first);
}

#[tokio::test]
async fn f22_progress_renews_the_deadline_up_to_a_cap() {
    let hub = Hub::start(&rogue("a", &[], "request_timeout = '500ms'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let progress = async |count: u64, ms: u64| {
        let arguments = json!({ "count": count, "ms": ms });
        let params = json!({ "name": "progress", "arguments": arguments, "_meta": { "progressToken": "t" } });
        let began = Instant::now();
        (client.request("tools/call", params).await, began.elapsed())
    };
    let (answer, took) = progress(20, 60).await;
    assert_eq!(answer.tool_text(), "20");
    assert!(took > Duration::from_millis(1000) && answer.messages().len() == 21, "{took:?}");
    let (answer, took) = progress(1000, 60).await;
    assert!(answer.error().1.contains("did not answer within 5s"), "{answer:?}");
    assert!((4900..8000).contains(&took.as_millis()), "ten times the time-out is the end of it: {took:?}");
}

#[tokio::test]
async fn f13_half_a_line_and_then_silence_costs_nothing() {
    let hub = Hub::start(&rogue("a", &[], "request_timeout = '300ms'\nstop_timeout = '300ms'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let stuck = pid(&client).await;
    assert!(client.call("partial", json!({})).await.error().1.contains("did not answer"));
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", hub.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ticks() - before < 50, "a busy loop would have used 100 ticks, not {}", ticks() - before);
    assert_eq!(client.delete().await, 204);
    eventually("it is gone", || !alive(stuck)).await;
    // A child that leaves by itself leaves the notice.
    let script = r#"read hello; printf '{"jsonrpc":"2.0","id":1,"result":{"protoc'; exit 0"#;
    let hub = Hub::start(&format!("[upstreams.b]\ncommand = 'sh'\nargs = ['-c', '''{script}''']\n"));
    assert!(greet(&hub, "/b/mcp").await.error().1.contains("exited with code 0"));
    eventually("the notice", || hub.log().contains("the output ended within a line, which is discarded")).await;
}
