//! Results: whole, of every kind, into files where that is wanted; and the exit codes that tell how it went.

use std::fs;

use serde_json::{Value, json};

use super::{demo, modern, peer::Peer, rogue, run};
use crate::fixture::hubward;

/// A server with one tool, `t`, that has this result.
fn tool(result: Value) -> Peer {
    Peer::start(move |method, _| match method {
        "tools/list" => json!({ "result": { "tools": [{ "name": "t" }] } }),
        "tools/call" => json!({ "result": result }),
        _ => Value::Null,
    })
}

#[test]
fn s3_28_a_result_is_never_cut() {
    // Better: there, texts end after 500 characters.
    let text = rogue(&["call", "big", "bytes=3000000"]).done();
    assert_eq!(text.len(), 3_000_001);
    let result = modern(&["call", "odd", "--json"]).done();
    assert!(result.contains(r#""zeta":[1.50,1e400,9007199254740993,-0,1E+2]"#), "{result}");
    let shown = modern(&["call", "odd"]).done();
    assert!(shown.starts_with("café /\n") && shown.contains("x-unheard-of"), "{shown}");
}

#[test]
fn structured_content_is_shown_where_there_is_no_text() {
    assert_eq!(modern(&["call", "record"]).done(), "{\n  \"n\": 1\n}\n");
    assert_eq!(demo(&["call", "add", "a=1", "b=1"]).done(), "2\n");
}

#[test]
fn binaries_are_named_and_saved_on_request() {
    let content = json!([{ "type": "image", "mimeType": "image/png", "data": "iVBORw==" },
        { "type": "resource", "resource": { "uri": "file:///../../etc/evil.sh", "blob": "AAEC" } },
        { "type": "resource_link", "uri": "file:///x", "name": "x" }]);
    let peer = tool(json!({ "content": content }));
    let shown = run(&["call", &peer.url, "t"]).done();
    assert!(
        shown.contains("[image image/png, 4 bytes; --save DIR writes it]") && shown.contains("link file:///x x"),
        "{shown}"
    );
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("saved");
    let save = into.display().to_string();
    for _ in 0..2 {
        let shown = run(&["call", &peer.url, "t", "--save", &save]).done();
        assert!(shown.contains(&save), "{shown}");
    }
    let mut names: Vec<_> =
        fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["evil-1.sh", "evil.sh", "t-1.png", "t.png"]);
    assert_eq!(fs::read(into.join("t.png")).unwrap(), b"\x89PNG");
    let told = run(&["call", &peer.url, "t", "--save", &save, "--json"]).json();
    assert_eq!(told["content"], content);
    assert!(into.join("t-2.png").exists());
}

#[test]
fn a_tool_that_failed_has_its_own_exit_code() {
    let peer = tool(json!({ "content": [{ "type": "text", "text": "no luck" }], "isError": true }));
    let told = run(&["call", &peer.url, "t"]);
    assert_eq!((told.code, told.stdout.as_str()), (5, "no luck\n"));
    assert_eq!(run(&["call", &peer.url, "t", "--json"]).code, 5);
    assert_eq!(demo(&["call", "ask_name"]).code, 5, "there is nobody to ask");
}

#[test]
fn an_error_is_told_in_the_servers_words() {
    modern(&["call", "fail", "code=-32000", "message=oh"]).refused(1, &["-32000", "oh", r#"{"x":1.5}"#]);
    modern(&["call", "weird"]).refused(1, &["a kind that is not known"]);
    modern(&["call", "crash", "code=3"]).refused(1, &["exited with code 3"]);
    demo(&["read", "demo://nothing"]).refused(1, &["-32002"]);
    rogue(&["call", "hang", "--timeout", "1"]).refused(1, &["1s", "--timeout"]);
}

#[test]
fn resources_and_prompts_are_read() {
    assert!(demo(&["read", "demo://readme"]).done().starts_with("# The demo of hubward\n"));
    assert_eq!(demo(&["read", "demo://counter", "--json"]).json()["contents"][0]["text"], "0");
    assert!(demo(&["prompt", "introduce", "name=Ada"]).done().starts_with("user: Please introduce Ada"));
    assert_eq!(modern(&["read", "modern://one"]).done(), "version 0\n");
}

#[test]
fn s3_15_raw_fills_in_and_prints_the_whole_response() {
    let text = demo(&["raw", r#"{"method":"tools/list"}"#]).done();
    assert!(text.starts_with("{\n  \"id\": 1,\n  \"jsonrpc\": \"2.0\",\n  \"result\": {\n"), "{text}");
    let answer = demo(&["raw", r#"{"id":"x","method":"ping"}"#, "--json"]);
    assert_eq!(answer.stdout.lines().count(), 1);
    assert_eq!(answer.json(), json!({ "jsonrpc": "2.0", "id": "x", "result": {} }));
    // Not greeted before: the revision is the one that was asked for.
    let greeting = r#"{"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}"#;
    let answer = demo(&["raw", greeting, "--json"]).json();
    assert_eq!(answer["result"]["protocolVersion"], "2025-03-26");
    let refused = demo(&["raw", r#"{"method":"nonsense"}"#, "--json"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stdout.contains("-32601"), "{refused:?}");
    let seen = modern(&["raw", r#"{"method":"tools/call","params":{"name":"seen"}}"#, "--json"]).json();
    assert!(seen["result"]["content"][0]["text"].as_str().unwrap().contains(r#""complaints":[]"#), "{seen}");
    // Better than exit code 1: it is the usage that is wrong.
    demo(&["raw", "{oops"]).refused(2, &["not JSON"]);
}

#[test]
fn progress_and_log_messages_on_stderr() {
    let told = demo(&["call", "slow", "seconds=0.2", "steps=2"]);
    assert_eq!((told.stderr.as_str(), told.code), ("", 0), "silent where nobody looks");
    let told = demo(&["call", "slow", "seconds=0.2", "steps=2", "--verbose"]);
    assert!(told.stdout.starts_with("Done: ") && told.stderr.contains(" 50 %  Step 1 of 2\n"), "{told:?}");
    assert!(told.stderr.contains("info demo: "), "{told:?}");
    let told = modern(&["call", "log", "level=info", "text=news", "-v"]);
    assert!(told.stderr.contains("info modern: news"), "{told:?}");
}

#[test]
fn a_reader_that_has_left_is_no_reason_to_panic() {
    let broken = std::io::pipe().unwrap().1;
    let mut command = hubward(&["tools", "--", "hubward", "demo"]);
    let output = command.stdout(broken).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
}
