//! The client of the examples: as little of Streamable HTTP as they need.

use std::error::Error;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

pub struct Client {
    http: reqwest::Client,
    url: String,
    headers: Vec<(&'static str, String)>,
}

impl Client {
    /// A client that sends these headers.
    pub fn new(url: String, headers: &[(&'static str, &str)]) -> Client {
        // Whatever proxy this machine uses is not for its own addresses.
        let http = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        Client { http, url, headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect() }
    }

    /// Opens a session.
    pub async fn open(url: String, headers: &[(&'static str, &str)]) -> Result<Client, Box<dyn Error>> {
        let mut client = Client::new(url, headers);
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "example", "version": "1" } });
        let answer =
            client.post(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })).await?;
        let session = answer.headers().get("mcp-session-id").ok_or("no session was opened")?.to_str()?.to_owned();
        client.headers.push(("mcp-session-id", session));
        client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await?;
        Ok(client)
    }

    /// Calls a method; answers its result, or its error.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, Box<dyn Error>> {
        let answer = self.post(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })).await?;
        let text = answer.text().await?;
        // JSON, or one event of a stream.
        let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).rfind(|data| data.contains("\"id\":1"));
        let mut answer: Value = serde_json::from_str(data.unwrap_or(&text))?;
        Ok(match answer.get("error") {
            Some(_) => answer["error"].take(),
            None => answer["result"].take(),
        })
    }

    /// Calls the one tool of `server.rs`.
    pub async fn shout(&self, text: &str) -> Result<String, Box<dyn Error>> {
        let result = self.call("tools/call", json!({ "name": "shout", "arguments": { "text": text } })).await?;
        Ok(result["content"][0]["text"].as_str().ok_or_else(|| format!("no text: {result}"))?.to_owned())
    }

    /// Opens the stream for what belongs to no call.
    pub async fn listen(&self, after: Option<&str>) -> Result<Response, reqwest::Error> {
        let request = self.request(Method::GET);
        let request = after.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        request.send().await
    }

    /// Ends the session.
    pub async fn close(&self) -> Result<Response, reqwest::Error> {
        self.request(Method::DELETE).send().await
    }

    pub async fn post(&self, body: &Value) -> Result<Response, reqwest::Error> {
        let request = self.request(Method::POST).header("content-type", "application/json");
        request.body(body.to_string()).send().await
    }

    fn request(&self, method: Method) -> RequestBuilder {
        let request = self.http.request(method, &self.url).header("accept", "application/json, text/event-stream");
        self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
    }
}

/// Reads a stream until a text has come, and gives back all of it.
pub async fn until(stream: &mut Response, text: &str) -> Result<String, Box<dyn Error>> {
    let mut all = String::new();
    while !all.contains(text) {
        let chunk = stream.chunk().await?.ok_or_else(|| format!("the stream ended before {text:?}: {all}"))?;
        all.push_str(&String::from_utf8_lossy(&chunk));
    }
    Ok(all)
}
