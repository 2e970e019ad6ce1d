//! Calls that wait for an answer that never comes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    Report,
    client::http,
    hub::{Hub, memory},
};

const VERSION: &str = "2026-07-28";

/// A call of a client without sessions, which can be asked.
async fn call(hub: &Hub, client: usize, tool: &str) -> Result<Value, String> {
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
        "io.modelcontextprotocol/clientInfo": { "name": format!("load {client}"), "version": "1" } });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "_meta": meta } });
    let post = http().post(format!("{}/asker/mcp", hub.base)).header("content-type", "application/json");
    let post = post.header("accept", "application/json, text/event-stream").header("mcp-protocol-version", VERSION);
    let post = post.header("mcp-method", "tools/call").header("mcp-name", tool);
    let response = post.body(body.to_string()).send().await.map_err(|error| format!("{error:?}"))?;
    response.json::<Value>().await.map_err(|error| error.to_string())
}

/// Each client parks one call after the other: which of several calls of one client is asked is the server's secret.
async fn park(hub: &Hub, clients: usize, calls: usize) -> usize {
    let all = (0..clients).map(async |client| {
        let mut parked = 0;
        for _ in 0..calls {
            match call(hub, client, "ask").await {
                Ok(answer) if answer["result"]["resultType"] == "input_required" => parked += 1,
                other => println!("   {other:?}"),
            }
        }
        parked
    });
    join_all(all).await.into_iter().sum()
}

/// How many calls the upstream heard to be cancelled.
async fn cancelled(hub: &Hub, clients: usize) -> usize {
    let told = join_all((0..clients).map(|client| call(hub, client, "cancelled"))).await;
    let counts = told.into_iter().map(|told| {
        let told = told.unwrap_or_default();
        told["result"]["content"][0]["text"].as_str().and_then(|count| count.parse::<usize>().ok()).unwrap_or(0)
    });
    counts.sum()
}

pub async fn parked(report: &mut Report, short: bool) {
    // None may be given up before the last is parked.
    let (clients, calls, patience) = if short { (10, 20, 10) } else { (100, 100, 40) };
    let all = clients * calls;
    let program = std::env::current_exe().expect("a program knows its own path");
    let program = program.display().to_string();
    let hub = Hub::start(&format!(
        "[hub.limits]\nanswer_timeout = \"{patience}s\"\n\
         [upstreams.asker]\ncommand = {program:?}\nargs = [\"asker\"]\nera = \"legacy\"\nprocess_max = {clients}\n"
    ));
    park(&hub, clients, 1).await;
    let before = memory(hub.pid());
    let began = Instant::now();
    let parked = park(&hub, clients, calls).await;
    report.holds("all calls are parked", parked == all, format!("{parked} in {:.1?}", began.elapsed()));
    let full = memory(hub.pid());
    report.figure("memory of a parked call", format!("{:.1} KiB", full.saturating_sub(before) as f64 / all as f64));
    let began = Instant::now();
    let mut seen = 0;
    while seen < all + clients && began.elapsed() < Duration::from_secs(patience + 30) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        seen = cancelled(&hub, clients).await;
    }
    report.holds("the upstream hears that nobody waits", seen == all + clients, format!("{seen} of {}", all + clients));
    let most = before + full.saturating_sub(before) / 4 + 4096;
    let began = Instant::now();
    while memory(hub.pid()) > most && began.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = memory(hub.pid());
    report.holds(
        "the memory is given back",
        after <= most,
        format!("{before} KiB before, {full} parked, {after} after"),
    );
}
