//! HTTP+SSE of 2024-11-05: one stream that is the session, and POSTs beside it.

use serde_json::{Value, json};

use super::fixture::{Hub, SseClient, alive, answer, echo, file_until, http, initialize, post, rogue};

fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": "tools/call",
            "params": { "name": tool, "arguments": arguments, "_meta": { "progressToken": "t" } } })
}

/// Posts, and reads the next message.
async fn ask(client: &mut SseClient, body: Value) -> Value {
    assert_eq!(client.send(&body).await, 202, "{body}");
    client.stream.message().await.unwrap()
}

#[tokio::test]
async fn p23_the_first_event_names_the_path_for_posts_as_it_is_seen_from_outside() {
    let toml = format!("[hub]\nprefixes = ['/', '/x']\ndefault = 'a'\n{}", echo("a", ""));
    let hub = Hub::start(&toml);
    for base in ["/a", "/x/a", ""] {
        let stream = SseClient::open(&hub, &format!("{base}/sse")).await;
        let start = hub.url(&format!("{base}/message?sessionId="));
        assert!(stream.endpoint.starts_with(&start), "{base}: {}", stream.endpoint);
        assert_eq!(stream.stream.headers["content-type"], "text/event-stream");
        assert_eq!(stream.stream.headers["cache-control"], "no-cache, no-transform");
        assert_eq!(stream.stream.headers["x-accel-buffering"], "no");
    }
    // Behind a proxy that strips its own prefix, that prefix is part of the path all the same.
    let public = Hub::start(&format!("[hub]\npublic_url = 'https://mcp.example.com/hub/'\n{}", echo("a", "")));
    let get = http().get(public.url("/a/sse")).header("accept", "text/event-stream");
    let mut stream = super::fixture::Stream::of(get.send().await.unwrap());
    let first = stream.next().await.unwrap();
    assert_eq!(first.event.as_deref(), Some("endpoint"));
    assert!(first.data.starts_with("/hub/a/message?sessionId="), "{first:?}");
}

#[tokio::test]
async fn p23_a_post_is_accepted_and_answered_on_the_stream() {
    let hub = Hub::start(&rogue("a", &[], ""));
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = SseClient::open(&hub, "/a/sse").await;
        let greeting = ask(&mut client, initialize(revision, json!({ "elicitation": {} }))).await;
        assert_eq!((&greeting["id"], &greeting["result"]["protocolVersion"]), (&json!(0), &json!(revision)));
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let accepted = post(&client.http, &client.endpoint, &[], &ready).await;
        assert_eq!((accepted.status, accepted.text.as_str()), (202, "Accepted"));
        assert_eq!(
            ask(&mut client, call("a", "echo", json!({ "text": "hi" }))).await["result"]["content"][0]["text"],
            "hi"
        );
        // Everything comes on the one stream, in plain `message` events without ids.
        client.send(&call(1, "progress", json!({ "count": 2 }))).await;
        for _ in 0..2 {
            let event = client.stream.next().await.unwrap();
            assert_eq!((event.event.as_deref(), event.id.as_deref(), event.retry), (Some("message"), None, None));
            assert_eq!(event.json()["params"]["progressToken"], "t");
        }
        assert_eq!(client.stream.message().await.unwrap()["id"], 1);
        let question = ask(&mut client, call(2, "ask_elicitation", json!({ "message": "q" }))).await;
        assert_eq!(question["method"], "elicitation/create");
        let accept = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "accept" } });
        assert_eq!(ask(&mut client, accept).await["id"], 2);
        client.send(&call(3, "updated", json!({ "uri": "x:1" }))).await;
        let mut both = [client.stream.message().await.unwrap(), client.stream.message().await.unwrap()];
        both.sort_by_key(|message| message["id"].is_null());
        assert_eq!((&both[0]["id"], &both[1]["params"]["uri"]), (&json!(3), &json!("x:1")));
        let unknown = ask(&mut client, json!({ "jsonrpc": "2.0", "id": 4, "method": "no/such" })).await;
        assert_eq!(unknown["error"]["code"], -32601);
    }
}

