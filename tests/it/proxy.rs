//! `hubward proxy` in place of three older tools: their flags and variables, seen from outside.

use std::{fs, net::TcpListener, path::Path, process::Command};

use serde_json::{Value, json};

use super::fixture::{
    Answer, Client, Hub, LATEST, SseClient, answer, example, file_until, http, hubward, initialize, post, told,
};

fn rogue() -> String {
    example("rogue").display().to_string()
}

/// The command with these variables, in a folder of its own.
fn command(folder: &Path, words: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = hubward(&[&["proxy"], words].concat());
    command.current_dir(folder).env("HOME", folder).envs(variables.iter().copied());
    command
}

fn start(words: &[&str], variables: &[(&str, &str)]) -> Hub {
    let folder = tempfile::tempdir().unwrap();
    let command = command(folder.path(), words, variables);
    Hub::run(folder, command)
}

/// How one ends that does not start.
fn refused(words: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = told(&command(folder.path(), words, variables).output().unwrap());
    assert_eq!(stdout, "", "{words:?}");
    (code, stderr)
}

/// A request that belongs to no session.
async fn alone(hub: &Hub, path: &str, method: &str, params: Value) -> Answer {
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    post(&http(), &hub.url(path), &[("mcp-protocol-version", LATEST)], &body).await
}

async fn variables_of(client: &Client) -> Value {
    serde_json::from_str(&client.call("env", json!({})).await.tool_text()).unwrap()
}

#[tokio::test]
async fn s1_1_s1_2_s1_16_s1_17_s2_2_s4_2_one_command_serves_both_transports() {
    let hub = start(&["--port", "0", &rogue(), "--instructions", "hi"], &[]);
    assert_eq!(hub.urls, [hub.url("/mcp"), hub.url("/sse")]);
    for path in ["/mcp", "/mcp/"] {
        let client = Client::open(&hub, path).await;
        assert_eq!(client.greeting["instructions"], "hi", "flags of an executable are its own");
        assert_eq!(client.call("echo", json!({ "text": path })).await.tool_text(), path);
    }
    SseClient::greeted(&hub, "/sse", json!({})).await;
}

#[tokio::test]
async fn s1_12_s1_13_no_word_of_the_command_is_moved_or_taken() {
    let script = format!("exec {} --instructions \"$*\"", rogue());
    let hub = start(&["--port", "0", "/bin/sh", "-c", &script, "sh", "--port", "9", "--a", "1", "file"], &[]);
    let client = Client::open(&hub, "/mcp").await;
    assert_eq!(client.greeting["instructions"], "--port 9 --a 1 file");
    hub.logged("--port stands behind the command").await;
}

#[tokio::test]
async fn s1_4_s1_6_variables_give_the_address_and_flags_win() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let variables = [("MCP_BIND_HOST", "localhost"), ("MCP_PORT", free.as_str())];
    let hub = start(&[&rogue()], &variables);
    assert!(hub.base.ends_with(&format!(":{free}")), "{}", hub.base);
    drop(hub);
    // An address that others can reach is refused, so that what a variable says is seen.
    let variables = [("MCP_BIND_HOST", "0.0.0.0"), ("MCP_PORT", "1")];
    let (code, stderr) = refused(&[&rogue()], &variables);
    assert!(code == 2 && stderr.contains("0.0.0.0:1") && stderr.contains("--api-key"), "{stderr}");
    start(&["--host", "127.0.0.1", "--port", "0", &rogue()], &variables);
    start(&["--bind", "127.0.0.1:0", &rogue()], &variables);
}

