//! The newer era: requests of 2026-07-28, each alone, before servers that know nothing of it.

use serde_json::{Value, json};

use super::{
    fixture::{Answer, Hub, PATIENCE, answer, file_until, http, rogue},
    request::{Request, VERSION, code},
};

fn hub() -> Hub {
    Hub::start(&rogue("r", &[], ""))
}

#[tokio::test]
async fn p25_the_envelope_is_needed_and_the_clients_name_is_not() {
    let hub = hub();
    let list = || Request::new(&hub, "/r/mcp", "tools/list", json!({}));
    assert_eq!(list().send().await.status, 200);
    let without = |key: &str| {
        let mut request = list();
        request.body["params"]["_meta"].as_object_mut().unwrap().remove(key);
        request
    };
    assert_eq!(without("io.modelcontextprotocol/clientInfo").send().await.status, 200);
    for key in ["io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"] {
        assert_eq!(code(&without(key).send().await), (400, -32602), "{key}");
    }
    let mut bare = list();
    bare.body.as_object_mut().unwrap().remove("params");
    assert_eq!(code(&bare.send().await), (400, -32602));
}

#[tokio::test]
async fn p26_p27_f44_headers_must_say_what_the_body_says() {
    let hub = hub();
    let call = || Request::call(&hub, "/r/mcp", "echo", json!({ "text": "hi" }));
    assert_eq!(call().send().await.tool_text(), "hi");
    assert_eq!(call().header("mcp-name", Some("  echo ")).send().await.tool_text(), "hi", "padding is no difference");
    assert_eq!(call().header("mcp-name", Some("=?base64?ZWNobw==?=")).send().await.tool_text(), "hi");
    let wrong = [
        ("mcp-method", None),
        ("mcp-method", Some("tools/list")),
        ("mcp-method", Some("Tools/Call")),
        ("mcp-name", None),
        ("mcp-name", Some("Echo")),
        ("mcp-name", Some("=?base64?***?=")),
        ("mcp-name", Some("=?BASE64?ZWNobw==?=")),
        ("mcp-protocol-version", None),
        ("mcp-protocol-version", Some("2025-11-25")),
    ];
    for (name, value) in wrong {
        let answer = call().header(name, value).send().await;
        assert_eq!(code(&answer), (400, -32020), "{name}: {value:?}");
        assert_eq!(answer.last()["id"], 1);
    }
}

#[tokio::test]
async fn p29_p30_unknown_versions_and_methods_are_named() {
    let hub = hub();
    let mut later = Request::new(&hub, "/r/mcp", "tools/list", json!({}));
    later.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2099-01-01".into();
    let answer = later.header("mcp-protocol-version", Some("2099-01-01")).send().await;
    assert_eq!(code(&answer), (400, -32022));
    assert_eq!(answer.last()["error"]["data"], json!({ "supported": [VERSION], "requested": "2099-01-01" }));
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "x/y"] {
        let answer = Request::new(&hub, "/r/mcp", method, json!({})).id(json!("own")).send().await;
        assert_eq!(code(&answer), (404, -32601), "{method}");
        assert_eq!(answer.last()["id"], "own");
    }
}

#[tokio::test]
async fn p31_p32_p33_discover_and_results_are_of_this_era() {
    let hub = hub();
    let answer =
        Request::new(&hub, "/r/mcp", "server/discover", json!({})).header("mcp-session-id", Some("x")).send().await;
    let result = &answer.last()["result"];
    assert_eq!(
        (answer.status, &result["resultType"], &result["supportedVersions"]),
        (200, &json!("complete"), &json!([VERSION]))
    );
    assert!(result["capabilities"]["tools"].is_object() && result["capabilities"].get("tasks").is_none());
    assert!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].is_string());
    assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string());
    assert!(!answer.headers.contains_key("mcp-session-id"), "P33");
    for (method, params) in [("tools/list", json!({})), ("resources/list", json!({})), ("prompts/list", json!({}))] {
        let result = Request::new(&hub, "/r/mcp", method, params).send().await.last()["result"].clone();
        assert_eq!(
            (&result["resultType"], &result["ttlMs"], &result["cacheScope"]),
            (&json!("complete"), &json!(0), &json!("private"))
        );
    }
    let call = Request::call(&hub, "/r/mcp", "echo", json!({ "text": "x" })).send().await.last()["result"].clone();
    assert_eq!((&call["resultType"], call.get("ttlMs")), (&json!("complete"), None));
}

