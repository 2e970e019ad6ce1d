//! What a newer server's side looks like to an older client, and the client's to the server.
//!
//! Its requests get the envelope that 2026-07-28 wants with each one; results lose what came with that revision. One
//! that asks for input is the business of [`input`](super::input).

use serde_json::{Value, json, value::RawValue};

use crate::wire::{
    Message, Revision,
    envelope::{
        CLIENT_CAPABILITIES, CLIENT_INFO, HEADER_MISMATCH, LOG_LEVEL, PROTOCOL_VERSION, SERVER_INFO,
        UNSUPPORTED_VERSION, VERSION,
    },
    message::INTERNAL_ERROR,
    object::{Object, map_list},
};

/// What is said of a client with each request: members of `_meta`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Introduction {
    capabilities: String,
    client: Option<String>,
}

impl Introduction {
    /// Of a client, from the `params` of its `initialize`.
    pub fn of_client(params: &Value, revision: Revision) -> Introduction {
        let mut capabilities = params["capabilities"].clone();
        if let Some(all) = capabilities.as_object_mut() {
            // What it can still be asked in this way: nothing needs to be told of a change, and forms were all there was.
            all.remove("tasks");
            if let Some(roots) = all.get_mut("roots").filter(|roots| roots.is_object()) {
                *roots = json!({});
            }
            if let Some(elicitation) = all.get_mut("elicitation").and_then(Value::as_object_mut) {
                if revision < Revision::V2025_11_25 {
                    elicitation.remove("url");
                }
                if elicitation.is_empty() {
                    elicitation.insert("form".into(), json!({}));
                }
            }
        }
        let capabilities = if capabilities.is_object() { capabilities } else { json!({}) };
        let client = params.get("clientInfo").filter(|info| info.is_object()).map(Value::to_string);
        Introduction { capabilities: capabilities.to_string(), client }
    }

    /// Of a newer client, as it says it itself.
    pub fn of_newer_client(params: &Value) -> Introduction {
        let client = params.get("clientInfo").filter(|info| info.is_object()).map(Value::to_string);
        Introduction { capabilities: params["capabilities"].to_string(), client }
    }

    /// Of the hub itself.
    pub fn of_hub() -> Introduction {
        Introduction { capabilities: "{}".into(), client: Some(hub_info().to_string()) }
    }

    /// Parameters with this envelope in their `_meta`; `level`: the log messages that are wanted.
    pub fn put_on(&self, params: Option<&str>, level: Option<&str>) -> Option<String> {
        let params = Object::read(params.unwrap_or("{}"))?;
        let meta = params.get("_meta").map_or("{}", |meta| meta.get());
        let meta = Object::read(meta)?;
        let mut own = meta.edit();
        let level = level.map(|level| Value::from(level).to_string());
        let all = [
            (PROTOCOL_VERSION, Some(Value::from(VERSION).to_string())),
            (CLIENT_CAPABILITIES, Some(self.capabilities.clone())),
            (CLIENT_INFO, self.client.clone()),
            (LOG_LEVEL, level),
        ];
        for (key, value) in all {
            match value {
                Some(value) => own.set(key, value),
                None => own.remove(key),
            };
        }
        // The experimental tasks of 2025-11-25 are unknown there.
        Some(params.edit().remove("task").set("_meta", own.apply()).apply())
    }
}

/// Parameters of what the hub asks on its own behalf.
pub fn own_params(params: Option<&str>) -> Option<String> {
    Introduction::of_hub().put_on(params, None)
}

/// What the hub says of itself.
pub fn hub_info() -> Value {
    json!({ "name": "hubward", "version": env!("CARGO_PKG_VERSION") })
}

/// An older client's request as a newer server wants it.
pub fn request(request: &Message, introduction: &Introduction, level: Option<&str>) -> Option<Message> {
    let params = introduction.put_on(request.params(), level)?;
    Some(request.with_params(&params))
}

