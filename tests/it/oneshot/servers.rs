//! Whom it can ask: a command, a URL of any transport and revision, a name of the local hub.toml; and what it says
//! where that fails.

use std::{fs, net::TcpListener};

use serde_json::{Value, json};

use super::{modern, peer::Peer, run, run_in};
use crate::fixture::{self, Hub, example, hubward};

#[tokio::test]
async fn s3_9_ping_tells_who_answers() {
    // Better: the revision, the transport and the time are told as well, and JSON where it is wanted.
    let text = run(&["ping", "--", "hubward", "demo"]).done();
    assert!(text.starts_with("hubward-demo ") && text.contains("(revision 2025-11-25)"), "{text}");
    assert!(modern(&["ping"]).done().contains("(revision 2026-07-28)"));
    let (demo, modern) = (
        format!("[upstreams.demo]\ncommand = {:?}\nargs = ['demo']\n", env!("CARGO_BIN_EXE_hubward")),
        fixture::modern("modern", &[], ""),
    );
    let hub = Hub::start(&format!("{demo}{modern}"));
    for (path, flags, transport, revision) in [
        ("/demo/mcp", &[][..], "streamable-http", "2026-07-28"),
        ("/demo/mcp", &["--era", "legacy"], "streamable-http", "2025-11-25"),
        ("/demo/mcp", &["--era", "modern"], "streamable-http", "2026-07-28"),
        ("/demo/sse", &[], "sse", "2025-11-25"),
        ("/demo/sse", &["--transport", "sse"], "sse", "2025-11-25"),
        ("/modern/mcp", &[], "streamable-http", "2026-07-28"),
        ("/modern/sse", &[], "sse", "2025-11-25"),
    ] {
        let url = hub.url(path);
        let told = run(&[&["ping", &url, "--json"], flags].concat()).json();
        assert_eq!(
            (&told["transport"], &told["protocolVersion"]),
            (&json!(transport), &json!(revision)),
            "{path} {flags:?}"
        );
        let tools = run(&[&["tools", &url], flags].concat()).done();
        assert!(tools.contains("slow"), "{tools}");
        let (call, expected) = match path.starts_with("/demo") {
            true => (["call", &url, "slow", "seconds=0.1", "-v"], "Done: "),
            false => (["call", &url, "slow", "{\"count\":1,\"ms\":1}", "-v"], "1\n"),
        };
        let told = run(&[&call[..], flags].concat());
        assert!(told.stdout.starts_with(expected) && told.stderr.contains("100 %"), "{path} {flags:?}: {told:?}");
    }
    // What a header has to repeat.
    assert_eq!(run(&["call", &hub.url("/modern/mcp"), "region", "region=é", "count=3"]).done(), "é\n");
    // Older sessions were ended.
    hub.until_upstream("demo", |demo| demo["sessions"].as_u64() == Some(1)).await;
}

#[test]
fn a_name_of_the_local_file() {
    let peer = Peer::start(|method, _| match method {
        "tools/list" => json!({ "result": { "tools": [] } }),
        _ => Value::Null,
    });
    let folder = tempfile::tempdir().unwrap();
    let rogue = example("rogue").display().to_string();
    let toml = format!(
        "[upstreams.local]\ncommand = {rogue:?}\nargs = ['--instructions', 'x']\nenv = {{ CANARY = 'sings' }}\nera = 'legacy'\n\
         [upstreams.far]\nurl = {:?}\nheaders = {{ X-Key = 'k', X-Other = 'o' }}\nauth = {{ basic = {{ username = 'u', password = 'p' }} }}\n\
         [upstreams.bare]\ncommand = 'cat'\nrequired = false\nenv = {{ A = '${{env:HUBWARD_NOBODY}}' }}\n",
        peer.url
    );
    fs::write(folder.path().join("hub.toml"), &toml).unwrap();
    let env = run_in(folder.path(), &["call", "local", "env"]).done();
    assert!(env.contains("sings"), "{env}");
    run_in(folder.path(), &["tools", "far", "-H", "x-key: mine"]).done();
    let heads = peer.heads.lock().unwrap().concat().to_lowercase();
    for part in ["x-key: mine", "x-other: o", "authorization: basic dtpw"] {
        assert!(heads.contains(part), "{heads}");
    }
    run_in(folder.path(), &["tools", "locl"]).refused(2, &["no upstream `locl`", "did you mean `local`?"]);
    run_in(folder.path(), &["tools", "bare"]).refused(2, &["HUBWARD_NOBODY"]);
    run_in(folder.path(), &["tools", "far", "-c", "nowhere.toml"]).refused(2, &["nowhere.toml"]);
    let elsewhere = tempfile::tempdir().unwrap();
    run_in(elsewhere.path(), &["tools", "local"]).refused(2, &["not a URL", "no hub.toml"]);
    fs::write(elsewhere.path().join("hub.toml"), "[upstreams.local]\ncomand = 'x'\n").unwrap();
    run_in(elsewhere.path(), &["tools", "local"]).refused(2, &["hub.toml:2:1"]);
}

