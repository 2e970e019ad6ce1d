//! Lists of tools, resources and prompts as a person reads them. Pure.

use serde_json::Value;

use super::{
    plain,
    schema::{Parameter, Parameters},
};
use crate::wire::object::Object;

/// Tools: name, description, each parameter with its type and whether it is required.
pub fn tools(items: &[String]) -> String {
    let one = |item: &String| heading(item, "name") + &parameters(&tool_parameters(item));
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
        let object = Object::read(item);
        let text = |name: &str| object.as_ref().and_then(|object| object.string(name));
        let size = object.as_ref().and_then(|object| object.get("size")).map(|size| format!("{} bytes", size.get()));
        let name = text("name").map(|name| format!("name: {}", plain::line(&name)));
        let about: Vec<String> = [name, text("mimeType"), size].into_iter().flatten().collect();
        let key = if text("uri").is_some() { "uri" } else { "uriTemplate" };
        heading(item, key) + &indented(&about.join(", "))
    };
    listed(items.iter().chain(templates).map(one), "no resources")
}

/// Prompts: name, description, arguments.
pub fn prompts(items: &[String]) -> String {
    let one = |item: &String| heading(item, "name") + &parameters(&prompt_parameters(item));
    listed(items.iter().map(one), "no prompts")
}

/// What a prompt takes, by its entry in the list.
pub fn prompt_parameters(item: &str) -> Parameters {
    let prompt = Object::read(item);
    let arguments = prompt.as_ref().and_then(|prompt| prompt.get("arguments"));
    let arguments: Value = arguments.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default();
    Parameters::of_prompt(&arguments)
}

fn listed(entries: impl Iterator<Item = String>, none: &str) -> String {
    let entries: Vec<String> = entries.collect();
    if entries.is_empty() { none.to_owned() } else { entries.join("\n") }
}

/// What it is called, and its description in full.
fn heading(item: &str, key: &str) -> String {
    let object = Object::read(item);
    let text = |name: &str| object.as_ref().and_then(|object| object.string(name));
    let annotated = || {
        let annotations = object.as_ref().and_then(|object| object.get("annotations"));
        annotations.and_then(|annotations| Object::read(annotations.get())?.string("title"))
    };
    let name = plain::line(text(key).as_deref().unwrap_or("?"));
    let title = text("title").or_else(annotated).map(|title| format!(" - {}", plain::line(&title)));
    format!("{name}{}\n{}", title.unwrap_or_default(), indented(&text("description").unwrap_or_default()))
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