/// A result as the older revisions have it. `wrapped`: the tool's schema was shown to the client inside an object.
pub fn result(method: &str, result: &str, wrapped: bool) -> Option<String> {
    let result = Object::read(result)?;
    let mut edit = result.edit();
    edit.remove("resultType").remove("ttlMs").remove("cacheScope").remove_meta(&[SERVER_INFO]);
    match method {
        "tools/list" => {
            if let Some(Some(tools)) = result.get("tools").and_then(|tools| map_list(tools.get(), with_object)) {
                edit.set("tools", tools);
            }
        }
        "tools/call" => {
            if let Some(value) = result.get("structuredContent") {
                if wrapped || !value.get().starts_with('{') {
                    edit.set("structuredContent", format!(r#"{{"result":{}}}"#, value.get()));
                }
                if let Some(content) = with_text(result.get("content"), value.get()) {
                    edit.set("content", content);
                }
            }
        }
        _ => {}
    }
    Some(edit.apply())
}

/// A newer server's error for a client: what only concerns the leg behind us is no business of theirs.
pub fn error(error: &str) -> String {
    let object = Object::read(error);
    let code = object.as_ref().and_then(|error| error.get("code")?.get().parse::<i32>().ok());
    match (object, code) {
        (Some(object), Some(HEADER_MISMATCH | UNSUPPORTED_VERSION)) => {
            object.edit().set("code", INTERNAL_ERROR.to_string()).apply()
        }
        _ => error.to_owned(),
    }
}

/// Content that says in text what `value` says, where it has no text: older clients read nothing else.
pub fn with_text(content: Option<&RawValue>, value: &str) -> Option<String> {
    let blocks: Vec<&RawValue> =
        content.and_then(|content| serde_json::from_str(content.get()).ok()).unwrap_or_default();
    let is_text = |block: &&RawValue| {
        Object::read(block.get()).is_some_and(|block| block.string("type").as_deref() == Some("text"))
    };
    if blocks.iter().any(is_text) {
        return None;
    }
    let text = json!({ "type": "text", "text": value }).to_string();
    let all = blocks.iter().map(|block| block.get()).chain([text.as_str()]);
    Some(format!("[{}]", all.collect::<Vec<_>>().join(",")))
}

/// A tool whose `outputSchema` describes an object, as it had to before 2026-07-28 (SEP-2106); none where it does.
fn with_object(tool: &str) -> Option<String> {
    let tool = Object::read(tool)?;
    let schema = tool.get("outputSchema").filter(|schema| needs_wrap(schema.get()))?;
    Some(tool.edit().set("outputSchema", wrap(schema.get())).apply())
}

/// Does a schema not say that it describes an object?
pub fn needs_wrap(schema: &str) -> bool {
    Object::read(schema).is_none_or(|schema| schema.string("type").as_deref() != Some("object"))
}

fn wrap(schema: &str) -> String {
    // References from the root lead elsewhere now.
    let inner = match memchr::memmem::find(schema.as_bytes(), b"$ref") {
        None => schema.to_owned(),
        Some(_) => {
            let mut tree: Value = serde_json::from_str(schema).unwrap_or_default();
            lead_on(&mut tree);
            tree.to_string()
        }
    };
    format!(r#"{{"type":"object","properties":{{"result":{inner}}},"required":["result"]}}"#)
}

fn lead_on(tree: &mut Value) {
    match tree {
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| match value {
            Value::String(to) if name == "$ref" || name == "$dynamicRef" => {
                if let Some(rest) = to.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                    *to = format!("#/properties/result{rest}");
                }
            }
            other => lead_on(other),
        }),
        Value::Array(items) => items.iter_mut().for_each(lead_on),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::{Claim, claim};

    fn message(text: &str) -> Message {
        crate::wire::message::one(text.to_owned().into()).expect("a message")
    }

    fn introduction() -> Introduction {
        let params = json!({ "capabilities": { "roots": { "listChanged": true }, "elicitation": {}, "tasks": {}, "x": 1 },
            "clientInfo": { "name": "c", "version": "1" } });
        Introduction::of_client(&params, Revision::V2025_11_25)
    }

    #[test]
    fn a_request_gets_an_envelope_and_keeps_the_rest() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1.50},"task":{},"_meta":{"a":1e2,"io.modelcontextprotocol/clientInfo":"no"}}}"#;
        let full = request(&message(text), &introduction(), Some("info")).expect("a request");
        let text = full.params().expect("some");
        assert!(text.contains(r#""name":"t","arguments":{"n":1.50}"#) && text.contains(r#""a":1e2"#), "{text}");
        let params: Value = serde_json::from_str(full.params().expect("some")).expect("JSON");
        assert_eq!(params["_meta"][CLIENT_CAPABILITIES], json!({ "elicitation": { "form": {} }, "roots": {}, "x": 1 }));
        assert_eq!((&params["_meta"][CLIENT_INFO]["name"], &params["_meta"][LOG_LEVEL]), (&json!("c"), &json!("info")));
        assert_eq!(params.get("task"), None);
        let bare = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        let full = request(&bare, &introduction(), None).expect("a request");
        assert!(full.params().expect("some").contains(r#""roots":{}"#), "{full:?}");
        assert!(own_params(None).expect("some").contains(r#"clientCapabilities":{}"#));
    }

    #[test]
    fn an_envelope_of_ours_is_one_whatever_the_client_said_of_itself() {
        for params in [json!({ "clientInfo": "c", "capabilities": [] }), json!([]), json!({ "clientInfo": null })] {
            let introduction = Introduction::of_client(&params, Revision::LATEST);
            let bare = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
            let full = request(&bare, &introduction, None).expect("a request");
            assert!(matches!(claim(&full), Claim::Modern(envelope) if envelope.client.is_none()), "{params}");
        }
    }

    #[test]
    fn p47_a_result_loses_what_is_newer() {
        let text = r#"{"resultType":"complete","ttlMs":1,"cacheScope":"public","x":1.0,"_meta":{"io.modelcontextprotocol/serverInfo":{},"k":1}}"#;
        assert_eq!(result("resources/read", text, false).as_deref(), Some(r#"{"x":1.0,"_meta":{"k":1}}"#));
    }

    #[test]
    fn p48_what_is_no_object_is_wrapped_in_list_and_call() {
        let list = result(
            "tools/list",
            r##"{"tools":[{"name":"a","outputSchema":{"type":"array","items":{"$ref":"#/$defs/x"},"$defs":{"x":{}}}},{"name":"b","outputSchema":{"type":"object"}}]}"##,
            false,
        );
        let list: Value = serde_json::from_str(&list.expect("a list")).expect("JSON");
        let schema = &list["tools"][0]["outputSchema"];
        assert_eq!((&schema["type"], &schema["required"]), (&json!("object"), &json!(["result"])));
        assert_eq!(schema["properties"]["result"]["items"]["$ref"], "#/properties/result/$defs/x");
        assert_eq!(list["tools"][1]["outputSchema"], json!({ "type": "object" }));
        let call = result("tools/call", r#"{"content":[],"structuredContent":[1.50]}"#, false).expect("a result");
        assert_eq!(call, r#"{"content":[{"text":"[1.50]","type":"text"}],"structuredContent":{"result":[1.50]}}"#);
        let call =
            result("tools/call", r#"{"content":[{"type":"text","text":"x"}],"structuredContent":{"a":1}}"#, true);
        assert_eq!(
            call.expect("a result"),
            r#"{"content":[{"type":"text","text":"x"}],"structuredContent":{"result":{"a":1}}}"#
        );
    }
}
