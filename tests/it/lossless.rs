//! Whatever the two eras make of each other, what a call carries arrives as it was written (P5): to the byte.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{json, value::RawValue};

use super::{
    fixture::{Answer, Client, Hub, answer, http, modern},
    request::VERSION,
};

const CASES: u32 = 64;

/// What a parser that builds a tree, or computes with floats, would spell otherwise. Numbers beyond a double are
/// refused from clients on purpose; from servers they pass (`odd`).
const SCALARS: [&str; 16] = [
    "1.50",
    "1.7e308",
    "-1E+2",
    "9007199254740993",
    "123456789012345678901234567890",
    "-0",
    "-0.0",
    "0.1e-7",
    "null",
    "true",
    "false",
    r#""caf\u00e9 \/ \ud83d\ude00""#,
    r#""\u0000\u2028\t\"\\""#,
    "\"é 😀 \u{2028}\u{7f}\"",
    r#""""#,
    r#""resultType""#,
];

/// Names of members; some mean something elsewhere in a message.
const NAMES: [&str; 12] =
    ["a", "zeta", "_meta", "resultType", "ttlMs", "cacheScope", "method", "id", "é", r"\u00e9x", "x-y", "requestState"];

/// JSON as a text: nested, with blanks between tokens here and there.
fn document() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        proptest::sample::select(&SCALARS[..]).prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        "[ -~]{0,12}".prop_map(|text| json!(text).to_string()),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        let blank = || proptest::sample::select(&["", "", "", " ", "  ", "\t"][..]);
        let list = (proptest::collection::vec(inner.clone(), 0..5), blank(), blank());
        let members = proptest::collection::btree_map(proptest::sample::select(&NAMES[..]), inner, 0..5);
        prop_oneof![
            list.prop_map(|(all, before, after)| format!(
                "[{before}{}{after}]",
                all.join(&format!("{after},{before}"))
            )),
            (members, blank(), blank()).prop_map(|(all, before, after)| object(all, before, after)),
        ]
    })
}

fn object(members: BTreeMap<&str, String>, before: &str, after: &str) -> String {
    // The last name first: who sorts is found out.
    let members: Vec<_> =
        members.iter().rev().map(|(name, value)| format!("\"{name}\"{after}:{before}{value}")).collect();
    format!("{{{before}{}{after}}}", members.join(&format!("{after},{before}")))
}

type Members = BTreeMap<String, Box<RawValue>>;

fn members(json: &str) -> Members {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"))
}

fn text(block: &Members) -> String {
    serde_json::from_str(block["text"].get()).unwrap()
}

/// A client that writes its bodies by hand.
struct Speaker {
    http: reqwest::Client,
    url: String,
    headers: Vec<(&'static str, String)>,
    /// What its `_meta` begins with.
    envelope: String,
}

impl Speaker {
    async fn older(hub: &Hub, path: &str) -> Speaker {
        let Client { http, url, session, revision, .. } = Client::open(hub, path).await;
        let headers = vec![("mcp-session-id", session), ("mcp-protocol-version", revision)];
        Speaker { http, url, headers, envelope: String::new() }
    }

    fn newer(hub: &Hub, path: &str) -> Speaker {
        let envelope = format!(
            r#""io.modelcontextprotocol/protocolVersion":"{VERSION}","io.modelcontextprotocol/clientCapabilities":{{}},"#
        );
        let headers = [("mcp-protocol-version", VERSION), ("mcp-method", "tools/call"), ("mcp-name", "mirror")];
        let headers = headers.map(|(name, value)| (name, value.to_owned())).to_vec();
        Speaker { http: http(), url: hub.url(path), headers, envelope }
    }

    async fn call(&self, arguments: &str, meta: &str) -> Answer {
        let envelope = &self.envelope;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"mirror","arguments":{arguments},"_meta":{{{envelope}"example.com/x":{meta}}}}}}}"#
        );
        let post = self.http.post(&self.url).header("accept", "application/json, text/event-stream");
        let post = self.headers.iter().fold(post, |post, (name, value)| post.header(*name, value));
        answer(post.header("content-type", "application/json").body(body)).await
    }
}

/// Both ways at once: the server tells what arrived, and hands it back in several places of its result.
fn check(answer: &Answer, arguments: &str, meta: &str) {
    let response = answer.events.iter().rfind(|event| !event.data.is_empty()).map_or(&answer.text, |event| &event.data);
    assert!(response.starts_with('{'), "no answer to {arguments}: {answer:?}");
    let response = members(response);
    let Some(result) = response.get("result") else { panic!("no result for {arguments}: {answer:?}") };
    let result = members(result.get());
    let content: Vec<Members> = serde_json::from_str(result["content"].get()).unwrap();
    assert_eq!(text(&content[0]), arguments, "the arguments on their way there");
    assert_eq!(members(&text(&content[1]))["example.com/x"].get(), meta, "a stranger in _meta on its way there");
    assert_eq!(content[0]["x-block"].get(), arguments, "within a block");
    assert_eq!(result["structuredContent"].get(), arguments);
    assert_eq!(result["x-unknown"].get(), arguments, "a member that no revision knows");
    assert_eq!(members(result["_meta"].get())["example.com/mirror"].get(), arguments, "in _meta");
}

/// Runs the cases of one pairing of eras.
fn pairing(is_newer: bool, server_flags: &[&str]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hub = runtime.block_on(async { Hub::start(&modern("m", server_flags, "")) });
    let speaker = match is_newer {
        true => Speaker::newer(&hub, "/m/mcp"),
        false => runtime.block_on(Speaker::older(&hub, "/m/mcp")),
    };
    let arguments = (document(), document()).prop_map(|(one, two)| format!(r#"{{"value":{one}, "again":{two}}}"#));
    let config =
        ProptestConfig { cases: CASES, failure_persistence: None, max_shrink_iters: 200, ..Default::default() };
    let outcome = TestRunner::new(config).run(&(arguments, document()), |(arguments, meta)| {
        let answer = runtime.block_on(speaker.call(&arguments, &meta));
        check(&answer, &arguments, &meta);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

const OLDER: &[&str] = &["--probe", "error"];

#[test]
fn p5_an_older_client_before_an_older_server() {
    pairing(false, OLDER);
}

#[test]
fn p5_an_older_client_before_a_newer_server() {
    pairing(false, &[]);
}

#[test]
fn p5_a_newer_client_before_an_older_server() {
    pairing(true, OLDER);
}

#[test]
fn p5_a_newer_client_before_a_newer_server() {
    pairing(true, &[]);
}

#[tokio::test]
async fn p5_a_result_of_odd_spellings_and_strangers_is_changed_in_nothing_else() {
    let hub = Hub::start(&modern("m", &[], ""));
    let newer = super::request::Request::call(&hub, "/m/mcp", "odd", json!({})).build();
    let newer = answer(newer).await;
    let client = Client::open(&hub, "/m/mcp").await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "odd" } });
    let older = client.send(&call).await;
    for answer in [newer, older] {
        let result = members(&answer.text)["result"].get().to_owned();
        for part in [
            r#""zeta":[1.50,1e400,9007199254740993,-0,1E+2]"#,
            r#"{"text":"caf\u00e9 \/","type":"text","x-colour":"red","annotations":{"audience":["nobody"],"x":null}}"#,
            r#"{"type":"x-unheard-of","payload":{"deep":[[[]]]}}"#,
            r#""structuredContent":{"exact":1.10,"b":1,"a":2}"#,
            r#""example.com/big":123456789012345678901234567890"#,
            r#""alpha":{}"#,
        ] {
            assert!(result.contains(part), "{part} is not in {result}");
        }
    }
}
