//! Errors that help: whatever the cause, a client is told which upstream, what happened and whether to try again, in the
//! same words in a body of HTTP, on a stream, in both eras, and over stdio.

use serde_json::{Value, json};

use super::{
    connect::Bridge,
    fixture::{Answer, Client, Hub, LATEST, SseClient, echo, file_until, http, initialize, post, rogue},
    peer::{Reply, legacy},
    request::Request,
};

/// What the client of an answer reads, and its program.
fn error(answer: &Answer) -> (String, Value) {
    read(&answer.last())
}

fn read(answer: &Value) -> (String, Value) {
    let error = &answer["error"];
    (error["message"].as_str().unwrap_or_else(|| panic!("no error: {answer}")).to_owned(), error["data"].clone())
}

async fn greet(hub: &Hub, name: &str) -> Answer {
    post(&http(), &hub.url(&format!("/{name}/mcp")), &[], &initialize(LATEST, json!({}))).await
}

async fn pid(client: &Client) -> u32 {
    client.call("pid", json!({})).await.tool_text().parse().unwrap()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// A command in a shell.
fn sh(name: &str, script: &str, keys: &str) -> String {
    format!("[upstreams.{name}]\ncommand = 'sh'\nargs = ['-c', \"\"\"{script}\"\"\"]\nera = 'legacy'\n{keys}\n")
}

#[tokio::test]
async fn a_death_in_mid_call_is_told_with_its_cause_and_its_last_words_where_they_may_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let flags = ["--log", log.to_str().unwrap()];
    let toml = rogue("quiet", &flags, "") + &rogue("open", &flags, "expose_errors = true");
    let hub = Hub::start_in(folder, &toml);
    let cause = "was killed by signal 9 (likely out of memory) while the call was under way";
    for (hung, (name, told)) in [("quiet", false), ("open", true)].into_iter().enumerate() {
        let client = Client::open(&hub, &format!("/{name}/mcp")).await;
        client.call("stderr", json!({ "bytes": 100 })).await;
        let (victim, waiting) = (pid(&client).await, client.clone());
        let waiting = tokio::spawn(async move { waiting.call("hang", json!({})).await });
        file_until(&log, |text| text.matches("\"hang\"").count() == hung + 1).await;
        kill(victim);
        let (text, data) = error(&waiting.await.unwrap());
        let end = "; the call was not repeated; it can be tried again";
        assert!(
            text.starts_with(&format!("upstream `{name}` was killed by signal 9")) && text.ends_with(end),
            "{text}"
        );
        assert_eq!((text.contains(cause), text.contains("(its last words: ")), (!told, told), "{text}");
        assert_eq!(data, json!({ "upstream": name, "reason": "failed", "retryable": true }));
        assert_ne!(pid(&client).await, victim, "and a retry helps");
    }
}

#[tokio::test]
async fn a_start_that_fails_is_told_with_its_code_and_its_last_words_and_no_secret() {
    let script = "echo one >&2; echo \\\"the key $KEY is refused\\\" >&2; exit 3";
    let keys = "env = { KEY = '${file:key}' }\nrestart = { max = 1, backoff_min = '20ms', backoff_max = '20ms' }";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "pa55-of-the-tests\n").unwrap();
    let hub = Hub::start_in(
        folder,
        &format!("{}{}", sh("quiet", script, keys), sh("open", script, &format!("expose_errors = true\n{keys}"))),
    );
    let cause = |name: &str| format!("upstream `{name}` is not available: exited with code 3 before it was ready");
    let (text, data) = error(&greet(&hub, "quiet").await);
    assert_eq!(text, format!("{}; try again in 1 s", cause("quiet")));
    assert!((data["retryable"] == true) && (1..=20).contains(&data["retryAfterMs"].as_u64().unwrap()), "{data}");
    assert_eq!((&data["reason"], data.get("stderr")), (&json!("failed"), None));
    let (text, data) = error(&greet(&hub, "open").await);
    assert_eq!(text, format!("{} (its last words: the key *** is refused); try again in 1 s", cause("open")));
    assert_eq!(data["stderr"], json!(["one", "the key *** is refused"]));
    // The second failure is one too many.
    hub.until_upstream("open", |status| status["state"] == "idle").await;
    let (text, data) = error(&greet(&hub, "open").await);
    assert!(
        text.contains("stays down until its configuration changes") && text.ends_with("; trying again does not help"),
        "{text}"
    );
    assert_eq!((&data["retryable"], data.get("retryAfterMs")), (&json!(false), None));
    assert!(!text.contains("pa55") && text.contains("***"), "{text}");
}

