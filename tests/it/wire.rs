//! Messages on the wire: what passes unchanged, and what is refused.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fixture::{Answer, Client, Hub, SseClient, answer, echo, file_until, http, initialize, rogue};

const SHARED: &str = "isolation = 'shared'";

/// What parsers that build a tree would lose: spaces, escapes, a repeated key, numbers beyond `f64`.
const ODD: &str = r#"{ "zeta":1,"name":"echo","arguments":{"text":"caf\u00e9 \ud83d\ude00 \/","n":1.10,"e":1E+2,"minus":-0,"big":123456789012345678901234567890,"x":1,"x":2},"_meta":{"example.com/trace":"a\tb","x":[[[]],null]},"":{} }"#;

/// Posts a text as it stands.
async fn post_text(client: &Client, accept: &str, text: &str) -> Answer {
    let post = client.http.post(&client.url).header("content-type", "application/json").header("accept", accept);
    answer(post.header("mcp-session-id", &client.session).body(text.to_owned())).await
}

async fn post(client: &Client, text: &str) -> Answer {
    post_text(client, "application/json, text/event-stream", text).await
}

/// A hub whose upstream `a` writes down what it hears.
fn hub(keys: &str) -> (Hub, std::path::PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    (Hub::start(&rogue("a", &["--log", log.to_str().unwrap()], keys)), log, folder)
}

#[tokio::test]
async fn p5_a_request_reaches_the_process_as_it_was_written() {
    for keys in ["", SHARED, "isolation = 'call'"] {
        let (hub, log, _folder) = hub(keys);
        for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
            let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
            let text = format!(
                r#"{{"extra": {{"a":[1.0]}}, "params":{ODD} ,"id":"{revision}","method":"tools\/call","jsonrpc":"2.0"}}"#
            );
            let answer = post(&client, &text).await;
            assert_eq!((answer.last()["id"].as_str(), answer.tool_text().as_str()), (Some(revision), "café 😀 /"));
        }
        let text = std::fs::read_to_string(&log).unwrap();
        let calls: Vec<&str> = text.lines().filter(|line| line.contains("zeta")).collect();
        assert_eq!(calls.len(), 3);
        for call in calls {
            let (start, rest) = call.split_once(ODD).expect("the params, to the byte");
            assert_eq!(start, r#"{"extra": {"a":[1.0]}, "params":"#);
            let id = rest.strip_prefix(r#" ,"id":"#).unwrap().split(',').next().unwrap();
            assert!(id.parse::<u64>().is_ok(), "the id is the hub's own: {id}");
        }
    }
}

#[tokio::test]
async fn p5_a_result_reaches_the_client_as_it_was_written() {
    let hub = Hub::start(&rogue("a", &[], ""));
    // As the rogue writes it; see UNKNOWN_FIELDS there.
    let written = r#"{ "zeta":1,"content":[{"text":"caf\u00e9 \ud83d\ude00 \/","type":"text","x-colour":"red","annotations":{"audience":["nobody"],"x":null}},{"type":"x-unheard-of","payload":{"deep":[[[]]]}}],"_meta":{"example.com/trace":"a\tb","big":123456789012345678901234567890,"exact":1.10,"exp":1E+2,"minus":-0},"alpha":{},"x":1,"x":2,"isError":false }"#;
    let expected = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{written}}}"#);
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"unknown_fields"}}"#;
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        assert_eq!(post_text(&client, "application/json", call).await.text, expected);
        let events = post_text(&client, "text/event-stream", call).await.events;
        assert_eq!(events.last().unwrap().data, expected, "{revision}");
    }
    let mut older = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    older.send(&serde_json::from_str(call).unwrap()).await;
    assert_eq!(older.stream.next().await.unwrap().data, expected);
}

