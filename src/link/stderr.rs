//! What a child says on stderr: always drained, the last lines kept, a few a second logged.
//!
//! Nobody reads these lines but people, so they are kept as bytes and made printable when they are shown.
//! Invariant: neither the child nor our memory waits for a reader of its lines.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::wire::printable::printable;

/// Lines that are kept.
const LINES_MAX: usize = 200;
/// Bytes of one line that are kept.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of all lines that are kept.
const BYTES_MAX: usize = 256 * 1024;
/// Lines that are logged in one [`PERIOD`].
const LOGGED_MAX: usize = 100;
/// Lines that are heard in one [`PERIOD`], whatever their number; beyond, only the ends of what is read at once.
const HEARD_MAX: usize = 5000;
const PERIOD: Duration = Duration::from_secs(1);

/// The last lines of one child.
#[derive(Debug, Default)]
pub(super) struct Stderr {
    tail: Mutex<Tail>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// What came since the last end of a line.
    partial: Vec<u8>,
}

impl Stderr {
    /// The last lines, printable; an unfinished one is the last.
    pub(super) fn tail(&self, lines: usize) -> Vec<String> {
        let tail = self.lock();
        let partial = (!tail.partial.is_empty()).then_some(&tail.partial);
        let mut last: Vec<_> = partial.into_iter().chain(tail.lines.iter().rev()).take(lines.min(LINES_MAX)).collect();
        last.reverse();
        last.into_iter().map(|line| printable(line)).collect()
    }

    /// Lines that were not logged because too many came.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn extend(&mut self, part: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.partial);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(mut first) = self.lines.pop_front() else { break };
            self.bytes -= first.len();
            // Its memory serves the next line.
            first.clear();
            self.partial = first;
        }
    }
}

/// What a child printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Printed {
    /// A line, printable.
    Line(String),
    /// So many lines that came too fast to be looked at.
    Dropped(u64),
}

/// Hears what a child prints on stderr, and its pid. It must not wait: the child would.
pub type Hears = Arc<dyn Fn(u32, Vec<Printed>) + Send + Sync>;

/// Reads a child's stderr until it ends.
pub(super) async fn drain(
    mut source: impl AsyncRead + Unpin,
    name: Arc<str>,
    pid: u32,
    stderr: Arc<Stderr>,
    hears: Option<Hears>,
) {
    let mut block = vec![0; 64 * 1024];
    let mut rate = Rate::new();
    while let Ok(length @ 1..) = source.read(&mut block).await {
        let (to_log, to_hear) = rate.left(&name, pid);
        let part = &block[..length];
        let count = memchr::memchr_iter(b'\n', part).count();
        let (mut logged, mut heard, mut begin) = (Vec::new(), Vec::new(), 0);
        {
            let mut tail = stderr.lock();
            for (index, end) in memchr::memchr_iter(b'\n', part).enumerate() {
                // Of a flood only its two ends are looked at.
                if index < to_log.max(to_hear) || index + LINES_MAX >= count {
                    tail.extend(&part[begin..end]);
                    tail.end_line();
                    let line = tail.lines.back().filter(|_| index < to_log || hears.is_some());
                    let line = line.map(|line| printable(line)).unwrap_or_default();
                    logged.extend((index < to_log).then(|| line.clone()));
                    heard.push(Printed::Line(line));
                } else {
                    tail.partial.clear();
                    match heard.last_mut() {
                        Some(Printed::Dropped(dropped)) => *dropped += 1,
                        _ => heard.push(Printed::Dropped(1)),
                    }
                }
                begin = end + 1;
            }
            tail.extend(&part[begin..]);
        }
        if let Some(hears) = hears.as_ref().filter(|_| !heard.is_empty()) {
            hears(pid, heard);
        }
        for line in &logged {
            tracing::debug!(upstream = %name, pid, "stderr: {line}");
        }
        let dropped = (count - logged.len()) as u64;
        rate.read += count;
        rate.logged += logged.len();
        rate.dropped += dropped;
        stderr.dropped.fetch_add(dropped, Ordering::Relaxed);
    }
    rate.tell(&name, pid);
    // Last words often lack the end of a line.
    let last = Some(stderr.lock().partial.clone()).filter(|last| !last.is_empty());
    if let (Some(last), Some(hears)) = (last, hears) {
        hears(pid, vec![Printed::Line(printable(&last))]);
    }
}

