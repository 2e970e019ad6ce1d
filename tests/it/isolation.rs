//! Who shares a process with whom, and that nobody notices (P7, P53-P58; protocol revisions with sessions).

use std::time::Instant;

use serde_json::{Value, json};

use super::fixture::{Answer, Client, Hub, PATIENCE, SseClient, Stream, alive, eventually, file_until, rogue};

fn shared() -> Hub {
    Hub::start(&rogue("a", &[], "isolation = 'shared'"))
}

fn call(id: i64, tool: &str, arguments: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": tool, "arguments": arguments, "_meta": { "progressToken": id } } })
}

async fn pid(client: &Client) -> u32 {
    client.call("pid", json!({})).await.tool_text().parse().unwrap()
}

/// Asks until the rogue remembers what is wished.
async fn until(client: &Client, tool: &str, wished: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let value = remembered(client, tool).await;
        if wished(&value) {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "{tool} stays {value}");
    }
}

/// Waits until so many other calls are in flight.
async fn in_flight(client: &Client, others: u64) {
    until(client, "inflight", |count| *count == json!(others)).await;
}

/// What a tool of the rogue remembers, as JSON.
async fn remembered(client: &Client, tool: &str) -> Value {
    serde_json::from_str(&client.call(tool, json!({})).await.tool_text()).unwrap()
}

fn all_abilities() -> Value {
    json!({ "elicitation": {}, "sampling": {}, "roots": {} })
}

/// The next message on a stream, which has to be this one: anything that should not be there would come first.
async fn sentinel(asker: &Client, stream: &mut Stream) {
    asker.call("list_changed", json!({ "count": 1 })).await;
    assert_eq!(stream.message().await.unwrap()["method"], "notifications/tools/list_changed");
}

/// An event stream without the event that primes the client.
async fn unprimed(client: &Client) -> Stream {
    client.get(None).await
}

#[tokio::test]
async fn p7_equal_ids_and_tokens_of_many_clients_never_meet() {
    let hub = shared();
    let mut clients = Vec::new();
    for number in 0..6_u64 {
        let client = Client::open(&hub, "/a/mcp").await;
        clients.push(tokio::spawn(async move {
            for id in 0..20 {
                // The total tells whose progress it is, the text whose answer.
                let total = 10 + number;
                let answer = client.send(&call(id, "progress", json!({ "count": total, "ms": 2 }))).await;
                let messages = answer.messages();
                let (last, progress) = messages.split_last().unwrap();
                assert_eq!((&last["id"], answer.tool_text()), (&json!(id), total.to_string()));
                assert_eq!(progress.len() as u64, total);
                for (step, message) in progress.iter().enumerate() {
                    let expected = json!({ "progressToken": id, "progress": step + 1, "total": total });
                    assert_eq!((&message["method"], &message["params"]), (&json!("notifications/progress"), &expected));
                }
                let text = format!("{number} {id}");
                let echoed = client.send(&call(id, "echo", json!({ "text": text }))).await;
                assert_eq!((&echoed.last()["id"], echoed.tool_text()), (&json!(id), text));
            }
            pid(&client).await
        }));
    }
    let mut pids = Vec::new();
    for client in clients {
        pids.push(client.await.unwrap());
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "they share a process");
}

#[tokio::test]
async fn p53_a_question_that_belongs_to_nobody_is_refused_and_shown_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let toml = rogue("a", &["--log", &log.display().to_string()], "isolation = 'shared'");
    let hub = Hub::start_in(folder, &toml);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = Client::open_as(&hub, "/a/mcp", "2025-06-18", all_abilities()).await;
        let stream = unprimed(&client).await;
        clients.push((client, stream));
    }
    let asker = clients[0].0.clone();
    asker.call("ask_unprompted", json!({ "message": "secret" })).await;
    // Not by a call, which the question could be about.
    file_until(&log, |text| text.contains("cannot be attributed")).await;
    // In the middle of a call, while another client has one too.
    let other = clients[1].0.clone();
    let hanging = tokio::spawn(async move { other.call("sleep", json!({ "ms": 1500 })).await });
    in_flight(&asker, 1).await;
    let asked = asker.call("ask_elicitation", json!({ "message": "secret" })).await;
    assert!(asked.tool_text().contains("attributed"), "{asked:?}");
    assert_eq!(asked.messages().len(), 1);
    let slept = hanging.await.unwrap();
    assert_eq!((slept.tool_text().as_str(), slept.messages().len()), ("slept", 1));
    for (_, stream) in &mut clients {
        sentinel(&asker, stream).await;
    }
}

