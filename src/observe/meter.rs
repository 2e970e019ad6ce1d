//! What is counted of one upstream: its calls by kind and outcome, how long they took, and the last of them.
//!
//! One short lock at the end of each call. Everything has a maximum, whatever names an upstream gives its tools: what
//! is beyond is counted as [`OTHER`].

mod minutes;

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

pub use minutes::{Lately, Minute};

use minutes::Minutes;

/// What names beyond the maximum are counted as.
pub const OTHER: &str = "_other";
/// Names of tools and prompts that are told apart.
const NAMES_MAX: usize = 100;
/// Codes of errors that are told apart.
const CODES_MAX: usize = 20;
/// Kinds of calls that are told apart: methods, names, outcomes and revisions together.
const KINDS_MAX: usize = 1000;
/// Last calls that are kept.
const CALLS_MAX: usize = 50;
/// Starts, stops and changes that are kept, and the longest text of one, in characters.
const MOMENTS_MAX: usize = 100;
const TEXT_MAX: usize = 1000;

/// Upper bounds of the buckets, in seconds: those of OpenTelemetry's conventions, and three for what a hub on the same
/// machine takes.
pub const BOUNDS: [f64; 17] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Methods that are told apart.
const METHODS: [&str; 18] = [
    "initialize",
    "server/discover",
    "ping",
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "subscriptions/listen",
    "completion/complete",
    "logging/setLevel",
    "tasks/get",
    "tasks/result",
    "tasks/cancel",
];

/// A method as it is counted.
pub fn method(name: &str) -> &'static str {
    known(name).unwrap_or(OTHER)
}

/// A method that is told apart.
pub fn known(name: &str) -> Option<&'static str> {
    METHODS.into_iter().find(|known| *known == name)
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Ok,
    /// The tool says that it failed.
    ToolError,
    /// A JSON-RPC error, with its code.
    Error(i64),
    /// There was no answer.
    Failed,
    Cancelled,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::ToolError => "tool_error",
            Outcome::Error(_) => "error",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        }
    }

    pub fn code(self) -> Option<i64> {
        if let Outcome::Error(code) = self { Some(code) } else { None }
    }

    /// The attribute `error.type` of OpenTelemetry's conventions; none where nothing went wrong.
    pub fn error_type(self) -> Option<String> {
        match self {
            Outcome::Ok => None,
            Outcome::Error(i64::MIN) => Some(OTHER.to_owned()),
            Outcome::Error(code) => Some(code.to_string()),
            other => Some(other.as_str().to_owned()),
        }
    }

    /// Whether it counts as trouble. A client that cancels wanted no answer.
    pub fn is_error(self) -> bool {
        !matches!(self, Outcome::Ok | Outcome::Cancelled)
    }
}

/// Calls that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    pub method: &'static str,
    /// The tool or prompt that was called.
    pub name: Option<Arc<str>>,
    pub outcome: Outcome,
    /// The client's.
    pub revision: &'static str,
}

/// How long calls took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub count: u64,
    pub sum: Duration,
    /// One more than [`BOUNDS`]: the last is for what took longer.
    pub buckets: [u64; BOUNDS.len() + 1],
}

impl Histogram {
    pub fn merge(&mut self, other: &Histogram) {
        self.count += other.count;
        self.sum += other.sum;
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum += count);
    }

    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.sum += took;
        self.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
    }
}

/// One call, as it is shown. What it was about is not kept.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: SystemTime,
    pub principal: Arc<str>,
    pub method: Cow<'static, str>,
    pub name: Option<Arc<str>>,
    pub outcome: Outcome,
    pub took: Duration,
    pub bytes_in: usize,
    pub bytes_out: usize,
}

/// Something that happened to the upstream.
#[derive(Clone, Debug)]
pub struct Moment {
    pub at: SystemTime,
    pub event: &'static str,
    pub text: String,
}

