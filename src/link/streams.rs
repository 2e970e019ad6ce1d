//! Two byte streams as a Link, one message on each line: a socket, a pipe, or half of `tokio::io::duplex`.
//!
//! So a server of an SDK that speaks over streams, such as rmcp's, is a peer within this program.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Inbound, Link, Outbound, Peer, pair};
use crate::wire::{
    lines::{self, Line, Lines},
    message,
};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// Opens a link on what is read from and written to. A message may have `message_bytes_max` bytes. The link ends with
/// what is read; what is written to is shut down when the link's `to` is dropped. Call it within a runtime.
pub fn over(
    read: impl AsyncRead + Send + Unpin + 'static,
    write: impl AsyncWrite + Send + Unpin + 'static,
    message_bytes_max: usize,
) -> Link {
    let (link, Peer { from, to }) = pair();
    tokio::spawn(hear(read, message_bytes_max, to));
    tokio::spawn(say(write, from));
    link
}

async fn hear(mut read: impl AsyncRead + Unpin, message_bytes_max: usize, to: tokio::sync::mpsc::Sender<Inbound>) {
    let mut lines = Lines::new(message_bytes_max);
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let count = tokio::select! {
            count = read.read(&mut chunk) => count,
            // Nobody listens.
            () = to.closed() => return,
        };
        let Ok(count @ 1..) = count else { break };
        lines.spare().put_slice(&chunk[..count]);
        while let Some(line) = lines.take() {
            if to.send(Inbound::read(line, message::read_upstream)).await.is_err() {
                return;
            }
        }
    }
    // Some forget the last newline.
    let rest: BytesMut = std::mem::take(lines.spare());
    if !rest.is_empty() {
        let _ = to.send(Inbound::read(Line::Whole(rest.freeze()), message::read_upstream)).await;
    }
}

async fn say(mut write: impl AsyncWrite + Unpin, mut from: tokio::sync::mpsc::Receiver<Outbound>) {
    while let Some(Outbound { bytes, .. }) = from.recv().await {
        if write.write_all(&lines::line(&bytes)).await.is_err() || write.flush().await.is_err() {
            return;
        }
    }
    let _ = write.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn s4_66_two_streams_are_a_link_and_their_ends_are_its_ends() {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        let (read, write) = tokio::io::split(ours);
        let mut link = over(read, write, 100);
        let (mut their_read, mut their_write) = tokio::io::split(theirs);
        let long = format!("{{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":\"{}\"}}\n", "x".repeat(200));
        let said = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"a\"}}\nnonsense\n{long}");
        their_write.write_all(said.as_bytes()).await.expect("room");
        assert!(matches!(link.from.recv().await, Some(Inbound::Message(message)) if message.method() == "a"));
        assert!(matches!(link.from.recv().await, Some(Inbound::Unreadable(_))));
        assert!(matches!(link.from.recv().await, Some(Inbound::TooLong { .. })));
        link.to.send(bytes::Bytes::from_static(b"{\n}").into()).await.expect("room");
        let mut line = [0; 4];
        their_read.read_exact(&mut line).await.expect("a line");
        assert_eq!(&line, b"{ }\n");
        drop(link.to);
        assert_eq!(their_read.read(&mut line).await.expect("an end"), 0);
        drop((their_read, their_write));
        assert!(link.from.recv().await.is_none());
    }
}
