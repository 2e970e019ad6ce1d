//! Upstreams that are somewhere else: what a server at the other end of a wire can do to its callers.

mod asks;
mod broken;
mod change;
mod eras;
mod headers;
mod older;
mod outage;
mod params;
mod redirects;
mod refusals;
mod sessions;
mod tls;

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::{
    fixture::{Answer, Client, Hub, LATEST, http, initialize, post},
    peer::{Mouth, Peer, Reply, Seen, older as answer_older},
};

/// Greets a mount, and answers with whatever comes of it.
async fn greet(hub: &Hub, path: &str) -> Answer {
    post(&http(), &hub.url(path), &[], &initialize(LATEST, json!({}))).await
}

/// Calls the one tool; what it is asked for decides what the peer does.
async fn echo(client: &Client, text: &str) -> Answer {
    client.call("echo", json!({ "text": text })).await
}

/// What a call asks for.
fn wish(seen: &Seen) -> &str {
    match seen.method() {
        "tools/call" => seen.body["params"]["arguments"]["text"].as_str().unwrap_or_default(),
        _ => "",
    }
}

/// The data of an error.
fn data(answer: &Answer) -> Value {
    answer.last()["error"]["data"].clone()
}

/// A server of 2024-11-05: `endpoint` is what its first event names.
async fn sse(endpoint: &'static str) -> Peer {
    let mouth: Mutex<Option<Mouth>> = Mutex::default();
    Peer::new(move |seen| match (seen.verb.as_str(), seen.path.as_str()) {
        ("GET", "/mcp") => {
            let (reply, new) = Reply::told();
            if !endpoint.is_empty() {
                new.event(&format!("event: endpoint\ndata: {endpoint}\n\n"));
            }
            *mouth.lock().unwrap() = Some(new);
            reply
        }
        ("POST", "/mcp") => Reply::status(405),
        ("POST", _) => {
            if let (Some(answer), Some(mouth)) = (answer_older(seen).document(), &*mouth.lock().unwrap()) {
                mouth.say(&answer);
                if seen.body["params"]["arguments"]["text"] == "twice" {
                    mouth.say(&answer);
                }
            }
            Reply::status(202)
        }
        _ => Reply::status(404),
    })
    .await
}
