//! `hubward logs`: what the servers print on stderr, and what the hub does with them.

use serde_json::{Value, json};

use super::{
    Globals,
    running::{self, WhichHub},
    show,
};

#[derive(clap::Args)]
pub struct Args {
    /// The upstream; all, where none is named
    name: Option<String>,
    /// Go on with what comes, until Ctrl-C or the end of the hub
    #[arg(short, long)]
    follow: bool,
    /// Begin with so many of the last lines; the hub keeps a thousand of each upstream
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    lines: usize,
    /// Print each line as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: WhichHub,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let question = json!({ "command": "logs", "upstream": args.name, "lines": args.lines, "follow": args.follow });
    running::follow(args.which, globals, &question, |line| {
        show(if args.json { line.to_string() } else { told(&line, args.name.is_none()) })
    })
}

/// `2026-01-01T00:00:00.000Z time 4242 text`, with the name where there are several; `-` where there is no process.
fn told(line: &Value, several: bool) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let name = if several { format!("{} ", text("upstream")) } else { String::new() };
    if let Some(lost) = line["lost"].as_u64() {
        return format!("{name}hubward: {lost} lines were lost here: they came faster than they were read");
    }
    let pid = line["pid"].as_u64().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let who = if text("kind") == "hub" { "hubward: " } else { "" };
    format!("{} {name}{pid} {who}{}", text("time"), text("text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whose_it_is_where_there_are_several() {
        let time = "2026-01-01T00:00:00.000Z";
        let line = json!({ "time": time, "upstream": "a", "pid": 7, "kind": "stderr", "text": "x" });
        assert_eq!(told(&line, false), "2026-01-01T00:00:00.000Z 7 x");
        assert_eq!(told(&line, true), "2026-01-01T00:00:00.000Z a 7 x");
        let line = json!({ "time": time, "upstream": "a", "pid": null, "kind": "hub", "text": "starting" });
        assert_eq!(told(&line, true), "2026-01-01T00:00:00.000Z a - hubward: starting");
        let lost = told(&json!({ "upstream": "a", "lost": 3 }), true);
        assert!(lost.starts_with("a hubward: 3 lines were lost here"), "{lost}");
    }
}
