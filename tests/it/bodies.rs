//! Clients that send too much or too slowly, and clients that do not read.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    fixture::{Client, Hub, SseClient, echo, file_until, rogue},
    raw::{self, Raw},
};

const SHARED: &str = "isolation = 'shared'";

/// Memory of the hub's process in MiB.
fn memory(hub: &Hub) -> u64 {
    hub.kib("RssAnon") / 1024
}

/// Sends chunks without end, until the peer has enough; answers how many bytes that took.
async fn pour(raw: &mut Raw) -> usize {
    use tokio::io::AsyncWriteExt;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let mut poured = 0;
    while poured < 1 << 30 && raw.socket.write_all(&chunk).await.is_ok() {
        poured += chunk.len();
    }
    poured
}

#[tokio::test]
async fn f38_a_body_without_an_end_is_refused_and_its_connection_closed() {
    let hub = Hub::start(&format!("[hub.limits]\nbody_bytes_max = '64 KiB'\n{}", echo("a", SHARED)));
    let client = Client::open(&hub, "/a/mcp").await;
    let older = SseClient::open(&hub, "/a/sse").await;
    let message = older.endpoint.strip_prefix(&hub.base).unwrap().to_owned();
    let session = format!("Mcp-Session-Id: {}\r\n", client.session);
    let before = memory(&hub);
    let targets = [
        ("POST", "/a/mcp", 413),
        ("POST", message.as_str(), 413),
        ("POST", "/a/sse", 405),
        ("POST", "/nowhere", 404),
        ("POST", "/healthz", 405),
        ("PUT", "/a/mcp", 0),
        ("GET", "/healthz", 0),
        ("GET", "/a/mcp", 0),
        ("DELETE", "/a/mcp", 0),
    ];
    for (method, path, expected) in targets {
        // Of a length that is too great,
        let mut raw = Raw::connect(&hub).await;
        raw.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{session}Content-Length: 1000000000\r\n\r\n{{")).await;
        let refused = raw.response().await;
        assert!(refused.status == expected || expected == 0 && refused.status >= 400, "{method} {path}: {refused:?}");
        assert!(raw.closed().await < Duration::from_secs(5), "{method} {path}");
        // and of a length that is not said.
        let mut raw = Raw::connect(&hub).await;
        raw.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{session}Transfer-Encoding: chunked\r\n\r\n")).await;
        let poured = pour(&mut raw).await;
        assert!(poured < 512 << 20, "{method} {path}: {poured} bytes were taken");
    }
    assert!(memory(&hub) < before + 20, "memory grew from {before} to {} MiB", memory(&hub));
    assert_eq!(client.request("ping", json!({})).await.status, 200, "what is refused does nothing");
    assert!(!hub.log().contains("ERROR"), "faults of clients are no errors of the hub");
}

#[tokio::test]
async fn f38_a_length_that_lies_is_found_out() {
    let hub = Hub::start(&echo("a", SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let session = format!("Mcp-Session-Id: {}\r\n", client.session);
    let whole = raw::post("/a/mcp", &session, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    // Shorter than the body: what is left over is no request.
    let mut raw = Raw::connect(&hub).await;
    raw.send(whole.replace("Content-Length: 40", "Content-Length: 39")).await;
    assert_eq!(raw.response().await.status, 400);
    raw.closed().await;
    // Longer, and the client leaves: nobody waits for the rest.
    let mut raw = Raw::connect(&hub).await;
    raw.send(whole.replace("Content-Length: 40", "Content-Length: 41")).await;
    drop(raw);
    let mut raw = Raw::connect(&hub).await;
    raw.send(&whole).await;
    assert_eq!(raw.response().await.status, 200);
}

#[tokio::test]
async fn f31_a_head_has_a_deadline() {
    let hub = Hub::start(&echo("a", SHARED));
    let began = Instant::now();
    let mut silent = Raw::connect(&hub).await;
    let mut half = Raw::connect(&hub).await;
    half.send("POST /a/mcp HTTP/1.1\r\nHost: loc").await;
    let mut dripping = Raw::connect(&hub).await;
    let drip = async {
        for byte in
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".bytes()
        {
            dripping.send([byte]).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            if began.elapsed() > Duration::from_secs(9) {
                break;
            }
        }
        dripping.closed().await;
    };
    tokio::join!(silent.closed(), half.closed(), drip);
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
}

#[tokio::test]
async fn f33_a_client_that_reads_nothing_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&rogue("a", &["--log", log.to_str().unwrap()], SHARED));
    let (client, other) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let mut older = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    other.call("echo", json!({ "text": "x" })).await;
    let before = memory(&hub);
    let storm = json!({ "jsonrpc": "2.0", "id": "storm", "method": "tools/call", "params":
        { "name": "progress", "arguments": { "count": 100_000 }, "_meta": { "progressToken": "t".repeat(200) } } });
    // Both send, and neither reads a byte of what comes.
    let mut raw = Raw::connect(&hub).await;
    let headers = format!("Mcp-Session-Id: {}\r\nAccept: text/event-stream\r\n", client.session);
    raw.send(raw::post("/a/mcp", &headers, &storm.to_string())).await;
    assert_eq!(older.send(&storm).await, 202);
    file_until(&log, |log| log.matches("storm").count() == 0 && log.matches(r#""count":100000"#).count() == 2).await;
    // Meanwhile others are served, and the process gets rid of all it says.
    let mut slowest = Duration::ZERO;
    loop {
        let began = Instant::now();
        let inflight = other.call("inflight", json!({})).await.tool_text();
        slowest = slowest.max(began.elapsed());
        if inflight == "0" {
            break;
        }
    }
    assert!(slowest < Duration::from_secs(5), "another client waited {slowest:?}");
    assert!(memory(&hub) < before + 40, "memory grew from {before} to {} MiB", memory(&hub));
    // Progress was left out for it, and the answer was not.
    raw.until(r#""id":"storm","#).await;
    while older.stream.message().await.expect("the session lives")["id"] != "storm" {}
}
