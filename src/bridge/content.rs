//! From one revision to an older one: kinds of content, results, questions, answers.
//!
//! A field that a revision does not know is harmless; a *kind* of content that it does not know breaks a strict
//! parser. So each kind has the revision it came with, and becomes text for clients before that.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::{Value, json, value::RawValue};

use super::{Speaks, older::with_text};
use crate::wire::{
    Revision::{self, V2025_03_26, V2025_06_18, V2025_11_25},
    message::{self, INTERNAL_ERROR},
    object::{Object, map_list},
};

/// Kinds of content that were added, and when.
const KINDS: [(&str, Revision); 2] = [("audio", V2025_03_26), ("resource_link", V2025_06_18)];

/// A block of content that this revision does not know, as text.
fn block(block: &str, to: Revision) -> Option<String> {
    let kind = Object::read(block)?.string("type")?;
    KINDS.iter().find(|(name, since)| *name == kind && to < *since)?;
    let parsed: Value = serde_json::from_str(block).ok()?;
    let said = |name: &str| parsed[name].as_str().unwrap_or_default();
    let text = match kind.as_str() {
        "audio" => format!("[audio, {}: revision {to} cannot carry it]", said("mimeType")),
        _ => {
            [said("title"), said("name"), said("description"), said("uri")].iter().filter(|part| !part.is_empty()).fold(
                String::new(),
                |text, part| if text.is_empty() { (*part).to_owned() } else { format!("{text}\n{part}") },
            )
        }
    };
    Some(json!({ "type": "text", "text": text }).to_string())
}

/// A list with some of its items changed; none where all stay.
fn changed(list: &str, change: impl Fn(&str) -> Option<String>) -> Option<String> {
    map_list(list, change).flatten()
}

/// A message of a prompt or of sampling, whose content is one block or a list.
fn message(message: &str, to: Revision) -> Option<String> {
    let message = Object::read(message)?;
    let content = message.get("content")?.get();
    let content = match content.starts_with('[') {
        true => changed(content, |one| block(one, to)),
        false => block(content, to),
    }?;
    Some(message.edit().set("content", content).apply())
}

/// Could a response be another one for a client of this revision? Told without reading it.
pub fn may_differ(method: &str, response: &[u8], to: Revision) -> bool {
    let content = to < V2025_06_18 && matches!(method, "tools/call" | "prompts/get");
    static CODE: LazyLock<Finder> = LazyLock::new(|| Finder::new("-32042"));
    content || (to < V2025_11_25 && !message::is_result(response) && CODE.find(response).is_some())
}

/// A result for a client of this revision; none where it is as good as it is.
pub fn result(method: &str, result: &str, to: Revision) -> Option<String> {
    if to >= V2025_06_18 || !matches!(method, "tools/call" | "prompts/get") {
        return None;
    }
    let result = Object::read(result)?;
    let (name, list) = match method {
        "tools/call" => ("content", result.get("content").and_then(|list| changed(list.get(), |one| block(one, to)))),
        _ => ("messages", result.get("messages").and_then(|list| changed(list.get(), |one| message(one, to)))),
    };
    // Clients of these revisions read no structured content.
    let list = list.or_else(|| match result.get("structuredContent") {
        Some(value) if name == "content" => with_text(result.get("content"), value.get()),
        _ => None,
    });
    Some(result.edit().set(name, list?).apply())
}

/// "Visit this address first" (2025-11-25, client/elicitation).
pub const URL_REQUIRED: i64 = -32042;

/// An error for a client of this revision; none where it is as good as it is. Before 2025-11-25 nobody knew how to be
/// sent to an address, so a person has to read it.
pub fn error(error: &str, to: Revision) -> Option<String> {
    if to >= V2025_11_25 {
        return None;
    }
    let parsed: Value = serde_json::from_str(error).ok()?;
    (parsed["code"].as_i64() == Some(URL_REQUIRED))
        .then(|| json!({ "code": INTERNAL_ERROR, "message": addresses(&parsed), "data": parsed["data"] }).to_string())
}

