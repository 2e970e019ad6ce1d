//! The last lines of one upstream: what its processes print on stderr, and what the hub did with them.
//!
//! It belongs to the name: it outlives processes, and definitions that follow one another. A follower reads the same
//! ring, by the numbers of its lines: one that is too slow finds some gone, and is told how many. So nobody ever waits
//! for a reader, and readers cost no memory.

use std::{
    collections::VecDeque,
    fmt::Display,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::shelf::{Shelf, Volume};
use crate::wire::printable::printable;

/// Lines that are kept.
pub const LINES_MAX: usize = 1000;
/// Bytes of all lines that are kept.
const BYTES_MAX: usize = 256 * 1024;

/// One line, printable: control characters are escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub time: SystemTime,
    /// The process that it is from, or about; none where there is none, as of a server elsewhere.
    pub pid: Option<u32>,
    pub kind: Kind,
    pub text: Arc<str>,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server printed it.
    Stderr,
    /// The hub says it about the upstream: a start, an end and its reason.
    Hub,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Stderr => "stderr",
            Kind::Hub => "hub",
        }
    }
}

/// The last lines of one upstream.
#[derive(Debug, Default)]
pub struct Journal {
    ring: Mutex<Ring>,
    /// The file that the lines go to as well.
    volume: ArcSwapOption<Volume>,
    /// There are new lines.
    stirred: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    /// The number that the next line will have; the first was 0.
    next: u64,
}

impl Journal {
    /// The hub says something about the upstream, or one of its processes.
    pub fn say(&self, pid: Option<u32>, text: impl Display) {
        self.extend(pid, [(Kind::Hub, printable(text.to_string().as_bytes()))]);
    }

    /// Adds lines that are printable already.
    pub fn extend(&self, pid: Option<u32>, lines: impl IntoIterator<Item = (Kind, String)>) {
        let time = SystemTime::now();
        {
            let (mut ring, volume) = (self.ring(), self.volume.load());
            for (kind, text) in lines {
                let line = Line { time, pid, kind, text: text.into() };
                volume.iter().for_each(|volume| volume.put(line.clone()));
                ring.push(line);
            }
        }
        self.stirred.notify_waiters();
    }

    /// From now on the lines go to this file too, or to none.
    pub fn keep_in(&self, shelf: &Shelf, upstream: &str, path: Option<&Path>) {
        if self.volume.load().as_ref().map(|volume| volume.path()) != path {
            self.volume.store(path.map(|path| shelf.volume(upstream, path)));
        }
    }

    /// Why the file is not written, if it is not.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.volume.load().as_ref().and_then(|volume| volume.trouble())
    }

    /// The last lines, the oldest first.
    pub fn tail(&self, lines: usize) -> Vec<Line> {
        let ring = self.ring();
        ring.lines.iter().skip(ring.lines.len().saturating_sub(lines)).cloned().collect()
    }

    /// Reads on from here, and begins with the last lines that there are.
    pub fn follow(self: &Arc<Self>, lines: usize) -> Follower {
        let ring = self.ring();
        let next = ring.next - ring.lines.len().min(lines) as u64;
        Follower { journal: self.clone(), next }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, line: Line) {
        self.bytes += line.text.len();
        self.next += 1;
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.text.len();
        }
    }
}

/// Reads the lines of an upstream as they come.
#[derive(Debug)]
pub struct Follower {
    journal: Arc<Journal>,
    next: u64,
}

/// What came since a follower last looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Lines before these that it was too slow for.
    pub lost: u64,
    pub lines: Vec<Line>,
}

impl Follower {
    /// What came since the last time; waits until there is something. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> News {
        loop {
            let journal = self.journal.clone();
            let stirred = journal.stirred.notified();
            if let Some(news) = self.look() {
                return news;
            }
            stirred.await;
        }
    }

    /// What came since the last time, if anything did.
    pub fn look(&mut self) -> Option<News> {
        let ring = self.journal.ring();
        let first = ring.next - ring.lines.len() as u64;
        let (lost, begin) = (first.saturating_sub(self.next), self.next.max(first));
        let lines: Vec<Line> = ring.lines.iter().skip((begin - first) as usize).cloned().collect();
        self.next = ring.next;
        (lost > 0 || !lines.is_empty()).then_some(News { lost, lines })
    }

    /// Is it this journal that is followed?
    pub fn is_of(&self, journal: &Arc<Journal>) -> bool {
        Arc::ptr_eq(&self.journal, journal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| &*line.text).collect()
    }

    fn printed(journal: &Journal, texts: impl IntoIterator<Item = String>) {
        journal.extend(Some(7), texts.into_iter().map(|text| (Kind::Stderr, text)));
    }

    #[test]
    fn the_tail_tells_who_said_what() {
        let journal = Journal::default();
        journal.say(None, "starting");
        printed(&journal, ["hello".to_owned()]);
        let tail = journal.tail(10);
        assert_eq!(texts(&tail), ["starting", "hello"]);
        assert_eq!((tail[0].kind, tail[0].pid), (Kind::Hub, None));
        assert_eq!((tail[1].kind, tail[1].pid), (Kind::Stderr, Some(7)));
        assert_eq!(texts(&journal.tail(1)), ["hello"]);
        assert_eq!(journal.tail(0), []);
    }

    #[test]
    fn f17_what_the_hub_says_is_one_line_whatever_it_repeats() {
        let journal = Journal::default();
        journal.say(None, "exit\r\n\x1b[31m\u{9b}\u{202e}");
        assert_eq!(texts(&journal.tail(1)), ["exit\\r\\n\\u{1b}[31m\\u{9b}\\u{202e}"]);
    }

    #[test]
    fn f11_the_ring_is_bounded_by_lines_and_by_bytes() {
        let journal = Journal::default();
        printed(&journal, (0..LINES_MAX + 5).map(|n| n.to_string()));
        assert_eq!(journal.tail(usize::MAX).len(), LINES_MAX);
        assert_eq!(&*journal.tail(usize::MAX)[0].text, "5");
        printed(&journal, (0..40).map(|_| "x".repeat(8 * 1024)));
        let tail = journal.tail(usize::MAX);
        assert_eq!(tail.iter().map(|line| line.text.len()).sum::<usize>(), BYTES_MAX);
        assert_eq!(tail.len(), 32);
    }

    #[tokio::test]
    async fn a_follower_begins_with_the_last_lines_and_waits_for_more() {
        let journal = Arc::new(Journal::default());
        printed(&journal, ["a", "b", "c"].map(str::to_owned));
        let mut follower = journal.follow(2);
        assert_eq!(texts(&follower.next().await.lines), ["b", "c"]);
        assert_eq!(follower.look(), None);
        let other = journal.clone();
        let (news, ()) = tokio::join!(follower.next(), async { printed(&other, ["d".to_owned()]) });
        assert_eq!((news.lost, texts(&news.lines)), (0, vec!["d"]));
    }

    #[tokio::test]
    async fn f11_a_slow_follower_delays_nobody_and_is_told_what_it_lost() {
        let journal = Arc::new(Journal::default());
        let mut follower = journal.follow(0);
        printed(&journal, (0..LINES_MAX + 500).map(|n| n.to_string()));
        let news = follower.next().await;
        assert_eq!((news.lost, news.lines.len(), &*news.lines[0].text), (500, LINES_MAX, "500"));
    }
}
