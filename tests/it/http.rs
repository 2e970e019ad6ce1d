//! HTTP/1 itself: verbs, upgrades, and requests that two parsers could read differently.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    fixture::{Client, Hub, answer, echo, rogue},
    raw::{self, Raw},
};

const SHARED: &str = "isolation = 'shared'";

#[tokio::test]
async fn f48_other_verbs_are_not_served() {
    let hub = Hub::start(&echo("a", SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    for method in ["PUT", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "X-ANY"] {
        let request =
            client.http.request(method.parse().unwrap(), &client.url).header("mcp-session-id", &client.session);
        let refused = answer(request).await;
        assert_eq!((refused.status, refused.headers["allow"].as_str()), (405, "GET, POST, DELETE"), "{method}");
    }
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

/// A request that is fine but for what is put into it.
fn spoilt(line: &str, headers: &str, body: &str) -> String {
    format!("{line}\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn f66_what_two_parsers_could_read_differently_is_refused_and_the_connection_closed() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&rogue("a", &["--log", log.to_str().unwrap()], SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let post = "POST /a/mcp HTTP/1.1";
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let smuggled = raw::post(
        "/a/mcp",
        &format!("Mcp-Session-Id: {}\r\n", client.session),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","smuggled":1}}"#,
    );
    let length = format!("Content-Length: {}\r\n", ping.len());
    let chunks = format!("{:x}\r\n{ping}\r\n0\r\n\r\n", ping.len());
    let cases = [
        ("both lengths", spoilt(post, &format!("{length}Transfer-Encoding: chunked\r\n"), &chunks)),
        ("two lengths", spoilt(post, &format!("{length}Content-Length: 0\r\n"), ping)),
        ("one length twice", spoilt(post, &format!("{length}{length}"), ping)),
        ("a list of lengths", spoilt(post, "Content-Length: 40, 40\r\n", ping)),
        ("a signed length", spoilt(post, "Content-Length: +40\r\n", ping)),
        ("a negative length", spoilt(post, "Content-Length: -1\r\n", ping)),
        ("a length in hex", spoilt(post, "Content-Length: 0x28\r\n", ping)),
        ("a length beyond numbers", spoilt(post, "Content-Length: 99999999999999999999\r\n", ping)),
        ("an unknown coding", spoilt(post, "Transfer-Encoding: xchunked\r\n", &chunks)),
        ("a coding and chunks", spoilt(post, "Transfer-Encoding: gzip, chunked\r\n", &chunks)),
        ("chunked twice", spoilt(post, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &chunks)),
        (
            "chunked, then identity",
            spoilt(post, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &chunks),
        ),
        ("chunked in HTTP/1.0", spoilt("POST /a/mcp HTTP/1.0", "Transfer-Encoding: chunked\r\n", &chunks)),
        ("a folded header", spoilt(post, &format!("X-A: a\r\n b\r\n{length}"), ping)),
        ("a folded length", spoilt(post, "Content-Length:\r\n 40\r\n", ping)),
        ("a space before the colon", spoilt(post, "Content-Length : 40\r\n", ping)),
        ("a space in a name", spoilt(post, &format!("X A: b\r\n{length}"), ping)),
        ("a name of nothing", spoilt(post, &format!(": b\r\n{length}"), ping)),
        ("a line without a colon", spoilt(post, &format!("nonsense\r\n{length}"), ping)),
        ("NUL in a value", spoilt(post, &format!("X-A: a\0b\r\n{length}"), ping)),
        ("NUL in a name", spoilt(post, &format!("X\0A: b\r\n{length}"), ping)),
        ("CR in a value", spoilt(post, &format!("X-A: a\rb\r\n{length}"), ping)),
        ("a bad chunk size", spoilt(post, "Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n")),
        ("a negative chunk size", spoilt(post, "Transfer-Encoding: chunked\r\n", "-1\r\n{}\r\n0\r\n\r\n")),
        ("a chunk size ended by LF", spoilt(post, "Transfer-Encoding: chunked\r\n", "2\n{}\r\n0\r\n\r\n")),
        ("a chunk ended by LF", spoilt(post, "Transfer-Encoding: chunked\r\n", "2\r\n{}\n0\r\n\r\n")),
        ("a chunk longer than said", spoilt(post, "Transfer-Encoding: chunked\r\n", "2\r\n{}{}\r\n0\r\n\r\n")),
        (
            "a chunk size beyond numbers",
            spoilt(post, "Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ),
        ("no version", spoilt("POST /a/mcp", &length, ping)),
        ("another version", spoilt("POST /a/mcp HTTP/3.7", &length, ping)),
        ("a target with a space", spoilt("POST /a /mcp HTTP/1.1", &length, ping)),
        ("not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\x03\x03\r\n\r\n".into()),
        ("a large head", spoilt(post, &format!("X-A: {}\r\n{length}", "a".repeat(200_000)), ping)),
        ("many headers", spoilt(post, &format!("{}{length}", "X-A: b\r\n".repeat(1000)), ping)),
    ];
    for (what, request) in cases {
        let mut raw = Raw::connect(&hub).await;
        raw.send(request).await.send(&smuggled).await;
        let after = raw.closed().await;
        let all = raw.until("").await;
        let statuses: Vec<&str> = all.lines().filter(|line| line.starts_with("HTTP/1.")).collect();
        assert!(statuses.len() <= 1 && statuses.iter().all(|status| status.contains(" 4")), "{what}: {all}");
        assert!(after < Duration::from_secs(4), "{what}: open for {after:?}");
    }
    assert_eq!(client.call("echo", json!({ "text": "x" })).await.tool_text(), "x");
    assert!(!std::fs::read_to_string(&log).unwrap().contains("smuggled"), "a hidden request was served");
}

#[tokio::test]
async fn f65_no_other_protocol_is_spoken() {
    let hub = Hub::start(&echo("a", SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let upgrades = [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    ];
    for upgrade in upgrades {
        for path in ["/a/mcp", "/a/message", "/", "/healthz"] {
            let mut raw = Raw::connect(&hub).await;
            raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n")).await;
            let status = raw.response().await.status;
            assert!(status >= 400 || matches!(path, "/" | "/healthz"), "{path}: {status}");
            assert_ne!(status, 101);
        }
    }
    for connect in ["CONNECT localhost:80 HTTP/1.1", "CONNECT /a/mcp HTTP/1.1"] {
        let mut raw = Raw::connect(&hub).await;
        raw.send(format!("{connect}\r\nHost: localhost\r\n\r\n")).await;
        assert!(raw.response().await.status >= 400, "{connect}");
    }
    // HTTP/2 without TLS is for those who know that it is there; it is served as HTTP/1 or not at all.
    let mut raw = Raw::connect(&hub).await;
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.closed().await;
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let hub = Hub::start(&echo("a", SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let session = format!("Mcp-Session-Id: {}\r\n", client.session);
    let mut raw = Raw::connect(&hub).await;
    let all: String = (0..10)
        .map(|id| raw::post("/a/mcp", &session, &json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }).to_string()))
        .collect();
    raw.send(all).await;
    for id in 0..10 {
        let response = raw.response().await;
        assert_eq!(
            (response.status, serde_json::from_str::<Value>(&response.body).unwrap()["id"].as_i64()),
            (200, Some(id))
        );
    }
}
