//! Load driver for MCP servers behind HTTP, and for stdio servers directly.
//!
//!   mcpload MODE [--url U] [options] [-- command]
//!
//! Each run prints one line of JSON. Modes:
//!   call       tools/call echo in open sessions
//!   stateless  the same without sessions, as revision 2026-07-28 has it
//!   sse        the same over the legacy HTTP+SSE transport (--url of /sse)
//!   payload    tools/call payload: large results
//!   progress   tools/call progress: notifications before each result
//!   churn      open a session, call once, close it, over and over
//!   sessions   open many sessions, each with its GET stream, and hold them
//!   shakes     handshakes of TLS and nothing after, --count of them a second
//!   ready      wait until initialize is answered
//!   stdio      tools/call echo on a command's stdin and stdout
//!
//! Options: --concurrency C, --sessions S, --seconds T, --requests N,
//! --warmup T, --size BYTES, --pid P, --protocol V, --header 'K: V',
//! --label L, --timeout T (for ready, and to hold sessions), --count N
//! (progress), --tool NAME, --leave 1 (churn: sessions are not deleted),
//! --hold 1 (sessions: prints "held" and holds them until stdin ends).

mod client;
mod http;
mod tls;
mod tree;

use client::{
    check, head, initialize, open_session, Client, Expect, Session, Verdict, INITIALIZED,
};
use http::Target;
use serde_json::{json, Map, Value};
use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{spawn_local, LocalSet};
use tokio::time::{sleep, timeout};

struct Options {
    mode: String,
    url: Option<String>,
    concurrency: usize,
    sessions: usize,
    seconds: f64,
    requests: Option<u64>,
    warmup: f64,
    size: usize,
    pid: Option<i32>,
    protocol: String,
    headers: Vec<(String, String)>,
    label: Option<String>,
    timeout: f64,
    count: u64,
    tool: Option<String>,
    leave: bool,
    hold: bool,
    command: Vec<String>,
}

fn parse_options() -> Options {
    let mut args = std::env::args().skip(1);
    let mut o = Options {
        mode: args
            .next()
            .unwrap_or_else(|| die("a mode is needed; see the head of main.rs")),
        url: None,
        concurrency: 1,
        sessions: 1,
        seconds: 3.0,
        requests: None,
        warmup: 0.3,
        size: 32,
        pid: None,
        protocol: "2025-06-18".into(),
        headers: Vec::new(),
        label: None,
        timeout: 60.0,
        count: 10,
        tool: None,
        leave: false,
        hold: false,
        command: Vec::new(),
    };
    while let Some(arg) = args.next() {
        if arg == "--" {
            o.command = args.collect();
            break;
        }
        let value = args
            .next()
            .unwrap_or_else(|| die(&format!("{arg} needs a value")));
        fn num<T: std::str::FromStr>(arg: &str, v: &str) -> T {
            v.parse()
                .unwrap_or_else(|_| die(&format!("{arg} {v}: not a number")))
        }
        match arg.as_str() {
            "--url" => o.url = Some(value),
            "--concurrency" => o.concurrency = num(&arg, &value),
            "--sessions" => o.sessions = num(&arg, &value),
            "--seconds" => o.seconds = num(&arg, &value),
            "--requests" => o.requests = Some(num(&arg, &value)),
            "--warmup" => o.warmup = num(&arg, &value),
            "--size" => o.size = num(&arg, &value),
            "--pid" => o.pid = Some(num(&arg, &value)),
            "--protocol" => o.protocol = value,
            "--header" => match value.split_once(':') {
                Some((k, v)) => o.headers.push((k.trim().into(), v.trim().into())),
                None => die("--header 'Name: value'"),
            },
            "--label" => o.label = Some(value),
            "--timeout" => o.timeout = num(&arg, &value),
            "--count" => o.count = num(&arg, &value),
            "--tool" => o.tool = Some(value),
            "--hold" => o.hold = value != "0",
            "--leave" => o.leave = value != "0",
            _ => die(&format!("unknown option {arg}")),
        }
    }
    o
}