#[tokio::test]
async fn p54_a_process_is_told_the_abilities_that_its_isolation_can_keep() {
    let toml = ["session", "call", "shared"].map(|word| rogue(word, &[], &format!("isolation = '{word}'"))).concat();
    let hub = Hub::start(&toml);
    for (word, expected) in [("session", all_abilities()), ("call", all_abilities()), ("shared", json!({}))] {
        let client = Client::open_as(&hub, &format!("/{word}/mcp"), "2025-06-18", all_abilities()).await;
        let who = remembered(&client, "who").await;
        assert_eq!(who["capabilities"], expected, "{word}");
        let name = if word == "session" { "test" } else { "hubward" };
        assert_eq!(who["clientInfo"]["name"], name, "{word}");
    }
}

#[tokio::test]
async fn p55_subscriptions_are_counted_and_survive_the_process() {
    let hub = shared();
    let uri = json!({ "uri": "rogue://one" });
    let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let watcher = Client::open(&hub, "/a/mcp").await;
    let (mut first, mut none) = (unprimed(&one).await, unprimed(&watcher).await);
    for client in [&one, &two, &one] {
        assert_eq!(client.request("resources/subscribe", uri.clone()).await.last()["result"], json!({}));
    }
    assert_eq!(remembered(&watcher, "subscriptions").await, json!(["subscribe rogue://one"]));
    // Subscribers hear of it, and of its parts; nobody else does.
    for updated in ["rogue://one", "rogue://one/part"] {
        watcher.call("updated", json!({ "uri": updated })).await;
        let message = first.message().await.unwrap();
        assert_eq!(message["params"]["uri"], updated, "{message}");
    }
    sentinel(&watcher, &mut none).await;
    // The process dies: a new one is told.
    let old = pid(&watcher).await;
    watcher.call("crash", json!({ "code": 1 })).await;
    eventually("it is dead", || !alive(old)).await;
    hub.until_upstream("a", |upstream| upstream["pids"][0].as_u64().is_some_and(|pid| pid != u64::from(old))).await;
    until(&watcher, "subscriptions", |log| *log == json!(["subscribe rogue://one"])).await;
    // One leaves by DELETE, the other by unsubscribing: the last one counts.
    assert_eq!(one.delete().await, 204);
    assert_eq!(remembered(&watcher, "subscriptions").await, json!(["subscribe rogue://one"]));
    two.request("resources/unsubscribe", uri.clone()).await;
    let both = json!(["subscribe rogue://one", "unsubscribe rogue://one"]);
    assert_eq!(remembered(&watcher, "subscriptions").await, both);
}

#[tokio::test]
async fn p55_a_client_that_leaves_is_counted_out() {
    let hub = shared();
    let watcher = Client::open(&hub, "/a/mcp").await;
    let subscribe =
        |uri: &str| json!({ "jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": { "uri": uri } });
    let deleted = Client::open(&hub, "/a/mcp").await;
    deleted.send(&subscribe("rogue://one")).await;
    let mut left = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    assert_eq!(left.send(&subscribe("rogue://two")).await, 202);
    assert_eq!(left.stream.message().await.unwrap()["result"], json!({}));
    assert_eq!(deleted.delete().await, 204);
    drop(left);
    let gone = |log: &Value| {
        let has = |text: &str| log.as_array().unwrap().iter().any(|entry| entry == text);
        has("unsubscribe rogue://one") && has("unsubscribe rogue://two")
    };
    until(&watcher, "subscriptions", gone).await;
    assert_eq!(hub.upstream("a").await["sessions"], 1);
}

#[tokio::test]
async fn p56_each_client_has_its_own_log_level() {
    let hub = shared();
    let mut clients = Vec::new();
    for level in [Some("debug"), Some("error"), None] {
        let client = Client::open(&hub, "/a/mcp").await;
        if let Some(level) = level {
            assert_eq!(client.request("logging/setLevel", json!({ "level": level })).await.last()["result"], json!({}));
        }
        clients.push(client);
    }
    assert_eq!(remembered(&clients[0], "levels").await, json!(["debug"]), "the most verbose one that anybody wants");
    for (number, level, heard) in [
        (0, "debug", true),
        (0, "info", true),
        (1, "warning", false),
        (1, "error", true),
        (1, "critical", true),
        (2, "info", false),
        (2, "warning", true),
    ] {
        let answer: Answer = clients[number].call("log", json!({ "level": level, "text": "x" })).await;
        let logged = answer.messages().iter().any(|message| message["method"] == "notifications/message");
        assert_eq!((answer.tool_text().as_str(), logged), ("ok", heard), "client {number}, level {level}");
    }
}

