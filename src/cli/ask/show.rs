//! Results as a person reads them: texts whole, what is no text by its type and size, or as a file.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

use super::{plain, save, stop::Stop, talk::Talk};
use crate::wire::object::Object;

/// A tool's result. `hint`: what its files are called.
pub fn tool(result: &str, hint: &str, talk: &Talk) -> Result<String, Stop> {
    let (mut parts, mut has_text) = (Vec::new(), false);
    for content in list(result, "content") {
        has_text |= Object::read(content).and_then(|content| content.string("type")).as_deref() == Some("text");
        parts.push(block(content, hint, talk)?);
    }
    if !has_text && let Some(structured) = Object::read(result).and_then(|object| object.get("structuredContent")) {
        parts.push(plain::pretty(structured.get()));
    }
    Ok(joined(&parts))
}

/// The contents of a resource.
pub fn resource(result: &str, uri: &str, talk: &Talk) -> Result<String, Stop> {
    let mut parts = Vec::new();
    for content in list(result, "contents") {
        let own = Object::read(content).and_then(|content| content.string("uri"));
        let own = own.as_deref().unwrap_or(uri);
        // The one that was asked for needs no headline.
        if own != uri {
            parts.push(format!("{own}:"));
        }
        parts.push(body(content, own, talk)?);
    }
    Ok(joined(&parts))
}

/// The messages of a prompt.
pub fn prompt(result: &str, hint: &str, talk: &Talk) -> Result<String, Stop> {
    let mut parts = Vec::new();
    for message in list(result, "messages") {
        let Some(message) = Object::read(message) else { continue };
        let role = message.string("role").unwrap_or_else(|| "?".to_owned());
        let content = message.get("content").map_or("null", RawValue::get);
        let several = if content.starts_with('[') { items(content) } else { vec![content] };
        for content in several {
            parts.push(format!("{role}: {}", block(content, hint, talk)?));
        }
    }
    Ok(joined(&parts))
}

/// Writes what is to be saved of a result that is printed as it came.
pub fn saved(result: &str, hint: &str, talk: &Talk) -> Result<(), Stop> {
    if talk.save.is_some() {
        tool(result, hint, talk)?;
        resource(result, hint, talk)?;
        prompt(result, hint, talk)?;
    }
    Ok(())
}

/// The items of one of a result's lists, as they came: a tree would stumble over the size of a number.
fn list<'r>(result: &'r str, name: &str) -> Vec<&'r str> {
    let list = Object::read(result).and_then(|result| result.get(name));
    list.map(|list| items(list.get())).unwrap_or_default()
}

fn items(list: &str) -> Vec<&str> {
    let items: Vec<&RawValue> = serde_json::from_str(list).unwrap_or_default();
    items.into_iter().map(RawValue::get).collect()
}

fn block(content: &str, hint: &str, talk: &Talk) -> Result<String, Stop> {
    let Some(object) = Object::read(content) else { return Ok(plain::pretty(content)) };
    let text = |name: &str| object.string(name).unwrap_or_default();
    match text("type").as_str() {
        "text" => Ok(text("text")),
        kind @ ("image" | "audio") => binary(kind, &text("data"), &text("mimeType"), hint, talk),
        "resource" => {
            let resource = object.get("resource").map_or("{}", RawValue::get);
            let uri = Object::read(resource).and_then(|resource| resource.string("uri"));
            let uri = uri.as_deref().unwrap_or(hint);
            Ok(format!("resource {uri}:\n{}", body(resource, uri, talk)?))
        }
        "resource_link" => {
            let kind = object.string("mimeType").map(|kind| format!(" ({kind})")).unwrap_or_default();
            let name = object.string("name").map(|name| format!(" {name}")).unwrap_or_default();
            let about = object.string("description").map(|text| format!(": {text}")).unwrap_or_default();
            Ok(format!("link {}{kind}{name}{about}", text("uri")))
        }
        // Nothing is left out because we do not know it.
        _ => Ok(plain::pretty(content)),
    }
}

fn body(content: &str, uri: &str, talk: &Talk) -> Result<String, Stop> {
    let object = Object::read(content);
    let member = |name: &str| object.as_ref().and_then(|object| object.string(name));
    match (member("text"), member("blob")) {
        (Some(text), _) => Ok(text),
        (None, Some(blob)) => binary("blob", &blob, &member("mimeType").unwrap_or_default(), uri, talk),
        (None, None) => Ok(plain::pretty(content)),
    }
}

fn binary(what: &str, data: &str, kind: &str, hint: &str, talk: &Talk) -> Result<String, Stop> {
    let shown = if kind.is_empty() { "of unknown type" } else { kind };
    let Ok(bytes) = STANDARD.decode(data) else {
        return Ok(format!("[{what} {shown}, {} characters that are no base64]", data.len()));
    };
    let size = bytes.len();
    let Some(folder) = &talk.save else {
        return Ok(format!("[{what} {shown}, {size} bytes; --save DIR writes it]"));
    };
    let path = save::write(folder, hint, kind, &bytes)
        .map_err(|error| Stop::failed(format!("cannot save into {}: {error}", folder.display())))?;
    Ok(format!("[{what} {shown}, {size} bytes: {}]", path.display()))
}

/// One after the other, each on a line of its own.
fn joined(parts: &[String]) -> String {
    let mut out = String::new();
    for part in parts {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_28_results_are_whole_and_each_kind_is_shown() {
        // Better than a cut at 500 characters.
        let long = "x".repeat(100_000);
        let result =
            serde_json::json!({ "content": [{ "type": "text", "text": long }], "structuredContent": { "a": 1 } });
        assert_eq!(tool(&result.to_string(), "t", &Talk::default()), Ok(long));
        let result = r#"{"content":[{"type":"image","mimeType":"image/png","data":"AAAA"},{"type":"audio","data":"?"},
            {"type":"resource","resource":{"uri":"a://b","text":"inside"}},
            {"type":"resource","resource":{"uri":"a://c","mimeType":"x/y","blob":"AA=="}},
            {"type":"resource_link","uri":"a://d","name":"d","mimeType":"text/plain","description":"more"},
            {"type":"new","x":1.50}],"structuredContent":{"b":1e400}}"#;
        let shown = tool(result, "t", &Talk::default()).unwrap();
        assert_eq!(
            shown,
            "[image image/png, 3 bytes; --save DIR writes it]\n[audio of unknown type, 1 characters that are no base64]\n\
             resource a://b:\ninside\nresource a://c:\n[blob x/y, 1 bytes; --save DIR writes it]\n\
             link a://d (text/plain) d: more\n{\n  \"type\": \"new\",\n  \"x\": 1.50\n}\n{\n  \"b\": 1e400\n}"
        );
    }

    #[test]
    fn resources_and_prompts() {
        let talk = Talk::default();
        let one = r#"{"contents":[{"uri":"a://b","text":"whole\n"}]}"#;
        assert_eq!(resource(one, "a://b", &talk), Ok("whole\n".to_owned()));
        let two = r#"{"contents":[{"uri":"a://b/1","text":"one"},{"uri":"a://b/2","blob":"AA=="}]}"#;
        let shown = resource(two, "a://b", &talk).unwrap();
        assert_eq!(shown, "a://b/1:\none\na://b/2:\n[blob of unknown type, 1 bytes; --save DIR writes it]");
        let messages = r#"{"messages":[{"role":"user","content":{"type":"text","text":"hi"}}]}"#;
        assert_eq!(prompt(messages, "p", &talk), Ok("user: hi".to_owned()));
    }
}
