//! An event stream of a peer, read to the rules of WHATWG, with a largest event.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use sse_stream::{Sse, SseByteStream};

use crate::auth::cause;

/// The pause before a stream that broke off is asked for again, where the peer names none,
const RETRY: Duration = Duration::from_secs(1);
/// and the least and the most it may name.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);

type Chunks = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// The events of one response.
pub struct Events {
    stream: SseByteStream<Chunks>,
    /// The size of the event that was refused as too long; 0 while none was.
    refused: Arc<AtomicUsize>,
}

/// One event that says something.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// `message`, where the peer names no other.
    pub kind: String,
    pub data: String,
}

/// Where a stream stands: what is asked for when it has to be opened again.
#[derive(Clone, Debug)]
pub struct Position {
    pub last_id: Option<String>,
    pub retry: Duration,
}

/// Why no further event comes.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Broken(String),
    /// An event above the limit.
    TooLong(usize),
}

impl Default for Position {
    fn default() -> Self {
        Position { last_id: None, retry: RETRY }
    }
}

impl Events {
    pub fn of(response: Response, event_bytes_max: usize) -> Events {
        Events::read(
            response.bytes_stream().map(|chunk| chunk.map_err(|error| std::io::Error::other(error.without_url()))),
            event_bytes_max,
        )
    }

    /// Reads the events of a body that comes in these pieces.
    pub fn read(chunks: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static, event_bytes_max: usize) -> Events {
        let refused = Arc::new(AtomicUsize::new(0));
        let (teller, mut block) = (refused.clone(), Block::default());
        let counted = chunks.map(move |chunk| {
            let chunk = chunk?;
            // The reader behind takes another piece only when it has given out all events before.
            if block.bytes > event_bytes_max {
                teller.store(block.bytes, Ordering::Relaxed);
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            block.feed(&chunk);
            Ok(chunk)
        });
        Events { stream: SseByteStream::new(Box::pin(counted)), refused }
    }

    /// The next event that has data; ids and pauses are kept in `position` on the way.
    pub async fn next(&mut self, position: &mut Position) -> Result<Event, End> {
        loop {
            let sse = match self.stream.next().await {
                Some(Ok(sse)) => sse,
                Some(Err(error)) => {
                    return Err(match self.refused.load(Ordering::Relaxed) {
                        0 => End::Broken(cause(&error)),
                        bytes => End::TooLong(bytes),
                    });
                }
                None => return Err(End::Closed),
            };
            let Sse { event, data, id, retry } = sse;
            if let Some(id) = id {
                // An empty one says that there is nothing to come back to.
                position.last_id = Some(id).filter(|id| !id.is_empty() && !id.contains('\0'));
            }
            if let Some(retry) = retry {
                position.retry = Duration::from_millis(retry).clamp(RETRY_MIN, RETRY_MAX);
            }
            // The first event of a stream that can be resumed has an id and no data.
            let Some(data) = data.filter(|data| !data.is_empty()) else { continue };
            return Ok(Event { kind: event.filter(|kind| !kind.is_empty()).unwrap_or("message".into()), data });
        }
    }
}

/// Counts the bytes since the last blank line: the most that the reader behind can hold of one event. Comments that keep
/// an idle stream alive are no event, and so the reader does not tell of them; but blank lines end them too.
#[derive(Default)]
struct Block {
    bytes: usize,
    /// Something stands on the line that is under way.
    begun: bool,
    /// The line before was blank.
    blank: bool,
    /// The last byte ended that line, and a newline would belong to the same end.
    returned: bool,
}

impl Block {
    fn feed(&mut self, chunk: &[u8]) {
        let (mut line, mut block) = (0, None);
        for at in memchr::memchr2_iter(b'\r', b'\n', chunk) {
            self.pass(at > line);
            line = at + 1;
            if !(std::mem::take(&mut self.returned) && chunk[at] == b'\n') {
                self.returned = chunk[at] == b'\r';
                self.blank = !std::mem::take(&mut self.begun);
            }
            if self.blank {
                block = Some(line);
            }
        }
        self.pass(chunk.len() > line);
        self.bytes = block.map_or(self.bytes + chunk.len(), |start| chunk.len() - start);
    }

