//! A client of the newer era: a request of 2026-07-28 stands alone.

use serde_json::{Value, json};

use super::fixture::{Answer, Hub, Stream, answer, http};

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
