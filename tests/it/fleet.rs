//! A hub among others like it: what it owes the balancer before them (faults F128-F130).
//!
//! With real balancers: tests/external/fleet.sh.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fixture::{Client, Hub, Stream, http, initialize, post, rogue};

async fn pid(client: &Client) -> String {
    client.call("pid", json!({})).await.tool_text()
}

#[tokio::test]
async fn f128_at_another_hub_a_session_is_unknown_and_a_new_one_opens() {
    let hubs = [(); 2].map(|()| Hub::start(&rogue("a", &[], "")));
    let mine = Client::open(&hubs[0], "/a/mcp").await;
    let served = pid(&mine).await;
    let astray = mine.at(hubs[1].url("/a/mcp"));
    let lost = astray.request("tools/list", json!({})).await;
    assert_eq!(lost.status, 404);
    assert!(lost.error().1.contains("initialize"), "{lost:?}");
    assert_eq!(astray.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await.status, 404);
    pid(&Client::open(&hubs[1], "/a/mcp").await).await;
    // At its own hub it lives on.
    assert_eq!(pid(&mine).await, served);
}

/// Whoever stands between may have sent it here because of what this hub said before.
#[tokio::test]
async fn f128_a_hub_that_ends_sends_the_sessions_of_others_on() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let foreign = Client { session: "of-another-hub".into(), ..client.clone() };
    let sse = hub.url("/a/message?sessionId=of-another-hub");
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    assert_eq!(foreign.send(&list).await.status, 404);
    assert_eq!(post(&http(), &sse, &[], &list).await.status, 404);
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                       "params": { "name": "sleep", "arguments": { "ms": 60_000 } } });
    let _under_way = client.stream(&call).await;
    hub.signal("TERM");
    hub.until("it drains", |status| status["draining"] == true).await;
    assert_eq!(foreign.send(&list).await.status, 503);
    assert_eq!(post(&http(), &sse, &[], &list).await.status, 503);
    let notice = foreign.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    assert_eq!((notice.status, notice.headers["connection"].as_str()), (503, "close"));
}

#[tokio::test]
async fn f128_without_sessions_an_older_client_may_ask_any_hub() {
    let hubs = [(); 2].map(|()| Hub::start(&format!("[hub]\nstateless = true\n{}", rogue("a", &[], ""))));
    let greeting = initialize("2025-06-18", json!({}));
    let greeted = post(&http(), &hubs[0].url("/a/mcp"), &[], &greeting).await;
    assert_eq!((greeted.status, greeted.headers.get("mcp-session-id")), (200, None));
    for (hub, id) in hubs.iter().rev().zip(1..) {
        let call =
            json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "pid", "arguments": {} } });
        post(&http(), &hub.url("/a/mcp"), &[("mcp-protocol-version", "2025-06-18")], &call).await.tool_text();
    }
}

#[tokio::test]
async fn f129_readiness_ends_before_anybody_is_refused() {
    // Long enough that everything below is seen before its end, which a second signal brings about.
    let mut hub = Hub::start(&format!("[hub]\ndrain_delay = '10m'\n{}", rogue("a", &[], "")));
    let client = Client::open(&hub, "/a/mcp").await;
    let (process, mut stream) = (pid(&client).await, client.get(None).await);
    hub.signal("TERM");
    hub.until("it says so", |status| status["draining"] == true).await;
    for (page, status) in [("/readyz", 503), ("/readyz/a", 503), ("/healthz", 200)] {
        assert_eq!(http().get(hub.url(page)).send().await.unwrap().status(), status, "{page}");
    }
    let served = client.call("pid", json!({})).await;
    assert_eq!(served.tool_text(), process);
    assert_eq!(served.headers["connection"], "close", "the next request is to go elsewhere");
    pid(&Client::open(&hub, "/a/mcp").await).await;
    client.call("list_changed", json!({ "count": 1 })).await;
    assert_eq!(stream.message().await.unwrap()["method"], "notifications/tools/list_changed");
    let began = Instant::now();
    hub.signal("TERM");
    hub.ended();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[tokio::test]
async fn f129_after_the_delay_the_hub_drains_and_ends() {
    let mut hub = Hub::start(&format!("[hub]\ndrain_delay = '1s'\n{}", rogue("a", &[], "")));
    let client = Client::open(&hub, "/a/mcp").await;
    let stream = client.get(None).await;
    let long = tokio::spawn({
        let client = client.clone();
        async move { client.call("sleep", json!({ "ms": 2500 })).await }
    });
    hub.until("it sleeps", |status: &Value| status["upstreams"][0]["calls"] == 1).await;
    let began = Instant::now();
    hub.signal("TERM");
    stream.rest().await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(long.await.unwrap().tool_text(), "slept");
    assert!(hub.ended().success());
}

#[tokio::test]
async fn f130_every_stream_asks_what_stands_between_not_to_hold_it_up() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                       "params": { "name": "sleep", "arguments": { "ms": 1500 } } });
    let open = async |path: &str| {
        let get = http().get(hub.url(path)).header("accept", "text/event-stream");
        Stream::of(get.send().await.unwrap())
    };
    let streams =
        [client.stream(&call).await, client.get(None).await, open("/a/sse").await, open("/api/v1/events").await];
    for stream in streams {
        assert!(stream.headers["content-type"].starts_with("text/event-stream"), "{:?}", stream.headers);
        assert_eq!(stream.headers["x-accel-buffering"], "no");
        assert_eq!(stream.headers["cache-control"], "no-cache, no-transform");
    }
}
