//! One who watches: what waited is put into words, requests are paired with their answers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::{Entry, Queue, Recorder, What};
use crate::wire::{Id, Kind, Message, message, object::Object};

/// Requests whose answers are waited for by one tap. With more, all of them are forgotten.
const CALLS_MAX: usize = 4096;
/// Bytes of a body that are shown.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// One who watches.
pub struct Tap {
    recorder: Weak<Recorder>,
    number: u64,
    from: mpsc::Receiver<Entry>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    /// Requests that are not answered yet: whether they were sent, on which connection, and their ids.
    calls: HashMap<(bool, u64, Id), (Box<str>, Instant)>,
    next: Option<Box<Line>>,
}

/// What a tap shows.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Seen {
    Passed(Box<Line>),
    /// As many passed while the queue was full.
    Lost {
        lost: u64,
    },
}

/// One message that passed.
#[derive(Debug, Serialize)]
pub struct Line {
    time: String,
    /// `sent` to the upstream, or `received` from it.
    direction: &'static str,
    instance: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    kind: &'static str,
    /// Of a response: the method it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    /// Of an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i64>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip)]
    whole: Bytes,
}

impl Tap {
    pub(super) fn new(
        recorder: &Arc<Recorder>,
        number: u64,
        from: mpsc::Receiver<Entry>,
        waiting: Arc<AtomicUsize>,
        lost: Arc<AtomicU64>,
    ) -> Tap {
        Tap { recorder: Arc::downgrade(recorder), number, from, waiting, lost, calls: HashMap::new(), next: None }
    }

    /// What passed next. None once the upstream is gone for good.
    pub async fn next(&mut self) -> Option<Seen> {
        if let Some(line) = self.next.take() {
            return Some(Seen::Passed(line));
        }
        let entry = match self.from.try_recv() {
            Ok(entry) => entry,
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => match self.lost.swap(0, Ordering::Relaxed) {
                0 => self.from.recv().await?,
                lost => return Some(Seen::Lost { lost }),
            },
        };
        self.waiting.fetch_sub(entry.what.bytes(), Ordering::Relaxed);
        let lost = entry.lost;
        let line = Box::new(self.line(entry));
        match lost {
            0 => Some(Seen::Passed(line)),
            lost => {
                self.next = Some(line);
                Some(Seen::Lost { lost })
            }
        }
    }

    fn line(&mut self, entry: Entry) -> Line {
        let Entry { at, time, from, what, .. } = entry;
        let sent = matches!(what, What::Sent(_));
        let mut line = Line {
            time: jiff::Timestamp::try_from(time).map(|time| format!("{time:.3}")).unwrap_or_default(),
            direction: if sent { "sent" } else { "received" },
            instance: from.instance,
            pid: from.pid,
            kind: "unreadable",
            method: None,
            id: None,
            code: None,
            bytes: what.bytes() as u64,
            took_ms: None,
            why: None,
            whole: Bytes::new(),
        };
        let answered = match what {
            What::Sent(bytes) => match message::one(bytes) {
                Some(message) => self.read(&mut line, &message, (true, from.connection), at),
                None => None,
            },
            What::Came(message) => self.read(&mut line, &message, (false, from.connection), at),
            What::TooLong(id, bytes) => {
                (line.kind, line.bytes) = ("too_long", bytes);
                id
            }
            What::Unreadable(why) => {
                (line.bytes, line.why) = (0, Some(why));
                None
            }
            What::Failed(id, why) => {
                (line.kind, line.bytes, line.why) = ("failed", 0, Some(why));
                Some(Id::from(id))
            }
        };
        if let Some(id) = answered {
            // It goes the other way.
            if let Some((method, asked)) = self.calls.remove(&(!sent, from.connection, id.clone())) {
                line.method = Some(method);
                line.took_ms = Some(millis(at.saturating_duration_since(asked)));
            }
            line.id = serde_json::from_str(id.as_json()).ok();
        }
        line
    }

    /// Puts into words what a message is. Answers with the id of the request that it answers.
    fn read(&mut self, line: &mut Line, message: &Message, way: (bool, u64), at: Instant) -> Option<Id> {
        line.whole = message.bytes().clone();
        let id = message.id().cloned();
        match message.kind() {
            Kind::Response => {
                let code = |error: &str| Object::read(error)?.get("code")?.get().parse().ok();
                line.code = message.error().map(|error| code(error).unwrap_or_default());
                line.kind = if line.code.is_some() { "error" } else { "response" };
                return id;
            }
            Kind::Request => line.kind = "request",
            Kind::Notification => line.kind = "notification",
        }
        line.method = Some(message.method().into());
        line.id = id.as_ref().and_then(|id| serde_json::from_str(id.as_json()).ok());
        if let Some(id) = id {
            if self.calls.len() >= CALLS_MAX {
                self.calls.clear();
            }
            self.calls.insert((way.0, way.1, id), (message.method().into(), at));
        }
        None
    }
}

impl Seen {
    /// As others read it; with the message itself where it is wanted.
    pub fn to_json(&self, bodies: bool) -> Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        if let (true, Seen::Passed(line)) = (bodies, self) {
            let (body, whole) = line.body();
            json["body"] = body.into();
            if !whole {
                json["cut"] = true.into();
            }
        }
        json
    }
}

impl Line {
    /// The message's text, and whether that is all of it.
    fn body(&self) -> (&str, bool) {
        let whole = std::str::from_utf8(&self.whole).unwrap_or_default();
        let end = (0..=whole.len().min(BODY_BYTES_MAX)).rev().find(|end| whole.is_char_boundary(*end)).unwrap_or(0);
        (&whole[..end], end == whole.len())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let Some(recorder) = self.recorder.upgrade() else { return };
        recorder.taps.rcu(|now| {
            let others = now.iter().flat_map(|taps| taps.iter()).filter(|tap| tap.number != self.number);
            let others: Vec<Queue> = others.cloned().collect();
            (!others.is_empty()).then(|| Arc::new(others))
        });
    }
}

/// To the microsecond.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
