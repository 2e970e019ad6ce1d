//! A JSON-RPC message: the bytes as they came, and the few fields we looked at.
//!
//! Messages are forwarded as bytes. Parsing validates the JSON once and remembers where `id`, `method`,
//! `params`, `result` and `error` stand, so that an id can be spliced without printing anything again.
//! Invariant: what we forward means what we checked. Hence a member we read may not occur twice, and names
//! are compared exactly: `Method` or `method\u0000` are unknown members, never aliases.

mod edited;
mod id;
mod large;
mod outline;

use std::{
    ops::Range,
    sync::{Arc, LazyLock, OnceLock},
};

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use memchr::memmem::Finder;
use serde_json::value::RawValue;

pub use id::{ID_BYTES_MAX, Id};
pub use large::is_result;

use super::members::{members, span_in};

/// Deepest nesting of a client's message; deeper documents break recursive parsers behind us: `serde_json` refuses 128.
pub const DEPTH_MAX: usize = 127;
/// Most messages in one batch (2025-03-26).
pub const BATCH_MAX: usize = 100;

/// JSON-RPC 2.0 section 5.1: it is no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// It is JSON and no message.
pub const INVALID_REQUEST: i32 = -32600;
/// There is no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The parameters are not those of the method.
pub const INVALID_PARAMS: i32 = -32602;
/// The fault is on our side or behind it.
pub const INTERNAL_ERROR: i32 = -32603;

/// What a message is, by the members it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It wants an answer.
    Request,
    /// It wants none.
    Notification,
    /// It is one.
    Response,
}

/// One JSON-RPC object.
#[derive(Clone, Debug)]
pub struct Message {
    /// The object, exactly as it came, without surrounding white space.
    bytes: ByteString,
    kind: Kind,
    /// Absent on notifications, and on an error whose request could not be read.
    id: Option<(Id, Range<usize>)>,
    method: Text,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
    headers: Option<Headers>,
    /// The members of `params`, once somebody asked for one.
    outline: OnceLock<outline::Outline>,
}

/// What came beside a message over HTTP and goes on with it, by lower-case name.
pub type Headers = Arc<[(String, Vec<u8>)]>;

/// A string inside the message; decoded only where it was written with escapes (PHP prints `tools\/call`).
#[derive(Clone, Debug)]
enum Text {
    Span(Range<usize>),
    Decoded(Box<str>),
}

/// A body that is no JSON-RPC message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotAMessage {
    /// [`PARSE_ERROR`] or [`INVALID_REQUEST`].
    pub code: i32,
    /// In a sentence.
    pub why: String,
    /// The request's id, where it could be read.
    pub id: Option<Id>,
}

/// The body of a POST, or one line of a child.
#[derive(Clone, Debug)]
pub enum Body {
    /// A message.
    One(Message),
    /// Several in an array, in their order (2025-03-26 only).
    Batch(Vec<Message>),
}

/// Reads what a client sent: strict, because what we forward must mean the same to every parser behind us.
pub fn read_client(bytes: Bytes) -> Result<Body, NotAMessage> {
    read(bytes, true)
}

/// Reads what an upstream sent: valid JSON and a valid envelope; the rest is between it and the client.
pub fn read_upstream(bytes: Bytes) -> Result<Body, NotAMessage> {
    read(bytes, false)
}

/// Reads one message of our own making, or an upstream's.
pub fn one(bytes: Bytes) -> Option<Message> {
    match read_upstream(bytes) {
        Ok(Body::One(message)) => Some(message),
        _ => None,
    }
}

fn read(bytes: Bytes, strict: bool) -> Result<Body, NotAMessage> {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = bytes.iter().position(is_text).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(is_text).map_or(start, |last| last + 1);
    let text = ByteString::try_from(bytes.slice(start..end)).map_err(|_| unreadable("the body is not UTF-8"))?;
    if text.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(&text).map_err(|error| syntax(&error))?;
        if strict {
            scan(text.as_bytes())?;
        }
        if items.is_empty() {
            return Err(invalid("a batch must not be empty", None));
        }
        if items.len() > BATCH_MAX {
            return Err(invalid(&format!("a batch may hold at most {BATCH_MAX} messages"), None));
        }
        let messages = items.iter().map(|item| Message::of(text.slice_ref(item.get())));
        return Ok(Body::Batch(messages.collect::<Result<_, _>>()?));
    }
    let message = Message::of(text)?;
    if strict {
        scan(message.bytes())?;
    }
    Ok(Body::One(message))
}