fn die(what: &str) -> ! {
    eprintln!("mcpload: {what}");
    std::process::exit(2);
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Warm,
    Measure,
    Stop,
}

/// What the workers of a run share; everything runs on one thread.
struct Run {
    options: Options,
    phase: Cell<Phase>,
    next_id: Cell<u64>,
    /// Latencies of the measured calls, in units of 100 ns.
    latencies: RefCell<Vec<u32>>,
    bytes: Cell<u64>,
    sse_answers: Cell<u64>,
    notes: Cell<u64>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
    connections: Cell<u64>,
    unended: Cell<u64>,
}

impl Run {
    fn id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    fn going(&self) -> bool {
        let enough = |n| self.latencies.borrow().len() as u64 + self.errors.get() >= n;
        if self.phase.get() == Phase::Measure && self.options.requests.is_some_and(enough) {
            self.phase.set(Phase::Stop);
        }
        self.phase.get() != Phase::Stop
    }

    fn right(&self, took: Duration, bytes: usize, sse: bool) {
        if self.phase.get() == Phase::Measure {
            self.latencies
                .borrow_mut()
                .push((took.as_nanos() / 100).min(u32::MAX as u128) as u32);
            self.bytes.set(self.bytes.get() + bytes as u64);
            self.sse_answers.set(self.sse_answers.get() + sse as u64);
        }
    }

    /// Notes an error; the worker rests a little, lest errors spin.
    async fn wrong(&self, what: String) {
        self.errors.set(self.errors.get() + 1);
        self.first_error.borrow_mut().get_or_insert(what);
        sleep(Duration::from_millis(5)).await;
    }

    fn done_with(&self, client: &Client) {
        self.connections.set(self.connections.get() + client.opened);
        self.unended.set(self.unended.get() + client.unended);
    }
}

fn target(o: &Options) -> Target {
    Target::parse(o.url.as_deref().unwrap_or_else(|| die("--url is needed")))
}

const MODERN: &str = "2026-07-28";

fn tool(o: &Options) -> &str {
    o.tool.as_deref().unwrap_or(match o.mode.as_str() {
        "payload" => "payload",
        "progress" => "progress",
        _ => "echo",
    })
}

/// Writes a tool call, and what its answer must say.
struct Caller<'a> {
    o: &'a Options,
    body: Vec<u8>,
    text: String,
    pad: String,
}

impl<'a> Caller<'a> {
    fn new(o: &'a Options) -> Self {
        Caller {
            o,
            body: Vec::new(),
            text: String::new(),
            pad: "abcdefghij".repeat(o.size / 10 + 1)[..o.size].to_owned(),
        }
    }

