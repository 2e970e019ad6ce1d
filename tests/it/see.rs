//! What can be seen of a running hub: status, events, metrics; and start, stop and restart.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    access::{ADA, CI, bearer, entry, guarded},
    demo::example,
    fixture::{Client, Hub, Stream, alive, echo, http, modern, rogue, told},
    request::Request,
};

const SHARED: &str = "isolation = 'shared'\n";

async fn get(hub: &Hub, path: &str) -> (u16, Value) {
    let answer = http().get(hub.url(path)).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn events(hub: &Hub, token: Option<&str>) -> Stream {
    let mut request = http().get(hub.url("/api/v1/events"));
    if let Some(token) = token {
        request = request.header("authorization", bearer(token));
    }
    Stream::of(request.send().await.unwrap())
}

/// The next event that is as wished, and how long it took to come.
async fn until(stream: &mut Stream, wished: impl Fn(&str, &Value) -> bool) -> (Value, Duration) {
    let began = Instant::now();
    loop {
        let event = stream.next().await.expect("the stream goes on");
        let data = event.json();
        if wished(event.event.as_deref().unwrap_or_default(), &data) {
            return (data, began.elapsed());
        }
    }
}

fn says(name: &'static str, state: &'static str) -> impl Fn(&str, &Value) -> bool {
    move |event, data| event == "upstream" && data["name"] == name && data["state"] == state
}

/// The samples of a metric: labels and value.
fn samples(scrape: &prometheus_parse::Scrape, name: &str) -> Vec<(prometheus_parse::Labels, f64)> {
    let of = scrape.samples.iter().filter(|sample| sample.metric == name);
    of.map(|sample| {
        let value = match &sample.value {
            prometheus_parse::Value::Counter(value) | prometheus_parse::Value::Gauge(value) => *value,
            prometheus_parse::Value::Untyped(value) => *value,
            // The last bucket holds all.
            prometheus_parse::Value::Histogram(buckets) => buckets.last().unwrap().count,
            other => panic!("{other:?}"),
        };
        (sample.labels.clone(), value)
    })
    .collect()
}

async fn scrape(hub: &Hub) -> prometheus_parse::Scrape {
    let answer = http().get(hub.url("/metrics")).send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text().await.unwrap();
    prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

fn of(scrape: &prometheus_parse::Scrape, name: &str, wished: &[(&str, &str)]) -> f64 {
    let all = samples(scrape, name);
    let fits = |labels: &prometheus_parse::Labels| wished.iter().all(|(key, value)| labels.get(key) == Some(*value));
    all.iter().filter(|(labels, _)| fits(labels)).map(|(_, value)| value).sum()
}

#[tokio::test]
async fn metrics_count_exactly_what_was_called() {
    let hub = Hub::start(&format!("{}{}", echo("a", SHARED), modern("b", &[], "")));
    let client = Client::open(&hub, "/a/mcp").await;
    for n in 0..30 {
        assert_eq!(client.call("echo", json!({ "text": n.to_string() })).await.status, 200);
    }
    for _ in 0..7 {
        client.call("no-such-tool", json!({})).await.error();
    }
    client.request("tools/list", json!({})).await;
    let newer = Request::new(&hub, "/b/mcp", "tools/list", json!({})).send().await;
    assert_eq!(newer.status, 200, "{}", newer.text);

    let seen = scrape(&hub).await;
    let calls = |wished: &[(&str, &str)]| of(&seen, "mcp_server_operation_duration_seconds", wished);
    let echo = [("upstream", "a"), ("mcp_method_name", "tools/call"), ("gen_ai_tool_name", "echo")];
    assert_eq!(calls(&echo), 30.0);
    assert_eq!(
        calls(&[("gen_ai_tool_name", "_other"), ("error_type", "-32602")]),
        7.0,
        "a name that is none is no label"
    );
    assert_eq!(calls(&[("upstream", "a")]), 39.0, "with initialize and the list");
    assert_eq!(calls(&[("upstream", "b"), ("mcp_protocol_version", "2026-07-28")]), 1.0);
    assert_eq!(of(&seen, "mcp_client_operation_duration_seconds", &echo), 30.0);
    assert_eq!(of(&seen, "hubward_calls_in_flight", &[]), 0.0);
    assert_eq!(of(&seen, "hubward_upstream_up", &[("upstream", "a")]), 1.0);
    assert_eq!(of(&seen, "hubward_upstream_state", &[("upstream", "a"), ("state", "ready")]), 1.0);
    assert_eq!(of(&seen, "hubward_upstream_state", &[("upstream", "a")]), 1.0, "it is in one state only");
    assert_eq!(of(&seen, "hubward_sessions", &[("upstream", "a"), ("era", "legacy")]), 1.0);
    assert_eq!(of(&seen, "hubward_upstream_start_duration_seconds", &[("upstream", "a")]), 1.0);
    assert!(of(&seen, "hubward_child_rss_bytes", &[("upstream", "a")]) > 100_000.0);
    assert!(of(&seen, "hubward_http_responses_total", &[("status", "200")]) >= 39.0);

    client.delete().await;
    assert_eq!(of(&scrape(&hub).await, "mcp_server_session_duration_seconds", &[("upstream", "a")]), 1.0);
    let newer = http().get(hub.url("/metrics")).header("accept", "application/openmetrics-text").send().await.unwrap();
    assert!(newer.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(newer.text().await.unwrap().ends_with("# EOF\n"));
}

#[tokio::test]
async fn f132_the_generation_is_in_the_status_in_metrics_and_where_it_is_wanted_in_each_answer() {
    let hub = Hub::start(&echo("a", SHARED));
    let header = async |hub: &Hub| {
        let answer = http().get(hub.url("/ping")).send().await.unwrap();
        answer.headers().get("hubward-generation").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(header(&hub).await, None, "it is not told unasked");
    hub.edit(&format!("[hub]\ngeneration_header = true\n{}", echo("a", SHARED)));
    hub.generation(2).await;
    assert_eq!(header(&hub).await.as_deref(), Some("2"));
    assert_eq!(of(&scrape(&hub).await, "hubward_config_generation", &[]), 2.0);
    hub.edit("[hub]\nnonsense = 1\n");
    hub.until("rejected", |status| status["reload"]["rejected"].is_string()).await;
    let seen = scrape(&hub).await;
    assert_eq!(of(&seen, "hubward_config_generation", &[]), 2.0);
    assert_eq!(of(&seen, "hubward_config_last_reload_successful", &[]), 0.0);
    assert_eq!(of(&seen, "hubward_config_reloads_total", &[("result", "rejected")]), 1.0);
    let refused = http().get(hub.url("/api/v1/upstreams/none")).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["hubward-generation"].to_str().unwrap()), (404, "2"));
}

#[tokio::test]
async fn what_becomes_of_an_upstream_is_told_within_a_second_cause_included() {
    let second = Duration::from_secs(1);
    let hang = rogue("slow", &["--never-initialize"], "start = 'eager'\n");
    let two = format!("{}{}", echo("a", &format!("{SHARED}start = 'eager'\n")), hang);
    let hub = Hub::start(&two);
    hub.until_upstream("a", |upstream| upstream["state"] == "ready").await;
    let mut stream = events(&hub, None).await;
    let (first, _) = until(&mut stream, |event, _| event == "hub").await;
    assert_eq!(first["reload"]["generation"], 1);
    let (a, _) = until(&mut stream, says("a", "ready")).await;
    until(&mut stream, says("slow", "starting")).await;
    until(&mut stream, |event, _| event == "settled").await;

    // kill -9
    let pid = a["pids"][0].as_u64().unwrap() as i32;
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    let killed = |event: &str, data: &Value| event == "upstream" && data["name"] == "a" && data["restarts"] == 1;
    let (a, took) = until(&mut stream, killed).await;
    assert!(took < second, "{took:?}");
    assert!(a["reason"].as_str().unwrap().contains("signal"), "{a}");

    // A command that is none.
    hub.edit(&format!("{two}[upstreams.c]\ncommand = '/no/such/program'\nstart = 'eager'\n"));
    hub.generation(2).await;
    let (c, took) = until(&mut stream, says("c", "waiting")).await;
    assert!(took < second && c["reason"].as_str().unwrap().contains("/no/such/program"), "{took:?} {c}");
    assert_eq!(c["next"], "hubward logs c");

    // An edit that is wrong, and the end of one.
    hub.edit("[upstreams.a]\ncomand = 'x'\n");
    let (wrong, took) =
        until(&mut stream, |event, data| event == "hub" && data["reload"]["rejected"].is_string()).await;
    assert!(wrong["reload"]["rejected"].as_str().unwrap().contains("comand"));
    assert!(took < second * 2, "with the wait for the file to settle: {took:?}");
    hub.edit(&echo("a", &format!("{SHARED}start = 'eager'\n")));
    until(&mut stream, |event, data| event == "gone" && data["name"] == "slow").await;
}

#[tokio::test]
async fn each_caller_is_shown_what_it_may_use_and_nothing_else() {
    let hub = Hub::start(&guarded());
    let ask = async |path: &str, token: &str| {
        let answer = http().get(hub.url(path)).header("authorization", bearer(token)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for path in ["/metrics", "/api/v1/events", "/api/v1/status", "/api/v1/upstreams/a", "/api/v1/upstreams/a/lists"] {
        assert_eq!(http().get(hub.url(path)).send().await.unwrap().status(), 401, "{path}");
    }
    assert!(ask("/metrics", ADA).await.1.contains(r#"upstream="b""#));
    let ci = ask("/metrics", CI).await.1;
    assert!(ci.contains(r#"upstream="a""#) && !ci.contains(r#"upstream="b""#));
    assert_eq!(ask("/api/v1/upstreams/b", ADA).await.0, 200);
    assert_eq!((ask("/api/v1/upstreams/b", CI).await.0, ask("/api/v1/upstreams/b/lists", CI).await.0), (404, 404));
    let mut stream = events(&hub, Some(CI)).await;
    let mut names = Vec::new();
    loop {
        let event = stream.next().await.unwrap();
        match event.event.as_deref().unwrap_or_default() {
            "upstream" => names.push(event.json()["name"].clone()),
            "settled" => break,
            _ => {}
        }
    }
    assert_eq!(names, ["a"]);
    // Who is thrown out sees no more.
    hub.edit(&format!("[hub]\nauth = {{ tokens = [{}] }}\n{}", entry("ada", ADA, ""), echo("a", SHARED)));
    while let Some(event) = stream.next().await {
        assert_ne!(event.json()["name"], "b");
    }
}

#[tokio::test]
async fn a_page_of_another_site_makes_a_browser_ask_for_nothing() {
    let hub = Hub::start(&echo("a", SHARED));
    let ask = async |mode: &str, site: &str| {
        let request = http().get(hub.url("/api/v1/upstreams/a/lists"));
        let answer = request.header("sec-fetch-site", site).header("sec-fetch-mode", mode).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(ask("no-cors", "cross-site").await, 403);
    assert_eq!(hub.upstream("a").await["state"], "idle", "nothing was started");
    assert_eq!(ask("cors", "same-origin").await, 200);
}

#[tokio::test]
async fn the_lists_are_what_the_server_lists_to_who_asks() {
    let hub = Hub::start(&format!("{}{}", rogue("a", &[], "tools = { deny = ['crash'] }\n"), modern("b", &[], "")));
    let (status, lists) = get(&hub, "/api/v1/upstreams/a/lists").await;
    let names: Vec<&str> =
        lists["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(status, 200);
    assert!(names.contains(&"echo") && !names.contains(&"crash"), "{names:?}");
    assert!(get(&hub, "/api/v1/upstreams/b/lists").await.1["tools"].is_array());
    hub.until_upstream("a", |upstream| upstream["sessions"] == 0 && upstream["pids"] == json!([])).await;
}

#[tokio::test]
async fn the_detail_shows_clients_calls_and_moments_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "the-canary-in-its-cage").unwrap();
    let keys = format!("{SHARED}env = {{ A = '${{file:secret}}', GITHUB_TOKEN = 'a-literal-canary' }}\n");
    let hub = Hub::start_in(folder, &echo("a", &keys));
    let client = Client::open(&hub, "/a/mcp").await;
    client.call("echo", json!({ "text": "a body that is nobody's business" })).await;
    client.call("nope", json!({})).await;
    let (_, detail) = get(&hub, "/api/v1/upstreams/a").await;
    let text = detail.to_string();
    assert!(!text.contains("canary") && !text.contains("nobody's business"), "{text}");
    assert_eq!(detail["recent"][0]["tool"], "nope");
    assert_eq!((&detail["recent"][0]["outcome"], &detail["recent"][0]["code"]), (&json!("error"), &json!(-32602)));
    assert_eq!(detail["recent"][1]["outcome"], "ok");
    assert_eq!(detail["clients_list"][0]["transport"], "streamable-http");
    let moments: Vec<&Value> = detail["timeline"].as_array().unwrap().iter().map(|moment| &moment["event"]).collect();
    assert_eq!(moments, ["ready", "starting"]);
    assert_eq!(detail["minutes"].as_array().unwrap().last().unwrap()["calls"], 3);
    assert_eq!(detail["calls_per_minute"], 3.0);
    assert!(detail["config"].as_str().unwrap().contains("request_timeout = \"5m\""));
}

#[tokio::test]
async fn a_call_that_finds_no_upstream_counts_as_failed() {
    let hub = Hub::start("[upstreams.a]\ncommand = '/no/such/program'\nera = 'legacy'\n");
    let hello = super::fixture::initialize("2025-11-25", json!({}));
    let answer = super::fixture::post(&http(), &hub.url("/a/mcp"), &[], &hello).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    Request::new(&hub, "/a/mcp", "tools/list", json!({})).send().await;
    let (_, detail) = get(&hub, "/api/v1/upstreams/a").await;
    let outcomes: Vec<&Value> = detail["recent"].as_array().unwrap().iter().map(|call| &call["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "failed"]);
}

fn command(hub: &Hub, args: &[&str]) -> (i32, String, String) {
    told(&hub.command(args))
}

#[tokio::test]
async fn stop_lets_calls_finish_and_lasts_until_start() {
    let hub = Hub::start(&rogue("a", &[], SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let pid = hub.upstream("a").await["pids"][0].as_u64().unwrap() as u32;
    let (slow, stopped) = tokio::join!(client.call("sleep", json!({ "ms": 600 })), async {
        hub.until_upstream("a", |upstream| upstream["in_flight"] == 1).await;
        hub.commanded(&["stop", "a"]).await
    });
    assert_eq!(slow.status, 200, "{}", slow.text);
    assert!(slow.last()["result"].is_object(), "a call under way finishes: {}", slow.text);
    assert_eq!((stopped.0, stopped.1.trim()), (0, "a: disabled"), "{}", stopped.2);
    assert!(!alive(pid));
    let upstream = hub.upstream("a").await;
    assert_eq!((&upstream["state"], &upstream["next"]), (&json!("disabled"), &json!("hubward start a")));
    let refused = client.call("pid", json!({})).await;
    assert!(refused.text.contains("stopped by the operator"), "{}", refused.text);
    // A changed definition does not start it.
    hub.edit(&rogue("a", &[], &format!("{SHARED}env = {{ A = '1' }}\nstart = 'eager'\n")));
    hub.generation(2).await;
    assert_eq!(hub.upstream("a").await["state"], "disabled");
    assert_eq!(command(&hub, &["start", "a"]).0, 0);
    assert_eq!(hub.upstream("a").await["state"], "ready");
    assert!(client.call("pid", json!({})).await.last()["result"].is_object(), "the session goes on");
}

#[tokio::test]
async fn a_restart_is_noticed_by_nobody() {
    let hub = Hub::start(&rogue("a", &[], SHARED));
    let client = Client::open(&hub, "/a/mcp").await;
    let before = client.call("pid", json!({})).await.tool_text();
    let busy = async {
        for _ in 0..200 {
            let answer = client.call("pid", json!({})).await;
            assert!(answer.last()["result"].is_object(), "{}", answer.text);
        }
    };
    let (_, (code, out, err)) = tokio::join!(busy, hub.commanded(&["restart", "a"]));
    assert_eq!((code, out.trim()), (0, "a: ready"), "{err}");
    assert_ne!(client.call("pid", json!({})).await.tool_text(), before);
}

#[tokio::test]
async fn a_restart_that_does_not_start_says_why_and_leaves_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("server");
    std::os::unix::fs::symlink(example("echo"), &program).unwrap();
    let toml = format!("[upstreams.a]\ncommand = {:?}\n{SHARED}era = 'legacy'\n", program.display().to_string());
    let hub = Hub::start_in(folder, &toml);
    let client = Client::open(&hub, "/a/mcp").await;
    std::fs::remove_file(&program).unwrap();
    let (code, out, err) = command(&hub, &["restart", "a"]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("upstream `a`") && err.contains("server"), "{err}");
    assert_eq!(client.call("echo", json!({ "text": "still" })).await.tool_text(), "still");
    assert!(hub.upstream("a").await["notice"].as_str().unwrap().contains("did not start"));
}

#[tokio::test]
async fn start_revives_what_has_failed_and_says_why_where_it_fails_again() {
    let hub = Hub::start(
        "[upstreams.a]\ncommand = '/no/such/program'\nrestart = { max = 1 }\n[upstreams.off]\ncommand = 'x'\nenabled = false\n",
    );
    let (code, _, err) = command(&hub, &["start", "a"]);
    assert!(code == 1 && err.contains("/no/such/program"), "{code} {err}");
    let (code, _, err) = command(&hub, &["restart", "off"]);
    assert!(code == 1 && err.contains("disabled in hub.toml"), "{code} {err}");
    let (code, _, err) = command(&hub, &["stop", "nobody"]);
    assert!(code == 1 && err.contains("there is a, off"), "{code} {err}");
}

#[tokio::test]
async fn the_status_command_shows_the_table_one_upstream_and_json() {
    let hub =
        Hub::start(&format!("{}[upstreams.b]\ncommand = '/no/such/program'\nstart = 'eager'\n", echo("a", SHARED)));
    let client = Client::open(&hub, "/a/mcp").await;
    client.call("echo", json!({ "text": "x" })).await;
    hub.until_upstream("b", |upstream| upstream["state"] == "waiting").await;
    let (code, out, err) = command(&hub, &["status"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("NAME") && out.lines().any(|line| line.starts_with("a ") && line.contains("ready")), "{out}");
    assert!(out.lines().any(|line| line.starts_with("b ") && line.contains("waiting")), "{out}");
    let (_, one, _) = command(&hub, &["status", "a"]);
    assert!(one.starts_with("a: ready") && one.contains("tools/call echo ok"), "{one}");
    let (_, json, _) = command(&hub, &["status", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["upstreams"][0]["name"], "a");
    assert_eq!(command(&hub, &["status", "none"]).0, 1);
}
