//! The protocol of the demo, without input, output or a clock of its own.
//!
//! A line and the time in, messages out; `due` says when something happens by itself.
//! Invariant: every request is answered exactly once, or not at all when it was cancelled.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde_json::{Value, json};

use super::offers;
use super::tools::{self, Slow};

/// Newest last; who asks for another revision is offered the newest.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// From least to most severe.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
/// Calls that wait, for time or for the client. More is a loop in the caller.
const CALLS_IN_FLIGHT_MAX: usize = 256;
const TOOLS_ADDED_MAX: usize = 32;

/// Why a request failed: the code and text of its error.
pub type Refusal = (i32, String);

/// What became of a tool call.
enum Outcome {
    /// The `result`, tool errors included.
    Done(Value),
    /// The answer comes later, or never when it is cancelled.
    Later,
}

#[derive(Default)]
pub struct Demo {
    /// The client's capabilities.
    client: Value,
    /// The revision agreed at `initialize`.
    revision: Option<&'static str>,
    /// An index into `LEVELS`; until the client chooses one, info.
    level: Option<usize>,
    counter: u64,
    counter_watched: bool,
    /// The tools that `add_tool` added.
    added: Vec<String>,
    /// The calls of `slow`, by the JSON text of their id.
    slow: BTreeMap<String, Slow>,
    /// The questions asked of the client, by our id.
    asked: HashMap<u64, Question>,
    asked_ever: u64,
    /// What the message at hand has led to so far.
    out: Vec<Value>,
}

struct Question {
    /// The call that waits for the answer.
    id: Value,
    /// Turns a successful answer into the text of the call's result.
    tell: fn(&Value) -> String,
}

impl Demo {
    /// One line of input.
    pub fn read(&mut self, line: &[u8], now: Instant) -> Vec<Value> {
        match serde_json::from_slice(line) {
            Ok(Value::Array(batch)) if self.revision == Some("2025-03-26") => {
                batch.iter().for_each(|one| self.handle(one, now));
            }
            Ok(message @ Value::Object(_)) => self.handle(&message, now),
            Ok(_) => self.out.push(
                json!({"jsonrpc": "2.0", "error": {"code": -32600, "message": "a message is a JSON object"}}),
            ),
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(error) => self.out.push(
                json!({"jsonrpc": "2.0", "error": {"code": -32700, "message": format!("this line is not JSON: {error}")}}),
            ),
        }
        std::mem::take(&mut self.out)
    }

