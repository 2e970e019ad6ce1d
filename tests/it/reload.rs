//! A changed hub.toml: what is touched by it and what is not (faults F84-F99).

use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::{
    Client, Hub, SseClient, alive, echo, eventually, example, file_until, http, initialize, post, rogue,
};

/// `[hub]` with a time to drain.
fn drain(timeout: &str) -> String {
    format!("[hub]\ndrain_timeout = '{timeout}'\n")
}

async fn pid(client: &Client) -> u32 {
    client.call("pid", json!({})).await.tool_text().parse().unwrap()
}

fn sleeping(client: &Client, ms: u64) -> tokio::task::JoinHandle<super::fixture::Answer> {
    let client = client.clone();
    tokio::spawn(async move { client.call("sleep", json!({ "ms": ms })).await })
}

/// The text of a generation's one word on what it did.
async fn plan(hub: &Hub) -> String {
    hub.status().await["reload"]["plan"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_added_upstream_is_served_and_the_others_are_not_touched() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let before = pid(&client).await;
    hub.edit(&format!("{}{}", rogue("a", &[], ""), echo("b", "")));
    hub.generation(2).await;
    assert_eq!(plan(&hub).await, "1 added, 1 untouched");
    let added = Client::open(&hub, "/b/mcp").await;
    assert_eq!(added.call("echo", json!({ "text": "hi" })).await.tool_text(), "hi");
    assert_eq!(pid(&client).await, before);
}

#[tokio::test]
async fn f98_a_removed_mount_lets_its_calls_finish_and_then_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log").display().to_string();
    let hub = Hub::start_in(folder, &format!("{}{}", rogue("a", &["--log", &log], ""), echo("b", "")));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut older = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let process = pid(&client).await;
    let stream = client.get(None).await;
    // One that answers as JSON, one as a stream, one on the stream of the session.
    let (short, long) = (sleeping(&client, 700), sleeping(&client, 2000));
    let call = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call",
                       "params": { "name": "sleep", "arguments": { "ms": 1500 } } });
    assert_eq!(older.send(&call).await, 202);
    file_until(log.as_ref(), |text| text.matches("\"sleep\"").count() == 3).await;
    hub.edit(&echo("b", ""));
    hub.generation(2).await;
    stream.rest().await;
    assert_eq!(client.request("tools/list", json!({})).await.status, 404);
    assert_eq!(short.await.unwrap().tool_text(), "slept");
    assert_eq!(older.stream.message().await.unwrap()["result"]["content"][0]["text"], "slept");
    assert_eq!(older.stream.next().await, None, "with the last answer the stream ends");
    assert_eq!(long.await.unwrap().tool_text(), "slept");
    eventually("the process ends", || !alive(process)).await;
    assert_eq!(hub.until("no session is left", |status| status["sessions"] == 0).await["streams"], 0);
}

#[tokio::test]
async fn f98_the_time_to_finish_is_bounded() {
    let hub = Hub::start(&format!("{}{}{}", drain("500ms"), rogue("a", &[], ""), echo("b", "")));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut older = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let hang = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": { "name": "hang" } });
    assert_eq!(older.send(&hang).await, 202);
    let hanging = tokio::spawn(async move { client.call("hang", json!({})).await });
    hub.until("both hang", |status| status["upstreams"][0]["calls"] == 2).await;
    hub.edit(&format!("{}{}", drain("500ms"), echo("b", "")));
    let (code, why) = hanging.await.unwrap().error();
    assert_eq!(code, -32603);
    assert!(why.contains("removed from the configuration"), "{why}");
    while older.stream.next().await.is_some() {}
}

#[tokio::test]
async fn a_change_in_place_keeps_process_session_and_streams() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let (before, mut stream) = (pid(&client).await, client.get(None).await);
    hub.edit(&rogue("a", &[], "request_timeout = '300ms'"));
    hub.generation(2).await;
    assert_eq!(plan(&hub).await, "1 changed, 0 untouched");
    let (_, why) = client.call("hang", json!({})).await.error();
    assert!(why.contains("300ms"), "the new limit holds: {why}");
    assert_eq!(pid(&client).await, before);
    client.call("list_changed", json!({ "count": 1 })).await;
    let method = loop {
        let message = stream.message().await.expect("the stream is open");
        if message["method"] != Value::Null {
            break message["method"].clone();
        }
    };
    assert_eq!(method, "notifications/tools/list_changed");
}