#[tokio::test]
async fn p56_a_log_message_that_may_be_anybodys_is_nobodys() {
    let hub = shared();
    let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let mut stream = unprimed(&one).await;
    let sleeping = {
        let two = two.clone();
        tokio::spawn(async move { two.call("sleep", json!({ "ms": 800 })).await })
    };
    in_flight(&one, 1).await;
    assert_eq!(one.call("log", json!({ "level": "error", "text": "secret" })).await.messages().len(), 1);
    assert_eq!(sleeping.await.unwrap().messages().len(), 1);
    sentinel(&two, &mut stream).await;
}

#[tokio::test]
async fn p58_what_one_client_does_to_its_call_concerns_no_other() {
    let hub = shared();
    let clients = [Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await];
    let asker = Client::open(&hub, "/a/mcp").await;
    let [kept, other] = clients
        .clone()
        .map(|client| tokio::spawn(async move { client.send(&call(1, "sleep", json!({ "ms": 3000 }))).await }));
    in_flight(&asker, 2).await;
    // The same id as the other's.
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    assert_eq!(clients[1].send(&cancel).await.status, 202);
    other.await.unwrap();
    assert_eq!(remembered(&asker, "inflight").await, json!(1));
    // One that does not read what it asked for.
    let unread = clients[1].stream(&call(2, "progress", json!({ "count": 20_000, "ms": 0 }))).await;
    // One that leaves in the middle.
    drop(clients[1].stream(&call(3, "progress", json!({ "count": 3, "ms": 100 }))).await);
    // One that ends its session.
    assert_eq!(clients[1].delete().await, 204);
    for number in 0..50 {
        let text = number.to_string();
        assert_eq!(asker.call("echo", json!({ "text": text })).await.tool_text(), text);
    }
    drop(unread);
    assert_eq!(kept.await.unwrap().tool_text(), "slept");
    assert_eq!(hub.upstream("a").await["restarts"], 0);
}

#[tokio::test]
async fn sessions_have_processes_of_their_own() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let (one, two) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/a/mcp").await);
    let pids = [pid(&one).await, pid(&two).await];
    assert_ne!(pids[0], pids[1]);
    one.call("state", json!({ "set": "mine" })).await;
    assert_eq!(remembered(&two, "state").await, Value::Null);
    assert_eq!(remembered(&one, "state").await, json!("mine"));
    let mut stream = unprimed(&two).await;
    one.call("list_changed", json!({ "count": 1 })).await;
    one.call("crash", json!({ "code": 1 })).await;
    assert_eq!(pid(&two).await, pids[1]);
    two.call("updated", json!({ "uri": "rogue://two" })).await;
    assert_eq!(stream.message().await.unwrap()["params"]["uri"], "rogue://two", "nothing of the other's came");
    assert_eq!(one.delete().await, 204);
    assert_eq!(two.delete().await, 204);
    eventually("their processes end with them", || pids.iter().all(|pid| !alive(*pid))).await;
}

#[tokio::test]
async fn a_question_of_ones_own_process_is_asked_on_the_latest_call() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open_as(&hub, "/a/mcp", "2025-06-18", all_abilities()).await;
    let other = client.clone();
    let sleeping = tokio::spawn(async move { other.call("sleep", json!({ "ms": 1500 })).await });
    in_flight(&client, 1).await;
    let mut stream = client.stream(&call(99, "ask_sampling", json!({ "prompt": "?" }))).await;
    let question = stream.message().await.unwrap();
    assert_eq!(question["method"], "sampling/createMessage");
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "model": "m" } });
    assert_eq!(client.send(&answer).await.status, 202);
    let text = stream.message().await.unwrap()["result"]["content"][0]["text"].to_string();
    assert!(text.contains("model"), "{text}");
    assert_eq!(sleeping.await.unwrap().messages().len(), 1);
}

