//! Sessions of Streamable HTTP: how they are named, opened, told apart, and ended.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::fixture::{
    Answer, Client, Hub, LATEST, SseClient, alive, answer, echo, file_until, http, initialize, post, rogue,
};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// One process for all: sessions are cheap.
const SHARED: &str = "isolation = 'shared'";

fn ping() -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" })
}

/// The same request with each verb.
async fn each_verb(client: &Client, headers: &[(&str, &str)]) -> [Answer; 3] {
    let with = |mut request: reqwest::RequestBuilder| {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.header("accept", "application/json, text/event-stream"))
    };
    let post = client.http.post(&client.url).header("content-type", "application/json").body(ping().to_string());
    let get = client.http.get(&client.url);
    let delete = client.http.delete(&client.url);
    [with(post).await, with(get).await, with(delete).await]
}

#[tokio::test]
async fn p10_notifications_and_responses_are_accepted_without_a_body() {
    let hub = Hub::start(&rogue("a", &[], SHARED));
    for revision in REVISIONS {
        let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        let bodies = [
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
            json!({ "jsonrpc": "2.0", "method": "notifications/nobody-knows", "params": { "x": 1 } }),
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 99 } }),
            json!({ "jsonrpc": "2.0", "id": 99, "result": {} }),
            json!({ "jsonrpc": "2.0", "id": "x", "error": { "code": -1, "message": "no" } }),
        ];
        for body in bodies {
            let accepted = client.send(&body).await;
            assert_eq!((accepted.status, accepted.text.as_str()), (202, ""), "{revision}: {body}");
        }
        // Nothing of it hurt.
        assert_eq!(client.call("echo", json!({ "text": "hi" })).await.tool_text(), "hi");
    }
}

#[tokio::test]
async fn p11_f50_a_session_is_known_by_an_id_that_nobody_can_guess() {
    let hub = Hub::start(&echo("a", SHARED));
    let mut ids = HashSet::new();
    for _ in 0..20 {
        let id = Client::open(&hub, "/a/mcp").await.session;
        // 128 bits are 22 characters of base64.
        assert!(id.len() >= 22 && id.bytes().all(|b| (0x21..=0x7e).contains(&b)), "{id:?}");
        assert!(ids.insert(id));
    }
    let client = Client::open(&hub, "/a/mcp").await;
    for refused in each_verb(&client, &[]).await {
        assert_eq!(refused.status, 400, "no session named: {refused:?}");
    }
    let other = client.session.chars().rev().collect::<String>();
    let upper = client.session.to_uppercase();
    let longer = format!("{}=", client.session);
    for id in ["x", "", &other, &upper, &longer, &client.session[..21], "../../etc/passwd", &"x".repeat(5000)] {
        if id == client.session {
            continue;
        }
        for refused in each_verb(&client, &[("mcp-session-id", id)]).await {
            assert_eq!(refused.status, 404, "{id:?}: {refused:?}");
            assert_eq!(refused.error().0, -32600);
        }
    }
    assert_eq!(client.send(&ping()).await.status, 200);
    // To another hub, as to this one after a restart, the session is unknown: the client opens a new one.
    let restarted = Hub::start(&echo("a", SHARED));
    let stale = client.at(restarted.url("/a/mcp"));
    assert_eq!(stale.send(&ping()).await.status, 404);
    assert_eq!(stale.get(None).await.status, 404);
    assert_eq!(stale.delete().await, 404);
}

