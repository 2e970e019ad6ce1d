//! `hubward tap`: what passes between the running hub and an upstream, a line for each message as it passes.

use std::{fmt::Write, ops::ControlFlow};

use serde_json::{Value, json};

use super::{
    Globals,
    ask::plain,
    complain,
    running::{self, WhichHub},
    show,
};
use crate::wire::printable::printable;

#[derive(clap::Args)]
pub struct Args {
    /// The upstream
    name: String,
    /// Show the messages too, the first 64 KiB of each
    #[arg(long)]
    bodies: bool,
    /// Print a JSON object for each message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: WhichHub,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let question = json!({ "command": "tap", "upstream": args.name, "bodies": args.bodies });
    running::follow(args.which, globals, &question, |line| match &line["tapped"] {
        Value::String(name) => {
            complain(format_args!("hubward: what passes upstream `{name}` is shown; Ctrl-C ends that"));
            ControlFlow::Continue(())
        }
        _ if args.json => show(plain::json(&line.to_string())),
        _ => show(told(&line)),
    })
}

/// One line of what passed, and its body below.
fn told(line: &Value) -> String {
    if let Some(lost) = line["lost"].as_u64() {
        return format!("… {lost} lost: this tap did not keep up");
    }
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    // Of a day: the hour to the millisecond.
    let time = text("time").split_once('T').map_or("", |(_, time)| time);
    let arrow = if text("direction") == "sent" { "→" } else { "←" };
    let mut told = format!("{time} {arrow} {}", line["instance"]);
    // A write into a string cannot fail.
    if let Some(pid) = line["pid"].as_u64() {
        let _ = write!(told, "/{pid}");
    }
    let method = text("method");
    let of = |what: &str| if method.is_empty() { what.to_owned() } else { format!("{what} to {method}") };
    let what = match text("kind") {
        "request" | "notification" => method.to_owned(),
        "response" => of("response"),
        "error" => of(&format!("error {}", line["code"])),
        "too_long" => of("too long an answer"),
        "failed" => of("no answer"),
        other => other.to_owned(),
    };
    let _ = write!(told, " {what}");
    if !line["id"].is_null() {
        let _ = write!(told, " id {}", line["id"]);
    }
    let _ = write!(told, " {} B", line["bytes"]);
    if let Some(took) = line["took_ms"].as_f64() {
        let _ = write!(told, " {took:.1} ms");
    }
    if let Some(why) = line["why"].as_str() {
        let _ = write!(told, ": {why}");
    }
    // Strangers wrote this: nothing of it may steer a terminal, or turn the direction of what follows.
    let mut shown = printable(told.as_bytes());
    if let Some(body) = line["body"].as_str().filter(|body| !body.is_empty()) {
        let cut = if line["cut"] == true { "…" } else { "" };
        shown += &format!("\n    {}{cut}", printable(body.as_bytes()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_message_has_its_line() {
        let time = "2026-11-21T12:01:02.123Z";
        let line = |rest: Value| {
            let mut line = json!({ "time": time, "direction": "received", "instance": 3, "pid": 77, "bytes": 9 });
            line.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            told(&line)
        };
        let request = json!({ "direction": "sent", "kind": "request", "method": "tools/call", "id": 5 });
        assert_eq!(line(request), "12:01:02.123Z → 3/77 tools/call id 5 9 B");
        let answer = json!({ "kind": "response", "method": "tools/call", "id": 5, "took_ms": 2.149 });
        assert_eq!(line(answer), "12:01:02.123Z ← 3/77 response to tools/call id 5 9 B 2.1 ms");
        let error = json!({ "kind": "error", "code": -32602, "id": "x", "pid": null });
        assert_eq!(line(error), "12:01:02.123Z ← 3 error -32602 id \"x\" 9 B");
        let failed = json!({ "kind": "failed", "method": "ping", "id": 1, "why": "it is gone" });
        assert_eq!(line(failed), "12:01:02.123Z ← 3/77 no answer to ping id 1 9 B: it is gone");
        let long = json!({ "kind": "too_long", "method": "ping", "id": 1 });
        assert_eq!(line(long), "12:01:02.123Z ← 3/77 too long an answer to ping id 1 9 B");
        assert_eq!(line(json!({ "kind": "unreadable" })), "12:01:02.123Z ← 3/77 unreadable 9 B");
        assert_eq!(told(&json!({ "lost": 7 })), "… 7 lost: this tap did not keep up");
    }

    #[test]
    fn no_message_steers_the_terminal() {
        let line = json!({ "kind": "notification", "method": "a\u{1b}[2J", "bytes": 1, "instance": 1, "cut": true,
            "time": "T1", "body": "{\"a\":\n\"\u{9b}31m\u{202e}ü\"}" });
        let expected = "1 ← 1 a\\u{1b}[2J 1 B\n    {\"a\":\\n\"\\u{9b}31m\\u{202e}ü\"}…";
        assert_eq!(told(&line), expected);
        let line = json!({ "body": "\u{1b}\u{9b}\u{202e}" }).to_string();
        assert_eq!(plain::json(&line), r#"{"body":"\u001b\u009b\u202e"}"#);
    }
}