#[tokio::test]
async fn a_command_that_is_not_there_is_told_alike_over_http_sse_and_in_both_eras() {
    let keys = "restart = { backoff_min = '60s', backoff_max = '60s' }";
    let hub = Hub::start(&format!("[upstreams.a]\ncommand = '/no/such/program'\n{keys}\n"));
    let first = error(&greet(&hub, "a").await);
    assert!(
        first.0.starts_with("upstream `a` is not available: its command was not found; try again in "),
        "{first:?}"
    );
    assert!(!first.0.contains("/no"), "{first:?}");
    let modern = Request::new(&hub, "/a/mcp", "tools/list", json!({})).send().await;
    let mut older = SseClient::open(&hub, "/a/sse").await;
    assert_eq!(older.send(&initialize("2024-11-05", json!({}))).await, 202);
    for (text, data) in [error(&modern), read(&older.stream.message().await.unwrap())] {
        assert!(text.starts_with("upstream `a` is not available: its command was not found; try again in "), "{text}");
        assert_eq!(
            (&data["upstream"], &data["reason"], &data["retryable"]),
            (&json!("a"), &json!("failed"), &json!(true))
        );
        assert!((30_000..=60_000).contains(&data["retryAfterMs"].as_u64().unwrap()), "{data}");
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_told_alike_as_json_on_a_stream_and_in_both_eras() {
    let hub = Hub::start(&rogue("a", &[], "request_timeout = '1500ms'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let hang = Request::call(&hub, "/a/mcp", "hang", json!({}));
    let (stream, modern) = tokio::join!(client.call("hang", json!({})), hang.send());
    assert!(stream.is_stream(), "it took longer than an answer may be awaited");
    for (text, data) in [error(&stream), error(&modern)] {
        assert_eq!(text, "upstream `a` did not answer within 1.5s; the call was cancelled; it can be tried again");
        assert_eq!(data, json!({ "upstream": "a", "reason": "timeout", "retryable": true }));
    }
}

#[tokio::test]
async fn what_does_not_fit_is_told_as_overload() {
    let keys = "isolation = 'shared'\nstart_timeout = '60s'";
    let toml = format!(
        "[hub.limits]\nqueue_max = 1\n{}{}",
        rogue("mute", &["--never-initialize"], keys),
        rogue("one", &[], "process_max = 1")
    );
    let hub = Hub::start(&toml);
    let url = hub.url("/mute/mcp");
    let waits = tokio::spawn(async move { post(&http(), &url, &[], &initialize(LATEST, json!({}))).await });
    hub.until_upstream("mute", |status| status["state"] == "starting").await;
    let _own = Client::open(&hub, "/one/mcp").await;
    let cases = [
        ("mute", "too many calls wait for it to start (queue_max)"),
        ("one", "all its processes are in use (process_max)"),
    ];
    for (name, why) in cases {
        let refused = greet(&hub, name).await;
        let (text, data) = error(&refused);
        assert_eq!(text, format!("upstream `{name}` is not available: {why}; try again in 1 s"));
        assert_eq!(data, json!({ "upstream": name, "reason": "overloaded", "retryable": true, "retryAfterMs": 1000 }));
        assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"));
    }
    waits.abort();
}

#[tokio::test]
async fn a_hub_that_ends_tells_new_calls_and_those_that_it_cuts() {
    let mut hub = Hub::start(&format!("[hub]\ndrain_timeout = '2s'\n{}", rogue("a", &[], "")));
    let client = Client::open(&hub, "/a/mcp").await;
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.call("hang", json!({})).await });
    hub.until("it hangs", |status| status["upstreams"][0]["calls"] == 1).await;
    hub.signal("TERM");
    hub.until("it drains", |status| status["draining"] == true).await;
    let (text, data) = error(&client.call("pid", json!({})).await);
    assert_eq!(text, "the hub is shutting down; try again when it is back");
    assert_eq!(data, json!({ "reason": "draining", "retryable": true, "retryAfterMs": 1000 }));
    let (text, data) = error(&waiting.await.unwrap());
    assert!(
        text.starts_with("upstream `a` was stopped: the hub is shutting down while the call was under way"),
        "{text}"
    );
    assert_eq!(data, json!({ "upstream": "a", "reason": "draining", "retryable": true }));
    assert!(hub.ended().success());
}

#[tokio::test]
async fn a_replaced_process_tells_the_calls_that_it_cuts() {
    let toml = |value: &str| {
        format!("[hub]\ndrain_timeout = '300ms'\n{}", rogue("a", &[], &format!("env = {{ A = '{value}' }}")))
    };
    let hub = Hub::start(&toml("1"));
    let client = Client::open(&hub, "/a/mcp").await;
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.call("hang", json!({})).await });
    hub.until("it hangs", |status| status["upstreams"][0]["calls"] == 1).await;
    hub.edit(&toml("2"));
    let (text, data) = error(&waiting.await.unwrap());
    assert!(text.contains("was replaced by a changed configuration while the call was under way"), "{text}");
    assert_eq!(data, json!({ "upstream": "a", "reason": "draining", "retryable": true }));
}