#[tokio::test]
async fn a_replaced_upstream_keeps_its_sessions_at_the_old_process_and_then_moves_them() {
    let toml = |flags: &[&str]| format!("{}{}", drain("2s"), rogue("a", flags, ""));
    let hub = Hub::start(&toml(&[]));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut stream = client.get(None).await;
    client.request("resources/subscribe", json!({ "uri": "rogue://one" })).await;
    client.request("logging/setLevel", json!({ "level": "error" })).await;
    let old = pid(&client).await;
    hub.edit(&toml(&["--instructions", "two"]));
    hub.logged("the new definition serves").await;
    assert_eq!(pid(&client).await, old, "it finishes where it began");
    let newer = Client::open(&hub, "/a/mcp").await;
    assert_eq!(newer.greeting["instructions"], "two");
    let event = stream.message().await.unwrap();
    assert_eq!(event["method"], "notifications/tools/list_changed", "it is told when it moves");
    let new = pid(&client).await;
    assert!(new != old && new != pid(&newer).await, "a process of its own again");
    assert_eq!(client.call("subscriptions", json!({})).await.tool_text(), r#"["subscribe rogue://one"]"#);
    assert_eq!(client.call("levels", json!({})).await.tool_text(), r#"["error"]"#);
    eventually("the old process ends", || !alive(old)).await;
    let upstream = hub.upstream("a").await;
    assert_eq!((&upstream["state"], &upstream["sessions"]), (&json!("ready"), &json!(2)));
}

#[tokio::test]
async fn a_replaced_shared_upstream_moves_everybody_at_once_and_fails_nobody() {
    let toml = |flags: &[&str]| format!("{}{}", drain("10s"), rogue("a", flags, "isolation = 'shared'"));
    let hub = Hub::start(&toml(&[]));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut stream = client.get(None).await;
    client.request("resources/subscribe", json!({ "uri": "rogue://one" })).await;
    let old = pid(&client).await;
    let slow = sleeping(&client, 3000);
    hub.until("it sleeps", |status| status["upstreams"][0]["calls"].as_u64() >= Some(2)).await;
    hub.edit(&toml(&["--instructions", "two"]));
    // Without pause, until the new process answers.
    let new = loop {
        let answering = pid(&client).await;
        if answering != old {
            break answering;
        }
    };
    assert!(alive(old), "a call is still under way there");
    assert_eq!(stream.message().await.unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(slow.await.unwrap().tool_text(), "slept");
    eventually("the old process ends", || !alive(old)).await;
    assert_eq!(pid(&client).await, new);
    assert_eq!(client.call("subscriptions", json!({})).await.tool_text(), r#"["subscribe rogue://one"]"#);
}

#[tokio::test]
async fn only_what_was_promised_is_announced_when_the_process_changes() {
    let toml = |text: &str| {
        let flags = ["--capabilities", r#"{"tools":{},"resources":{"listChanged":true}}"#, "--instructions", text];
        rogue("a", &flags, "isolation = 'shared'")
    };
    let hub = Hub::start(&toml("one"));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut stream = client.get(None).await;
    hub.edit(&toml("two"));
    hub.logged("the new definition serves").await;
    assert_eq!(stream.message().await.unwrap()["method"], "notifications/resources/list_changed");
    client.call("updated", json!({ "uri": "rogue://one" })).await;
    hub.edit(&echo("b", ""));
    assert_eq!(stream.message().await, None, "and nothing else");
}

#[tokio::test]
async fn a_definition_that_does_not_start_leaves_the_old_one_serving_and_says_so() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let old = pid(&client).await;
    for (flags, keys, why) in [
        (["--exit-at-start", "3"], "", "exited with code 3"),
        (["--slow-start", "60"], "start_timeout = '300ms'", "start_timeout"),
    ] {
        hub.edit(&rogue("a", &flags, keys));
        let told = |upstream: &Value| upstream["notice"].as_str().is_some_and(|notice| notice.contains(why));
        let upstream = hub.until_upstream("a", told).await;
        assert!(upstream["notice"].as_str().unwrap().starts_with("running the previous definition"), "{upstream}");
        assert_eq!(upstream["state"], "ready");
        assert_eq!(pid(&client).await, old);
        assert_eq!(Client::open(&hub, "/a/mcp").await.greeting["instructions"], Value::Null);
    }
    hub.edit(&rogue("a", &["--instructions", "good"], ""));
    hub.logged("the new definition serves").await;
    assert_eq!(hub.upstream("a").await["notice"], Value::Null);
    assert_eq!(Client::open(&hub, "/a/mcp").await.greeting["instructions"], "good");
}

#[tokio::test]
async fn going_back_from_a_definition_that_does_not_start_restarts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    let toml = |more: &[&str], keys: &str| {
        let counter = counter.display().to_string();
        rogue("a", &[["--counter", &counter].as_slice(), more].concat(), &format!("isolation = 'shared'\n{keys}"))
    };
    let hub = Hub::start_in(folder, &toml(&[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let old = pid(&client).await;
    hub.edit(&toml(&["--exit-at-start", "3"], ""));
    hub.until_upstream("a", |upstream| upstream["notice"] != Value::Null).await;
    // With another key changed on the way, which needs no process.
    hub.edit(&toml(&[], "request_timeout = '250ms'"));
    hub.generation(3).await;
    assert_eq!(hub.upstream("a").await["notice"], Value::Null);
    assert!(client.call("hang", json!({})).await.error().1.contains("250ms"));
    assert_eq!(pid(&client).await, old);
    assert_eq!(file_until(&counter, |text| !text.is_empty()).await.lines().count(), 2, "old and failed");
}

#[tokio::test]
async fn without_overlap_the_new_process_waits_for_the_end_of_the_old() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever starts while another runs fails.
    let lock = folder.path().join("lock").display().to_string();
    let rogue = example("rogue").display().to_string();
    let toml = |text: &str| {
        let script = format!("mkdir {lock} || exit 9; {rogue} --instructions {text}; rmdir {lock}");
        format!("[upstreams.a]\ncommand = 'sh'\nargs = ['-c', {script:?}]\noverlap = false\nisolation = 'shared'\n")
    };
    let hub = Hub::start_in(folder, &toml("one"));
    let client = Client::open(&hub, "/a/mcp").await;
    let (old, slow) = (pid(&client).await, sleeping(&client, 1500));
    hub.until("it sleeps", |status| status["upstreams"][0]["calls"] == 2).await;
    hub.edit(&toml("two"));
    hub.generation(2).await;
    // A second edit before the first one came to life.
    hub.edit(&toml("three"));
    hub.generation(3).await;
    assert_eq!(slow.await.unwrap().tool_text(), "slept");
    let newer = Client::open(&hub, "/a/mcp").await;
    assert_eq!(newer.greeting["instructions"], "three");
    assert!(!alive(old));
    assert_eq!(hub.upstream("a").await["restarts"], 0);
    assert_ne!(pid(&client).await, old, "its session went on");
}

#[tokio::test]
async fn an_upstream_is_switched_off_and_on() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let old = pid(&client).await;
    hub.edit(&rogue("a", &[], "enabled = false"));
    hub.until_upstream("a", |upstream| upstream["state"] == "disabled").await;
    eventually("the process ends", || !alive(old)).await;
    let refused = client.call("pid", json!({})).await;
    assert_eq!((refused.status, &refused.last()["error"]["data"]["retryable"]), (503, &json!(false)));
    assert!(refused.error().1.contains("disabled"), "{refused:?}");
    let status = async |path: &str| http().get(hub.url(path)).send().await.unwrap().status().as_u16();
    assert_eq!((status("/readyz/a").await, status("/readyz").await), (503, 200));
    hub.edit(&rogue("a", &[], "enabled = true"));
    hub.generation(3).await;
    assert_ne!(pid(&client).await, old);
    assert_eq!(status("/readyz/a").await, 200);
}

#[tokio::test]
async fn what_is_disabled_from_the_start_says_so() {
    let hub = Hub::start(&format!("{}{}", rogue("a", &[], "enabled = false"), echo("b", "")));
    let upstream = hub.until_upstream("a", |upstream| upstream["state"] == "disabled").await;
    assert_eq!(upstream["reason"], "disabled in the configuration");
    let refused = post(&http(), &hub.url("/a/mcp"), &[], &initialize("2025-06-18", json!({}))).await;
    assert_eq!(refused.status, 503);
    // Still so when something else was told about.
    hub.edit(&rogue("a", &[], "enabled = false"));
    hub.generation(2).await;
    assert_eq!(hub.upstream("a").await["state"], "disabled");
}

#[tokio::test]
async fn f99_a_new_name_is_a_new_upstream() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let old = pid(&client).await;
    hub.edit(&rogue("b", &[], ""));
    hub.generation(2).await;
    assert_eq!(plan(&hub).await, "1 added, 1 removed, 0 untouched");
    assert_eq!(client.request("tools/list", json!({})).await.status, 404);
    let moved = Client { url: hub.url("/b/mcp"), ..client.clone() };
    assert_eq!(moved.request("tools/list", json!({})).await.status, 404, "a session belongs to its mount");
    assert_ne!(pid(&Client::open(&hub, "/b/mcp").await).await, old);
    eventually("the old process ends", || !alive(old)).await;
}

#[tokio::test]
async fn f84_a_broken_file_changes_nothing_and_is_told_with_its_place() {
    let good = rogue("a", &[], "");
    let hub = Hub::start(&good);
    let client = Client::open(&hub, "/a/mcp").await;
    let before = pid(&client).await;
    let next = good.lines().count() + 1;
    for (bad, place, word) in [
        (format!("{good}[upstreams.b\n"), format!(":{next}:13"), "hub.toml"),
        (format!("{good}comand = 'x'\n"), format!(":{next}:1"), "command"),
        (String::new(), String::new(), "empty"),
    ] {
        hub.edit(&bad);
        let rejected = |status: &Value| status["reload"]["rejected"].as_str().unwrap_or_default().to_owned();
        let told = hub.until("a rejection", |status| rejected(status).contains(word)).await;
        assert!(rejected(&told).contains(&format!("hub.toml{place}")), "{}", rejected(&told));
        assert_eq!(told["reload"]["generation"], 1);
        assert_eq!(http().get(hub.url("/readyz")).send().await.unwrap().status(), 200);
        assert_eq!(pid(&client).await, before);
    }
    hub.edit(&good);
    let status = hub.until("the rejection is over", |status| status["reload"]["rejected"] == Value::Null).await;
    assert_eq!(status["reload"]["generation"], 1, "it says what runs already");
    assert_eq!(pid(&client).await, before);
}

#[tokio::test]
async fn f94_what_needs_a_restart_refuses_the_whole_edit_by_name() {
    let toml = |hub: &str, more: &str| format!("[hub]\n{hub}\n{}{more}", rogue("a", &[], ""));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, toml("bind = ['127.0.0.1:0']", "")).unwrap();
    let mut command = super::fixture::hubward(&["serve", "-c"]);
    command.arg(path);
    let hub = Hub::run(folder, command);
    let client = Client::open(&hub, "/a/mcp").await;
    let before = pid(&client).await;
    let edit = "bind = ['127.0.0.1:0', '[::1]:0']\nworkers = 7\nlimits.connections_max = 9";
    hub.edit(&toml(edit, &echo("b", "")));
    let rejected = |status: &Value| status["reload"]["rejected"].as_str().unwrap_or_default().to_owned();
    let status = hub.until("a refusal", |status| rejected(status).contains("restart")).await;
    for key in ["hub.bind", "hub.workers", "hub.limits.connections_max"] {
        assert!(rejected(&status).contains(key), "{}", rejected(&status));
    }
    assert_eq!(status["reload"]["generation"], 1);
    assert_eq!(post(&http(), &hub.url("/b/mcp"), &[], &json!({})).await.status, 404, "nothing of it was applied");
    assert_eq!(pid(&client).await, before);
    hub.edit(&toml("bind = ['127.0.0.1:0']", &echo("b", "")));
    hub.generation(2).await;
    Client::open(&hub, "/b/mcp").await;
}

#[tokio::test]
async fn what_is_untouched_notices_nothing_of_twenty_reloads() {
    let kept = format!("{}{}", rogue("own", &[], ""), rogue("all", &[], "isolation = 'shared'"));
    let hub = Hub::start(&kept);
    let clients = [Client::open(&hub, "/own/mcp").await, Client::open(&hub, "/all/mcp").await];
    let done = tokio_util::sync::CancellationToken::new();
    let mut callers = Vec::new();
    for client in clients.clone() {
        let (before, mut stream, done) = (pid(&client).await, client.get(None).await, done.clone());
        callers.push(tokio::spawn(async move {
            let mut calls = 0;
            while !done.is_cancelled() || calls == 0 {
                assert_eq!(pid(&client).await, before);
                calls += 1;
            }
            client.call("list_changed", json!({ "count": 1 })).await;
            assert_eq!(stream.message().await.unwrap()["method"], "notifications/tools/list_changed");
            calls
        }));
    }
    for number in 0..20 {
        let flags = ["--instructions", &number.to_string()];
        let others = format!("{}{}", rogue("changes", &flags, ""), rogue(&format!("new{number}"), &[], ""));
        hub.edit(&format!("{kept}{others}"));
        hub.generation(number + 2).await;
        assert!(!Client::open(&hub, "/changes/mcp").await.greeting["instructions"].is_null());
    }
    done.cancel();
    for caller in callers {
        assert!(caller.await.unwrap() > 20);
    }
    for name in ["own", "all"] {
        let upstream = hub.upstream(name).await;
        assert_eq!(
            (&upstream["restarts"], &upstream["errors"], &upstream["sessions"]),
            (&json!(0), &json!(0), &json!(1))
        );
    }
}

#[tokio::test]
async fn f96_two_hundred_saves_end_with_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, changed) = (folder.path().join("kept"), folder.path().join("changed"));
    let toml = |number: u32| {
        let flags = ["--counter", &changed.display().to_string(), "--instructions", &number.to_string()];
        let kept = rogue("kept", &["--counter", &kept.display().to_string()], "isolation = 'shared'\nstart = 'eager'");
        format!("{kept}{}", rogue("changed", &flags, "isolation = 'shared'\nstart = 'eager'"))
    };
    let hub = Hub::start_in(folder, &toml(0));
    hub.until_upstream("changed", |upstream| upstream["state"] == "ready").await;
    hub.until_upstream("kept", |upstream| upstream["state"] == "ready").await;
    for number in 1..=200 {
        hub.edit(&toml(number));
        // The pace of the row: it is what is tested, not something that is waited for.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let client = loop {
        let client = Client::open(&hub, "/changed/mcp").await;
        if client.greeting["instructions"] == "200" {
            break client;
        }
    };
    let last = pid(&client).await;
    let generations = hub.status().await["reload"]["generation"].as_u64().unwrap() as usize;
    let started: Vec<u32> = lines(&changed);
    assert!(started.len() <= generations, "{} starts in {generations} generations", started.len());
    assert_eq!(lines(&kept).len(), 1);
    eventually("one process is left", || started.iter().filter(|pid| alive(**pid)).eq([&last])).await;
}