#[tokio::test]
async fn p24_a_post_to_the_stream_is_the_hint_to_open_it() {
    let hub = Hub::start(&echo("a", ""));
    for body in [initialize("2025-06-18", json!({})), json!({}), json!("x")] {
        let refused = post(&http(), &hub.url("/a/sse"), &[], &body).await;
        assert_eq!((refused.status, refused.headers["allow"].as_str()), (405, "GET"));
        // Not a code of the later revisions, which would keep a client from trying the GET.
        let error = &refused.last()["error"];
        assert!(!(-32099..=-32020).contains(&error["code"].as_i64().unwrap_or_default()), "{error}");
    }
    for method in ["DELETE", "PUT", "OPTIONS", "PATCH"] {
        let refused = answer(http().request(method.parse().unwrap(), hub.url("/a/sse"))).await;
        assert_eq!((refused.status, refused.headers["allow"].as_str()), (405, "GET"), "{method}");
        let refused = answer(http().request(method.parse().unwrap(), hub.url("/a/message?sessionId=x"))).await;
        assert_eq!((refused.status, refused.headers["allow"].as_str()), (405, "POST"), "{method}");
    }
    let json_only = answer(http().get(hub.url("/a/sse")).header("accept", "application/json")).await;
    assert_eq!(json_only.status, 406);
    assert_eq!(hub.status().await["sessions"], 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_post_is_said_at_once() {
    let hub = Hub::start(&format!("[hub.limits]\nbody_bytes_max = '64 KiB'\n{}{}", rogue("a", &[], ""), echo("b", "")));
    let mut client = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let id = client.endpoint.split_once("sessionId=").unwrap().1.to_owned();
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let at = async |path: String| post(&client.http, &hub.url(&path), &[], &ping).await.status;
    for query in ["", "?", "?sessionId", "?session_id=x", "?sessionid=x", "?x=y"] {
        assert_eq!(at(format!("/a/message{query}")).await, 400, "{query}");
    }
    for query in [
        "?sessionId=",
        "?sessionId=x",
        "?sessionId=%00",
        &format!("?sessionId={id}x"),
        &format!("?sessionId=x&sessionId={id}"),
    ] {
        assert_eq!(at(format!("/a/message{query}")).await, 404, "{query}");
    }
    assert_eq!(at(format!("/b/message?sessionId={id}")).await, 404, "another mount");
    for query in [format!("?sessionId={id}"), format!("?x=y&sessionId={id}&z"), format!("/?sessionId={id}")] {
        assert_eq!(at(format!("/a/message{query}")).await, 202, "{query}");
        assert_eq!(client.stream.message().await.unwrap(), json!({ "jsonrpc": "2.0", "id": 1, "result": {} }));
    }
    let with = async |kind: &str, body: &str| {
        answer(client.http.post(&client.endpoint).header("content-type", kind).body(body.to_owned())).await
    };
    for kind in ["text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=utf-16"] {
        assert_eq!(with(kind, &ping.to_string()).await.status, 415, "{kind}");
    }
    for (body, code) in
        [("", -32700), ("{", -32700), ("\u{feff}{}", -32700), ("{}", -32600), ("3", -32600), ("[]", -32600)]
    {
        let refused = with("application/json", body).await;
        assert_eq!((refused.status, refused.error().0), (400, code), "{body:?}");
    }
    let large = call(1, "echo", json!({ "text": "x".repeat(64 * 1024) }));
    assert_eq!(client.send(&large).await, 413);
    // 2024-11-05 has no batches.
    let batch = post(&client.http, &client.endpoint, &[], &json!([ping])).await;
    assert_eq!((batch.status, batch.error().0), (400, -32600));
    // None of it was let through.
    assert_eq!(ask(&mut client, call(9, "inflight", json!({}))).await["id"], 9);
}

#[tokio::test]
async fn batches_come_with_the_revision_that_has_them() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let mut client = SseClient::open(&hub, "/a/sse").await;
    ask(&mut client, initialize("2025-03-26", json!({}))).await;
    let batch = json!([call(1, "echo", json!({ "text": "one" })), { "jsonrpc": "2.0", "method": "notifications/x" },
                       call(2, "echo", json!({ "text": "two" }))]);
    client.send(&batch).await;
    let mut texts = Vec::new();
    for _ in 0..2 {
        let message = client.stream.message().await.unwrap();
        texts.push((message["id"].as_i64(), message["result"]["content"][0]["text"].as_str().unwrap().to_owned()));
    }
    texts.sort();
    assert_eq!(texts, [(Some(1), "one".to_owned()), (Some(2), "two".to_owned())]);
    let refused = post(&client.http, &client.endpoint, &[], &json!([initialize("2025-03-26", json!({}))])).await;
    assert_eq!((refused.status, refused.error().0), (400, -32600));
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end_of_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&format!(
        "{}{}",
        rogue("own", &[], ""),
        rogue("shared", &["--log", log.to_str().unwrap()], "isolation = 'shared'")
    ));
    let mut client = SseClient::greeted(&hub, "/own/sse", json!({})).await;
    let pid = ask(&mut client, call(1, "pid", json!({}))).await["result"]["content"][0]["text"].clone();
    let pid: u32 = pid.as_str().unwrap().parse().unwrap();
    client.send(&call(2, "hang", json!({}))).await;
    let SseClient { http, stream, endpoint } = client;
    drop(stream);
    hub.until("its session ends", |status| status["sessions"] == 0 && status["streams"] == 0).await;
    hub.until_upstream("own", |upstream| upstream["pids"] == json!([])).await;
    assert!(!alive(pid));
    assert_eq!(post(&http, &endpoint, &[], &call(3, "pid", json!({}))).await.status, 404);

    // Where others use the process too, the calls of the one that left are cancelled.
    let mut stays = SseClient::greeted(&hub, "/shared/sse", json!({})).await;
    let leaves = SseClient::greeted(&hub, "/shared/sse", json!({})).await;
    leaves.send(&call("mine", "hang", json!({}))).await;
    file_until(&log, |log| log.contains(r#""name":"hang""#)).await;
    drop(leaves);
    file_until(&log, |log| log.contains("notifications/cancelled")).await;
    assert_eq!(ask(&mut stays, call(1, "inflight", json!({}))).await["result"]["content"][0]["text"], "0");
}

#[tokio::test]
async fn each_stream_carries_its_own_answers() {
    let hub = Hub::start(&rogue("a", &[], "isolation = 'shared'"));
    let mut one = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let mut two = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    assert_ne!(one.endpoint, two.endpoint);
    // Whoever posts: the answer goes to the session that was named.
    assert_eq!(post(&two.http, &one.endpoint, &[], &call(1, "echo", json!({ "text": "for one" }))).await.status, 202);
    assert_eq!(one.stream.message().await.unwrap()["result"]["content"][0]["text"], "for one");
    for (client, text) in [(&mut two, "for two"), (&mut one, "again")] {
        let heard = ask(client, call(1, "echo", json!({ "text": text }))).await;
        assert_eq!(heard["result"]["content"][0]["text"], text);
    }
    // A message of a later transport does not find the session.
    let id = one.endpoint.split_once("sessionId=").unwrap().1;
    let strayed = post(&one.http, &hub.url("/a/mcp"), &[("mcp-session-id", id)], &call(1, "pid", json!({}))).await;
    assert_eq!(strayed.status, 404);
}

#[tokio::test]
async fn f49_initialize_comes_first_and_once() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let mut client = SseClient::open(&hub, "/a/sse").await;
    for method in ["tools/list", "server/discover", "logging/setLevel"] {
        let early = ask(&mut client, json!({ "jsonrpc": "2.0", "id": 5, "method": method })).await;
        assert!(early["error"]["code"].is_i64() && early["id"] == 5, "{early}");
    }
    assert_eq!(ask(&mut client, json!({ "jsonrpc": "2.0", "id": 6, "method": "ping" })).await["result"], json!({}));
    assert_eq!(client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/x" })).await, 202);
    assert_eq!(hub.upstream("a").await["pids"], json!([]), "nothing was started for it");

    let bad = ask(&mut client, json!({ "jsonrpc": "2.0", "id": 7, "method": "initialize", "params": {} })).await;
    assert_eq!((&bad["id"], &bad["error"]["code"]), (&json!(7), &json!(-32600)));
    let good = ask(&mut client, initialize("2024-11-05", json!({ "roots": {} }))).await;
    assert_eq!(good["result"]["protocolVersion"], "2024-11-05");
    let again = ask(&mut client, initialize("2025-06-18", json!({ "sampling": {} }))).await;
    assert_eq!(again["error"]["code"], -32600);
    let who = ask(&mut client, call(8, "who", json!({}))).await;
    let who: Value = serde_json::from_str(who["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!((&who["protocolVersion"], &who["capabilities"]), (&json!("2024-11-05"), &json!({ "roots": {} })));
}

#[tokio::test]
async fn messages_of_a_megabyte_pass_both_ways() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let mut client = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let text = "ä\u{2028}\n".repeat(500_000);
    let echoed = ask(&mut client, call(1, "echo", json!({ "text": text }))).await;
    assert!(echoed["result"]["content"][0]["text"] == text);
    let big = ask(&mut client, call(2, "big", json!({ "bytes": 8_000_000 }))).await;
    assert_eq!(big["result"]["content"][0]["text"].as_str().unwrap().len(), 8_000_000);
}

#[tokio::test]
async fn a_storm_of_messages_reaches_a_client_that_reads() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let mut client = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    for round in 0..5 {
        client.send(&call(round, "progress", json!({ "count": 5000 }))).await;
        loop {
            let message = client.stream.message().await.expect("the stream is the session: it must not end");
            if message["id"] == round {
                break;
            }
            assert_eq!(message["method"], "notifications/progress");
        }
    }
}