#[tokio::test]
async fn a_question_outlives_a_call_that_it_was_not_about() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open_as(&hub, "/a/mcp", "2025-06-18", all_abilities()).await;
    // It asks when its own call is over, while two others are under way: the later one is taken for its cause.
    let sleeping = {
        let client = client.clone();
        tokio::spawn(async move { client.call("sleep", json!({ "ms": 3000 })).await })
    };
    in_flight(&client, 1).await;
    client.call("ask_unprompted", json!({ "message": "?" })).await;
    let mut later = client.stream(&call(99, "sleep", json!({ "ms": 1200 }))).await;
    let question = later.message().await.unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(later.message().await.unwrap()["id"], 99);
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } });
    assert_eq!(client.send(&answer).await.status, 202);
    until(&client, "last_answer", |answer| *answer == json!({ "result": { "action": "decline" } })).await;
    sleeping.await.unwrap();
}

#[tokio::test]
async fn a_question_that_nobody_answered_in_time_is_answered_when_its_call_is_over() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open_as(&hub, "/a/mcp", "2025-06-18", all_abilities()).await;
    client.call("ask_unprompted", json!({ "message": "?" })).await;
    let mut stream = client.stream(&call(99, "sleep", json!({ "ms": 1200 }))).await;
    assert_eq!(stream.message().await.unwrap()["method"], "elicitation/create");
    assert_eq!(stream.message().await.unwrap()["id"], 99);
    until(&client, "last_answer", |answer| *answer == json!({ "result": { "action": "cancel" } })).await;
}

#[tokio::test]
async fn calls_of_isolation_call_have_a_process_each_and_keep_nothing() {
    let hub = Hub::start(&rogue("a", &[], "isolation = 'call'\nprocess_max = 2"));
    let client = Client::open(&hub, "/a/mcp").await;
    let capabilities = &client.greeting["capabilities"];
    assert_eq!((&capabilities["logging"], &capabilities["resources"]["subscribe"]), (&Value::Null, &Value::Null));
    assert_eq!(capabilities["tools"]["listChanged"], Value::Null, "what outlives a call is not offered");
    for (method, params) in
        [("logging/setLevel", json!({ "level": "debug" })), ("resources/subscribe", json!({ "uri": "rogue://one" }))]
    {
        assert_eq!(client.request(method, params).await.error().0, -32601);
    }
    let sleeping = |ms: u64| {
        let client = client.clone();
        tokio::spawn(async move { client.call("sleep", json!({ "ms": ms })).await })
    };
    // Three at once: two processes, and one waits.
    for call in [sleeping(300), sleeping(300), sleeping(300)] {
        assert_eq!(call.await.unwrap().tool_text(), "slept");
    }
    assert_eq!(hub.upstream("a").await["pids"].as_array().unwrap().len(), 2);
    // A process that may still be busy with a cancelled call is not lent again.
    let cancelled = {
        let client = client.clone();
        tokio::spawn(async move { client.send(&call(77, "sleep_stubborn", json!({ "ms": 60_000 }))).await })
    };
    hub.until("it runs", |status| status["upstreams"][0]["calls"].as_u64() >= Some(4)).await;
    let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 77 } });
    assert_eq!(client.send(&cancel).await.status, 202);
    cancelled.await.unwrap();
    for _ in 0..5 {
        assert_eq!(remembered(&client, "inflight").await, json!(0));
        assert_eq!(remembered(&client, "received_cancels").await, json!([]));
    }
}

#[tokio::test]
async fn isolation_call_asks_exactly_the_client_whose_call_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    let toml = rogue("a", &["--counter", &counter.display().to_string()], "isolation = 'call'");
    let hub = Hub::start_in(folder, &toml);
    let mut streams = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        let client = Client::open_as(&hub, "/a/mcp", "2025-06-18", all_abilities()).await;
        let stream = client.stream(&call(1, "ask_elicitation", json!({ "message": name }))).await;
        streams.push((name, client, stream));
    }
    // All three are open now.
    for (name, client, stream) in &mut streams {
        let question = stream.message().await.unwrap();
        assert_eq!(question["params"]["message"], *name);
        let result = json!({ "action": "accept", "content": { "name": name } });
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": result });
        assert_eq!(client.send(&answer).await.status, 202);
    }
    for (name, _, mut stream) in streams {
        let text = stream.message().await.unwrap()["result"]["content"][0]["text"].to_string();
        assert!(text.contains(name), "{text}");
    }
    assert_eq!(file_until(&counter, |text| !text.is_empty()).await.lines().count(), 3);
    let mute = Client::open(&hub, "/a/mcp").await;
    let refused = mute.call("ask_elicitation", json!({ "message": "?" })).await;
    assert!(refused.tool_text().contains("error") && refused.messages().len() == 1, "it declared nothing: {refused:?}");
}
