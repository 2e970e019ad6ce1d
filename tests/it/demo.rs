//! The two peers the other tests lean on: echo is honest, rogue errs exactly as announced.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Once;

use serde_json::{Value, json};

/// An example, built when it is missing or older than its sources: cargo builds them all by itself
/// in a plain `cargo test`, and none in `cargo test --test it`.
pub fn example(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let this = env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).unwrap();
    let path = |name: &str| profile.join(format!("examples/{name}{}", env::consts::EXE_SUFFIX));
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    BUILT.call_once(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let folder = |name: &str| {
            let files = fs::read_dir(sources.join(name)).unwrap().flatten();
            changed(&path(name)) > files.map(|file| changed(&file.path())).max().flatten()
        };
        let single = |name: &str| changed(&path(name)) > changed(&sources.join(format!("{name}.rs")));
        if !(folder("rogue") && folder("modern") && single("echo") && single("rmcp_server")) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet"]);
            cargo.args(["echo", "rogue", "modern", "rmcp_server"].map(|name| format!("--example={name}")));
            cargo.args(profile.ends_with("release").then_some("--release"));
            cargo.arg("--target-dir").arg(profile.parent().unwrap());
            assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        }
    });
    path(name)
}

/// A server just started, spoken to line by line.
pub struct Peer {
    pub child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub asked: u64,
}

impl Peer {
    pub fn start(name: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(example(name));
        command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output), asked: 0 }
    }

    fn rogue(flags: &[&str]) -> Self {
        let mut peer = Self::start("rogue", flags);
        peer.initialize();
        peer
    }

    pub fn initialize(&mut self) -> Value {
        let client = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
        self.ask("initialize", params);
        self.message()
    }

    pub fn write(&mut self, text: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
    }

    /// Sends a request; its id is `self.asked` from now on.
    pub fn ask(&mut self, method: &str, params: Value) {
        self.asked += 1;
        let id = self.asked;
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
    }

    fn call(&mut self, tool: &str, arguments: Value) {
        let meta = json!({"progressToken": "p"});
        self.ask("tools/call", json!({"name": tool, "arguments": arguments, "_meta": meta}));
    }

    fn cancel(&mut self) {
        let params = json!({"requestId": self.asked});
        self.write(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string());
    }

    /// The text of the answer that comes next.
    fn text(&mut self, tool: &str, arguments: Value) -> String {
        self.call(tool, arguments);
        let message = self.message();
        assert_eq!(message["id"], self.asked, "{message}");
        let text = &message["result"]["content"][0]["text"];
        text.as_str().unwrap_or_else(|| panic!("no text in {message}")).to_owned()
    }

    fn json(&mut self, tool: &str) -> Value {
        serde_json::from_str(&self.text(tool, json!({}))).unwrap()
    }

    /// The next line, its end included; empty when stdout ended.
    pub fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.output.read_until(b'\n', &mut line).unwrap();
        line
    }

    pub fn message(&mut self) -> Value {
        let line = self.line();
        serde_json::from_slice(&line).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&line)))
    }

    /// Closes stdin and waits for the end.
    pub fn end(mut self) -> ExitStatus {
        self.input = None;
        self.child.wait().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn echo_answers_and_leaves_with_its_stdin() {
    let mut echo = Peer::start("echo", &[]);
    assert_eq!(echo.initialize()["result"]["protocolVersion"], "2025-06-18");
    echo.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(echo.text("echo", json!({"text": "é\n"})), "é\n");
    assert_eq!(echo.text("pid", json!({})), echo.child.id().to_string());
    assert_eq!(echo.json("who")["clientInfo"]["name"], "test");
    echo.write(r#"{"jsonrpc":"2.0","id":"1","method":"ping"}"#);
    assert_eq!(echo.message(), json!({"jsonrpc": "2.0", "id": "1", "result": {}}));
    echo.write(r#"{"jsonrpc":"2.0","id":-3,"method":"nonsense"}"#);
    let refused = echo.message();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(-3), &json!(-32601)));
    echo.call("nonsense", json!({}));
    assert_eq!(echo.message()["error"]["code"], -32602);
    assert_eq!(echo.end().code(), Some(0));
}

#[test]
fn echo_answers_a_burst_in_order() {
    let mut echo = Peer::start("echo", &[]);
    let burst: Vec<_> = (0..200).map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string()).collect();
    echo.write(&burst.join("\n"));
    for id in 0..200 {
        assert_eq!(echo.message()["id"], id);
    }
}

