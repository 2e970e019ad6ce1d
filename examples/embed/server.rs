//! The server behind the examples: an MCP server within this program, at the end of a link.

use bytes::Bytes;
use hubward::{
    Link,
    link::{Inbound, Peer, pair},
    wire::{Kind, Message, message},
};
use serde_json::{Value, json};

/// What it says of itself.
const GREETING: &str = r#"{"protocolVersion":"2025-11-25","serverInfo":{"name":"within","version":"1"},"capabilities":
{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true}}}"#;

/// Starts one, and gives the link to it away.
pub fn start() -> Link {
    let (link, peer) = pair();
    tokio::spawn(serve(peer));
    link
}

async fn serve(Peer { mut from, to }: Peer) {
    while let Some(outbound) = from.recv().await {
        let Some(message) = message::one(outbound.bytes) else { continue };
        let answer = answer(&message).and_then(message::one);
        if let Some(answer) = answer
            && to.send(Inbound::Message(answer)).await.is_err()
        {
            return;
        }
    }
}

fn answer(message: &Message) -> Option<Bytes> {
    let id = message.id().filter(|_| message.kind() == Kind::Request)?;
    let result = match message.method() {
        "initialize" => GREETING.replace('\n', ""),
        "tools/list" => json!({ "tools": [{ "name": "shout", "inputSchema": { "type": "object" } }] }).to_string(),
        "tools/call" => {
            let params: Value = serde_json::from_str(message.params()?).ok()?;
            let text = params["arguments"]["text"].as_str().unwrap_or_default().to_uppercase();
            json!({ "content": [{ "type": "text", "text": text }] }).to_string()
        }
        "ping" | "resources/subscribe" => "{}".to_owned(),
        _ => {
            return Some(message::error_response(Some(id), message::METHOD_NOT_FOUND, "there is no such method", None));
        }
    };
    Some(message::response(id, &result))
}
