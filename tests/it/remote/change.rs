//! A changed definition: the old connection ends its calls, and the new one asks anew.

use super::*;
use crate::peer::{Gate, legacy};

#[tokio::test]
async fn reload_changed_headers_replace_the_connection_and_a_call_under_way_finishes() {
    let gate = Gate::new();
    let held = gate.clone();
    let peer = legacy(move |seen| {
        (wish(seen) == "held").then(|| Reply::events(&[]).wait(&held).event(&seen.text("finished")))
    })
    .await;
    let keys = |key: &str| peer.upstream("a", &format!("isolation = 'shared'\nheaders = {{ X-Key = '{key}' }}"));
    let hub = Hub::start(&keys("one"));
    let client = Client::open(&hub, "/a/mcp").await;
    let sender = client.clone();
    let waiting = tokio::spawn(async move { echo(&sender, "held").await });
    peer.until("tools/call", 1).await;
    hub.edit(&keys("two"));
    hub.generation(2).await;
    let began = std::time::Instant::now();
    loop {
        assert_eq!(echo(&client, "next").await.tool_text(), "next");
        if peer.of("tools/call").last().unwrap().header("x-key") == Some("two") {
            break;
        }
        assert!(began.elapsed() < crate::fixture::PATIENCE, "the new connection is not used");
    }
    gate.open();
    assert_eq!(waiting.await.unwrap().tool_text(), "finished");
    let ended = peer.until("DELETE", 1).await;
    assert_eq!(ended[0].header("x-key"), Some("one"));
}

#[tokio::test]
async fn reload_a_changed_url_leads_elsewhere() {
    let (one, two) = (legacy(|_| None).await, legacy(|_| None).await);
    let hub = Hub::start(&one.upstream("a", "isolation = 'shared'"));
    let client = Client::open(&hub, "/a/mcp").await;
    echo(&client, "x").await;
    hub.edit(&two.upstream("a", "isolation = 'shared'"));
    hub.generation(2).await;
    one.until("DELETE", 1).await;
    assert_eq!(echo(&client, "y").await.tool_text(), "y");
    assert_eq!((one.count("tools/call"), two.count("tools/call")), (1, 1));
}
