//! A client of Streamable HTTP, and an event stream that costs next to nothing.

use std::sync::OnceLock;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::hub::Hub;

const REVISION: &str = "2025-11-25";

/// One pool of connections for all.
pub fn http() -> &'static reqwest::Client {
    static HTTP: OnceLock<reqwest::Client> = OnceLock::new();
    HTTP.get_or_init(|| reqwest::Client::builder().no_proxy().build().expect("an HTTP client"))
}

/// A session.
#[derive(Clone)]
pub struct Client {
    pub url: String,
    pub session: String,
}

impl Client {
    pub async fn open(hub: &Hub, path: &str) -> Result<Client, String> {
        let hello = json!({ "jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": {
            "protocolVersion": REVISION, "capabilities": {}, "clientInfo": { "name": "load", "version": "1" } } });
        let mut client = Client { url: format!("{}{path}", hub.base), session: String::new() };
        let response = client.post(&hello).await?;
        let session = response.headers().get("mcp-session-id").and_then(|value| value.to_str().ok());
        client.session = session.ok_or_else(|| format!("no session: {}", response.status()))?.to_owned();
        let _ = response.bytes().await;
        client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
        Ok(client)
    }

    async fn post(&self, body: &Value) -> Result<reqwest::Response, String> {
        let mut post = http().post(&self.url).header("content-type", "application/json");
        post = post.header("accept", "application/json, text/event-stream");
        if !self.session.is_empty() {
            post = post.header("mcp-session-id", &self.session).header("mcp-protocol-version", REVISION);
        }
        post.body(body.to_string()).send().await.map_err(|error| format!("{error:?}"))
    }

    /// Calls a tool; the whole response, whether it came alone or on a stream.
    pub async fn call(&self, id: u64, tool: &str, arguments: Value) -> Result<Value, String> {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments } });
        let response = self.post(&call).await?;
        let status = response.status();
        let text = response.text().await.map_err(|error| error.to_string())?;
        let last = text.lines().rev().find_map(|line| line.strip_prefix("data:")).unwrap_or(&text);
        serde_json::from_str(last.trim()).map_err(|error| format!("{status}: {error}: {text}"))
    }

    /// The text of a tool's result.
    pub async fn text(&self, tool: &str, arguments: Value) -> Result<String, String> {
        let answer = self.call(1, tool, arguments).await?;
        let text = answer["result"]["content"][0]["text"].as_str();
        text.map(str::to_owned).ok_or_else(|| answer.to_string())
    }

    pub async fn delete(&self) -> Result<(), String> {
        let delete = http().delete(&self.url).header("mcp-session-id", &self.session);
        delete.send().await.map(drop).map_err(|error| error.to_string())
    }

    /// Opens the GET stream on a socket of its own.
    pub async fn listen(&self, hub: &Hub) -> Result<Listener, String> {
        let words = |error: std::io::Error| error.to_string();
        let mut socket = TcpStream::connect(hub.address()).await.map_err(words)?;
        let path = self.url.trim_start_matches(&hub.base);
        let (host, session) = (hub.address(), &self.session);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\
             Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: {REVISION}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.map_err(words)?;
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = socket.read_buf(&mut head).await.map_err(words)?;
            if read == 0 {
                return Err("closed before the head".into());
            }
        }
        match head.starts_with(b"HTTP/1.1 200") {
            true => Ok(Listener { socket }),
            false => Err(String::from_utf8_lossy(&head).into_owned()),
        }
    }
}

/// An open event stream.
pub struct Listener {
    socket: TcpStream,
}

impl Listener {
    /// Counts how often a word comes, until nothing came for this long.
    pub async fn count(&mut self, word: &str, quiet: std::time::Duration) -> usize {
        let mut all = Vec::new();
        while let Ok(Ok(1..)) = tokio::time::timeout(quiet, self.socket.read_buf(&mut all)).await {}
        String::from_utf8_lossy(&all).matches(word).count()
    }
}