#[tokio::test]
async fn s1_8_s2_27_s2_28_s4_21_levels_in_the_words_and_the_case_of_others() {
    for (flags, variables, told) in [
        (&["--log-level", "WARNING"][..], &[][..], "WARN"),
        (&["--log-level", "CRITICAL"], &[], "ERROR"),
        (&["--log-level", "INFO"], &[], "INFO"),
        (&[], &[("MCP_LOG_LEVEL", "ERROR")], "ERROR"),
        (&["--debug", "--log-level", "ERROR"], &[], "DEBUG"),
        (&[], &[("MCP_PROXY_DEBUG", "true")], "DEBUG"),
    ] {
        // A process that ends with an error line, whatever the level.
        let line = [flags, &["--port", "0", "--", "/bin/sh", "-c", "exit 3"]].concat();
        let mut hub = start(&line, variables);
        let answer = alone(&hub, "/mcp", "initialize", initialize(LATEST, json!({}))["params"].clone()).await;
        assert!(answer.status >= 500, "{answer:?}");
        hub.signal("TERM");
        hub.ended();
        let log = hub.log();
        let has = |level: &str| log.contains(&format!(" {level} "));
        let order = ["DEBUG", "INFO", "WARN", "ERROR"];
        let at = order.iter().position(|level| *level == told).unwrap();
        assert!(!order[..at].iter().any(|level| has(level)), "{line:?} {variables:?}: {log}");
        assert!(told == "ERROR" || has(told), "{line:?} {variables:?}: {log}");
    }
}

#[tokio::test]
async fn s1_10_s1_11_log_file_is_written_beside_stderr_with_or_without_a_folder() {
    for name in ["hubward.log", "new/deep/hubward.log"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        let command = command(folder.path(), &["--port", "0", &rogue()], &[("LOG_FILE", name)]);
        let hub = Hub::run(folder, command);
        Client::open(&hub, "/mcp").await;
        let text = file_until(&file, |text| text.contains("ready upstream=server")).await;
        assert!(!text.contains('\x1b'));
        hub.logged("ready upstream=server").await;
    }
    let (code, stderr) = refused(&[&rogue()], &[("LOG_FILE", "/proc/none/x.log")]);
    assert!(code == 2 && stderr.contains("LOG_FILE"), "{stderr}");
}

#[tokio::test]
async fn s1_14_s4_28_ctrl_c_ends_well_and_a_failed_start_does_not() {
    let mut hub = start(&["--port", "0", &rogue()], &[]);
    Client::open(&hub, "/mcp").await;
    hub.signal("INT");
    assert_eq!(hub.ended().code(), Some(0));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, stderr) = refused(&["--port", &port, &rogue()], &[]);
    assert!(code == 1 && stderr.contains("another program"), "{stderr}");
    assert_eq!(refused(&["--prot", "1", &rogue()], &[]).0, 2);
}

#[tokio::test]
async fn s2_4_s2_5_s2_7_s4_27_nothing_to_run_a_url_by_variable_and_the_version() {
    for words in [&[][..], &["--port", "0"]] {
        let (code, stderr) = refused(words, &[]);
        assert!(code == 2 && stderr.contains("Usage"), "{stderr}");
    }
    for words in [&[][..], &["-H", "X-One", "1", "--no-verify-ssl"]] {
        let (code, stderr) = refused(words, &[("SSE_URL", "ftp://x")]);
        assert!(code == 2 && stderr.contains("ftp://x"), "the variable is a URL to connect to: {stderr}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, _) = told(&command(folder.path(), &["--version"], &[]).output().unwrap());
    assert!(code == 0 && stdout.contains(env!("CARGO_PKG_VERSION")), "{stdout}");
}

#[tokio::test]
async fn s2_20_s2_21_s2_22_s2_23_s2_42_s2_47_s2_48_named_servers_beside_one_with_an_environment() {
    let rogue = rogue();
    let line = [
        "--sse-port=0",
        "--sse-host",
        "127.0.0.1",
        "-e",
        "OWN",
        "a b",
        "--cwd",
        "/tmp",
        "--named-server",
        "other",
        &format!("{rogue} --instructions 'two words'"),
        "--",
        &rogue,
    ];
    let hub = start(&line, &[("CANARY", "secret")]);
    let paths = ["/mcp", "/sse", "/servers/other/mcp", "/servers/other/sse"];
    assert_eq!(hub.urls, paths.map(|path| hub.url(path)));
    let (own, other) = (Client::open(&hub, "/mcp").await, Client::open(&hub, "/servers/other/mcp").await);
    assert_eq!(other.greeting["instructions"], "two words");
    let (mine, theirs) = (variables_of(&own).await, variables_of(&other).await);
    assert_eq!((&mine["OWN"], &theirs["OWN"]), (&json!("a b"), &Value::Null), "of the one server alone");
    assert_eq!((&mine["CANARY"], &theirs["CANARY"]), (&Value::Null, &Value::Null), "a small safe set");
    for (client, folder) in [(&own, Path::new("/tmp")), (&other, hub.folder.path())] {
        let pid = client.call("pid", json!({})).await.tool_text();
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), folder.canonicalize().unwrap());
    }
    SseClient::greeted(&hub, "/servers/other/sse", json!({})).await;
}