#[tokio::test]
async fn f52_a_session_of_one_mount_is_unknown_at_another() {
    let toml = format!("[hub]\nprefixes = ['/', '/x']\n{}{}", echo("a", SHARED), echo("b", SHARED));
    let hub = Hub::start(&toml);
    let client = Client::open(&hub, "/a/mcp").await;
    let strayed = client.at(hub.url("/b/mcp"));
    assert_eq!(strayed.send(&ping()).await.status, 404);
    assert_eq!(strayed.get(None).await.status, 404);
    assert_eq!(strayed.get(Some("0-1")).await.status, 404);
    assert_eq!(strayed.delete().await, 404);
    // Nor does the older transport know it, and the other way round.
    let message = hub.url(&format!("/a/message?sessionId={}", client.session));
    assert_eq!(post(&client.http, &message, &[], &ping()).await.status, 404);
    let older = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let id = older.endpoint.split_once("sessionId=").unwrap().1;
    assert_eq!(post(&client.http, &client.url, &[("mcp-session-id", id)], &ping()).await.status, 404);
    // The mount is the same under every prefix.
    let elsewhere = client.at(hub.url("/x/a/mcp"));
    assert_eq!(elsewhere.send(&ping()).await.status, 200);
    assert_eq!(client.send(&ping()).await.status, 200, "nothing of it ended the session");
}

#[tokio::test]
async fn p12_a_method_that_does_not_exist_is_an_error_in_a_200() {
    let hub = Hub::start(&rogue("a", &[], SHARED));
    for revision in REVISIONS {
        let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        for method in ["no/such", "tasks/list", "server/discover", "subscriptions/listen"] {
            let answer = client.request(method, json!({})).await;
            assert_eq!((answer.status, answer.error().0), (200, -32601), "{revision} {method}");
        }
        let missing = client.request("resources/read", json!({ "uri": "rogue://nowhere" })).await;
        assert_eq!((missing.status, missing.error().0), (200, -32002));
        let tool = client.call("no such tool", json!({})).await;
        assert_eq!((tool.status, tool.error().0), (200, -32602));
    }
}

