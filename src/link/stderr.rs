//! What a child says on stderr: always drained, the last lines kept, a few a second logged.
//!
//! Nobody reads these lines but people, so they are kept as bytes and made printable when they are shown.
//! Invariant: neither the child nor our memory waits for a reader of its lines.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Lines that are kept.
const LINES_MAX: usize = 200;
/// Bytes of one line that are kept.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of all lines that are kept.
const BYTES_MAX: usize = 256 * 1024;
/// Lines that are logged in one [`PERIOD`].
const LOGGED_MAX: u64 = 100;
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
        last.into_iter().map(|line| escape(line)).collect()
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

/// Reads a child's stderr until it ends.
pub(super) async fn drain(mut source: impl AsyncRead + Unpin, name: Arc<str>, stderr: Arc<Stderr>) {
    let mut block = vec![0; 64 * 1024];
    let mut rate = Rate { since: Instant::now(), logged: 0, dropped: 0 };
    while let Ok(length @ 1..) = source.read(&mut block).await {
        let to_log = rate.left(&name);
        let part = &block[..length];
        let count = memchr::memchr_iter(b'\n', part).count();
        let (mut logged, mut begin) = (Vec::new(), 0);
        {
            let mut tail = stderr.lock();
            for (index, end) in memchr::memchr_iter(b'\n', part).enumerate() {
                // Of a flood only its two ends are looked at.
                if index < to_log || index + LINES_MAX >= count {
                    tail.extend(&part[begin..end]);
                    tail.end_line();
                } else {
                    tail.partial.clear();
                }
                if index < to_log {
                    logged.extend(tail.lines.back().map(|line| escape(line)));
                }
                begin = end + 1;
            }
            tail.extend(&part[begin..]);
        }
        for line in &logged {
            tracing::debug!(upstream = %name, "stderr: {line}");
        }
        let dropped = (count - logged.len()) as u64;
        rate.logged += logged.len() as u64;
        rate.dropped += dropped;
        stderr.dropped.fetch_add(dropped, Ordering::Relaxed);
    }
    rate.tell(&name);
}

/// How much was logged of late.
struct Rate {
    since: Instant,
    logged: u64,
    dropped: u64,
}

impl Rate {
    /// How many lines may be logged now.
    fn left(&mut self, name: &str) -> usize {
        if self.since.elapsed() >= PERIOD {
            self.tell(name);
            *self = Rate { since: Instant::now(), logged: 0, dropped: 0 };
        }
        (LOGGED_MAX - self.logged) as usize
    }

    fn tell(&self, name: &str) {
        if self.dropped > 0 {
            tracing::debug!(upstream = %name, "stderr: {} lines dropped", self.dropped);
        }
    }
}

/// Makes bytes printable: no control characters, nothing that turns the direction of the text.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => text.push(' '),
                '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => text.extend(c.escape_unicode()),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drained(text: &[u8]) -> Arc<Stderr> {
        let stderr = Arc::new(Stderr::default());
        drain(text, "test".into(), stderr.clone()).await;
        stderr
    }

    #[test]
    fn f17_what_a_terminal_would_obey_is_escaped() {
        let cases: [(&[u8], &str); 6] = [
            (b"plain \xC3\xA9", "plain é"),
            (b"\x1b[31mred", "\\u{1b}[31mred"),
            (b"a\0b\rc\x7f", "a\\u{0}b\\rc\\u{7f}"),
            (b"a\tb", "a b"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("\u{202e}evil\u{9b}".as_bytes(), "\\u{202e}evil\\u{9b}"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(escape(bytes), expected);
        }
    }

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let stderr = drained(b"one\r\ntwo\n\nlast").await;
        assert_eq!(stderr.tail(50), ["one", "two", "", "last"]);
        assert_eq!(stderr.tail(2), ["", "last"]);
        assert_eq!(stderr.dropped(), 0);
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