#[tokio::test]
async fn s2_23_s4_29_the_environment_is_passed_on_without_the_key_of_the_hub() {
    let hub =
        start(&["--port", "0", "--pass-environment", &rogue()], &[("CANARY", "secret"), ("MCP_PROXY_API_KEY", "k")]);
    let body = initialize(LATEST, json!({}));
    let unkeyed = post(&http(), &hub.url("/mcp"), &[], &body).await;
    assert_eq!(unkeyed.status, 401, "the variable is the key: {unkeyed:?}");
    let key = ("x-api-key", "k");
    let opened = post(&http(), &hub.url("/mcp"), &[key], &body).await;
    let session = opened.headers["mcp-session-id"].clone();
    let call =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "env", "arguments": {} } });
    let answer = post(&http(), &hub.url("/mcp"), &[key, ("mcp-session-id", &session)], &call).await;
    let seen: Value = serde_json::from_str(&answer.tool_text()).unwrap();
    assert_eq!((&seen["CANARY"], &seen["MCP_PROXY_API_KEY"]), (&json!("secret"), &Value::Null));
}

#[tokio::test]
async fn s2_24_s4_7_s4_39_without_sessions_each_request_stands_alone() {
    let hub = start(&["--port", "0", "--stateless", &rogue()], &[]);
    let greeting = alone(&hub, "/mcp", "initialize", initialize(LATEST, json!({}))["params"].clone()).await;
    assert_eq!((greeting.status, greeting.headers.get("mcp-session-id")), (200, None));
    let capabilities = &greeting.last()["result"]["capabilities"];
    assert!(capabilities["tools"].is_object() && capabilities["resources"]["subscribe"] != true, "{capabilities}");
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(post(&http(), &hub.url("/mcp"), &[], &ready).await.status, 202);
    let echo = json!({ "name": "echo", "arguments": { "text": "x" } });
    for _ in 0..2 {
        assert_eq!(alone(&hub, "/mcp", "tools/call", echo.clone()).await.tool_text(), "x");
    }
    // A session of yesterday's hub means nothing, and does no harm.
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": echo });
    assert_eq!(post(&http(), &hub.url("/mcp"), &[("mcp-session-id", "old")], &body).await.tool_text(), "x");
    let lasting = alone(&hub, "/mcp", "resources/subscribe", json!({ "uri": "a:b" })).await;
    assert!(lasting.status == 400 && lasting.error().1.contains("session"), "{lasting:?}");
    for method in [reqwest::Method::GET, reqwest::Method::DELETE] {
        let request = http().request(method, hub.url("/mcp")).header("accept", "text/event-stream");
        let refused = answer(request).await;
        assert_eq!((refused.status, refused.headers["allow"].as_str()), (405, "POST"));
    }
    let _stream = SseClient::greeted(&hub, "/sse", json!({})).await;
    assert_eq!(hub.status().await["sessions"], 1, "only the event stream is one");
}

