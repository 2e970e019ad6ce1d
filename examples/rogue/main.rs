//! The misbehaving MCP server of the fault tests: `cargo run --example rogue -- --banner 3`.
//!
//! Faults that hold from the start are flags (`options.rs`); faults of a moment are tools
//! (`tools.rs`). Where nothing was asked of it, the rogue behaves: it is `echo` with more to say.
//! The reader handles each message before it reads the next; what takes time has its own thread.

mod options;
mod reach;
mod server;
mod tools;

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::process;
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use options::Options;
use server::{Call, Server, sleep_forever};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

fn main() -> io::Result<()> {
    let options = Options::parse(env::args().skip(1)).unwrap_or_else(|error| {
        eprintln!("rogue: {error}");
        process::exit(2);
    });
    if options.ignore_sigterm {
        return Err(ignore_sigterm());
    }
    if let Some(path) = &options.counter {
        // One write, so that lines of processes that start together do not mix.
        append(path)?.write_all(format!("{}\n", process::id()).as_bytes())?;
    }
    if let Some(code) = options.exit_at_start {
        eprintln!("rogue: cannot start");
        process::exit(code);
    }
    tools::flood_stderr(options.stderr_flood);
    let server = Server::new(options);
    read(&server)?;
    if server.options.ignore_eof {
        sleep_forever();
    }
    // Not a return: calls may still sleep on their threads, and nobody waits for them any more.
    process::exit(0);
}

fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Starts over through a shell that ignores SIGTERM: what is ignored stays so across exec.
#[cfg(unix)]
fn ignore_sigterm() -> io::Error {
    use std::os::unix::process::CommandExt;
    let arguments = env::args().skip(1).map(|argument| match argument.as_str() {
        "--ignore-sigterm" => options::SIGTERM_IGNORED.to_owned(),
        _ => argument,
    });
    match env::current_exe() {
        Ok(this) => process::Command::new("/bin/sh")
            .args(["-c", r#"trap "" TERM; exec "$0" "$@""#])
            .arg(this)
            .args(arguments)
            .exec(),
        Err(error) => error,
    }
}

#[cfg(not(unix))]
fn ignore_sigterm() -> io::Error {
    io::Error::other("there is no SIGTERM here to ignore")
}

fn read(server: &Arc<Server>) -> io::Result<()> {
    let mut log = server.options.log.as_deref().map(append).transpose()?;
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        if let Some(log) = &mut log {
            log.write_all(&line)?;
        }
        if !server.options.never_initialize {
            match serde_json::from_slice::<Value>(&line) {
                Ok(message) => handle(server, &message),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => server
                    .send(&json!({"jsonrpc": "2.0", "error": {"code": -32700, "message": "this line is not JSON"}})),
            }
        }
        line.clear();
    }
    Ok(())
}

fn handle(server: &Arc<Server>, message: &Value) {
    let params = &message["params"];
    match (message["method"].as_str(), message.get("id")) {
        // The experimental tasks of 2025-11-25: one is over as soon as it is there.
        (Some("tools/call"), Some(id)) if params["task"].is_object() => {
            let task = server.memory().task();
            server.send(&json!({"jsonrpc": "2.0", "id": id, "result": {"task": task}}));
        }
        (Some("tools/call"), Some(id)) => tools::run(Call::new(server, id, params), params),
        (Some("tools/list"), Some(id)) if server.options.tools.is_some() => {
            // The cursor is the number of the line.
            let at = params["cursor"].as_str().and_then(|at| at.parse().ok()).unwrap_or(0);
            let pages = server.options.tools.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
            let page = pages.as_deref().and_then(|pages| pages.lines().nth(at)).unwrap_or(r#"{"tools":[]}"#);
            server.line(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{page}}}"#).as_bytes());
        }
        (Some(method), Some(id)) => {
            let answer = match request(server, method, params) {
                Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
                Err((code, text)) => {
                    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})
                }
            };
            server.send(&answer);
        }
        (Some("notifications/cancelled"), None) => server.cancelled(&params["requestId"]),
        (Some("notifications/roots/list_changed"), None) => server.memory().roots_changed += 1,
        (Some(_), None) => {}
        (None, _) => server.answered(message),
    }
}

fn request(server: &Server, method: &str, params: &Value) -> Result<Value, (i32, String)> {
    let uri = params["uri"].as_str().unwrap_or_default();
    Ok(match method {
        "initialize" => initialize(server, params),
        "ping" => json!({}),
        "tools/list" => tools::list(&server.memory().added),
        "resources/list" => json!({"resources": [
            {"uri": "rogue://one", "name": "one", "mimeType": "text/plain"},
            {"uri": "rogue://two", "name": "two", "mimeType": "text/plain"},
        ]}),
        "resources/templates/list" => json!({"resourceTemplates": []}),
        "resources/read" if matches!(uri, "rogue://one" | "rogue://two") => {
            let text = uri.trim_start_matches("rogue://");
            json!({"contents": [{"uri": uri, "mimeType": "text/plain", "text": text}]})
        }
        "resources/read" => return Err((-32002, format!("no resource {uri:?} here"))),
        "resources/subscribe" | "resources/unsubscribe" => {
            let deed = method.trim_start_matches("resources/");
            server.memory().subscriptions.push(format!("{deed} {uri}"));
            json!({})
        }
        "prompts/list" => json!({"prompts": [{"name": "hello", "description": "Says hello."}]}),
        "prompts/get" if params["name"] == "hello" => json!({"messages": [
            {"role": "user", "content": {"type": "text", "text": "Hello."}},
        ]}),
        "prompts/get" => return Err((-32602, format!("no prompt {} here", params["name"]))),
        "completion/complete" => {
            json!({"completion": {"values": ["one", "two"], "total": 2, "hasMore": false}})
        }
        "logging/setLevel" => {
            server.memory().levels.push(params["level"].clone());
            json!({})
        }
        "tasks/list" => json!({"tasks": server.memory().tasks}),
        "tasks/get" | "tasks/result" => {
            let memory = server.memory();
            let task = memory.tasks.iter().find(|task| task["taskId"] == params["taskId"]);
            match (task, method) {
                (None, _) => return Err((-32602, "no such task here".into())),
                (Some(task), "tasks/get") => task.clone(),
                (Some(task), _) => json!({"content": [{"type": "text", "text": "done"}],
                    "_meta": {"io.modelcontextprotocol/related-task": {"taskId": task["taskId"]}}}),
            }
        }
        "server/discover" if server.options.exit_on_probe => process::exit(1),
        _ => return Err((-32601, format!("no method {method:?} here"))),
    })
}

fn initialize(server: &Server, params: &Value) -> Value {
    thread::sleep(server.options.slow_start);
    server.memory().client = params.clone();
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let known = REVISIONS.iter().find(|known| **known == asked);
    let revision = known.unwrap_or(&REVISIONS[3]).to_string();
    let usual = json!({
        "tools": {"listChanged": true},
        "resources": {"subscribe": true, "listChanged": true},
        "prompts": {},
        "logging": {},
        "completions": {},
    });
    let options = &server.options;
    let mut result = json!({
        "protocolVersion": options.protocol.clone().unwrap_or(revision),
        "capabilities": options.capabilities.clone().unwrap_or(usual),
        "serverInfo": {"name": "rogue", "version": "1.0.0"},
    });
    if let Some(text) = &options.instructions {
        result["instructions"] = json!(text);
    }
    result
}
