//! An upstream that asks in every call and waits: `load asker`, on stdio. One thread, so that ten thousand cost little.

use std::io::{BufRead, Write};

use serde_json::{Value, json};

/// Serves until its stdin ends. The tool `ask` asks, `cancelled` tells how many calls were.
pub fn serve() {
    let (mut cancelled, mut asked) = (0u64, 0u64);
    let say = |message: Value| {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{message}").and_then(|()| out.flush());
    };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let answer = |result: Value| say(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }));
        let text = |text: String| json!({ "content": [{ "type": "text", "text": text }] });
        match (message["method"].as_str(), message["params"]["name"].as_str()) {
            (Some("initialize"), _) => answer(json!({
                "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                "serverInfo": { "name": "asker", "version": "1" } })),
            (Some("tools/list"), _) => answer(json!({ "tools": [] })),
            (Some("tools/call"), Some("cancelled")) => answer(text(cancelled.to_string())),
            (Some("tools/call"), _) => {
                asked += 1;
                let params = json!({ "message": "?", "requestedSchema": { "type": "object", "properties": {} } });
                say(
                    json!({ "jsonrpc": "2.0", "id": format!("ask {asked}"), "method": "elicitation/create", "params": params }),
                );
            }
            (Some("notifications/cancelled"), _) => cancelled += 1,
            _ => {}
        }
    }
}
