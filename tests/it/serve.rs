//! A hub serves its upstreams, each at its own URL.

use serde_json::json;

use super::fixture::{Client, Hub, SseClient, echo, eventually, post, rogue};

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
async fn what_only_a_start_or_a_reload_needs_is_given_back() {
    let hub = Hub::start(&echo("a", ""));
    eventually("it takes less than at its start", || hub.kib("VmRSS") * 4 < hub.kib("VmHWM") * 3).await;
    let client = Client::open(&hub, "/a/mcp").await;
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

#[cfg(not(feature = "otel"))]
#[tokio::test]
async fn a_hub_built_without_otel_says_so_once_and_touches_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hub.toml"), super::fixture::modern("m", &[], "")).unwrap();
    let mut command = super::fixture::hubward(&["serve", "--bind", "127.0.0.1:0", "-c"]);
    command.arg(folder.path().join("hub.toml")).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let hub = Hub::run(folder, command);
    let client = Client::open(&hub, "/m/mcp").await;
    for context in ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-1-2-01"] {
        let meta = json!({ "tracestate": "a=1", "traceparent": context });
        let answer = client.request("tools/call", json!({ "name": "echo", "_meta": meta })).await.last();
        let arrived = answer["result"]["content"][1]["text"].as_str().unwrap();
        assert!(arrived.contains(&format!(r#""traceparent":"{context}""#)), "{arrived}");
        assert!(arrived.contains(r#""tracestate":"a=1""#), "{arrived}");
    }
    let said = "OTEL_EXPORTER_OTLP_ENDPOINT is set: this hubward was built without `otel`";
    assert_eq!(hub.log().matches(said).count(), 1, "{}", hub.log());
}
