//! Clients of the newer era before a server of the newer era: two legs all the same.

use serde_json::{Value, json};

use super::{
    fixture::{Answer, Hub, answer, file_until, http, modern},
    request::{Request, VERSION, code, listen, no_complaints, until_seen},
};

fn hub() -> Hub {
    Hub::start(&modern("m", &["--instructions", "Be strict."], ""))
}

fn call(hub: &Hub, tool: &str, arguments: Value) -> Request {
    Request::call(hub, "/m/mcp", tool, arguments)
}

/// The two texts of `echo`: the arguments and the `_meta` that arrived.
fn echoed(answer: &Answer) -> [Value; 2] {
    let last = answer.last();
    [0, 1].map(|at| serde_json::from_str(last["result"]["content"][at]["text"].as_str().unwrap()).unwrap())
}

#[tokio::test]
async fn the_envelope_is_the_clients_and_the_token_is_not() {
    let hub = hub();
    let abilities = json!({ "elicitation": { "form": {}, "url": {} }, "sampling": { "tools": {} }, "roots": {} });
    let request = call(&hub, "echo", json!({ "a": 1 })).capable(abilities.clone());
    let request = request.meta("traceparent", json!("00-1-2-01")).meta("example.com/x", json!({ "y": 1.5 }));
    let [arguments, meta] = echoed(&request.meta("progressToken", json!("mine")).send().await);
    assert_eq!(arguments, json!({ "a": 1 }));
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], VERSION);
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], abilities);
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"], json!({ "name": "test", "version": "1" }));
    assert_eq!((&meta["traceparent"], &meta["example.com/x"]), (&json!("00-1-2-01"), &json!({ "y": 1.5 })));
    assert!(meta["progressToken"] != "mine" && !meta["progressToken"].is_null(), "{meta}");
    // Who has no name is served, and declares no more than it did.
    let mut unnamed = call(&hub, "echo", json!({}));
    unnamed.body["params"]["_meta"].as_object_mut().unwrap().remove("io.modelcontextprotocol/clientInfo");
    let [_, meta] = echoed(&unnamed.send().await);
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p28_arguments_that_a_schema_marks_are_compared_with_their_headers() {
    let hub = hub();
    let region = |arguments: Value, region: Option<&str>, count: Option<&str>| {
        call(&hub, "region", arguments).header("mcp-param-region", region).header("mcp-param-count", count)
    };
    let eu = json!({ "region": "eu" });
    assert_eq!(region(eu.clone(), Some("eu"), None).send().await.tool_text(), "eu");
    assert_eq!(region(eu.clone(), Some("=?base64?ZXU=?="), None).send().await.tool_text(), "eu");
    let both = json!({ "region": "eu", "count": 3 });
    assert_eq!(region(both.clone(), Some("eu"), Some("3")).send().await.tool_text(), "eu");
    for nothing in [json!({}), json!({ "region": null })] {
        assert_eq!(region(nothing, None, None).send().await.status, 200, "not there, so not expected");
    }
    for (header, count) in [(None, None), (Some("us"), None), (Some("EU"), None), (Some("eu"), Some("4"))] {
        let answer = region(both.clone(), header, count).send().await;
        assert_eq!(code(&answer), (400, -32020), "{header:?} {count:?}");
    }
    let unknown = call(&hub, "pid", json!({})).header("mcp-param-other", Some("x"));
    assert_eq!(unknown.send().await.status, 200, "an unknown one is not ours to judge");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p31_discover_tells_what_the_server_told_and_agrees_with_behaviour() {
    let hub = hub();
    let discovered = Request::new(&hub, "/m/mcp", "server/discover", json!({})).send().await.last()["result"].clone();
    assert_eq!(discovered["supportedVersions"], json!([VERSION]));
    assert_eq!(discovered["instructions"], "Be strict.");
    assert_eq!(discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "modern");
    for (family, detail) in [("tools", "listChanged"), ("prompts", "listChanged"), ("resources", "subscribe")] {
        assert_eq!(discovered["capabilities"][family][detail], true, "{family}");
    }
    for family in ["completions", "logging"] {
        assert!(discovered["capabilities"][family].is_object(), "{family}");
    }
    // What is not offered is not there.
    let few = Hub::start(&modern("m", &["--capabilities", r#"{"tools":{}}"#], ""));
    let discovered = Request::new(&few, "/m/mcp", "server/discover", json!({})).send().await.last()["result"].clone();
    assert_eq!(discovered["capabilities"], json!({ "tools": {} }));
    for method in ["prompts/list", "resources/list"] {
        let answer = Request::new(&few, "/m/mcp", method, json!({})).send().await;
        assert_eq!(code(&answer), (404, -32601), "{method}");
    }
}

#[tokio::test]
async fn p32_p33_every_result_is_of_this_era_and_belongs_to_no_session() {
    let hub = hub();
    let cases = [
        ("server/discover", json!({}), true),
        ("tools/list", json!({}), true),
        ("prompts/list", json!({}), true),
        ("resources/list", json!({}), true),
        ("resources/templates/list", json!({}), true),
        ("resources/read", json!({ "uri": "modern://one" }), true),
        ("prompts/get", json!({ "name": "plain" }), false),
        ("tools/call", json!({ "name": "pid" }), false),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "plain" },
                                        "argument": { "name": "x", "value": "o" } }),
            false,
        ),
    ];
    for (method, params, is_cacheable) in cases {
        let request = Request::new(&hub, "/m/mcp", method, params).header("last-event-id", Some("1"));
        let answer = request.header("mcp-session-id", Some("x")).send().await;
        let result = &answer.last()["result"];
        assert_eq!((answer.status, &result["resultType"]), (200, &json!("complete")), "{method}");
        if is_cacheable {
            assert!(result["ttlMs"].is_u64(), "{method}: {result}");
            assert!(result["cacheScope"] == "private" || result["cacheScope"] == "public", "{method}: {result}");
        }
        assert!(!answer.headers.contains_key("mcp-session-id"), "{method}");
    }
    let streamed = call(&hub, "slow", json!({ "count": 2, "ms": 1 })).meta("progressToken", json!(1)).send().await;
    assert!(streamed.is_stream() && streamed.events.iter().all(|event| event.id.is_none()), "{streamed:?}");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p34_f36_closing_the_stream_cancels_upstream() {
    let hub = hub();
    let slow = call(&hub, "slow", json!({ "count": 100_000, "ms": 5 })).meta("progressToken", json!("mine"));
    let mut stream = slow.stream().await;
    assert_eq!(stream.message().await.unwrap()["params"]["progressToken"], "mine");
    drop(stream);
    until_seen(&hub, "/m/mcp", |told| told["cancelled"].as_array().unwrap().len() == 1).await;
    // Also before anything was answered.
    let waiting = tokio::spawn(call(&hub, "hang", json!({})).id(json!(2)).build().send());
    until_seen(&hub, "/m/mcp", |told| told["inFlight"] == 1).await;
    waiting.abort();
    let told = until_seen(&hub, "/m/mcp", |told| told["cancelled"].as_array().unwrap().len() == 2).await;
    assert_eq!((&told["inFlight"], &told["complaints"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn p35_log_messages_come_only_where_asked_for() {
    let hub = hub();
    let (mut stream, _) = listen(&hub, "/m/mcp", json!({ "toolsListChanged": true })).await;
    let log = || call(&hub, "log", json!({ "level": "info", "text": "hello" }));
    let level = "io.modelcontextprotocol/logLevel";
    assert!(!log().send().await.is_stream());
    let asked = log().meta(level, json!("debug")).send().await;
    assert_eq!(asked.messages()[0]["params"]["data"], "hello");
    assert!(!log().meta(level, json!("error")).send().await.is_stream());
    assert_eq!(code(&log().meta(level, json!("loud")).send().await), (400, -32602));
    call(&hub, "change", json!({ "kind": "tools" })).send().await;
    assert_eq!(stream.message().await.unwrap()["method"], "notifications/tools/list_changed", "no log on a listen");
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p38_the_status_is_not_committed_before_the_first_event() {
    let hub = hub();
    for ms in [0, 1500] {
        let answer = call(&hub, "needs_sampling", json!({ "ms": ms })).send().await;
        assert_eq!(code(&answer), (400, -32021), "after {ms} ms");
        assert_eq!(answer.last()["error"]["data"]["requiredCapabilities"], json!({ "sampling": {} }));
        let able = call(&hub, "needs_sampling", json!({ "ms": ms })).capable(json!({ "sampling": {} }));
        assert_eq!(able.send().await.tool_text(), "ok", "declared for this request alone");
    }
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p46_retired_codes_are_not_seen_in_this_era() {
    let hub = hub();
    let gone = Request::new(&hub, "/m/mcp", "resources/read", json!({ "uri": "modern://gone" })).send().await;
    assert_eq!(gone.error().0, -32602);
    let failed = call(&hub, "fail", json!({ "code": -32002, "message": "gone" })).send().await;
    assert_eq!(failed.error(), (-32602, "gone".into()));
    let own = call(&hub, "fail", json!({ "code": 7, "message": "own" })).send().await;
    assert_eq!((own.error(), &own.last()["error"]["data"]), ((7, "own".into()), &json!({ "x": 1.5 })));
}

#[tokio::test]
async fn f44_f47_f48_what_disagrees_is_refused_before_the_server_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log").display().to_string();
    let hub = Hub::start_in(folder, &modern("m", &["--log", &log], ""));
    assert_eq!(call(&hub, "echo", json!({ "n": "good" })).send().await.status, 200);
    let bad = || call(&hub, "echo", json!({ "n": "bad" }));
    for (name, value) in [
        ("mcp-method", None),
        ("mcp-method", Some("tools/list")),
        ("mcp-name", Some("Echo")),
        ("mcp-name", Some("=?base64?***?=")),
        ("mcp-protocol-version", Some("2025-11-25")),
    ] {
        assert_eq!(code(&bad().header(name, value).send().await), (400, -32020), "{name}: {value:?}");
    }
    let mut later = bad();
    later.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2099-01-01".into();
    let answer = later.header("mcp-protocol-version", Some("2099-01-01")).send().await;
    assert_eq!((code(&answer), &answer.last()["error"]["data"]["supported"]), ((400, -32022), &json!([VERSION])));
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "tasks/list", "x/y"] {
        assert_eq!(code(&Request::new(&hub, "/m/mcp", method, json!({})).send().await), (404, -32601), "{method}");
    }
    for method in [reqwest::Method::GET, reqwest::Method::DELETE] {
        let request = http().request(method, hub.url("/m/mcp")).header("mcp-protocol-version", VERSION);
        let answer = self::answer(request.header("accept", "text/event-stream")).await;
        assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "POST"));
    }
    no_complaints(&hub, "/m/mcp").await;
    let log = file_until(log.as_ref(), |text| text.contains("seen")).await;
    assert!(log.contains("good") && !log.contains("bad"), "{log}");
}

#[tokio::test]
async fn p59_tasks_are_not_offered_and_not_there() {
    let hub = Hub::start(&modern("m", &["--tasks"], ""));
    let discovered = Request::new(&hub, "/m/mcp", "server/discover", json!({})).send().await.last()["result"].clone();
    assert!(!discovered["capabilities"].to_string().contains("tasks"), "{discovered}");
    let able = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    assert_eq!(call(&hub, "task", json!({})).capable(able.clone()).send().await.tool_text(), "ok");
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let request = Request::new(&hub, "/m/mcp", method, json!({ "taskId": "t1" })).capable(able.clone());
        assert_eq!(code(&request.header("mcp-name", Some("t1")).send().await), (404, -32601), "{method}");
    }
    no_complaints(&hub, "/m/mcp").await;
}