#[tokio::test]
async fn p34_f36_closing_the_stream_cancels_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&rogue("r", &["--log", log.to_str().unwrap()], ""));
    let progress = Request::call(&hub, "/r/mcp", "progress", json!({ "count": 10_000, "ms": 5 }));
    let mut stream = progress.meta("progressToken", json!("mine")).stream().await;
    assert_eq!(stream.message().await.unwrap()["params"]["progressToken"], "mine");
    drop(stream);
    file_until(&log, |text| text.contains("notifications/cancelled")).await;
    // Also before anything was answered.
    let sleeping = Request::call(&hub, "/r/mcp", "sleep", json!({ "ms": 60_000 })).id(json!(2));
    let waiting = tokio::spawn(sleeping.build().send());
    file_until(&log, |text| text.contains("60000")).await;
    waiting.abort();
    file_until(&log, |text| text.matches("notifications/cancelled").count() == 2).await;
}

#[tokio::test]
async fn p35_log_messages_come_only_where_asked_for() {
    let hub = hub();
    let call = || Request::call(&hub, "/r/mcp", "log", json!({ "level": "info", "text": "hello" }));
    assert!(!call().send().await.is_stream());
    let asked = call().meta("io.modelcontextprotocol/logLevel", json!("debug")).send().await;
    assert_eq!(asked.messages()[0]["params"]["data"], "hello");
    let severe = call().meta("io.modelcontextprotocol/logLevel", json!("error")).send().await;
    assert!(!severe.is_stream());
    let unknown = call().meta("io.modelcontextprotocol/logLevel", json!("loud")).send().await;
    assert_eq!(code(&unknown), (400, -32602));
}

#[tokio::test]
async fn p36_listen_is_acknowledged_tagged_and_ended_with_a_result() {
    for isolation in ["isolation = 'session'", "isolation = 'shared'"] {
        let mut hub = Hub::start(&rogue("r", &[], isolation));
        let wanted = json!({ "notifications": { "toolsListChanged": true, "resourceSubscriptions": ["rogue://one"] } });
        let mut stream = Request::new(&hub, "/r/mcp", "subscriptions/listen", wanted).id(json!("sub")).stream().await;
        let tag = |message: &Value| message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
        let first = stream.message().await.unwrap();
        assert_eq!((&first["method"], tag(&first)), (&json!("notifications/subscriptions/acknowledged"), json!("sub")));
        assert_eq!(first["params"]["notifications"]["toolsListChanged"], true);
        Request::call(&hub, "/r/mcp", "list_changed", json!({ "count": 3 })).send().await;
        let second = stream.message().await.unwrap();
        assert_eq!((&second["method"], tag(&second)), (&json!("notifications/tools/list_changed"), json!("sub")));
        if first["params"]["notifications"]["resourceSubscriptions"].is_array() {
            Request::call(&hub, "/r/mcp", "updated", json!({ "uri": "rogue://one" })).send().await;
            loop {
                let next = stream.message().await.unwrap();
                assert_eq!(tag(&next), "sub");
                if next["method"] == "notifications/resources/updated" {
                    break;
                }
            }
        }
        hub.signal("TERM");
        let last = loop {
            let next = stream.message().await.expect("a result ends the stream");
            if next.get("result").is_some() {
                break next;
            }
        };
        assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("sub"), &json!("complete")));
        assert!(hub.ended().success());
    }
}

#[tokio::test]
async fn p39_a_question_becomes_input_required_and_its_answer_a_retry() {
    let hub = hub();
    let cases = [
        (
            "ask_elicitation",
            json!({ "message": "?" }),
            json!({ "elicitation": {} }),
            json!({ "action": "accept", "content": { "a": 1 } }),
        ),
        (
            "ask_sampling",
            json!({ "prompt": "?" }),
            json!({ "sampling": {} }),
            json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "hi" } }),
        ),
        ("ask_roots", json!({}), json!({ "roots": {} }), json!({ "roots": [{ "uri": "file:///x" }] })),
    ];
    for (tool, arguments, capabilities, result) in cases {
        let request = Request::call(&hub, "/r/mcp", tool, arguments).capable(capabilities);
        let asked = answer(request.build()).await.last()["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{tool}: {asked}");
        let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
        let answers = json!({ key: result, "extra": {} });
        let done = request.retry(&asked, answers).send().await;
        assert_eq!(done.last()["id"], "retry");
        assert_eq!(done.last()["result"]["resultType"], "complete");
        let told: Value = serde_json::from_str(&done.tool_text()).unwrap();
        assert!(told.to_string().contains(&result.to_string()) || told["result"] == result, "{tool}: {told}");
    }
}