#[tokio::test]
async fn s4_7_progress_of_a_request_without_a_session_comes_on_its_own_stream() {
    let hub = start(&["--port", "0", "--stateless", "--server", "stream", &rogue()], &[]);
    let params = json!({ "name": "progress", "arguments": { "count": 2, "ms": 1 }, "_meta": { "progressToken": "p" } });
    let answer = alone(&hub, "/mcp", "tools/call", params).await;
    assert!(answer.is_stream() && answer.messages().len() == 3 && answer.last()["id"] == 7, "{answer:?}");
    let batch =
        json!([{ "jsonrpc": "2.0", "id": 1, "method": "ping" }, { "jsonrpc": "2.0", "id": 2, "method": "tools/list" }]);
    let answer = post(&http(), &hub.url("/mcp"), &[("mcp-protocol-version", "2025-03-26")], &batch).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(post(&http(), &hub.url("/mcp"), &[("mcp-protocol-version", LATEST)], &batch).await.status, 400);
}

#[tokio::test]
async fn s2_25_s2_26_s4_19_web_pages_of_named_origins_with_more_headers() {
    let line = [
        "--port",
        "0",
        "--allow-origin",
        "https://a.example",
        "https://b.example",
        "--expose-header",
        "X-Seen",
        "--corsAddAllowedHeader",
        "X-Sent",
        "--",
        &rogue(),
    ];
    let hub = start(&line, &[]);
    for (origin, status) in [("https://a.example", 204), ("https://b.example", 204), ("https://c.example", 403)] {
        let ask = http().request(reqwest::Method::OPTIONS, hub.url("/mcp")).header("origin", origin);
        let answer = ask.header("access-control-request-method", "POST").send().await.unwrap();
        assert_eq!(answer.status(), status, "{origin}");
        let header =
            |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        assert_eq!(header("access-control-allow-headers").ends_with(", X-Sent"), status == 204);
        assert_eq!(header("access-control-expose-headers").ends_with(", X-Seen"), status == 204);
    }
    let hub = start(&["--port", "0", "--allow-origin=*", "--", &rogue()], &[]);
    let ask = http().get(hub.url("/ping")).header("origin", "https://anybody.example").send().await.unwrap();
    assert_eq!(ask.headers()["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn s2_43_s2_46_s2_49_s2_50_one_server_that_fails_is_no_matter_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let text = json!({ "mcpServers": {
        "good": { "command": rogue(), "args": ["--instructions", "hi"], "env": { "A": "b" }, "cwd": "/tmp" },
        "bad": { "command": "/nowhere/at/all" }, "worse": 1,
    } });
    fs::write(folder.path().join("servers.json"), text.to_string()).unwrap();
    let command = command(folder.path(), &["--port", "0", "--named-server-config", "./servers.json"], &[]);
    let hub = Hub::run(folder, command);
    let client = Client::open(&hub, "/servers/good/mcp").await;
    assert_eq!((&client.greeting["instructions"], &variables_of(&client).await["A"]), (&json!("hi"), &json!("b")));
    hub.logged("the server `worse` of ./servers.json is left out").await;
    let greeting = || initialize(LATEST, json!({}))["params"].clone();
    assert!(alone(&hub, "/servers/bad/mcp", "initialize", greeting()).await.status >= 500);
    assert_eq!(alone(&hub, "/mcp", "initialize", greeting()).await.status, 404, "there is none without a name");
}

#[tokio::test]
async fn s4_3_s4_4_s4_5_s4_6_one_transport_at_a_path_of_its_own() {
    let greeting = || initialize(LATEST, json!({}))["params"].clone();
    let hub = start(&["--port", "0", "--server", "stream", "--endpoint", "/a/stream", &rogue()], &[]);
    assert_eq!(hub.urls, [hub.url("/a/stream")]);
    Client::open(&hub, "/a/stream").await;
    assert_eq!(alone(&hub, "/mcp", "initialize", greeting()).await.status, 404);
    assert_eq!(http().get(hub.url("/sse")).send().await.unwrap().status(), 404);
    let hub = start(&["--port", "0", "--server", "sse", "--endpoint", "/events", &rogue()], &[]);
    assert_eq!(hub.urls, [hub.url("/events")]);
    SseClient::greeted(&hub, "/events", json!({})).await;
    assert_eq!(alone(&hub, "/mcp", "initialize", greeting()).await.status, 404);
    let hub =
        start(&["--port", "0", &rogue()], &[("MCP_PROXY_STREAM_ENDPOINT", "/s"), ("MCP_PROXY_SSE_ENDPOINT", "/e")]);
    assert_eq!(hub.urls, [hub.url("/s"), hub.url("/e")]);
    Client::open(&hub, "/s").await;
    SseClient::greeted(&hub, "/e", json!({})).await;
}

