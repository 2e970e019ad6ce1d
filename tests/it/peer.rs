//! A scripted peer: a server on a socket that keeps what it is asked and answers as a test wants it to.
//!
//! It has threads of its own, so that it goes on while a test waits for a process.

mod scripts;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

pub use self::scripts::{legacy, legacy_script, modern, newer, older};
use super::fixture::eventually;

static THREADS: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// GET, POST …
    pub verb: String,
    /// As on the request line: a proxy sees a whole URL.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
    /// How many requests like this one came before.
    pub before: usize,
    left: Arc<AtomicBool>,
}

impl Seen {
    /// The method of the message, or the verb where there is none.
    pub fn method(&self) -> &str {
        match (self.body["method"].as_str(), self.verb.as_str()) {
            (Some(method), _) => method,
            (None, "POST") if self.body["id"] != Value::Null => "an answer",
            (None, verb) => verb,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Did the caller leave before the answer was over?
    pub fn left(&self) -> bool {
        self.left.load(Ordering::SeqCst)
    }

    pub fn result(&self, result: Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.body["id"], "result": result })
    }

    pub fn text(&self, text: &str) -> Value {
        self.result(json!({ "content": [{ "type": "text", "text": text }], "resultType": "complete" }))
    }

    pub fn error(&self, code: i64, message: &str, data: Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": self.body["id"], "error": { "code": code, "message": message, "data": data } })
    }
}

/// What is sent, piece by piece.
#[derive(Clone)]
enum Piece {
    Bytes(Vec<u8>),
    /// A byte at a time, so far apart.
    Drip(Vec<u8>, Duration),
    /// Nothing, until the gate opens.
    Wait(Gate),
    /// What a test says, until it says no more.
    Told(Arc<tokio::sync::Mutex<mpsc::Receiver<String>>>),
    /// Nothing, until the caller leaves.
    Hold,
    /// The connection ends here, whatever was promised.
    Cut,
}

/// Opens once, for all.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn new() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// The mouth of an open stream.
pub struct Mouth(mpsc::Sender<String>);

impl Mouth {
    pub fn say(&self, message: &Value) {
        self.event(&format!("data: {message}\n\n"));
    }

    pub fn event(&self, text: &str) {
        let _ = self.0.try_send(text.to_owned());
    }
}

