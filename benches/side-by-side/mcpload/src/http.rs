//! A keep-alive HTTP client with nothing in it but what the driver needs:
//! one request at a time on a connection, bodies by length, chunks or close,
//! and an incremental reader of server-sent events. Over TLS it speaks HTTP/2
//! where the server does (`https://`), or HTTP/1.1 (`https1://`).

use crate::tls;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scheme {
    Http,
    /// TLS, and HTTP/1.1 whatever the server could.
    Https1,
    Https,
}

#[derive(Clone, Debug)]
pub struct Target {
    pub scheme: Scheme,
    pub address: String,
    pub path: String,
}

impl Target {
    pub fn parse(url: &str) -> Self {
        let (scheme, rest) = match url.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https1", rest)) => (Scheme::Https1, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => panic!("http://, https:// or https1:// are read, not {url}"),
        };
        let (address, path) = match rest.find('/') {
            Some(i) => (&rest[..i], &rest[i..]),
            None => (rest, "/"),
        };
        let address = if address.contains(':') {
            address.to_owned()
        } else {
            format!("{address}:80")
        };
        Target {
            scheme,
            address,
            path: path.to_owned(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Framing {
    Length(usize),
    /// Bytes left in the chunk being read; `None` before a chunk's size line.
    Chunked(Option<usize>),
    UntilClose,
    /// HTTP/2 has frames of its own.
    Two,
    Done,
}

#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub session: Option<String>,
    pub sse: bool,
    framing: Framing,
    close: bool,
}

/// What a connection runs over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection of HTTP/2, and the request that is under way on it.
pub struct Two {
    send: h2::client::SendRequest<bytes::Bytes>,
    answer: Option<h2::client::ResponseFuture>,
    body: Option<h2::RecvStream>,
}

pub struct Conn {
    stream: Option<Box<dyn Stream>>,
    two: Option<Two>,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// No further request may be sent on this connection.
    pub spent: bool,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Conn {
    pub async fn open(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        let (mut plain, mut two): (Option<Box<dyn Stream>>, _) = (None, None);
        match target.scheme {
            Scheme::Http => plain = Some(Box::new(stream)),
            scheme => {
                let stream = tls::wrap(stream, scheme == Scheme::Https).await?;
                match stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    true => two = Some(Two::open(stream).await?),
                    false => plain = Some(Box::new(stream)),
                }
            }
        }
        Ok(Conn {
            stream: plain,
            two,
            buf: vec![0; 8192],
            start: 0,
            end: 0,
            spent: false,
        })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match (&mut self.two, &mut self.stream) {
            (Some(two), _) => two.send(bytes).await,
            (None, Some(stream)) => stream.write_all(bytes).await,
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buf.len() {
            if self.start > 0 {
                self.buf.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                let size = self.buf.len() * 2;
                self.buf.resize(size, 0);
            }
        }
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let n = stream.read(&mut self.buf[self.end..]).await?;
        self.end += n;
        // A full read means that more is coming: read large bodies in large steps.
        if n == self.buf.len() && n < 256 * 1024 {
            let size = n * 2;
            self.buf.resize(size, 0);
        }
        Ok(n)
    }

    pub async fn head(&mut self) -> io::Result<Head> {
        if let Some(two) = &mut self.two {
            return two.head().await;
        }
        loop {
            if self.start < self.end {
                if let Some(head) = self.parse_head()? {
                    if head.status / 100 == 1 {
                        continue;
                    }
                    return Ok(head);
                }
            }
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn parse_head(&mut self) -> io::Result<Option<Head>> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let size = match response.parse(&self.buf[self.start..self.end]) {
            Ok(httparse::Status::Complete(n)) => n,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(e) => return Err(bad(&format!("response head: {e}"))),
        };
        let status = response.code.unwrap_or(0);
        let mut head = Head {
            status,
            session: None,
            sse: false,
            framing: Framing::UntilClose,
            close: response.version == Some(0),
        };
        let (mut length, mut chunked) = (None, false);
        for h in response.headers.iter() {
            let is = |name: &str| h.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                length = std::str::from_utf8(h.value)
                    .ok()
                    .and_then(|v| v.trim().parse::<usize>().ok());
            } else if is("transfer-encoding") {
                chunked = h.value.to_ascii_lowercase().ends_with(b"chunked");
            } else if is("content-type") {
                head.sse = h.value.starts_with(b"text/event-stream");
            } else if is("mcp-session-id") {
                head.session = Some(String::from_utf8_lossy(h.value).into_owned());
            } else if is("connection") && h.value.eq_ignore_ascii_case(b"close") {
                head.close = true;
            }
        }
        head.framing = if chunked {
            Framing::Chunked(None)
        } else if status == 204 || status == 304 || length == Some(0) {
            Framing::Done
        } else {
            length.map_or(Framing::UntilClose, Framing::Length)
        };
        if status / 100 == 1 {
            head.framing = Framing::Done;
        }
        self.start += size;
        Ok(Some(head))
    }

    /// Appends what comes next of the body; `false` once the body has ended,
    /// and then too bytes may have been appended.
    pub async fn body(&mut self, head: &mut Head, out: &mut Vec<u8>) -> io::Result<bool> {
        if let (Framing::Two, Some(two)) = (head.framing, &mut self.two) {
            let more = two.body(out).await?;
            if !more {
                head.framing = Framing::Done;
            }
            return Ok(more);
        }
        loop {
            let have = self.end - self.start;
            match head.framing {
                Framing::Done => {
                    self.spent |= head.close;
                    return Ok(false);
                }
                Framing::Length(left) if have > 0 => {
                    let n = left.min(have);
                    self.take(n, out);
                    head.framing = if n == left {
                        Framing::Done
                    } else {
                        Framing::Length(left - n)
                    };
                    if n == left {
                        continue;
                    }
                    return Ok(true);
                }
                Framing::UntilClose if have > 0 => {
                    self.take(have, out);
                    return Ok(true);
                }
                Framing::Chunked(Some(left)) if left > 2 && have > 0 => {
                    // `left` counts the CRLF after the data.
                    let n = (left - 2).min(have);
                    self.take(n, out);
                    head.framing = Framing::Chunked(Some(left - n));
                    // Gather what has already arrived before handing over.
                    if self.end > self.start {
                        continue;
                    }
                    return Ok(true);
                }
                Framing::Chunked(Some(left)) if left <= 2 && have >= left => {
                    self.start += left;
                    head.framing = Framing::Chunked(None);
                    if self.end == self.start && !out.is_empty() {
                        return Ok(true);
                    }
                    continue;
                }
                Framing::Chunked(None) if have > 0 => {
                    let line = &self.buf[self.start..self.end];
                    if let Some(i) = memchr::memchr(b'\n', line) {
                        let text =
                            std::str::from_utf8(&line[..i]).map_err(|_| bad("chunk size"))?;
                        let text = text.split(';').next().unwrap_or("").trim();
                        let size =
                            usize::from_str_radix(text, 16).map_err(|_| bad("chunk size"))?;
                        if size == 0 {
                            // The closing CRLF; trailers are not expected here.
                            if line.len() < i + 3 {
                                if self.fill().await? == 0 {
                                    return Err(io::ErrorKind::UnexpectedEof.into());
                                }
                                continue;
                            }
                            self.start += i + 3;
                            head.framing = Framing::Done;
                        } else {
                            self.start += i + 1;
                            head.framing = Framing::Chunked(Some(size + 2));
                        }
                        continue;
                    }
                }
                _ => {}
            }
            if self.fill().await? == 0 {
                if head.framing == Framing::UntilClose {
                    head.framing = Framing::Done;
                    self.spent = true;
                    return Ok(false);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self, n: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.buf[self.start..self.start + n]);
        self.start += n;
    }

    pub async fn drain(&mut self, head: &mut Head, out: &mut Vec<u8>) -> io::Result<()> {
        while self.body(head, out).await? {}
        Ok(())
    }
}

impl Two {
    async fn open(stream: impl Stream + 'static) -> io::Result<Self> {
        let (send, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(Two { send, answer: None, body: None })
    }

    /// Sends a request that was written for HTTP/1.1.
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        let size = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(size)) => size,
            _ => return Err(bad("our own request")),
        };
        let host = parsed.headers.iter().find(|h| h.name.eq_ignore_ascii_case("host"));
        let host = host.map_or("localhost", |h| std::str::from_utf8(h.value).unwrap_or("localhost"));
        let uri = format!("https://{host}{}", parsed.path.unwrap_or("/"));
        let mut request = http::Request::builder().method(parsed.method.unwrap_or("GET")).uri(uri);
        for h in parsed.headers.iter() {
            if !h.name.eq_ignore_ascii_case("host") {
                request = request.header(h.name, h.value);
            }
        }
        let request = request.body(()).map_err(io::Error::other)?;
        let body = &bytes[size..];
        let mut send = self.send.clone().ready().await.map_err(io::Error::other)?;
        let (answer, mut stream) =
            send.send_request(request, body.is_empty()).map_err(io::Error::other)?;
        if !body.is_empty() {
            let body = bytes::Bytes::copy_from_slice(body);
            stream.send_data(body, true).map_err(io::Error::other)?;
        }
        self.answer = Some(answer);
        Ok(())
    }

    async fn head(&mut self) -> io::Result<Head> {
        let answer = self.answer.take().ok_or(io::ErrorKind::NotConnected)?;
        let (parts, body) = answer.await.map_err(io::Error::other)?.into_parts();
        let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok());
        let sse = text("content-type").is_some_and(|t| t.starts_with("text/event-stream"));
        let framing = if body.is_end_stream() { Framing::Done } else { Framing::Two };
        self.body = Some(body);
        Ok(Head {
            status: parts.status.as_u16(),
            session: text("mcp-session-id").map(str::to_owned),
            sse,
            framing,
            close: false,
        })
    }

    async fn body(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let Some(body) = &mut self.body else { return Ok(false) };
        match body.data().await {
            Some(chunk) => {
                let chunk = chunk.map_err(io::Error::other)?;
                out.extend_from_slice(&chunk);
                let _ = body.flow_control().release_capacity(chunk.len());
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// Splits a growing body into events.
#[derive(Default)]
pub struct Events {
    scanned: usize,
    line: usize,
    pub name: Vec<u8>,
    pub data: Vec<u8>,
    has_data: bool,
}

impl Events {
    pub fn clear(&mut self) {
        *self = Events {
            name: std::mem::take(&mut self.name),
            data: std::mem::take(&mut self.data),
            ..Events::default()
        };
        self.name.clear();
        self.data.clear();
    }

    /// `true` when `name` and `data` hold the next event of `body`.
    pub fn next(&mut self, body: &[u8]) -> bool {
        if self.scanned == 0 || !self.has_data {
            self.data.clear();
        }
        while let Some(i) = memchr::memchr(b'\n', &body[self.scanned..]) {
            let end = self.scanned + i;
            let mut line = &body[self.line..end];
            self.scanned = end + 1;
            self.line = end + 1;
            if line.last() == Some(&b'\r') {
                line = &line[..line.len() - 1];
            }
            if line.is_empty() {
                if std::mem::take(&mut self.has_data) {
                    return true;
                }
                self.name.clear();
            } else if let Some(rest) = line.strip_prefix(b"data:") {
                if self.has_data {
                    self.data.push(b'\n');
                } else {
                    self.data.clear();
                }
                self.has_data = true;
                self.data
                    .extend_from_slice(rest.strip_prefix(b" ").unwrap_or(rest));
            } else if let Some(rest) = line.strip_prefix(b"event:") {
                self.name.clear();
                self.name
                    .extend_from_slice(rest.strip_prefix(b" ").unwrap_or(rest));
            }
        }
        self.scanned = body.len();
        false
    }

    /// Forgets the bytes already read, for streams that never end.
    pub fn compact(&mut self, body: &mut Vec<u8>) {
        body.drain(..self.line);
        self.scanned -= self.line;
        self.line = 0;
    }
}