#[tokio::test]
async fn p13_delete_ends_the_session_its_calls_and_its_subscriptions() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let hub = Hub::start(&rogue("a", &["--log", log.to_str().unwrap()], SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let other = Client::open(&hub, "/a/mcp").await;
    assert_eq!(client.request("resources/subscribe", json!({ "uri": "rogue://one" })).await.status, 200);
    let mut events = client.get(None).await;
    let hanging = tokio::spawn({
        let client = client.clone();
        async move { client.call("hang", json!({})).await }
    });
    file_until(&log, |log| log.contains(r#""name":"hang""#)).await;

    assert_eq!(client.delete().await, 204);
    // The call ends without an answer, the stream ends, the process hears of both.
    let ended = hanging.await.unwrap();
    assert!(ended.messages().iter().all(Value::is_null), "{ended:?}");
    while let Some(event) = events.next().await {
        assert!(event.data.is_empty(), "{event:?}");
    }
    let told = |log: &str| log.contains("notifications/cancelled") && log.contains("resources/unsubscribe");
    file_until(&log, told).await;
    for (status, what) in [
        (client.send(&ping()).await.status, "POST"),
        (client.get(None).await.status, "GET"),
        (client.delete().await, "DELETE"),
    ] {
        assert_eq!(status, 404, "{what} after the end");
    }
    assert_eq!(other.call("inflight", json!({})).await.tool_text(), "0");
    hub.until("no stream is left", |status| status["streams"] == 0 && status["sessions"] == 1).await;
}

#[tokio::test]
async fn p13_delete_ends_the_process_of_the_session() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let pid = |answer: Answer| answer.tool_text().parse::<u32>().unwrap();
    let (first, second) = (pid(one.call("pid", json!({})).await), pid(two.call("pid", json!({})).await));
    assert_ne!(first, second);
    assert_eq!(one.delete().await, 204);
    hub.until_upstream("a", |upstream| upstream["pids"] == json!([second])).await;
    assert!(!alive(first));
    assert_eq!(two.call("echo", json!({ "text": "hi" })).await.tool_text(), "hi");
}

#[tokio::test]
async fn p14_f47_a_version_header_has_to_name_a_revision_we_know() {
    let hub = Hub::start(&echo("a", SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let session = client.session.as_str();
    for version in ["1999-01-01", "latest", "", "2025-11-25x", "2025-11-25, 2025-06-18", "3000-01-01x"] {
        for refused in each_verb(&client, &[("mcp-session-id", session), ("mcp-protocol-version", version)]).await {
            assert_eq!(refused.status, 400, "{version:?}: {refused:?}");
            let error = &refused.last()["error"];
            assert_eq!((&error["code"], &error["data"]["requested"]), (&json!(-32022), &json!(version)));
            assert_eq!(error["data"]["supported"], json!(REVISIONS));
        }
    }
    // F48: a later revision has neither GET nor DELETE.
    let [_, get, delete] =
        each_verb(&client, &[("mcp-session-id", session), ("mcp-protocol-version", "2026-07-28")]).await;
    for refused in [get, delete] {
        assert_eq!((refused.status, refused.headers["allow"].as_str()), (405, "POST"));
    }
    // Any revision we know will do, and none at all means the session's own.
    for version in REVISIONS {
        let headers = [("mcp-session-id", session), ("mcp-protocol-version", version)];
        assert_eq!(post(&client.http, &client.url, &headers, &ping()).await.status, 200, "{version}");
    }
    for (revision, batches) in [("2025-03-26", 200), ("2025-06-18", 400), ("2025-11-25", 400)] {
        let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        let unversioned =
            post(&client.http, &client.url, &[("mcp-session-id", &client.session)], &json!([ping()])).await;
        assert_eq!(unversioned.status, batches, "without a header the session's revision {revision} counts");
    }
}

#[tokio::test]
async fn p15_initialize_is_answered_in_the_revision_that_was_asked_for() {
    // Whatever the upstream speaks.
    let servers = ["2024-11-05", "2025-11-25"].map(|spoken| rogue(spoken, &["--protocol", spoken], SHARED));
    let hub = Hub::start(&servers.concat());
    for spoken in ["2024-11-05", "2025-11-25"] {
        let path = format!("/{spoken}/mcp");
        for revision in REVISIONS {
            let client = Client::open_as(&hub, &path, revision, json!({})).await;
            assert_eq!(client.greeting["protocolVersion"], revision);
        }
        for unknown in ["2099-01-01", "1.0", ""] {
            let client = Client::open_as(&hub, &path, unknown, json!({})).await;
            assert_eq!(client.greeting["protocolVersion"], LATEST, "{unknown:?}");
        }
    }
}

#[tokio::test]
async fn f49_initialize_comes_first_and_once() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let url = hub.url("/a/mcp");
    let early = post(&http(), &url, &[], &json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/list" })).await;
    assert_eq!((early.status, early.error().0, &early.last()["id"]), (400, -32600, &json!(5)));
    for params in [json!({}), json!({ "protocolVersion": 20250618 }), json!([]), Value::Null] {
        let mut bad = initialize(LATEST, json!({}));
        bad["params"] = params;
        let refused = post(&http(), &url, &[], &bad).await;
        assert_eq!((refused.status, refused.error().0), (400, -32600), "{bad}");
        assert!(!refused.headers.contains_key("mcp-session-id"));
    }
    hub.until("no session is left of it", |status| status["sessions"] == 0).await;

    let client = Client::open_as(&hub, "/a/mcp", "2025-06-18", json!({ "roots": {} })).await;
    let again = initialize("2024-11-05", json!({ "sampling": {} }));
    let refused = client.send(&again).await;
    assert_eq!((refused.status, refused.error().0), (400, -32600));
    let unknown = post(&client.http, &client.url, &[("mcp-session-id", "gone")], &again).await;
    assert_eq!(unknown.status, 404, "a session that is gone cannot be initialized");
    // The session is what it was.
    let who: Value = serde_json::from_str(&client.call("who", json!({})).await.tool_text()).unwrap();
    assert_eq!((&who["protocolVersion"], &who["capabilities"]), (&json!("2025-06-18"), &json!({ "roots": {} })));
    assert_eq!(hub.status().await["sessions"], 1);
}

#[tokio::test]
async fn f53_a_second_reader_is_refused_and_the_first_misses_nothing() {
    let hub = Hub::start(&rogue("a", &[], ""));
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let client = Client::open_as(&hub, "/a/mcp", revision, json!({})).await;
        let mut first = client.get(None).await;
        assert_eq!(client.get(None).await.status, 409);
        for uri in ["x:1", "x:2"] {
            client.call("updated", json!({ "uri": uri })).await;
            let update = first.message().await.unwrap();
            assert_eq!(update["params"]["uri"], uri);
        }
        // It may come back as soon as it has left.
        drop(first);
        let mut again = client.get(None).await;
        while again.status == 409 {
            again = client.get(None).await;
        }
        client.call("updated", json!({ "uri": "x:3" })).await;
        assert_eq!(again.message().await.unwrap()["params"]["uri"], "x:3");
    }
}

#[tokio::test]
async fn f76_the_session_that_was_idle_longest_makes_room_for_a_new_one() {
    let hub = Hub::start(&format!("[hub.limits]\nsessions_max = 3\n{}", rogue("a", &[], "")));
    let mut clients = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..3 {
        let client = Client::open(&hub, "/a/mcp").await;
        pids.push(client.call("pid", json!({})).await.tool_text().parse::<u32>().unwrap());
        clients.push(client);
    }
    let _reading = clients[0].get(None).await;
    let new = Client::open(&hub, "/a/mcp").await;
    assert_eq!(clients[1].send(&ping()).await.status, 404, "the oldest that nobody reads had to go");
    for client in [&clients[0], &clients[2], &new] {
        assert_eq!(client.send(&ping()).await.status, 200);
    }
    let status = hub.until("its process ends", |status| status["upstreams"][0]["pids"].as_array().unwrap().len() == 3);
    assert_eq!(status.await["sessions"], 3);
    assert!(!alive(pids[1]));
    // None is idle: newcomers have to wait, and nobody else loses anything.
    let _streams = [clients[2].get(None).await, new.get(None).await];
    let refused = post(&http(), &hub.url("/a/mcp"), &[], &initialize(LATEST, json!({}))).await;
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"));
    assert_eq!(refused.last()["error"]["data"]["retryable"], true);
    for client in [&clients[0], &clients[2], &new] {
        assert_eq!(client.send(&ping()).await.status, 200);
    }
}

#[tokio::test]
async fn f76_a_flood_of_sessions_stays_within_the_bound() {
    let hub = Hub::start(&format!("[hub.limits]\nsessions_max = 20\n{}", echo("a", SHARED)));
    let (http, url) = (http(), hub.url("/a/mcp"));
    let mut last = String::new();
    for _ in 0..200 {
        let opened = post(&http, &url, &[], &initialize(LATEST, json!({}))).await;
        assert_eq!(opened.status, 200);
        last = opened.headers["mcp-session-id"].clone();
    }
    assert!(hub.status().await["sessions"].as_u64().unwrap() <= 20);
    assert_eq!(post(&http, &url, &[("mcp-session-id", &last)], &ping()).await.status, 200);
}

#[tokio::test]
async fn a_session_that_nobody_uses_is_ended() {
    let hub = Hub::start(&format!("[hub.limits]\nsession_idle_timeout = '200ms'\n{}", rogue("a", &[], "")));
    let (read, calling, idle) =
        (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let _stream = read.get(None).await;
    let call = tokio::spawn({
        let calling = calling.clone();
        async move { calling.call("sleep", json!({ "ms": 3000 })).await }
    });
    let pid = |client: &Client| {
        let client = client.clone();
        async move { client.call("pid", json!({})).await.tool_text().parse::<u32>().unwrap() }
    };
    let gone = pid(&idle).await;
    let status = hub.until("one is ended", |status| status["sessions"] == 2).await;
    assert_eq!(status["upstreams"][0]["sessions"], 2);
    assert_eq!(idle.send(&ping()).await.status, 404);
    assert_eq!(read.send(&ping()).await.status, 200, "a session that is read is not idle");
    assert_eq!(call.await.unwrap().tool_text(), "slept", "a session with a call is not idle");
    hub.until("its process ends", |status| status["upstreams"][0]["pids"].as_array().unwrap().len() <= 2).await;
    assert!(!alive(gone));
}
