//! What children print that is not what they should print.

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, eventually, rogue};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn f11_a_flood_on_stderr_is_drained_counted_and_blocks_nobody() {
    let hub = Hub::start(&rogue("a", &["--stderr-flood", "1000000"], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let memory = || hub.kib("RssAnon");
    let before = memory();
    assert_eq!(client.call("stderr", json!({ "bytes": 256 * MIB })).await.tool_text(), "ok");
    assert_eq!(client.call("echo", json!({ "text": "on" })).await.tool_text(), "on");
    assert!(memory() < before + 20_000, "{} KB more", memory() - before);
    eventually("the notice", || hub.log().contains("lines dropped")).await;
    assert!(hub.log().len() < 2 * MIB, "the log has {} bytes", hub.log().len());
}

#[tokio::test]
async fn p2_stderr_blocks_nobody_and_reaches_no_client() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    for _ in 0..5 {
        let answer = client.call("stderr", json!({ "bytes": MIB })).await;
        assert_eq!(answer.tool_text(), "ok");
        assert!(!format!("{answer:?}").contains("eeee"));
    }
    let died = client.call("crash", json!({})).await;
    assert!(died.error().0 == -32603 && !format!("{died:?}").contains("eeee"), "{died:?}");
}

#[tokio::test]
async fn f12_lines_that_are_no_messages_are_skipped_and_the_first_five_logged() {
    let toml = [rogue("lax", &["--banner", "3"], ""), rogue("strict", &["--banner", "1"], "strict_stdout = true")];
    let hub = Hub::start(&toml.concat());
    let client = Client::open(&hub, "/lax/mcp").await;
    for text in ["a", "b", "c"] {
        assert_eq!(client.call("echo", json!({ "text": text })).await.tool_text(), text);
    }
    eventually("five and a last word", || hub.log().contains("further lines are not logged")).await;
    let log = hub.log();
    let logged = log.lines().filter(|line| line.contains("a line on stdout is no message"));
    assert_eq!(logged.filter(|line| line.contains("WARN") && line.contains("upstream=lax")).count(), 5, "{log}");
    let refused = greet(&hub, "/strict/mcp").await;
    assert_eq!(refused.status, 503);
    assert!(refused.error().1.contains("strict_stdout"), "{refused:?}");
}

#[tokio::test]
async fn f14_a_message_above_the_limit_fails_its_own_call_only() {
    let toml = format!("[hub.limits]\nmessage_bytes_max = '1 MiB'\n{}", rogue("a", &[], ""));
    let hub = Hub::start(&toml);
    let client = Client::open(&hub, "/a/mcp").await;
    let first = pid(&client).await;
    let peer = {
        let client = client.clone();
        tokio::spawn(async move { client.call("sleep", json!({ "ms": 300 })).await })
    };
    let line = async |bytes: usize, id_last: bool| {
        client.call("huge_line", json!({ "bytes": bytes, "id_last": id_last })).await
    };
    for id_last in [false, true] {
        let whole = line(MIB, id_last).await;
        assert!(whole.tool_text().len() > MIB - 200, "at the limit it passes");
        for bytes in [MIB + 1, 100 * MIB] {
            let (code, text) = line(bytes, id_last).await.error();
            assert_eq!(code, -32603);
            assert!(text.contains("message_bytes_max"), "{text}");
        }
    }
    assert_eq!(peer.await.unwrap().tool_text(), "slept");
    assert_eq!(pid(&client).await, first, "the stream went on after the next line end");
}

#[tokio::test]
async fn f15_line_ends_blank_lines_and_a_mark_are_tolerated() {
    let hub = Hub::start(&rogue("a", &["--crlf", "--blank-lines", "--bom"], "strict_stdout = true"));
    let client = Client::open(&hub, "/a/mcp").await;
    for text in ["a", "b"] {
        assert_eq!(client.call("echo", json!({ "text": text })).await.tool_text(), text);
    }
    assert!(!hub.log().contains("no message"), "{}", hub.log());
}

#[tokio::test]
async fn f16_a_line_that_is_not_utf8_is_refused_and_the_next_one_read() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut unasked = client.get(None).await;
    assert_eq!(client.call("bad_utf8", json!({})).await.tool_text(), "ok");
    eventually("it is logged", || hub.log().contains("a line on stdout is no message")).await;
    // It was a notification, which would have come before this one.
    client.call("add_tool", json!({ "name": "x" })).await;
    assert_eq!(unasked.message().await.unwrap()["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn f17_what_a_terminal_would_obey_is_escaped_in_log_and_status() {
    let hub = Hub::start(&rogue("a", &["--banner", "2"], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    client.call("stderr_control", json!({})).await;
    client.call("crash", json!({})).await;
    let status = hub.until_upstream("a", |status| status["restarts"] == 1).await;
    let line = status["stderr"].as_array().unwrap().last().unwrap().as_str().unwrap();
    assert_eq!(line, r"\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7} nul\u{0} one\rtwo \xff");
    eventually("it is logged", || hub.log().contains(r"nul\u{0}")).await;
    assert!(!hub.log().contains(|c: char| c.is_control() && c != '\n'), "{:?}", hub.log());
}

#[tokio::test]
async fn f30_a_batch_from_the_child_belongs_to_2025_03_26_only() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open_as(&hub, "/a/mcp", "2025-03-26", json!({})).await;
    let answer = client.call("batch", json!({})).await;
    assert_eq!(answer.tool_text(), "batched");
    assert_eq!(answer.messages()[0]["params"]["data"], "from a batch", "{answer:?}");
    for revision in ["2025-06-18", "2025-11-25"] {
        let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        let answer = client.call("batch", json!({})).await;
        assert!(answer.error().1.contains("a batch, which its revision does not have"), "{answer:?}");
        assert_eq!(answer.messages().len(), 1);
        assert_eq!(client.call("echo", json!({ "text": "on" })).await.tool_text(), "on");
    }
}
