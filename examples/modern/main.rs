//! A strict server of 2026-07-28 and of nothing else, by hand: `cargo run --example modern`.
//!
//! It takes nothing on trust: each request needs its envelope, an id that is in flight is refused, whatever the
//! revision took away is answered with -32601. What a client does wrong is refused and also remembered as a
//! *complaint*, so that a test can ask whether there was any (`seen`). It never writes a request.
//!
//! Flags are in `options.rs`, the tools with what they do in the table of `tools.rs`, those that ask in `ask.rs`.
//! `prompts/get` knows `plain` and `asks`, `resources/read` `modern://one`, `modern://two`, `modern://asks`.
//! With `--probe` it is an older server that reacts oddly to being probed (`legacy.rs`).

mod ask;
mod legacy;
mod listen;
mod methods;
mod options;
mod request;
mod server;
mod tools;

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::process;
use std::sync::Arc;

use options::Options;
use request::{Members, Request};
use server::{Call, Server};

const VERSION: &str = "2026-07-28";

fn main() -> io::Result<()> {
    let options = Options::parse(env::args().skip(1)).unwrap_or_else(|error| {
        eprintln!("modern: {error}");
        process::exit(2);
    });
    let mut log = options.log.as_deref().map(append).transpose()?;
    if let Some(path) = &options.counter {
        // One write, so that lines of processes that start together do not mix.
        append(path)?.write_all(format!("{}\n", process::id()).as_bytes())?;
    }
    let server = Server::new(options);
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        if let Some(log) = &mut log {
            log.write_all(&line)?;
        }
        read(&server, &line);
        line.clear();
    }
    // Not a return: calls may still sleep on their threads, and nobody waits for them any more.
    process::exit(0);
}

fn append(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn read(server: &Arc<Server>, line: &[u8]) {
    let Ok(members) = serde_json::from_slice::<Members>(line) else {
        server.complain("a line that is no JSON object");
        return server.line(r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"this line is no JSON object"}}"#);
    };
    let Some(request) = Request::read(members) else {
        return server.complain("a message without a method: this server asks nothing");
    };
    match (&request.id, request.method.as_str()) {
        (None, "notifications/cancelled") => server.cancelled(request.raw("requestId")),
        (None, _) if server.is_legacy() => {}
        (None, method) => server.complain(&format!("the notification {method}")),
        (Some(_), _) => {
            if let Some(call) = Call::begin(server, request) {
                answer(call);
            }
        }
    }
}

fn answer(call: Call) {
    if call.server.is_legacy() {
        return legacy::answer(call);
    }
    if let Err(refusal) = methods::check(&call) {
        return call.end(Err(refusal));
    }
    methods::answer(call);
}
