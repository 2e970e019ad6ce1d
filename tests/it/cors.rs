//! What browsers are told, and that they are told it with every answer.

use std::collections::BTreeSet;

use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{
    fixture::{Client, Hub, Stream, echo, eventually, http, initialize, modern, rogue},
    raw::{self, Raw},
};

const SHARED: &str = "isolation = 'shared'";
const PAGE: &str = "https://good.example";
const LISTED: &str = "[hub]\nallowed_origins = ['https://good.example']\n";
const EXPOSED: &str = "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After, Link";
const ALLOWED: &str = "Authorization, X-API-Key, Content-Type, Accept, Last-Event-ID, Mcp-Session-Id, \
                       MCP-Protocol-Version, Mcp-Method, Mcp-Name, traceparent, tracestate, baggage";

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let all: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Is the answer one that the page may read, and no other?
fn readable(headers: &HeaderMap, what: &str) {
    let told = [
        ("access-control-allow-origin", Some(PAGE.to_owned())),
        ("access-control-expose-headers", Some(EXPOSED.to_owned())),
        ("access-control-allow-credentials", None),
    ];
    for (name, value) in told {
        assert_eq!(text(headers, name), value, "{what}: {name}");
    }
    assert!(text(headers, "vary").is_some_and(|vary| vary.split(", ").any(|name| name == "Origin")), "{what}");
}

/// What a browser asks before it lets a page call.
async fn preflight(hub: &Hub, path: &str, origin: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let ask = http().request(reqwest::Method::OPTIONS, hub.url(path)).header("origin", origin);
    let ask = ask.header("access-control-request-method", "POST");
    headers.iter().fold(ask, |ask, (name, value)| ask.header(*name, *value)).send().await.unwrap()
}

#[tokio::test]
async fn f61_a_preflight_is_answered_with_what_the_page_may_send() {
    let hub = Hub::start(&format!("{LISTED}default = 'a'\n{}", echo("a", SHARED)));
    let paths = [
        ("/a/mcp", "GET, POST, DELETE, OPTIONS"),
        ("/mcp", "GET, POST, DELETE, OPTIONS"),
        ("/a/sse", "GET, OPTIONS"),
        ("/a/message?sessionId=x", "POST, OPTIONS"),
        ("/.well-known/oauth-protected-resource", "GET, OPTIONS"),
        ("/.well-known/oauth-protected-resource/a/mcp", "GET, OPTIONS"),
        ("/api/v1/status", "GET, OPTIONS"),
    ];
    for (path, methods) in paths {
        let answer = preflight(&hub, path, PAGE, &[]).await;
        readable(answer.headers(), path);
        assert_eq!(answer.status(), 204, "{path}");
        let told = [
            ("access-control-allow-methods", Some(methods)),
            ("access-control-allow-headers", Some(ALLOWED)),
            ("access-control-max-age", Some("7200")),
            ("access-control-allow-private-network", None),
        ];
        for (name, value) in told {
            assert_eq!(text(answer.headers(), name).as_deref(), value, "{path}: {name}");
        }
        let vary = text(answer.headers(), "vary").unwrap();
        let vary: BTreeSet<&str> = vary.split(", ").collect();
        assert_eq!(vary, BTreeSet::from(["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"]));
        assert_eq!(answer.text().await.unwrap(), "");
    }
    // Each header of the protocol, as a browser asks for it: in lower case, sorted, without spaces.
    for name in ALLOWED.split(", ").chain(["Mcp-Param-Region", "mcp-param-x.y_z"]) {
        let asked = [("access-control-request-headers", name.to_ascii_lowercase())].map(|(n, v)| (n, v.leak() as &str));
        let answer = preflight(&hub, "/a/mcp", PAGE, &asked).await;
        let allowed = text(answer.headers(), "access-control-allow-headers").unwrap();
        let mut allowed = allowed.split(", ");
        assert!(allowed.any(|allowed| allowed.eq_ignore_ascii_case(name)), "{name}");
    }
    let asked = [("access-control-request-headers", "authorization,cookie,mcp-param-a,x-evil,mcp-param-")];
    let answer = preflight(&hub, "/a/mcp", PAGE, &asked).await;
    let allowed = text(answer.headers(), "access-control-allow-headers");
    assert_eq!(allowed, Some(format!("{ALLOWED}, mcp-param-a")), "what is in no list is not echoed");
    // What older browsers ask before a page of the internet reaches into a private network.
    let answer = preflight(&hub, "/a/mcp", PAGE, &[("access-control-request-private-network", "true")]).await;
    assert_eq!(text(answer.headers(), "access-control-allow-private-network").as_deref(), Some("true"));
    assert_eq!(hub.upstream("a").await["pids"], json!([]), "nobody asked the upstream anything");
}

