//! Children that do not start, start slowly, or start when nobody asked.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;

use super::*;
use crate::fixture::{Client, Hub, eventually, file_until, rogue};

/// A command in a shell.
fn sh(name: &str, script: &str, keys: &str) -> String {
    format!("[upstreams.{name}]\ncommand = 'sh'\nargs = ['-c', '''{script}''']\nera = 'legacy'\n{keys}\n")
}

const QUICK: &str = "restart = { max = 1, backoff_min = '20ms', backoff_max = '20ms' }";

#[tokio::test]
async fn f1_what_cannot_start_is_a_503_without_paths_and_the_status_says_all() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "x").unwrap();
    let table = |name: &str, keys: &str| format!("[upstreams.{name}]\n{keys}\n{QUICK}\n");
    let toml = [
        table("missing", "command = '/no/such/program'"),
        table("plain", &format!("command = {:?}", plain.display().to_string())),
        table("cwd", "command = 'cat'\ncwd = '/no/such/folder'"),
    ];
    let hub = Hub::start_in(folder, &toml.concat());
    let cases = [
        ("missing", "its command was not found", "/no/such/program"),
        ("plain", "its command cannot be executed", "/plain"),
        ("cwd", "its working directory cannot be used", "/no/such/folder"),
    ];
    for (name, public, full) in cases {
        let path = format!("/{name}/mcp");
        let first = greet(&hub, &path).await;
        let (code, text) = first.error();
        assert_eq!((first.status, code), (503, -32603), "{first:?}");
        assert!(text.contains(public) && !text.contains('/'), "{text}");
        assert_eq!(first.headers.get("retry-after").map(String::as_str), Some("1"));
        let data = &first.last()["error"]["data"];
        assert_eq!(
            (&data["upstream"], &data["reason"], &data["retryable"]),
            (&json!(name), &json!("failed"), &json!(true))
        );
        let status = hub.upstream(name).await;
        assert!(status["reason"].as_str().unwrap().contains(full), "{status}");
        // The back-off is over before a second failure, and that one is too many.
        hub.until_upstream(name, |status| status["state"] == "idle").await;
        let last = greet(&hub, &path).await;
        assert_eq!((last.status, last.headers.get("retry-after")), (503, None), "{last:?}");
        assert_eq!(last.last()["error"]["data"]["retryable"], false);
        let status = hub.upstream(name).await;
        assert_eq!(status["state"], "failed", "{status}");
        assert!(status["reason"].as_str().unwrap().contains(full), "{status}");
    }
}

#[tokio::test]
async fn f2_an_exit_at_once_is_told_with_its_code_and_the_last_50_lines_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let toml = [
        sh("three", "seq 100 >&2; exit 3", "restart = { backoff_min = '60s', backoff_max = '60s' }"),
        rogue("zero", &["--exit-at-start", "0"], ""),
        rogue("open", &["--exit-at-start", "7"], "expose_errors = true"),
    ];
    let hub = Hub::start_in(folder, &toml.concat());
    let began = Instant::now();
    let refused = greet(&hub, "/three/mcp").await;
    assert!(began.elapsed() < Duration::from_secs(5), "callers need not wait for a time-out");
    assert_eq!(refused.status, 503);
    let text = refused.error().1;
    assert!(text.contains("exited with code 3 before it was ready") && !text.contains("99"), "{text}");
    let status = hub.upstream("three").await;
    assert_eq!((&status["state"], status["stderr"].as_array().unwrap().len()), (&json!("waiting"), 50), "{status}");
    assert_eq!((&status["stderr"][0], &status["stderr"][49]), (&json!("51"), &json!("100")));
    assert!(status["retry_in_seconds"].as_f64().unwrap() > 30.0);
    // During the back-off callers are told at once, with the same cause.
    let again = greet(&hub, "/three/mcp").await;
    assert!(again.error().1.contains("exited with code 3"), "{again:?}");
    assert!(again.headers["retry-after"].parse::<u64>().unwrap() > 30);
    assert!(greet(&hub, "/zero/mcp").await.error().1.contains("exited with code 0"));
    let open = greet(&hub, "/open/mcp").await.error().1;
    assert!(open.contains("exited with code 7") && open.contains("rogue: cannot start"), "{open}");
    assert!(!greet(&hub, "/zero/mcp").await.error().1.contains("cannot start"));
}