impl Message {
    /// Reads one JSON-RPC object.
    fn of(bytes: ByteString) -> Result<Message, NotAMessage> {
        let text: &str = &bytes;
        if !text.starts_with('{') {
            // Anything that is JSON, but no object, is a wrong request rather than a wrong text.
            serde_json::from_str::<&RawValue>(text).map_err(|error| syntax(&error))?;
            return Err(invalid("a message must be a JSON object", None));
        }
        let [version, id, method, params, result, error] =
            members(text, ["jsonrpc", "id", "method", "params", "result", "error"]).map_err(|error| syntax(&error))?;
        let span = |raw: &str| span_in(text, raw);
        let id = match id {
            None => None,
            Some(raw) => match Id::read(raw) {
                Some(id) => Some((id, span(raw))),
                // Peers answer a request they could not read with `"id":null`.
                None if raw == "null" && error.is_some() && method.is_none() => None,
                None => return Err(invalid("`id` must be a string or an integer", None)),
            },
        };
        let known = id.as_ref().map(|(id, _)| id.clone());
        if version.is_none_or(|raw| raw != "\"2.0\"") {
            return Err(invalid("`jsonrpc` must be \"2.0\"", known));
        }
        let (kind, method) = match method {
            Some(raw) => {
                let Ok(name) = serde_json::from_str::<String>(raw) else {
                    return Err(invalid("`method` must be a string", known));
                };
                if result.is_some() || error.is_some() {
                    return Err(invalid("a message is a request or a response, not both", known));
                }
                if params.is_some_and(|raw| !raw.starts_with(['{', '['])) {
                    return Err(invalid("`params` must be an object", known));
                }
                let quoted = span(raw);
                let method = match raw.contains('\\') {
                    true => Text::Decoded(name.into()),
                    false => Text::Span(quoted.start + 1..quoted.end - 1),
                };
                (if id.is_some() { Kind::Request } else { Kind::Notification }, method)
            }
            None => match (result, error) {
                (Some(_), None) if id.is_some() => (Kind::Response, Text::Span(0..0)),
                (None, Some(_)) => (Kind::Response, Text::Span(0..0)),
                (Some(_), Some(_)) => return Err(invalid("a response has `result` or `error`, not both", known)),
                _ => return Err(invalid("a message needs `method`, or `id` with `result` or `error`", known)),
            },
        };
        let (params, result, error) = (params.map(span), result.map(span), error.map(span));
        Ok(Message { kind, id, method, params, result, error, bytes, headers: None, outline: OnceLock::new() })
    }

    /// What it wants.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The object's bytes, exactly as they came.
    pub fn bytes(&self) -> &Bytes {
        self.bytes.as_bytes()
    }

    /// Of a request or a response; a notification has none.
    pub fn id(&self) -> Option<&Id> {
        self.id.as_ref().map(|(id, _)| id)
    }

    /// The method; empty on a response.
    pub fn method(&self) -> &str {
        self.string(&self.method)
    }

    /// The headers it came with, where it came by HTTP.
    pub fn headers(&self) -> Option<&Headers> {
        self.headers.as_ref()
    }

    /// The same message with these.
    pub fn with_headers(self, headers: Option<Headers>) -> Message {
        Message { headers, ..self }
    }

    /// The text of `params`, as it came.
    pub fn params(&self) -> Option<&str> {
        self.params.as_ref().map(|span| self.text(span))
    }

    /// The text of a response's `result`, as it came.
    pub fn result(&self) -> Option<&str> {
        self.result.as_ref().map(|span| self.text(span))
    }

    /// The text of a response's `error`, as it came.
    pub fn error(&self) -> Option<&str> {
        self.error.as_ref().map(|span| self.text(span))
    }

    /// The progress token of a request, and where it stands.
    pub fn progress_token(&self) -> Result<Option<(Id, Range<usize>)>, serde_json::Error> {
        // Most requests have none, and a search is cheaper than a second parse.
        static TOKEN: LazyLock<Finder> = LazyLock::new(|| Finder::new("progressToken"));
        if !self.may_say(&TOKEN) {
            return Ok(None);
        }
        let [token] = self.meta(["progressToken"])?;
        let Some(raw) = token.filter(|raw| *raw != "null") else { return Ok(None) };
        // `7.0` could come back as 7, another call's.
        Id::read(raw).map(|id| Some((id, self.span(raw)))).ok_or_else(|| serde::de::Error::custom("no token"))
    }

