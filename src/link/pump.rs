//! The two tasks at a child's pipes: one writes what waits, one reads what comes.
//!
//! They share nothing, so a child that does not read is still heard. They live on a worker's runtime, beside the
//! requests they serve.
//! Invariant: one writer per child, and each message leaves it as one line.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use memchr::memchr2;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::{
    Inbound, Outbound, QUEUE_MAX,
    home::Lease,
    process::{Control, Fault, Stdin, StdinEnd, Stdout, StdoutEnd},
};
use crate::wire::{
    lines::{Line, Lines},
    message::{self, Body, NotAMessage},
    printable::printable,
};

/// A child that reads nothing for this long is unhealthy.
pub(super) const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Lines that are no messages before a child is unhealthy, when no message comes between them.
pub(super) const STRAY_LINES_MAX: u64 = 10_000;
/// How long what is queued may take when the child is asked to end.
const LAST_WRITES_MAX: Duration = Duration::from_secs(1);
/// How long a child that closed stdin may go on talking.
const DEAF_MAX: Duration = Duration::from_millis(500);
/// After the child's end its output is over when nothing came for this long,
const DRAIN_IDLE: Duration = Duration::from_millis(50);
/// and in any case after this.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How long after the end of its output a child's death may be noticed.
const DEATH_MAX: Duration = Duration::from_millis(50);
/// From this size a message is written without a copy, and its pipe deserves to be large.
const LARGE_BYTES: usize = 64 * 1024;
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 1024 * 1024;
/// A write buffer larger than this is given back.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Stray lines that are logged, and how much of each.
const STRAYS_LOGGED: u64 = 5;
const EXCERPT_BYTES: usize = 200;

/// Why one of the tasks stops.
enum Pause {
    /// Nothing more comes.
    Over,
    /// Nobody wants more of it.
    Enough,
    /// Its lease is over: it goes on elsewhere.
    Move,
}

/// Writes messages until their senders are gone or the child is to end, then closes stdin. Answers with what it is to go
/// on elsewhere, if it is.
pub(super) async fn write(
    stdin: StdinEnd,
    mut queue: mpsc::Receiver<Outbound>,
    lease: Lease,
    control: Arc<Control>,
    stop_timeout: Duration,
) -> Option<(StdinEnd, mpsc::Receiver<Outbound>)> {
    let stdin = stdin.open().map_err(|error| control.lost("stdin", &error)).ok()?;
    let mut writer = Writer { stdin, buffer: Vec::new(), grown: false };
    let work = async {
        let mut stopping = std::pin::pin!(control.stop.cancelled());
        let mut waiting = Vec::with_capacity(QUEUE_MAX);
        let mut open = true;
        loop {
            let count = tokio::select! {
                biased;
                count = queue.recv_many(&mut waiting, QUEUE_MAX) => count,
                () = &mut stopping, if open => {
                    open = false;
                    queue.close();
                    continue;
                }
            };
            if count == 0 {
                return Ok(Pause::Over);
            }
            writer.write(&mut waiting).await?;
            if open && lease.is_over() {
                return Ok(Pause::Move);
            }
        }
    };
    let in_time = async {
        control.stop.cancelled().await;
        sleep(LAST_WRITES_MAX.min(stop_timeout / 4)).await;
    };
    let end = tokio::select! {
        end = work => end,
        () = in_time => Ok(Pause::Enough),
    };
    if let Ok(Pause::Move) = end {
        let stdin = StdinEnd::of(writer.stdin).map_err(|error| control.lost("stdin", &error)).ok()?;
        return Some((stdin, queue));
    }
    drop(queue);
    drop(writer);
    match end {
        Ok(_) => {}
        Err(Unwritable::Stalled) => control.fail(Fault::NotReading),
        Err(Unwritable::Broken(error)) => {
            tracing::debug!(upstream = %control.name, "stdin is closed: {error}");
            // It may have answered before it went; but there is no talking to it.
            sleep(DEAF_MAX).await;
            control.cut.cancel();
        }
    }
    None
}

struct Writer {
    stdin: Stdin,
    buffer: Vec<u8>,
    grown: bool,
}

enum Unwritable {
    Stalled,
    Broken(std::io::Error),
}

impl Writer {
    /// Writes all that waits, if it can in one go.
    async fn write(&mut self, waiting: &mut Vec<Outbound>) -> Result<(), Unwritable> {
        self.buffer.clear();
        for Outbound { bytes: message, .. } in waiting.drain(..) {
            let has_ends = memchr2(b'\n', b'\r', &message).is_some();
            if message.len() > LARGE_BYTES && !has_ends {
                if !std::mem::replace(&mut self.grown, true) {
                    grow(&self.stdin);
                }
                write_all(&mut self.stdin, &self.buffer).await?;
                write_all(&mut self.stdin, &message).await?;
                self.buffer.clear();
            } else {
                let begin = self.buffer.len();
                self.buffer.extend_from_slice(&message);
                if has_ends {
                    // In JSON they stand between tokens only, where a space says the same.
                    for byte in self.buffer[begin..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
                        *byte = b' ';
                    }
                }
            }
            self.buffer.push(b'\n');
        }
        write_all(&mut self.stdin, &self.buffer).await?;
        if self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = Vec::new();
        }
        Ok(())
    }
}

