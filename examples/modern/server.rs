//! The state of the server, and the calls it has not answered yet.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ask::Pending;
use crate::listen::Listen;
use crate::options::{Options, Probe};
use crate::request::Request;

/// The text of a result, or why there is none.
pub type Outcome = Result<String, Refusal>;

pub struct Refusal {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

pub fn refusal(code: i64, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into(), data: Value::Null }
}

pub struct Server {
    pub options: Options,
    /// Held while a line is written.
    output: Mutex<()>,
    memory: Mutex<Memory>,
}

/// What the server remembers, for the tests to look at.
#[derive(Default)]
pub struct Memory {
    /// What clients did wrong.
    pub complaints: Vec<String>,
    /// The ids of calls that were cancelled before they were answered, in order.
    pub cancelled: Vec<Value>,
    /// The requests neither answered nor cancelled, by their ids as JSON. Dropping the sender tells the call.
    pub in_flight: HashMap<String, Sender<()>>,
    /// The listens that are open.
    pub listens: Vec<Listen>,
    /// The filter of every listen there ever was, in order.
    pub filters: Vec<Value>,
    /// Rounds of questions that wait for their retry, by `requestState`.
    pub pending: HashMap<String, Pending>,
    /// How many states were given out.
    pub states: u64,
    /// How often a resource changed.
    pub versions: BTreeMap<String, u64>,
    /// How often this process was probed.
    pub probes: u64,
}

impl Server {
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self { options, output: Mutex::default(), memory: Mutex::default() })
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it work with `initialize`?
    pub fn is_legacy(&self) -> bool {
        self.options.probe.is_some_and(|probe| !matches!(probe, Probe::Once | Probe::Late))
    }

    pub fn complain(&self, what: &str) {
        eprintln!("modern: complaint: {what}");
        self.memory().complaints.push(what.to_owned());
    }

    pub fn line(&self, text: &str) {
        let _held = self.output.lock();
        let mut stdout = io::stdout().lock();
        let line = [text.as_bytes(), b"\n"].concat();
        if stdout.write_all(&line).and_then(|()| stdout.flush()).is_err() {
            process::exit(0);
        }
    }

    pub fn notify(&self, method: &str, params: Value) {
        self.line(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    pub fn cancelled(&self, id: &str) {
        let mut memory = self.memory();
        let listens = memory.listens.len();
        memory.listens.retain(|listen| listen.id != id);
        let was_listen = memory.listens.len() < listens;
        if memory.in_flight.remove(id).is_some() && !was_listen {
            memory.cancelled.push(serde_json::from_str(id).unwrap_or_default());
        }
    }
}

/// A request not yet answered.
pub struct Call {
    pub server: Arc<Server>,
    pub request: Request,
    /// As JSON.
    pub id: String,
    cancelled: Receiver<()>,
}

impl Call {
    /// None: the id is in flight, and the request was refused.
    pub fn begin(server: &Arc<Server>, request: Request) -> Option<Self> {
        let id = request.id.clone().unwrap_or_default();
        let (canceller, cancelled) = mpsc::channel();
        let is_taken = {
            let mut memory = server.memory();
            let is_taken = memory.in_flight.contains_key(&id);
            if !is_taken {
                memory.in_flight.insert(id.clone(), canceller);
            }
            is_taken
        };
        if is_taken {
            server.complain(&format!("the id {id} is in flight"));
            let error = json!({"code": -32600, "message": "this id is in flight"});
            server.line(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#));
            return None;
        }
        Some(Self { server: Arc::clone(server), request, id, cancelled })
    }

    /// Writes the response, unless the call was cancelled meanwhile.
    pub fn end(&self, outcome: Outcome) {
        if self.server.memory().in_flight.remove(&self.id).is_none() {
            return;
        }
        let rest = match outcome {
            Ok(result) => format!(r#""result":{result}"#),
            Err(Refusal { code, message, data: Value::Null }) => {
                format!(r#""error":{}"#, json!({"code": code, "message": message}))
            }
            Err(Refusal { code, message, data }) => {
                format!(r#""error":{}"#, json!({"code": code, "message": message, "data": data}))
            }
        };
        self.server.line(&format!(r#"{{"jsonrpc":"2.0","id":{},{rest}}}"#, self.id));
    }

    /// The rest of the call runs on a thread of its own; the reader reads on.
    pub fn spawn(self, work: impl FnOnce(Self) + Send + 'static) {
        thread::spawn(move || work(self));
    }

    /// Waits; false as soon as the call is cancelled.
    pub fn sleep(&self, ms: u64) -> bool {
        let waited = self.cancelled.recv_timeout(Duration::from_millis(ms));
        waited == Err(RecvTimeoutError::Timeout)
    }

    /// A number among the arguments, 0 when it is missing.
    pub fn number(&self, name: &str) -> u64 {
        self.request.argument(name).as_u64().unwrap_or(0)
    }

    /// A text among the arguments, empty when it is missing.
    pub fn text(&self, name: &str) -> String {
        self.request.argument(name).as_str().unwrap_or_default().to_owned()
    }
}

/// A result that is an answer, with what every one of them has.
pub fn complete(mut members: Value) -> String {
    members["resultType"] = json!("complete");
    members["_meta"]["io.modelcontextprotocol/serverInfo"] = json!({"name": "modern", "version": "1.0.0"});
    members.to_string()
}

/// The same for what may be cached.
pub fn cacheable(mut members: Value) -> String {
    members["ttlMs"] = json!(60_000);
    members["cacheScope"] = json!("public");
    complete(members)
}