#[tokio::test]
async fn p40_states_that_are_not_this_calls_own_are_refused() {
    let hub = hub();
    let ask = |message: &str| {
        Request::call(&hub, "/r/mcp", "ask_elicitation", json!({ "message": message }))
            .capable(json!({ "elicitation": {} }))
    };
    let request = ask("one");
    let asked = answer(request.build()).await.last()["result"].clone();
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let answers = json!({ key: { "action": "decline" } });
    let mut forged = asked.clone();
    forged["requestState"] = format!("x{}", asked["requestState"].as_str().unwrap()).into();
    assert_eq!(request.retry(&forged, answers.clone()).send().await.error().0, -32602, "forged");
    assert_eq!(ask("two").retry(&asked, answers.clone()).send().await.error().0, -32602, "other arguments");
    let foreign = ask("one").meta("io.modelcontextprotocol/clientInfo", json!({ "name": "other", "version": "1" }));
    assert_eq!(foreign.retry(&asked, answers.clone()).send().await.error().0, -32602, "another client");
    assert_eq!(request.retry(&asked, answers.clone()).send().await.last()["result"]["resultType"], "complete");
    assert_eq!(request.retry(&asked, answers).send().await.error().0, -32602, "replayed");
}

#[tokio::test]
async fn p41_missing_answers_are_asked_for_again() {
    let hub = hub();
    let request = Request::call(&hub, "/r/mcp", "ask_elicitation", json!({ "message": "?" }))
        .capable(json!({ "elicitation": {} }));
    let asked = answer(request.build()).await.last()["result"].clone();
    let again = request.retry(&asked, json!({ "unknown": {} })).send().await.last()["result"].clone();
    assert_eq!(again["resultType"], "input_required");
    assert_eq!(again["inputRequests"], asked["inputRequests"], "the same keys");
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let done = request.retry(&again, json!({ key: { "action": "cancel" } })).send().await;
    assert_eq!(done.last()["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_call_that_ends_while_its_client_thinks_is_told_at_the_retry() {
    let hub = hub();
    let able = json!({ "elicitation": {} });
    let ask = Request::call(&hub, "/r/mcp", "ask_elicitation", json!({ "message": "?" })).capable(able.clone());
    let asked = answer(ask.build()).await.last()["result"].clone();
    let crash = Request::call(&hub, "/r/mcp", "crash", json!({ "code": 3 })).capable(able).send().await;
    assert_eq!(crash.error().0, -32603);
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let (code, why) = ask.retry(&asked, json!({ key: { "action": "cancel" } })).send().await.error();
    assert!(code == -32603 && why.contains("exited with code 3"), "{code} {why}");
}

#[tokio::test]
async fn a_question_that_is_taken_back_does_not_end_its_call() {
    let hub = hub();
    let able = json!({ "elicitation": {} });
    let call = |tool, arguments| Request::call(&hub, "/r/mcp", tool, arguments).capable(able.clone());
    let ask = call("ask_elicitation", json!({ "message": "?" }));
    let asked = answer(ask.build()).await.last()["result"].clone();
    // The rogue counts its questions from 0.
    let line = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 0 } });
    assert_eq!(call("raw", json!({ "line": line.to_string() })).send().await.tool_text(), "ok");
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let mut retry = Box::pin(ask.retry(&asked, json!({ key: { "action": "accept" } })).send());
    // It waits with the call, which still goes on; each look leaves the retry its turn.
    for _ in 0..3 {
        let cancels = call("received_cancels", json!({})).send();
        tokio::select! {
            early = &mut retry => panic!("the call has not ended: {early:?}"),
            cancels = cancels => assert_eq!(cancels.tool_text(), "[]"),
        }
    }
}

#[tokio::test]
async fn a_parked_call_is_not_cancelled_by_the_end_of_its_request() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&rogue("r", &["--log", log.to_str().unwrap()], ""));
    let ask = Request::call(&hub, "/r/mcp", "ask_elicitation", json!({ "message": "?" }))
        .capable(json!({ "elicitation": {} }));
    let asked = answer(ask.build()).await.last()["result"].clone();
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    // Something else passes through the same process, so that a cancellation would have been logged before.
    let other =
        Request::call(&hub, "/r/mcp", "echo", json!({ "text": "marker" })).capable(json!({ "elicitation": {} }));
    other.send().await;
    let log = file_until(&log, |text| text.contains("marker")).await;
    assert!(!log.contains("notifications/cancelled"), "{log}");
    let done = ask.retry(&asked, json!({ key: { "action": "decline" } })).send().await;
    assert_eq!(done.last()["result"]["resultType"], "complete");
}

