//! A minimal older server that takes oddly to a probe; afterwards it has `initialize`, and echo, mirror and pid.
//!
//! It also insists on order: a process that was probed is spoilt for `initialize`, as some servers are.

use std::process;

use serde_json::{Value, json};

use crate::options::Probe;
use crate::server::{Call, Outcome, refusal};
use crate::{methods, tools};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

pub fn answer(call: Call) {
    let probe = call.server.options.probe;
    let outcome = match call.request.method.as_str() {
        "server/discover" => {
            call.server.memory().probes += 1;
            match probed(&call) {
                Some(outcome) => outcome,
                None => return,
            }
        }
        "initialize" if probe == Some(Probe::FutureOnly) => Err(methods::refused(["2099-01-01"])),
        "initialize" if call.server.memory().probes > 0 => Err(refusal(-32600, "spoilt by a probe")),
        "initialize" => Ok(initialize(&call)),
        "ping" => Ok("{}".to_owned()),
        "tools/list" => Ok(json!({"tools": tools::list_legacy()}).to_string()),
        "tools/call" => return tools::run_legacy(call),
        method => Err(refusal(-32601, format!("no method {method:?} here"))),
    };
    call.end(outcome);
}

/// None: silence.
fn probed(call: &Call) -> Option<Outcome> {
    Some(match call.server.options.probe {
        Some(Probe::Exit) => process::exit(1),
        Some(Probe::Silent) => return None,
        Some(Probe::LegacyOnly) => Ok(json!({
            "resultType": "complete",
            "supportedVersions": ["2025-06-18", "2025-11-25"],
            "capabilities": {"tools": {}},
            "ttlMs": 0,
            "cacheScope": "private",
        })
        .to_string()),
        Some(Probe::LegacyRefusal) => Err(methods::refused(["2025-11-25"])),
        Some(Probe::FutureOnly) => Err(methods::refused(["2099-01-01"])),
        _ => Err(refusal(-32000, "not initialized")),
    })
}

fn initialize(call: &Call) -> String {
    let asked = call.request.text("protocolVersion");
    let known = REVISIONS.iter().find(|known| **known == asked);
    let result: Value = json!({
        "protocolVersion": known.unwrap_or(&REVISIONS[3]),
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "not so modern", "version": "1.0.0"},
    });
    result.to_string()
}