/// What such an error says, with the addresses in it.
pub fn addresses(error: &Value) -> String {
    let all = error["data"]["elicitations"].as_array().into_iter().flatten();
    let urls: Vec<&str> = all.filter_map(|one| one["url"].as_str()).collect();
    let text = error["message"].as_str().unwrap_or("an address has to be visited");
    format!("{text} {}", urls.join(" ")).trim().to_owned()
}

/// The parameters of a question for a client of this revision. `Ok(None)`: they are good as they are.
pub fn question(method: &str, params: &str, to: Revision) -> Result<Option<String>, &'static str> {
    if to >= V2025_11_25 {
        return Ok(None);
    }
    let Some(params) = Object::read(params) else { return Ok(None) };
    match method {
        "sampling/createMessage" => {
            let Some(messages) = params.get("messages") else { return Ok(None) };
            let single = changed(messages.get(), single);
            let messages = single.as_deref().unwrap_or(messages.get());
            let lists = |message: &&RawValue| {
                Object::read(message.get()).and_then(|m| m.get("content")).is_some_and(|c| c.get().starts_with('['))
            };
            let all: Vec<&RawValue> = serde_json::from_str(messages).unwrap_or_default();
            if all.iter().any(lists) {
                return Err("the client's revision has one block of content in a message");
            }
            let plain = changed(messages, |one| message(one, to)).or(single.clone());
            Ok(plain.map(|messages| params.edit().set("messages", messages).apply()))
        }
        "elicitation/create" => {
            let Some(schema) = params.get("requestedSchema") else { return Ok(None) };
            let mut schema: Value = serde_json::from_str(schema.get()).unwrap_or_default();
            let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return Ok(None) };
            let mut touched = false;
            for field in fields.values_mut() {
                touched |= plain_field(field)?;
            }
            Ok(touched.then(|| params.edit().set("requestedSchema", schema.to_string()).apply()))
        }
        _ => Ok(None),
    }
}

/// A field of a form as it was before 2025-11-25: one choice of plain values, defaults for switches only (SEP-1330,
/// SEP-1034). Answers whether it was another.
fn plain_field(field: &mut Value) -> Result<bool, &'static str> {
    let Some(members) = field.as_object_mut() else { return Ok(false) };
    if members.get("type").and_then(Value::as_str) == Some("array") {
        return Err("the client's revision has no choice of several values");
    }
    let mut touched = false;
    if let Some(Value::Array(choices)) = members.remove("oneOf") {
        members.insert("enum".into(), choices.iter().map(|choice| choice["const"].clone()).collect());
        members.insert("enumNames".into(), choices.iter().map(|choice| choice["title"].clone()).collect());
        touched = true;
    }
    if members.get("type").and_then(Value::as_str) != Some("boolean") {
        touched |= members.remove("default").is_some();
    }
    Ok(touched)
}

/// An answer to sampling for a server that speaks this: before 2025-11-25 its content was one block, not a list. None
/// where it is as good as it is.
pub fn answer(result: &str, to: Speaks) -> Option<String> {
    match to {
        Speaks::Legacy(revision) if revision < V2025_11_25 => single(result),
        _ => None,
    }
}

