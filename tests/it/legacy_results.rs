//! Results of a server of the newer era as clients with sessions see them (P46-P48).

use serde_json::{Value, json};

use super::{
    fixture::{Client, Hub, modern},
    request::no_complaints,
};

fn hub() -> Hub {
    Hub::start(&modern("m", &[], ""))
}

#[tokio::test]
async fn p47_nothing_of_the_newer_era_is_seen() {
    let hub = hub();
    let client = Client::open(&hub, "/m/mcp").await;
    for (method, params) in [
        ("tools/list", json!({})),
        ("prompts/list", json!({})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("resources/read", json!({ "uri": "modern://one" })),
        ("prompts/get", json!({ "name": "plain" })),
        ("tools/call", json!({ "name": "pid" })),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "plain" },
                                        "argument": { "name": "x", "value": "o" } }),
        ),
    ] {
        let answer = client.request(method, params).await.last();
        assert!(answer["result"].is_object(), "{method}: {answer}");
        for word in ["resultType", "ttlMs", "cacheScope", "subscriptionId"] {
            assert_eq!(answer["result"].get(word), None, "{method}: {answer}");
        }
    }
    assert!(!client.greeting.to_string().contains("supportedVersions"), "{}", client.greeting);
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn p48_what_is_no_object_is_wrapped_in_the_list_as_in_the_call() {
    let hub = hub();
    let client = Client::open(&hub, "/m/mcp").await;
    // Called before anybody saw a list.
    for (tool, arguments, plain, told) in [
        (
            "choice",
            json!({ "object": true }),
            json!({ "chosen": "object" }),
            json!({ "result": { "chosen": "object" } }),
        ),
        ("choice", json!({ "object": false }), json!("text"), json!({ "result": "text" })),
        ("numbers", json!({}), json!([1, 2, 3]), json!({ "result": [1, 2, 3] })),
        ("loose", json!({}), json!(7), json!({ "result": 7 })),
        ("record", json!({}), json!({ "n": 1 }), json!({ "n": 1 })),
    ] {
        let answer = client.call(tool, arguments).await;
        assert_eq!(answer.last()["result"]["structuredContent"], told, "{tool}");
        let text: Value = serde_json::from_str(&answer.tool_text()).unwrap();
        assert!(text == plain || text == told, "{tool}: a text that says the same: {text}");
    }
    let list = client.request("tools/list", json!({})).await.last()["result"]["tools"].clone();
    let schema = |name: &str| {
        let tool = list.as_array().unwrap().iter().find(|tool| tool["name"] == name).unwrap();
        tool["outputSchema"].clone()
    };
    for name in ["numbers", "choice"] {
        let schema = schema(name);
        assert_eq!((&schema["type"], &schema["required"]), (&json!("object"), &json!(["result"])), "{name}");
        assert!(schema["properties"]["result"].is_object(), "{name}: {schema}");
    }
    assert_eq!(schema("choice")["properties"]["result"]["anyOf"].as_array().unwrap().len(), 2);
    let numbers = schema("numbers");
    let reference = numbers["properties"]["result"]["items"]["$ref"].as_str().unwrap();
    let meant = numbers.pointer(reference.strip_prefix('#').unwrap());
    assert_eq!(meant, Some(&json!({ "type": "integer" })), "the reference leads where it led: {numbers}");
    assert_eq!(schema("record"), json!({ "type": "object", "properties": { "n": { "type": "integer" } } }));
    assert_eq!(schema("loose"), Value::Null);
    no_complaints(&hub, "/m/mcp").await;
}

#[tokio::test]
async fn results_of_an_unknown_kind_are_errors_and_errors_pass() {
    let hub = hub();
    let client = Client::open(&hub, "/m/mcp").await;
    let weird = client.call("weird", json!({})).await;
    assert_eq!((weird.status, weird.error().0), (200, -32603));
    let failed = client.call("fail", json!({ "code": 7, "message": "own" })).await;
    assert_eq!((failed.status, failed.error()), (200, (7, "own".into())));
    assert_eq!(failed.last()["error"]["data"], json!({ "x": 1.5 }));
    let needs = client.call("needs_sampling", json!({})).await;
    assert_eq!((needs.status, needs.error().0), (200, -32021));
    assert_eq!(needs.last()["error"]["data"]["requiredCapabilities"], json!({ "sampling": {} }));
    let gone = client.request("resources/read", json!({ "uri": "modern://gone" })).await;
    assert_eq!((gone.status, gone.error().0), (200, -32602));
}
