//! Our own stdin and stdout as a Link: whoever started us is the peer.
//!
//! A thread reads and a thread writes, because reading a terminal or a pipe cannot be given up. Nothing else writes to
//! stdout, so nothing but messages stands there.

use std::{
    io::{self, Read, Write},
    thread,
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use tokio::sync::{mpsc, oneshot};

use super::{Inbound, Link, Outbound, Peer, pair};
use crate::wire::{
    lines::{self, Line, Lines},
    message,
};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
/// How long what was said last may take to be read.
const FLUSH_MAX: Duration = Duration::from_millis(300);

/// Resolves when all that was sent is written, or nobody reads it.
pub struct Flushed(oneshot::Receiver<()>);

impl Flushed {
    /// Waits for the end of the writer, a moment at most. Every sender of the link has to be gone.
    pub async fn wait(self) {
        let _ = tokio::time::timeout(FLUSH_MAX, self.0).await;
    }
}

/// Takes stdin and stdout. The Link's `from` ends with stdin, its `to` when nobody reads stdout any more.
pub fn open(message_bytes_max: usize) -> io::Result<(Link, Flushed)> {
    let (link, Peer { from, to }) = pair();
    let (written, flushed) = oneshot::channel();
    thread::Builder::new().name("stdin".into()).spawn(move || read(&mut io::stdin().lock(), message_bytes_max, &to))?;
    thread::Builder::new().name("stdout".into()).spawn(move || {
        write(&mut io::stdout().lock(), from);
        let _ = written.send(());
    })?;
    Ok((link, Flushed(flushed)))
}

fn read(stdin: &mut impl Read, message_bytes_max: usize, to: &mpsc::Sender<Inbound>) {
    let mut lines = Lines::new(message_bytes_max);
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let count = match stdin.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        lines.spare().put_slice(&chunk[..count]);
        while let Some(line) = lines.take() {
            if to.blocking_send(Inbound::read(line, message::read_client)).is_err() {
                return;
            }
        }
    }
    // Scripts forget the last newline.
    let rest: BytesMut = std::mem::take(lines.spare());
    if !rest.is_empty() {
        let _ = to.blocking_send(Inbound::read(Line::Whole(rest.freeze()), message::read_client));
    }
}

fn write(stdout: &mut impl Write, mut from: mpsc::Receiver<Outbound>) {
    while let Some(Outbound { bytes, .. }) = from.blocking_recv() {
        if stdout.write_all(&lines::line(&bytes)).and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_lines_become_messages_and_what_is_none_is_told() {
        let text = b"{\"jsonrpc\":\"2.0\",\"method\":\"a\"}\r\n\nnonsense\n[{\"jsonrpc\":\"2.0\",\"method\":\"b\"}]\n{\"jsonrpc\":\"2.0\",\"method\":\"c\"}";
        let (to, mut from) = mpsc::channel(10);
        read(&mut text.as_slice(), 1000, &to);
        drop(to);
        let mut found = Vec::new();
        while let Some(inbound) = from.blocking_recv() {
            found.push(match inbound {
                Inbound::Message(message) => message.method().to_owned(),
                Inbound::Batch(all) => format!("{} in an array", all.len()),
                Inbound::Unreadable(error) => error.code.to_string(),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(found, ["a", "-32700", "1 in an array", "c"]);
    }

    #[test]
    fn p1_a_message_is_one_line() {
        let (to, from) = mpsc::channel(10);
        to.blocking_send(Outbound::from(bytes::Bytes::from_static(b"{\n \"a\":\r\n1}"))).expect("room");
        drop(to);
        let mut out = Vec::new();
        write(&mut out, from);
        assert_eq!(out, b"{  \"a\":  1}\n");
    }
}
