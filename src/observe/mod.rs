//! What can be seen from outside: the log, and the audit.
//!
//! It goes to stderr through a bounded queue and a thread of its own: whoever reads stderr, or does not, never
//! holds up a call (F110). Lines that do not fit are dropped, and counted.

pub mod audit;

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter, prelude::*};

use crate::config::Format;

/// Lines that may wait for the reader of stderr.
const LINES_MAX: usize = 4096;

/// Installs the log. `filter` is a level or the filter syntax of tracing, and goes before `quiet`. Only binaries
/// call this.
pub fn install(filter: &str, quiet: &str, format: Format, color: bool) -> Result<Log, String> {
    let filter = EnvFilter::try_new(format!("{quiet},{filter}"))
        .map_err(|error| format!("the log level `{filter}` is not understood: {error}"))?;
    let log = Log::start(io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_target(false).with_writer(log.clone());
    let layer = match format {
        Format::Human => layer.with_ansi(color).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    let installed = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    installed.map_err(|error| error.to_string())?;
    Ok(log)
}

/// The queue before stderr.
#[derive(Clone)]
pub struct Log {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    waiting: Arc<AtomicU64>,
}

impl Log {
    fn start(mut to: impl Write + Send + 'static) -> Log {
        let (lines, queue) = sync_channel::<Vec<u8>>(LINES_MAX);
        let (dropped, waiting) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let log = Log { lines, dropped: dropped.clone(), waiting: waiting.clone() };
        let write = move || {
            for line in queue {
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(to, "{lost} log lines were dropped because nobody read them");
                }
                // A closed stderr is no reason to stop serving.
                let _ = to.write_all(&line);
                waiting.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let _ = thread::Builder::new().name("log".into()).spawn(write);
        log
    }

    /// Gives the last lines a moment to be written.
    pub fn flush(&self) {
        for _ in 0..50 {
            if self.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// One line; it is queued when it is whole.
pub struct Line {
    log: Log,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { log: self.clone(), bytes: Vec::with_capacity(160) }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.log.waiting.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.log.lines.try_send(std::mem::take(&mut self.bytes))
        {
            self.log.waiting.fetch_sub(1, Ordering::Relaxed);
            self.log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A stderr that says when a line has reached it, and takes it only when it is told to.
    struct Stuck {
        reached: mpsc::Sender<()>,
        gate: mpsc::Receiver<()>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.reached.send(());
            let _ = self.gate.recv();
            let _ = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn f110_a_log_that_nobody_reads_blocks_nobody() {
        let ((reached, begun), (go, gate), (taken, lines)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let log = Log::start(Stuck { reached, gate, taken });
        let _ = writeln!(log.make_writer(), "first");
        begun.recv().unwrap();
        for n in 0..LINES_MAX * 2 {
            let _ = writeln!(log.make_writer(), "{n}");
        }
        assert_eq!(log.dropped.load(Ordering::Relaxed), LINES_MAX as u64, "what does not fit is counted");
        drop(go);
        assert_eq!(lines.recv().unwrap(), b"first\n");
        assert!(String::from_utf8(lines.recv().unwrap()).unwrap().starts_with(&LINES_MAX.to_string()));
    }
}
