//! Many starts, stops and kills leave nothing behind.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, eventually, rogue};

#[tokio::test]
async fn two_hundred_starts_stops_and_kills_leave_no_process_and_no_descriptor() {
    let keys = "stop_timeout = '1s'\nrestart = { max = 1000, backoff_min = '10ms', backoff_max = '10ms' }";
    let toml =
        [rogue("own", &[], keys), rogue("pool", &[], &format!("isolation = 'call'\nidle_timeout = '100ms'\n{keys}"))];
    let hub = Hub::start(&toml.concat());
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap().count();
    let cycle = async |number: usize| {
        let path = if number % 4 == 3 { "/pool/mcp" } else { "/own/mcp" };
        let client = Client::open(&hub, path).await;
        let child = pid(&client).await;
        match number % 4 {
            // Ends politely.
            0 => {}
            // Killed with a call on it.
            1 => assert_eq!(client.call("kill_self", json!({ "signal": 9 })).await.error().0, -32603),
            // Killed between two calls.
            2 => {
                kill(child);
                while client.call("echo", json!({ "text": "on" })).await.last()["result"].is_null() {}
            }
            _ => assert_eq!(client.call("crash", json!({})).await.error().0, -32603),
        }
        assert_eq!(client.delete().await, 204);
    };
    for number in 0..4 {
        cycle(number).await;
    }
    eventually("only the keeper is left", || children(&hub).len() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = descriptors();
    for number in 0..200 {
        cycle(number).await;
    }
    eventually("only the keeper is left", || children(&hub).len() == 1).await;
    eventually("all descriptors are closed", || descriptors() <= before).await;
    assert_eq!(hub.status().await["sessions"], 0);
}
