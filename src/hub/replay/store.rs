//! Where the events are kept that clients may come back for, where an embedding program keeps them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;

/// One event of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The session's number: that of its [`Visit`](crate::Visit). Its id is a secret, and stays in the hub.
    pub session: u64,
    /// The stream's number within the session; 0 is the one that belongs to no request.
    pub stream: u64,
    /// The place in it; places count from 1, without a gap. The client knows the event as `{stream}-{place}`.
    pub place: u64,
    /// One message, or nothing.
    pub data: &'a Bytes,
}

/// Keeps the events of sessions, for clients that come back with `Last-Event-ID` (2025-11-25, basic/transports).
///
/// It is asked within the session's lock, on the way of a message: it must answer from memory or a file at hand, and give
/// what takes longer to somebody else. What it keeps it bounds itself: an event that is gone is no error, the client is
/// told that it cannot resume there. A session ends with the hub, so nothing has to outlive that. What was never handed to
/// a client is not its business; the hub keeps it, within `replay_events_max` and `replay_bytes_max`.
pub trait EventStore: Send + Sync {
    /// Keeps an event.
    fn keep(&self, event: Kept<'_>);

    /// All events of a stream behind a place, in order, with their places; None where one of them is gone.
    fn behind(&self, session: u64, stream: u64, place: u64) -> Option<Vec<(u64, Bytes)>>;

    /// Nobody will ask for this stream any more, or for any of the session: it ended, or it finished 5 minutes ago, or 64
    /// others of the session have finished since.
    fn forget(&self, session: u64, stream: Option<u64>);
}

/// The store as one session sees it. Where it panics, it keeps nothing.
pub(super) struct Store {
    pub events: Arc<dyn EventStore>,
    pub session: u64,
}

impl Store {
    pub fn keep(&self, stream: u64, place: u64, data: &Bytes) {
        self.guarded(|events| events.keep(Kept { session: self.session, stream, place, data }));
    }

    /// The events from behind a place up to one, none missing.
    pub fn behind(&self, stream: u64, place: u64, end: u64) -> Option<Vec<(u64, Bytes)>> {
        let kept = self.guarded(|events| events.behind(self.session, stream, place))??;
        kept.iter().map(|(place, _)| *place).eq(place + 1..end).then_some(kept)
    }

    pub fn forget(&self, stream: Option<u64>) {
        self.guarded(|events| events.forget(self.session, stream));
    }

    fn guarded<T>(&self, work: impl FnOnce(&dyn EventStore) -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| work(&*self.events)));
        done.inspect_err(|_| tracing::error!("the store of events panicked")).ok()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.forget(None);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the store of session {}", self.session)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Mutex, MutexGuard},
    };

    use super::*;
    use crate::hub::replay::{EventId, NoStream, ReplayLimits, STANDALONE, Streams, tests::read};

    type Events = BTreeMap<(u64, u64, u64), Bytes>;

    /// Keeps all, until told otherwise; breaks down at a word.
    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<Events>>);

    impl Shelf {
        fn all(&self) -> MutexGuard<'_, Events> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    impl EventStore for Shelf {
        fn keep(&self, event: Kept<'_>) {
            assert!(event.data != "panic");
            self.all().insert((event.session, event.stream, event.place), event.data.clone());
        }

        fn behind(&self, session: u64, stream: u64, place: u64) -> Option<Vec<(u64, Bytes)>> {
            let range = (session, stream, place + 1)..=(session, stream, u64::MAX);
            Some(self.all().range(range).map(|((.., place), data)| (*place, data.clone())).collect())
        }

        fn forget(&self, session: u64, stream: Option<u64>) {
            self.all().retain(|(own, of, _), _| *own != session || stream.is_some_and(|stream| *of != stream));
        }
    }

    fn streams(shelf: &Shelf, events_max: usize) -> Streams {
        let mut streams = Streams::new(ReplayLimits { events_max, bytes_max: 1000, resumable: true });
        streams.keep_in(Arc::new(shelf.clone()), 7);
        streams
    }

    #[test]
    fn s4_67_a_store_of_the_programs_own_is_what_is_replayed() {
        let shelf = Shelf::default();
        let mut all = streams(&shelf, 2);
        let (one, mut reader) = all.open(true);
        for n in 0..5 {
            all.push(one, format!("{n}").into());
        }
        assert_eq!(read(&mut reader).len(), 6);
        drop(reader);
        all.push(one, "after".into());
        all.finish(one);
        let resumed = read(&mut all.resume(EventId { stream: one, place: 4 }).expect("all are kept"));
        assert_eq!(resumed, ["1-5:3", "1-6:4", "1-7:after"], "more than the hub's own window has");
        shelf.all().remove(&(7, one, 6));
        assert_eq!(all.resume(EventId { stream: one, place: 4 }).err(), Some(NoStream::Unknown), "one is missing");
        assert_eq!(all.resume(EventId { stream: one, place: 9 }).err(), Some(NoStream::Unknown), "forged");
        drop(all);
        assert!(shelf.all().is_empty(), "the session's end is told");
    }

    #[test]
    fn s4_67_what_nobody_has_read_waits_in_the_hub_and_is_read_once() {
        let shelf = Shelf::default();
        let mut all = streams(&shelf, 10);
        all.push(STANDALONE, "a".into());
        all.push(STANDALONE, "panic".into());
        let mut reader = all.attach(false).expect("free");
        all.push(STANDALONE, "b".into());
        assert_eq!(read(&mut reader), ["0-1:a", "0-2:panic", "0-3:b"], "a store that panics loses nothing but its own");
        drop(reader);
        assert_eq!(read(&mut all.attach(false).expect("free")), [""; 0]);
        assert_eq!(all.resume(EventId { stream: 0, place: 1 }).err(), Some(NoStream::Unknown));
        assert_eq!(read(&mut all.resume(EventId { stream: 0, place: 2 }).expect("kept")), ["0-3:b"]);
    }
}
