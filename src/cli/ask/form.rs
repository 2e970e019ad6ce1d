//! A question of a server, answered by a person at the terminal: one line for each field of the form.

use std::io::Write;

use serde_json::{Value, json};

use super::{
    plain,
    schema::{Parameter, Parameters},
};
use crate::wire::object::Object;

/// Whether a person wants to answer at all, and what.
enum Line {
    Text(String),
    /// Ctrl-D.
    End,
}

/// Asks for everything an elicitation wants. Answers with its result, as JSON.
pub async fn fill(params: &str) -> Result<String, String> {
    let params = params.to_owned();
    // Reading a terminal cannot be given up: where we end meanwhile, it is left where it is.
    let filled = tokio::task::spawn_blocking(move || {
        let mut stderr = std::io::stderr();
        ask(&params, |prompt| {
            let _ = write!(stderr, "{prompt}").and_then(|()| stderr.flush());
            let mut line = String::new();
            match std::io::stdin().read_line(&mut line) {
                Ok(1..) => Line::Text(line.trim_end_matches(['\r', '\n']).to_owned()),
                _ => Line::End,
            }
        })
    });
    filled.await.map_err(|error| error.to_string())
}

fn ask(params: &str, mut read: impl FnMut(&str) -> Line) -> String {
    let params = Object::read(params);
    let message = params.as_ref().and_then(|params| params.string("message")).unwrap_or_default();
    let message = plain::text(&message);
    let schema = params.as_ref().and_then(|params| params.get("requestedSchema"));
    let parameters = schema.map(|schema| Parameters::of_tool(schema.get())).unwrap_or_default();
    let cancelled = || json!({ "action": "cancel" }).to_string();
    match read(&format!("The server asks: {message}\nAnswer? [Y/n] ")) {
        Line::End => return cancelled(),
        Line::Text(line) => match line.trim().to_lowercase().as_str() {
            "" | "y" | "yes" => {}
            _ => return json!({ "action": "decline" }).to_string(),
        },
    }
    let mut members = Vec::new();
    for field in &parameters.all {
        let prompt = prompt(&parameters, field);
        let mut complaint = String::new();
        loop {
            let Line::Text(line) = read(&format!("{complaint}{prompt}")) else { return cancelled() };
            let value = match (line.is_empty(), &field.default, field.required) {
                (true, Some(default), _) => Some(default.clone()),
                (true, None, false) => break,
                (true, None, true) => None,
                (false, ..) => parameters.typed(&line, &field.schema),
            };
            if let Some(value) = value {
                members.push(format!("{}:{value}", Value::from(field.name.as_str())));
                break;
            }
            complaint = format!("It has to be: {}\n", plain::line(&parameters.kind(field)));
        }
    }
    format!(r#"{{"action":"accept","content":{{{}}}}}"#, members.join(","))
}

fn prompt(parameters: &Parameters, field: &Parameter) -> String {
    let title = field.schema["title"].as_str().unwrap_or(&field.name);
    let about = field.description.as_deref().map(|text| format!(", {}", plain::line(text))).unwrap_or_default();
    let default = match (&field.default, field.required) {
        (Some(default), _) => format!(" [{}]", plain::line(default)),
        (None, true) => String::new(),
        (None, false) => " [none]".to_owned(),
    };
    format!("{} ({}{about}){default}: ", plain::line(title), plain::line(&parameters.kind(field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_filled_field_by_field() {
        let params = r#"{"message":"Who\u001b?","requestedSchema":{"type":"object","required":["name","age"],"properties":{
            "age":{"type":"integer"},"colour":{"type":"string","enum":["red","green"],"default":"red"},
            "name":{"type":"string","title":"Your name"},"nick":{"type":"string"}}}}"#;
        let check = |lines: &[&str], expected: &str| {
            let (mut lines, mut prompts) = (lines.iter(), String::new());
            let answer = ask(params, |prompt| {
                prompts.push_str(prompt);
                lines.next().map_or(Line::End, |line| Line::Text((*line).to_owned()))
            });
            assert_eq!(answer, expected, "{prompts}");
            assert!(!prompts.contains('\u{1b}'), "{prompts}");
            prompts
        };
        let done = r#"{"action":"accept","content":{"age":36,"colour":"red","name":"Ada"}}"#;
        let prompts = check(&["", "old", "36", "", "", "Ada", ""], done);
        assert!(prompts.contains("It has to be: integer") && prompts.contains("Your name (string): "), "{prompts}");
        check(
            &["y", "36", "green", "Ada", "A"],
            r#"{"action":"accept","content":{"age":36,"colour":"green","name":"Ada","nick":"A"}}"#,
        );
        check(&["n"], r#"{"action":"decline"}"#);
        check(&[], r#"{"action":"cancel"}"#);
        check(&["y", "36"], r#"{"action":"cancel"}"#);
    }
}
