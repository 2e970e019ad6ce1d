//! A hub as a part of another program: one small program for each thing that it can do, see docs/library.md.
//!
//! `cargo run --example embed -- NAME`, where NAME is one of those below. Each ends by itself, with exit code 0 when it
//! saw what it shows. `tests/examples.rs` runs them all.

#![allow(clippy::print_stdout, reason = "what they show is what they are for")]

mod client;
mod event_store;
mod hooks;
mod links;
mod mount;
mod notify;
mod rust_sdk;
mod serve_http;
mod serve_stdio;
mod server;

use std::process::ExitCode;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    // An actix System, on this thread.
    let outcome = hubward::on_system(async {
        match name.as_str() {
            "serve_http" => serve_http::run().await,
            "mount" => mount::run().await,
            "hooks" => hooks::run().await,
            "notify" => notify::run().await,
            "event_store" => event_store::run().await,
            "serve_stdio" => serve_stdio::run().await,
            "links" => links::run().await,
            "rust_sdk" => rust_sdk::run().await,
            _ => Err("name one: serve_http mount hooks notify event_store serve_stdio links rust_sdk".into()),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