#[tokio::test]
async fn p5_questions_and_notifications_pass_as_they_were_written() {
    let (hub, log, _folder) = hub("");
    let client = Client::open_as(&hub, "/a/mcp", "2025-11-25", json!({ "elicitation": {} })).await;
    let params = r#"{"message":"q","requestedSchema":{"type":"object","x-odd":1.10},"x":1,"x":2}"#;
    let question =
        format!(r#"{{"x":[1E+2],"jsonrpc":"2.0","id":"q-1","method":"elicitation/create","params":{params}}}"#);
    let note =
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"\u00e9","x":-0}}"#;
    for line in [question.as_str(), note] {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "raw", "arguments": { "line": line } } });
        let events = post(&client, &call.to_string()).await.events;
        let heard = events.into_iter().find(|event| !event.data.is_empty()).unwrap().data;
        let given = heard.split(r#""id":"#).nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
        assert_eq!(heard.replace(&format!(r#""id":{given}"#), r#""id":"q-1""#), line, "but for the id");
    }
    // A notification of the client nobody knows passes to its own process.
    let odd = r#"{"params":{"x":1.10,"x":2} , "jsonrpc":"2.0","method":"notifications/x-odd"}"#;
    assert_eq!(post(&client, odd).await.status, 202);
    file_until(&log, |log| log.lines().any(|line| line == odd)).await;
}

#[tokio::test]
async fn a_body_on_many_lines_reaches_the_process_on_one() {
    let (hub, log, _folder) = hub("");
    let client = Client::open(&hub, "/a/mcp").await;
    let pretty = "\r\n {\n\t\"jsonrpc\" : \"2.0\",\r\n\"id\":\n1, \"method\":\"tools/call\",\r\n\"params\":{\n\"name\":\"echo\",\n\"arguments\":{\"text\":\"a\\nb\\r\"}}}\n\n";
    assert_eq!(post(&client, pretty).await.tool_text(), "a\nb\r");
    let text = file_until(&log, |log| log.contains("tools/call")).await;
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    }
}

#[tokio::test]
async fn p6_an_id_comes_back_as_it_was_sent() {
    let hub = Hub::start(&rogue("a", &[], SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let long = format!("\"{}\"", "x".repeat(1000));
    let ids = [
        "1",
        "\"1\"",
        "0",
        "-1",
        "9007199254740993",
        "18446744073709551616",
        "-9223372036854775809",
        "\"\"",
        "\"a b\"",
        "\"é\"",
        "\"null\"",
        "\"9007199254740993\"",
        &long,
    ];
    let calls = ids.map(|id| {
        let (client, id) = (client.clone(), id.to_owned());
        // All at once: whoever mixes them up answers some twice.
        tokio::spawn(async move {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":{}}}}}}}"#, json!(id));
            (id, post(&client, &text).await)
        })
    });
    for call in calls {
        let (id, answer) = call.await.unwrap();
        assert_eq!(answer.tool_text(), id);
        assert!(answer.text.contains(&format!("\"id\":{id},")), "{}", answer.text);
        let ping = post(&client, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)).await;
        assert_eq!(ping.text, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
    for token in ["1", "\"1\"", "9007199254740993", "\"\"", "-1"] {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"_meta":{{"progressToken":{token}}},"name":"progress","arguments":{{"count":1}}}}}}"#
        );
        let events = post(&client, &text).await.events;
        let said = events.iter().find(|event| event.data.contains("notifications/progress")).unwrap();
        assert!(said.data.contains(&format!("\"progressToken\":{token}")), "{said:?}");
    }
}

