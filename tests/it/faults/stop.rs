//! The end of a child, and of all that it started.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, alive, eventually, rogue};

#[tokio::test]
async fn f6_p3_a_child_that_ignores_everything_is_gone_within_stop_timeout() {
    let toml = [
        rogue("deaf", &["--ignore-sigterm", "--ignore-eof"], "stop_timeout = '1s'"),
        rogue("polite", &["--ignore-sigterm"], "stop_timeout = '60s'"),
        rogue("stubborn", &["--ignore-eof"], "stop_timeout = '1s'"),
    ];
    let hub = Hub::start(&toml.concat());
    // How each one ends shows which rung of the ladder it took: the end of stdin, SIGTERM, SIGKILL.
    for (name, between) in [("polite", 0..5000), ("stubborn", 400..1500), ("deaf", 700..1500)] {
        let client = Client::open(&hub, &format!("/{name}/mcp")).await;
        let child = pid(&client).await;
        let began = Instant::now();
        assert_eq!(client.delete().await, 204);
        eventually("it is gone", || !alive(child)).await;
        assert!(between.contains(&began.elapsed().as_millis()), "{name}: {:?}", began.elapsed());
    }
    eventually("none is left but the keeper", || children(&hub).len() == 1).await;
}

/// Starts what a child may leave behind, and answers with the processes.
async fn family(client: &Client) -> Vec<u32> {
    let mut family = vec![pid(client).await];
    for (tool, arguments) in [
        ("grandchild", json!({})),
        ("grandchild", json!({ "ignore_term": true, "hold_pipes": true })),
        ("daemon", json!({})),
    ] {
        family.push(client.call(tool, arguments).await.tool_text().parse().unwrap());
    }
    assert!(family.iter().all(|pid| alive(*pid)), "{family:?}");
    family
}

#[tokio::test]
async fn f7_after_a_stop_no_descendant_is_left() {
    let hub = Hub::start(&rogue("a", &[], "stop_timeout = '1s'"));
    let (client, peer) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let (gone, kept) = (family(&client).await, family(&peer).await);
    assert_eq!(client.delete().await, 204);
    eventually("all are gone", || !gone.iter().any(|pid| alive(*pid))).await;
    assert!(kept.iter().all(|pid| alive(*pid)), "the peer's are the peer's");
    // A crash leaves no more behind than a stop.
    kill(kept[0]);
    eventually("all are gone", || !kept.iter().any(|pid| alive(*pid))).await;
    eventually("none is left but the keeper", || children(&hub).len() == 1).await;
}

#[tokio::test]
async fn f8_a_killed_hub_leaves_neither_children_nor_grandchildren() {
    let mut hub = Hub::start(&rogue("a", &["--ignore-eof", "--ignore-sigterm"], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut family = family(&client).await;
    family.extend(children(&hub));
    hub.signal("KILL");
    hub.ended();
    eventually("all are gone, the keeper too", || !family.iter().any(|pid| alive(*pid))).await;
}

#[tokio::test]
async fn f25_a_child_inherits_three_descriptors_and_no_more() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let _others = [Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await];
    let client = Client::open(&hub, "/a/mcp").await;
    let open: serde_json::Map<String, Value> =
        serde_json::from_str(&client.call("fds", json!({})).await.tool_text()).unwrap();
    assert_eq!(open.keys().collect::<Vec<_>>(), ["0", "1", "2"], "{open:?}");
}

#[tokio::test]
async fn f103_a_hub_that_slept_goes_on_with_its_sessions() {
    let hub = Hub::start(&rogue("a", &[], "request_timeout = '5s'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let child = pid(&client).await;
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.call("sleep", json!({ "ms": 500 })).await })
    };
    hub.signal("STOP");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    hub.signal("CONT");
    assert_eq!(waiting.await.unwrap().tool_text(), "slept", "what was under way is answered");
    assert_eq!(pid(&client).await, child);
}
