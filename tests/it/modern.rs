//! The strict server of the newer era that the other tests lean on: it does what it says, and nothing more.

use std::fs;

use serde_json::{Value, json};

use super::{demo::Peer, request::VERSION};

/// A request with an envelope that declares these capabilities.
fn ask(peer: &mut Peer, method: &str, mut params: Value, capabilities: Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(VERSION);
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    peer.ask(method, params);
    peer.message()
}

fn call(peer: &mut Peer, tool: &str, arguments: Value) -> Value {
    ask(peer, "tools/call", json!({ "name": tool, "arguments": arguments }), json!({}))
}

fn seen(peer: &mut Peer) -> Value {
    let answer = call(peer, "seen", json!({}));
    serde_json::from_str(answer["result"]["content"][0]["text"].as_str().unwrap()).unwrap()
}

fn complaints(peer: &mut Peer) -> usize {
    seen(peer)["complaints"].as_array().unwrap().len()
}

fn notify(peer: &mut Peer, method: &str, params: Value) {
    peer.write(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
}

#[test]
fn it_offers_what_it_has() {
    let mut peer = Peer::start("modern", &["--instructions", "Be strict.", "--tasks"]);
    let result = ask(&mut peer, "server/discover", json!({}), json!({}))["result"].clone();
    assert_eq!((&result["supportedVersions"], &result["instructions"]), (&json!([VERSION]), &json!("Be strict.")));
    assert!(result["capabilities"]["extensions"]["io.modelcontextprotocol/tasks"].is_object());
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "modern");
    for (method, params) in [
        ("tools/list", json!({})),
        ("prompts/list", json!({})),
        ("prompts/get", json!({ "name": "plain" })),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("resources/read", json!({ "uri": "modern://one" })),
        ("completion/complete", json!({ "argument": { "value": "o" } })),
    ] {
        assert_eq!(ask(&mut peer, method, params, json!({}))["result"]["resultType"], "complete", "{method}");
    }
    assert_eq!(complaints(&mut peer), 0);
    assert_eq!(peer.end().code(), Some(0));
}

