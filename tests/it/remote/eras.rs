//! What a remote server speaks is found out by asking, and only an answer is evidence.

use serde_json::{Value, json};

use super::*;
use crate::peer::{legacy, modern};

const EAGER: &str = "start = 'eager'\nrestart = { backoff_min = '20ms', backoff_max = '50ms', max = 100 }";

fn unsupported(seen: &Seen, supported: Value) -> Reply {
    Reply::json(&seen.error(-32022, "no", json!({ "supported": supported, "requested": "2026-07-28" }))).with(400)
}

#[tokio::test]
async fn p49_an_answer_that_lists_the_newer_revision_is_all_it_takes() {
    let peer = modern(|_| None).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    assert_eq!(client.greeting["serverInfo"]["name"], "newer");
    assert_eq!(echo(&client, "x").await.tool_text(), "x");
    assert_eq!(peer.count("server/discover"), 1);
    assert!(!peer.methods().iter().any(|method| method == "initialize" || method == "GET"), "{:?}", peer.methods());
}

#[tokio::test]
async fn p49_whatever_else_is_an_answer_makes_it_an_older_server() {
    type Answered = fn(&Seen) -> Reply;
    let cases: [(&str, Answered); 12] = [
        ("a list of older revisions", |seen| {
            Reply::json(&seen.result(json!({ "supportedVersions": ["2025-11-25"], "capabilities": {} })))
        }),
        ("-32022 with older revisions", |seen| unsupported(seen, json!(["2025-06-18", "2025-11-25"]))),
        ("-32601", |seen| Reply::json(&seen.error(-32601, "no such method", Value::Null))),
        ("-32601 in a 404", |seen| Reply::json(&seen.error(-32601, "no such method", Value::Null)).with(404)),
        ("any other error", |seen| Reply::json(&seen.error(-32602, "no session", Value::Null))),
        ("an error without an id", |_| {
            let body = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32000, "message": "no session" } });
            Reply::json(&body).with(400)
        }),
        ("a plain 400", |_| Reply::status(400).bytes("Bad Request")),
        ("a plain 404", |_| Reply::status(404).header("content-type", "text/plain").bytes("404 page not found")),
        ("an empty 405", |_| Reply::status(405)),
        ("a 406", |_| Reply::status(406)),
        ("a page", |_| Reply::status(200).header("content-type", "text/html").bytes("<html>hello</html>")),
        ("a 202", |_| Reply::status(202)),
    ];
    for (what, answered) in cases {
        let peer = legacy(move |seen| (seen.method() == "server/discover").then(|| answered(seen))).await;
        let hub = Hub::start(&peer.upstream("a", ""));
        let greeted = greet(&hub, "/a/mcp").await;
        assert_eq!(greeted.last()["result"]["serverInfo"]["name"], "older", "{what}: {greeted:?}");
        assert_eq!(peer.methods()[..3], ["server/discover", "initialize", "notifications/initialized"], "{what}");
        // What it is, is remembered.
        greet(&hub, "/a/mcp").await;
        assert_eq!((peer.count("server/discover"), peer.count("initialize")), (1, 2), "{what}");
    }
}

