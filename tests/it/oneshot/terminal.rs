//! At a terminal: progress in place, questions answered, and no control character of a server's. Needs `script`;
//! where there is none, there is nothing to try.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::peer::Peer;
use crate::fixture::example;

/// What a terminal shows of a command, with these lines typed.
fn typed(args: &[&str], lines: &str) -> Option<String> {
    let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let line = format!("'{}' {}", env!("CARGO_BIN_EXE_hubward"), quoted.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env_remove("HUBWARD_CONFIG").env_remove("HUBWARD_LOG");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut script = script.spawn().ok()?;
    let mut stdin = script.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    drop(stdin);
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn progress_is_drawn_and_taken_back() {
    let Some(shown) = typed(&["call", "slow", "seconds=0.2", "steps=2", "--", "hubward", "demo"], "") else { return };
    assert!(shown.contains("\r\u{1b}[K 50 %  Step 1 of 2") && shown.contains("\r\u{1b}[KDone: "), "{shown:?}");
}

#[test]
fn no_control_character_of_a_server_reaches_a_terminal() {
    let evil = "\u{1b}]0;title\u{7}\u{9b}2J\u{202e}";
    let peer = Peer::start(move |method, _| match method {
        "tools/list" => json!({ "result": { "tools": [{ "name": "t", "description": evil }] } }),
        "tools/call" => json!({ "result": { "content": [{ "type": "text", "text": evil }] } }),
        "prompts/list" => json!({ "error": { "code": 1, "message": evil } }),
        "ping" => json!({ "result": {} }),
        _ => Value::Null,
    });
    for args in [
        &["call", &peer.url, "t"][..],
        &["call", &peer.url, "t", "--json"],
        &["tools", &peer.url],
        &["tools", &peer.url, "--json"],
        &["raw", &peer.url, "{\"method\":\"tools/list\"}"],
        &["ping", &peer.url],
    ] {
        let Some(shown) = typed(args, "") else { return };
        let odd = |c: char| c.is_control() && !matches!(c, '\r' | '\n') || c == '\u{202e}';
        assert!(!shown.contains(odd) && !shown.trim().is_empty(), "{args:?}: {shown:?}");
    }
}

#[test]
fn a_question_is_answered_by_whoever_sits_there() {
    let rogue = example("rogue").display().to_string();
    let modern = example("modern").display().to_string();
    let Some(shown) = typed(&["call", "ask_name", "--", "hubward", "demo"], "y\nAda\n") else { return };
    assert!(
        shown.contains("What is your name?") && shown.contains("Name (string") && shown.contains("Hello, Ada!"),
        "{shown:?}"
    );
    let shown = typed(&["call", "ask_name", "--", "hubward", "demo"], "n\n").unwrap();
    assert!(shown.contains("rather not say"), "{shown:?}");
    let shown = typed(&["call", "ask_rounds", "message=Who", "count=2", "--", &modern], "\nAda\n\nBob\n").unwrap();
    assert!(shown.contains("Ada") && shown.contains(r#"{"action":"accept","content":{"name":"Bob"}}"#), "{shown:?}");
    // Nobody here has a model.
    let shown = typed(&["call", "ask_sampling", "prompt=hi", "--", &rogue], "").unwrap();
    assert!(shown.contains("only elicitation"), "{shown:?}");
}
