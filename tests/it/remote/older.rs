//! HTTP+SSE: where the first event leads, and what the end of the stream means.

use super::*;

const KEYS: &str = "transport = 'sse'\nrestart = { backoff_min = '20ms', backoff_max = '50ms', max = 100 }";

#[tokio::test]
async fn f121_the_endpoint_is_resolved_against_the_stream() {
    for (endpoint, path) in [("/m?s=1", "/m?s=1"), ("m?s=1", "/m?s=1"), ("./m/../m", "/m")] {
        let peer = sse(endpoint).await;
        let hub = Hub::start(&peer.upstream("a", KEYS));
        let client = Client::open(&hub, "/a/mcp").await;
        assert_eq!(echo(&client, "x").await.tool_text(), "x", "{endpoint}");
        assert!(peer.seen().iter().filter(|seen| seen.verb == "POST").all(|seen| seen.path == path), "{endpoint}");
    }
}

#[tokio::test]
async fn f121_an_endpoint_elsewhere_is_refused() {
    let other = crate::peer::modern(|_| None).await;
    let target: &'static str = Box::leak(other.url("/m").into_boxed_str());
    for endpoint in [target, "//169.254.169.254/m", "https://127.0.0.1/m"] {
        let peer = sse(endpoint).await;
        let hub = Hub::start(&peer.upstream("a", &format!("{KEYS}\nheaders = {{ X-Key = 'SECRET' }}")));
        let greeted = greet(&hub, "/a/mcp").await;
        assert!(greeted.status == 503 && greeted.error().1.contains("another origin"), "{endpoint}: {greeted:?}");
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn f121_an_endpoint_that_never_comes_is_not_waited_for_for_ever() {
    let peer = sse("").await;
    let hub = Hub::start(&peer.upstream("a", &format!("{KEYS}\nstart_timeout = '300ms'")));
    assert_eq!(greet(&hub, "/a/mcp").await.status, 503);
}

#[tokio::test]
async fn f123_an_answer_that_comes_twice_by_the_one_stream_counts_once() {
    let peer = sse("/m").await;
    let hub = Hub::start(&peer.upstream("a", KEYS));
    let client = Client::open(&hub, "/a/mcp").await;
    let answer = echo(&client, "twice").await;
    assert_eq!((answer.tool_text().as_str(), answer.messages().len()), ("twice", 1));
    assert_eq!(echo(&client, "x").await.tool_text(), "x");
}

#[tokio::test]
async fn f141_a_stream_that_ends_is_a_session_that_ends_and_another_is_opened() {
    let peer = sse("/m").await;
    let hub = Hub::start(&peer.upstream("a", &format!("{KEYS}\nisolation = 'shared'")));
    let client = Client::open(&hub, "/a/mcp").await;
    let streams = peer.of("GET").len();
    peer.stop().await;
    hub.until_upstream("a", |upstream| upstream["state"] != "ready").await;
    peer.restart().await;
    let began = std::time::Instant::now();
    while echo(&client, "back").await.last()["result"].is_null() {
        assert!(began.elapsed() < crate::fixture::PATIENCE, "it does not come back");
    }
    assert_eq!(peer.of("GET").len(), streams + 1);
}