fn lines(path: &std::path::Path) -> Vec<u32> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test]
async fn f97_a_reload_while_an_earlier_one_drains_supersedes_it() {
    let toml =
        |text: &str| format!("{}{}", drain("20s"), rogue("a", &["--instructions", text], "isolation = 'shared'"));
    let hub = Hub::start(&toml("one"));
    let client = Client::open(&hub, "/a/mcp").await;
    let (mut pids, mut calls) = (Vec::new(), Vec::new());
    for (generation, text) in ["one", "two", "three"].iter().enumerate() {
        if generation > 0 {
            hub.edit(&toml(text));
            let last = pids.last().copied();
            while Some(pid(&client).await) == last {}
        }
        pids.push(pid(&client).await);
        calls.push(sleeping(&client, 2500));
        hub.until("it sleeps", |status| status["upstreams"][0]["calls"].as_u64() >= Some(2)).await;
    }
    assert_eq!(hub.status().await["reload"]["generation"], 3);
    assert_eq!(pids.iter().filter(|pid| alive(**pid)).count(), 3, "all of them still have a call");
    for call in calls {
        assert_eq!(call.await.unwrap().tool_text(), "slept");
    }
    eventually("the old ones end", || pids.iter().map(|pid| alive(*pid)).eq([false, false, true])).await;
}

#[tokio::test]
async fn f97_a_new_definition_is_itself_replaced_before_it_was_ready() {
    let toml = |flags: &[&str]| rogue("a", flags, "isolation = 'shared'");
    let hub = Hub::start(&toml(&[]));
    let client = Client::open(&hub, "/a/mcp").await;
    let old = pid(&client).await;
    hub.edit(&toml(&["--slow-start", "30", "--instructions", "slow"]));
    hub.generation(2).await;
    hub.edit(&toml(&["--instructions", "fast"]));
    hub.generation(3).await;
    while pid(&client).await == old {}
    assert_eq!(Client::open(&hub, "/a/mcp").await.greeting["instructions"], "fast");
    assert_eq!(hub.upstream("a").await["notice"], Value::Null);
}
