//! Lists of tools, resources and prompts as a person reads them. Pure.

use serde_json::Value;

use super::{
    plain,
    schema::{Parameter, Parameters},
};
use crate::wire::object::Object;

/// Tools: name, description, each parameter with its type and whether it is required.
pub fn tools(items: &[String]) -> String {
    let one = |item: &String| {
        let value: Value = serde_json::from_str(item).unwrap_or_default();
        heading(&value, "name") + &parameters(&tool_parameters(item))
    };
    listed(items.iter().map(one), "no tools")
}

/// What a tool takes, by its entry in the list.
pub fn tool_parameters(item: &str) -> Parameters {
    let tool = Object::read(item);
    let schema = tool.as_ref().and_then(|tool| tool.get("inputSchema"));
    schema.map(|schema| Parameters::of_tool(schema.get())).unwrap_or_default()
}

/// Resources and templates: URI, name and description.
pub fn resources(items: &[String], templates: &[String]) -> String {
    let one = |item: &String| {
        let value: Value = serde_json::from_str(item).unwrap_or_default();
        let key = if value["uri"].is_string() { "uri" } else { "uriTemplate" };
        let mut about = Vec::new();
        about.extend(value["name"].as_str().map(|name| format!("name: {}", plain::line(name))));
        about.extend(value["mimeType"].as_str().map(plain::line));
        about.extend(value["size"].as_u64().map(|size| format!("{size} bytes")));
        heading(&value, key) + &indented(&about.join(", "))
    };
    listed(items.iter().chain(templates).map(one), "no resources")
}

/// Prompts: name, description, arguments.
pub fn prompts(items: &[String]) -> String {
    let one = |item: &String| {
        let value: Value = serde_json::from_str(item).unwrap_or_default();
        heading(&value, "name") + &parameters(&Parameters::of_prompt(&value["arguments"]))
    };
    listed(items.iter().map(one), "no prompts")
}

fn listed(entries: impl Iterator<Item = String>, none: &str) -> String {
    let entries: Vec<String> = entries.collect();
    if entries.is_empty() { none.to_owned() } else { entries.join("\n") }
}

/// What it is called, and its description in full.
fn heading(value: &Value, key: &str) -> String {
    let name = plain::line(value[key].as_str().unwrap_or("?"));
    let title = value["title"].as_str().or_else(|| value["annotations"]["title"].as_str());
    let title = title.map(|title| format!(" - {}", plain::line(title))).unwrap_or_default();
    format!("{name}{title}\n{}", indented(value["description"].as_str().unwrap_or_default()))
}

fn indented(text: &str) -> String {
    plain::text(text.trim()).lines().map(|line| format!("  {line}\n")).collect()
}

fn parameters(parameters: &Parameters) -> String {
    let one = |parameter: &Parameter| {
        let Parameter { name, required, description, default, .. } = parameter;
        let required = if *required { ", required" } else { "" };
        let default = default.as_deref().map(|default| format!(", default {}", plain::line(default)));
        let description = description.as_deref().map(|text| format!(" - {}", plain::line(text))).unwrap_or_default();
        let kind = plain::line(&parameters.kind(parameter));
        format!("    {}: {kind}{required}{}{description}\n", plain::line(name), default.unwrap_or_default())
    };
    parameters.all.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_complete_and_harmless() {
        let tool = r#"{"name":"do\u001b","title":"Do it","description":"First.\n\nThird.","inputSchema":{"type":"object","required":["b"],
            "properties":{"b":{"type":"string","description":"What\nfor"},"a":{"type":"integer","default":3}}}}"#;
        let expected = "do\\u{1b} - Do it\n  First.\n  \n  Third.\n    b: string, required - What for\n    a: integer, default 3\n";
        assert_eq!(tools(&[tool.to_owned()]), expected);
        assert_eq!(tools(&[]), "no tools");
        let template = r#"{"uriTemplate":"a://{x}","name":"x","mimeType":"text/plain"}"#.to_owned();
        assert_eq!(resources(&[], &[template]), "a://{x}\n  name: x, text/plain\n");
        let prompt =
            r#"{"name":"p","arguments":[{"name":"x","required":true,"description":"y"},{"name":"z"}]}"#.to_owned();
        assert_eq!(prompts(&[prompt]), "p\n    x: string, required - y\n    z: string\n");
    }
}
