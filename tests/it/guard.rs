//! Who may knock, through real sockets: names, origins, paths.

use serde_json::json;

use super::{
    fixture::{Client, Hub, echo, http, initialize, post},
    raw::{self, Raw},
};

const SHARED: &str = "isolation = 'shared'";
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// Sends one request on a connection of its own; the status, and 0 where the connection was closed without one.
async fn status(hub: &Hub, request: &str) -> u16 {
    let mut raw = Raw::connect(hub).await;
    raw.send(request).await;
    raw.response().await.status
}

/// A GET of a path with these headers.
fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")
}

#[tokio::test]
async fn p9_f60_a_foreign_origin_is_refused_on_every_verb() {
    let toml = format!("[hub]\nallowed_origins = ['https://good.example']\n{}", echo("a", SHARED));
    let hub = Hub::start(&toml);
    let client = Client::open(&hub, "/a/mcp").await;
    let foreign = [
        "https://evil.example",
        "null",
        "http://good.example",
        "https://good.example:444",
        "https://good.example.evil",
        "https://evil-good.example",
        "https://good.example, https://evil.example",
        "https://good.example https://evil.example",
        "file://",
        "chrome-extension://abc",
        "http://127.0.0.1.evil.example",
        "http://localhost@evil.example",
        "",
        "evil",
    ];
    for origin in foreign {
        for (method, path) in [
            ("POST", "/a/mcp"),
            ("GET", "/a/mcp"),
            ("DELETE", "/a/mcp"),
            ("OPTIONS", "/a/mcp"),
            ("GET", "/a/sse"),
            ("POST", "/a/message?sessionId=x"),
            ("GET", "/api/v1/status"),
            ("GET", "/"),
            ("PUT", "/nowhere"),
        ] {
            let request = client.http.request(method.parse().unwrap(), hub.url(path)).header("origin", origin);
            let request = request
                .header("mcp-session-id", &client.session)
                .header("accept", "application/json, text/event-stream");
            let refused = request.header("content-type", "application/json").body(PING).send().await.unwrap();
            assert_eq!(refused.status(), 403, "{origin:?} {method} {path}");
            assert!(!refused.headers().contains_key("access-control-allow-origin"));
        }
    }
    // A second Origin does not help, and a bad one is no way to end a session.
    let two = "Host: localhost\r\nOrigin: https://good.example\r\nOrigin: https://evil.example\r\n";
    assert_eq!(status(&hub, &get("/api/v1/status", two)).await, 403);
    for origin in ["https://good.example", "http://localhost:3000", "http://127.0.0.1", &hub.base.clone()] {
        let headers = [("mcp-session-id", client.session.as_str()), ("origin", origin)];
        let fine =
            post(&client.http, &client.url, &headers, &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" })).await;
        assert_eq!(fine.status, 200, "{origin}");
    }
    assert_eq!(hub.status().await["sessions"], 1);
}

#[tokio::test]
async fn f59_a_foreign_host_is_refused_on_every_path() {
    let hub = Hub::start(&format!("[hub]\nallowed_hosts = ['hub.lan']\n{}", echo("a", SHARED)));
    let foreign = [
        "evil.example",
        "localhost.",
        "localhost.evil.example",
        "127.1",
        "0.0.0.0",
        "0x7f.0.0.1",
        "2130706433",
        "[::ffff:1.2.3.4]",
        "[::]",
        "user@localhost",
        "localhost:",
        "localhost:x",
        "localhost:99999",
        "localhost, evil.example",
        "localhost evil.example",
        "hub.lan.evil.example",
        "xhub.lan",
        "hub.lan.",
        "[::1",
        "127.0.0.1.nip.io",
        "localhost/a",
        "localhost\\@evil.example",
        "LOCALHOST..",
    ];
    for host in foreign {
        for path in ["/a/mcp", "/a/sse", "/a/message", "/api/v1/status", "/healthz", "/"] {
            // What is no host at all may be refused as a request.
            let refused = status(&hub, &get(path, &format!("Host: {host}\r\n"))).await;
            assert!(refused == 403 || refused == 400, "{host} {path}: {refused}");
        }
        let post = format!(
            "POST /a/mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{PING}",
            PING.len()
        );
        let refused = status(&hub, &post).await;
        assert!(refused == 403 || refused == 400, "{host}: {refused}");
    }
    for host in
        ["localhost", "LocalHost:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:8808", "hub.lan", "HUB.LAN:443"]
    {
        assert_eq!(status(&hub, &get("/healthz", &format!("Host: {host}\r\n"))).await, 200, "{host}");
    }
    // None, and two.
    for headers in [
        "",
        "Host: \r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: evil.example\r\nHost: localhost\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
    ] {
        let refused = status(&hub, &get("/healthz", headers)).await;
        assert!(refused == 403 || refused == 400, "{headers:?}: {refused}");
    }
    assert_eq!(
        status(&hub, "GET /healthz HTTP/1.0\r\n\r\n").await,
        403,
        "HTTP/1.0 may leave it out, but then it names nobody"
    );
    // Who stands between us says a name too, and is not believed.
    for header in
        ["X-Forwarded-Host: localhost", "Forwarded: host=localhost", "X-Original-Host: localhost", "X-Host: localhost"]
    {
        let refused = status(&hub, &get("/healthz", &format!("Host: evil.example\r\n{header}\r\n"))).await;
        assert_eq!(refused, 403, "{header}");
    }
}

#[tokio::test]
async fn f57_an_absolute_target_names_a_host_too() {
    let hub = Hub::start(&echo("a", SHARED));
    for (target, host, expected) in [
        ("http://localhost/healthz", "localhost", 200),
        ("http://127.0.0.1:1/healthz", "localhost", 200),
        ("http://evil.example/healthz", "localhost", 403),
        ("http://evil.example/healthz", "evil.example", 403),
        ("http://localhost/healthz", "evil.example", 403),
        ("http://localhost@evil.example/healthz", "localhost", 403),
        ("https://evil.example:443/a/mcp", "localhost", 403),
        ("http://localhost/a/nowhere", "localhost", 404),
    ] {
        let found = status(&hub, &get(target, &format!("Host: {host}\r\n"))).await;
        assert_eq!(found, expected, "{target} {host}");
    }
    let hello = initialize("2025-06-18", json!({})).to_string();
    let absolute = raw::post("http://localhost/a/mcp", "", &hello);
    assert_eq!(status(&hub, &absolute).await, 200);
    assert_eq!(status(&hub, &raw::post("http://evil.example/a/mcp", "", &hello)).await, 403);
    for target in ["*", "a/mcp", "evil.example:80", "//evil.example/a/mcp"] {
        let found = status(&hub, &get(target, "Host: localhost\r\n")).await;
        assert!((400..500).contains(&found), "{target}: {found}");
    }
}

#[tokio::test]
async fn f55_f57_a_mount_has_one_name_and_one_spelling() {
    let toml = format!("[hub]\nprefixes = ['/', '/x']\n{}{}", echo("time", SHARED), echo("\"a.b-c_d\"", SHARED));
    let hub = Hub::start(&toml);
    let hello = initialize("2025-06-18", json!({})).to_string();
    let at = async |path: &str| status(&hub, &raw::post(path, "Connection: close\r\n", &hello)).await;
    for path in ["/time/mcp", "/time/mcp/", "/time/mcp?x", "/time/mcp/?x=/y", "/x/time/mcp", "/a.b-c_d/mcp"] {
        assert_eq!(at(path).await, 200, "{path}");
    }
    let long = format!("/{}/mcp", "a".repeat(8192));
    let longer = format!("/{}/mcp", "%61".repeat(2000));
    let odd = [
        "/../mcp",
        "/./mcp",
        "/%2e%2e/mcp",
        "/%2E/mcp",
        "/time/../time/mcp",
        "/x/../time/mcp",
        "/time/./mcp",
        "/time%2fmcp",
        "/time%2Fmcp",
        "//time/mcp",
        "/time//mcp",
        "/time/mcp//",
        "/time;x/mcp",
        "/time/mcp;x",
        "/time./mcp",
        "/time%00/mcp",
        "/%00/mcp",
        "/Time/mcp",
        "/TIME/mcp",
        "/time/MCP",
        "/t%69me/mcp",
        "/time/m%63p",
        "/%74%69%6d%65/mcp",
        "/time%20/mcp",
        "/time+/mcp",
        "/time/mcp/x",
        "/time",
        "/time/",
        "/tim/mcp",
        "/timex/mcp",
        "/%c0%aetime/mcp",
        "/%c1%b4ime/mcp",
        "/%ff/mcp",
        "/tim%d0%b5/mcp",
        "/t\u{456}me/mcp",
        "/time\\mcp",
        "/x//time/mcp",
        "/X/time/mcp",
        "/xtime/mcp",
        "/time/mcp%3fx",
        "/time/mcp%23",
        "/~/mcp",
        "/*/mcp",
        "/etc%2fpasswd/mcp",
        "/mcp",
        "/message",
        &long,
        &longer,
    ];
    for path in odd {
        let found = at(path).await;
        // Bytes that no target may have are refused before anybody looks for a mount.
        assert!(found == 404 || (found == 400 && !path.is_ascii()), "{path}: {found}");
    }
    for path in ["/../sse", "/%2e%2e/sse", "/Time/sse", "//time/sse", "/time/sse/x"] {
        assert_eq!(status(&hub, &get(path, "Host: localhost\r\nAccept: text/event-stream\r\n")).await, 404, "{path}");
    }
    let log = hub.log();
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "what strangers send is escaped in the log");
    assert_eq!(hub.status().await["sessions"], 6);
}

