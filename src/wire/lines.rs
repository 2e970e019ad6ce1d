//! Newline framing with a longest line.
//!
//! Bytes are read into [`Lines::spare`] and leave it as lines: a long one is a slice of the block it was read into, a
//! short one a copy. A line above the limit is thrown away while it comes; of it remain its length and the id it
//! carried, so that the call it would have answered can be told.
//! Invariant: however a stream is cut into reads, its lines are the same.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::message::{ID_BYTES_MAX, Id};

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// With less room than this a new block is begun.
const SPARE_BYTES_MIN: usize = 16 * 1024;
/// A block that grew beyond this for one long line is given back after it.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// A line shorter than this is copied out of its block.
const COPIED_BYTES_MAX: usize = 8 * 1024;
/// What may surround the text of a longest line: a byte order mark and a carriage return.
const AROUND_BYTES: usize = 4;
/// Longest member name that is looked at in a line above the limit; `id` spelled with escapes is shorter.
const NAME_BYTES_MAX: usize = 64;

/// A message as one line, with its end.
pub fn line(message: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(message.len() + 1);
    // In JSON they stand between tokens only, where a space says the same.
    line.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    line.push(b'\n');
    line
}

/// One line, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Whole(Bytes),
    /// A line above the limit: its length, and the id of the response it seems to have been.
    TooLong {
        id: Option<Id>,
        bytes: u64,
    },
}

/// Cuts a stream of bytes into lines.
#[derive(Debug)]
pub struct Lines {
    buffer: BytesMut,
    /// No newline stands before this position.
    searched: usize,
    /// How long the last line was that took several reads: often so is the next.
    expected: usize,
    bytes_max: usize,
    /// A byte order mark is one only before the first line.
    begun: bool,
    long: Option<Box<Long>>,
}

impl Lines {
    /// Lines of at most `bytes_max` bytes, their ends not counted.
    pub fn new(bytes_max: usize) -> Lines {
        Lines { buffer: BytesMut::new(), searched: 0, expected: 0, bytes_max, begun: false, long: None }
    }

    /// Where to append what was read; there is room for a good read.
    pub fn spare(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        if self.buffer.capacity() - self.buffer.len() < SPARE_BYTES_MIN {
            // A line that grows is moved; one that is as long as the last is moved once.
            let length = self.buffer.len();
            let rest =
                if length < READ_BYTES / 2 { 0 } else { (self.expected + SPARE_BYTES_MIN).saturating_sub(length) };
            self.buffer.reserve(rest.max(READ_BYTES));
        }
        &mut self.buffer
    }

    /// Takes the next line that is complete; blank ones do not count.
    pub fn take(&mut self) -> Option<Line> {
        loop {
            let Some(at) = memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                if self.long.is_some() || self.buffer.len() > self.bytes_max.saturating_add(AROUND_BYTES) {
                    self.throw_away();
                }
                return None;
            };
            let end = self.searched + at;
            self.searched = 0;
            let mut line = self.buffer.split_to(end + 1);
            line.truncate(end);
            if end >= READ_BYTES {
                self.expected = end;
                // Its block becomes its own, so that it can be changed where it is.
                let after = self.buffer.len();
                if after < end / 4 {
                    let mut block = BytesMut::with_capacity(after.max(READ_BYTES));
                    block.extend_from_slice(&self.buffer);
                    self.buffer = block;
                }
            }
            if let Some(mut long) = self.long.take() {
                long.feed(&line);
                return Some(long.end());
            }
            self.strip_mark(&mut line);
            let length = line.strip_suffix(b"\r").map_or(line.len(), <[u8]>::len);
            if length > self.bytes_max {
                let mut long = Long::default();
                long.feed(&line);
                return Some(long.end());
            }
            line.truncate(length);
            if !line.iter().all(u8::is_ascii_whitespace) {
                // A few bytes would keep a whole block, and let a new one be allocated for each read.
                return Some(Line::Whole(match line.len() < COPIED_BYTES_MAX {
                    true => Bytes::copy_from_slice(&line),
                    false => line.freeze(),
                }));
            }
        }
    }

    /// How many bytes have come since the last end of a line.
    pub fn unfinished_bytes(&self) -> u64 {
        self.buffer.len() as u64 + self.long.as_ref().map_or(0, |long| long.bytes)
    }

    fn throw_away(&mut self) {
        let mut part = self.buffer.split();
        self.searched = 0;
        self.strip_mark(&mut part);
        self.long.get_or_insert_default().feed(&part);
    }

    fn strip_mark(&mut self, line: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) && line.starts_with(b"\xEF\xBB\xBF") {
            let _ = line.split_to(3);
        }
    }
}

/// What is remembered of a line above the limit.
#[derive(Debug, Default)]
struct Long {
    bytes: u64,
    ends_in_return: bool,
    id: IdScanner,
}

