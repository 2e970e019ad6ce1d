//! One who has all that can be borne is told so, and the others do not notice.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpSocket;

use super::{
    fixture::{Client, Hub, LATEST, echo, http, rogue},
    raw::Raw,
};

const SHARED: &str = "isolation = 'shared'";

/// The 99th percentile of calls one after the other.
async fn p99(client: &Client) -> Duration {
    let mut took = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        assert_eq!(client.call("echo", json!({ "text": "x" })).await.tool_text(), "x");
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// A call of a client without sessions.
async fn modern_call(hub: &Hub, path: &str) -> reqwest::Response {
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" } });
    let params = json!({ "name": "echo", "arguments": { "text": "x" }, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let post = http().post(hub.url(path)).header("content-type", "application/json").header("mcp-name", "echo");
    let post = post.header("accept", "application/json, text/event-stream").header("mcp-method", "tools/call");
    post.header("mcp-protocol-version", "2026-07-28").body(body.to_string()).send().await.unwrap()
}

#[tokio::test]
async fn f78_a_mount_with_all_the_calls_it_bears_says_503_and_the_others_do_not_notice() {
    let limits = "[hub.limits]\ncalls_in_flight_max = 4\n";
    let hub = Hub::start(&format!("{limits}{}{}", rogue("full", &[], SHARED), echo("other", SHARED)));
    let (hanging, client) = (Client::open(&hub, "/full/mcp").await, Client::open(&hub, "/full/mcp").await);
    let other = Client::open(&hub, "/other/mcp").await;
    p99(&other).await;
    let quiet = p99(&other).await;
    let hung = [(); 4].map(|()| {
        let hanging = hanging.clone();
        // It may find that our own question, below, has taken the last place.
        tokio::spawn(async move { while hanging.call("hang", json!({})).await.status == 503 {} })
    });
    let refused = loop {
        let answer = client.call("echo", json!({ "text": "x" })).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"), "{refused:?}");
    let data = json!({ "upstream": "full", "reason": "overloaded", "retryable": true, "retryAfterMs": 1000 });
    assert_eq!(refused.last()["error"]["data"], data);
    assert!(refused.error().1.contains("`full` has 4 calls in flight"), "{refused:?}");
    let modern = modern_call(&hub, "/full/mcp").await;
    assert_eq!((modern.status().as_u16(), modern.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    // Callers who do not take no for an answer.
    let storm: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    assert_eq!(client.call("echo", json!({ "text": "x" })).await.status, 503);
                }
            })
        })
        .collect();
    let busy = p99(&other).await;
    for caller in storm {
        caller.await.unwrap();
    }
    // Requests share the same few cores, so this is about queues: those of the full mount would never end.
    assert!(busy < Duration::from_secs(2), "99th {busy:?}, before {quiet:?}");
    // Nobody's running call made room, and there is room once they are over.
    assert!(hung.iter().all(|hung| !hung.is_finished()));
    assert_eq!(hanging.delete().await, 204);
    for hung in hung {
        hung.await.unwrap();
    }
    assert_eq!(client.call("echo", json!({ "text": "x" })).await.tool_text(), "x");
    assert_eq!(modern_call(&hub, "/full/mcp").await.status(), 200);
}

/// Opens the GET stream of a session on a socket that takes next to nothing, and does not read it.
async fn deaf(hub: &Hub, client: &Client) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let address = hub.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut raw = Raw::of(socket.connect(address).await.unwrap());
    let session = &client.session;
    let get = "GET /a/mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n";
    raw.send(format!("{get}Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: {LATEST}\r\n\r\n")).await;
    raw.until("\r\n\r\n").await;
    raw
}

#[tokio::test]
async fn f33_a_stream_that_nobody_reads_is_ended_and_holds_up_neither_the_child_nor_others() {
    const COUNT: usize = 50_000;
    let hub = Hub::start(&rogue("a", &[], SHARED));
    let (client, other) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    // What no reader may miss: more of it than queue and sockets hold.
    let uri = format!("rogue://{}", "x".repeat(300));
    assert_eq!(client.request("resources/subscribe", json!({ "uri": uri })).await.status, 200);
    let mut deaf = deaf(&hub, &client).await;
    let flood = {
        let (client, uri) = (other.clone(), uri.clone());
        tokio::spawn(async move { client.call("updated", json!({ "uri": uri, "count": COUNT })).await })
    };
    let mut slowest = Duration::ZERO;
    while !flood.is_finished() {
        let began = Instant::now();
        assert_eq!(other.call("echo", json!({ "text": "on" })).await.tool_text(), "on");
        slowest = slowest.max(began.elapsed());
    }
    assert_eq!(flood.await.unwrap().tool_text(), "ok", "the child has got rid of all it said");
    assert!(slowest < Duration::from_secs(5), "another client waited {slowest:?}");
    // Its client reads after all: what was on the way, and then the end.
    let all = deaf.until("\r\n0\r\n\r\n").await;
    let seen = all.matches("notifications/resources/updated").count();
    assert!((256..COUNT).contains(&seen), "{seen}");
    drop(deaf);
    // And it may come again: the newest are kept, up to replay_events_max.
    let mut again = client.get(None).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.message().await.unwrap()["params"]["uri"], json!(uri));
    drop(again);
    let free = |status: &serde_json::Value| status["streams"] == 0;
    hub.until("both streams are given back", free).await;
}

/// From now on nothing arrives at this socket, and nothing answers for it: its machine is gone, as far as one can see.
#[cfg(target_os = "linux")]
fn vanish(raw: &Raw) {
    const RETURN: u16 = 6;
    socket2::SockRef::from(&raw.socket).attach_filter(&[socket2::SockFilter::new(RETURN, 0, 0, 0)]).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn f34_clients_that_vanish_are_noticed_within_a_minute() {
    let hub = Hub::start(&rogue("a", &[], SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let streamable = deaf(&hub, &client).await;
    let mut older = Raw::connect(&hub).await;
    older.send("GET /a/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").await;
    older.until("sessionId").await;
    hub.until("both are open", |status| status["streams"] == 2 && status["sessions"] == 2).await;
    let began = Instant::now();
    vanish(&streamable);
    vanish(&older);
    while hub.status().await["streams"] != 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "still there after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(hub.status().await["sessions"], 1, "the end of its stream is the end of an older session");
    assert_eq!(client.get(None).await.status, 200, "whoever comes again finds the place free");
}