/// How much came of late.
struct Rate {
    since: Instant,
    read: usize,
    logged: usize,
    dropped: u64,
}

impl Rate {
    fn new() -> Rate {
        Rate { since: Instant::now(), read: 0, logged: 0, dropped: 0 }
    }

    /// How many lines may be logged now, and how many are heard in any case.
    fn left(&mut self, name: &str, pid: u32) -> (usize, usize) {
        if self.since.elapsed() >= PERIOD {
            self.tell(name, pid);
            *self = Rate::new();
        }
        (LOGGED_MAX - self.logged, HEARD_MAX.saturating_sub(self.read))
    }

    fn tell(&self, name: &str, pid: u32) {
        if self.dropped > 0 {
            tracing::debug!(upstream = %name, pid, "stderr: {} lines dropped", self.dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drained(text: &[u8]) -> Arc<Stderr> {
        let stderr = Arc::new(Stderr::default());
        drain(text, "test".into(), 1, stderr.clone(), None).await;
        stderr
    }

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let stderr = drained(b"one\r\ntwo\n\nlast").await;
        assert_eq!(stderr.tail(50), ["one", "two", "", "last"]);
        assert_eq!(stderr.tail(2), ["", "last"]);
        assert_eq!(stderr.dropped(), 0);
    }

    /// What is heard of a text.
    async fn heard(text: &[u8]) -> Vec<Printed> {
        let all = Arc::new(Mutex::new(Vec::new()));
        let kept = all.clone();
        let hears: Hears = Arc::new(move |pid, printed| {
            assert_eq!(pid, 7);
            kept.lock().unwrap().extend(printed);
        });
        drain(text, "test".into(), 7, Arc::default(), Some(hears)).await;
        let all = all.lock().unwrap();
        all.clone()
    }

    #[tokio::test]
    async fn each_line_is_heard_in_turn_and_last_words_without_an_end() {
        let line = |text: &str| Printed::Line(text.to_owned());
        assert_eq!(heard(b"one\r\n\x1b[2Jtwo\nlast").await, [line("one"), line("\\u{1b}[2Jtwo"), line("last")]);
        let many: String = (0..1000).map(|n| format!("{n}\n")).collect();
        assert_eq!(heard(many.as_bytes()).await.len(), 1000, "more than is kept");
    }

    #[tokio::test]
    async fn f11_of_a_flood_the_ends_are_heard_and_the_rest_is_counted() {
        let lines = 100_000;
        let text: String = (0..lines).map(|n| format!("line {n}\n")).collect();
        let heard = heard(text.as_bytes()).await;
        let counted = heard.iter().map(|printed| match printed {
            Printed::Line(_) => 1,
            Printed::Dropped(dropped) => *dropped,
        });
        assert_eq!(counted.sum::<u64>(), lines);
        assert!(heard.len() < 20_000, "{}", heard.len());
        assert_eq!(heard.last(), Some(&Printed::Line(format!("line {}", lines - 1))));
    }

    #[tokio::test]
    async fn f11_memory_is_bounded_and_what_is_dropped_is_counted() {
        let lines = 100_000;
        let text: String = (0..lines).map(|n| format!("line {n}\n")).collect();
        let stderr = drained(text.as_bytes()).await;
        let tail = stderr.tail(usize::MAX);
        assert_eq!((tail.len(), tail.first().unwrap().as_str()), (LINES_MAX, "line 99800"));
        assert!(tail.windows(2).all(|pair| pair[0].len() == pair[1].len()), "no line is missing its begin");
        assert!(stderr.dropped() >= lines - 1000, "{}", stderr.dropped());

        let wide = drained(&[vec![b'x'; 1 << 20], b"\n".to_vec()].concat().repeat(100)).await;
        assert!(wide.tail(1)[0].len() == LINE_BYTES_MAX);
        assert!(wide.lock().bytes <= BYTES_MAX && wide.lock().lines.len() >= 30);
    }
}