#[tokio::test]
async fn p49_a_refusal_that_names_our_revision_is_worth_one_more_try() {
    let peer = modern(|seen| {
        (seen.method() == "server/discover" && seen.before == 0).then(|| unsupported(seen, json!(["2026-07-28"])))
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", ""));
    assert_eq!(greet(&hub, "/a/mcp").await.status, 200);
    assert_eq!((peer.count("server/discover"), peer.count("initialize")), (2, 0));
}

#[tokio::test]
async fn p49_one_that_speaks_only_what_we_do_not_is_not_greeted() {
    let peer =
        modern(|seen| (seen.method() == "server/discover").then(|| unsupported(seen, json!(["2027-01-01"])))).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let greeted = greet(&hub, "/a/mcp").await;
    assert!(greeted.status == 503 && greeted.error().1.contains("2027-01-01"), "{greeted:?}");
    assert_eq!(peer.count("initialize"), 0);
}

#[tokio::test]
async fn p49_one_that_goes_on_refusing_is_not_greeted_either() {
    let peer =
        modern(|seen| (seen.method() == "server/discover").then(|| unsupported(seen, json!(["2026-07-28"])))).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    assert_eq!(greet(&hub, "/a/mcp").await.status, 503);
    assert_eq!(peer.count("initialize"), 0);
}

#[tokio::test]
async fn p49_who_are_you_and_later_are_no_evidence() {
    let cases: [(&str, u16); 5] = [("401", 401), ("403", 403), ("500", 500), ("503", 503), ("504", 504)];
    for (what, status) in cases {
        let peer = modern(move |seen| {
            (seen.method() == "server/discover")
                .then(|| Reply::status(status).bytes("later"))
                .filter(|_| seen.before < 2)
        })
        .await;
        let hub = Hub::start(&peer.upstream("a", EAGER));
        if status == 401 || status == 403 {
            assert_eq!(greet(&hub, "/a/mcp").await.status, 503, "{what}");
        } else {
            hub.until_upstream("a", |upstream| upstream["state"] == "ready").await;
        }
        assert_eq!(peer.count("initialize"), 0, "{what}");
    }
}

#[tokio::test]
async fn p49_f114_a_server_that_wants_to_be_left_alone_is_no_older_one() {
    let peer = modern(|seen| {
        (seen.method() == "server/discover" && seen.before == 0)
            .then(|| Reply::status(429).header("retry-after", "0").bytes("slow down"))
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", EAGER));
    hub.until_upstream("a", |upstream| upstream["state"] == "ready").await;
    assert_eq!(peer.count("initialize"), 0);
}

#[tokio::test]
async fn p49_silence_is_no_evidence() {
    let peer =
        modern(|seen| (seen.method() == "server/discover" && seen.before == 0).then(|| Reply::nothing().hold())).await;
    let hub = Hub::start(&peer.upstream("a", &format!("start_timeout = '300ms'\n{EAGER}")));
    hub.until_upstream("a", |upstream| upstream["state"] == "ready").await;
    assert_eq!((peer.count("server/discover"), peer.count("initialize")), (2, 0));
    assert!(peer.of("server/discover")[0].left());
}

#[tokio::test]
async fn p49_f141_nobody_there_is_no_evidence() {
    let peer = modern(|_| None).await;
    peer.stop().await;
    let hub = Hub::start(&peer.upstream("a", EAGER));
    hub.until_upstream("a", |upstream| upstream["state"] == "waiting").await;
    peer.restart().await;
    hub.until_upstream("a", |upstream| upstream["state"] == "ready").await;
    assert_eq!(peer.count("initialize"), 0);
}

#[tokio::test]
async fn p49_one_that_refuses_initialize_too_may_have_an_event_stream() {
    let peer = sse("/messages?s=1").await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    assert_eq!(echo(&client, "over there").await.tool_text(), "over there");
    let seen = peer.seen();
    let ways: Vec<_> = seen.iter().take(4).map(|seen| (seen.method(), seen.path.as_str())).collect();
    let expected =
        [("server/discover", "/mcp"), ("initialize", "/mcp"), ("GET", "/mcp"), ("initialize", "/messages?s=1")];
    assert_eq!(ways, expected);
    // The next session knows the way.
    Client::open(&hub, "/a/mcp").await;
    assert_eq!(peer.seen().iter().filter(|seen| seen.path == "/mcp" && seen.verb == "POST").count(), 2);
}

#[tokio::test]
async fn p49_a_configured_era_is_not_asked_for() {
    let peer = legacy(|_| None).await;
    let hub = Hub::start(&peer.upstream("a", "era = 'legacy'"));
    assert_eq!(greet(&hub, "/a/mcp").await.status, 200);
    assert_eq!(peer.count("server/discover"), 0);
}
