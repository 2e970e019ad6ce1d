//! A socket without an HTTP library: for what no library would send.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::fixture::{Hub, PATIENCE};

pub struct Raw {
    pub socket: TcpStream,
    read: Vec<u8>,
}

/// What came back: the status and the body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

impl Raw {
    pub async fn connect(hub: &Hub) -> Raw {
        let authority = hub.base.strip_prefix("http://").unwrap();
        Raw::of(TcpStream::connect(authority).await.unwrap())
    }

    pub fn of(socket: TcpStream) -> Raw {
        Raw { socket, read: Vec::new() }
    }

    /// Writes; a peer that has closed already is no error here, but shows in what is read.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Raw {
        let _ = self.socket.write_all(bytes.as_ref()).await;
        self
    }

    /// Reads until the text has come, and answers with all that was read.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            let all = String::from_utf8_lossy(&self.read).into_owned();
            if all.contains(text) {
                return all;
            }
            assert!(self.more().await, "the peer closed before {text:?}: {all}");
        }
    }

    /// Reads a response whose body has a length.
    pub async fn response(&mut self) -> Response {
        self.until("\r\n\r\n").await;
        let end = self.read.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&self.read[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        while self.read.len() < end + 4 + length {
            assert!(self.more().await, "a body that is cut off: {head}");
        }
        let body = String::from_utf8_lossy(&self.read[end + 4..end + 4 + length]).into_owned();
        self.read.drain(..end + 4 + length);
        Response { status: head.split(' ').nth(1).unwrap().parse().unwrap(), body }
    }

    /// Waits until the peer closes; answers how long that took.
    pub async fn closed(&mut self) -> Duration {
        let began = Instant::now();
        while self.more().await {}
        began.elapsed()
    }

    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await;
        // A reset closes too.
        read.expect("the peer neither speaks nor closes").unwrap_or(0) > 0
    }
}

/// A POST to a mount, whole; `headers` end their lines themselves.
pub fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
