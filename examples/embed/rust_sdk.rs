//! A server of the official Rust SDK within this program, as an upstream among others (S4.66).

use std::net::TcpListener;

use hubward::{Config, Hub, Link, Name, Serving, link::streams};
use rmcp::{
    ServerHandler, ServiceExt,
    handler::server::wrapper::Parameters,
    model::{ServerCapabilities, ServerConfig},
    schemars, tool, tool_handler, tool_router,
};
use serde_json::json;

use super::{Outcome, client::Client};

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
struct Sum {
    /// The first number.
    a: i64,
    /// The second number.
    b: i64,
}

#[derive(Clone)]
struct Sums;

#[tool_router]
impl Sums {
    #[tool(description = "Adds two numbers.")]
    fn sum(&self, Parameters(Sum { a, b }): Parameters<Sum>) -> String {
        (a + b).to_string()
    }
}

#[tool_handler]
impl ServerHandler for Sums {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// A fresh server, and the link to it.
fn sums() -> Link {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        if let Ok(server) = Sums.serve(tokio::io::split(theirs)).await {
            let _ = server.waiting().await;
        }
    });
    let (read, write) = tokio::io::split(ours);
    streams::over(read, write, 16 << 20)
}

pub async fn run() -> Outcome {
    let hub = Hub::builder(Config::default()).inside(Name::new("sums")?, sums);
    let serving = Serving::start(hub, vec![TcpListener::bind("127.0.0.1:0")?]).await?;
    let client = Client::open(format!("{}/sums/mcp", serving.bases[0]), &[]).await?;
    let result = client.call("tools/call", json!({ "name": "sum", "arguments": { "a": 20, "b": 22 } })).await?;
    println!("20 + 22 = {}", result["content"][0]["text"].as_str().unwrap_or_default());
    serving.stop().await;
    Ok(())
}