    fn expect(&self) -> Expect<'_> {
        match self.o.mode.as_str() {
            "payload" => Expect::Length(self.o.size),
            "progress" => Expect::Anything,
            _ => Expect::Text(&self.text),
        }
    }

    fn write(&mut self, id: u64) {
        self.body.clear();
        self.text.clear();
        let tool = tool(self.o);
        let body = &mut self.body;
        let _ = write!(
            body,
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"#
        );
        let mut meta = String::new();
        match self.o.mode.as_str() {
            "payload" => {
                let _ = write!(body, r#""bytes":{}"#, self.o.size);
            }
            "progress" => {
                let _ = write!(body, r#""n":{}"#, self.o.count);
                meta = format!(r#""progressToken":{id}"#);
            }
            _ => {
                use std::fmt::Write as _;
                let _ = write!(self.text, "{id}:{}", self.pad);
                let _ = write!(body, r#""text":"{}""#, self.text);
            }
        }
        body.push(b'}');
        if self.o.mode == "stateless" || self.o.protocol == MODERN {
            if !meta.is_empty() {
                meta.push(',');
            }
            meta.push_str(r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcpload","version":"0.1.0"},"io.modelcontextprotocol/clientCapabilities":{}"#);
        }
        if !meta.is_empty() {
            let _ = write!(body, r#","_meta":{{{meta}}}"#);
        }
        body.extend_from_slice(b"}}");
    }
}

/// Calls in a closed loop on one connection, going through its sessions' heads.
async fn call_worker(run: Rc<Run>, heads: Vec<Vec<u8>>) {
    let mut client = Client::new(&target(&run.options));
    let mut caller = Caller::new(&run.options);
    let mut turn = 0;
    while run.going() {
        let id = run.id();
        caller.write(id);
        let head = &heads[turn % heads.len()];
        turn += 1;
        let start = Instant::now();
        match client.call(head, &caller.body, id, &caller.expect()).await {
            Ok((a, _)) => {
                run.right(a.at - start, a.bytes, a.sse);
                if run.phase.get() == Phase::Measure {
                    run.notes.set(run.notes.get() + a.notes);
                }
            }
            Err(what) => run.wrong(what).await,
        }
    }
    run.done_with(&client);
}

async fn churn_worker(run: Rc<Run>) {
    let o = &run.options;
    let mut client = Client::new(&target(o));
    let mut caller = Caller::new(o);
    while run.going() {
        let start = Instant::now();
        let done = async {
            let session = open_session(&mut client, &o.headers, &o.protocol, run.id()).await?;
            let id = run.id();
            caller.write(id);
            let (a, _) = client
                .call(&session.post, &caller.body, id, &caller.expect())
                .await?;
            if session.id.is_some() && !o.leave {
                let head = client
                    .plain(&session.delete, b"")
                    .await
                    .map_err(|e| format!("delete: {e}"))?;
                if head.status / 100 != 2 {
                    return Err(format!("delete: status {}", head.status));
                }
            }
            Ok::<_, String>(a)
        };
        match done.await {
            Ok(a) => run.right(start.elapsed(), a.bytes, a.sse),
            Err(what) => run.wrong(what).await,
        }
    }
    run.done_with(&client);
}

/// One legacy session: a stream, and the connection its messages go out on.
struct Legacy {
    stream: Client,
    head: http::Head,
    post: Client,
    post_head: Vec<u8>,
}

impl Legacy {
    async fn open(run: &Run) -> Result<Self, String> {
        let o = &run.options;
        let at = target(o);
        let mut stream = Client::new(&at);
        let get = head("GET", &at, &o.headers, &[]);
        let mut answer = stream
            .open_stream(&get)
            .await
            .map_err(|e| format!("GET: {e}"))?;
        if answer.status != 200 {
            return Err(format!("GET: status {}", answer.status));
        }
        let endpoint = stream
            .next_event(&mut answer, |name, data| {
                (name == b"endpoint").then(|| String::from_utf8_lossy(data).trim().to_owned())
            })
            .await
            .map_err(|e| format!("endpoint: {e}"))?;
        let to = if endpoint.starts_with("http://") {
            Target::parse(&endpoint)
        } else if endpoint.starts_with('/') {
            Target {
                scheme: at.scheme,
                address: at.address.clone(),
                path: endpoint,
            }
        } else {
            let base = at.path.rfind('/').map_or("/", |i| &at.path[..=i]);
            Target {
                scheme: at.scheme,
                address: at.address.clone(),
                path: format!("{base}{endpoint}"),
            }
        };
        let post_head = head("POST", &to, &o.headers, &[]);
        let mut legacy = Legacy {
            stream,
            head: answer,
            post: Client::new(&to),
            post_head,
        };
        let id = run.id();
        legacy
            .call(&initialize(id, "2024-11-05"), id, &Expect::Anything)
            .await?;
        legacy.post(INITIALIZED).await?;
        Ok(legacy)
    }

    async fn post(&mut self, body: &[u8]) -> Result<(), String> {
        let head = self
            .post
            .plain(&self.post_head, body)
            .await
            .map_err(|e| format!("POST: {e}"))?;
        if head.status / 100 == 2 {
            Ok(())
        } else {
            Err(format!("POST: status {}", head.status))
        }
    }

    async fn call(&mut self, body: &[u8], id: u64, expect: &Expect<'_>) -> Result<usize, String> {
        self.post(body).await?;
        self.stream
            .next_event(&mut self.head, |_, data| {
                if data.iter().all(u8::is_ascii_whitespace) {
                    return None;
                }
                match check(data, id, expect) {
                    Verdict::Right => Some(Ok(data.len())),
                    Verdict::Other => None,
                    Verdict::Wrong(what) => Some(Err(what)),
                }
            })
            .await
            .map_err(|e| format!("stream: {e}"))?
    }
}

async fn sse_worker(run: Rc<Run>, mut sessions: Vec<Legacy>) {
    let mut caller = Caller::new(&run.options);
    let mut turn = 0;
    while run.going() {
        let id = run.id();
        caller.write(id);
        let n = sessions.len();
        let session = &mut sessions[turn % n];
        turn += 1;
        let start = Instant::now();
        match session.call(&caller.body, id, &caller.expect()).await {
            Ok(bytes) => run.right(start.elapsed(), bytes, true),
            Err(what) => run.wrong(what).await,
        }
    }
}

/// Opens `n` sessions, a few at a time, and keeps those that opened.
async fn open_sessions(run: &Rc<Run>, n: usize, at_once: usize) -> Vec<Session> {
    let left = Rc::new(Cell::new(n));
    let tasks: Vec<_> = (0..at_once.min(n))
        .map(|_| {
            let (run, left) = (run.clone(), left.clone());
            spawn_local(async move {
                let mut client = Client::new(&target(&run.options));
                let mut opened = Vec::new();
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let o = &run.options;
                    match timeout(
                        Duration::from_secs(20),
                        open_session(&mut client, &o.headers, &o.protocol, run.id()),
                    )
                    .await
                    {
                        Ok(Ok(s)) => opened.push(s),
                        Ok(Err(what)) => run.wrong(what).await,
                        Err(_) => {
                            client.conn = None;
                            run.wrong("initialize: no answer in 20 s".into()).await
                        }
                    }
                }
                opened
            })
        })
        .collect();
    let mut all = Vec::new();
    for t in tasks {
        all.extend(t.await.unwrap());
    }
    all
}

fn round(v: f64) -> Value {
    json!((v * 1000.0).round() / 1000.0)
}

fn report(run: &Run, more: Map<String, Value>) {
    let mut line = Map::new();
    line.insert("mode".into(), json!(run.options.mode));
    if let Some(l) = &run.options.label {
        line.insert("label".into(), json!(l));
    }
    line.extend(more);
    line.insert("errors".into(), json!(run.errors.get()));
    if let Some(e) = run.first_error.borrow().as_ref() {
        line.insert("first_error".into(), json!(e));
    }
    println!("{}", Value::Object(line));
}

/// Lets the workers run through warm-up and measurement, and reports.
async fn measure(
    run: Rc<Run>,
    workers: Vec<tokio::task::JoinHandle<()>>,
    extra: Map<String, Value>,
) {
    let o = &run.options;
    sleep(Duration::from_secs_f64(o.warmup)).await;
    let server0 = o.pid.map(tree::cpu);
    let (self0, start) = (tree::self_cpu(), Instant::now());
    run.errors.set(0);
    run.phase.set(Phase::Measure);
    let until = start + Duration::from_secs_f64(o.seconds);
    while run.phase.get() == Phase::Measure && Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        sleep(if o.requests.is_some() {
            left.min(Duration::from_millis(2))
        } else {
            left
        })
        .await;
    }
    let took = start.elapsed().as_secs_f64();
    let self1 = tree::self_cpu();
    let server1 = o.pid.map(tree::cpu);
    run.phase.set(Phase::Stop);
    let mut stuck = 0;
    let grace = Instant::now() + Duration::from_secs(2);
    for w in workers {
        let left = grace
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        stuck += timeout(left, w).await.is_err() as u64;
    }

    let mut latencies = run.latencies.take();
    latencies.sort_unstable();
    let n = latencies.len();
    let at = |q: f64| match n {
        0 => Value::Null,
        _ => round(latencies[((n as f64 * q) as usize).min(n - 1)] as f64 / 1e4),
    };
    let mut m = Map::new();
    m.insert("concurrency".into(), json!(o.concurrency));
    m.insert("sessions".into(), json!(o.sessions));
    m.extend(extra);
    m.insert("seconds".into(), round(took));
    m.insert("requests".into(), json!(n));
    m.insert("rps".into(), round(n as f64 / took));
    m.insert(
        "mb_per_s".into(),
        round(run.bytes.get() as f64 / took / 1e6),
    );
    for (name, q) in [
        ("p50_ms", 0.5),
        ("p90_ms", 0.9),
        ("p99_ms", 0.99),
        ("max_ms", 1.0),
    ] {
        m.insert(name.into(), at(q));
    }
    if o.mode == "progress" {
        m.insert(
            "notes_per_call".into(),
            round(run.notes.get() as f64 / n.max(1) as f64),
        );
    }
    m.insert(
        "sse_share".into(),
        round(run.sse_answers.get() as f64 / n.max(1) as f64),
    );
    m.insert("connections".into(), json!(run.connections.get()));
    m.insert("unended".into(), json!(run.unended.get()));
    m.insert("stuck".into(), json!(stuck));
    m.insert(
        "client_us_per_req".into(),
        round((self1 - self0) / n.max(1) as f64),
    );
    if let (Some(a), Some(b)) = (server0, server1) {
        let (own, rest) = tree::spent(a, b);
        m.insert("server_us_per_req".into(), round(own / n.max(1) as f64));
        m.insert("children_us_per_req".into(), round(rest / n.max(1) as f64));
        m.insert("server_cores".into(), round((own + rest) / took / 1e6));
    }
    report(&run, m);
}

/// Deals `heads` out to the workers; with fewer heads than workers they share.
fn deal<T: Clone>(heads: &[T], workers: usize) -> Vec<Vec<T>> {
    let mut hands = vec![Vec::new(); workers];
    for i in 0..heads.len().max(workers) {
        hands[i % workers].push(heads[i % heads.len()].clone());
    }
    hands
}

async fn load(run: Rc<Run>) {
    let o = &run.options;
    let mut extra = Map::new();
    let mut workers = Vec::new();
    match o.mode.as_str() {
        "churn" => {
            for _ in 0..o.concurrency {
                workers.push(spawn_local(churn_worker(run.clone())));
            }
        }
        "sse" => {
            let start = Instant::now();
            let mut hands: Vec<Vec<Legacy>> = (0..o.concurrency).map(|_| Vec::new()).collect();
            // A stream belongs to one worker, so no worker goes without.
            for i in 0..o.sessions.max(o.concurrency) {
                match timeout(Duration::from_secs(10), Legacy::open(&run)).await {
                    Ok(Ok(s)) => hands[i % o.concurrency].push(s),
                    Ok(Err(what)) => run.wrong(what).await,
                    Err(_) => run.wrong("no legacy session in 10 s".into()).await,
                }
            }
            extra.insert("open_s".into(), round(start.elapsed().as_secs_f64()));
            for hand in hands {
                if !hand.is_empty() {
                    workers.push(spawn_local(sse_worker(run.clone(), hand)));
                }
            }
        }
        mode => {
            let heads: Vec<Vec<u8>> = if mode == "stateless" || o.protocol == MODERN {
                let more = [
                    ("MCP-Protocol-Version", MODERN),
                    ("Mcp-Method", "tools/call"),
                    ("Mcp-Name", tool(o)),
                ];
                vec![head("POST", &target(o), &o.headers, &more)]
            } else {
                let start = Instant::now();
                let sessions = open_sessions(&run, o.sessions, 8).await;
                let took = start.elapsed().as_secs_f64();
                extra.insert("opened".into(), json!(sessions.len()));
                extra.insert("open_s".into(), round(took));
                sessions.into_iter().map(|s| s.post).collect()
            };
            if heads.is_empty() {
                return report(&run, extra);
            }
            for hand in deal(&heads, o.concurrency) {
                workers.push(spawn_local(call_worker(run.clone(), hand)));
            }
        }
    }
    if workers.is_empty() {
        return report(&run, extra);
    }
    measure(run.clone(), workers, extra).await;
}

/// Opens sessions with their streams, and tells what holding them costs.
async fn hold(run: Rc<Run>) {
    let o = &run.options;
    let pid = o.pid;
    // What the start took may be given back; and what the first session costs is not counted.
    sleep(Duration::from_secs(1)).await;
    let first = open_sessions(&run, 1, 1).await;
    let mut warm = Client::new(&target(o));
    for s in &first {
        let _ = timeout(Duration::from_secs(1), warm.open_stream(&s.get)).await;
    }
    let memory0 = pid.map(tree::memory);
    let cpu0 = pid.map(tree::cpu);
    let start = Instant::now();
    let sessions = open_sessions(&run, o.sessions, o.concurrency.max(1)).await;
    let opened_in = start.elapsed().as_secs_f64();
    let cpu1 = pid.map(tree::cpu);
    let mut held = Vec::new();
    let (mut refused, mut silent) = (0, 0);
    for s in &sessions {
        let mut client = Client::new(&target(o));
        match timeout(Duration::from_secs(1), client.open_stream(&s.get)).await {
            Ok(Ok(head)) if head.status == 200 => held.push(client),
            Ok(Ok(_)) => refused += 1,
            Ok(Err(e)) => run.wrong(format!("GET: {e}")).await,
            // Open, but the server keeps the head back until the first event.
            Err(_) => {
                silent += 1;
                held.push(client);
            }
        }
        if start.elapsed() > Duration::from_secs_f64(o.timeout) {
            break;
        }
    }
    let streams_in = start.elapsed().as_secs_f64() - opened_in;
    sleep(Duration::from_secs_f64(o.seconds.min(1.5))).await;
    let memory1 = pid.map(tree::memory);
    let mut m = Map::new();
    let n = sessions.len();
    m.insert("sessions".into(), json!(n));
    m.insert("streams".into(), json!(held.len()));
    m.insert("streams_refused".into(), json!(refused));
    m.insert("streams_silent".into(), json!(silent));
    m.insert("open_s".into(), round(opened_in));
    m.insert("streams_s".into(), round(streams_in));
    m.insert("opens_per_s".into(), round(n as f64 / opened_in));
    if let (Some(a), Some(b)) = (memory0, memory1) {
        let per = |x: u64, y: u64| round((y as f64 - x as f64) / n.max(1) as f64);
        m.insert("own_kb_per_session".into(), per(a.own_rss_kb, b.own_rss_kb));
        m.insert(
            "tree_rss_kb_per_session".into(),
            per(a.tree_rss_kb, b.tree_rss_kb),
        );
        m.insert(
            "tree_pss_kb_per_session".into(),
            per(a.tree_pss_kb, b.tree_pss_kb),
        );
        m.insert("processes_before".into(), json!(a.processes));
        m.insert("processes_after".into(), json!(b.processes));
        m.insert("before".into(), json!(a));
        m.insert("after".into(), json!(b));
    }
    if let (Some(a), Some(b)) = (cpu0, cpu1) {
        let (own, rest) = tree::spent(a, b);
        m.insert("server_us_per_open".into(), round(own / n.max(1) as f64));
        m.insert("children_us_per_open".into(), round(rest / n.max(1) as f64));
    }
    if o.hold {
        // Others are measured meanwhile, until our stdin ends.
        println!("held");
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
    }
    report(&run, m);
    drop(held);
    let mut client = Client::new(&target(o));
    for s in sessions.iter().chain(&first) {
        if s.id.is_some() {
            let _ = timeout(Duration::from_secs(1), client.plain(&s.delete, b"")).await;
        }
    }
}

/// Connects, shakes hands, leaves: so many times a second, with as many under way as may be at once.
async fn shakes(run: Rc<Run>) {
    let o = &run.options;
    let done = Rc::new(Cell::new(0u64));
    let under_way = Rc::new(Cell::new(0usize));
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / o.count.max(1) as f64));
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < o.seconds {
        tick.tick().await;
        if under_way.get() >= o.concurrency {
            continue;
        }
        under_way.set(under_way.get() + 1);
        let (run, done, under_way) = (run.clone(), done.clone(), under_way.clone());
        spawn_local(async move {
            match timeout(Duration::from_secs(5), http::Conn::open(&target(&run.options))).await {
                Ok(Ok(_)) => done.set(done.get() + 1),
                Ok(Err(e)) => run.wrong(e.to_string()).await,
                Err(_) => run.wrong("no handshake in 5 s".into()).await,
            }
            under_way.set(under_way.get() - 1);
        });
    }
    let mut m = Map::new();
    m.insert("handshakes".into(), json!(done.get()));
    m.insert("per_s".into(), round(done.get() as f64 / start.elapsed().as_secs_f64()));
    report(&run, m);
}

fn monotonic() -> u64 {
    let mut t: libc::timespec = unsafe { std::mem::zeroed() };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

async fn ready(run: Rc<Run>) {
    let o = &run.options;
    let until = Instant::now() + Duration::from_secs_f64(o.timeout);
    let mut tries = 0u64;
    let mut m = Map::new();
    loop {
        tries += 1;
        let mut client = Client::new(&target(o));
        let opened = timeout(
            Duration::from_secs(5),
            open_session(&mut client, &o.headers, &o.protocol, run.id()),
        )
        .await;
        let what = match opened {
            Ok(Ok(session)) => {
                m.insert("ready_ns".into(), json!(monotonic()));
                if session.id.is_some() {
                    let _ =
                        timeout(Duration::from_secs(1), client.plain(&session.delete, b"")).await;
                }
                break;
            }
            Ok(Err(what)) => what,
            Err(_) => "initialize: no answer in 5 s".into(),
        };
        if Instant::now() > until {
            run.wrong(what).await;
            break;
        }
        sleep(Duration::from_millis(2)).await;
    }
    m.insert("tries".into(), json!(tries));
    report(&run, m);
}

/// The fixture by itself: as many calls under way as asked, over one pipe.
async fn stdio(run: Rc<Run>) {
    let o = &run.options;
    let Some((program, args)) = o.command.split_first() else {
        die("stdio needs -- command")
    };
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| die(&format!("{program}: {e}")));
    let pid = child.id().unwrap() as i32;
    let mut to = child.stdin.take().unwrap();
    let mut from = child.stdout.take().unwrap();
    let mut caller = Caller::new(o);
    let mut out = initialize(0, &o.protocol);
    out.push(b'\n');
    out.extend_from_slice(INITIALIZED);
    out.push(b'\n');
    to.write_all(&out).await.unwrap();
    let mut buf = Vec::with_capacity(64 * 1024);
    while !buf.contains(&b'\n') {
        from.read_buf(&mut buf).await.unwrap();
    }
    buf.clear();
    out.clear();
    let mut texts: std::collections::HashMap<u64, (String, Instant)> = Default::default();
    let mut send =
        |out: &mut Vec<u8>, texts: &mut std::collections::HashMap<u64, (String, Instant)>| {
            let id = run.id();
            caller.write(id);
            out.extend_from_slice(&caller.body);
            out.push(b'\n');
            texts.insert(id, (caller.text.clone(), Instant::now()));
        };
    for _ in 0..o.concurrency {
        send(&mut out, &mut texts);
    }
    to.write_all(&out).await.unwrap();
    let (self0, cpu0, start) = (tree::self_cpu(), tree::cpu(pid), Instant::now());
    run.phase.set(Phase::Measure);
    while start.elapsed().as_secs_f64() < o.seconds {
        if from.read_buf(&mut buf).await.unwrap() == 0 {
            die("the command ended");
        }
        out.clear();
        let mut at = 0;
        while let Some(i) = memchr::memchr(b'\n', &buf[at..]) {
            let line = &buf[at..at + i];
            at += i + 1;
            #[derive(serde::Deserialize)]
            struct Id {
                id: Option<u64>,
            }
            let Some(id) = serde_json::from_slice::<Id>(line).ok().and_then(|l| l.id) else {
                continue;
            };
            let Some((text, sent)) = texts.remove(&id) else {
                die("an answer to nothing")
            };
            match check(line, id, &Expect::Text(&text)) {
                Verdict::Right => run.right(sent.elapsed(), line.len(), false),
                other => run.wrong(format!("{other:?}")).await,
            }
            send(&mut out, &mut texts);
        }
        buf.drain(..at);
        to.write_all(&out).await.unwrap();
    }
    let took = start.elapsed().as_secs_f64();
    let (own, rest) = tree::spent(cpu0, tree::cpu(pid));
    let client = tree::self_cpu() - self0;
    let mut latencies = run.latencies.take();
    latencies.sort_unstable();
    let n = latencies.len().max(1);
    let at = |q: f64| round(latencies[((n as f64 * q) as usize).min(n - 1)] as f64 / 1e4);
    let mut m = Map::new();
    m.insert("concurrency".into(), json!(o.concurrency));
    m.insert("requests".into(), json!(latencies.len()));
    m.insert("rps".into(), round(n as f64 / took));
    m.insert(
        "mb_per_s".into(),
        round(run.bytes.get() as f64 / took / 1e6),
    );
    m.insert("p50_ms".into(), at(0.5));
    m.insert("p90_ms".into(), at(0.9));
    m.insert("p99_ms".into(), at(0.99));
    m.insert("max_ms".into(), at(1.0));
    m.insert("client_us_per_req".into(), round(client / n as f64));
    m.insert("server_us_per_req".into(), round(own / n as f64));
    m.insert("children_us_per_req".into(), round(rest / n as f64));
    report(&run, m);
    drop(to);
    let _ = timeout(Duration::from_secs(1), child.wait()).await;
}

fn main() {
    let options = parse_options();
    // Half a thousand streams and their like need more than the usual limit.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max.min(65536);
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    let run = Rc::new(Run {
        options,
        phase: Cell::new(Phase::Warm),
        next_id: Cell::new(1),
        latencies: RefCell::new(Vec::with_capacity(1 << 20)),
        bytes: Cell::new(0),
        sse_answers: Cell::new(0),
        notes: Cell::new(0),
        errors: Cell::new(0),
        first_error: RefCell::new(None),
        connections: Cell::new(0),
        unended: Cell::new(0),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        match run.options.mode.as_str() {
            "call" | "stateless" | "sse" | "payload" | "progress" | "churn" => {
                load(run.clone()).await
            }
            "sessions" => hold(run.clone()).await,
            "ready" => ready(run.clone()).await,
            "shakes" => shakes(run.clone()).await,
            "stdio" => stdio(run.clone()).await,
            other => die(&format!("unknown mode {other}")),
        }
    });
    // Nothing is left to wait for; stuck workers would hold the runtime.
    std::process::exit(0);
}
