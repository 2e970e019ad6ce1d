//! The event streams of one session, and what of them can be replayed.
//!
//! Every message of a session goes onto exactly one stream (2025-11-25, basic/transports): the stream of the POST
//! it concerns, or stream 0, which the client reads with GET. Stream 0 exists before anybody reads it, so that
//! what a server says unasked waits instead of vanishing (P18). An event's id names its stream and its place,
//! so a replay cannot cross streams (P20). Kept events are bounded in count and bytes; the oldest go first.

mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use store::Store;
pub use store::{EventStore, Kept};
use tokio::sync::mpsc;

/// The stream that GET reads.
pub const STANDALONE: u64 = 0;
/// Finished streams kept for replay.
const FINISHED_MAX: usize = 64;
/// How long a finished stream is kept.
const FINISHED_AGE_MAX: Duration = Duration::from_secs(300);
/// Events beyond the replayed ones that may wait for a slow reader, and their bytes.
const LIVE_MAX: usize = 256;
const LIVE_BYTES_MAX: usize = 64 << 20;

/// One event on its way to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Absent where the transport cannot resume.
    pub id: Option<EventId>,
    /// Empty in the event that primes a client for resumption.
    pub data: Bytes,
}

/// The client's end of a stream.
#[derive(Debug)]
pub struct Reader {
    from: mpsc::Receiver<Sent>,
    waiting: Arc<AtomicUsize>,
}

impl Reader {
    /// The next event; none when the stream has ended or the reader was cut off.
    pub async fn recv(&mut self) -> Option<Sent> {
        let sent = self.from.recv().await?;
        self.waiting.fetch_sub(sent.data.len(), Ordering::Relaxed);
        Some(sent)
    }
}

/// Our end of it.
#[derive(Debug)]
struct Live {
    to: mpsc::Sender<Sent>,
    /// Bytes that the reader has not taken yet.
    waiting: Arc<AtomicUsize>,
}

impl Live {
    /// With room for so many replayed events beyond the usual.
    fn open(replayed: usize) -> (Live, Reader) {
        let (to, from) = mpsc::channel(replayed + LIVE_MAX);
        let waiting = Arc::<AtomicUsize>::default();
        (Live { to, waiting: waiting.clone() }, Reader { from, waiting })
    }

    /// Is there room for so many more bytes? One event alone may have any size.
    fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting == 0 || waiting + bytes <= LIVE_BYTES_MAX
    }

    /// Is half the room taken?
    fn is_crowded(&self) -> bool {
        self.to.capacity() < LIVE_MAX / 2 || self.waiting.load(Ordering::Relaxed) > LIVE_BYTES_MAX / 2
    }

    fn send(&self, sent: Sent) -> bool {
        let bytes = sent.data.len();
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.to.try_send(sent).is_ok()
    }
}

/// The stream and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// Which stream of the session.
    pub stream: u64,
    /// Which event of the stream; they count from 1.
    pub place: u64,
}

impl EventId {
    /// Reads a client's `Last-Event-ID`; none where it is none of ours.
    pub fn read(text: &str) -> Option<EventId> {
        let (stream, place) = text.split_once('-')?;
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
        Some(EventId { stream: number(stream)?, place: number(place)? })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}-{}", self.stream, self.place)
    }
}

/// Why a stream cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStream {
    /// Somebody reads it already.
    Taken,
    /// The event id names nothing of this session, or something that was dropped.
    Unknown,
}

/// The streams of a session by their numbers. Most have no other than that of GET, and a map of one is large.
#[derive(Debug)]
struct All {
    standalone: Stream,
    posts: BTreeMap<u64, Stream>,
}