    /// When `advance` has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.slow.values().map(Slow::due).min()
    }

    /// The passing of time.
    pub fn advance(&mut self, now: Instant) -> Vec<Value> {
        let mut ended = Vec::new();
        for (key, slow) in &mut self.slow {
            while slow.step < slow.steps && slow.due() <= now {
                slow.step += 1;
                if let Some(token) = &slow.token {
                    let message = format!("Step {} of {}", slow.step, slow.steps);
                    let progress =
                        json!({"progressToken": token, "progress": slow.step, "total": slow.steps, "message": message});
                    self.out.push(notification("notifications/progress", progress));
                }
            }
            if slow.step == slow.steps {
                ended.push(key.clone());
            }
        }
        for key in ended {
            let Some(slow) = self.slow.remove(&key) else {
                continue;
            };
            let text = format!("Done: {} s, {} of {} steps.", slow.seconds, slow.step, slow.steps);
            self.log("info", &text);
            self.out.push(response(&slow.id, Ok(content(&text))));
        }
        std::mem::take(&mut self.out)
    }

    fn handle(&mut self, message: &Value, now: Instant) {
        let params = &message["params"];
        match (message["method"].as_str(), message.get("id")) {
            (Some("tools/call"), Some(id)) => match self.call(id, params, now) {
                Ok(Outcome::Done(result)) => self.out.push(response(id, Ok(result))),
                Ok(Outcome::Later) => {}
                Err(refusal) => self.out.push(response(id, Err(refusal))),
            },
            (Some(method), Some(id)) => {
                let answer = self.request(method, params);
                self.out.push(response(id, answer));
            }
            (Some("notifications/cancelled"), None) => self.cancelled(&params["requestId"]),
            (Some(_), None) => {}
            (None, _) => self.answered(message),
        }
    }

    fn request(&mut self, method: &str, params: &Value) -> Result<Value, Refusal> {
        let uri = params["uri"].as_str().unwrap_or_default();
        Ok(match method {
            "initialize" => {
                let known = REVISIONS.iter().find(|known| params["protocolVersion"] == **known);
                let revision = *known.unwrap_or(&REVISIONS[3]);
                self.revision = Some(revision);
                self.client = params["capabilities"].clone();
                offers::initialize(revision)
            }
            "ping" => json!({}),
            "tools/list" => offers::tools(&self.added),
            "resources/list" => offers::resources(),
            "resources/templates/list" => offers::resource_templates(),
            "resources/read" => offers::read(uri, self.counter)
                .ok_or_else(|| (-32002, format!("There is no resource {uri:?}. Try demo://readme.")))?,
            "resources/subscribe" | "resources/unsubscribe" if uri == offers::COUNTER => {
                self.counter_watched = method == "resources/subscribe";
                json!({})
            }
            // Known, but nothing that ever changes.
            "resources/subscribe" | "resources/unsubscribe" if offers::read(uri, 0).is_some() => {
                json!({})
            }
            "resources/subscribe" | "resources/unsubscribe" => {
                return Err((-32002, format!("There is no resource {uri:?} to watch. Try {}.", offers::COUNTER)));
            }
            "prompts/list" => offers::prompts(),
            "prompts/get" => offers::prompt(params)?,
            "completion/complete" => offers::complete(params)?,
            "logging/setLevel" => {
                let level = LEVELS.iter().position(|level| params["level"] == **level);
                self.level = Some(level.ok_or((-32602, format!("The levels are {}.", LEVELS.join(", "))))?);
                json!({})
            }
            _ => return Err((-32601, format!("There is no method {method:?} here."))),
        })
    }

    fn call(&mut self, id: &Value, params: &Value, now: Instant) -> Result<Outcome, Refusal> {
        let arguments = &params["arguments"];
        let name = params["name"].as_str().unwrap_or_default();
        let result = match name {
            "echo" => tools::text_of(arguments, "text").map(|text| {
                self.log("debug", &format!("echo was given {} characters", text.chars().count()));
                content(text)
            }),
            "add" => tools::add(arguments),
            "slow" => {
                let token = params["_meta"].get("progressToken").cloned();
                match tools::slow(id, arguments, token, now) {
                    Ok(_) if self.is_full() => Err(TOO_BUSY.to_owned()),
                    Ok(slow) => {
                        self.log("info", &format!("{} s to go", slow.seconds));
                        self.slow.insert(id.to_string(), slow);
                        return Ok(Outcome::Later);
                    }
                    Err(wrong) => Err(wrong),
                }
            }
            "tick" => {
                self.counter += 1;
                if self.counter_watched {
                    self.out.push(notification("notifications/resources/updated", json!({"uri": offers::COUNTER})));
                }
                Ok(content(&format!("The counter is now {}. Read it at {}.", self.counter, offers::COUNTER)))
            }
            "add_tool" => self.add_tool(arguments),
            "ask_name" if !self.can("elicitation") => Err(lacks("elicitation")),
            "ask_name" => {
                return Ok(self.ask(id, "elicitation/create", offers::ask_name(), tools::greet));
            }
            "ask_model" if !self.can("sampling") => Err(lacks("sampling")),
            "ask_model" => match tools::text_of(arguments, "prompt") {
                Ok(prompt) => {
                    return Ok(self.ask(id, "sampling/createMessage", offers::ask_model(prompt), tools::quote));
                }
                Err(wrong) => Err(wrong),
            },
            "list_roots" if !self.can("roots") => Err(lacks("roots")),
            "list_roots" => return Ok(self.ask(id, "roots/list", json!({}), tools::list_roots)),
            _ if self.added.iter().any(|added| added == name) => {
                Ok(content(&format!("Hello from {name}, the tool you added.")))
            }
            _ => {
                return Err((-32602, format!("There is no tool {name:?}; tools/list names them all.")));
            }
        };
        Ok(Outcome::Done(result.unwrap_or_else(|wrong| failure(&wrong))))
    }

    fn add_tool(&mut self, arguments: &Value) -> Result<Value, String> {
        let name = tools::text_of(arguments, "name")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err("A tool's name is 1 to 64 letters, digits, underscores, hyphens or dots.".to_owned());
        }
        if offers::is_tool(name) || self.added.iter().any(|added| added == name) {
            return Err(format!("There is a tool named {name} already. Choose another name."));
        }
        if self.added.len() == TOOLS_ADDED_MAX {
            return Err(format!("There are {TOOLS_ADDED_MAX} added tools already; that is enough for a demo."));
        }
        self.added.push(name.to_owned());
        self.out.push(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
        Ok(content(&format!("The tool {name} is there now. List the tools again to see it.")))
    }

    /// Whether the client declared that it answers such questions.
    fn can(&self, capability: &str) -> bool {
        match &self.client[capability] {
            Value::Object(modes) if capability == "elicitation" => modes.is_empty() || modes.contains_key("form"),
            declared => declared.is_object(),
        }
    }

    fn is_full(&self) -> bool {
        self.slow.len() + self.asked.len() >= CALLS_IN_FLIGHT_MAX
    }

    fn ask(&mut self, id: &Value, method: &str, params: Value, tell: fn(&Value) -> String) -> Outcome {
        if self.is_full() {
            return Outcome::Done(failure(TOO_BUSY));
        }
        self.asked_ever += 1;
        let (ours, id) = (self.asked_ever, id.clone());
        self.asked.insert(ours, Question { id, tell });
        self.out.push(json!({"jsonrpc": "2.0", "id": ours, "method": method, "params": params}));
        Outcome::Later
    }

    /// A response of the client to a question of ours. One we do not wait for is ignored.
    fn answered(&mut self, message: &Value) {
        let ours = message["id"].as_u64();
        let Some(question) = ours.and_then(|ours| self.asked.remove(&ours)) else {
            return;
        };
        let result = match message.get("result") {
            Some(answer) => content(&(question.tell)(answer)),
            None => failure(&format!(
                "The client would not answer: {}",
                message["error"]["message"].as_str().unwrap_or("no reason given")
            )),
        };
        self.out.push(response(&question.id, Ok(result)));
    }

    fn cancelled(&mut self, id: &Value) {
        self.slow.remove(&id.to_string());
        let ours = self.asked.iter().find(|(_, question)| question.id == *id);
        if let Some(ours) = ours.map(|(ours, _)| *ours) {
            self.asked.remove(&ours);
            let params = json!({"requestId": ours, "reason": "the call that asked was cancelled"});
            self.out.push(notification("notifications/cancelled", params));
        }
    }

    fn log(&mut self, level: &str, text: &str) {
        let rank = LEVELS.iter().position(|known| *known == level);
        if rank >= Some(self.level.unwrap_or(1)) {
            let params = json!({"level": level, "logger": "demo", "data": text});
            self.out.push(notification("notifications/message", params));
        }
    }
}

const TOO_BUSY: &str = "Too many calls are waiting already. Try again when one has ended.";

fn response(id: &Value, answer: Result<Value, Refusal>) -> Value {
    match answer {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, text)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})
        }
    }
}

fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

pub fn content(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn failure(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": true})
}

fn lacks(capability: &str) -> String {
    format!(
        "This client did not declare the capability {capability:?}, so there is no way to ask. Try the tool in a client that has it."
    )
}