/// Counts for one upstream, however often it is defined anew.
#[derive(Debug)]
pub struct Meter {
    in_flight: AtomicUsize,
    /// Calls that were sent to the upstream, or tried to,
    forwarded: AtomicU64,
    /// and those of them that it did not answer.
    lost: AtomicU64,
    born: Instant,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    names: HashMap<Box<str>, Arc<str>>,
    codes: Vec<i64>,
    kinds: HashMap<Kind, Times>,
    /// How long sessions lasted, by revision.
    sessions: HashMap<&'static str, Histogram>,
    starts: Histogram,
    minutes: Minutes,
    calls: VecDeque<Call>,
    moments: VecDeque<Moment>,
}

/// How long calls of one kind took.
#[derive(Debug, Default)]
struct Times {
    /// From the arrival of a request to its answer,
    served: Histogram,
    /// and from the moment it was sent on.
    asked: Histogram,
}

/// All that was counted, as it was in one moment.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub in_flight: usize,
    pub served: Vec<(Kind, Histogram)>,
    pub asked: Vec<(Kind, Histogram)>,
    pub sessions: Vec<(&'static str, Histogram)>,
    pub starts: Histogram,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            in_flight: AtomicUsize::new(0),
            forwarded: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            born: Instant::now(),
            book: Mutex::default(),
        }
    }
}

impl Meter {
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn forwarded(&self) {
        self.forwarded.fetch_add(1, Ordering::Relaxed);
    }

