//! The state of the rogue and the two ways to speak: answer a call, or ask the client something.

use std::collections::HashMap;
use std::io::{self, Write};
use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::options::Options;

pub struct Server {
    pub options: Options,
    /// Held while a line is written; the number of lines so far.
    output: Mutex<u64>,
    memory: Mutex<Memory>,
}

/// What the rogue remembers of the client, for the tests to look at.
#[derive(Default)]
pub struct Memory {
    /// The params of `initialize`.
    pub client: Value,
    /// Every level set through `logging/setLevel`, in order.
    pub levels: Vec<Value>,
    /// `subscribe URI` and `unsubscribe URI`, in order.
    pub subscriptions: Vec<String>,
    /// The `requestId` of every `notifications/cancelled`, in order.
    pub cancels: Vec<Value>,
    /// How often `notifications/roots/list_changed` came.
    pub roots_changed: u64,
    /// The value of the tool `state`.
    pub state: Value,
    /// The names given to the tool `add_tool`.
    pub added: Vec<String>,
    /// What came back for the latest `ask_unprompted`.
    pub last_answer: Value,
    /// The calls neither answered nor cancelled, by the JSON text of their id. Dropping the sender
    /// is what tells a call that it was cancelled.
    pub in_flight: HashMap<String, Sender<()>>,
    /// Our own requests: by id, the call behind each and where its response goes.
    waiting: HashMap<u64, (Option<String>, Sender<Value>)>,
    asked: u64,
    /// Tasks, as `tasks/get` tells them.
    pub tasks: Vec<Value>,
}

impl Memory {
    /// A new task, which is done.
    pub fn task(&mut self) -> Value {
        let now = "2026-08-01T00:00:00Z";
        let task = json!({"taskId": format!("task {} {}", std::process::id(), self.tasks.len()), "status": "completed",
            "createdAt": now, "lastUpdatedAt": now, "ttl": 60_000});
        self.tasks.push(task.clone());
        task
    }
}

impl Server {
    pub fn new(options: Options) -> Arc<Self> {
        let (output, memory) = (Mutex::default(), Mutex::default());
        Arc::new(Self { options, output, memory })
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one line, with whatever the flags put around it.
    pub fn line(&self, text: &[u8]) {
        const NOISE: [&str; 3] = ["Rogue is listening…", "\x1b[1;32m✔ ready\x1b[0m", "[info] {"];
        let mut lines = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let end: &[u8] = if self.options.crlf { b"\r\n" } else { b"\n" };
        let mut bytes = Vec::with_capacity(text.len() + 16);
        if self.options.bom && *lines == 0 {
            bytes.extend("\u{feff}".as_bytes());
        }
        for noise in NOISE.iter().cycle().take(self.options.banner) {
            bytes.extend(noise.as_bytes());
            bytes.extend(end);
        }
        bytes.extend(text);
        bytes.extend(end);
        if self.options.blank_lines {
            bytes.extend(end);
        }
        *lines += 1;
        self.write(&bytes);
    }

    pub fn send(&self, message: &Value) {
        self.line(message.to_string().as_bytes());
    }

    pub fn notify(&self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Writes bytes that are no whole line, and lets nobody write ever after.
    pub fn partial(&self, bytes: &[u8]) -> ! {
        let _held = self.output.lock();
        self.write(bytes);
        sleep_forever()
    }

    /// Asks the client and waits for its whole response, without the envelope; `None` when the
    /// call behind it was cancelled meanwhile.
    pub fn ask(&self, call: Option<&Value>, method: &str, params: Value) -> Option<Value> {
        let (answered, answer) = mpsc::channel();
        let id = {
            let mut memory = self.memory();
            let id = memory.asked;
            memory.asked += 1;
            let call = call.map(Value::to_string);
            memory.waiting.insert(id, (call, answered));
            id
        };
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        answer.recv().ok()
    }

    /// A response of the client: it wakes who asked. Nobody asked: nothing happens.
    pub fn answered(&self, message: &Value) {
        let id = message["id"].as_u64();
        let Some((_, asker)) = id.and_then(|id| self.memory().waiting.remove(&id)) else {
            return;
        };
        let key = if message.get("error").is_some() { "error" } else { "result" };
        let _ = asker.send(json!({ key: message[key] }));
    }

    pub fn cancelled(&self, id: &Value) {
        let call = id.to_string();
        let mut memory = self.memory();
        memory.cancels.push(id.clone());
        memory.in_flight.remove(&call);
        memory.waiting.retain(|_, (behind, _)| behind.as_ref() != Some(&call));
    }

    fn write(&self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        if written.is_err() && !self.options.ignore_eof {
            process::exit(0);
        }
    }
}

/// A `tools/call` not yet answered.
pub struct Call {
    pub server: Arc<Server>,
    pub id: Value,
    pub arguments: Value,
    /// `_meta.progressToken`, null when none was given.
    pub token: Value,
    cancelled: Receiver<()>,
}

impl Call {
    pub fn new(server: &Arc<Server>, id: &Value, params: &Value) -> Self {
        let (canceller, cancelled) = mpsc::channel();
        server.memory().in_flight.insert(id.to_string(), canceller);
        Self {
            server: Arc::clone(server),
            id: id.clone(),
            arguments: params["arguments"].clone(),
            token: params["_meta"]["progressToken"].clone(),
            cancelled,
        }
    }

    /// A number among the arguments, 0 when it is missing.
    pub fn number(&self, name: &str) -> u64 {
        self.arguments[name].as_u64().unwrap_or(0)
    }

    pub fn text(&self, name: &str) -> &str {
        self.arguments[name].as_str().unwrap_or_default()
    }

    pub fn flag(&self, name: &str) -> bool {
        self.arguments[name].as_bool().unwrap_or(false)
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

    /// Waits for the cancellation that may never come.
    pub fn wait_for_cancel(&self) {
        let _ = self.cancelled.recv();
    }

    pub fn answer(&self, text: impl ToString) {
        let content = json!([{"type": "text", "text": text.to_string()}]);
        self.answer_with(&self.id, json!({ "content": content }));
    }

    /// Answers in the name of any id.
    pub fn answer_with(&self, id: &Value, result: Value) {
        self.end();
        self.server.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    /// Answers with a line put together by hand.
    pub fn answer_line(&self, line: &str) {
        self.end();
        self.server.line(line.as_bytes());
    }

    pub fn fail(&self, code: i32, text: &str) {
        self.end();
        let error = json!({"code": code, "message": text});
        self.server.send(&json!({"jsonrpc": "2.0", "id": self.id, "error": error}));
    }

    fn end(&self) {
        self.server.memory().in_flight.remove(&self.id.to_string());
    }
}

pub fn sleep_forever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