/// An answer to one request.
#[derive(Clone)]
pub struct Reply {
    head: Option<(u16, Vec<(String, String)>)>,
    pieces: Vec<Piece>,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { head: Some((status, Vec::new())), pieces: Vec::new() }
    }

    pub fn json(message: &Value) -> Reply {
        Reply::status(200).header("content-type", "application/json").bytes(message.to_string())
    }

    /// An event stream of these messages; more may follow.
    pub fn events(messages: &[Value]) -> Reply {
        let reply = Reply::status(200).header("content-type", "text/event-stream");
        messages.iter().fold(reply, |reply, message| reply.bytes(format!("event: message\ndata: {message}\n\n")))
    }

    /// An event stream with a mouth.
    pub fn told() -> (Reply, Mouth) {
        let (to, from) = mpsc::channel(64);
        (Reply::events(&[]).piece(Piece::Told(Arc::new(tokio::sync::Mutex::new(from)))), Mouth(to))
    }

    /// Not even a head.
    pub fn nothing() -> Reply {
        Reply { head: None, pieces: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Reply {
        if let Some((_, headers)) = &mut self.head {
            headers.retain(|(known, _)| known != name);
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    pub fn with(mut self, status: u16) -> Reply {
        self.head = self.head.map(|(_, headers)| (status, headers));
        self
    }

    pub fn bytes(self, bytes: impl Into<Vec<u8>>) -> Reply {
        self.piece(Piece::Bytes(bytes.into()))
    }

    pub fn event(self, message: &Value) -> Reply {
        self.bytes(format!("data: {message}\n\n"))
    }

    pub fn drip(self, bytes: impl Into<Vec<u8>>, pause: Duration) -> Reply {
        self.piece(Piece::Drip(bytes.into(), pause))
    }

    pub fn wait(self, gate: &Gate) -> Reply {
        self.piece(Piece::Wait(gate.clone()))
    }

    pub fn hold(self) -> Reply {
        self.piece(Piece::Hold)
    }

    pub fn cut(self) -> Reply {
        self.piece(Piece::Cut)
    }

    fn piece(mut self, piece: Piece) -> Reply {
        self.pieces.push(piece);
        self
    }

    /// The document in its body.
    pub fn document(&self) -> Option<Value> {
        let Some(Piece::Bytes(bytes)) = self.pieces.first() else { return None };
        serde_json::from_slice(bytes).ok()
    }

    /// The length where it is known, and chunks where it is not.
    fn head(&self) -> Option<(String, bool)> {
        let (status, headers) = self.head.as_ref()?;
        let length =
            self.pieces.iter().map(|piece| if let Piece::Bytes(bytes) = piece { Some(bytes.len()) } else { None });
        let length: Option<usize> = length.sum();
        let framing = match length {
            _ if *status == 204 => String::new(),
            Some(length) => format!("content-length: {length}\r\n"),
            None => "transfer-encoding: chunked\r\n".to_owned(),
        };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Some((format!("HTTP/1.1 {status} Scripted\r\n{headers}{framing}\r\n"), length.is_none()))
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// The peer. It ends with the test.
pub struct Peer {
    pub origin: String,
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    script: Arc<Script>,
    tls: Arc<Mutex<Option<TlsAcceptor>>>,
    running: Mutex<Option<AbortHandle>>,
}

impl Peer {
    pub async fn new(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Peer {
        Peer::start("http", None, script).await
    }

    pub async fn tls(acceptor: TlsAcceptor, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Peer {
        Peer::start("https", Some(acceptor), script).await
    }

    async fn start(
        scheme: &str,
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Peer {
        let listener = THREADS.spawn(TcpListener::bind("127.0.0.1:0")).await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let peer = Peer {
            origin: format!(
                "{scheme}://{}:{}",
                if scheme == "https" { "localhost" } else { "127.0.0.1" },
                address.port()
            ),
            address,
            seen: Arc::default(),
            connections: Arc::default(),
            script: Arc::new(script),
            tls: Arc::new(Mutex::new(tls)),
            running: Mutex::default(),
        };
        peer.run(listener);
        peer
    }

    fn run(&self, listener: TcpListener) {
        let (seen, script, tls) = (self.seen.clone(), self.script.clone(), self.tls.clone());
        let connections = self.connections.clone();
        let task = THREADS.spawn(async move {
            // Dropped with the task, and all connections with it.
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (seen, script, tls) = (seen.clone(), script.clone(), tls.lock().unwrap().clone());
                open.spawn(async move {
                    let _ = socket.set_nodelay(true);
                    match tls {
                        None => converse(socket, &seen, &*script).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(socket) => converse(socket, &seen, &*script).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        *self.running.lock().unwrap() = Some(task.abort_handle());
    }

    /// Another certificate from the next connection on.
    pub fn certify(&self, acceptor: TlsAcceptor) {
        *self.tls.lock().unwrap() = Some(acceptor);
    }

    /// Ends it, and all its connections.
    pub async fn stop(&self) {
        let task = self.running.lock().unwrap().take().unwrap();
        task.abort();
        eventually("the peer has ended", || task.is_finished()).await;
    }

    /// Starts it again, on the same port.
    pub async fn restart(&self) {
        let listener = THREADS.spawn(TcpListener::bind(self.address)).await.unwrap().unwrap();
        self.run(listener);
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// All requests, in the order in which they came.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests of a method, or of a verb.
    pub fn of(&self, method: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.method() == method).collect()
    }

    pub fn count(&self, method: &str) -> usize {
        self.of(method).len()
    }

    pub fn methods(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.method().to_owned()).collect()
    }

    /// Waits until so many requests of a method have come.
    pub async fn until(&self, method: &str, count: usize) -> Vec<Seen> {
        eventually(&format!("{count} {method}"), || self.count(method) >= count).await;
        self.of(method)
    }

    /// The table of an upstream that is this peer; more keys follow.
    pub fn upstream(&self, name: &str, keys: &str) -> String {
        format!("[upstreams.{name}]\nurl = {:?}\n{keys}\n", self.url("/mcp"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(task) = self.running.lock().unwrap().take() {
            task.abort();
        }
        if std::thread::panicking() {
            let lines: Vec<String> = self.seen().iter().map(|s| format!("{} {} {}", s.verb, s.path, s.body)).collect();
            eprintln!("---- what the peer saw\n{}", lines.join("\n"));
        }
    }
}

async fn converse(
    mut socket: impl AsyncRead + AsyncWrite + Unpin + Send,
    all: &Mutex<Vec<Seen>>,
    script: &Script,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            match buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end,
                None if socket.read_buf(&mut buffer).await.ok()? == 0 => return None,
                None => {}
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (verb, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while buffer.len() < end + 4 + length {
            if socket.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        let body = serde_json::from_slice(&buffer[end + 4..end + 4 + length]).unwrap_or_default();
        buffer.drain(..end + 4 + length);
        let left = Arc::new(AtomicBool::new(false));
        let mut seen = Seen { verb, path, headers, body, before: 0, left: left.clone() };
        {
            let mut all = all.lock().unwrap();
            seen.before = all.iter().filter(|other| other.method() == seen.method()).count();
            all.push(seen.clone());
        }
        let reply = script(&seen);
        if answer(&mut socket, reply, &left).await.is_none() {
            let _ = socket.shutdown().await;
            return None;
        }
    }
}

/// None where the connection is over.
async fn answer(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
    reply: Reply,
    left: &AtomicBool,
) -> Option<()> {
    let head = reply.head();
    let chunked = head.as_ref().is_some_and(|(_, chunked)| *chunked);
    if let Some((head, _)) = head {
        socket.write_all(head.as_bytes()).await.ok()?;
    }
    for piece in reply.pieces {
        let (mut reader, mut writer) = tokio::io::split(&mut *socket);
        let gone = async {
            let mut rest = [0; 1024];
            while reader.read(&mut rest).await.is_ok_and(|read| read > 0) {}
            left.store(true, Ordering::SeqCst);
        };
        tokio::select! {
            went_on = send(&mut writer, piece, chunked) => went_on?,
            () = gone => return None,
        }
    }
    if chunked {
        socket.write_all(b"0\r\n\r\n").await.ok()?;
    }
    Some(())
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), piece: Piece, chunked: bool) -> Option<()> {
    let frame = |bytes: &[u8]| match chunked && !bytes.is_empty() {
        true => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
        false => bytes.to_vec(),
    };
    match piece {
        Piece::Bytes(bytes) => writer.write_all(&frame(&bytes)).await.ok()?,
        Piece::Drip(bytes, pause) => {
            for byte in bytes {
                writer.write_all(&frame(&[byte])).await.ok()?;
                tokio::time::sleep(pause).await;
            }
        }
        Piece::Wait(gate) => gate.opened().await,
        Piece::Told(told) => {
            let mut told = told.lock().await;
            while let Some(text) = told.recv().await {
                writer.write_all(&frame(text.as_bytes())).await.ok()?;
            }
        }
        Piece::Hold => std::future::pending().await,
        Piece::Cut => return None,
    }
    Some(())
}