impl All {
    fn get(&self, id: u64) -> Option<&Stream> {
        if id == STANDALONE { Some(&self.standalone) } else { self.posts.get(&id) }
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Stream> {
        if id == STANDALONE { Some(&mut self.standalone) } else { self.posts.get_mut(&id) }
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        std::iter::once(&mut self.standalone).chain(self.posts.values_mut())
    }

    /// Those of which no more will come.
    fn finished(&self) -> impl Iterator<Item = (u64, &Stream)> {
        self.posts.iter().filter(|(_, stream)| stream.finished.is_some()).map(|(id, stream)| (*id, stream))
    }
}

/// All streams of a session.
#[derive(Debug)]
pub struct Streams {
    streams: All,
    last: u64,
    bytes: usize,
    limits: ReplayLimits,
    /// Where the events are kept, if not here.
    store: Option<Store>,
}

/// Events kept for each stream.
#[derive(Clone, Copy, Debug)]
pub struct ReplayLimits {
    /// Bytes kept for each session.
    pub events_max: usize,
    pub bytes_max: usize,
    /// Does the transport have event ids at all?
    pub resumable: bool,
}

#[derive(Debug, Default)]
struct Stream {
    /// Events that can still be (re)played, and their places.
    kept: VecDeque<(u64, Bytes)>,
    /// The place of the next event; places count from 1.
    next: u64,
    /// Up to this place events were handed to a reader.
    handed: u64,
    /// Events were dropped that nobody had read.
    lost: bool,
    live: Option<Live>,
    finished: Option<Instant>,
}

impl Streams {
    pub fn new(limits: ReplayLimits) -> Streams {
        let streams = All { standalone: Stream { next: 1, ..Stream::default() }, posts: BTreeMap::new() };
        Streams { streams, last: STANDALONE, bytes: 0, limits, store: None }
    }

    /// Has the events of a session kept elsewhere; what was not handed to anybody stays.
    pub fn keep_in(&mut self, events: Arc<dyn EventStore>, session: u64) {
        self.store = self.limits.resumable.then_some(Store { events, session });
    }

    /// Opens the stream of a POST; its reader is attached from the start.
    pub fn open(&mut self, prime: bool) -> (u64, Reader) {
        self.last += 1;
        let (live, reader) = Live::open(0);
        self.streams.posts.insert(self.last, Stream { next: 1, live: Some(live), ..Stream::default() });
        if prime {
            self.push(self.last, Bytes::new());
        }
        (self.last, reader)
    }

    /// Adds what a reader may miss: it is dropped where the reader is slow, so that the rest still finds room.
    pub fn offer(&mut self, id: u64, data: Bytes) {
        let live = self.streams.get(id).and_then(|stream| stream.live.as_ref());
        if !live.is_some_and(Live::is_crowded) {
            self.push(id, data);
        }
    }

    /// Adds an event to a stream. A reader that does not keep up is cut off, and may resume.
    pub fn push(&mut self, id: u64, data: Bytes) {
        let limits = self.limits;
        let Some(stream) = self.streams.get_mut(id) else { return };
        let place = stream.next;
        stream.next += 1;
        let event_id = limits.resumable.then_some(EventId { stream: id, place });
        let handed = match &stream.live {
            Some(live) => live.has_room(data.len()) && live.send(Sent { id: event_id, data: data.clone() }),
            None => false,
        };
        match handed {
            true => stream.handed = place,
            false => stream.live = None,
        }
        if let Some(store) = &self.store {
            store.keep(id, place, &data);
        }
        if (limits.resumable && self.store.is_none()) || !handed {
            self.bytes += data.len();
            stream.kept.push_back((place, data));
            if stream.kept.len() > limits.events_max {
                stream.forget_oldest(&mut self.bytes);
            }
            self.shrink(id);
        }
    }

    /// No more events will come; readers end after the last one.
    pub fn finish(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.live = None;
        stream.finished = Some(Instant::now());
        if !self.limits.resumable {
            self.remove(id);
        }
        let finished: Vec<u64> = self.streams.finished().map(|(id, _)| id).collect();
        for id in finished.iter().take(finished.len().saturating_sub(FINISHED_MAX)) {
            self.remove(*id);
        }
    }

    /// Reads what is on stream 0 and was not read yet, and what will come.
    pub fn attach(&mut self, prime: bool) -> Result<Reader, NoStream> {
        let stream = &self.streams.standalone;
        if stream.is_read() {
            return Err(NoStream::Taken);
        }
        let from = stream.handed;
        let reader = self.replay(STANDALONE, from);
        if prime {
            // The priming event has a place of its own, after what waited.
            self.push(STANDALONE, Bytes::new());
        }
        Ok(reader)
    }