#[test]
fn a_command_sees_our_environment_and_more() {
    let rogue = example("rogue").display().to_string();
    let mut command = hubward(&["call", "env", "-e", "MORE=a=b", "--era", "legacy", "--", &rogue]);
    command.env("OURS", "too");
    let env: Value = super::Told::of(command).json();
    assert_eq!((&env["OURS"], &env["MORE"]), (&json!("too"), &json!("a=b")));
}

#[test]
fn headers_follow_references_to_the_environment() {
    let peer = Peer::start(|_, _| Value::Null);
    let mut command = hubward(&["ping", &peer.url, "-H", "Authorization: Bearer ${env:HUBWARD_TEST}", "-H", "X-A:1"]);
    command.env("HUBWARD_TEST", "s3cret");
    super::Told::of(command);
    let heads = peer.heads.lock().unwrap().concat().to_lowercase();
    assert!(heads.contains("authorization: bearer s3cret") && heads.contains("x-a: 1"), "{heads}");
}

#[test]
fn a_server_that_wants_credentials_has_its_own_exit_code() {
    let peer = Peer::with(|_, _| (401, json!({ "error": { "code": -32000, "message": "who?" } })));
    let folder = tempfile::tempdir().unwrap();
    // With a header of our own nothing else is tried.
    run_in(folder.path(), &["tools", &peer.url, "-H", "Authorization: Bearer x"])
        .refused(3, &[&peer.url, "authorization"]);
    run_in(folder.path(), &["tools", &peer.url]).refused(3, &[&peer.url]);
}

#[test]
fn a_server_that_cannot_be_reached_has_its_own_exit_code() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    run(&["tools", &format!("http://{free}/mcp")]).refused(4, &["cannot be reached"]);
    run(&["ping", "--", "hubward-nobody"]).refused(4, &["hubward-nobody", "install it"]);
    let rogue = example("rogue").display().to_string();
    run(&["ping", "--", &rogue, "--exit-at-start", "7"]).refused(4, &["code 7", "stderr: rogue: cannot start"]);
    run(&["ping", "--start-timeout", "1", "--", &rogue, "--never-initialize"]).refused(4, &["1s"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", silent.local_addr().unwrap());
    run(&["ping", &url, "--start-timeout", "1s"]).refused(4, &["did not answer within 1s"]);
}

#[test]
fn nothing_that_was_started_is_left() {
    let pid = super::rogue(&["call", "daemon"]).done();
    assert!(!fixture::alive(pid.trim().parse().unwrap()), "a descendant of the server lives on");
}

#[tokio::test]
async fn an_interrupted_call_is_cancelled_and_its_server_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (log, rogue) = (folder.path().join("log"), example("rogue").display().to_string());
    let mut command = hubward(&["call", "hang", "--era", "legacy", "--", &rogue, "--log"]);
    let mut child = command.arg(&log).stdin(std::process::Stdio::null()).spawn().unwrap();
    fixture::file_until(&log, |text| text.contains("tools/call")).await;
    let told = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(told.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("notifications/cancelled"), "{log}");
}

#[tokio::test]
async fn a_raw_notification_arrives_before_we_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (log, rogue) = (folder.path().join("log"), example("rogue").display().to_string());
    let text = r#"{"method":"notifications/roots/list_changed"}"#;
    let path = log.display().to_string();
    assert_eq!(run(&["raw", text, "--era", "legacy", "--", &rogue, "--log", &path]).done(), "");
    assert!(fs::read_to_string(&log).unwrap().contains("roots/list_changed"));
    let peer = Peer::start(|method, _| if method == "ping" { json!({ "result": {} }) } else { Value::Null });
    assert_eq!(run(&["raw", &peer.url, text]).done(), "");
    assert!(peer.asked().contains(&"notifications/roots/list_changed".to_owned()), "{:?}", peer.asked());
}
