//! Arguments that a tool wants repeated in headers: what its list says of them (SEP-2243).

use std::collections::HashMap;

use reqwest::header::{HeaderMap, HeaderName};
use serde_json::{Value, value::RawValue};

use super::{Endpoint, value};
use crate::wire::{
    Id, Message,
    envelope::{self, ParamHeader},
    message,
    object::Object,
};

/// Tools whose marks are remembered.
const TOOLS_MAX: usize = 10_000;
/// Pages of a list that are read to find a tool.
const PAGES_MAX: usize = 50;

/// The marks of tools that were listed.
#[derive(Default)]
pub(super) struct Marks {
    tools: HashMap<String, Vec<ParamHeader>>,
    /// A list was read, or cannot be.
    known: bool,
}

impl Marks {
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Repeats the arguments of a call that its tool marks.
    pub fn put_on(&self, request: &Message, headers: &mut HeaderMap) {
        if request.method() != "tools/call" || self.tools.is_empty() {
            return;
        }
        let Some(marks) = envelope::name_of(request).and_then(|name| self.tools.get(&*name)) else { return };
        let arguments: Value = match request.param(["arguments"]) {
            Ok([Some(raw)]) => serde_json::from_str(raw).unwrap_or_default(),
            _ => return,
        };
        for mark in marks {
            let name = HeaderName::from_bytes(format!("mcp-param-{}", mark.name).as_bytes());
            let text = envelope::param_text(&arguments, &mark.path);
            if let (Ok(name), Some(value)) = (name, text.and_then(|text| value(&envelope::encode(&text)))) {
                headers.insert(name, value);
            }
        }
    }

    /// Keeps the marks of a list. A tool with an invalid one cannot be called over HTTP, and is left out of it
    /// (2026-07-28, basic/transports/streamable-http).
    pub fn learn(&mut self, upstream: &str, answer: Message) -> Message {
        self.known = true;
        let Some(list) = answer.result().and_then(Object::read) else { return answer };
        let tools: Vec<&RawValue> =
            list.get("tools").and_then(|tools| serde_json::from_str(tools.get()).ok()).unwrap_or_default();
        let mut kept = Vec::with_capacity(tools.len());
        for tool in &tools {
            let read: Value = serde_json::from_str(tool.get()).unwrap_or_default();
            let name = read["name"].as_str().unwrap_or_default();
            match envelope::param_headers(&read["inputSchema"]) {
                Ok(marks) if marks.is_empty() => drop(self.tools.remove(name)),
                Ok(marks) => {
                    if self.tools.len() < TOOLS_MAX || self.tools.contains_key(name) {
                        self.tools.insert(name.to_owned(), marks);
                    }
                }
                Err(why) => {
                    tracing::warn!(upstream, tool = name, "{why}; the tool is left out of the list");
                    self.tools.remove(name);
                    continue;
                }
            }
            kept.push(tool.get());
        }
        if kept.len() == tools.len() {
            return answer;
        }
        let result = list.edit().set("tools", format!("[{}]", kept.join(","))).apply();
        let id = answer.id().cloned().unwrap_or(Id::BLANK);
        message::one(message::response(&id, &result)).unwrap_or(answer)
    }
}

/// Reads the list again, up to the tool of a call that was refused for its headers. Answers whether that was possible.
pub(super) async fn refresh(endpoint: &Endpoint, call: &Message) -> bool {
    let (Some(name), Ok([Some(meta)])) = (envelope::name_of(call), call.param(["_meta"])) else { return false };
    let mut cursor: Option<Value> = None;
    for _ in 0..PAGES_MAX {
        let page = cursor.as_ref().map(|cursor| format!(r#","cursor":{cursor}"#)).unwrap_or_default();
        let meta = Object::read(meta).map_or_else(String::new, |meta| meta.edit().remove("progressToken").apply());
        let params = format!(r#"{{"_meta":{meta}{page}}}"#);
        let Some(request) = message::one(message::request(&Id::from(0), "tools/list", Some(&params))) else {
            return false;
        };
        let Ok((answer, _)) = Box::pin(endpoint.ask(&request, HeaderMap::new())).await else { return false };
        let list: Value = serde_json::from_str(answer.result().unwrap_or("null")).unwrap_or_default();
        endpoint.marks().learn(&endpoint.spec.name, answer);
        let found = list["tools"].as_array().into_iter().flatten().any(|tool| tool["name"] == *name);
        match list.get("nextCursor").filter(|next| !next.is_null() && !found) {
            Some(next) => cursor = Some(next.clone()),
            None => return list["tools"].is_array(),
        }
    }
    true
}

/// The code of an answer that is an error.
pub(super) fn code(answer: &Message) -> Option<i64> {
    let error: Value = serde_json::from_str(answer.error()?).unwrap_or_default();
    Some(error["code"].as_i64().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Marks {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{"x":1.0,"tools":[
            {"name":"a","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"}}}},
            {"name":"bad","inputSchema":{"type":"object","properties":{"n":{"type":"number","x-mcp-header":"N"}}}},
            {"name":"plain","inputSchema":{"type":"object"}}]}}"#;
        let mut marks = Marks::default();
        let list = marks.learn("up", message::one(text.into()).expect("a message"));
        let list: Value = serde_json::from_str(list.result().expect("a result")).expect("JSON");
        let names: Vec<&str> =
            list["tools"].as_array().expect("tools").iter().filter_map(|t| t["name"].as_str()).collect();
        assert_eq!(names, ["a", "plain"]);
        marks
    }

    #[test]
    fn p50_marked_arguments_are_repeated_and_a_tool_with_an_invalid_mark_is_left_out() {
        let marks = listed();
        let check = |name: &str, arguments: &str, expected: &[(&str, &str)]| {
            let call = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
            );
            let mut headers = HeaderMap::new();
            marks.put_on(&message::one(call.into()).expect("a message"), &mut headers);
            let mut found: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{name} {arguments}");
        };
        check("a", r#"{"region":"eu","n":7}"#, &[("mcp-param-n", "7"), ("mcp-param-region", "eu")]);
        check("a", r#"{"region":"ö"}"#, &[("mcp-param-region", "=?base64?w7Y=?=")]);
        check("a", r#"{"region":null}"#, &[]);
        check("a", r#"{"region":""}"#, &[("mcp-param-region", "")]);
        check("plain", r#"{"region":"eu"}"#, &[]);
        check("unknown", r#"{"region":"eu"}"#, &[]);
    }
}
