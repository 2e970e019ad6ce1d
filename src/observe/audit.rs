//! The audit: one line of JSON for each call, who made it, of what, and how it ended. Never what it was about.
//!
//! Lines go to a file through a bounded queue and a thread of its own. Where they cannot be written, because the disk is
//! full or the queue is, the configuration decides: calls go on and lines are lost, which is counted (`open`), or
//! calls are refused until lines can be written again (`closed`). A file that was moved away is opened anew.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    append::{LOOK_EVERY, is_same, open},
    meter::Call,
    shelf::timestamp,
};
use crate::config::{AuditConfig, OnFailure};

/// Lines that may wait for the disk.
const LINES_MAX: usize = 8192;

/// What comes within this time of the first line is written with it: to wake the writer for each line would cost a call
/// more than all else that is written of it.
const GATHER: Duration = Duration::from_millis(10);

/// Writes lines until it is dropped.
pub struct Audit {
    config: AuditConfig,
    lines: Option<SyncSender<Vec<u8>>>,
    state: Arc<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    /// The last line could not be written.
    failing: AtomicBool,
    /// No more lines will come.
    closing: AtomicBool,
    lost: AtomicU64,
    /// The same since the file was first opened.
    lost_ever: AtomicU64,
}

/// What is written of a call.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    principal: &'a str,
    upstream: &'a str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i64>,
    ms: u64,
    bytes_in: usize,
    bytes_out: usize,
}

impl Audit {
    pub fn open(config: &AuditConfig) -> io::Result<Arc<Audit>> {
        let file = open(&config.path)?;
        let (lines, queue) = sync_channel(LINES_MAX);
        let state = Arc::<State>::default();
        let writer = Writer { path: config.path.clone(), file, state: state.clone(), looked: Instant::now() };
        let thread = thread::Builder::new().name("audit".into()).spawn(move || writer.run(&queue))?;
        Ok(Arc::new(Audit { config: config.clone(), lines: Some(lines), state, thread: Mutex::new(Some(thread)) }))
    }

    pub fn config(&self) -> &AuditConfig {
        &self.config
    }

    /// Lines that could not be written.
    pub fn lost(&self) -> u64 {
        self.state.lost_ever.load(Ordering::Relaxed)
    }

    /// Whether calls have to wait until lines can be written again.
    pub fn refuses(&self) -> bool {
        self.config.on_failure == OnFailure::Closed && self.state.failing.load(Ordering::Relaxed)
    }

    /// Writes down a call that has ended.
    pub fn write(&self, upstream: &str, call: &Call) {
        let line = Line {
            time: timestamp(call.at),
            principal: &call.principal,
            upstream,
            method: &call.method,
            tool: call.name.as_deref(),
            outcome: call.outcome.as_str(),
            code: call.outcome.code(),
            ms: call.took.as_millis() as u64,
            bytes_in: call.bytes_in,
            bytes_out: call.bytes_out,
        };
        let Ok(mut bytes) = serde_json::to_vec(&line) else { return };
        bytes.push(b'\n');
        if self.lines.as_ref().is_some_and(|lines| lines.try_send(bytes).is_ok()) {
            return;
        }
        self.state.failing.store(true, Ordering::Relaxed);
        self.state.lost_ever.fetch_add(1, Ordering::Relaxed);
        if self.state.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(path = %self.config.path.display(), "audit lines are lost: the disk is slower than the calls");
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // The writer ends with the queue.
        self.lines = None;
        self.state.closing.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().ok().and_then(|mut thread| thread.take()) {
            let _ = thread.join();
        }
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    state: Arc<State>,
    looked: Instant,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Vec<u8>>) {
        let mut unwritten: Vec<u8> = Vec::new();
        loop {
            match queue.recv_timeout(LOOK_EVERY) {
                Ok(line) => {
                    unwritten.extend_from_slice(&line);
                    thread::sleep(GATHER);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write(&mut unwritten);
                    return;
                }
            }
            while let Some(line) = queue.try_recv().ok().filter(|_| unwritten.len() < 1 << 20) {
                unwritten.extend_from_slice(&line);
            }
            self.look();
            self.write(&mut unwritten);
            while !unwritten.is_empty() {
                // What waits in the queue keeps waiting; when it is full, that is told.
                thread::sleep(LOOK_EVERY);
                self.reopen();
                self.write(&mut unwritten);
                if self.state.closing.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }

    /// Writes whole what it can; the rest stays.
    fn write(&mut self, unwritten: &mut Vec<u8>) {
        while !unwritten.is_empty() {
            match self.file.write(unwritten) {
                Ok(count) => drop(unwritten.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if !self.state.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(path = %self.path.display(), "the audit cannot be written: {error}");
                    }
                    return;
                }
            }
        }
        if self.state.failing.swap(false, Ordering::Relaxed) {
            let lost = self.state.lost.swap(0, Ordering::Relaxed);
            tracing::warn!(path = %self.path.display(), lost, "the audit is written again");
        }
    }

    /// Whoever rotates files moves them away.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        if !is_same(&self.file, &self.path) {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => tracing::debug!(path = %self.path.display(), "the audit cannot be opened: {error}"),
        }
    }
}