#[tokio::test]
async fn p41_a_duplicate_retry_joins_the_same_wait() {
    let hub = hub();
    // Two questions in sequence: the second retry answers the first and then waits for what comes next.
    let ask = Request::call(&hub, "/r/mcp", "ask_elicitation", json!({ "message": "?" }))
        .capable(json!({ "elicitation": {} }));
    let asked = answer(ask.build()).await.last()["result"].clone();
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let answers = json!({ key: { "action": "accept", "content": { "n": 1 } } });
    let (one, two) = tokio::join!(ask.retry(&asked, answers.clone()).send(), ask.retry(&asked, answers).send());
    let complete = |answer: &Answer| answer.last()["result"]["resultType"] == "complete";
    assert!(complete(&one) || complete(&two), "{one:?} {two:?}");
    // The other one joined in time, or came after the end and was refused; it never answered twice.
    let refused = |answer: &Answer| answer.last()["error"]["code"] == -32602;
    assert!([&one, &two].into_iter().all(|answer| complete(answer) || refused(answer)), "{one:?} {two:?}");
}

#[tokio::test]
async fn p42_a_question_beyond_the_declared_capabilities_is_not_asked() {
    let hub = hub();
    let answer = Request::call(&hub, "/r/mcp", "ask_sampling", json!({ "prompt": "?" }))
        .capable(json!({ "elicitation": {} }))
        .send()
        .await;
    assert_ne!(answer.last()["result"]["resultType"], "input_required", "{answer:?}");
    assert!(answer.last().to_string().contains("sampling"), "{answer:?}");
}

#[tokio::test]
async fn p43_only_calls_gets_and_reads_can_require_input() {
    let hub = hub();
    for method in ["tools/list", "resources/list", "prompts/list"] {
        let answer = Request::new(&hub, "/r/mcp", method, json!({})).capable(json!({ "elicitation": {} })).send().await;
        assert_eq!(answer.last()["result"]["resultType"], "complete", "{method}");
    }
}

#[tokio::test]
async fn one_client_keeps_its_process_and_another_has_its_own() {
    let hub = hub();
    let pid = async |name: &str| {
        let call = Request::call(&hub, "/r/mcp", "pid", json!({}));
        call.meta("io.modelcontextprotocol/clientInfo", json!({ "name": name, "version": "1" }))
            .send()
            .await
            .tool_text()
    };
    let (one, again, two) = (pid("one").await, pid("one").await, pid("two").await);
    assert_eq!(one, again);
    assert_ne!(one, two);
}

#[tokio::test]
async fn an_unused_process_goes_after_idle_timeout() {
    let hub = Hub::start(&rogue("r", &[], "idle_timeout = '1s'"));
    Request::call(&hub, "/r/mcp", "pid", json!({})).send().await;
    hub.until_upstream("r", |upstream| upstream["pids"].as_array().is_some_and(Vec::is_empty)).await;
    assert_eq!(Request::call(&hub, "/r/mcp", "echo", json!({ "text": "again" })).send().await.tool_text(), "again");
}

#[tokio::test]
async fn f48_get_and_delete_with_the_newer_version_are_405() {
    let hub = hub();
    for method in [reqwest::Method::GET, reqwest::Method::DELETE] {
        let request = http().request(method, hub.url("/r/mcp")).header("mcp-protocol-version", VERSION);
        let answer = answer(request.header("accept", "text/event-stream")).await;
        assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "POST"));
    }
}

#[tokio::test]
async fn a_dead_process_is_replaced_under_a_listener() {
    let hub = Hub::start(&rogue("r", &[], "isolation = 'shared'"));
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let mut stream = Request::new(&hub, "/r/mcp", "subscriptions/listen", wanted).stream().await;
    assert_eq!(stream.message().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
    Request::call(&hub, "/r/mcp", "crash", json!({ "code": 3 })).send().await;
    let notice = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap();
    assert_eq!(notice["method"], "notifications/tools/list_changed", "changes may have been missed");
    Request::call(&hub, "/r/mcp", "list_changed", json!({ "count": 1 })).send().await;
    assert_eq!(stream.message().await.unwrap()["method"], "notifications/tools/list_changed");
}