    fn pass(&mut self, text: bool) {
        self.begun |= text;
        self.returned &= !text;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// What is read of a text that arrives in pieces of this size.
    async fn read(text: &[u8], piece: usize, max: usize) -> (Vec<(String, String)>, End, Position) {
        let pieces: Vec<_> = text.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut events = Events::read(stream::iter(pieces), max);
        let (mut found, mut position) = (Vec::new(), Position::default());
        loop {
            match events.next(&mut position).await {
                Ok(event) => found.push((event.kind, event.data)),
                Err(end) => return (found, end, position),
            }
        }
    }

    #[tokio::test]
    async fn f120_the_rules_of_event_streams_however_the_bytes_are_cut() {
        let message = |text: &str| ("message".to_owned(), text.to_owned());
        #[expect(clippy::type_complexity, reason = "a table")]
        let cases: [(&[u8], Vec<(String, String)>); 9] = [
            (b"data: a\n\ndata: b\n\n", vec![message("a"), message("b")]),
            (b"\xef\xbb\xbfdata: a\n\n", vec![message("a")]),
            (b"data: a\r\rdata: b\r\r", vec![message("a"), message("b")]),
            (b"data: a\r\n\r\n", vec![message("a")]),
            (b": only\n\n: comments\n\n", vec![]),
            (b"event: endpoint\ndata: /m\n\n", vec![("endpoint".into(), "/m".into())]),
            (b"data: one\ndata: two\n\n", vec![message("one\ntwo")]),
            (b"id: 7\ndata:\n\nunknown: x\ndata:y\n\n", vec![message("y")]),
            (b"data: cut off", vec![]),
        ];
        for (text, expected) in cases {
            for piece in 1..=text.len() {
                let (found, end, _) = read(text, piece, 1000).await;
                assert_eq!((&found, end), (&expected, End::Closed), "{text:?} in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn f120_a_pause_is_clamped_and_an_id_is_kept() {
        for (retry, expected) in [("0", RETRY_MIN), ("1000000000000", RETRY_MAX), ("700", Duration::from_millis(700))] {
            let text = format!("retry: {retry}\nid: e1\n\n");
            let (_, _, position) = read(text.as_bytes(), 4, 1000).await;
            assert_eq!((position.retry, position.last_id.as_deref()), (expected, Some("e1")));
        }
    }

    #[tokio::test]
    async fn f120_an_event_above_the_limit_ends_the_stream() {
        let text = [b"data: ok\n\ndata: ".as_slice(), &[b'x'; 5000], b"\n\n"].concat();
        let (found, end, _) = read(&text, 100, 1000).await;
        assert_eq!(found, [("message".to_owned(), "ok".to_owned())]);
        assert!(matches!(end, End::TooLong(bytes) if bytes > 1000), "{end:?}");
    }

    #[tokio::test]
    async fn f120_an_idle_stream_is_never_too_long() {
        for comment in [": still here\n\n", ":\r\n\r\n", ": ping\r\r"] {
            let text = format!("data: a\n\n{}data: {}\n\n", comment.repeat(200), "b".repeat(90));
            for piece in [1, 2, 3, 7, 50, 100] {
                let (found, end, _) = read(text.as_bytes(), piece, 100).await;
                assert_eq!((found.len(), end), (2, End::Closed), "{comment:?} in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn f120_the_limit_is_exact_and_no_other_end_is_taken_for_it() {
        let event = format!("data: {}\r\n\r\n", "b".repeat(90));
        for piece in [1, 2, 3, 7, 1000] {
            let (found, end, _) = read(event.repeat(3).as_bytes(), piece, event.len()).await;
            assert_eq!((found.len(), end), (3, End::Closed), "in pieces of {piece}");
        }
        let (_, end, _) = read(b"data: a\n\nevent: longer \xc3e\n", 1, 10).await;
        assert!(matches!(end, End::TooLong(_)), "{end:?}");
        let (_, end, _) = read(b"data: a\n\nevent: longer \xc3e\n", 100, 10).await;
        assert!(matches!(end, End::Broken(_)), "{end:?}");
    }

    #[tokio::test]
    async fn f119_half_an_event_is_none_and_text_that_is_not_utf8_ends_the_stream() {
        let (found, end, _) = read(b"data: a\n\ndata: \xc3", 3, 1000).await;
        assert_eq!((found.len(), end), (1, End::Closed));
        let (found, end, _) = read(b"data: \xc3\x28\n\n", 3, 1000).await;
        assert!(found.is_empty() && matches!(end, End::Broken(_)), "{end:?}");
    }
}
