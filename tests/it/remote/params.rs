//! Arguments that a tool wants repeated in headers, as its list says.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::peer::modern;

fn marked(name: &str, kind: &str, header: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { "region": { "type": kind, "x-mcp-header": header } } });
    json!({ "name": name, "inputSchema": schema })
}

fn list(seen: &Seen, tools: Value) -> Option<Reply> {
    let result = json!({ "tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "public" });
    (seen.method() == "tools/list").then(|| Reply::json(&seen.result(result)))
}

#[tokio::test]
async fn p50_marked_arguments_are_repeated_and_unlisted_tools_are_listed_first() {
    let peer = modern(|seen| list(seen, json!([marked("echo", "string", "Region")]))).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    for region in ["eu", "ö", ""] {
        client.call("echo", json!({ "region": region })).await;
    }
    client.call("echo", json!({})).await;
    let calls = peer.of("tools/call");
    let found: Vec<_> = calls.iter().map(|call| call.header("mcp-param-region")).collect();
    assert_eq!(found, [Some("eu"), Some("=?base64?w7Y=?="), Some(""), None]);
    assert_eq!(peer.count("tools/list"), 1);
}

#[tokio::test]
async fn f71_what_a_caller_says_adds_no_header_and_no_line() {
    let peer = modern(|seen| list(seen, json!([marked("echo", "string", "Region")]))).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let spoilt =
        ["eu\r\nX-Evil: 1", "eu\nX-Evil: 1", "eu\rX-Evil: 1", "eu\0", "\u{7f}", "eu\r\n\r\nPOST /mcp HTTP/1.1"];
    for value in spoilt {
        client.call("echo", json!({ "region": value })).await;
        client.call(value, json!({})).await;
        client.request("prompts/get", json!({ "name": value })).await;
        client.request("resources/read", json!({ "uri": value })).await;
    }
    let seen = peer.seen();
    assert!(peer.count("tools/call") >= spoilt.len() && peer.count("prompts/get") == spoilt.len());
    for request in seen {
        assert_eq!(request.header("x-evil"), None, "{request:?}");
        for name in ["mcp-param-region", "mcp-name"] {
            let plain = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
            assert!(request.header(name).is_none_or(plain), "{request:?}");
        }
    }
    // Whole, behind its base64.
    let calls = peer.of("tools/call");
    assert_eq!(calls[0].header("mcp-param-region"), Some("=?base64?ZXUNClgtRXZpbDogMQ==?="));
}

#[tokio::test]
async fn p50_a_tool_with_an_invalid_mark_is_left_out_of_the_list() {
    let tools = json!([marked("bad", "number", "N"), marked("good", "string", "Region"), marked("none", "string", "")]);
    let peer = modern(move |seen| list(seen, tools.clone())).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let listed = client.request("tools/list", json!({})).await.last();
    let names: Vec<_> = listed["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(names, ["good"]);
    hub.logged("left out of the list").await;
}

#[tokio::test]
async fn p50_a_mismatch_is_answered_by_one_more_look_at_the_list() {
    for stubborn in [false, true] {
        let lists = AtomicUsize::new(0);
        let peer = modern(move |seen| match seen.method() {
            "tools/list" => {
                let first = lists.fetch_add(1, Ordering::SeqCst) == 0;
                list(seen, json!([marked("echo", "string", if first { "Old" } else { "New" })]))
            }
            "tools/call" if stubborn || seen.header("mcp-param-new").is_none() => {
                Some(Reply::json(&seen.error(-32020, "header mismatch", Value::Null)).with(400))
            }
            _ => None,
        })
        .await;
        let hub = Hub::start(&peer.upstream("a", ""));
        let client = Client::open(&hub, "/a/mcp").await;
        let answer = client.call("echo", json!({ "region": "eu" })).await;
        match stubborn {
            false => assert_eq!(answer.tool_text(), "called"),
            true => assert!(answer.last()["error"].is_object(), "{answer:?}"),
        }
        assert_eq!((peer.count("tools/list"), peer.count("tools/call")), (2, 2));
    }
}