impl Long {
    fn feed(&mut self, part: &[u8]) {
        self.bytes += part.len() as u64;
        if let Some(last) = part.last() {
            self.ends_in_return = *last == b'\r';
        }
        self.id.feed(part);
    }

    fn end(self) -> Line {
        Line::TooLong { bytes: self.bytes - u64::from(self.ends_in_return), id: self.id.found() }
    }
}

/// Finds the `id` of an object that is never held whole.
///
/// It follows strings and nesting and nothing else. A request has an id too, but one of its sender's counting:
/// an object with a `method` has none for us.
#[derive(Debug, Default)]
struct IdScanner {
    depth: u64,
    in_string: bool,
    escaped: bool,
    name_next: bool,
    keeps: Keeps,
    /// The bytes of what is being kept.
    text: Vec<u8>,
    name: Name,
    ids: Vec<Option<Id>>,
    /// It is no object, or a request.
    hopeless: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Keeps {
    #[default]
    Nothing,
    Name,
    Id,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Name {
    #[default]
    Other,
    Id,
}

impl IdScanner {
    fn feed(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.escaped {
                self.escaped = false;
                self.keep(&[*first]);
                bytes = rest;
            } else if self.in_string {
                let length = memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                self.keep(&bytes[..length]);
                bytes = &bytes[length..];
                if let [byte, rest @ ..] = bytes {
                    self.in_string_ends(*byte);
                    bytes = rest;
                }
            } else {
                self.outside(*first);
                bytes = rest;
            }
        }
    }

    fn found(mut self) -> Option<Id> {
        let complete = self.depth == 0 && !self.in_string && !self.hopeless;
        // Said twice, it is not known which one is meant.
        (complete && self.ids.len() == 1).then(|| self.ids.pop().flatten()).flatten()
    }

    fn in_string_ends(&mut self, byte: u8) {
        self.keep(&[byte]);
        if byte == b'\\' {
            self.escaped = true;
            return;
        }
        self.in_string = false;
        if self.keeps == Keeps::Name {
            self.keeps = Keeps::Nothing;
            let name: Option<String> = serde_json::from_slice(&self.text).ok();
            self.hopeless |= name.as_deref() == Some("method");
            self.name = if name.as_deref() == Some("id") { Name::Id } else { Name::Other };
        }
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 && self.name_next {
                    self.begin(Keeps::Name);
                }
                self.keep(b"\"");
            }
            b'{' | b'[' => {
                if self.depth == 0 {
                    self.hopeless |= byte == b'[';
                    self.name_next = true;
                }
                self.depth += 1;
                self.keep(&[byte]);
            }
            b'}' | b']' => {
                if self.depth == 1 {
                    self.value_ends();
                } else {
                    self.keep(&[byte]);
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b',' if self.depth == 1 => {
                self.value_ends();
                self.name_next = true;
            }
            b':' if self.depth == 1 => {
                self.name_next = false;
                if self.name == Name::Id {
                    self.begin(Keeps::Id);
                }
            }
            _ => self.keep(&[byte]),
        }
    }

    fn begin(&mut self, keeps: Keeps) {
        self.keeps = keeps;
        self.text.clear();
    }

    fn keep(&mut self, part: &[u8]) {
        let most = match self.keeps {
            Keeps::Nothing => return,
            Keeps::Name => NAME_BYTES_MAX,
            Keeps::Id => 2 * ID_BYTES_MAX,
        };
        // What is cut off here reads as no name and no id.
        let room = most.saturating_sub(self.text.len());
        self.text.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn value_ends(&mut self) {
        self.name = Name::Other;
        if self.keeps == Keeps::Id {
            self.keeps = Keeps::Nothing;
            if self.ids.len() < 2 {
                self.ids.push(std::str::from_utf8(&self.text).ok().and_then(|text| Id::read(text.trim_ascii())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode<'a>(parts: impl IntoIterator<Item = &'a [u8]>, bytes_max: usize) -> (Vec<Line>, u64) {
        let mut lines = Lines::new(bytes_max);
        let mut all = Vec::new();
        for part in parts {
            lines.spare().extend_from_slice(part);
            all.extend(std::iter::from_fn(|| lines.take()));
        }
        (all, lines.unfinished_bytes())
    }

    fn whole(text: &str) -> Line {
        Line::Whole(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn long(id: Option<&str>, bytes: usize) -> Line {
        Line::TooLong { id: id.map(|id| Id::read(id).unwrap()), bytes: bytes as u64 }
    }

    #[test]
    fn f15_line_ends_blank_lines_and_a_mark_are_tolerated() {
        let text = b"\xEF\xBB\xBF{}\r\n\r\n \t\n\n[1]\n\xEF\xBB\xBFx\ny\r\r\n";
        let expected = [whole("{}"), whole("[1]"), whole("\u{feff}x"), whole("y\r")];
        assert_eq!(decode([&text[..]], 100).0, expected);
    }

    #[test]
    fn f14_the_limit_is_exact() {
        for end in ["\n", "\r\n"] {
            for mark in ["", "\u{feff}"] {
                let fits = format!("{mark}{}{end}", "x".repeat(10));
                assert_eq!(decode([fits.as_bytes()], 10).0, [whole(&"x".repeat(10))]);
                let over = format!("{mark}{}{end}ok\n", "x".repeat(11));
                assert_eq!(decode([over.as_bytes()], 10).0, [long(None, 11), whole("ok")]);
            }
        }
    }

    #[test]
    fn f14_one_return_belongs_to_the_end_and_another_to_the_line() {
        let text = b"xxxxx\r\r\n";
        for piece in 1..=text.len() {
            assert_eq!(decode(text.chunks(piece), 4).0, [long(None, 6)], "in pieces of {piece}");
        }
    }

    #[test]
    fn f14_the_id_of_a_long_line_is_the_one_at_the_top() {
        let cases = [
            (r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, Some("7")),
            (r#"{"result":{"id":1,"a":[{"id":2}]},"id": "x\"y" }"#, Some(r#""x\"y""#)),
            (r#"{"result":"\"id\":3,{[","id":-4}"#, Some("-4")),
            (r#"{"result":"\\","\u0069d":5}"#, Some("5")),
            (r#"{"a":"id","id":6}"#, Some("6")),
            (r#" {"result":{} , "id" : 8 } "#, Some("8")),
            (r#"{"id":1,"method":"sampling/createMessage"}"#, None),
            (r#"{"id":1,"result":{},"id":2}"#, None),
            (r#"{"id":{"id":1},"result":0}"#, None),
            (r#"{"id":null,"error":{}}"#, None),
            (r#"{"id":1.5,"error":{}}"#, None),
            (r#"[{"id":1,"result":{}}]"#, None),
            (r#"{"id":1,"result":{"#, None),
            (r#"{"id":1,"result":"cut"#, None),
            ("}}}]]] no json at all", None),
            (r#"{"id":"a" "b","result":{}}"#, None),
            (r#"{"id":007,"result":{}}"#, None),
        ];
        for (text, id) in cases {
            let line = format!("{text}\n");
            assert_eq!(decode(line.as_bytes().chunks(1), 4).0, [long(id, text.len())], "{text}");
            assert_eq!(decode([line.as_bytes()], 4).0, [long(id, text.len())], "{text}");
        }
    }

    #[test]
    fn f14_a_long_line_is_not_kept() {
        let mut lines = Lines::new(1 << 20);
        for _ in 0..64 {
            lines.spare().extend_from_slice(&[b'x'; 1 << 20]);
            assert_eq!(lines.take(), None);
            assert!(lines.buffer.capacity() <= 8 << 20, "{}", lines.buffer.capacity());
        }
        lines.spare().extend_from_slice(b"\nok\n");
        assert_eq!(lines.take(), Some(long(None, 64 << 20)));
        assert_eq!(lines.take(), Some(whole("ok")));
        assert!(lines.spare().capacity() <= KEPT_BYTES_MAX);
    }

    #[test]
    fn a_line_as_long_as_the_last_is_moved_once_and_owns_its_block() {
        let mut lines = Lines::new(8 << 20);
        let mut text = vec![b'x'; 1 << 20];
        text.extend_from_slice(b"\nbegin of another");
        for round in 0..2 {
            let mut blocks = std::collections::BTreeSet::new();
            for part in text.chunks(32 << 10) {
                lines.spare().extend_from_slice(part);
                blocks.insert(lines.buffer.as_ptr());
            }
            assert!(round == 0 || blocks.len() <= 2, "{} blocks", blocks.len());
            let Some(Line::Whole(line)) = lines.take() else { panic!("a line is there") };
            assert!(line.try_into_mut().is_ok());
            lines = Lines { expected: lines.expected, ..Lines::new(8 << 20) };
        }
    }

    #[test]
    fn f13_an_unfinished_line_is_counted() {
        assert_eq!(decode([&b"a\nbcd"[..]], 10), (vec![whole("a")], 3));
        assert_eq!(decode([&b"a\n"[..], &[b'b'; 50], &[b'b'; 50]], 10), (vec![whole("a")], 100));
    }

    proptest! {
        #[test]
        fn any_cut_of_a_byte_stream_decodes_the_same(
            pieces in proptest::collection::vec(prop_oneof![
                Just("\n".to_owned()), Just("\r\n".to_owned()), Just("\u{feff}".to_owned()),
                Just(r#"{"id":12,"result":{"a":"\"}"}}"#.to_owned()), "[ -~]{0,30}", "\\PC{0,5}",
            ], 0..30),
            cuts in proptest::collection::vec(0..600usize, 0..20),
            bytes_max in 0..40usize,
        ) {
            let stream = pieces.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
            prop_assert_eq!(decode(parts, bytes_max).0, decode([&stream[..]], bytes_max).0);
        }
    }
}