#[tokio::test]
async fn f3_a_crash_loop_slows_down_stops_and_is_revived_by_a_changed_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (count, cured) = (folder.path().join("count"), folder.path().join("cured"));
    let server = crate::fixture::example("echo").display().to_string();
    let script = format!("echo >> '{}'; [ -e '{}' ] || exit 1; exec '{server}'", count.display(), cured.display());
    let keys = "isolation = 'shared'\nstart = 'eager'\n\
                restart = { max = 3, backoff_min = '100ms', backoff_max = '400ms' }";
    let began = Instant::now();
    let hub = Hub::start_in(folder, &sh("loop", &script, keys));
    let failed = hub.until_upstream("loop", |status| status["state"] == "failed").await;
    // 80 to 100 per cent of 100, 200 and 400 ms lie between the four starts.
    assert!(began.elapsed() >= Duration::from_millis(560), "{:?}", began.elapsed());
    assert_eq!(lines(&count).len(), 4, "one start, and max more");
    assert!(failed["reason"].as_str().unwrap().contains("exited with code 1"), "{failed}");
    let refused = greet(&hub, "/loop/mcp").await;
    assert!(refused.status == 503 && refused.error().1.contains("failed too often"), "{refused:?}");
    assert_eq!(lines(&count).len(), 4, "a caller starts nothing");
    std::fs::write(cured, "").unwrap();
    hub.edit(&sh("loop", &script, &format!("request_timeout = '3m'\n{keys}")));
    hub.until_upstream("loop", |status| status["state"] == "ready").await;
    assert_eq!(Client::open(&hub, "/loop/mcp").await.call("echo", json!({ "text": "a" })).await.tool_text(), "a");
}

#[tokio::test]
async fn f26_a_child_has_only_the_environment_it_was_given() {
    let toml = [
        rogue("some", &[], "env = { TOKEN = 'x' }\ninherit_env = ['PATH']"),
        rogue("usual", &[], ""),
        sh("needy", "echo 'API_KEY is not set' >&2; exit 1", "expose_errors = true"),
    ];
    let hub = Hub::start(&toml.concat());
    let environment = async |name: &str| -> serde_json::Map<String, Value> {
        let client = Client::open(&hub, &format!("/{name}/mcp")).await;
        serde_json::from_str(&client.call("env", json!({})).await.tool_text()).unwrap()
    };
    let some = environment("some").await;
    let names: Vec<_> = some.keys().map(String::as_str).collect();
    assert_eq!(names, ["HUBWARD_INSTANCE", "HUBWARD_RUN", "PATH", "TOKEN"]);
    let usual = environment("usual").await;
    assert!(usual.contains_key("PATH") && !usual.keys().any(|name| name.starts_with("CARGO")), "{usual:?}");
    let text = greet(&hub, "/needy/mcp").await.error().1;
    assert!(text.contains("API_KEY is not set"), "{text}");
}

#[tokio::test]
async fn f27_callers_wait_for_a_slow_start_and_the_status_tells_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let server = crate::fixture::example("echo").display().to_string();
    let script =
        format!("echo 'downloading 42 %' >&2; until [ -e '{}' ]; do sleep 0.02; done; exec '{server}'", go.display());
    let toml = format!(
        "[hub.limits]\nqueue_max = 2\n{}{}",
        sh("one", &script, "isolation = 'shared'"),
        sh("own", &script, "request_timeout = '100ms'")
    );
    let hub = Hub::start_in(folder, &toml);
    let url = hub.url("/one/mcp");
    let early = [(); 2].map(|()| {
        let url = url.clone();
        tokio::spawn(async move { post(&http(), &url, &[], &initialize(LATEST, json!({}))).await })
    });
    let own = {
        let url = hub.url("/own/mcp");
        tokio::spawn(async move { post(&http(), &url, &[], &initialize(LATEST, json!({}))).await })
    };
    for name in ["one", "own"] {
        let status = hub.until_upstream(name, |status| status["stderr"] == json!(["downloading 42 %"])).await;
        assert_eq!(status["state"], "starting", "{status}");
        assert!(status["since"].is_string());
    }
    // The queue is full once both early ones are in it.
    let late = loop {
        let late = tokio::time::timeout(Duration::from_millis(500), greet(&hub, "/one/mcp")).await;
        if let Ok(late) = late {
            break late;
        }
    };
    assert_eq!((late.status, late.headers["retry-after"].as_str()), (503, "1"), "{late:?}");
    assert!(late.error().1.contains("queue_max"), "{late:?}");
    std::fs::write(go, "").unwrap();
    for early in early {
        assert_eq!(early.await.unwrap().status, 200, "it waited and was served");
    }
    assert_eq!(own.await.unwrap().status, 200, "the start has its own deadline");
}

