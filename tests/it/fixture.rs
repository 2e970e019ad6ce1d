//! The language of the tests: a hub, a client, and states to wait for. No sleeps.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_json::{Value, json};

/// Longest wait for any state.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub use super::demo::example;

/// A hub of the built binary, with a hub.toml of its own. Killed when dropped; its children must follow.
pub struct Hub {
    pub folder: tempfile::TempDir,
    pub base: String,
    pub urls: Vec<String>,
    process: Child,
    log: Arc<Mutex<String>>,
}

/// It is not asked what it speaks: tests that count processes and messages want no more of either.
const OLDER: &str = "era = 'legacy'\n";

/// The table of an upstream that runs `examples/rogue` with these flags; more keys follow.
pub fn rogue(name: &str, flags: &[&str], keys: &str) -> String {
    upstream(name, "rogue", flags, &format!("{OLDER}{keys}"))
}

pub fn echo(name: &str, keys: &str) -> String {
    upstream(name, "echo", &[], &format!("{OLDER}{keys}"))
}

/// The table of an upstream that runs `examples/modern` with these flags; more keys follow.
pub fn modern(name: &str, flags: &[&str], keys: &str) -> String {
    upstream(name, "modern", flags, keys)
}

fn upstream(name: &str, program: &str, flags: &[&str], keys: &str) -> String {
    let program = example(program);
    format!("[upstreams.{name}]\ncommand = {:?}\nargs = {flags:?}\n{keys}\n", program.display().to_string())
}

/// The built binary with these arguments.
pub fn hubward(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubward"));
    command.args(args).env_remove("HUBWARD_CONFIG").env_remove("HUBWARD_LOG");
    command
}

impl Hub {
    /// Starts `hubward serve` on a free port. `toml` may have a `[hub]` table, but no `bind`.
    pub fn start(toml: &str) -> Hub {
        Hub::start_in(tempfile::tempdir().unwrap(), toml)
    }