#[tokio::test]
async fn f54_f72_who_a_client_says_it_is_means_nothing() {
    let hub = Hub::start(&echo("a", SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let names = [
        "x-user",
        "x-forwarded-user",
        "remote-user",
        "x-remote-user",
        "x-auth-request-user",
        "x-forwarded-for",
        "x-real-ip",
        "forwarded",
        "mcp-init-host",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "authorization",
        "cookie",
    ];
    for name in names {
        for value in ["root", "DELETE", "/b/mcp", "for=127.0.0.1"] {
            let headers = [("mcp-session-id", client.session.as_str()), (name, value)];
            let url = format!("{}?user=root&sessionId=x&access_token=y", client.url);
            let answer = post(&http(), &url, &headers, &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" })).await;
            assert_eq!(
                (answer.status, answer.text.as_str()),
                (200, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
                "{name}: {value}"
            );
        }
    }
}

#[tokio::test]
async fn f67_health_answers_anybody_with_one_word() {
    let hub = Hub::start(&echo("a", SHARED));
    for (path, word) in [("/ping", "pong"), ("/healthz", "ok"), ("/readyz", "ready"), ("/readyz/a", "ready")] {
        let mut raw = Raw::connect(&hub).await;
        raw.send(get(path, "Host: localhost\r\n")).await;
        let answer = raw.response().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, word), "{path}");
        let refused = http().post(hub.url(path)).body("x").send().await.unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD"));
    }
}
