//! Questions of a server of the newer era to clients of the newer era: results that come back as retries.

use serde_json::{Value, json};

use super::{
    fixture::{Hub, answer, modern},
    request::{Request, no_complaints, seen},
};

fn hub() -> Hub {
    Hub::start(&modern("m", &[], ""))
}

fn call(hub: &Hub, tool: &str, arguments: Value) -> Request {
    Request::call(hub, "/m/mcp", tool, arguments)
}

fn ask(hub: &Hub, message: &str) -> Request {
    call(hub, "ask", json!({ "message": message })).capable(json!({ "elicitation": {} }))
}

#[tokio::test]
async fn a_question_passes_through_and_so_does_its_answer() {
    let hub = hub();
    let all = json!({ "elicitation": {}, "sampling": {}, "roots": {} });
    let request = call(&hub, "ask_many", json!({ "message": "?" })).capable(all);
    let asked = answer(request.build()).await.last()["result"].clone();
    assert_eq!(asked["resultType"], "input_required");
    let method = |key: &str| asked["inputRequests"][key]["method"].clone();
    assert_eq!([method("e"), method("s"), method("r")], ["elicitation/create", "sampling/createMessage", "roots/list"]);
    let answers = json!({
        "e": { "action": "accept", "content": { "name": "Ada" } },
        "s": { "role": "assistant", "model": "m", "content": { "type": "text", "text": "hi" } },
        "r": { "roots": [{ "uri": "file:///x" }] },
    });
    let done = request.retry(&asked, answers.clone()).send().await;
    let told: Value = serde_json::from_str(&done.tool_text()).unwrap();
    assert_eq!((&done.last()["id"], &told["answers"]), (&json!("retry"), &json!([answers])));
    // By URL, in two rounds, and of a prompt and a resource.
    let url = call(&hub, "ask_url", json!({})).capable(json!({ "elicitation": { "url": {} } }));
    let asked = url.send().await.last()["result"]["inputRequests"]["u"].clone();
    assert_eq!((&asked["params"]["mode"], asked["params"].get("elicitationId")), (&json!("url"), None));
    let rounds = call(&hub, "ask_rounds", json!({ "count": 2 })).capable(json!({ "elicitation": {} }));
    let first = answer(rounds.build()).await.last()["result"].clone();
    let second = rounds.retry(&first, json!({ "q": { "action": "cancel" } })).send().await.last()["result"].clone();
    let done = rounds.retry(&second, json!({ "q": { "action": "decline" } })).send().await;
    assert!(done.tool_text().contains(r#"[{"q":{"action":"cancel"}},{"q":{"action":"decline"}}]"#), "{done:?}");
    for (method, params) in
        [("prompts/get", json!({ "name": "asks" })), ("resources/read", json!({ "uri": "modern://asks" }))]
    {
        let request = Request::new(&hub, "/m/mcp", method, params).capable(json!({ "elicitation": {} }));
        let asked = answer(request.build()).await.last()["result"].clone();
        let done = request.retry(&asked, json!({ "q": { "action": "decline" } })).send().await;
        assert!(done.last()["result"].to_string().contains("decline"), "{method}: {done:?}");
    }
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p40_states_that_are_not_this_calls_own_never_reach_the_server() {
    let hub = Hub::start(&[modern("m", &[], ""), modern("n", &[], "")].concat());
    let request = ask(&hub, "one");
    let asked = answer(request.build()).await.last()["result"].clone();
    let state = asked["requestState"].as_str().unwrap();
    let answers = || json!({ "q": { "action": "decline" } });
    let changed = |state: String| {
        let mut asked = asked.clone();
        asked["requestState"] = state.into();
        asked
    };
    for forged in [format!("x{state}"), format!("{state}x"), state.to_lowercase(), String::new(), "1".into()] {
        assert_eq!(request.retry(&changed(forged.clone()), answers()).send().await.error().0, -32602, "{forged:?}");
    }
    assert_eq!(ask(&hub, "two").retry(&asked, answers()).send().await.error().0, -32602, "other arguments");
    let mut elsewhere = request.retry(&asked, answers());
    elsewhere.url = hub.url("/n/mcp");
    assert_eq!(elsewhere.send().await.error().0, -32602, "another upstream");
    let foreign = ask(&hub, "one").meta("io.modelcontextprotocol/clientInfo", json!({ "name": "x", "version": "1" }));
    assert_eq!(foreign.retry(&asked, answers()).send().await.error().0, -32602, "another client");
    for path in ["/m/mcp", "/n/mcp"] {
        no_complaints(&hub, path).await;
    }
    assert_eq!(seen(&hub, "/m/mcp").await["pending"], 1, "the server still waits");
    assert_eq!(request.retry(&asked, answers()).send().await.last()["result"]["resultType"], "complete");
    assert_eq!(request.retry(&asked, answers()).send().await.error().0, -32602, "replayed");
}

#[tokio::test]
async fn p43_only_calls_gets_and_reads_can_require_input() {
    let hub = hub();
    let params =
        json!({ "ref": { "type": "ref/prompt", "name": "asks" }, "argument": { "name": "topic", "value": "ask" } });
    let request = Request::new(&hub, "/m/mcp", "completion/complete", params).capable(json!({ "elicitation": {} }));
    let answer = request.send().await;
    assert_eq!(answer.error().0, -32603, "the server may not ask here: {answer:?}");
}