    /// Reads a stream again from behind an event. The client's own earlier reader, if any, ends.
    pub fn resume(&mut self, after: EventId) -> Result<Reader, NoStream> {
        let stream = self.streams.get(after.stream).ok_or(NoStream::Unknown)?;
        // Place 0 was never sent; what is ahead of us was forged.
        if after.place == 0 || after.place >= stream.next || !self.limits.resumable {
            return Err(NoStream::Unknown);
        }
        if let Some(store) = &self.store {
            let events = store.behind(after.stream, after.place, stream.next).ok_or(NoStream::Unknown)?;
            return Ok(self.play(after.stream, events));
        }
        let oldest = stream.kept.front().map_or(stream.next, |(place, _)| *place);
        if after.place + 1 < oldest {
            return Err(NoStream::Unknown);
        }
        Ok(self.replay(after.stream, after.place))
    }

    fn replay(&mut self, id: u64, after: u64) -> Reader {
        let kept = self.streams.get(id).into_iter().flat_map(|stream| &stream.kept);
        let events = kept.filter(|(place, _)| *place > after).cloned().collect();
        self.play(id, events)
    }

    fn play(&mut self, id: u64, events: Vec<(u64, Bytes)>) -> Reader {
        let resumable = self.limits.resumable;
        let (live, reader) = Live::open(events.len());
        let Some(stream) = self.streams.get_mut(id) else { return reader };
        for (place, data) in events {
            live.send(Sent { id: resumable.then_some(EventId { stream: id, place }), data });
            stream.handed = stream.handed.max(place);
        }
        if !resumable || self.store.is_some() {
            while !stream.kept.is_empty() {
                stream.forget_oldest(&mut self.bytes);
            }
        }
        if stream.finished.is_none() {
            stream.live = Some(live);
        }
        reader
    }

    /// Ends the reader of one stream.
    pub fn detach(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.live = None;
        }
    }

    /// Ends all readers; events that come later wait.
    pub fn detach_all(&mut self) {
        self.streams.each_mut().for_each(|stream| stream.live = None);
    }

    /// Forgets finished streams that grew old.
    pub fn sweep(&mut self) {
        let old = |stream: &Stream| stream.finished.is_some_and(|at| at.elapsed() > FINISHED_AGE_MAX);
        let old: Vec<u64> = self.streams.finished().filter(|(_, stream)| old(stream)).map(|(id, _)| id).collect();
        old.into_iter().for_each(|id| self.remove(id));
    }

    /// Does anybody read any of them?
    pub fn is_read(&self) -> bool {
        self.streams.standalone.is_read() || self.streams.posts.values().any(Stream::is_read)
    }

    /// Were events of this stream dropped that nobody had read?
    pub fn lost(&self, id: u64) -> bool {
        self.streams.get(id).is_some_and(|stream| stream.lost)
    }

    fn remove(&mut self, id: u64) {
        if let Some(stream) = self.streams.posts.remove(&id) {
            self.bytes -= stream.kept.iter().map(|(_, data)| data.len()).sum::<usize>();
            self.store.iter().for_each(|store| store.forget(Some(id)));
        }
    }

    /// Keeps the session under its share of bytes: finished streams go first, then the oldest events.
    fn shrink(&mut self, current: u64) {
        while self.bytes > self.limits.bytes_max {
            let finished = self.streams.finished().next().map(|(id, _)| id);
            if let Some(id) = finished {
                self.remove(id);
                continue;
            }
            let fullest = self.streams.each_mut().filter(|stream| stream.kept.len() > 1);
            let largest = fullest.max_by_key(|stream| stream.kept.iter().map(|(_, data)| data.len()).sum::<usize>());
            match largest {
                Some(stream) => stream.forget_oldest(&mut self.bytes),
                // A single event larger than the share: it was handed on if anybody read.
                None => {
                    if let Some(stream) = self.streams.get_mut(current) {
                        stream.forget_oldest(&mut self.bytes);
                    }
                    return;
                }
            }
        }
    }
}

impl Stream {
    fn is_read(&self) -> bool {
        self.live.as_ref().is_some_and(|live| !live.to.is_closed())
    }

    fn forget_oldest(&mut self, bytes: &mut usize) {
        if let Some((place, data)) = self.kept.pop_front() {
            *bytes -= data.len();
            self.lost |= place > self.handed;
        }
    }
}
