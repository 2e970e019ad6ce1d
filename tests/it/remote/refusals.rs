//! What a server answers in place of an answer: the caller gets an error, and nothing of the page.

use serde_json::{Value, json};

use super::*;
use crate::peer::legacy;

const PAGE: &str = "<html>SECRET at /home/x</html>";

#[tokio::test]
async fn f114_a_server_that_asks_for_a_pause_is_not_hammered() {
    let peer = legacy(|seen| {
        let (status, pause) = wish(seen).split_once(' ')?;
        Some(Reply::status(status.parse().ok()?).header("retry-after", pause).bytes("later"))
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let cases = [
        ("429 7", json!(7000)),
        ("503 0", json!(0)),
        ("503 Wed, 21 Oct 2015 07:28:00 GMT", json!(0)),
        ("429 Thu, 31 Dec 2099 23:59:59 GMT", json!(300_000)),
        ("503 99999999999", json!(300_000)),
        ("429 soon", Value::Null),
        ("503 -5", Value::Null),
    ];
    for (at, (wish, pause)) in cases.iter().enumerate() {
        let answer = echo(&client, wish).await;
        assert_eq!((answer.status, answer.error().0), (200, -32603), "{wish}: {answer:?}");
        let (data, status) = (data(&answer), wish[..3].parse::<u16>().unwrap());
        let found = (&data["http_status"], &data["retryAfterMs"], &data["retryable"]);
        assert_eq!(found, (&json!(status), pause, &json!(true)), "{wish}");
        assert_eq!(peer.count("tools/call"), at + 1, "{wish}: asked once");
    }
    assert_eq!(echo(&client, "fine").await.tool_text(), "fine");
    assert_eq!(peer.count("initialize"), 1);
}

#[tokio::test]
async fn f115_what_is_no_message_becomes_an_error_without_its_text() {
    let peer = legacy(|seen| {
        let html = Reply::status(200).header("content-type", "text/html").bytes(PAGE);
        Some(match wish(seen) {
            "500" => Reply::status(500).bytes(PAGE),
            "502" => html.with(502),
            "403" => html.with(403),
            "410" => html.with(410),
            "200 html" => html,
            "204" => Reply::status(204),
            "202" => Reply::status(202),
            "empty" => Reply::status(200).header("content-type", "application/json"),
            "not json" => Reply::status(200).header("content-type", "application/json").bytes(PAGE),
            "no message" => Reply::json(&json!({ "page": PAGE })),
            "empty stream" => Reply::events(&[]),
            "stream of others" => Reply::events(&[json!({ "jsonrpc": "2.0", "method": "notifications/x" })]),
            _ => return None,
        })
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let cases = [
        ("500", Some(500)),
        ("502", Some(502)),
        ("403", Some(403)),
        ("410", Some(410)),
        ("200 html", None),
        ("204", None),
        ("202", None),
        ("empty", None),
        ("not json", None),
        ("no message", None),
        ("empty stream", None),
        ("stream of others", None),
    ];
    for (wish, status) in cases {
        let answer = echo(&client, wish).await;
        let text = format!("{:?}", answer.messages());
        assert_eq!((answer.status, answer.error().0), (200, -32603), "{wish}: {answer:?}");
        assert!(!text.contains("SECRET") && answer.error().1.contains("`a`"), "{wish}: {text}");
        assert_eq!(data(&answer)["http_status"].as_u64(), status, "{wish}");
        assert_eq!(echo(&client, "fine").await.tool_text(), "fine", "after {wish}");
    }
    assert_eq!(peer.count("initialize"), 1);
}

#[tokio::test]
async fn f115_a_message_counts_whatever_its_status_and_its_type() {
    let peer = legacy(|seen| {
        let error = seen.error(-32050, "mine", json!({ "k": 1 }));
        Some(match wish(seen) {
            "400" => Reply::json(&error).with(400),
            "500" => Reply::json(&error).with(500),
            "plain" => Reply::json(&error).header("content-type", "text/plain"),
            "none" => Reply::status(200).bytes(error.to_string()),
            _ => return None,
        })
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    for wish in ["400", "500", "plain", "none"] {
        let answer = echo(&client, wish).await;
        assert_eq!(answer.last()["error"], json!({ "code": -32050, "message": "mine", "data": { "k": 1 } }), "{wish}");
    }
}

#[tokio::test]
async fn f115_the_page_is_told_where_the_file_says_so() {
    let peer = legacy(|seen| (wish(seen) == "500").then(|| Reply::status(500).bytes(PAGE))).await;
    let hub = Hub::start(&peer.upstream("a", "expose_errors = true"));
    let client = Client::open(&hub, "/a/mcp").await;
    assert!(echo(&client, "500").await.error().1.contains("SECRET"));
}
