//! Arguments on a real command line. The rules themselves are tested in a table beside their code.

use serde_json::{Value, json};

use super::{demo, modern, peer::Peer, rogue, run};

#[test]
fn s3_14_a_call_checks_that_the_tool_exists() {
    assert_eq!(demo(&["call", "add", "a=2", "b=3"]).done(), "5\n");
    demo(&["call", "ad", "a=2"]).refused(1, &["no tool `ad`", "did you mean `add`?", "echo, add, slow"]);
    demo(&["prompt", "introduc"]).refused(1, &["no prompt `introduc`", "`introduce`"]);
}

#[test]
fn s3_22_json_is_taken_as_it_is() {
    let text = r#"{"text":"as \u00e9 is","more":[1.50,1e400]}"#;
    let told = modern(&["call", "echo", text]).done();
    assert!(told.starts_with(&format!("{text}\n")), "{told}");
}

#[test]
fn s3_23_the_schema_decides_what_a_value_is() {
    assert_eq!(demo(&["call", "echo", "text=5"]).done(), "5\n");
    assert_eq!(modern(&["call", "region", "region=true", "count=3"]).done(), "true\n");
    let told = modern(&["call", "echo", "n=5", "t=five", "l=[1, 2]"]).done();
    assert!(told.starts_with(r#"{"n":5,"t":"five","l":[1, 2]}"#), "{told}");
}

#[test]
fn s3_24_values_may_hold_blanks() {
    // Better: there, quotes are documented and not heeded.
    assert_eq!(demo(&["call", "echo", "text=two  words"]).done(), "two  words\n");
}

#[test]
fn s3_25_and_s3_26_a_bare_value_finds_its_parameter() {
    assert_eq!(demo(&["call", "echo", "https://example.com/?a=b"]).done(), "https://example.com/?a=b\n");
    assert_eq!(demo(&["call", "echo", "four", "words", "are", "one"]).done(), "four words are one\n");
    assert!(demo(&["prompt", "introduce", "Ada"]).done().contains("introduce Ada to me"));
    demo(&["call", "add", "5"]).refused(2, &["which parameter of `add`", "a=… b=…"]);
}

#[test]
fn s3_27_nothing_is_made_up_and_nothing_wrong_is_called() {
    // Better: there, a call without arguments was made with invented ones.
    demo(&["call", "echo"]).refused(2, &["`echo` needs `text` (string)"]);
    demo(&["call", "add", "a=1", "b=two"]).refused(2, &["`b` of `add` takes number", "`two`"]);
    demo(&["call", "add", "{"]).refused(2, &["JSON object"]);
    demo(&["prompt", "introduce"]).refused(2, &["`introduce` needs `name`"]);
    let peer = Peer::start(|method, _| match method {
        "tools/list" => {
            json!({ "result": { "tools": [{ "name": "t", "inputSchema": { "required": ["n"], "properties": { "n": { "type": "integer" } } } }] } })
        }
        _ => Value::Null,
    });
    run(&["call", &peer.url, "t"]).refused(2, &["`n` (integer)"]);
    run(&["call", &peer.url, "t", "n=x"]).refused(2, &["`n`"]);
    assert!(!peer.asked().contains(&"tools/call".to_owned()), "{:?}", peer.asked());
}

#[test]
fn a_name_that_is_not_in_the_schema_is_doubted_and_sent() {
    let told = rogue(&["call", "echo", "text=hi", "txet=ho"]);
    assert_eq!((told.code, told.stdout.as_str()), (0, "hi\n"));
    assert!(told.stderr.contains("did you mean `text`?"), "{told:?}");
}

#[test]
fn wrong_usage_is_told_before_anything_is_reached_for() {
    for (args, part) in [
        (&["tools"][..], "whom to ask"),
        (&["tools", "http://127.0.0.1:9/mcp", "more"], "`more`"),
        (&["tools", "ftp://127.0.0.1/mcp"], "http://"),
        (&["tools", "http://user:secret@127.0.0.1/mcp"], "--header"),
        (&["tools", "127.0.0.1:8808/mcp"], "http://127.0.0.1:8808/mcp"),
        (&["call", "http://127.0.0.1:9/mcp"], "which tool?"),
        (&["prompt", "http://127.0.0.1:9/mcp"], "which prompt?"),
        (&["read", "http://127.0.0.1:9/mcp"], "URI"),
        (&["raw", "http://127.0.0.1:9/mcp", "{"], "not JSON"),
        (&["raw", "http://127.0.0.1:9/mcp"], "one request"),
        (&["tools", "http://127.0.0.1:9/mcp", "-H", "no colon"], "'Name: value'"),
        (&["tools", "http://127.0.0.1:9/mcp", "-H", "A: ${env:HUBWARD_NOBODY}"], "HUBWARD_NOBODY"),
        (&["tools", "http://127.0.0.1:9/mcp", "-H", "A b: c"], "no name of a header"),
        (&["tools", "http://127.0.0.1:9/mcp", "--ca", "missing.pem"], "missing.pem"),
        (&["tools", "http://127.0.0.1:9/mcp", "-e", "A=b"], "--env"),
        (&["tools", "-H", "A: b", "--", "cat"], "--header"),
        (&["tools", "http://127.0.0.1:9/mcp", "--timeout", "soon"], "30s"),
    ] {
        let told = run(args);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{args:?}: {told:?}");
        assert!(told.stderr.contains(part) && !told.stderr.contains("secret@"), "{args:?}: {told:?}");
    }
}