#[test]
fn it_refuses_what_is_wrong_and_remembers_it() {
    let mut peer = Peer::start("modern", &[]);
    let version = "io.modelcontextprotocol/protocolVersion";
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    for (method, meta, code) in [
        ("tools/list", json!({}), -32602),
        ("tools/list", json!({ version: VERSION }), -32602),
        ("tools/list", json!({ version: VERSION, capabilities: [] }), -32602),
        ("tools/list", json!({ version: "2025-11-25", capabilities: {} }), -32022),
        ("ping", json!({ version: VERSION, capabilities: {} }), -32601),
        ("logging/setLevel", json!({}), -32601),
    ] {
        peer.ask(method, json!({ "_meta": meta }));
        assert_eq!(peer.message()["error"]["code"], code, "{method} {meta}");
    }
    assert_eq!(peer.initialize()["error"]["code"], -32601);
    assert_eq!(complaints(&mut peer), 6, "a client may try initialize");
    notify(&mut peer, "notifications/initialized", json!({}));
    peer.write(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    assert_eq!(complaints(&mut peer), 8);
    let mut peer = Peer::start("modern", &["--initialize-code", "-32022"]);
    assert_eq!(peer.initialize()["error"]["data"]["supported"], json!([VERSION]));
}

#[test]
fn it_refuses_an_id_that_is_in_flight_and_obeys_cancels() {
    let mut peer = Peer::start("modern", &[]);
    let envelope = json!({ "io.modelcontextprotocol/protocolVersion": VERSION, "progressToken": "p",
                           "io.modelcontextprotocol/clientCapabilities": {} });
    peer.ask("tools/call", json!({ "name": "hang", "_meta": envelope }));
    let hanging = peer.asked;
    peer.asked -= 1;
    peer.ask("tools/call", json!({ "name": "pid", "_meta": envelope }));
    assert_eq!(peer.message()["error"]["code"], -32600);
    assert_eq!(seen(&mut peer)["inFlight"], 1);
    notify(&mut peer, "notifications/cancelled", json!({ "requestId": hanging }));
    let told = seen(&mut peer);
    assert_eq!((&told["inFlight"], &told["cancelled"]), (&json!(0), &json!([hanging])));
    peer.ask("tools/call", json!({ "name": "slow", "arguments": { "count": 2, "ms": 0 }, "_meta": envelope }));
    for step in 1..=2 {
        let params = peer.message()["params"].clone();
        assert_eq!((&params["progressToken"], &params["progress"]), (&json!("p"), &json!(step)));
    }
    assert_eq!(peer.message()["result"]["content"][0]["text"], "2");
}

#[test]
fn it_asks_by_results_and_wants_its_state_back() {
    let mut peer = Peer::start("modern", &[]);
    let first = json!({ "name": "ask", "arguments": { "message": "?" } });
    let refused = ask(&mut peer, "tools/call", first.clone(), json!({}));
    assert_eq!(refused["error"]["data"]["requiredCapabilities"], json!({ "elicitation": {} }));
    let able = || json!({ "elicitation": {} });
    let asked = ask(&mut peer, "tools/call", first.clone(), able())["result"].clone();
    assert_eq!(asked["inputRequests"]["q"]["method"], "elicitation/create");
    let mut retry = first;
    retry["requestState"] = asked["requestState"].clone();
    let again = ask(&mut peer, "tools/call", retry.clone(), able())["result"].clone();
    assert_eq!(again["resultType"], "input_required", "the answer was missing");
    retry["inputResponses"] = json!({ "q": { "action": "decline" } });
    assert_eq!(ask(&mut peer, "tools/call", retry.clone(), able())["error"]["code"], -32602, "a used state");
    retry["requestState"] = again["requestState"].clone();
    let told = ask(&mut peer, "tools/call", retry, able())["result"]["content"][0]["text"].clone();
    assert!(told.as_str().unwrap().starts_with(r#"{"answers":[{"q":{"action":"decline"}}]"#), "{told}");
    assert_eq!(complaints(&mut peer), 1);
    let asked = ask(&mut peer, "prompts/get", json!({ "name": "asks" }), able());
    assert_eq!(asked["result"]["resultType"], "input_required");
    let state = call(&mut peer, "ask_state", json!({ "count": 1 }))["result"].clone();
    assert!(state["requestState"].is_string() && state.get("inputRequests").is_none());
}

#[test]
fn it_acknowledges_a_listen_and_sends_only_what_was_asked_for() {
    let mut peer = Peer::start("modern", &[]);
    let wanted = json!({ "toolsListChanged": true, "promptsListChanged": false,
                         "resourceSubscriptions": ["modern://one", "elsewhere://one"] });
    let first = ask(&mut peer, "subscriptions/listen", json!({ "notifications": wanted }), json!({}));
    let listen = json!(peer.asked);
    let tag = |message: &Value| message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
    assert_eq!((&first["method"], tag(&first)), (&json!("notifications/subscriptions/acknowledged"), listen.clone()));
    let honoured = json!({ "toolsListChanged": true, "resourceSubscriptions": ["modern://one"] });
    assert_eq!(first["params"]["notifications"], honoured);
    assert!(call(&mut peer, "change", json!({ "kind": "prompts" }))["result"].is_object());
    let changed = call(&mut peer, "change", json!({ "kind": "tools" }));
    assert_eq!((&changed["method"], tag(&changed)), (&json!("notifications/tools/list_changed"), listen.clone()));
    assert!(peer.message()["result"].is_object());
    assert!(call(&mut peer, "update", json!({ "uri": "modern://two" }))["result"].is_object());
    let updated = call(&mut peer, "update", json!({ "uri": "modern://one/part" }));
    assert_eq!((&updated["params"]["uri"], tag(&updated)), (&json!("modern://one/part"), listen.clone()));
    assert!(peer.message()["result"].is_object());
    let ended = call(&mut peer, "end_listens", json!({}));
    assert_eq!((&ended["id"], &ended["result"]["resultType"]), (&listen, &json!("complete")));
    assert_eq!(peer.message()["params"]["requestId"], listen);
    assert!(peer.message()["result"].is_object());
    assert_eq!(seen(&mut peer)["listens"], json!([]));
}

#[test]
fn it_ends_listens_by_itself_where_told() {
    let mut peer = Peer::start("modern", &["--end-listens", "1"]);
    ask(&mut peer, "subscriptions/listen", json!({ "notifications": {} }), json!({}));
    assert_eq!(peer.message()["id"], peer.asked);
    assert_eq!(peer.message()["method"], "notifications/cancelled");
}

#[test]
fn it_hands_back_what_it_got_to_the_byte() {
    let raw = r#"{"a":1.50,"b":[1e400,9007199254740993,-0],"c":"\u00e9\/"}"#;
    let envelope = format!(
        r#"{{"io.modelcontextprotocol/protocolVersion":"{VERSION}","io.modelcontextprotocol/clientCapabilities":{{}}}}"#
    );
    let line = |tool: &str, meta: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{raw}{meta}}}}}"#
        )
    };
    for (flags, meta) in [(&[][..], format!(r#","_meta":{envelope}"#)), (&["--probe", "error"], String::new())] {
        let mut peer = Peer::start("modern", flags);
        peer.write(&line("mirror", &meta));
        let answer = String::from_utf8(peer.line()).unwrap();
        assert_eq!(answer.matches(raw).count(), 4, "{answer}");
        assert!(answer.contains(&json!(raw).to_string()), "{answer}");
    }
}

#[test]
fn it_logs_where_asked_to_and_names_what_it_lacks() {
    let mut peer = Peer::start("modern", &["--tasks"]);
    let log = json!({ "name": "log", "arguments": { "level": "info", "text": "hi" } });
    assert!(ask(&mut peer, "tools/call", log.clone(), json!({}))["result"].is_object());
    for (level, heard) in [("debug", true), ("error", false)] {
        let mut log = log.clone();
        log["_meta"] = json!({ "io.modelcontextprotocol/logLevel": level });
        let first = ask(&mut peer, "tools/call", log, json!({}));
        assert_eq!(first["method"] == "notifications/message", heard, "{level}");
        assert!(!heard || peer.message()["result"].is_object());
    }
    assert_eq!(call(&mut peer, "needs_sampling", json!({}))["error"]["code"], -32021);
    assert_eq!(call(&mut peer, "weird", json!({}))["result"]["resultType"], "x-unheard-of");
    assert_eq!(call(&mut peer, "choice", json!({}))["result"]["structuredContent"], "text");
    let extensions = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let task = ask(&mut peer, "tools/call", json!({ "name": "task" }), extensions);
    assert_eq!(task["result"]["resultType"], "task");
}

#[test]
fn it_can_be_an_older_one_that_takes_oddly_to_a_probe() {
    for (kind, code) in [("error", -32000), ("legacy-refusal", -32022), ("future-only", -32022)] {
        let mut peer = Peer::start("modern", &["--probe", kind]);
        assert_eq!(ask(&mut peer, "server/discover", json!({}), json!({}))["error"]["code"], code, "{kind}");
        assert!(peer.initialize()["error"].is_object(), "{kind}: no initialize after a probe");
    }
    for kind in ["exit", "silent", "error", "legacy-only", "legacy-refusal"] {
        let mut peer = Peer::start("modern", &["--probe", kind]);
        assert_eq!(peer.initialize()["result"]["protocolVersion"], "2025-06-18", "{kind}");
        notify(&mut peer, "notifications/initialized", json!({}));
        peer.ask("tools/call", json!({ "name": "pid" }));
        assert_eq!(peer.message()["result"]["content"][0]["text"], peer.child.id().to_string(), "{kind}");
    }
    let mut peer = Peer::start("modern", &["--probe", "exit"]);
    peer.ask("server/discover", json!({}));
    assert_eq!(peer.child.wait().unwrap().code(), Some(1));
    let mut peer = Peer::start("modern", &["--probe", "once"]);
    assert_eq!(ask(&mut peer, "server/discover", json!({}), json!({}))["error"]["code"], -32022);
    assert!(ask(&mut peer, "server/discover", json!({}), json!({}))["result"].is_object());
}

#[test]
fn it_counts_its_starts_and_is_silent_at_the_first_where_told() {
    let folder = tempfile::tempdir().unwrap();
    let [log, count] = ["log", "count"].map(|name| folder.path().join(name).display().to_string());
    let flags = ["--probe", "late", "--counter", &count, "--log", &log];
    let mut first = Peer::start("modern", &flags);
    first.ask(
        "server/discover",
        json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": VERSION,
                                                    "io.modelcontextprotocol/clientCapabilities": {} } }),
    );
    assert_eq!(seen(&mut first)["inFlight"], 1, "no answer came before this one");
    let mut second = Peer::start("modern", &flags);
    assert!(ask(&mut second, "server/discover", json!({}), json!({}))["result"].is_object());
    assert_eq!(fs::read_to_string(&count).unwrap(), format!("{}\n{}\n", first.child.id(), second.child.id()));
    assert_eq!(fs::read_to_string(&log).unwrap().matches("server/discover").count(), 2);
}