#[tokio::test]
async fn s4_14_s4_15_no_events_are_kept_where_none_are_wanted() {
    for wrong in [["--eventStoreMaxEvents", "0"], ["--maxBodySize", "-1"]] {
        let (code, stderr) = refused(&[wrong[0], wrong[1], "--", &rogue()], &[]);
        assert!(
            code == 2 && stderr.contains(wrong[0].trim_start_matches("--").split(char::is_uppercase).next().unwrap()),
            "{stderr}"
        );
    }
    start(&["--port", "0", "--no-eventStore", "--", &rogue()], &[]);
}

#[tokio::test]
async fn s4_16_s4_40_a_body_above_the_limit_is_refused_before_it_is_read() {
    let hub = start(&["--port", "0", "--maxBodySize", "2000", "--", &rogue()], &[]);
    let client = Client::open(&hub, "/mcp").await;
    assert_eq!(client.call("echo", json!({ "text": "x".repeat(1500) })).await.status, 200);
    assert_eq!(client.call("echo", json!({ "text": "x".repeat(2500) })).await.status, 413);
}

#[tokio::test]
async fn s4_22_the_shell_reads_the_command() {
    let hub = start(
        &["--port", "0", "--shell", "--", &format!("A='two words' exec {}", rogue()), "--instructions", "'a b'"],
        &[],
    );
    let client = Client::open(&hub, "/mcp").await;
    assert_eq!(
        (&client.greeting["instructions"], &variables_of(&client).await["A"]),
        (&json!("a b"), &json!("two words"))
    );
}

#[tokio::test]
async fn s4_23_s4_24_s4_31_s4_33_a_key_is_asked_for_everywhere_but_at_ping() {
    let hub = start(&["--host", "0.0.0.0", "--port", "0", "--apiKey", "your-secret-key", "--", &rogue()], &[]);
    let url = hub.url("/mcp").replace("0.0.0.0", "127.0.0.1");
    let body = initialize(LATEST, json!({}));
    for (headers, status) in [
        (&[][..], 401),
        (&[("x-api-key", "wrong")], 401),
        (&[("x-api-key", "your-secret-key")], 200),
        (&[("authorization", "Bearer your-secret-key")], 200),
    ] {
        assert_eq!(post(&http(), &url, headers, &body).await.status, status, "{headers:?}");
    }
    let ping = http().get(url.replace("/mcp", "/ping")).send().await.unwrap();
    assert_eq!((ping.status().as_u16(), ping.text().await.unwrap().trim()), (200, "pong"));
    hub.logged("--allow-host").await;
    assert!(!hub.log().contains("your-secret-key"));
}

#[tokio::test]
async fn s4_25_https_with_a_certificate_and_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let authority = super::tls::Authority::new();
    let pair = authority.pair(90);
    fs::write(folder.path().join("c.pem"), &pair.chain).unwrap();
    fs::write(folder.path().join("k.pem"), pair.key.serialize_pem()).unwrap();
    let command =
        command(folder.path(), &["--port", "0", "--sslCert", "c.pem", "--sslKey", "k.pem", "--", &rogue()], &[]);
    let hub = Hub::run(folder, command);
    let url = hub.urls[0].clone();
    assert!(url.starts_with("https://") && url.ends_with("/mcp"), "{url}");
    let client = authority.client().build().unwrap();
    assert_eq!(post(&client, &url, &[], &initialize(LATEST, json!({}))).await.status, 200);
}
