//! Results as a person reads them: texts whole, what is no text by its type and size, or as a file.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{plain, save, stop::Stop, talk::Talk};
use crate::wire::object::Object;

/// A tool's result. `hint`: what its files are called.
pub fn tool(result: &str, hint: &str, talk: &Talk) -> Result<String, Stop> {
    let value: Value = serde_json::from_str(result).unwrap_or_default();
    let mut parts = Vec::new();
    for content in value["content"].as_array().into_iter().flatten() {
        parts.push(block(content, hint, talk)?);
    }
    let has_text = value["content"].as_array().into_iter().flatten().any(|content| content["type"] == "text");
    if !has_text && let Some(structured) = Object::read(result).and_then(|object| object.get("structuredContent")) {
        parts.push(plain::pretty(structured.get()));
    }
    Ok(joined(&parts))
}

/// The contents of a resource.
pub fn resource(result: &str, uri: &str, talk: &Talk) -> Result<String, Stop> {
    let value: Value = serde_json::from_str(result).unwrap_or_default();
    let contents = value["contents"].as_array().map_or(&[][..], Vec::as_slice);
    let mut parts = Vec::new();
    for content in contents {
        let own = content["uri"].as_str().unwrap_or(uri);
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
    let value: Value = serde_json::from_str(result).unwrap_or_default();
    let mut parts = Vec::new();
    for message in value["messages"].as_array().into_iter().flatten() {
        let role = message["role"].as_str().unwrap_or("?");
        let contents = message["content"].as_array().map_or(std::slice::from_ref(&message["content"]), Vec::as_slice);
        for content in contents {
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

fn block(content: &Value, hint: &str, talk: &Talk) -> Result<String, Stop> {
    let text = |name: &str| content[name].as_str().unwrap_or_default();
    match text("type") {
        "text" => Ok(text("text").to_owned()),
        kind @ ("image" | "audio") => binary(kind, text("data"), text("mimeType"), hint, talk),
        "resource" => {
            let resource = &content["resource"];
            let uri = resource["uri"].as_str().unwrap_or(hint);
            Ok(format!("resource {uri}:\n{}", body(resource, uri, talk)?))
        }
        "resource_link" => {
            let kind = content["mimeType"].as_str().map(|kind| format!(" ({kind})")).unwrap_or_default();
            let name = content["name"].as_str().map(|name| format!(" {name}")).unwrap_or_default();
            let about = content["description"].as_str().map(|text| format!(": {text}")).unwrap_or_default();
            Ok(format!("link {}{kind}{name}{about}", text("uri")))
        }
        // Nothing is left out because we do not know it.
        _ => Ok(plain::pretty(&content.to_string())),
    }
}

fn body(content: &Value, uri: &str, talk: &Talk) -> Result<String, Stop> {
    match (content["text"].as_str(), content["blob"].as_str()) {
        (Some(text), _) => Ok(text.to_owned()),
        (None, Some(blob)) => binary("blob", blob, content["mimeType"].as_str().unwrap_or_default(), uri, talk),
        (None, None) => Ok(plain::pretty(&content.to_string())),
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
            {"type":"new","x":1}],"structuredContent":{"b":1.50}}"#;
        let shown = tool(result, "t", &Talk::default()).unwrap();
        assert_eq!(
            shown,
            "[image image/png, 3 bytes; --save DIR writes it]\n[audio of unknown type, 1 characters that are no base64]\n\
             resource a://b:\ninside\nresource a://c:\n[blob x/y, 1 bytes; --save DIR writes it]\n\
             link a://d (text/plain) d: more\n{\n  \"type\": \"new\",\n  \"x\": 1\n}\n{\n  \"b\": 1.50\n}"
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
