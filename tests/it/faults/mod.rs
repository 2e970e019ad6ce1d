//! What can go wrong with a child process, row by row of the fault catalogue, seen by clients over HTTP.

mod answers;
mod asks;
mod cycles;
mod death;
mod hang;
mod output;
mod pool;
mod process_max;
mod signals;
mod start;
mod stop;
mod survival;

use std::path::Path;

use serde_json::{Value, json};

use super::fixture::{Answer, Client, Hub, LATEST, http, initialize, post};

/// Asks for a session, and answers with what came.
async fn greet(hub: &Hub, path: &str) -> Answer {
    post(&http(), &hub.url(path), &[], &initialize(LATEST, json!({}))).await
}

/// The process that answers this client.
async fn pid(client: &Client) -> u32 {
    client.call("pid", json!({})).await.tool_text().parse().unwrap()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The lines of a file of the rogue; none where it does not exist.
fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What the rogue's log says it received, of one method.
fn received(path: &Path, method: &str) -> Vec<Value> {
    let all = lines(path).into_iter().map(|line| serde_json::from_str::<Value>(&line).expect("one message a line"));
    all.filter(|message| message["method"] == method).collect()
}

/// The calls of one tool that reached a child.
fn calls(path: &Path, tool: &str) -> usize {
    received(path, "tools/call").iter().filter(|call| call["params"]["name"] == tool).count()
}

/// Processes whose parent is the hub, zombies included.
fn children(hub: &Hub) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let all =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|pid| parent(*pid) == Some(hub.pid())).collect()
}
