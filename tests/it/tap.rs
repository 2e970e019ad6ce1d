//! `hubward tap`: what passes is shown while somebody looks, and only then.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Stdio},
    time::Instant,
};

use serde_json::{Value, json};

use super::{
    fixture::{Client, Hub, PATIENCE, echo, hubward, modern, rogue, told},
    peer::legacy,
};

/// A tap that is in place.
struct Tapped {
    process: Child,
    lines: Option<std::io::Lines<BufReader<ChildStdout>>>,
}

impl Tapped {
    fn on(hub: &Hub, args: &[&str]) -> Tapped {
        let mut command = hubward(&["tap"]);
        command.args(args).arg("-c").arg(hub.path()).env("XDG_RUNTIME_DIR", hub.folder.path());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("is shown; Ctrl-C ends that"), "{said}");
        let lines = Some(BufReader::new(process.stdout.take().unwrap()).lines());
        Tapped { process, lines }
    }

    fn line(&mut self) -> String {
        self.next().expect("a line")
    }

    fn next(&mut self) -> Option<String> {
        Some(self.lines.as_mut()?.next()?.unwrap())
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// The next line about a method.
    fn about(&mut self, method: &str) -> Value {
        loop {
            let line = self.json();
            if line["method"] == method {
                return line;
            }
        }
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_tap_shows_each_message_as_it_passes_and_is_off_when_it_ends() {
    let hub = Hub::start(&rogue("a", &[], "isolation = 'shared'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let pid = client.call("pid", json!({})).await.tool_text();
    let mut tap = Tapped::on(&hub, &["a"]);
    assert_eq!(client.call("echo", json!({ "text": "a secret of its own" })).await.tool_text(), "a secret of its own");
    let (sent, received) = (tap.line(), tap.line());
    assert!(sent.contains(&format!(" → 1/{pid} tools/call id ")) && sent.ends_with(" B"), "{sent}");
    assert!(received.contains(&format!(" ← 1/{pid} response to tools/call id ")), "{received}");
    assert!(received.ends_with(" ms"), "{received}");
    client.call("no_such_tool", json!({})).await;
    assert!(tap.line().contains("→") && tap.line().contains("← "), "no body was among the lines");
    // As Ctrl-C does; but that may be ignored, as by whatever a shell runs in the background.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(tap.process.id() as i32).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    tap.process.wait().unwrap();
    hub.logged("a tap ended").await;
    assert_eq!(client.call("echo", json!({ "text": "on" })).await.tool_text(), "on");
    assert!(tap.next().is_none());
}

#[tokio::test]
async fn bodies_are_shown_where_they_are_asked_for_and_two_taps_are_apart() {
    let hub = Hub::start(&echo("a", "isolation = 'shared'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let (mut json, mut bodies) = (Tapped::on(&hub, &["a", "--json"]), Tapped::on(&hub, &["a", "--bodies"]));
    client.call("echo", json!({ "text": "mark\u{9b}31m\u{202e}" })).await;
    let (sent, received) = (json.json(), json.json());
    assert_eq!(
        (&sent["direction"], &sent["kind"], &sent["method"]),
        (&json!("sent"), &json!("request"), &json!("tools/call"))
    );
    assert_eq!((&received["direction"], &received["kind"]), (&json!("received"), &json!("response")));
    assert!(received["method"] == "tools/call" && received["took_ms"].as_f64() > Some(0.0), "{received}");
    assert_eq!((&received["id"], sent.get("body"), received.get("body")), (&sent["id"], None, None));
    assert!(sent["time"].as_str().unwrap().ends_with('Z'));
    bodies.line();
    let body = bodies.line();
    assert!(body.starts_with("    {") && body.contains(r"mark\u{9b}31m\u{202e}"), "{body}");
    assert_eq!(body.trim().len() as u64, sent["bytes"].as_u64().unwrap() + 9, "the whole message, and escapes");
    drop(json);
    hub.logged("a tap ended").await;
    client.call("echo", json!({ "text": "still" })).await;
    bodies.line();
    assert!(bodies.line().contains("mark") && bodies.line().contains("→") && bodies.line().contains("still"));
}

#[tokio::test]
async fn a_tap_outlives_processes_and_definitions_and_ends_with_the_name() {
    let keys = "isolation = 'shared'\nrestart = { backoff_min = '10ms', backoff_max = '10ms' }";
    let toml = |more: &str| format!("{}{}", rogue("a", &[], &format!("{keys}\n{more}")), echo("b", ""));
    let hub = Hub::start(&toml(""));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut tap = Tapped::on(&hub, &["a", "--json"]);
    client.call("crash", json!({})).await;
    let first = tap.about("tools/call");
    client.call("pid", json!({})).await;
    assert_ne!(tap.about("initialize")["pid"], first["pid"], "what it is greeted with is seen");
    let second = tap.about("tools/call");
    assert_eq!((&first["instance"], &second["instance"]), (&json!(1), &json!(2)));
    hub.edit(&toml("env = { A = 'b' }"));
    hub.generation(2).await;
    let third = tap.about("initialize");
    assert_ne!(third["pid"], second["pid"]);
    hub.edit(&echo("b", ""));
    hub.generation(3).await;
    while tap.next().is_some() {}
    assert_eq!(tap.process.wait().unwrap().code(), Some(1));
    hub.logged("a tap ended").await;
}

#[tokio::test]
async fn what_passes_a_remote_server_and_a_newer_one_is_shown_too() {
    let peer = legacy(|_| None).await;
    let hub = Hub::start(&format!("{}{}", peer.upstream("far", ""), modern("new", &[], "")));
    for name in ["far", "new"] {
        let mut tap = Tapped::on(&hub, &[name, "--json"]);
        Client::open(&hub, &format!("/{name}/mcp")).await.request("tools/list", json!({})).await;
        let sent = tap.about("tools/list");
        let received = tap.about("tools/list");
        assert_eq!(
            (&sent["direction"], &received["kind"], &received["id"]),
            (&json!("sent"), &json!("response"), &sent["id"])
        );
        assert_eq!(sent.get("pid").is_some(), name == "new");
    }
}

#[tokio::test]
async fn a_tap_that_is_not_read_slows_no_call_and_is_told_what_it_lost() {
    let hub = Hub::start(&rogue("a", &[], "isolation = 'shared'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut tap = Tapped::on(&hub, &["a", "--json", "--bodies"]);
    // More than the pipes, the socket and the queue hold.
    let text = "x".repeat(1 << 20);
    for _ in 0..24 {
        assert_eq!(client.call("echo", json!({ "text": text })).await.tool_text().len(), text.len());
    }
    let mut shown = 0;
    let lost = loop {
        let line = tap.json();
        if let Some(lost) = line["lost"].as_u64() {
            break lost;
        }
        shown += 1;
        assert!(line["cut"] == true && line["bytes"].as_u64() > Some(1 << 20), "{line}");
    };
    assert_eq!(shown + lost, 48);
}

#[tokio::test]
async fn who_cannot_be_tapped_is_said_and_nobody_has_to_read_on() {
    let hub = Hub::start(&format!("{}{}", echo("a", "isolation = 'shared'"), echo("b", "")));
    let (code, out, err) = told(&hub.command(&["tap", "c"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("there is no upstream `c`; there is a, b"), "{err}");
    // `hubward tap a | head -1`
    let client = Client::open(&hub, "/a/mcp").await;
    let mut tap = Tapped::on(&hub, &["a"]);
    client.call("echo", json!({ "text": "1" })).await;
    tap.line();
    tap.lines = None;
    let began = Instant::now();
    let ended = loop {
        client.call("echo", json!({ "text": "2" })).await;
        match tap.process.try_wait().unwrap() {
            Some(ended) => break ended,
            None => assert!(began.elapsed() < PATIENCE, "it goes on for nobody"),
        }
    };
    assert_eq!(ended.code(), Some(0));
    hub.logged("a tap ended").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hub.toml"), echo("a", "")).unwrap();
    let mut nobody = hubward(&["tap", "a", "-c"]);
    nobody.arg(folder.path().join("hub.toml")).env("XDG_RUNTIME_DIR", folder.path());
    let (code, _, err) = told(&nobody.output().unwrap());
    assert!(code == 4 && err.contains("no hub answers"), "{code} {err}");
}
