//! `hubward demo`: a small MCP server on stdin and stdout, with one of everything.
//!
//! The core (`server`) is pure: a line and the time in, messages out. Here is the shell around it,
//! one loop that waits for the next line or for the moment the core has something to say by itself.
//! It uses nothing of the hub: it is a peer of it, like any other server.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use server::Demo;

mod offers;
mod server;
mod tools;

/// No message to a demo is longer; past it the input is no longer worth reading.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Lines read ahead of the core: enough to flush once per burst.
const LINES_AHEAD_MAX: usize = 64;
/// With nothing due, any long time will do.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: Args) -> u8 {
    let (sender, lines) = mpsc::sync_channel(LINES_AHEAD_MAX);
    // Ends with stdin, or with the process when stdout ended first.
    thread::spawn(move || {
        let mut input = BufReader::new(io::stdin().lock());
        loop {
            let mut line = Vec::new();
            let mut limited = input.by_ref().take(LINE_BYTES_MAX);
            match limited.read_until(b'\n', &mut line) {
                Ok(length) if length > 0 && (length as u64) < LINE_BYTES_MAX => {}
                _ => return,
            }
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    // A write fails only when the client has gone: nobody is left to be told.
    let _ = serve(&lines, BufWriter::new(io::stdout().lock()));
    0
}

fn serve(lines: &Receiver<Vec<u8>>, mut output: impl Write) -> io::Result<()> {
    let mut demo = Demo::default();
    loop {
        // What is already here is answered before anything is flushed.
        let line = match lines.try_recv() {
            Ok(line) => Some(line),
            Err(_) => {
                output.flush()?;
                let wait = demo.due().map(|due| due.saturating_duration_since(Instant::now()));
                match lines.recv_timeout(wait.unwrap_or(IDLE_WAIT)) {
                    Ok(line) => Some(line),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
        };
        let now = Instant::now();
        let mut messages = demo.advance(now);
        if let Some(line) = line {
            messages.extend(demo.read(&line, now));
        }
        for message in messages {
            serde_json::to_writer(&mut output, &message)?;
            output.write_all(b"\n")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A demo that was initialized with everything a client may have.
    fn demo() -> Demo {
        let mut demo = Demo::default();
        let all = json!({"elicitation": {}, "sampling": {}, "roots": {}});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": all});
        say(&mut demo, "initialize", params, Instant::now());
        demo
    }

    fn say(demo: &mut Demo, method: &str, params: Value, now: Instant) -> Vec<Value> {
        let message = json!({"jsonrpc": "2.0", "id": "q", "method": method, "params": params});
        demo.read(message.to_string().as_bytes(), now)
    }

    fn call(demo: &mut Demo, name: &str, arguments: Value) -> Vec<Value> {
        let params = json!({"name": name, "arguments": arguments});
        say(demo, "tools/call", params, Instant::now())
    }

    fn text(message: &Value) -> &str {
        let text = message["result"]["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("no text in {message}"))
    }

    #[test]
    fn a_known_revision_is_echoed_and_an_unknown_one_answered_with_the_newest() {
        for (asked, agreed) in [
            ("2024-11-05", "2024-11-05"),
            ("2025-03-26", "2025-03-26"),
            ("2025-06-18", "2025-06-18"),
            ("2025-11-25", "2025-11-25"),
            ("1999-01-01", "2025-11-25"),
        ] {
            let params = json!({"protocolVersion": asked, "capabilities": {}});
            let out = say(&mut Demo::default(), "initialize", params, Instant::now());
            assert_eq!(out[0]["result"]["protocolVersion"], agreed);
        }
    }

    #[test]
    fn refusals_have_their_codes() {
        for (method, params, code) in [
            ("nonsense", json!({}), -32601),
            ("server/discover", json!({}), -32601),
            ("tools/call", json!({"name": "nonsense"}), -32602),
            ("resources/read", json!({"uri": "demo://nonsense"}), -32002),
            ("resources/read", json!({"uri": "demo://greeting/%zz"}), -32002),
            ("resources/subscribe", json!({"uri": "demo://no"}), -32002),
            ("prompts/get", json!({"name": "introduce"}), -32602),
            ("logging/setLevel", json!({"level": "loud"}), -32602),
            ("completion/complete", json!({"ref": {}}), -32602),
        ] {
            let out = say(&mut demo(), method, params, Instant::now());
            assert_eq!(out.len(), 1, "{method}");
            assert_eq!(out[0]["error"]["code"], code, "{method}");
            assert_eq!(out[0]["id"], "q");
        }
        assert_eq!(demo().read(b"{oops\n", Instant::now())[0]["error"]["code"], -32700);
        assert_eq!(demo().read(b"[]\n", Instant::now())[0]["error"]["code"], -32600);
        assert_eq!(demo().read(b" \r\n", Instant::now()), Vec::<Value>::new());
    }

    #[test]
    fn wrong_arguments_are_the_tools_own_errors() {
        for (name, arguments) in [
            ("echo", json!({})),
            ("echo", json!({"text": 1})),
            ("add", json!({"a": 1})),
            ("add", json!({"a": f64::MAX, "b": f64::MAX})),
            ("slow", json!({"seconds": 61})),
            ("slow", json!({"seconds": "3"})),
            ("slow", json!({"steps": 0})),
            ("ask_model", Value::Null),
            ("add_tool", json!({"name": "echo"})),
            ("add_tool", json!({"name": "two words"})),
        ] {
            let out = call(&mut demo(), name, arguments);
            assert_eq!(out[0]["result"]["isError"], true, "{name}: {out:?}");
        }
    }

    #[test]
    fn simple_tools_answer_at_once() {
        let out = call(&mut demo(), "add", json!({"a": 2, "b": 3}));
        assert_eq!((text(&out[0]), &out[0]["result"]["structuredContent"]), ("5", &json!({"sum": 5})));
        assert_eq!(text(&call(&mut demo(), "add", json!({"a": 0.5, "b": 3}))[0]), "3.5");
        assert_eq!(text(&call(&mut demo(), "echo", json!({"text": "é"}))[0]), "é");
    }

    #[test]
    fn slow_reports_each_step_and_then_answers() {
        let (mut demo, start) = (demo(), Instant::now());
        let params = json!({"name": "slow", "arguments": {"seconds": 2}, "_meta": {"progressToken": 7}});
        let begun = say(&mut demo, "tools/call", params, start);
        assert_eq!(begun[0]["method"], "notifications/message");
        assert_eq!(demo.due(), Some(start + Duration::from_secs(1)));
        assert!(demo.advance(start).is_empty());
        let first = demo.advance(start + Duration::from_secs(1));
        assert_eq!((first.len(), &first[0]["params"]["progressToken"]), (1, &json!(7)));
        let last = demo.advance(start + Duration::from_secs(2));
        let methods: Vec<_> = last.iter().map(|message| message["method"].as_str()).collect();
        assert_eq!(methods, [Some("notifications/progress"), Some("notifications/message"), None]);
        assert_eq!((&last[2]["id"], demo.due()), (&json!("q"), None));
    }

    #[test]
    fn a_cancelled_call_is_never_answered() {
        let cancel = br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}"#;
        let (mut demo, now) = (demo(), Instant::now());
        call(&mut demo, "slow", json!({}));
        assert!(demo.read(cancel, now).is_empty());
        assert!(demo.advance(now + Duration::from_secs(60)).is_empty());
        call(&mut demo, "ask_name", json!({}));
        assert_eq!(demo.read(cancel, now)[0]["params"]["requestId"], 1);
        assert!(demo.read(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#, now).is_empty());
    }

    #[test]
    fn questions_go_to_the_client_and_its_answers_into_the_result() {
        for (tool, method, answer, expected) in [
            (
                "ask_name",
                "elicitation/create",
                r#""result":{"action":"accept","content":{"name":"Ada"}}"#,
                "Hello, Ada!",
            ),
            ("ask_name", "elicitation/create", r#""result":{"action":"decline"}"#, "rather not say"),
            ("ask_name", "elicitation/create", r#""result":{"action":"cancel"}"#, "closed the question"),
            ("ask_name", "elicitation/create", r#""error":{"code":-1,"message":"no"}"#, "would not answer: no"),
            (
                "ask_model",
                "sampling/createMessage",
                r#""result":{"model":"m","content":{"type":"text","text":"42"}}"#,
                "m says: 42",
            ),
            (
                "ask_model",
                "sampling/createMessage",
                r#""result":{"model":"m","content":[{"type":"text","text":"42"}]}"#,
                "m says: 42",
            ),
            ("list_roots", "roots/list", r#""result":{"roots":[{"uri":"file:///a","name":"a"}]}"#, "- a: file:///a"),
            ("list_roots", "roots/list", r#""result":{"roots":[]}"#, "no folders"),
        ] {
            let mut demo = demo();
            let asked = call(&mut demo, tool, json!({"prompt": "?"}));
            assert_eq!(asked[0]["method"], method);
            let line = format!(r#"{{"jsonrpc":"2.0","id":{},{answer}}}"#, asked[0]["id"]);
            let out = demo.read(line.as_bytes(), Instant::now());
            assert!(text(&out[0]).contains(expected), "{out:?}");
            assert!(text(&call(&mut Demo::default(), tool, json!({}))[0]).contains("did not declare"));
        }
    }

    #[test]
    fn tick_tells_subscribers_and_add_tool_everyone() {
        let (mut demo, now) = (demo(), Instant::now());
        let counter = || json!({"uri": offers::COUNTER});
        assert_eq!(call(&mut demo, "tick", json!({})).len(), 1);
        say(&mut demo, "resources/subscribe", counter(), now);
        let out = call(&mut demo, "tick", json!({}));
        assert_eq!(out[0]["method"], "notifications/resources/updated");
        let read = say(&mut demo, "resources/read", counter(), now);
        assert_eq!(read[0]["result"]["contents"][0]["text"], "2");
        say(&mut demo, "resources/unsubscribe", counter(), now);
        assert_eq!(call(&mut demo, "tick", json!({})).len(), 1);

        let out = call(&mut demo, "add_tool", json!({"name": "mine"}));
        assert_eq!(out[0]["method"], "notifications/tools/list_changed");
        assert!(text(&call(&mut demo, "mine", json!({}))[0]).contains("Hello from mine"));
    }

    #[test]
    fn the_log_level_decides_what_is_said() {
        let (mut demo, now) = (demo(), Instant::now());
        assert_eq!(call(&mut demo, "echo", json!({"text": "x"})).len(), 1);
        say(&mut demo, "logging/setLevel", json!({"level": "debug"}), now);
        let out = call(&mut demo, "echo", json!({"text": "x"}));
        assert_eq!((out.len(), &out[0]["params"]["logger"]), (2, &json!("demo")));
    }

    #[test]
    fn names_are_completed_and_escapes_resolved() {
        let (mut demo, now) = (demo(), Instant::now());
        let params =
            json!({"ref": {"type": "ref/prompt", "name": "introduce"}, "argument": {"name": "name", "value": "a"}});
        let out = say(&mut demo, "completion/complete", params, now);
        assert_eq!(out[0]["result"]["completion"]["values"], json!(["Ada", "Alan"]));
        let out = say(&mut demo, "resources/read", json!({"uri": "demo://greeting/Ada%20L%C3%A9"}), now);
        assert_eq!(out[0]["result"]["contents"][0]["text"], "Hello, Ada Lé!");
    }

    #[test]
    fn a_batch_is_understood_where_the_revision_has_batches() {
        let mut demo = Demo::default();
        let now = Instant::now();
        say(&mut demo, "initialize", json!({"protocolVersion": "2025-03-26", "capabilities": {}}), now);
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        assert_eq!(demo.read(format!("[{ping},{ping}]").as_bytes(), now).len(), 2);
    }

    #[test]
    fn the_shell_answers_what_it_was_sent_and_ends_with_its_input() {
        let (sender, lines) = mpsc::sync_channel(2);
        for id in [1, 2] {
            let ping = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            sender.send(ping.into_bytes()).unwrap();
        }
        drop(sender);
        let mut output = Vec::new();
        serve(&lines, &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap().lines().count(), 2);
    }
}