    pub fn start_in(folder: tempfile::TempDir, toml: &str) -> Hub {
        let path = folder.path().join("hub.toml");
        std::fs::write(&path, toml).unwrap();
        let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "--log-level", "debug", "-c"]);
        command.arg(path);
        Hub::run(folder, command)
    }

    /// Starts any command that prints the URLs of a hub. hub.toml is expected in the folder.
    pub fn run(folder: tempfile::TempDir, mut command: Command) -> Hub {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its admin socket and its state go with the folder.
        for (name, place) in
            [("XDG_RUNTIME_DIR", folder.path().to_owned()), ("XDG_STATE_HOME", folder.path().join("state"))]
        {
            if command.get_envs().all(|(set, _)| set != name) {
                command.env(name, place);
            }
        }
        command.env_remove("STATE_DIRECTORY");
        let mut process = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, kept) = (process.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        // The URLs are printed once it listens, in one go: with the first line the others are here too.
        let (mut stdout, mut first) = (BufReader::new(process.stdout.take().unwrap()), String::new());
        if stdout.read_line(&mut first).unwrap() == 0 {
            panic!("the hub did not start: {}", log.lock().unwrap());
        }
        let authority = first.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let base = format!("http://{authority}");
        let rest = String::from_utf8_lossy(stdout.buffer());
        let urls = first.lines().chain(rest.lines()).map(str::to_owned).collect();
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Hub { folder, base, urls, process, log }
    }

    /// A row of `/proc/PID/status` in KiB, such as `VmRSS`.
    pub fn kib(&self, row: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("hub.toml")
    }

    /// Writes hub.toml as editors do: aside, and renamed over.
    pub fn edit(&self, toml: &str) {
        let aside = self.folder.path().join("hub.toml.new");
        std::fs::write(&aside, toml).unwrap();
        std::fs::rename(aside, self.path()).unwrap();
    }

    /// A command for this hub, as its user gives it.
    pub fn command(&self, args: &[&str]) -> std::process::Output {
        let mut command = hubward(args);
        command.arg("-c").arg(self.path()).env("XDG_RUNTIME_DIR", self.folder.path());
        command.output().unwrap()
    }

    /// The same while the test goes on.
    pub async fn commanded(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = hubward(args);
        command.arg("-c").arg(self.path()).env("XDG_RUNTIME_DIR", self.folder.path());
        told(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    }

    /// Its folder, for the next hub. This one is killed.
    pub fn leave(mut self) -> tempfile::TempDir {
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap().success());
    }

    /// Waits for the hub to end.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the hub does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub async fn status(&self) -> Value {
        http().get(self.url("/api/v1/status")).send().await.unwrap().json().await.unwrap()
    }

    /// The status of one upstream.
    pub async fn upstream(&self, name: &str) -> Value {
        let status = self.status().await;
        let all = status["upstreams"].as_array().unwrap();
        all.iter().find(|upstream| upstream["name"] == name).cloned().unwrap_or_default()
    }

    /// Waits until the status is as wished, and answers with it.
    pub async fn until(&self, what: &str, wished: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if wished(&status) {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{what} did not come about: {status:#}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until one upstream is as wished.
    pub async fn until_upstream(&self, name: &str, wished: impl Fn(&Value) -> bool) -> Value {
        let find = |status: &Value| {
            let all = status["upstreams"].as_array().unwrap();
            all.iter().find(|upstream| upstream["name"] == name).cloned().unwrap_or_default()
        };
        find(&self.until(name, |status| wished(&find(status))).await)
    }

    /// Waits until the log holds a text.
    pub async fn logged(&self, text: &str) {
        let began = Instant::now();
        while !self.log().contains(text) {
            assert!(began.elapsed() < PATIENCE, "{text:?} is not in the log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a generation.
    pub async fn generation(&self, number: u64) -> Value {
        self.until("generation", |status| status["reload"]["generation"] == number).await
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("---- log of the hub\n{}", self.log());
        }
    }
}

/// What a command said and how it ended: its exit code, stdout, stderr.
pub fn told(output: &std::process::Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A file's content once it holds what is wished.
pub async fn file_until(path: &Path, wished: impl Fn(&str) -> bool) -> String {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if wished(&text) {
            return text;
        }
        assert!(began.elapsed() < PATIENCE, "{} stays\n{text}", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until something is so.
pub async fn eventually(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Does a process run (and is no zombie)?
pub fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
}

pub fn http() -> reqwest::Client {
    // Reading the system's certificates takes longer than most tests.
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

/// An answer to a POST: one JSON document, or the events of a stream, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    /// The body, if it was not a stream.
    pub text: String,
    pub events: Vec<SseEvent>,
}

impl Answer {
    /// The body, or the messages of the stream in order.
    pub fn messages(&self) -> Vec<Value> {
        match self.is_stream() {
            true => self.events.iter().filter(|event| !event.data.is_empty()).map(SseEvent::json).collect(),
            false => vec![serde_json::from_str(&self.text).unwrap_or_default()],
        }
    }

    /// The last message: the response.
    pub fn last(&self) -> Value {
        self.messages().pop().unwrap_or_default()
    }

    pub fn is_stream(&self) -> bool {
        self.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// The text of a tool's result.
    pub fn tool_text(&self) -> String {
        let last = self.last();
        last["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {last}")).to_owned()
    }

    /// The code and the message of the error.
    pub fn error(&self) -> (i64, String) {
        let last = self.last();
        let code = last["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error in {last}: {self:?}"));
        (code, last["error"]["message"].as_str().unwrap_or_default().to_owned())
    }
}

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SseEvent {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: String,
    pub retry: Option<u64>,
}

impl SseEvent {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {:?}", self.data))
    }
}

/// An open event stream.
pub struct Stream {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    /// Comments seen so far.
    pub comments: usize,
    body: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: Vec<u8>,
}

impl Stream {
    pub fn of(response: reqwest::Response) -> Stream {
        let headers = headers(&response);
        let status = response.status().as_u16();
        Stream { status, headers, comments: 0, body: response.bytes_stream().boxed(), buffer: Vec::new() }
    }

    /// The next event that has a field; None at the end of the stream.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let (mut event, mut any) = (SseEvent::default(), false);
                for line in String::from_utf8(block).unwrap().lines().filter(|line| !line.is_empty()) {
                    let (name, value) = line.split_once(':').unwrap_or((line, ""));
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    any |= !name.is_empty();
                    match name {
                        "" => self.comments += 1,
                        "id" => event.id = Some(value.to_owned()),
                        "event" => event.event = Some(value.to_owned()),
                        "retry" => event.retry = value.parse().ok(),
                        "data" if event.data.is_empty() => event.data = value.to_owned(),
                        "data" => event.data = format!("{}\n{value}", event.data),
                        _ => panic!("unknown field {line:?}"),
                    }
                }
                if any {
                    return Some(event);
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("a silent stream");
            self.buffer.extend_from_slice(&chunk?.ok()?);
        }
    }

    /// The next message that is not empty.
    pub async fn message(&mut self) -> Option<Value> {
        loop {
            let event = self.next().await?;
            if !event.data.is_empty() {
                return Some(event.json());
            }
        }
    }

    /// All events up to the end.
    pub async fn rest(mut self) -> Vec<SseEvent> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

fn headers(response: &reqwest::Response) -> BTreeMap<String, String> {
    let pairs = response.headers().iter();
    pairs.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned())).collect()
}

/// A client of Streamable HTTP with a session.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub url: String,
    pub session: String,
    pub revision: String,
    /// The answer to `initialize`.
    pub greeting: Value,
    pub last_id: Arc<std::sync::atomic::AtomicI64>,
}

pub const LATEST: &str = "2025-11-25";

/// What `initialize` is asked with.
pub fn initialize(revision: &str, capabilities: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": revision, "capabilities": capabilities, "clientInfo": { "name": "test", "version": "1" } } })
}

impl Client {
    /// Opens a session at a path such as `/time/mcp`.
    pub async fn open(hub: &Hub, path: &str) -> Client {
        Client::open_as(hub, path, LATEST, json!({})).await
    }

    pub async fn open_as(hub: &Hub, path: &str, revision: &str, capabilities: Value) -> Client {
        let (http, url) = (http(), hub.url(path));
        let answer = post(&http, &url, &[], &initialize(revision, capabilities)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let session = answer.headers.get("mcp-session-id").expect("a session id").clone();
        let greeting = answer.last()["result"].clone();
        let revision = greeting["protocolVersion"].as_str().unwrap().to_owned();
        let client = Client { http, url, session, revision, greeting, last_id: Arc::default() };
        let ready = client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        assert_eq!((ready.status, ready.text.as_str()), (202, ""));
        client
    }

    /// The same session, taken elsewhere.
    pub fn at(&self, url: String) -> Client {
        Client { url, ..self.clone() }
    }

    fn headers(&self) -> [(&'static str, &str); 2] {
        [("mcp-session-id", &self.session), ("mcp-protocol-version", &self.revision)]
    }

    /// Posts a body and reads the answer to its end.
    pub async fn send(&self, body: &Value) -> Answer {
        post(&self.http, &self.url, &self.headers(), body).await
    }

    /// Posts a body; the answer has to be a stream, which the caller reads.
    pub async fn stream(&self, body: &Value) -> Stream {
        Stream::of(request(&self.http, &self.url, &self.headers(), body).send().await.unwrap())
    }

    pub fn next_id(&self) -> i64 {
        self.last_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }

    pub async fn request(&self, method: &str, params: Value) -> Answer {
        self.send(&json!({ "jsonrpc": "2.0", "id": self.next_id(), "method": method, "params": params })).await
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }

    /// Opens the GET stream, or resumes one.
    pub async fn get(&self, last_event_id: Option<&str>) -> Stream {
        let mut get = self.http.get(&self.url).header("accept", "text/event-stream");
        for (name, value) in self.headers() {
            get = get.header(name, value);
        }
        if let Some(id) = last_event_id {
            get = get.header("last-event-id", id);
        }
        Stream::of(get.send().await.unwrap())
    }

    pub async fn delete(&self) -> u16 {
        let mut delete = self.http.delete(&self.url);
        for (name, value) in self.headers() {
            delete = delete.header(name, value);
        }
        delete.send().await.unwrap().status().as_u16()
    }
}

pub fn request(http: &reqwest::Client, url: &str, headers: &[(&str, &str)], body: &Value) -> reqwest::RequestBuilder {
    let accept = "application/json, text/event-stream";
    let mut post = http.post(url).header("accept", accept).header("content-type", "application/json");
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    post.body(body.to_string())
}

/// Posts and reads the answer to its end.
pub async fn post(http: &reqwest::Client, url: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    answer(request(http, url, headers, body)).await
}

/// Sends any request and reads the answer to its end.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), headers(&response));
    let mut answer = Answer { status, headers, text: String::new(), events: Vec::new() };
    match answer.is_stream() {
        true => answer.events = Stream::of(response).rest().await,
        false => answer.text = response.text().await.unwrap(),
    }
    answer
}

/// A client of HTTP+SSE: the open stream and the URL for its POSTs.
pub struct SseClient {
    pub http: reqwest::Client,
    pub stream: Stream,
    pub endpoint: String,
}

impl SseClient {
    /// Opens the stream at a path such as `/time/sse`.
    pub async fn open(hub: &Hub, path: &str) -> SseClient {
        let http = http();
        let get = http.get(hub.url(path)).header("accept", "text/event-stream");
        let mut stream = Stream::of(get.send().await.unwrap());
        assert_eq!(stream.status, 200);
        let first = stream.next().await.unwrap();
        assert_eq!(first.event.as_deref(), Some("endpoint"));
        SseClient { endpoint: hub.url(&first.data), http, stream }
    }

    /// Posts a message; the answer comes on the stream.
    pub async fn send(&self, body: &Value) -> u16 {
        post(&self.http, &self.endpoint, &[], body).await.status
    }

    /// Opens a session and greets.
    pub async fn greeted(hub: &Hub, path: &str, capabilities: Value) -> SseClient {
        let mut client = SseClient::open(hub, path).await;
        assert_eq!(client.send(&initialize("2024-11-05", capabilities)).await, 202);
        assert!(client.stream.message().await.unwrap()["result"].is_object());
        assert_eq!(client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await, 202);
        client
    }
}