#[tokio::test]
async fn f27_a_start_without_end_is_given_up_after_start_timeout() {
    let hub = Hub::start(&rogue("mute", &["--never-initialize"], "start_timeout = '300ms'"));
    let refused = greet(&hub, "/mute/mcp").await;
    assert_eq!(refused.status, 503);
    assert!(refused.error().1.contains("within 300ms (start_timeout)"), "{refused:?}");
    eventually("the process is gone", || children(&hub).len() == 1).await;
}

#[tokio::test]
async fn f27_a_start_is_given_up_when_its_client_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("count");
    let flags = ["--never-initialize", "--counter", counter.to_str().unwrap()];
    let hub = Hub::start_in(folder, &rogue("mute", &flags, ""));
    let url = hub.url("/mute/mcp");
    let caller = tokio::spawn(async move { post(&http(), &url, &[], &initialize(LATEST, json!({}))).await });
    let pid = file_until(&counter, |text| text.ends_with('\n')).await.trim().parse().unwrap();
    caller.abort();
    eventually("the process is gone", || !crate::fixture::alive(pid)).await;
    hub.until_upstream("mute", |status| status["state"] == "idle").await;
}

#[tokio::test]
async fn no_more_than_starts_max_children_start_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let counter = |name: &str| folder.path().join(name);
    let (slow, next) = (counter("slow"), counter("next"));
    let toml = format!(
        "[hub.limits]\nstarts_max = 1\n{}{}",
        rogue("slow", &["--never-initialize", "--counter", slow.to_str().unwrap()], "start_timeout = '1s'"),
        rogue("next", &["--counter", next.to_str().unwrap()], "")
    );
    let hub = Hub::start_in(folder, &toml);
    let (first, second) = (hub.url("/slow/mcp"), hub.url("/next/mcp"));
    let open = async |url: String| {
        let answer = post(&http(), &url, &[], &initialize(LATEST, json!({}))).await;
        (answer.status, Instant::now())
    };
    let first = tokio::spawn(open(first));
    file_until(&slow, |text| !text.is_empty()).await;
    let ((second, then), first) = (open(second).await, first.await.unwrap());
    assert_eq!((first.0, second), (503, 200));
    assert!(then > first.1 - Duration::from_millis(100), "it started beside the other one");
}

#[tokio::test]
async fn an_eager_upstream_starts_unasked_and_a_lazy_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (eager, lazy) = (path("eager"), path("lazy"));
    let table = |name: &str, counter: &Path, start: &str| {
        rogue(name, &["--counter", counter.to_str().unwrap()], &format!("isolation = 'shared'\nstart = '{start}'"))
    };
    let toml = [table("lazy", &lazy, "lazy"), table("eager", &eager, "eager")].concat();
    let hub = Hub::start_in(folder, &toml);
    let ready = hub.until_upstream("eager", |status| status["state"] == "ready").await;
    assert_eq!(lines(&eager), [ready["pids"][0].to_string()]);
    assert_eq!((hub.upstream("lazy").await["state"].as_str(), lazy.exists()), (Some("idle"), false));
    // It is there again when it died, although nobody calls.
    kill(ready["pids"][0].as_u64().unwrap() as u32);
    hub.until_upstream("eager", |status| status["state"] == "ready" && status["pids"] != ready["pids"]).await;
    Client::open(&hub, "/lazy/mcp").await;
    assert_eq!(lines(&lazy).len(), 1);
}

#[tokio::test]
async fn a_client_whose_own_greeting_is_refused_takes_the_upstream_from_nobody() {
    let answer = |rest: &str| format!(r#"printf '{{"jsonrpc":"2.0","id":1,{rest}}}\n'"#);
    let bad = answer(r#""error":{"code":-32602,"message":"no elicitation, please"}"#);
    let good = answer(
        r#""result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"picky","version":"1"}}"#,
    );
    let script = format!("read -r line; case $line in *elicitation*) {bad};; *) {good};; esac; cat >&2");
    let hub = Hub::start(&sh("picky", &script, QUICK));
    let first = Client::open(&hub, "/picky/mcp").await;
    for _ in 0..4 {
        let body = initialize(LATEST, json!({ "elicitation": {} }));
        let refused = post(&http(), &hub.url("/picky/mcp"), &[], &body).await;
        assert_eq!((refused.status, refused.headers.get("retry-after")), (503, None));
        assert!(refused.error().1.contains("no elicitation, please"), "{refused:?}");
    }
    Client::open(&hub, "/picky/mcp").await;
    assert_eq!(hub.upstream("picky").await["state"], "ready");
    assert_eq!(first.delete().await, 204);
}
