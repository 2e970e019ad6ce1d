//! A client of the newer era: a request of 2026-07-28 stands alone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fixture::{Answer, Hub, PATIENCE, Stream, answer, http};

pub const VERSION: &str = "2026-07-28";

/// One request, with an envelope and the headers that belong to it, unless `change` says otherwise.
pub struct Request {
    pub url: String,
    pub body: Value,
    pub headers: Vec<(&'static str, String)>,
}

impl Request {
    pub fn new(hub: &Hub, path: &str, method: &str, params: Value) -> Request {
        let mut params = params;
        let named = params.get("name").or(params.get("uri")).and_then(Value::as_str).map(str::to_owned);
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = VERSION.into();
        params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({ "name": "test", "version": "1" });
        if params["_meta"].get("io.modelcontextprotocol/clientCapabilities").is_none() {
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        }
        let mut headers = vec![("mcp-protocol-version", VERSION.to_owned()), ("mcp-method", method.to_owned())];
        if let Some(name) = named.filter(|_| matches!(method, "tools/call" | "prompts/get" | "resources/read")) {
            headers.push(("mcp-name", name));
        }
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        Request { url: hub.url(path), body, headers }
    }

    pub fn call(hub: &Hub, path: &str, tool: &str, arguments: Value) -> Request {
        Request::new(hub, path, "tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    pub fn capable(mut self, capabilities: Value) -> Request {
        self.body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        self
    }

    pub fn meta(mut self, key: &str, value: Value) -> Request {
        self.body["params"]["_meta"][key] = value;
        self
    }

    pub fn id(mut self, id: Value) -> Request {
        self.body["id"] = id;
        self
    }

    pub fn header(mut self, name: &'static str, value: Option<&str>) -> Request {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.extend(value.map(|value| (name, value.to_owned())));
        self
    }

    pub fn build(&self) -> reqwest::RequestBuilder {
        let accept = "application/json, text/event-stream";
        let mut post = http().post(&self.url).header("accept", accept).header("content-type", "application/json");
        for (name, value) in &self.headers {
            post = post.header(*name, value);
        }
        post.body(self.body.to_string())
    }

    pub async fn send(self) -> Answer {
        answer(self.build()).await
    }

    pub async fn stream(self) -> Stream {
        Stream::of(self.build().send().await.unwrap())
    }

    /// The same request again, with what it was asked for.
    pub fn retry(&self, asked: &Value, answers: Value) -> Request {
        let mut body = self.body.clone();
        body["id"] = json!("retry");
        body["params"]["requestState"] = asked["requestState"].clone();
        body["params"]["inputResponses"] = answers;
        Request { url: self.url.clone(), body, headers: self.headers.clone() }
    }
}

/// The status and the code of the error.
pub fn code(answer: &Answer) -> (u16, i64) {
    (answer.status, answer.error().0)
}

/// What the strict server remembers (`examples/modern`).
pub async fn seen(hub: &Hub, path: &str) -> Value {
    let answer = Request::call(hub, path, "seen", json!({})).send().await;
    serde_json::from_str(&answer.tool_text()).unwrap()
}

/// Waits until it remembers what is wished.
pub async fn until_seen(hub: &Hub, path: &str, wished: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let told = seen(hub, path).await;
        if wished(&told) {
            return told;
        }
        assert!(began.elapsed() < PATIENCE, "it stays {told:#}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The strict server found nothing wrong with the hub.
pub async fn no_complaints(hub: &Hub, path: &str) {
    assert_eq!(seen(hub, path).await["complaints"], json!([]));
}

/// Opens a listen and reads its acknowledgement: the stream and what is honoured.
pub async fn listen(hub: &Hub, path: &str, wanted: Value) -> (Stream, Value) {
    let params = json!({ "notifications": wanted });
    let mut stream = Request::new(hub, path, "subscriptions/listen", params).id(json!("sub")).stream().await;
    let first = stream.message().await.unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(tag(&first), "sub");
    (stream, first["params"]["notifications"].clone())
}

/// The listen that a notice belongs to.
pub fn tag(message: &Value) -> Value {
    message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone()
}