#[tokio::test]
async fn p16_f45_batches_are_answered_where_the_revision_has_them() {
    let (hub, log, _folder) = hub("");
    let client = Client::open_as(&hub, "/a/mcp", "2025-03-26", json!({})).await;
    let echo = |id: Value, text: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "echo", "arguments": { "text": text } } });
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/x-batched" });
    // Requests, one of which fails, and a notification among them.
    let mixed = json!([echo(json!(1), "one"), note, echo(json!("1"), "two"), { "jsonrpc": "2.0", "id": 3, "method": "no/such" },
                       { "jsonrpc": "2.0", "id": 4, "method": "ping" }]);
    let answer = client.send(&mixed).await;
    let mut all: Vec<Value> = match answer.is_stream() {
        true => answer.messages(),
        false => serde_json::from_str(&answer.text).unwrap(),
    };
    all.sort_by_key(|message| message["id"].to_string());
    assert_eq!(
        all.iter().map(|message| message["id"].clone()).collect::<Vec<_>>(),
        [json!("1"), json!(1), json!(3), json!(4)]
    );
    assert_eq!(all[0]["result"]["content"][0]["text"], "two");
    assert_eq!(all[1]["result"]["content"][0]["text"], "one");
    assert_eq!(all[2]["error"]["code"], -32601);
    file_until(&log, |log| log.contains("notifications/x-batched")).await;
    // One request in an array is answered by an array.
    let one = client.send(&json!([echo(json!(1), "one")])).await;
    assert_eq!(serde_json::from_str::<Value>(&one.text).unwrap().as_array().unwrap().len(), 1);
    // Nothing to answer.
    let response = json!({ "jsonrpc": "2.0", "id": 99, "result": {} });
    for silent in [json!([note]), json!([note, note]), json!([response, response])] {
        let accepted = client.send(&silent).await;
        assert_eq!((accepted.status, accepted.text.as_str()), (202, ""), "{silent}");
    }
    let hello = initialize("2025-03-26", json!({}));
    let refused = [
        json!([]),
        json!([hello]),
        json!([note, hello, note]),
        json!([1]),
        json!([[note]]),
        json!([note, {}]),
        Value::Array(vec![note.clone(); 10_000]),
    ];
    for body in refused {
        let refused = client.send(&body).await;
        assert_eq!(
            (refused.status, refused.error().0),
            (400, -32600),
            "{}",
            body.to_string().chars().take(100).collect::<String>()
        );
    }
    for revision in ["2024-11-05", "2025-06-18", "2025-11-25"] {
        let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        for body in [json!([echo(json!(1), "x")]), json!([note]), json!([])] {
            let refused = client.send(&body).await;
            assert_eq!((refused.status, refused.error().0), (400, -32600), "{revision}");
        }
    }
    let unopened = answer_of(&hub, &json!([hello]).to_string()).await;
    assert_eq!(unopened.status, 400);
    assert!(!unopened.headers.contains_key("mcp-session-id"));
}

/// Posts a text without a session.
async fn answer_of(hub: &Hub, text: &str) -> Answer {
    answer(http().post(hub.url("/a/mcp")).header("content-type", "application/json").body(text.to_owned())).await
}

