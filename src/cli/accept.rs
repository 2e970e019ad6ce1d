//! `hubward accept`: an operator has looked at an upstream's changed tools, and takes them for the right ones.

use serde_json::{Value, json};

use super::{
    Globals,
    running::{self, WhichHub},
    say,
};

#[derive(clap::Args)]
pub struct Args {
    /// The upstream
    name: String,
    /// Print what changed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: WhichHub,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let question = json!({ "command": "accept", "upstream": args.name });
    running::ask(args.which, globals, &question, |line| match args.json {
        true => say(line),
        false => say(told(&line)),
    })
}

/// One line for each tool that is another now.
fn told(line: &Value) -> String {
    let names = |key: &str| line[key].as_array().cloned().unwrap_or_default();
    let mut lines: Vec<String> = names("added").iter().map(|name| format!("added    {}", shown(name))).collect();
    lines.extend(names("changed").iter().map(|tool| {
        let fields: Vec<String> = tool["fields"].as_array().into_iter().flatten().map(shown).collect();
        format!(
            "changed  {}: {}",
            shown(&tool["name"]),
            if fields.is_empty() { "its definition".into() } else { fields.join(", ") }
        )
    }));
    lines.extend(names("removed").iter().map(|name| format!("removed  {}", shown(name))));
    let (upstream, tools) = (line["upstream"].as_str().unwrap_or_default(), &line["tools"]);
    lines.push(match lines.is_empty() {
        true => format!("upstream `{upstream}`: nothing changed, {tools} tools"),
        false => format!("upstream `{upstream}`: accepted, {tools} tools"),
    });
    lines.join("\n")
}

/// A stranger chose the name: nothing of it may steer a terminal.
fn shown(name: &Value) -> String {
    name.as_str().unwrap_or_default().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_has_a_line_and_no_name_steers_the_terminal() {
        let line = json!({ "upstream": "a", "hash": "x", "tools": 3, "added": ["new\u{1b}[2J"], "removed": ["old"],
            "changed": [{ "name": "b", "fields": ["description", "title"] }, { "name": "c", "fields": [] }] });
        let expected = "added    new\\u{1b}[2J\nchanged  b: description, title\nchanged  c: its definition\n\
            removed  old\nupstream `a`: accepted, 3 tools";
        assert_eq!(told(&line), expected);
        let same = json!({ "upstream": "a", "tools": 1, "added": [], "removed": [], "changed": [] });
        assert_eq!(told(&same), "upstream `a`: nothing changed, 1 tools");
    }
}
