//! A redirect is followed on its own origin; anywhere else our credentials are nobody's business.

use super::*;
use crate::peer::{legacy, modern};

const KEYS: &str = "headers = { Authorization = 'Bearer SECRET', X-Key = 'SECRET' }";

#[tokio::test]
async fn f116_a_server_that_has_moved_within_its_origin_is_followed() {
    for status in [307, 308] {
        let peer = legacy(move |seen| {
            (seen.path == "/mcp").then(|| Reply::status(status).header("location", "/new/mcp/?k=1"))
        })
        .await;
        let hub = Hub::start(&peer.upstream("a", KEYS));
        let client = Client::open(&hub, "/a/mcp").await;
        assert_eq!(echo(&client, "found").await.tool_text(), "found");
        let calls = peer.of("tools/call");
        let last = calls.last().unwrap();
        assert_eq!((last.path.as_str(), last.header("x-key"), wish(last)), ("/new/mcp/?k=1", Some("SECRET"), "found"));
        // Once it is known, the way is straight.
        assert_eq!(calls.len(), 1);
    }
}

#[tokio::test]
async fn f116_no_redirect_leads_elsewhere() {
    let other = modern(|_| None).await;
    let elsewhere = other.url("/caught");
    let target = elsewhere.clone();
    let peer = legacy(move |seen| {
        let (status, to) = wish(seen).split_once(' ')?;
        Some(Reply::status(status.parse().ok()?).header("location", if to == "other" { &target } else { to }))
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", KEYS));
    let client = Client::open(&hub, "/a/mcp").await;
    let cases = [
        ("307 other", elsewhere.as_str()),
        ("308 other", &elsewhere),
        ("302 other", &elsewhere),
        ("301 /mcp", "/mcp"),
        ("303 /mcp", "/mcp"),
        ("307 http://169.254.169.254/latest/meta-data", "http://169.254.169.254/latest/meta-data"),
        ("307 https://127.0.0.1/", "https://127.0.0.1/"),
        ("307 file:///etc/passwd", "file:///etc/passwd"),
    ];
    for (wish, named) in cases {
        let answer = echo(&client, wish).await;
        let (code, text) = answer.error();
        assert!(code == -32603 && text.contains(named) && !text.contains("SECRET"), "{wish}: {text}");
        assert_eq!(echo(&client, "fine").await.tool_text(), "fine");
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn f116_a_redirect_in_circles_ends() {
    let peer = legacy(|seen| match (wish(seen), seen.path.as_str()) {
        ("circle", "/mcp") => Some(Reply::status(307).header("location", "/other")),
        ("circle", _) => Some(Reply::status(307).header("location", "/mcp")),
        ("nowhere", _) => Some(Reply::status(307)),
        _ => None,
    })
    .await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    for wish in ["circle", "nowhere"] {
        let answer = echo(&client, wish).await;
        assert_eq!(answer.error().0, -32603, "{wish}: {answer:?}");
    }
    assert!(peer.count("tools/call") < 10);
}
