//! The smallest honest MCP server: `cargo run --example echo`, then type JSON-RPC, one message per line.
//!
//! One thread reads a line, answers it and reads the next. What was answered is flushed as soon as
//! no further input is buffered, so that a burst of calls costs few system calls and a single call
//! never waits. End of input ends the program with code 0; so does a closed stdout, quietly.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::process;

use serde_json::{Value, json};

/// The revisions we speak, newest last: an unknown one is answered with the newest.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// More than any honest client sends on a line; past it the input is no longer worth reading.
const LINE_BYTES_MAX: u64 = 64 << 20;

fn main() {
    // A write fails only when the client has gone: nobody is left to be told.
    let _ = serve();
}

fn serve() -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 << 10, io::stdin().lock());
    let mut output = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let mut client = Value::Null;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = io::Read::take(&mut input, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if length == 0 || length as u64 == LINE_BYTES_MAX {
            return output.flush();
        }
        if let Some(answer) = read(&line, &mut client) {
            serde_json::to_writer(&mut output, &answer)?;
            output.write_all(b"\n")?;
        }
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
}

/// One line in, at most one line out. `client` is what the client said at `initialize`.
fn read(line: &[u8], client: &mut Value) -> Option<Value> {
    match serde_json::from_slice(line) {
        // The batches of 2025-03-26.
        Ok(Value::Array(batch)) => {
            let answers: Vec<_> = batch.iter().filter_map(|one| answer(one, client)).collect();
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
        Ok(message) => answer(&message, client),
        Err(_) if line.trim_ascii().is_empty() => None,
        Err(_) => Some(json!({"jsonrpc": "2.0", "error": {"code": -32700, "message": "this line is not JSON"}})),
    }
}

fn answer(message: &Value, client: &mut Value) -> Option<Value> {
    let id = message.get("id")?;
    let params = &message["params"];
    let outcome = match message["method"].as_str()? {
        "initialize" => {
            *client = params.clone();
            Ok(initialize(params))
        }
        "ping" => Ok(json!({})),
        "tools/list" => Ok(tools()),
        "tools/call" => call(params, client),
        method => Err((-32601, format!("no method {method:?} here"))),
    };
    Some(match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, text)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})
        }
    })
}

fn initialize(params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let revision = REVISIONS.iter().find(|known| **known == asked);
    json!({
        "protocolVersion": revision.unwrap_or(&REVISIONS[3]),
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "echo", "version": "1.0.0"},
    })
}

fn tools() -> Value {
    let nothing = json!({"type": "object", "properties": {}});
    let text = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
    json!({"tools": [
        {"name": "echo", "description": "Returns its text.", "inputSchema": text},
        {"name": "pid", "description": "Returns the id of this process.", "inputSchema": nothing},
        {"name": "who", "description": "Returns what the client said of itself at initialize.", "inputSchema": nothing},
    ]})
}

fn call(params: &Value, client: &Value) -> Result<Value, (i32, String)> {
    let text = |text: String| Ok(json!({"content": [{"type": "text", "text": text}]}));
    match params["name"].as_str().unwrap_or_default() {
        "echo" => match params["arguments"]["text"].as_str() {
            Some(said) => text(said.to_owned()),
            None => Ok(json!({"content": [{"type": "text", "text": "echo needs a string \"text\""}], "isError": true})),
        },
        "pid" => text(process::id().to_string()),
        "who" => text(client.to_string()),
        name => Err((-32602, format!("no tool {name:?} here"))),
    }
}
