//! Isolation `call`: a pool of processes, each leased to one call at a time.

use std::collections::HashSet;

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, LATEST, alive, eventually, rogue};

fn pool(log: &Path, counter: &Path, keys: &str) -> String {
    let flags = ["--log", log.to_str().unwrap(), "--counter", counter.to_str().unwrap()];
    rogue("a", &flags, &format!("isolation = 'call'\n{keys}"))
}

#[tokio::test]
async fn a_lease_is_exclusive_and_processes_are_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let (log, counter) = (folder.path().join("log"), folder.path().join("count"));
    let hub = Hub::start_in(folder, &pool(&log, &counter, "process_max = 2"));
    let client = Client::open(&hub, "/a/mcp").await;
    // Six at once over two processes: none of them meets another.
    let six = [(); 6].map(|()| {
        let client = client.clone();
        tokio::spawn(async move {
            let asleep = client.call("sleep", json!({ "ms": 50 })).await.tool_text();
            (asleep, client.call("inflight", json!({})).await.tool_text())
        })
    });
    for one in six {
        assert_eq!(one.await.unwrap(), ("slept".to_owned(), "0".to_owned()));
    }
    assert_eq!(lines(&counter).len(), 2, "two processes did it all");
    let started: HashSet<String> = lines(&counter).into_iter().collect();
    for _ in 0..3 {
        assert!(started.contains(&pid(&client).await.to_string()));
    }
    // What one call left behind in its process, no session may count on.
    assert_eq!(hub.upstream("a").await["pids"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn questions_of_concurrent_calls_reach_their_own_clients() {
    let hub = Hub::start(&rogue("a", &[], "isolation = 'call'"));
    let mut clients = Vec::new();
    for number in 0..4 {
        let client = Client::open_as(&hub, "/a/mcp", LATEST, json!({ "elicitation": {} })).await;
        clients.push(tokio::spawn(async move {
            for round in 0..3 {
                let mine = format!("{number}-{round}");
                let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                                   "params": { "name": "ask_elicitation", "arguments": { "message": mine } } });
                let mut stream = client.stream(&call).await;
                let ask = stream.message().await.unwrap();
                assert_eq!(ask["params"]["message"], json!(mine));
                let result = json!({ "action": "accept", "content": { "name": mine } });
                client.send(&json!({ "jsonrpc": "2.0", "id": ask["id"], "result": result })).await;
                let response = stream.message().await.unwrap();
                let text = response["result"]["content"][0]["text"].as_str().unwrap();
                assert!(text.contains(&format!("\"{mine}\"")), "{text}");
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_crash_in_a_lease_is_one_callers_and_the_pool_fills_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let (log, counter) = (folder.path().join("log"), folder.path().join("count"));
    let hub = Hub::start_in(folder, &pool(&log, &counter, "process_max = 2"));
    let client = Client::open(&hub, "/a/mcp").await;
    let peer = {
        let client = client.clone();
        tokio::spawn(async move { client.call("sleep", json!({ "ms": 1500 })).await })
    };
    eventually("the peer is served", || calls(&log, "sleep") == 1).await;
    for _ in 0..3 {
        let crashed = client.call("crash", json!({ "code": 1 })).await;
        assert_eq!((crashed.messages().len(), crashed.error().0), (1, -32603));
        assert_eq!(client.call("echo", json!({ "text": "on" })).await.tool_text(), "on");
    }
    assert_eq!((calls(&log, "crash"), peer.await.unwrap().tool_text().as_str()), (3, "slept"));
    assert_eq!(hub.upstream("a").await["state"], "ready");
}

#[tokio::test]
async fn a_call_that_was_given_up_does_not_leave_its_process_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (log, counter) = (folder.path().join("log"), folder.path().join("count"));
    let keys = "process_max = 1\nrequest_timeout = '300ms'\nstop_timeout = '300ms'";
    let hub = Hub::start_in(folder, &pool(&log, &counter, keys));
    let client = Client::open(&hub, "/a/mcp").await;
    let first = pid(&client).await;
    assert!(client.call("sleep_stubborn", json!({ "ms": 60_000 })).await.error().1.contains("300ms"));
    assert_ne!(pid(&client).await, first, "the next call waits for a place, and gets a process that is not busy");
    eventually("the busy one is gone", || !alive(first)).await;
}

#[tokio::test]
async fn when_all_are_busy_a_call_waits_its_turn_and_then_is_told_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (log, counter) = (folder.path().join("log"), folder.path().join("count"));
    let hub = Hub::start_in(
        folder,
        &format!("[hub.limits]\nqueue_max = 1\n{}", pool(&log, &counter, "process_max = 1\nstart_timeout = '2s'")),
    );
    let client = Client::open(&hub, "/a/mcp").await;
    let call = |tool: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.call(tool, json!({})).await })
    };
    let busy = call("hang");
    eventually("it is served", || calls(&log, "hang") == 1).await;
    let queued = call("pid");
    // One may wait; a second one is refused at once, and the first when its time is over.
    let refused =
        loop {
            let client = client.clone();
            let another = tokio::time::timeout(std::time::Duration::from_millis(300), async move {
                client.call("pid", json!({})).await
            })
            .await;
            if let Ok(another) = another {
                break another;
            }
        };
    for refused in [refused, queued.await.unwrap()] {
        assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{refused:?}");
    }
    assert!(!busy.is_finished(), "the call in flight is undisturbed");
    assert_eq!(lines(&counter).len(), 1);
}

#[tokio::test]
async fn what_outlives_a_call_is_not_offered() {
    let folder = tempfile::tempdir().unwrap();
    let (log, counter) = (folder.path().join("log"), folder.path().join("count"));
    let hub = Hub::start_in(folder, &pool(&log, &counter, ""));
    let client = Client::open(&hub, "/a/mcp").await;
    assert_eq!(client.greeting["capabilities"]["logging"], Value::Null);
    assert_eq!(client.greeting["capabilities"]["resources"], json!({}));
    // Nothing is in the pool but busy: were a process needed for these answers, there would be a second one.
    let busy = {
        let client = client.clone();
        tokio::spawn(async move { client.call("hang", json!({})).await })
    };
    eventually("it is served", || calls(&log, "hang") == 1).await;
    for (method, params) in
        [("logging/setLevel", json!({ "level": "info" })), ("resources/subscribe", json!({ "uri": "rogue://one" }))]
    {
        assert_eq!(client.request(method, params).await.error().0, -32601, "{method}");
    }
    assert_eq!(lines(&counter).len(), 1);
    busy.abort();
}