#[tokio::test]
async fn f60_a_preflight_of_a_foreign_origin_is_refused() {
    let hub = Hub::start(&format!("{LISTED}{}", echo("a", SHARED)));
    let foreign = [
        "https://evil.example",
        "null",
        "http://good.example",
        "https://good.example.evil",
        "https://good.example:444",
    ];
    for origin in foreign {
        for path in [
            "/a/mcp",
            "/a/sse",
            "/a/message",
            "/.well-known/oauth-protected-resource/a/mcp",
            "/api/v1/status",
            "/x/mcp",
        ] {
            let asked = [("access-control-request-private-network", "true")];
            let refused = preflight(&hub, path, origin, &asked).await;
            assert_eq!(refused.status(), 403, "{origin} {path}");
            let told: Vec<_> = refused.headers().keys().filter(|name| name.as_str().starts_with("access-")).collect();
            assert!(told.is_empty(), "{origin} {path}: {told:?}");
            assert_eq!(text(refused.headers(), "vary").as_deref(), Some("Origin"), "a cache keeps it from others");
        }
    }
    // Allowed, but nothing is there; and what is no preflight.
    let nowhere = preflight(&hub, "/x/mcp", PAGE, &[]).await;
    assert_eq!(nowhere.status(), 404);
    readable(nowhere.headers(), "an unknown mount");
    for headers in [vec![], vec![("origin", PAGE)], vec![("access-control-request-method", "POST")]] {
        let ask = http().request(reqwest::Method::OPTIONS, hub.url("/a/mcp"));
        let ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(*name, *value));
        let refused = ask.send().await.unwrap();
        let allow = text(refused.headers(), "allow");
        assert_eq!((refused.status().as_u16(), allow.as_deref()), (405, Some("GET, POST, DELETE")), "F48: {headers:?}");
    }
}

#[tokio::test]
async fn f60_any_origin_is_served_without_a_name() {
    let hub = Hub::start(&format!("[hub]\nallowed_origins = ['any']\n{}", echo("a", SHARED)));
    for origin in ["https://some.example", "null", "http://localhost:6274"] {
        let answer = preflight(&hub, "/a/mcp", origin, &[]).await;
        assert_eq!(answer.status(), 204);
        let get = http().get(hub.url("/api/v1/status")).header("origin", origin).send().await.unwrap();
        for headers in [answer.headers(), get.headers()] {
            assert_eq!(text(headers, "access-control-allow-origin").as_deref(), Some("*"), "{origin}");
            assert_eq!(text(headers, "access-control-allow-credentials"), None);
        }
    }
}

/// What is sent, and what comes back.
type Case<'a> = (u16, &'a str, &'a str, Vec<(&'a str, &'a str)>, Value);

#[tokio::test]
async fn f62_every_status_can_be_read_by_the_page() {
    let limits = "[hub.limits]\nbody_bytes_max = '4 KiB'\n";
    let broken = "[upstreams.broken]\ncommand = '/no/such/program'\n";
    let hub = Hub::start(&format!("{LISTED}{limits}{}{broken}", echo("a", SHARED)));
    let client = Client::open(&hub, "/a/mcp").await;
    let session = ("mcp-session-id", client.session.as_str());
    let [json_body, takes] = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let large = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "x": "x".repeat(5000) });
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/x" });
    let open = client.get(None).await;
    let cases: Vec<Case> = vec![
        (200, "POST", "/a/mcp", vec![json_body, takes, session], ping.clone()),
        (202, "POST", "/a/mcp", vec![json_body, takes, session], note),
        (400, "POST", "/a/mcp", vec![json_body, takes, session], json!("not a message")),
        (400, "POST", "/a/mcp", vec![json_body, takes], ping.clone()),
        (400, "GET", "/a/mcp", vec![session, ("mcp-protocol-version", "1999-01-01")], Value::Null),
        (403, "POST", "/a/mcp", vec![json_body, takes, session, ("host", "evil.example")], ping.clone()),
        (404, "POST", "/nowhere/mcp", vec![json_body], ping.clone()),
        (404, "GET", "/nothing", vec![], Value::Null),
        (404, "POST", "/a/mcp", vec![json_body, takes, ("mcp-session-id", "gone")], ping.clone()),
        (404, "POST", "/a/message?sessionId=gone", vec![json_body], ping.clone()),
        (405, "PUT", "/a/mcp", vec![session], Value::Null),
        (405, "POST", "/a/sse", vec![json_body], ping.clone()),
        (405, "POST", "/api/v1/status", vec![], Value::Null),
        (406, "POST", "/a/mcp", vec![json_body, session, ("accept", "text/html")], ping.clone()),
        (406, "GET", "/a/sse", vec![("accept", "application/json")], Value::Null),
        (409, "GET", "/a/mcp", vec![session, takes], Value::Null),
        (413, "POST", "/a/mcp", vec![json_body, takes, session], large),
        (415, "POST", "/a/mcp", vec![("content-type", "text/plain"), session], ping.clone()),
        (503, "POST", "/broken/mcp", vec![json_body, takes], initialize("2025-06-18", json!({}))),
        (503, "GET", "/readyz/broken", vec![], Value::Null),
        (200, "GET", "/ping", vec![], Value::Null),
        (200, "GET", "/api/v1/status", vec![], Value::Null),
        (204, "DELETE", "/a/mcp", vec![session], Value::Null),
    ];
    for (status, method, path, headers, body) in cases {
        let what = format!("{status} {method} {path}");
        let plain = client.http.request(method.parse().unwrap(), hub.url(path));
        let mut request = headers.into_iter().fold(plain, |request, (name, value)| request.header(name, value));
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let again = request.try_clone().unwrap();
        let answer = request.header("origin", PAGE).send().await.unwrap();
        assert_eq!(answer.status(), status, "{what}");
        readable(answer.headers(), &what);
        // Nobody else is told so, but that it depends on who asks.
        let answer = again.send().await.unwrap();
        assert_eq!(text(answer.headers(), "access-control-allow-origin"), None, "{what}");
        assert_eq!(text(answer.headers(), "vary").as_deref(), Some("Origin"), "{what}");
    }
    drop(open);
}