    /// Can this text stand anywhere in the message? An escape could hide it.
    pub fn may_say(&self, text: &Finder) -> bool {
        let bytes = self.bytes();
        text.find(bytes).is_some() || memchr::memchr(b'\\', bytes).is_some()
    }

    /// Where a value that one of the readers above returned stands in the bytes.
    pub fn span(&self, value: &str) -> Range<usize> {
        span_in(&self.bytes, value)
    }

    /// The message with another id, and further replacements.
    pub fn with_id(&self, id: &Id, more: Option<(Range<usize>, &Id)>) -> Bytes {
        let Some((_, own)) = &self.id else { return self.bytes().clone() };
        let first = (own.clone(), id.as_json());
        match more {
            None => splice(self.bytes(), [first]),
            Some((span, text)) if span.start < own.start => splice(self.bytes(), [(span, text.as_json()), first]),
            Some((span, text)) => splice(self.bytes(), [first, (span, text.as_json())]),
        }
    }

    /// The message with one value replaced.
    pub fn with(&self, span: Range<usize>, json: &str) -> Bytes {
        splice(self.bytes(), [(span, json)])
    }

    fn string<'a>(&'a self, text: &'a Text) -> &'a str {
        match text {
            Text::Span(span) => self.text(span),
            Text::Decoded(text) => text,
        }
    }

    fn text(&self, span: &Range<usize>) -> &str {
        // Spans end at ASCII characters.
        self.bytes.get(span.clone()).unwrap_or_default()
    }
}

/// Replaces spans, given in order and apart from each other.
fn splice<const N: usize>(bytes: &Bytes, edits: [(Range<usize>, &str); N]) -> Bytes {
    let grown: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = BytesMut::with_capacity(bytes.len() + grown);
    let mut from = 0;
    for (span, text) in edits {
        out.put_slice(&bytes[from..span.start]);
        out.put_slice(text.as_bytes());
        from = span.end;
    }
    out.put_slice(&bytes[from..]);
    out.freeze()
}