#[tokio::test]
async fn what_is_switched_off_or_lacks_something_is_told_apart() {
    let toml = format!(
        "{}{}{}",
        echo("off", "enabled = false"),
        echo("poor", "required = false\nenv = { A = '${env:HUBWARD_TEST_NOT_SET}' }"),
        echo("fine", "")
    );
    let hub = Hub::start(&toml);
    let cases = [
        ("off", "stopped", "it is disabled in the configuration"),
        ("poor", "failed", "its configuration refers to something that is missing"),
    ];
    for (name, reason, why) in cases {
        let (text, data) = error(&greet(&hub, name).await);
        assert_eq!(text, format!("upstream `{name}` is not available: {why}; trying again does not help"));
        assert_eq!(data, json!({ "upstream": name, "reason": reason, "retryable": false }));
    }
}

#[tokio::test]
async fn what_the_operator_stopped_is_told_to_the_call_that_it_cuts_and_to_those_that_come() {
    let hub = Hub::start(&format!("[hub]\ndrain_timeout = '300ms'\n{}", rogue("a", &[], "isolation = 'shared'")));
    let client = Client::open(&hub, "/a/mcp").await;
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.call("hang", json!({})).await });
    hub.until_upstream("a", |upstream| upstream["in_flight"] == 1).await;
    assert_eq!(hub.commanded(&["stop", "a"]).await.0, 0);
    let (text, data) = error(&waiting.await.unwrap());
    assert!(text.contains("was stopped by the operator while the call was under way"), "{text}");
    assert_eq!(data, json!({ "upstream": "a", "reason": "draining", "retryable": true }));
    let (text, data) = error(&client.call("pid", json!({})).await);
    assert_eq!(text, "upstream `a` is not available: it was stopped by the operator; trying again does not help");
    assert_eq!(data, json!({ "upstream": "a", "reason": "stopped", "retryable": false }));
}

#[tokio::test]
async fn a_login_that_is_missing_is_told_as_such() {
    let peer = legacy(|_| Some(Reply::status(401).header("www-authenticate", "Basic realm=\"x\""))).await;
    let hub = Hub::start(&peer.upstream("a", ""));
    let (text, data) = error(&greet(&hub, "a").await);
    assert!(text.starts_with("upstream `a` is not available: it wants authorization: "), "{text}");
    assert!(text.ends_with("; trying again helps once somebody has logged in"), "{text}");
    assert_eq!(data, json!({ "upstream": "a", "reason": "needs_auth", "retryable": false }));
    assert_eq!(hub.upstream("a").await["state"], "needs_auth");
}

#[tokio::test]
async fn who_may_not_is_told_so_and_a_fast_caller_when_to_come_back() {
    let secret = "s".repeat(40);
    let toml = format!(
        "[hub]\nauth = {{ tokens = [{{ name = 'ada', secret = '${{file:token}}', upstreams = ['b'] }}] }}\n\
         [hub.limits]\nrate = {{ per_second = 1, burst = 3 }}\n{}{}",
        echo("a", ""),
        echo("b", "")
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), &secret).unwrap();
    let hub = Hub::start_in(folder, &toml);
    let bearer = format!("Bearer {secret}");
    let ask = async |name: &str, headers: &[(&str, &str)]| {
        post(&http(), &hub.url(&format!("/{name}/mcp")), headers, &initialize(LATEST, json!({}))).await
    };
    let stranger = ask("b", &[]).await;
    assert_eq!((stranger.status, error(&stranger).1), (401, json!({ "reason": "needs_auth", "retryable": false })));
    let headers = [("authorization", bearer.as_str())];
    let barred = ask("a", &headers).await;
    assert_eq!((barred.status, error(&barred).1), (403, json!({ "reason": "forbidden", "retryable": false })));
    let fast = loop {
        let answer = ask("b", &headers).await;
        if answer.status != 200 {
            break answer;
        }
    };
    let (_, data) = error(&fast);
    assert_eq!((fast.status, &data["reason"], &data["retryable"]), (429, &json!("overloaded"), &json!(true)));
    assert!(data["retryAfterMs"].as_u64() > Some(0), "{data}");
}

#[tokio::test]
async fn over_stdio_a_client_reads_the_same() {
    let peer = legacy(|_| None).await;
    let url = peer.url("/mcp");
    let mut bridge = Bridge::start(&[&url]);
    bridge.open().await;
    assert_eq!(bridge.echo("x").await, "x");
    peer.stop().await;
    let answer = bridge.ask("tools/call", json!({ "name": "echo" })).await;
    let (text, data) = read(&answer);
    assert!(text.contains("cannot be reached") && text.contains("again"), "{text}");
    assert_eq!((&data["reason"], &data["retryable"]), (&json!("failed"), &json!(true)), "{answer}");
}
