//! A hub serves its upstreams, each at its own URL.

use serde_json::json;

use super::fixture::{Client, Hub, SseClient, echo, post, rogue};

#[tokio::test]
async fn each_upstream_is_at_its_own_url_under_every_prefix() {
    let toml = format!("[hub]\nprefixes = ['/', '/servers/']\ndefault = 'a'\n{}{}", echo("a", ""), echo("b", ""));
    let hub = Hub::start(&toml);
    let paths = ["/a/mcp", "/a/mcp/", "/b/mcp", "/servers/a/mcp", "/servers/b/mcp", "/mcp"];
    for path in paths {
        let client = Client::open(&hub, path).await;
        assert_eq!(client.call("echo", json!({ "text": path })).await.tool_text(), path);
    }
    for url in ["/a/mcp", "/a/sse", "/servers/b/mcp", "/mcp", "/sse"] {
        assert!(hub.urls.contains(&hub.url(url)), "{url} is not announced: {:?}", hub.urls);
    }
    let unknown = post(&super::fixture::http(), &hub.url("/c/mcp"), &[], &json!({})).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn a_bad_upstream_keeps_nobody_from_starting() {
    let toml = format!("[upstreams.bad]\ncommand = '/no/such/program'\n{}", rogue("good", &[], ""));
    let hub = Hub::start(&toml);
    let refused =
        post(&super::fixture::http(), &hub.url("/bad/mcp"), &[], &super::fixture::initialize("2025-06-18", json!({})))
            .await;
    assert_eq!(refused.status, 503);
    assert!(refused.error().1.contains("`bad`"), "{refused:?}");
    let client = Client::open(&hub, "/good/mcp").await;
    assert_eq!(client.call("echo", json!({ "text": "hi" })).await.tool_text(), "hi");
}

#[tokio::test]
async fn p23_the_older_transport_serves_beside_the_newer() {
    let hub = Hub::start(&format!("[hub]\nprefixes = ['/x']\n{}", echo("a", "")));
    let mut client = SseClient::greeted(&hub, "/x/a/sse", json!({})).await;
    assert!(client.endpoint.starts_with(&hub.url("/x/a/message?sessionId=")), "{}", client.endpoint);
    let call = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "echo", "arguments": { "text": "hi" } } });
    assert_eq!(client.send(&call).await, 202);
    assert_eq!(client.stream.message().await.unwrap()["result"]["content"][0]["text"], "hi");
}