#[test]
fn rogue_behaves_unless_told_otherwise() {
    let mut rogue = Peer::rogue(&[]);
    rogue.ask("tools/list", json!({}));
    let tools = rogue.message()["result"]["tools"].clone();
    assert!(tools.as_array().unwrap().iter().all(|tool| tool["inputSchema"]["type"] == "object"));
    assert_eq!(rogue.text("echo", json!({"text": "hi"})), "hi");
    assert_eq!(rogue.text("state", json!({"set": "mine"})), "\"mine\"");
    assert_eq!(rogue.json("state"), "mine");
    rogue.ask("resources/subscribe", json!({"uri": "rogue://one"}));
    rogue.message();
    rogue.ask("logging/setLevel", json!({"level": "debug"}));
    rogue.message();
    assert_eq!(rogue.json("subscriptions"), json!(["subscribe rogue://one"]));
    assert_eq!(rogue.json("levels"), json!(["debug"]));
    assert_eq!(rogue.json("env")["PATH"], env::var("PATH").unwrap());
    assert_eq!(rogue.end().code(), Some(0));
}

#[test]
fn rogue_dirties_its_stdout() {
    let flags = ["--bom", "--crlf", "--banner", "2", "--blank-lines"];
    let mut rogue = Peer::start("rogue", &flags);
    rogue.ask("ping", json!({}));
    assert!(rogue.line().starts_with("\u{feff}".as_bytes()));
    assert!(rogue.line().starts_with(b"\x1b["));
    assert!(rogue.line().ends_with(b"}\r\n"));
    assert_eq!(rogue.line(), b"\r\n");
}

#[test]
fn rogue_answers_wrongly() {
    let mut rogue = Peer::rogue(&[]);
    for (tool, ids) in [
        ("twice", [json!(2), json!(2)]),
        ("wrong_id", [json!(987_654_321), json!(3)]),
        ("string_id", [json!("4"), json!(4)]),
        ("progress_unknown_token", [Value::Null, json!(5)]),
        ("log", [Value::Null, json!(6)]),
        ("updated", [Value::Null, json!(7)]),
        ("add_tool", [Value::Null, json!(8)]),
    ] {
        rogue.call(tool, json!({"name": "new", "level": "error"}));
        assert_eq!([rogue.message()["id"].clone(), rogue.message()["id"].clone()], ids, "{tool}");
    }
    rogue.call("batch", json!({}));
    assert_eq!(rogue.message()[1]["id"], 9);
    rogue.call("bad_utf8", json!({}));
    assert!(String::from_utf8(rogue.line()).is_err());
    rogue.message();
    rogue.call("raw", json!({"line": "anything"}));
    assert_eq!(rogue.line(), b"anything\n");
    rogue.message();
    for id_last in [false, true] {
        rogue.call("huge_line", json!({"bytes": 100_000, "id_last": id_last}));
        let line = rogue.line();
        assert_eq!(line.len(), 100_001);
        let id = format!("\"id\":{}}}\n", rogue.asked);
        assert_eq!(line.ends_with(id.as_bytes()), id_last);
        serde_json::from_slice::<Value>(&line).unwrap();
    }
    assert_eq!(rogue.text("big", json!({"bytes": 70_000})).len(), 70_000);
    rogue.call("unknown_fields", json!({}));
    let line = String::from_utf8(rogue.line()).unwrap();
    assert!(line.contains(r#""big":123456789012345678901234567890,"exact":1.10,"#), "{line}");
    assert_eq!(rogue.text("new", json!({"text": "added"})), "added");
    rogue.call("partial", json!({}));
    let mut half = [0; 20];
    rogue.output.read_exact(&mut half).unwrap();
    assert!(half.starts_with(b"{\"jsonrpc\":\"2.0\","));
}

#[test]
fn rogue_takes_time_and_obeys_cancels() {
    let mut rogue = Peer::rogue(&[]);
    rogue.call("sleep", json!({"ms": 600_000}));
    let sleeping = rogue.asked;
    rogue.call("hang", json!({}));
    assert_eq!(rogue.json("inflight"), 2);
    rogue.cancel();
    rogue.asked = sleeping + 100;
    rogue.write(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{sleeping}}}}}"#
    ));
    assert_eq!(rogue.json("received_cancels"), json!([sleeping + 2, sleeping]));
    rogue.call("sleep_stubborn", json!({"ms": 20}));
    rogue.cancel();
    assert_eq!(rogue.message()["id"], rogue.asked);
    assert_eq!(rogue.text("sleep", json!({"ms": 1})), "slept");
    rogue.call("progress", json!({"count": 2, "ms": 1}));
    for step in 1..=2 {
        let params = rogue.message()["params"].clone();
        assert_eq!((&params["progressToken"], &params["progress"]), (&json!("p"), &json!(step)));
    }
    assert_eq!(rogue.message()["result"]["content"][0]["text"], "2");
}

#[test]
fn rogue_asks_back() {
    let mut rogue = Peer::rogue(&[]);
    for (tool, method) in [
        ("ask_elicitation", "elicitation/create"),
        ("ask_sampling", "sampling/createMessage"),
        ("ask_roots", "roots/list"),
    ] {
        rogue.call(tool, json!({"message": "m", "prompt": "p"}));
        let question = rogue.message();
        assert_eq!(question["method"], method);
        rogue.write(
            &json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}}).to_string(),
        );
        let answer = rogue.message();
        assert_eq!(answer["result"]["content"][0]["text"], r#"{"error":{"code":-1,"message":"no"}}"#);
    }
    assert_eq!(rogue.text("ask_unprompted", json!({"message": "m"})), "asking soon");
    let question = rogue.message();
    assert_eq!(question["method"], "elicitation/create");
    rogue.write(&json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "cancel"}}).to_string());
    // Another thread puts the answer away.
    while rogue.json("last_answer") != json!({"result": {"action": "cancel"}}) {}
}