#[tokio::test]
async fn f39_to_f43_what_is_no_message_is_refused() {
    let (hub, log, _folder) = hub("");
    let client = Client::open(&hub, "/a/mcp").await;
    let with = |member: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","mark":"bad",{member}}}"#);
    let deep = |open: &str, close: &str, n: usize| {
        with(&format!("\"params\":{{\"x\":{}1{}}}", open.repeat(n), close.repeat(n)))
    };
    let texts = [
        // F39, F40
        (deep("[", "]", 100_000), -32700),
        (deep("{\"a\":", "}", 100_000), -32700),
        (deep("[", "]", 200), -32700),
        ("[".repeat(4_000_000), -32700),
        ("{\"a\":".repeat(600_000), -32700),
        (with(r#""params":{"x":1e400}"#), -32700),
        (with(&format!(r#""params":{{"x":{}}}"#, "9".repeat(400))), -32700),
        // F41
        (String::new(), -32700),
        (with("\"a\":1").replace('}', ""), -32700),
        (format!("{} {{}}", with("\"a\":1")), -32700),
        (format!("\u{feff}{}", with("\"a\":1")), -32700),
        (with(r#""a":"\ud800""#), -32700),
        (with("\"a\":\"\n\""), -32700),
        (with("\"a\":NaN"), -32700),
        (with("\"a\":01"), -32700),
        (with("\"a\":1,"), -32700),
        (with("'a':1"), -32700),
        // F42
        ("1".into(), -32600),
        ("\"ping\"".into(), -32600),
        ("null".into(), -32600),
        (r#"{"id":1,"method":"ping"}"#.into(), -32600),
        (r#"{"jsonrpc":"2.1","id":1,"method":"ping"}"#.into(), -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.into(), -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#.into(), -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#.into(), -32600),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#.into(), -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#.into(), -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}"#.into(), -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#.into(), -32600),
        (r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#.into(), -32600),
        // F43
        (with("\"id\":2"), -32600),
        (with("\"method\":\"tools/list\""), -32600),
        (r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#.into(), -32600),
    ];
    for (text, code) in texts {
        let began = Instant::now();
        let refused = post(&client, &text).await;
        let what: String = text.chars().take(80).collect();
        assert_eq!((refused.status, refused.error().0), (400, code), "{what}");
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
    }
    let bytes: [&[u8]; 3] = [b"\xff\xfe{\0}\0", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\xffng\"}", b"\0"];
    for bytes in bytes {
        let post = client.http.post(&client.url).header("content-type", "application/json");
        let refused = answer(post.header("mcp-session-id", &client.session).body(bytes)).await;
        assert_eq!((refused.status, refused.error().0), (400, -32700), "{bytes:?}");
    }
    // Look-alikes of a name are members like any other, and pass.
    let alike = r#"{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/list","Id":2,"ıd":3,"iſ":4}"#;
    assert_eq!(post(&client, alike).await.text, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let many: String = (0..200_000).map(|n| format!("\"k{n}\":{n},")).collect();
    let many = with(&format!(r#""params":{{{many}"z":0}}"#));
    assert_eq!(post(&client, &many).await.status, 200);
    client.call("echo", json!({ "text": "x" })).await;
    assert!(!std::fs::read_to_string(&log).unwrap().contains("bad"), "nothing of it reached the process");
}

#[tokio::test]
async fn f38_f46_f64_only_plain_json_of_a_bearable_size_is_read() {
    let hub = Hub::start(&format!("[hub.limits]\nbody_bytes_max = '64 KiB'\n{}", echo("a", SHARED)));
    let client = Client::open(&hub, "/a/mcp").await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let with = async |headers: &[(&str, &str)]| {
        let mut post = client.http.post(&client.url).header("mcp-session-id", &client.session);
        for (name, value) in headers {
            post = post.header(*name, *value);
        }
        answer(post.body(ping)).await
    };
    for kind in [
        "text/plain",
        "text/plain;charset=utf-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=latin1",
        "application/jsonp",
        "application/*",
        "json",
        "",
    ] {
        let refused = with(&[("content-type", kind)]).await;
        assert_eq!((refused.status, refused.error().0), (415, -32600), "{kind}");
    }
    assert_eq!(with(&[]).await.status, 415, "no type at all");
    for kind in [
        "application/json",
        "application/json; charset=UTF-8",
        "APPLICATION/JSON;charset=\"utf-8\"",
        "application/json; x=y",
    ] {
        assert_eq!(with(&[("content-type", kind)]).await.status, 200, "{kind}");
    }
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, identity", "x"] {
        assert_eq!(
            with(&[("content-type", "application/json"), ("content-encoding", coding)]).await.status,
            415,
            "{coding}"
        );
    }
    assert_eq!(with(&[("content-type", "application/json"), ("accept", "text/html")]).await.status, 406);
    assert_eq!(
        client
            .http
            .get(&client.url)
            .header("mcp-session-id", &client.session)
            .header("accept", "application/json")
            .send()
            .await
            .unwrap()
            .status(),
        406
    );
    // F44: headers of later revisions mean nothing here.
    let later = with(&[
        ("content-type", "application/json"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?!!?="),
        ("mcp-param-x", "1"),
    ]);
    assert_eq!(later.await.status, 200);
    let sized = |bytes: usize| {
        let frame = r#"{"jsonrpc":"2.0","id":1,"method":"ping","x":""}"#.len();
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","x":"{}"}}"#, "x".repeat(bytes - frame))
    };
    assert_eq!(post(&client, &sized(64 * 1024)).await.status, 200, "the largest");
    let refused = post(&client, &sized(64 * 1024 + 1)).await;
    assert_eq!((refused.status, refused.error().0), (413, -32600));
}
