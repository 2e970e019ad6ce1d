//! Bodies from one revision to another: strip, stamp, wrap.
//!
//! Only members that an era demands or forbids are touched; everything else stays as it came, byte for byte.

use serde_json::{Value, json};

use crate::wire::{
    Message,
    envelope::{KEYS, SERVER_INFO},
    message::INVALID_PARAMS,
    object::{Object, map_list},
};

/// "Resource not found", retired with 2026-07-28.
const RESOURCE_NOT_FOUND: i64 = -32002;

/// Results that a client may keep, and so are told for how long (2026-07-28, server/utilities/caching).
pub fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        "server/discover"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// A request of 2026-07-28 as an older server knows it: without the envelope, and without what answers a question.
pub fn to_legacy(request: &Message) -> Option<Message> {
    // What stands twice was refused before it came here.
    let [meta, answers, state] = request.param(["_meta", "inputResponses", "requestState"]).ok()?;
    let plain = match meta {
        Some(meta) => {
            let read = Object::read(meta)?;
            let mut edit = read.edit();
            KEYS.iter().fold(&mut edit, |edit, key| edit.remove(key));
            request.edited(request.span(meta), &edit.apply())
        }
        None => request.clone(),
    };
    if answers.is_none() && state.is_none() {
        return Some(plain);
    }
    let params = Object::read(plain.params()?)?;
    Some(plain.with_params(&params.edit().remove("inputResponses").remove("requestState").apply()))
}

/// A retry with the state that the upstream itself gave.
pub fn with_state(request: &Message, state: Option<&str>) -> Option<Message> {
    let params = Object::read(request.params()?)?;
    let mut edit = params.edit();
    match state {
        Some(state) => edit.set("requestState", state),
        None => edit.remove("requestState"),
    };
    Some(request.with_params(&edit.apply()))
}

/// An older server's result as 2026-07-28 demands it.
///
/// `server_info` is JSON.
pub fn to_modern(method: &str, result: &str, server_info: &str) -> Option<String> {
    let result = Object::read(result)?;
    let mut edit = result.edit();
    if result.get("resultType").is_none() {
        edit.set("resultType", "\"complete\"");
    }
    if is_cacheable(method) {
        if result.get("ttlMs").is_none() {
            edit.set("ttlMs", "0");
        }
        if result.get("cacheScope").is_none() {
            edit.set("cacheScope", "\"private\"");
        }
    }
    match result.get("_meta").and_then(|meta| Object::read(meta.get())) {
        Some(meta) if meta.get(SERVER_INFO).is_none() => {
            let mut own = meta.edit();
            own.remove("io.modelcontextprotocol/related-task").set(SERVER_INFO, server_info);
            edit.set("_meta", own.apply());
        }
        Some(_) => {}
        None => {
            edit.set("_meta", ["{\"", SERVER_INFO, "\":", server_info, "}"].concat());
        }
    }
    if method == "tools/list"
        && let Some(tools) = result.get("tools")
        && let Some(tools) = map_list(tools.get(), |tool| without(tool, "execution"))?
    {
        edit.set("tools", tools);
    }
    Some(edit.apply())
}

/// An object without a member; none where it has none.
fn without(object: &str, name: &str) -> Option<String> {
    let object = Object::read(object)?;
    object.get(name).map(|_| object.edit().remove(name).apply())
}

/// An older server's error in the codes of 2026-07-28.
pub fn error_to_modern(error: &str, uri: Option<&str>) -> String {
    let parsed: Value = serde_json::from_str(error).unwrap_or_default();
    if parsed["code"].as_i64() != Some(RESOURCE_NOT_FOUND) {
        return error.to_owned();
    }
    let Some(object) = Object::read(error) else { return error.to_owned() };
    let mut edit = object.edit();
    edit.set("code", INVALID_PARAMS.to_string());
    if object.get("data").is_none()
        && let Some(uri) = uri
    {
        edit.set("data", json!({ "uri": uri }).to_string());
    }
    edit.apply()
}

/// A server's question as an entry of `inputRequests`.
pub fn question(method: &str, params: Option<&str>) -> String {
    let params = params.and_then(Object::read).map(|params| {
        let mut edit = params.edit();
        edit.remove("_meta").remove("task").remove("elicitationId");
        edit.apply()
    });
    let method = Value::from(method);
    match params {
        Some(params) => format!(r#"{{"method":{method},"params":{params}}}"#),
        None => format!(r#"{{"method":{method}}}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Body, read_client};

    #[test]
    fn p5_a_request_loses_its_envelope_and_nothing_else() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1.50},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"x/y":1,"progressToken":"p"},"requestState":"s","inputResponses":{},"zz": 9007199254740993}}"#;
        let Ok(Body::One(request)) = read_client(text.into()) else { panic!() };
        let plain = to_legacy(&request).unwrap();
        assert_eq!(
            plain.bytes(),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1.50},"_meta":{"x/y":1,"progressToken":"p"},"zz": 9007199254740993}}"#
        );
    }

    #[test]
    fn p32_p47_a_result_is_stamped_and_keeps_the_rest() {
        let info = json!({"name": "s", "version": "1"});
        let call = to_modern("tools/call", r#"{"content":[],"x":1.0}"#, &info.to_string()).unwrap();
        assert!(call.ends_with(r#""content":[],"x":1.0}"#), "{call}");
        let call: Value = serde_json::from_str(&call).unwrap();
        assert_eq!((&call["resultType"], &call["_meta"][SERVER_INFO]), (&json!("complete"), &info));
        assert!(call.get("ttlMs").is_none());
        let list =
            r#"{"tools":[{"name":"a","execution":{"taskSupport":"optional"},"q":1e1},{"name":"b"}],"_meta":{"k":1}}"#;
        let list = to_modern("tools/list", list, &info.to_string()).unwrap();
        assert!(list.contains(r#"[{"name":"a","q":1e1},{"name":"b"}]"#), "{list}");
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(
            (&list["ttlMs"], &list["cacheScope"], &list["_meta"]["k"]),
            (&json!(0), &json!("private"), &json!(1))
        );
    }

    #[test]
    fn p46_a_missing_resource_has_the_newer_code() {
        let error = error_to_modern(r#"{"code":-32002,"message":"gone"}"#, Some("a:/b"));
        let error: Value = serde_json::from_str(&error).unwrap();
        assert_eq!(error, json!({"code": -32602, "message": "gone", "data": {"uri": "a:/b"}}));
        assert_eq!(error_to_modern(r#"{"code":5}"#, None), r#"{"code":5}"#);
    }

    #[test]
    fn a_question_keeps_what_is_asked_and_not_whose_it_was() {
        let params = r#"{"message":"?","elicitationId":"e","_meta":{"progressToken":1},"requestedSchema":{}}"#;
        let asked = question("elicitation/create", Some(params));
        assert_eq!(asked, r#"{"method":"elicitation/create","params":{"message":"?","requestedSchema":{}}}"#);
        assert_eq!(question("roots/list", None), r#"{"method":"roots/list"}"#);
        assert_eq!(question("a\"b", Some("{}")), r#"{"method":"a\"b","params":{}}"#);
    }
}