/// Refuses what parsers behind us disagree about: deep nesting, numbers beyond a double, lone surrogates.
///
/// Expects valid JSON; never panics on anything else.
fn scan(bytes: &[u8]) -> Result<(), NotAMessage> {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = scan_string(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(unreadable(&format!("nested more than {DEPTH_MAX} deep")));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'0'..=b'9' => {
                let rest = &bytes[at - 1..];
                let length = rest
                    .iter()
                    .position(|b| !matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
                    .unwrap_or(rest.len());
                let number = &rest[..length];
                at += length - 1;
                // Only a long number or one with an exponent can leave the range of a double.
                let suspicious = length > 300 || memchr::memchr2(b'e', b'E', number).is_some();
                let finite = || std::str::from_utf8(number).ok()?.parse().ok().filter(|n: &f64| n.is_finite());
                if suspicious && finite().is_none() {
                    return Err(unreadable("a number is larger than a double can hold"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Goes over a string whose opening quote was just read; returns where it ended.
fn scan_string(bytes: &[u8], mut at: usize) -> Result<usize, NotAMessage> {
    let unit = |at: usize| -> Option<u16> {
        let digits = bytes.get(at..at + 4)?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    loop {
        let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at.min(bytes.len())..]) else { return Ok(bytes.len()) };
        at += found;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        if bytes.get(at + 1) != Some(&b'u') {
            at += 2;
            continue;
        }
        let first = unit(at + 2);
        at += 6;
        match first {
            Some(0xD800..=0xDBFF) => {
                let paired = bytes.get(at..at + 2) == Some(b"\\u") && matches!(unit(at + 2), Some(0xDC00..=0xDFFF));
                if !paired {
                    return Err(unreadable("a string holds half a surrogate pair"));
                }
                at += 6;
            }
            Some(0xDC00..=0xDFFF) => return Err(unreadable("a string holds half a surrogate pair")),
            _ => {}
        }
    }
}

fn syntax(error: &serde_json::Error) -> NotAMessage {
    match error.classify() {
        serde_json::error::Category::Data => invalid(&error.to_string(), None),
        _ => unreadable(&format!("the body is not valid JSON: {error}")),
    }
}

fn unreadable(why: &str) -> NotAMessage {
    NotAMessage { code: PARSE_ERROR, why: why.to_owned(), id: None }
}

fn invalid(why: &str, id: Option<Id>) -> NotAMessage {
    NotAMessage { code: INVALID_REQUEST, why: why.to_owned(), id }
}

/// A response with a result that is JSON already.
pub fn response(id: &Id, result: &str) -> Bytes {
    [r#"{"jsonrpc":"2.0","id":"#, id.as_json(), r#","result":"#, result, "}"].concat().into()
}

/// An error response. Without an id where the request's could not be read.
pub fn error_response(id: Option<&Id>, code: i32, message: &str, data: Option<&serde_json::Value>) -> Bytes {
    let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
    let message = serde_json::Value::from(message);
    let data = data.map(|data| format!(",\"data\":{data}")).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":{message}{data}}}}}"#).into()
}

/// An error response whose error is JSON already.
pub fn failure(id: &Id, error: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into()
}

/// A request with parameters that are JSON already.
pub fn request(id: &Id, method: &str, params: Option<&str>) -> Bytes {
    let method = serde_json::Value::from(method);
    let params = params.map(|params| format!(",\"params\":{params}")).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}{params}}}"#).into()
}

/// A notification with parameters that are JSON already.
pub fn notification(method: &str, params: Option<&str>) -> Bytes {
    let params = params.map(|params| format!(",\"params\":{params}")).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0","method":"{method}"{params}}}"#).into()
}

/// `notifications/cancelled` for a request of ours.
pub fn cancelled(id: &Id, reason: &str) -> Bytes {
    let reason = serde_json::Value::from(reason);
    notification("notifications/cancelled", Some(&format!(r#"{{"requestId":{id},"reason":{reason}}}"#)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Result<Message, i32> {
        match read_client(Bytes::copy_from_slice(text.as_bytes())) {
            Ok(Body::One(message)) => Ok(message),
            Ok(Body::Batch(_)) => panic!("a batch"),
            Err(error) => Err(error.code),
        }
    }

    #[test]
    fn f41_f42_f43_what_is_no_message_is_refused_with_its_code() {
        let cases = [
            ("", PARSE_ERROR),
            ("{", PARSE_ERROR),
            ("\u{feff}{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":1}", PARSE_ERROR),
            (r#"{"jsonrpc":"2.0","method":"ping","id":1} x"#, PARSE_ERROR),
            (r#"{"jsonrpc":"2.0","method":"ping","id":1,"params":{"a":"\ud800"}}"#, PARSE_ERROR),
            (r#"{"jsonrpc":"2.0","method":"ping","id":1,"params":{"a":"\udc00\ud800"}}"#, PARSE_ERROR),
            (r#"{"jsonrpc":"2.0","method":"ping","id":1,"params":{"a":1e400}}"#, PARSE_ERROR),
            ("3", INVALID_REQUEST),
            ("\"x\"", INVALID_REQUEST),
            ("null", INVALID_REQUEST),
            (r#"{"method":"ping","id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"1.0","method":"ping","id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":2.0,"method":"ping","id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","id":null}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","id":1.5}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","id":1e3}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","id":{}}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","id":[1]}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","id":true}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":5,"id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","params":5,"id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","Method":"ping","id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","id":1,"id":2}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","method":"x","id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"ping","\u006dethod":"x","id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","result":{}}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST),
        ];
        for (text, code) in cases {
            assert_eq!(one(text).err(), Some(code), "{text}");
        }
    }

    #[test]
    fn f43_look_alikes_of_a_name_are_unknown_members() {
        let message = one(r#"{"jsonrpc":"2.0","method":"ping","id":1,"METHOD":"x","Id":3,"ıd":4}"#).unwrap();
        assert_eq!((message.method(), message.id().unwrap().as_json()), ("ping", "1"));
    }

    #[test]
    fn f39_f40_hostile_bodies_are_refused_in_one_pass() {
        let deep =
            |n| format!(r#"{{"jsonrpc":"2.0","method":"x","id":1,"params":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(one(&deep(DEPTH_MAX - 1)).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(&deep(DEPTH_MAX - 1)).is_ok());
        assert_eq!(one(&deep(DEPTH_MAX)).err(), Some(PARSE_ERROR));
        assert_eq!(one(&deep(100_000)).err(), Some(PARSE_ERROR));
        assert_eq!(one(&"[".repeat(4 << 20)).err(), Some(PARSE_ERROR));
        let digits = format!(r#"{{"jsonrpc":"2.0","method":"x","id":1,"params":{{"n":{}}}}}"#, "9".repeat(400));
        assert_eq!(one(&digits).err(), Some(PARSE_ERROR));
        let keys: String = (0..200_000).map(|n| format!("\"k{n}\":{n},")).collect();
        assert!(one(&format!(r#"{{"jsonrpc":"2.0","method":"x","id":1,"params":{{{keys}"z":0}}}}"#)).is_ok());
    }

    #[test]
    fn f45_batches_have_bounds() {
        let ping = r#"{"jsonrpc":"2.0","method":"ping","id":1}"#;
        let batch = |n: usize| read_client(format!("[{}]", vec![ping; n].join(",")).into());
        assert_eq!(batch(0).unwrap_err().code, INVALID_REQUEST);
        assert!(matches!(batch(BATCH_MAX), Ok(Body::Batch(all)) if all.len() == BATCH_MAX));
        assert_eq!(batch(10_000).unwrap_err().code, INVALID_REQUEST);
        assert_eq!(read_client("[1]".into()).unwrap_err().code, INVALID_REQUEST);
    }

    #[test]
    fn p6_ids_keep_their_type() {
        let id = |text| Id::read(text).unwrap();
        assert_ne!(id("1"), id("\"1\""));
        assert_ne!(id("9007199254740993"), id("9007199254740992"));
        assert_eq!(id(r#""a\/b""#), id(r#""a/b""#));
        assert_eq!(id("18446744073709551616").as_u64(), None);
        assert_eq!(id("7").as_u64(), Some(7));
        assert_eq!(id("\"7\"").as_u64(), None);
        for bad in ["1.0", "007", "-", "-01", "", "\"", "\"a\" \"b\"", "\"a", "\"a\nb\"", "\"\\ud800\"", "\"a\\\""] {
            assert_eq!(Id::read(bad), None, "{bad}");
        }
        assert_eq!(Id::read(&format!("\"{}\"", "x".repeat(ID_BYTES_MAX))), None);
    }

    #[test]
    fn a_method_with_escapes_is_read() {
        assert_eq!(one(r#"{"jsonrpc":"2.0","method":"tools\/call","id":1}"#).unwrap().method(), "tools/call");
        let method = r#"x","params":{"y":"\"#;
        assert_eq!(super::one(request(&Id::from(1), method, Some("{}"))).unwrap().method(), method);
    }

    #[test]
    fn progress_tokens_are_found_whatever_hides_them() {
        for token in ["\"t\"", "5"] {
            for name in ["progressToken", r"progress\u0054oken"] {
                let text = format!(
                    r#"{{"params":{{"a":"\n","_meta":{{"x":1,"{name}":{token}}}}},"jsonrpc":"2.0","method":"m","id":"i"}}"#
                );
                let message = one(&text).unwrap();
                let (found, span) = message.progress_token().unwrap().unwrap();
                assert_eq!(found.as_json(), token);
                let seven = Id::from(7);
                let spliced = message.with_id(&seven, Some((span, &seven)));
                let expected = text.replace("\"i\"", "7").replace(&format!("{name}\":{token}"), &format!("{name}\":7"));
                assert_eq!(spliced, expected.as_bytes());
            }
        }
        let twice = r#"{"jsonrpc":"2.0","method":"m","id":1,"params":{"_meta":{"progressToken":1,"progressToken":2}}}"#;
        assert!(one(twice).unwrap().progress_token().is_err());
        assert!(one(&twice.replace("1,\"progressToken\":2", "7.0")).unwrap().progress_token().is_err());
    }

    proptest! {
        #[test]
        fn splicing_an_id_there_and_back_is_the_identity(id in "[a-z0-9 ]{0,12}", body in "[ -~]{0,40}", first: bool) {
            let (id, body) = (serde_json::to_string(&id).unwrap(), serde_json::to_string(&body).unwrap());
            let text = match first {
                true => format!(r#"{{"id": {id},"jsonrpc":"2.0","result":{{"x":{body}}}}}"#),
                false => format!(r#"{{"result":{{"x":{body}}},"jsonrpc":"2.0", "id" :{id} }}"#),
            };
            let there = one(&text).unwrap().with_id(&Id::from(123456), None);
            let back = one(std::str::from_utf8(&there).unwrap()).unwrap().with_id(&Id::read(&id).unwrap(), None);
            prop_assert_eq!(back, text.as_bytes());
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&bytes);
            let _ = read_client(bytes.clone().into());
            let _ = read_upstream(bytes.into());
        }
    }
}
