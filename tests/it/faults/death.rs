//! Children that die, or as good as die, while they are called.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, PATIENCE, alive, eventually, rogue};

#[tokio::test]
async fn f4_a_death_in_mid_call_is_one_error_within_100_ms_and_the_next_call_works() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start_in(
        folder,
        &rogue(
            "a",
            &["--log", log.to_str().unwrap()],
            "restart = { backoff_min = '10ms', backoff_max = '10ms', max = 100 }",
        ),
    );
    let peer = Client::open(&hub, "/a/mcp").await;
    let undisturbed = pid(&peer).await;
    let client = Client::open(&hub, "/a/mcp").await;
    let mut fastest = PATIENCE;
    // A loaded machine may be late, but not each time.
    for round in 1..=5 {
        let victim = pid(&client).await;
        let waiting = [(); 2].map(|()| {
            let client = client.clone();
            tokio::spawn(async move { (client.call("hang", json!({})).await, Instant::now()) })
        });
        eventually("both calls arrive", || calls(&log, "hang") == 2 * round).await;
        let killed = Instant::now();
        kill(victim);
        for waiting in waiting {
            let (answer, at) = waiting.await.unwrap();
            assert_eq!((answer.status, answer.messages().len()), (200, 1), "{answer:?}");
            let (code, text) = answer.error();
            assert_eq!(code, -32603);
            assert!(text.contains("was not repeated"), "{text}");
            assert_eq!(
                answer.last()["error"]["data"],
                json!({ "upstream": "a", "reason": "failed", "retryable": true })
            );
            fastest = fastest.min(at - killed);
        }
        assert_ne!(pid(&client).await, victim, "the same session goes on with a new process");
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    assert_eq!(calls(&log, "hang"), 10, "no call was repeated");
    assert_eq!(pid(&peer).await, undisturbed, "the other session's process is another's");
}

#[tokio::test]
async fn f4_of_a_shared_child_each_caller_gets_its_own_error() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start_in(folder, &rogue("a", &["--log", log.to_str().unwrap()], "isolation = 'shared'"));
    let clients = [Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await];
    let waiting = clients.clone().map(|client| {
        let body = json!({ "jsonrpc": "2.0", "id": "mine", "method": "tools/call", "params": { "name": "hang" } });
        tokio::spawn(async move { client.send(&body).await })
    });
    eventually("both calls arrive", || calls(&log, "hang") == 2).await;
    let victim = pid(&clients[0]).await;
    kill(victim);
    for waiting in waiting {
        let answer = waiting.await.unwrap();
        assert_eq!((answer.messages().len(), answer.error().0), (1, -32603));
        assert_eq!(answer.last()["id"], "mine");
    }
    let next = pid(&clients[0]).await;
    assert!(next != victim && next == pid(&clients[1]).await);
    assert_eq!(calls(&log, "hang"), 2);
}

#[tokio::test]
async fn p52_a_call_that_kills_its_server_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    for isolation in ["session", "call", "shared"] {
        let keys = format!("isolation = '{isolation}'");
        let hub = Hub::start(&rogue("a", &["--log", log.to_str().unwrap()], &keys));
        let client = Client::open(&hub, "/a/mcp").await;
        let before = calls(&log, "crash");
        let answer = client.call("crash", json!({ "code": 3 })).await;
        assert_eq!((answer.messages().len(), answer.error().0), (1, -32603), "{isolation}");
        assert_eq!(client.call("echo", json!({ "text": "on" })).await.tool_text(), "on", "{isolation}");
        assert_eq!(calls(&log, "crash"), before + 1, "{isolation}");
        let status = hub.until_upstream("a", |status| status["restarts"] == 1).await;
        assert!(status["reason"].as_str().unwrap().contains("exited with code 3"), "{status}");
    }
}

#[tokio::test]
async fn f9_a_child_that_closes_stdout_is_replaced() {
    let hub = Hub::start(&rogue("a", &["--ignore-eof"], "stop_timeout = '500ms'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let first = pid(&client).await;
    let answer = client.call("close_stdout", json!({})).await;
    assert_eq!((answer.messages().len(), answer.error().0), (1, -32603));
    assert_ne!(pid(&client).await, first);
    eventually("the deaf one is gone", || !alive(first)).await;
}

#[tokio::test]
async fn f10_a_child_that_closes_stdin_is_replaced() {
    let hub = Hub::start(&rogue("a", &[], "stop_timeout = '500ms'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let first = pid(&client).await;
    assert_eq!(client.call("close_stdin", json!({})).await.tool_text(), "closed");
    // It answered before it closed, so a call may still get into the pipe; the hub is not to end of EPIPE.
    let second = loop {
        let answer = client.call("pid", json!({})).await;
        if answer.last()["result"].is_object() {
            break answer.tool_text().parse::<u32>().unwrap();
        }
        assert_eq!(answer.error().0, -32603);
    };
    assert_ne!(first, second);
    eventually("the deaf one is gone", || !alive(first)).await;
}

#[tokio::test]
async fn f23_a_kill_is_called_by_its_likely_cause_and_children_go_before_the_hub() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let badness = |pid: u32| -> i32 {
        std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    assert_eq!(badness(pid(&client).await), (badness(hub.pid()) + 200).min(1000));
    assert_eq!(client.call("kill_self", json!({ "signal": 9 })).await.error().0, -32603);
    let status = hub.until_upstream("a", |status| status["restarts"] == 1).await;
    assert!(status["reason"].as_str().unwrap().contains("killed by signal 9 (likely out of memory)"), "{status}");
    assert_eq!(client.call("kill_self", json!({ "signal": 15 })).await.error().0, -32603);
    let status = hub.until_upstream("a", |status| status["restarts"] == 2).await;
    assert!(status["reason"].as_str().unwrap().ends_with("killed by signal 15"), "{status}");
}

#[tokio::test]
async fn a_session_whose_process_keeps_dying_waits_longer_and_is_refused_and_nobody_else() {
    let keys = "restart = { max = 2, backoff_min = '100ms', backoff_max = '100ms' }";
    let hub = Hub::start(&rogue("a", &[], keys));
    let (bad, good) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let kept = pid(&good).await;
    for _ in 0..3 {
        assert_eq!(bad.call("crash", json!({})).await.status, 200);
    }
    let refused = bad.call("echo", json!({ "text": "x" })).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.error().1.contains("too often for this session"), "{refused:?}");
    assert_eq!(pid(&good).await, kept);
    assert_eq!(hub.upstream("a").await["state"], "ready");
    Client::open(&hub, "/a/mcp").await;
}