#[test]
fn rogue_dies_in_many_ways() {
    let mut rogue = Peer::rogue(&[]);
    rogue.call("crash", json!({"code": 7}));
    assert_eq!(rogue.child.wait().unwrap().code(), Some(7));

    let mut rogue = Peer::rogue(&[]);
    assert_eq!(rogue.text("exit_after", json!({"ms": 1, "code": 3})), "exiting");
    assert_eq!(rogue.child.wait().unwrap().code(), Some(3));

    let mut rogue = Peer::start("rogue", &["--exit-on-probe"]);
    rogue.ask("server/discover", json!({}));
    assert_eq!(rogue.child.wait().unwrap().code(), Some(1));

    let rogue = Peer::start("rogue", &["--exit-at-start", "4", "--stderr-flood", "200000"]);
    assert_eq!(rogue.end().code(), Some(4));

    let mut rogue = Peer::start("rogue", &["--never-initialize"]);
    rogue.ask("initialize", json!({}));
    rogue.input = None;
    assert_eq!(rogue.line(), b"");
}

#[test]
fn rogue_keeps_a_log_and_a_count() {
    let folder = tempfile::tempdir().unwrap();
    let [log, count] = ["log", "count"].map(|name| folder.path().join(name).display().to_string());
    let flags = [
        "--log",
        &log,
        "--counter",
        &count,
        "--protocol",
        "2001-01-01",
        "--instructions",
        "Run.",
        "--capabilities",
        "{}",
        "--slow-start",
        "0.01",
    ];
    let mut rogue = Peer::start("rogue", &flags);
    let result = rogue.initialize()["result"].clone();
    assert_eq!(result["protocolVersion"], "2001-01-01");
    assert_eq!((&result["instructions"], &result["capabilities"]), (&json!("Run."), &json!({})));
    assert!(fs::read_to_string(&log).unwrap().contains("initialize"));
    assert_eq!(fs::read_to_string(&count).unwrap(), format!("{}\n", rogue.child.id()));
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use rustix::process::{Pid, Signal, getpgid, getpgrp, kill_process, test_kill_process};
    use std::os::unix::process::ExitStatusExt;

    fn pid(id: impl ToString) -> Pid {
        Pid::from_raw(id.to_string().parse().unwrap()).unwrap()
    }

    #[test]
    fn rogue_kills_itself() {
        for (arguments, signal) in [(json!({}), 9), (json!({"signal": 15}), 15)] {
            let mut rogue = Peer::rogue(&[]);
            rogue.call("kill_self", arguments);
            assert_eq!(rogue.child.wait().unwrap().signal(), Some(signal));
        }
    }

    #[test]
    fn rogue_ignores_what_it_was_told_to() {
        let mut rogue = Peer::rogue(&["--ignore-sigterm", "--ignore-eof"]);
        kill_process(pid(rogue.child.id()), Signal::TERM).unwrap();
        assert_eq!(rogue.text("pid", json!({})), rogue.child.id().to_string());
        rogue.call("sleep", json!({"ms": 50}));
        rogue.input = None;
        assert_eq!(rogue.message()["id"], rogue.asked);
        assert_eq!(rogue.child.try_wait().unwrap(), None);
    }

    #[test]
    fn rogue_closes_its_pipes_and_lives() {
        let mut rogue = Peer::rogue(&[]);
        rogue.call("close_stdout", json!({}));
        assert_eq!(rogue.line(), b"");
        assert_eq!(rogue.child.try_wait().unwrap(), None);
        assert_eq!(rogue.end().code(), Some(0));

        let mut rogue = Peer::rogue(&[]);
        assert_eq!(rogue.text("close_stdin", json!({})), "closed");
        let mut input = rogue.input.take().unwrap();
        while input.write_all(b"\n").is_ok() {}
        assert_eq!(rogue.child.try_wait().unwrap(), None);
    }

    #[test]
    fn rogue_leaves_processes_behind() {
        let mut rogue = Peer::rogue(&[]);
        let grandchild = pid(rogue.text("grandchild", json!({"ignore_term": true})));
        let daemon = pid(rogue.text("daemon", json!({})));
        assert_eq!(getpgid(Some(grandchild)).unwrap(), getpgrp());
        assert!(rogue.json("fds").as_object().unwrap().len() >= 3);
        rogue.end();
        for orphan in [grandchild, daemon] {
            test_kill_process(orphan).unwrap();
            kill_process(orphan, Signal::KILL).unwrap();
        }
    }
}
