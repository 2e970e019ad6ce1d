//! Lists: tools, resources and prompts, for people and for programs.

use serde_json::{Value, json};

use super::{demo, modern, peer::Peer, run};

#[test]
fn s3_11_tools_with_name_description_and_typed_parameters() {
    // Better: the JSON is printed where it is asked for, and alone, so that a program can read it.
    let text = demo(&["tools"]).done();
    assert!(
        text.contains("echo - Echo\n  Returns the text it is given, unchanged.\n    text: string, required - "),
        "{text}"
    );
    assert!(text.contains("    steps: integer - "), "{text}");
    let list = demo(&["tools", "--json"]).json();
    assert_eq!(list["tools"][0]["inputSchema"]["properties"]["text"]["type"], "string");
    let text = modern(&["tools"]).done();
    assert!(text.contains("slow\n") && text.contains("    count: integer\n"), "{text}");
}

#[test]
fn s3_12_resources_with_their_uris() {
    // Better: templates are listed as well.
    let text = demo(&["resources"]).done();
    assert!(
        text.contains("demo://readme - Read me\n  What there is to try here.\n  name: readme, text/markdown"),
        "{text}"
    );
    assert!(text.contains("demo://greeting/{name} - Greeting"), "{text}");
    let list = demo(&["resources", "--json"]).json();
    assert_eq!(list["resources"][0]["uri"], "demo://readme");
    assert_eq!(list["resourceTemplates"][0]["uriTemplate"], "demo://greeting/{name}");
}

#[test]
fn s3_13_prompts_with_their_arguments() {
    let text = demo(&["prompts"]).done();
    assert!(
        text.contains("introduce - Introduce someone\n") && text.contains("    name: string, required - Who"),
        "{text}"
    );
    assert_eq!(demo(&["prompts", "--json"]).json()["prompts"][0]["name"], "introduce");
}

#[test]
fn all_pages_are_one_list() {
    let peer = Peer::start(|method, params| match (method, params["cursor"].as_str()) {
        ("tools/list", None) => {
            json!({ "result": { "tools": [{ "name": "a", "x": 1.50 }], "nextCursor": "1", "_meta": { "k": 1 } } })
        }
        ("tools/list", Some("1")) => json!({ "result": { "tools": [], "nextCursor": "2" } }),
        ("tools/list", Some("2")) => json!({ "result": { "tools": [{ "name": "b" }] } }),
        ("tools/call", _) => json!({ "result": { "content": [{ "type": "text", "text": params["name"] }] } }),
        _ => Value::Null,
    });
    let text = run(&["tools", &peer.url, "--json"]).done();
    assert!(text.contains(r#""tools":[{"name":"a","x":1.5},{"name":"b"}]"#), "{text}");
    assert!(!text.contains("nextCursor") && text.contains(r#""_meta":{"k":1}"#), "{text}");
    assert_eq!(run(&["call", &peer.url, "b"]).done(), "b\n", "the tool of the last page");
    let peer = Peer::start(|method, _| match method {
        "tools/list" => json!({ "result": { "tools": [], "nextCursor": "again" } }),
        _ => Value::Null,
    });
    run(&["tools", &peer.url]).refused(1, &["same next page"]);
}

#[test]
fn a_family_that_is_not_offered_is_an_empty_list() {
    let peer = Peer::start(|_, _| Value::Null);
    assert_eq!(run(&["prompts", &peer.url]).done(), "no prompts\n");
    assert_eq!(run(&["resources", &peer.url, "--json"]).json(), json!({ "resources": [], "resourceTemplates": [] }));
    run(&["tools", &peer.url]).refused(1, &["-32601", "not here"]);
}