    pub fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub fn calls_forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    pub fn calls_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn begun(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call ended. `asked`: how long ago it was sent to the upstream, if it was.
    pub(super) fn ended(&self, call: Call, revision: &'static str, asked: Option<Duration>) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut book = self.book();
        let kind = book.kind(&call, revision);
        let times = book.kinds.entry(kind).or_default();
        times.served.add(call.took);
        if let Some(asked) = asked {
            times.asked.add(asked);
        }
        book.minutes.add(self.minute(), call.took, call.outcome.is_error());
        if book.calls.len() == CALLS_MAX {
            book.calls.pop_front();
        }
        book.calls.push_back(call);
    }

    pub fn session_ended(&self, revision: &'static str, lasted: Duration) {
        self.book().sessions.entry(revision).or_default().add(lasted);
    }

    pub fn started(&self, took: Duration) {
        self.book().starts.add(took);
    }

    /// Keeps in mind what happened, and when.
    pub fn note(&self, event: &'static str, text: &str) {
        let moment = Moment { at: SystemTime::now(), event, text: text.chars().take(TEXT_MAX).collect() };
        let mut book = self.book();
        if book.moments.len() == MOMENTS_MAX {
            book.moments.pop_front();
        }
        book.moments.push_back(moment);
    }

    pub fn counts(&self) -> Counts {
        let book = self.book();
        Counts {
            in_flight: self.in_flight(),
            served: book.times(|times| &times.served),
            asked: book.times(|times| &times.asked),
            sessions: book.sessions.iter().map(|(revision, times)| (*revision, times.clone())).collect(),
            starts: book.starts.clone(),
        }
    }

    /// The last minutes in one.
    pub fn lately(&self) -> Lately {
        self.book().minutes.lately(self.minute())
    }

    /// The last hour, oldest first.
    pub fn hour(&self) -> Vec<Minute> {
        self.book().minutes.hour(self.minute())
    }

    /// The last calls, newest first.
    pub fn calls(&self) -> Vec<Call> {
        self.book().calls.iter().rev().cloned().collect()
    }

    /// The last moments, newest first.
    pub fn moments(&self) -> Vec<Moment> {
        self.book().moments.iter().rev().cloned().collect()
    }

    fn minute(&self) -> u64 {
        self.born.elapsed().as_secs() / 60
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn kind(&mut self, call: &Call, revision: &'static str) -> Kind {
        let name = call.name.as_ref().map(|name| self.name(name, call.outcome == Outcome::Ok));
        let outcome = match call.outcome {
            Outcome::Error(code) => Outcome::Error(self.code(code)),
            other => other,
        };
        let kind = Kind { method: method(&call.method), name, outcome, revision };
        match self.kinds.len() < KINDS_MAX || self.kinds.contains_key(&kind) {
            true => kind,
            false => Kind { name: kind.name.map(|_| OTHER.into()), ..kind },
        }
    }

    fn times(&self, which: impl Fn(&Times) -> &Histogram) -> Vec<(Kind, Histogram)> {
        let all = self.kinds.iter().map(|(kind, times)| (kind, which(times)));
        all.filter(|(_, times)| times.count > 0).map(|(kind, times)| (kind.clone(), times.clone())).collect()
    }

    /// Only what has answered exists: nobody fills the table with names that they made up.
    fn name(&mut self, name: &Arc<str>, exists: bool) -> Arc<str> {
        if let Some(known) = self.names.get(&**name) {
            return known.clone();
        }
        if !exists || self.names.len() >= NAMES_MAX {
            return OTHER.into();
        }
        self.names.insert((&**name).into(), name.clone());
        name.clone()
    }

    fn code(&mut self, code: i64) -> i64 {
        if self.codes.contains(&code) {
            return code;
        }
        if self.codes.len() >= CODES_MAX {
            return i64::MIN;
        }
        self.codes.push(code);
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, name: Option<&str>, outcome: Outcome, millis: u64) -> Call {
        Call {
            at: SystemTime::now(),
            principal: "anybody".into(),
            method: method.to_owned().into(),
            name: name.map(Into::into),
            outcome,
            took: Duration::from_millis(millis),
            bytes_in: 1,
            bytes_out: 2,
        }
    }

    fn end(meter: &Meter, call: Call) {
        meter.begun();
        meter.ended(call, "r", None);
    }

    #[test]
    fn calls_are_counted_by_kind_and_by_how_long_they_took() {
        let meter = Meter::default();
        meter.begun();
        assert_eq!(meter.in_flight(), 1);
        meter.ended(call("tools/call", Some("echo"), Outcome::Ok, 3), "r", Some(Duration::from_millis(2)));
        end(&meter, call("tools/call", Some("echo"), Outcome::Ok, 700_000));
        end(&meter, call("tools/call", Some("echo"), Outcome::Error(-32602), 5));
        let counts = meter.counts();
        assert_eq!((counts.in_flight, counts.served.len(), counts.asked.len()), (0, 2, 1));
        let (_, ok) = counts.served.iter().find(|(kind, _)| kind.outcome == Outcome::Ok).unwrap();
        assert_eq!((ok.count, ok.sum), (2, Duration::from_millis(700_003)));
        assert_eq!((ok.buckets[2], ok.buckets[BOUNDS.len()]), (1, 1), "3 ms are within 5 ms, and 700 s beyond all");
        // A bound belongs to its bucket.
        let (_, error) = counts.served.iter().find(|(kind, _)| kind.outcome != Outcome::Ok).unwrap();
        assert_eq!(error.buckets[2], 1);
        assert_eq!(counts.asked[0].1.sum, Duration::from_millis(2));
    }

    #[test]
    fn whatever_an_upstream_calls_its_tools_the_table_stays_small() {
        let meter = Meter::default();
        for n in 0..5000 {
            end(&meter, call("tools/call", Some(&format!("tool{n}")), Outcome::Ok, 1));
            end(&meter, call("tools/call", Some(&format!("made up {n}")), Outcome::Error(n), 1));
            end(&meter, call(&format!("made/up/{n}"), None, Outcome::Ok, 1));
        }
        let counts = meter.counts();
        assert!(counts.served.len() <= KINDS_MAX + CODES_MAX + 2, "{}", counts.served.len());
        let all: u64 = counts.served.iter().map(|(_, times)| times.count).sum();
        assert_eq!(all, 15_000, "nothing is lost");
        let names = counts.served.iter().filter_map(|(kind, _)| kind.name.as_deref());
        assert!(!names.into_iter().any(|name| name.starts_with("made up")));
        assert!(counts.served.iter().any(|(kind, _)| kind.name.as_deref() == Some(OTHER)));
        assert!(counts.served.iter().any(|(kind, _)| kind.outcome.error_type().as_deref() == Some(OTHER)));
        assert_eq!(meter.calls().len(), CALLS_MAX);
        assert_eq!(meter.calls()[0].method, "made/up/4999");
    }
}
