//! How many processes there may be, and for how long nobody needs them.

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, alive, eventually, rogue};

#[tokio::test]
async fn at_process_max_newcomers_are_told_to_come_back_and_nobody_loses_a_process() {
    let hub = Hub::start(&rogue("a", &[], "process_max = 2"));
    let clients = [Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await];
    let pids = [pid(&clients[0]).await, pid(&clients[1]).await];
    for _ in 0..3 {
        let refused = greet(&hub, "/a/mcp").await;
        assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"), "{refused:?}");
        assert!(refused.error().1.contains("process_max"), "{refused:?}");
    }
    assert_eq!([pid(&clients[0]).await, pid(&clients[1]).await], pids);
    assert_eq!(hub.status().await["sessions"], 2, "a session that did not open is not counted");
    // A session that ends makes room, at once.
    assert_eq!(clients[0].delete().await, 204);
    for _ in 0..5 {
        let next = Client::open(&hub, "/a/mcp").await;
        assert_eq!(next.delete().await, 204);
    }
    assert_eq!(pid(&clients[1]).await, pids[1]);
}

#[tokio::test]
async fn at_process_max_a_session_still_gets_a_new_process_for_its_dead_one() {
    let keys = "process_max = 1\nrestart = { max = 100, backoff_min = '10ms', backoff_max = '10ms' }";
    let hub = Hub::start(&rogue("a", &[], keys));
    let client = Client::open(&hub, "/a/mcp").await;
    for _ in 0..5 {
        assert_eq!(client.call("crash", json!({})).await.error().0, -32603);
        assert_eq!(client.call("echo", json!({ "text": "on" })).await.tool_text(), "on");
    }
}

#[tokio::test]
async fn idle_timeout_stops_what_nobody_uses_and_no_sessions_own_process() {
    let keys = |isolation: &str| format!("isolation = '{isolation}'\nidle_timeout = '300ms'");
    let toml: Vec<String> = ["shared", "call", "session"].map(|name| rogue(name, &[], &keys(name))).into();
    let hub = Hub::start(&toml.concat());
    let own = Client::open(&hub, "/session/mcp").await;
    let kept = pid(&own).await;
    for name in ["shared", "call"] {
        let client = Client::open(&hub, &format!("/{name}/mcp")).await;
        let first = pid(&client).await;
        // In use is what a call needs, however long.
        assert_eq!(client.call("sleep", json!({ "ms": 1000 })).await.tool_text(), "slept");
        assert_eq!(pid(&client).await, first, "{name}");
        eventually("it is stopped", || !alive(first)).await;
        let idle = hub.until_upstream(name, |status| status["state"] == "idle").await;
        assert_eq!((&idle["pids"], &idle["restarts"]), (&json!([]), &json!(0)), "{name}: that is no crash");
        assert_ne!(pid(&client).await, first, "{name}");
    }
    assert_eq!(pid(&own).await, kept);
}

#[tokio::test]
async fn a_shared_process_is_used_while_somebody_listens() {
    let hub = Hub::start(&rogue("a", &[], "isolation = 'shared'\nidle_timeout = '300ms'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let first = pid(&client).await;
    let listening = client.get(None).await;
    // Ten times the time-out is long enough to be noticed.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(pid(&client).await, first);
    drop(listening);
    eventually("it is stopped", || !alive(first)).await;
}