async fn write_all(stdin: &mut Stdin, mut bytes: &[u8]) -> Result<(), Unwritable> {
    while !bytes.is_empty() {
        match timeout(WRITE_STALL_MAX, stdin.write(bytes)).await {
            Err(_) => return Err(Unwritable::Stalled),
            Ok(Ok(0)) => return Err(Unwritable::Broken(std::io::ErrorKind::WriteZero.into())),
            Ok(Ok(count)) => bytes = &bytes[count..],
            Ok(Err(error)) => return Err(Unwritable::Broken(error)),
        }
    }
    Ok(())
}

/// Asks for a large pipe. A refusal only means more turns.
#[cfg(target_os = "linux")]
fn grow(end: &impl std::os::fd::AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(end, PIPE_BYTES);
}

#[cfg(not(target_os = "linux"))]
fn grow<T>(_: &T) {}

/// What the reader works with.
pub(super) struct Reading {
    to: mpsc::Sender<Inbound>,
    lines: Lines,
    strays: Strays,
}

impl Reading {
    pub(super) fn new(to: mpsc::Sender<Inbound>, message_bytes_max: usize, strict: bool) -> Reading {
        Reading { to, lines: Lines::new(message_bytes_max), strays: Strays { strict, in_a_row: 0 } }
    }
}

/// Reads messages until the output ends, the child is unhealthy, or nobody listens. Answers with what it is to go on
/// elsewhere, if it is.
pub(super) async fn read(
    stdout: StdoutEnd,
    mut reading: Reading,
    lease: Lease,
    control: Arc<Control>,
) -> Option<(StdoutEnd, Reading)> {
    let mut stdout = stdout.open().map_err(|error| control.lost("stdout", &error)).ok()?;
    match listen(&mut stdout, &mut reading, &lease, &control).await {
        Pause::Move => {
            let stdout = StdoutEnd::of(stdout).map_err(|error| control.lost("stdout", &error)).ok()?;
            return Some((stdout, reading));
        }
        Pause::Over => {
            // If it died, that is known before anybody can ask for its end: a crash is not to look like a stop.
            let _ = timeout(DEATH_MAX, control.gone.cancelled()).await;
        }
        Pause::Enough => {
            drop(reading);
            // Until it ends it may go on talking; a full or a broken pipe would keep it from ending well.
            let mut nowhere = tokio::io::sink();
            tokio::select! {
                () = control.gone.cancelled() => {}
                _ = tokio::io::copy(&mut stdout, &mut nowhere) => {}
            }
        }
    }
    None
}

/// Passes on what comes.
async fn listen(stdout: &mut Stdout, reading: &mut Reading, lease: &Lease, control: &Control) -> Pause {
    let Reading { to, lines, strays } = reading;
    let mut cut = std::pin::pin!(control.cut.cancelled());
    let mut gone = std::pin::pin!(control.gone.cancelled());
    let mut deserted = std::pin::pin!(to.closed());
    let mut drain_until = None;
    let mut grown = false;
    loop {
        let read = tokio::select! {
            biased;
            () = &mut cut => return Pause::Enough,
            read = stdout.read_buf(lines.spare()) => read,
            () = &mut deserted => {
                control.stop.cancel();
                return Pause::Enough;
            }
            () = &mut gone, if drain_until.is_none() => {
                drain_until = Some(Instant::now() + DRAIN_MAX);
                continue;
            }
            () = sleep(DRAIN_IDLE), if drain_until.is_some() => break,
        };
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(upstream = %control.name, "cannot read stdout: {error}");
                break;
            }
        }
        while let Some(line) = lines.take() {
            let inbound = match line {
                Line::TooLong { id, bytes } => {
                    tracing::warn!(upstream = %control.name, bytes, "a message is above message_bytes_max");
                    Inbound::TooLong { id, bytes }
                }
                Line::Whole(line) => {
                    if line.len() > LARGE_BYTES && !std::mem::replace(&mut grown, true) {
                        grow(stdout);
                    }
                    match message::read_upstream(line.clone()) {
                        Ok(Body::One(message)) => Inbound::Message(message),
                        Ok(Body::Batch(messages)) => Inbound::Batch(messages),
                        Err(why) => match strays.skip(&line, &why, control) {
                            Some(fault) => {
                                control.fail(fault);
                                return Pause::Enough;
                            }
                            None => continue,
                        },
                    }
                }
            };
            strays.in_a_row = 0;
            if to.send(inbound).await.is_err() {
                control.stop.cancel();
                return Pause::Enough;
            }
        }
        match drain_until {
            Some(until) if Instant::now() > until => break,
            None if lease.is_over() => return Pause::Move,
            _ => {}
        }
    }
    let bytes = lines.unfinished_bytes();
    if bytes > 0 {
        tracing::warn!(upstream = %control.name, bytes, "the output ended within a line, which is discarded");
    }
    Pause::Over
}

/// Lines that are no messages.
struct Strays {
    strict: bool,
    in_a_row: u64,
}

impl Strays {
    fn skip(&mut self, line: &[u8], why: &NotAMessage, control: &Control) -> Option<Fault> {
        self.in_a_row += 1;
        let before = control.skipped.fetch_add(1, Ordering::Relaxed);
        if before < STRAYS_LOGGED {
            let excerpt = printable(&line[..line.len().min(EXCERPT_BYTES)]);
            let excerpt: String = excerpt.chars().take(EXCERPT_BYTES).collect();
            tracing::warn!(upstream = %control.name, "a line on stdout is no message: {why}: {excerpt}");
        } else if before == STRAYS_LOGGED {
            tracing::warn!(upstream = %control.name, "further lines are not logged");
        }
        if self.strict {
            return Some(Fault::StrayLine);
        }
        (self.in_a_row >= STRAY_LINES_MAX).then_some(Fault::StrayFlood)
    }
}
