//! The log: to stderr or a file, through a bounded queue and a thread of its own.
//!
//! Whoever reads stderr, or does not, never holds up a call (F110). Lines that do not fit are dropped, and counted.

use std::{
    io::{self, Write},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing_subscriber::{fmt::MakeWriter, prelude::*};

use super::{
    append::Append,
    form::{Fields, Form},
    levels::{Judge, Levels},
    queue::Queue,
};
use crate::config::{Format, Level, LogConfig};

/// Lines that may wait for the reader of stderr.
const LINES_MAX: usize = 4096;
/// The thread has nothing to look at while nothing comes.
const PAUSE: Duration = Duration::from_secs(3600);

/// What the command line says of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags<'a> {
    /// A level, or the filter syntax of tracing.
    pub filter: Option<&'a str>,
    pub format: Option<Format>,
    /// In place of stderr.
    pub file: Option<&'a Path>,
    /// Beside it.
    pub copy: Option<&'a Path>,
    pub color: bool,
    /// Directives that go before any filter.
    pub quiet: &'static str,
    /// What the flags leave open is as the configuration says, also after a reload.
    pub follows: bool,
}

/// What can change while the log is written.
struct Dials {
    levels: Arc<Levels>,
    form: Form,
    level_follows: bool,
    format_follows: bool,
}

/// Those of the log that is installed: there is one for the process, as with tracing.
static DIALS: OnceLock<Dials> = OnceLock::new();

/// Installs the log. Only binaries call this.
pub fn install(flags: Flags<'_>, level: &str, format: Format) -> Result<Log, String> {
    let levels = Levels::new(flags.quiet, flags.filter.unwrap_or(level))?;
    let form = Form::new(flags.format.unwrap_or(format));
    let open = |what: &str, path: &Path| {
        Append::open(path).map_err(|error| format!("cannot write {what} {}: {error}", path.display()))
    };
    let log = match (flags.file, flags.copy) {
        (Some(path), _) => Log::start(open("--log-file", path)?),
        (None, Some(path)) => Log::start(Both(io::stderr(), open("LOG_FILE", path)?)),
        (None, None) => Log::start(io::stderr()),
    };
    let log = log.map_err(|error| format!("cannot start the thread that writes the log: {error}"))?;
    let layer = tracing_subscriber::fmt::layer().event_format(form.clone()).fmt_fields(Fields);
    let layer = layer.with_ansi(flags.color && flags.file.is_none() && flags.copy.is_none()).with_writer(log.clone());
    let installed = tracing_subscriber::registry().with(layer.with_filter(Judge(levels.clone()))).try_init();
    installed.map_err(|error| error.to_string())?;
    let level_follows = flags.follows && flags.filter.is_none();
    let format_follows = flags.follows && flags.format.is_none();
    let _ = DIALS.set(Dials { levels, form, level_follows, format_follows });
    Ok(log)
}

/// Takes over what a configuration says: of the whole log, and of the upstreams that have a level of their own. Does
/// nothing in a program that has a log of its own.
pub fn adopt(log: &LogConfig, upstreams: impl IntoIterator<Item = (String, Level)>) {
    let Some(dials) = DIALS.get() else { return };
    dials.levels.set(dials.level_follows.then_some(log.level), upstreams);
    if dials.format_follows {
        dials.form.set(log.format);
    }
}

/// Each line goes to both, whatever becomes of it at the other.
struct Both<A, B>(A, B);

impl<A: Write, B: Write> Write for Both<A, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let first = self.0.write_all(bytes);
        self.1.write_all(bytes).and(first).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let first = self.0.flush();
        self.1.flush().and(first)
    }
}

/// The queue before stderr.
#[derive(Clone)]
pub struct Log {
    lines: Queue<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    fn start(mut to: impl Write + Send + 'static) -> io::Result<Log> {
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = dropped.clone();
        let mut write = move |line: Option<Vec<u8>>| {
            let lost = counted.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let _ = writeln!(to, "{lost} log lines were dropped because nobody read them");
            }
            // A closed stderr is no reason to stop serving.
            let _ = line.map(|line| to.write_all(&line));
        };
        let lines = Queue::start("log", LINES_MAX, move |lines| lines.each(PAUSE, &mut write))?;
        Ok(Log { lines, dropped })
    }

    /// Gives the last lines a moment to be written.
    pub fn flush(&self) {
        self.lines.flush();
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
        if !self.log.lines.offer(std::mem::take(&mut self.bytes)) {
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
        let log = Log::start(Stuck { reached, gate, taken }).unwrap();
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
