//! What passes a link, for those who watch: [`tap`] goes round any link, a [`Recorder`] serves the connections of one
//! upstream.
//!
//! A recorder belongs to a name, and outlives what it records. While nobody watches, a message costs one load. Each who
//! watches has a bounded queue: what does not fit is lost and counted, so no call ever waits for one that watches. What a
//! message is, is found out where it is shown.

#[cfg(test)]
mod tests;
mod watcher;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::mpsc;
pub use watcher::{Line, Seen, Tap};

use super::{Inbound, Link, Outbound, Peer, pair};
use crate::wire::{Id, Message};

/// Taps on one upstream at once.
pub const TAPS_MAX: usize = 8;
/// Messages that may wait to be shown by one tap.
const ENTRIES_MAX: usize = 1024;
/// Bytes of messages that may wait so, for they keep their memory. A single one may be larger.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// One thing that passed a link.
#[derive(Clone, Copy, Debug)]
pub enum Passed<'a> {
    /// To the peer.
    To(&'a Outbound),
    /// From the peer.
    From(&'a Inbound),
    /// We have ended: the peer is sent nothing more.
    Close,
    /// The peer has ended: nothing more comes.
    Closed,
}

/// A link round a link: `observer` sees what passes, in the order in which it does, and the ends. What it makes of that
/// is its business: it must not block, and where it panics that is logged and the message passes all the same. Call it
/// within a runtime.
pub fn tap(link: Link, observer: impl Fn(Passed) + Send + Sync + 'static) -> Link {
    let Link { to: onward, from: mut back, .. } = link;
    let (ours, Peer { mut from, to }) = pair();
    let observer = Arc::new(move |passed: Passed| {
        if catch_unwind(AssertUnwindSafe(|| observer(passed))).is_err() {
            tracing::error!("the observer of a link panicked");
        }
    });
    let seen = observer.clone();
    tokio::spawn(async move {
        // Room first: what is seen has passed.
        while let Ok(room) = onward.reserve().await {
            let next = tokio::select! {
                next = from.recv() => next,
                () = onward.closed() => None,
            };
            let Some(outbound) = next else {
                if !onward.is_closed() {
                    observer(Passed::Close);
                }
                return;
            };
            observer(Passed::To(&outbound));
            room.send(outbound);
        }
    });
    tokio::spawn(async move {
        while let Ok(room) = to.reserve().await {
            let next = tokio::select! {
                next = back.recv() => next,
                () = to.closed() => None,
            };
            let Some(inbound) = next else {
                if !to.is_closed() {
                    seen(Passed::Closed);
                }
                return;
            };
            seen(Passed::From(&inbound));
            room.send(inbound);
        }
    });
    ours
}

/// What passes the connections of one upstream, for those who watch.
#[derive(Default)]
pub struct Recorder {
    taps: ArcSwapOption<Vec<Queue>>,
    last_connection: AtomicU64,
    last_tap: AtomicU64,
}

/// The way to one who watches.
#[derive(Clone)]
struct Queue {
    number: u64,
    to: mpsc::Sender<Entry>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

/// What passed, as it waits to be shown.
struct Entry {
    at: Instant,
    time: SystemTime,
    from: Place,
    what: What,
    /// As many are missing before it.
    lost: u64,
}

#[derive(Clone)]
enum What {
    Sent(Bytes),
    Came(Message),
    TooLong(Option<Id>, u64),
    Unreadable(String),
    Failed(u64, String),
}

/// Which connection.
#[derive(Clone, Copy)]
struct Place {
    /// Unlike an instance's number, never used twice.
    connection: u64,
    instance: u64,
    pid: Option<u32>,
}

/// With what a connection tells its recorder what passes.
pub struct Probe {
    recorder: Arc<Recorder>,
    place: Place,
}

impl Recorder {
    /// For one connection, of one instance.
    pub fn probe(self: &Arc<Self>, instance: u64, pid: Option<u32>) -> Probe {
        let connection = self.last_connection.fetch_add(1, Ordering::Relaxed);
        Probe { recorder: self.clone(), place: Place { connection, instance, pid } }
    }

    /// Watches, until dropped. None where as many do as may.
    pub fn tap(self: &Arc<Self>) -> Option<Tap> {
        let (to, from) = mpsc::channel(ENTRIES_MAX);
        let number = self.last_tap.fetch_add(1, Ordering::Relaxed);
        let queue = Queue { number, to, waiting: Arc::default(), lost: Arc::default() };
        let before = self.taps.rcu(|now| match now.as_deref() {
            Some(taps) if taps.len() >= TAPS_MAX => now.clone(),
            now => Some(Arc::new(now.into_iter().flatten().chain([&queue]).cloned().collect())),
        });
        let room = before.is_none_or(|taps| taps.len() < TAPS_MAX);
        room.then(|| Tap::new(self, number, from, queue.waiting, queue.lost))
    }

    /// How many watch.
    pub fn taps(&self) -> usize {
        self.taps.load().as_deref().map_or(0, Vec::len)
    }
}

impl Probe {
    pub fn show(&self, passed: Passed) {
        if let Some(taps) = self.recorder.taps.load().as_deref() {
            taps.iter().for_each(|tap| tap.offer(self.place, passed));
        }
    }
}

impl Queue {
    fn offer(&self, place: Place, passed: Passed) {
        match passed {
            Passed::To(outbound) => self.put(place, What::Sent(outbound.bytes.clone())),
            Passed::From(Inbound::Message(message) | Inbound::About(_, message)) => {
                self.put(place, What::Came(message.clone()));
            }
            Passed::From(Inbound::Batch(messages)) => {
                messages.iter().for_each(|message| self.put(place, What::Came(message.clone())));
            }
            Passed::From(Inbound::TooLong { id, bytes }) => self.put(place, What::TooLong(id.clone(), *bytes)),
            Passed::From(Inbound::Unreadable(error)) => self.put(place, What::Unreadable(error.to_string())),
            Passed::From(Inbound::Failed(id, error)) => self.put(place, What::Failed(*id, error.to_string())),
            Passed::From(Inbound::Doubt) | Passed::Close | Passed::Closed => {}
        }
    }

    fn put(&self, from: Place, what: What) {
        let bytes = what.bytes();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let entry = Entry { at: Instant::now(), time: SystemTime::now(), from, what, lost };
        let fits = before == 0 || before + bytes <= WAITING_BYTES_MAX;
        if !fits || self.to.try_send(entry).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

impl What {
    /// What it keeps in memory.
    fn bytes(&self) -> usize {
        match self {
            What::Sent(bytes) => bytes.len(),
            What::Came(message) => message.bytes().len(),
            What::Unreadable(why) | What::Failed(_, why) => why.len(),
            What::TooLong(..) => 0,
        }
    }
}
