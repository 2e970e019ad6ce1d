//! Signals to the hub.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, alive, eventually, file_until, rogue};

#[tokio::test]
async fn f105_a_second_sigint_ends_at_once_whatever_children_do() {
    for first in ["INT", "TERM"] {
        let toml = format!(
            "[hub]\ndrain_timeout = '60s'\n{}",
            rogue("a", &["--ignore-eof", "--ignore-sigterm"], "stop_timeout = '60s'")
        );
        let mut hub = Hub::start(&toml);
        let client = Client::open(&hub, "/a/mcp").await;
        let child = pid(&client).await;
        let grandchild: u32 =
            client.call("grandchild", json!({ "ignore_term": true })).await.tool_text().parse().unwrap();
        let hanging = tokio::spawn(async move { client.call("hang", json!({})).await });
        hub.until("the call is counted", |status| status["upstreams"][0]["calls"] == 3).await;
        hub.signal(first);
        eventually("it finishes", || hub.log().contains("finishing")).await;
        assert!(alive(child));
        let began = Instant::now();
        hub.signal("INT");
        assert!(hub.ended().success());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert!(!alive(child) && !alive(grandchild), "nobody is left when it has ended");
        hanging.abort();
    }
}

#[tokio::test]
async fn f105_a_second_signal_also_ends_the_wait_for_stubborn_children() {
    let mut hub = Hub::start(&rogue("a", &["--ignore-eof", "--ignore-sigterm"], "stop_timeout = '60s'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let child = pid(&client).await;
    hub.signal("TERM");
    eventually("it finishes", || hub.log().contains("finishing")).await;
    assert!(alive(child));
    let began = Instant::now();
    hub.signal("TERM");
    assert!(hub.ended().success());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(!alive(child));
}

#[tokio::test]
async fn f105_a_child_that_is_starting_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("count");
    for start in ["lazy", "eager"] {
        let _ = std::fs::remove_file(&counter);
        let flags = ["--never-initialize", "--ignore-eof", "--counter", counter.to_str().unwrap()];
        let keys = format!("isolation = 'shared'\nstart = '{start}'\nstop_timeout = '1s'");
        let mut hub = Hub::start(&format!("[hub]\ndrain_timeout = '1s'\n{}", rogue("a", &flags, &keys)));
        let url = hub.url("/a/mcp");
        let caller = tokio::spawn(async move { post(&http(), &url, &[], &initialize(LATEST, json!({}))).await });
        let child = file_until(&counter, |text| text.ends_with('\n')).await.trim().parse().unwrap();
        let began = Instant::now();
        hub.signal("TERM");
        assert!(hub.ended().success());
        assert!(began.elapsed() < Duration::from_secs(5), "{start}: {:?}", began.elapsed());
        assert!(!alive(child));
        caller.abort();
    }
}

#[tokio::test]
async fn f105_hangup_reloads_and_other_signals_disturb_nobody() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let child = pid(&client).await;
    for _ in 0..300 {
        let pid = rustix::process::Pid::from_raw(hub.pid() as i32).unwrap();
        for signal in [rustix::process::Signal::PIPE, rustix::process::Signal::CHILD] {
            rustix::process::kill_process(pid, signal).unwrap();
        }
    }
    assert_eq!(pid(&client).await, child);
    // An edit that the watcher may see too is applied once; the signal alone is enough for an unchanged file.
    for _ in 0..10 {
        hub.signal("HUP");
    }
    hub.edit(&rogue("a", &[], "request_timeout = '3m'"));
    hub.signal("HUP");
    hub.generation(2).await;
    assert_eq!(pid(&client).await, child);
}
