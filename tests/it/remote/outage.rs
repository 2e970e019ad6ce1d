//! A server that goes and comes back, a name that nobody has, a proxy in between.

use std::time::Instant;

use super::*;
use crate::{
    fixture::{PATIENCE, hubward},
    peer::{legacy, legacy_script, modern},
};

const PATIENT: &str = "restart = { backoff_min = '20ms', backoff_max = '50ms', max = 100 }";

#[tokio::test]
async fn f141_calls_get_errors_while_a_server_is_gone_and_answers_when_it_is_back() {
    for peer in [legacy(|_| None).await, modern(|_| None).await] {
        let hub = Hub::start(&peer.upstream("a", &format!("isolation = 'shared'\n{PATIENT}")));
        let client = Client::open(&hub, "/a/mcp").await;
        let held = client.clone();
        assert_eq!(echo(&held, "x").await.tool_text(), "x");
        peer.stop().await;
        let answer = echo(&client, "nobody").await;
        let error = answer.last()["error"].clone();
        assert!(error["code"] == -32603 && error["data"]["retryable"] == true, "{answer:?}");
        assert_ne!(hub.upstream("a").await["state"], "failed");
        peer.restart().await;
        let began = Instant::now();
        while echo(&client, "back").await.last()["result"].is_null() {
            assert!(began.elapsed() < PATIENCE, "it does not come back");
        }
    }
}

#[tokio::test]
async fn f141_a_call_under_way_gets_an_error_when_its_server_goes() {
    let peer = legacy(|seen| (wish(seen) == "held").then(|| Reply::events(&[]).hold())).await;
    let hub = Hub::start(&peer.upstream("a", PATIENT));
    let client = Client::open(&hub, "/a/mcp").await;
    let held = tokio::spawn(async move { echo(&client, "held").await });
    peer.until("tools/call", 1).await;
    peer.stop().await;
    let answer = held.await.unwrap();
    assert_eq!((answer.error().0, data(&answer)["retryable"].as_bool()), (-32603, Some(true)), "{answer:?}");
}

#[tokio::test]
async fn f118_a_name_that_nobody_has_is_an_error_that_says_so() {
    let hub = Hub::start("[upstreams.a]\nurl = 'http://nobody.invalid/mcp'\n");
    let greeted = greet(&hub, "/a/mcp").await;
    assert!(greeted.status == 503 && greeted.error().1.contains("cannot be reached"), "{greeted:?}");
}

#[tokio::test]
async fn f125_a_proxy_is_used_as_configured() {
    let proxy = Peer::new(legacy_script(|_| None)).await;
    let hub = Hub::start(&format!("[upstreams.a]\nurl = 'http://far.invalid/mcp'\nproxy = {:?}\n", proxy.origin));
    let client = Client::open(&hub, "/a/mcp").await;
    assert_eq!(echo(&client, "x").await.tool_text(), "x");
    assert!(proxy.seen().iter().all(|seen| seen.path == "http://far.invalid/mcp"));
}

#[tokio::test]
async fn f125_a_proxy_of_the_environment_is_used_but_where_it_is_excepted() {
    let (proxy, direct) = (Peer::new(legacy_script(|_| None)).await, legacy(|_| None).await);
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("[upstreams.far]\nurl = 'http://far.invalid/mcp'\n{}", direct.upstream("near", ""));
    std::fs::write(folder.path().join("hub.toml"), toml).unwrap();
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "-c"]);
    command.arg(folder.path().join("hub.toml")).env("HTTP_PROXY", &proxy.origin).env("http_proxy", &proxy.origin);
    command.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost");
    let hub = Hub::run(folder, command);
    assert_eq!(echo(&Client::open(&hub, "/far/mcp").await, "x").await.tool_text(), "x");
    let seen = proxy.seen().len();
    assert_eq!(echo(&Client::open(&hub, "/near/mcp").await, "y").await.tool_text(), "y");
    assert_eq!((proxy.seen().len(), direct.count("tools/call")), (seen, 1));
}

#[tokio::test]
async fn f125_a_proxy_that_is_down_is_an_error() {
    let proxy = modern(|_| None).await;
    proxy.stop().await;
    let hub = Hub::start(&format!("[upstreams.a]\nurl = 'http://far.invalid/mcp'\nproxy = {:?}\n", proxy.origin));
    assert_eq!(greet(&hub, "/a/mcp").await.status, 503);
}