#[tokio::test]
async fn f62_a_body_that_does_not_come_is_refused_readably_too() {
    let hub = Hub::start(&format!("{LISTED}{}", echo("a", SHARED)));
    let mut raw = Raw::connect(&hub).await;
    raw.send(raw::post("/a/mcp", &format!("Origin: {PAGE}\r\n"), "{}").trim_end_matches("{}")).await;
    let head = raw.until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 408"), "{head}");
    assert!(head.contains("\r\naccess-control-allow-origin: https://good.example\r\n"), "{head}");
}

#[tokio::test]
async fn f62_streams_can_be_read_by_the_page() {
    let toml = format!("{LISTED}{}{}", rogue("a", &[], ""), modern("m", &[], SHARED));
    let hub = Hub::start(&toml);
    let mut client = Client::open(&hub, "/a/mcp").await;
    let page = HeaderMap::from_iter([("origin".parse().unwrap(), HeaderValue::from_static(PAGE))]);
    client.http = reqwest::Client::builder().no_proxy().tls_certs_only([]).default_headers(page).build().unwrap();
    let stream = |what: &str, stream: &Stream| {
        assert_eq!((stream.status, stream.headers["content-type"].as_str()), (200, "text/event-stream"), "{what}");
        let told = ["access-control-allow-origin", "access-control-expose-headers", "vary"];
        assert_eq!(told.map(|name| stream.headers[name].as_str()), [PAGE, EXPOSED, "Origin"], "{what}");
    };
    // Of a call, of what belongs to none, of 2024-11-05, and of 2026-07-28.
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params":
        { "name": "progress", "arguments": { "count": 3 }, "_meta": { "progressToken": "t" } } });
    let mut called = client.stream(&call).await;
    stream("POST", &called);
    assert_eq!(called.message().await.unwrap()["params"]["progress"], 1);
    stream("GET", &client.get(None).await);
    let get = client.http.get(hub.url("/a/sse")).header("accept", "text/event-stream");
    stream("HTTP+SSE", &Stream::of(get.send().await.unwrap()));
    let listen = json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {
        "notifications": { "toolsListChanged": true }, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "page", "version": "1" } } } });
    let post = client.http.post(hub.url("/m/mcp")).header("content-type", "application/json");
    let post =
        post.header("accept", "application/json, text/event-stream").header("mcp-method", "subscriptions/listen");
    let post = post.header("mcp-protocol-version", "2026-07-28").body(listen.to_string());
    let mut listening = Stream::of(post.send().await.unwrap());
    stream("listen", &listening);
    assert_eq!(listening.message().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
}

#[tokio::test]
async fn f60_who_may_call_is_read_again_with_the_file() {
    let hub = Hub::start(&format!("{LISTED}{}", echo("a", SHARED)));
    assert_eq!(preflight(&hub, "/a/mcp", PAGE, &[]).await.status(), 204);
    hub.edit(&format!("[hub]\nallowed_origins = ['https://other.example']\n{}", echo("a", SHARED)));
    hub.generation(2).await;
    assert_eq!(preflight(&hub, "/a/mcp", PAGE, &[]).await.status(), 403);
    assert_eq!(preflight(&hub, "/a/mcp", "https://other.example", &[]).await.status(), 204);
}

#[tokio::test]
async fn t5_f64_a_foreign_page_runs_nothing_whatever_it_sends() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&format!("{LISTED}{}", rogue("a", &["--log", log.to_str().unwrap()], SHARED)));
    let client = Client::open(&hub, "/a/mcp").await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params":
        { "name": "echo", "arguments": { "text": "stolen" } } });
    // What a form or a fetch without a preflight can send; with the session too, as if it had been guessed.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json"] {
        for origin in [Some("https://evil.example"), Some("null"), None] {
            let post =
                client.http.post(&client.url).header("content-type", kind).header("mcp-session-id", &client.session);
            let post = origin.iter().fold(post, |post, origin| post.header("origin", *origin));
            let refused = match (origin, kind) {
                (Some(_), _) => 403,
                (None, "application/json") => continue,
                (None, _) => 415,
            };
            assert_eq!(post.body(call.to_string()).send().await.unwrap().status(), refused, "{kind} {origin:?}");
        }
    }
    client.call("echo", json!({ "text": "mine" })).await;
    let seen = || std::fs::read_to_string(&log).unwrap();
    eventually("the process heard of the last call", || seen().contains("mine")).await;
    assert!(!seen().contains("stolen"), "nothing else reached it");
}