fn single(message: &str) -> Option<String> {
    let message = Object::read(message)?;
    let blocks: Vec<&RawValue> = serde_json::from_str(message.get("content")?.get()).ok()?;
    match blocks.as_slice() {
        [only] => Some(message.edit().set("content", only.get()).apply()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Revision::V2024_11_05;

    #[test]
    fn what_a_revision_does_not_know_becomes_text() {
        let content = r#"{"content":[{"type":"audio","data":"x","mimeType":"audio/wav"},{"type":"resource_link","uri":"a:/b","name":"n"},{"type":"text","text":"t"}],"z":1.0}"#;
        let types = |to| -> Vec<String> {
            let text = result("tools/call", content, to).unwrap_or_else(|| content.to_owned());
            assert!(text.ends_with(r#""z":1.0}"#), "{text}");
            let value: Value = serde_json::from_str(&text).expect("JSON");
            value["content"].as_array().expect("a list").iter().map(|block| block["type"].to_string()).collect()
        };
        assert_eq!(types(V2024_11_05), [r#""text""#, r#""text""#, r#""text""#]);
        assert_eq!(types(V2025_03_26), [r#""audio""#, r#""text""#, r#""text""#]);
        assert_eq!(types(V2025_06_18), [r#""audio""#, r#""resource_link""#, r#""text""#]);
        let prompt = r#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"a:/b","name":"n"}}]}"#;
        let prompt = result("prompts/get", prompt, V2025_03_26).expect("another");
        assert_eq!(prompt, r#"{"messages":[{"role":"user","content":{"text":"n\na:/b","type":"text"}}]}"#);
        assert_eq!(result("prompts/get", r#"{"messages":[]}"#, V2024_11_05), None);
    }

    #[test]
    fn an_address_is_read_where_it_cannot_be_opened() {
        let text = r#"{"code":-32042,"message":"sign in","data":{"elicitations":[{"url":"https://a/b","elicitationId":"e"}]}}"#;
        let error = |to| error(text, to).map(|error| serde_json::from_str::<Value>(&error).expect("JSON"));
        let told = error(V2025_06_18).expect("another");
        assert_eq!((&told["code"], &told["message"]), (&json!(INTERNAL_ERROR), &json!("sign in https://a/b")));
        assert_eq!(error(V2025_11_25), None);
    }

    #[test]
    fn structured_content_is_said_in_text_too() {
        let result = |to| result("tools/call", r#"{"content":[],"structuredContent":{"a":1.0}}"#, to);
        let text = result(V2025_03_26).expect("another");
        assert!(text.contains(r#"{"text":"{\"a\":1.0}","type":"text"}"#), "{text}");
        assert_eq!(result(V2025_06_18), None);
    }

    #[test]
    fn questions_lose_what_is_newer_or_are_refused() {
        let sampling = |content: &str| format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
        let asked = |content: &str, to| question("sampling/createMessage", &sampling(content), to);
        let text = r#"{"type":"text","text":"x"}"#;
        assert_eq!(asked(text, V2025_06_18), Ok(None));
        assert_eq!(asked(&format!("[{text}]"), V2025_06_18), Ok(Some(sampling(text))));
        assert!(asked(&format!("[{text},{text}]"), V2025_06_18).is_err());
        assert_eq!(asked(&format!("[{text},{text}]"), V2025_11_25), Ok(None));
        let form = |field: &str| format!(r#"{{"requestedSchema":{{"properties":{{"f":{field}}}}}}}"#);
        let asked = |field: &str| question("elicitation/create", &form(field), V2025_06_18);
        assert_eq!(asked(r#"{"type":"boolean","default":true}"#), Ok(None));
        assert_eq!(asked(r#"{"default":"x","type":"string"}"#), Ok(Some(form(r#"{"type":"string"}"#))));
        let titled = asked(r#"{"type":"string","oneOf":[{"const":"a","title":"A"}]}"#);
        assert_eq!(titled, Ok(Some(form(r#"{"enum":["a"],"enumNames":["A"],"type":"string"}"#))));
        assert!(asked(r#"{"type":"array"}"#).is_err());
        for odd in ["[]", "7", "\"x\"", "null", r#"{"properties":[]}"#] {
            let params = format!(r#"{{"requestedSchema":{odd}}}"#);
            assert_eq!(question("elicitation/create", &params, V2025_06_18), Ok(None), "{odd}");
        }
    }

    #[test]
    fn an_answer_of_one_block_fits_everywhere() {
        let list = r#"{"content":[{"type":"text","text":"x"}],"model":"m"}"#;
        assert_eq!(
            answer(list, Speaks::Legacy(V2025_06_18)).as_deref(),
            Some(r#"{"content":{"type":"text","text":"x"},"model":"m"}"#)
        );
        assert_eq!(answer(list, Speaks::Legacy(V2025_11_25)), None);
        assert_eq!(answer(r#"{"action":"accept","content":{"a":1}}"#, Speaks::Legacy(V2024_11_05)), None);
    }
}
