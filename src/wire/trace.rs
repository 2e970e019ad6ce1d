//! The place of a message in a trace, as W3C writes it: in `params._meta` (SEP-414), or in the headers beside it.
//!
//! A hub is a step of its own between its client and its upstream. So what goes on names that step as its parent, and
//! everything else in the message stays as it came, byte for byte.

use std::fmt;

use serde_json::Value;

use super::{Message, members, object::Object};

pub const PARENT: &str = "traceparent";
pub const STATE: &str = "tracestate";

/// Longest `tracestate` that goes on: as much as everybody has to accept (Trace Context, 3.3.1.5).
const STATE_BYTES_MAX: usize = 512;
const SAMPLED: u8 = 1;

/// A step of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace: u128,
    pub span: u64,
    pub flags: u8,
    /// What tracing systems keep beside it.
    pub state: Option<Box<str>>,
}

impl Context {
    /// Reads what two headers or two members say; none where it is no context (Trace Context, 3.2).
    pub fn read(parent: &str, state: Option<&str>) -> Option<Context> {
        let parent = parent.trim_matches([' ', '\t']);
        let mut parts = parent.split('-');
        let (version, trace, span, flags) =
            (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?, hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        // A later version may say more behind what is known, this one may not.
        let is_known = version < 0xff && (version > 0 || parts.next().is_none());
        let state = state.map(|state| state.trim_matches([' ', '\t'])).filter(|state| is_state(state));
        (is_known && trace != 0 && span != 0).then(|| Context {
            trace,
            span: span as u64,
            flags: flags as u8,
            state: state.map(Into::into),
        })
    }

    /// The context that a message carries in its `_meta`.
    pub fn of(message: &Message) -> Option<Context> {
        // Most have none, and a search is cheaper than a second parse. An escape could hide the name.
        if memchr::memmem::find(message.bytes(), PARENT.as_bytes()).is_none()
            && memchr::memchr(b'\\', message.bytes()).is_none()
        {
            return None;
        }
        let [parent, state] = message.meta([PARENT, STATE]).ok()?;
        Context::read(&members::string(parent?)?, state.and_then(members::string).as_deref())
    }

    /// The context in headers, whose values come in their order.
    pub fn of_headers<'a>(
        parents: impl Iterator<Item = &'a str>,
        states: impl Iterator<Item = &'a str>,
    ) -> Option<Context> {
        let mut parents = parents;
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let states: Vec<&str> = states.collect();
        Context::read(parent, Some(states.join(",").as_str()).filter(|state| !state.is_empty()))
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The message with this context in its `_meta`, in place of what was said there; as it is, where it has no place
    /// for one.
    pub fn put_on(&self, message: &Message) -> Message {
        let Some(params) = message.params() else {
            return message.with_params(&format!(r#"{{"_meta":{{{}}}}}"#, self.members()));
        };
        let Some(start) = message.params_span().map(|span| span.start).filter(|_| params.starts_with('{')) else {
            return message.clone();
        };
        match message.param(["_meta"]) {
            Ok([Some(meta)]) => match self.put_in(meta) {
                Some(with) => message.edited(message.span(meta), &with),
                None => message.clone(),
            },
            Ok([None]) => {
                let comma = if is_empty(params) { "" } else { "," };
                let first = start + 1;
                message.edited(first..first, &format!(r#""_meta":{{{}}}{comma}"#, self.members()))
            }
            Err(_) => message.clone(),
        }
    }

    /// A `_meta` with this context and no other.
    fn put_in(&self, meta: &str) -> Option<String> {
        let rest = Object::read(meta)?.edit().remove(PARENT).remove(STATE).apply();
        let comma = if rest == "{}" { "" } else { "," };
        Some(format!("{{{}{comma}{}", self.members(), &rest[1..]))
    }

    fn members(&self) -> String {
        match &self.state {
            Some(state) => format!(r#""{PARENT}":"{self}","{STATE}":{}"#, Value::from(&**state)),
            None => format!(r#""{PARENT}":"{self}""#),
        }
    }

    /// The message with this context in the headers beside it, in place of what was said there.
    pub fn put_beside(&self, message: Message) -> Message {
        let known = message.headers().into_iter().flat_map(|headers| headers.iter());
        let rest = known.filter(|(name, _)| name != PARENT && name != STATE).cloned();
        let state = self.state.iter().map(|state| (STATE.to_owned(), state.as_bytes().to_vec()));
        let headers = rest.chain([(PARENT.to_owned(), self.to_string().into_bytes())]).chain(state).collect();
        message.with_headers(Some(headers))
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// A number of so many digits, as W3C writes it.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == digits && text.bytes().all(lower)).then(|| u128::from_str_radix(text, 16).ok())?
}

fn is_state(text: &str) -> bool {
    !text.is_empty() && text.len() <= STATE_BYTES_MAX && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

fn is_empty(object: &str) -> bool {
    object[1..].trim_start_matches([' ', '\t', '\r', '\n']) == "}"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire::{Id, message};

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(state: Option<&str>) -> Context {
        Context::read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", state).unwrap()
    }

    fn one(text: &str) -> Message {
        message::one(text.to_owned().into()).unwrap()
    }

    #[test]
    fn a_context_is_read_as_w3c_writes_it() {
        let read = Context::read(GIVEN, Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")).unwrap();
        assert_eq!((read.trace, read.span), (0x4bf92f3577b34da6a3ce929d0e0e4736, 0x00f067aa0ba902b7));
        assert!(read.is_sampled() && !context(None).is_sampled());
        assert_eq!(read.to_string(), GIVEN);
        assert_eq!(read.state.as_deref(), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            assert_eq!(Context::read(bad, None), None, "{bad}");
        }
        let later = format!("cc{}-more-to-come", &GIVEN[2..]);
        assert_eq!(Context::read(&later, None).unwrap().to_string(), GIVEN, "a later version is read as this one");
    }

    #[test]
    fn a_state_that_nobody_has_to_accept_is_left_behind() {
        for bad in ["", " ", "a=\u{e9}", "a=\n", &"x".repeat(STATE_BYTES_MAX + 1)] {
            assert_eq!(Context::read(GIVEN, Some(bad)).unwrap().state, None, "{bad:?}");
        }
        let headers = |parents: &[&'static str], states: &[&'static str]| {
            Context::of_headers(parents.iter().copied(), states.iter().copied())
        };
        assert_eq!(headers(&[GIVEN], &["a=1", "b=2"]).unwrap().state.as_deref(), Some("a=1,b=2"));
        assert_eq!(headers(&[GIVEN], &[]).unwrap().state, None);
        assert_eq!(headers(&[GIVEN, GIVEN], &[]), None, "two of them contradict each other");
        assert_eq!(headers(&[], &["a=1"]), None);
    }

    #[test]
    fn the_context_is_found_whatever_hides_it() {
        for name in ["traceparent", r"trace\u0070arent"] {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"_meta":{{"{name}":"{GIVEN}","tracestate":"a=1"}}}}}}"#
            );
            let found = Context::of(&one(&text)).unwrap();
            assert_eq!((found.to_string().as_str(), found.state.as_deref()), (GIVEN, Some("a=1")));
        }
        for none in [
            r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#.to_owned(),
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"traceparent":"{GIVEN}"}}}}"#),
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"_meta":{{"traceparent":["{GIVEN}"]}}}}}}"#),
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"_meta":{{"traceparent":"{GIVEN}","traceparent":"{GIVEN}"}}}}}}"#
            ),
        ] {
            assert_eq!(Context::of(&one(&none)), None, "{none}");
        }
    }

    #[test]
    fn only_the_context_is_replaced() {
        let (plain, own) =
            (context(None), r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00""#);
        let cases = [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{OWN}}}"#,
            ),
            (
                r#"{"params": { } ,"jsonrpc":"2.0","id":1,"method":"m"}"#,
                r#"{"params": {"_meta":{OWN} } ,"jsonrpc":"2.0","id":1,"method":"m"}"#,
            ),
            (
                r#"{"params":{ "n" : 1.50, "e":"é\/"},"jsonrpc":"2.0","id":1,"method":"m"}"#,
                r#"{"params":{"_meta":{OWN}, "n" : 1.50, "e":"é\/"},"jsonrpc":"2.0","id":1,"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"params":{"a":0,"_meta" : {}},"method":"m"}"#,
                r#"{"jsonrpc":"2.0","id":1,"params":{"a":0,"_meta" : {OWN}},"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":{"progressToken":7,"traceparent":"x","tracestate":"a=1","baggage":"k=v"},"b":[ ]},"method":"m"}"#,
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":{OWN,"progressToken":7,"baggage":"k=v"},"b":[ ]},"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":{"traceparent":"x","trace\u0070arent":"y"}},"method":"m"}"#,
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":{OWN}},"method":"m"}"#,
            ),
            // No place for one.
            (
                r#"{"jsonrpc":"2.0","id":1,"params":[1],"method":"m"}"#,
                r#"{"jsonrpc":"2.0","id":1,"params":[1],"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":null},"method":"m"}"#,
                r#"{"jsonrpc":"2.0","id":1,"params":{"_meta":null},"method":"m"}"#,
            ),
        ];
        for (text, expected) in cases {
            let put = plain.put_on(&one(text));
            assert_eq!(put.bytes(), expected.replace("OWN", own).as_bytes());
            // The ids behind and before still stand where they are said to.
            let id = Id::read("\"another\"").unwrap();
            assert_eq!(put.with_id(&id, None), expected.replace("OWN", own).replace(r#""id":1"#, r#""id":"another""#));
        }
        let stated = context(Some(r#"a="\"#)).put_on(&one(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#));
        assert_eq!(Context::of(&stated).unwrap().state.as_deref(), Some(r#"a="\"#));
    }

    #[test]
    fn the_headers_beside_a_message_say_the_same() {
        let headers =
            [("x-a", "1"), (PARENT, GIVEN), (STATE, "old=1")].map(|(k, v)| (k.to_owned(), v.as_bytes().to_vec()));
        let message = one(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#).with_headers(Some(headers.into()));
        let beside = context(None).put_beside(message);
        let all: Vec<(&str, &[u8])> =
            beside.headers().unwrap().iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let own = context(None).to_string();
        assert_eq!(all, [("x-a", &b"1"[..]), (PARENT, own.as_bytes())]);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(trace in 1u128.., span in 1u64.., flags: u8, state in "[ -~]{0,40}") {
            let state = Some(state.trim()).filter(|state| !state.is_empty()).map(Into::into);
            let context = Context { trace, span, flags, state };
            prop_assert_eq!(Context::read(&context.to_string(), context.state.as_deref()), Some(context));
        }

        #[test]
        fn reading_never_panics(parent in ".{0,60}", state in ".{0,20}") {
            let _ = Context::read(&parent, Some(&state));
        }

        #[test]
        fn putting_a_context_on_means_the_same_as_on_a_tree(
            meta in proptest::option::of(proptest::collection::btree_map("a|b|traceparent|tracestate|baggage", "[ -~]{0,8}", 0..5)),
            more in proptest::collection::btree_map("[a-c]", "[ -~]{0,8}", 0..3),
            has_params: bool, last: bool, spaces in "[ \n]{0,2}",
        ) {
            let mut params = json!(more);
            if let Some(meta) = &meta {
                params["_meta"] = json!(meta);
            }
            let printed = params.to_string().replace("{", &format!("{{{spaces}")).replace(",\"", &format!("{spaces},{spaces}\""));
            let (printed, has_params) = match serde_json::from_str::<Value>(&printed) {
                Ok(same) if same == params => (printed, has_params),
                _ => (params.to_string(), has_params),
            };
            let text = match (has_params, last) {
                (false, _) => r#"{"jsonrpc":"2.0","method":"m","id":"i"}"#.to_owned(),
                (true, true) => format!(r#"{{"jsonrpc":"2.0","method":"m","id":"i","params":{printed}}}"#),
                (true, false) => format!(r#"{{"params":{spaces}{printed}{spaces},"jsonrpc":"2.0","method":"m","id":"i"}}"#),
            };
            let mut tree: Value = serde_json::from_str(&text).unwrap();
            let own = context(Some("k=v"));
            if tree["params"]["_meta"].is_null() {
                tree["params"]["_meta"] = json!({});
            }
            tree["params"]["_meta"][PARENT] = json!(own.to_string());
            tree["params"]["_meta"][STATE] = json!("k=v");
            let put = own.put_on(&one(&text));
            prop_assert_eq!(serde_json::from_slice::<Value>(put.bytes()).unwrap(), tree);
            // What is kept of a message beside its bytes is what a second parse would find.
            let again = one(std::str::from_utf8(put.bytes()).unwrap());
            let seven = Id::from(7);
            prop_assert_eq!(put.with_id(&seven, None), again.with_id(&seven, None));
            prop_assert_eq!((put.method(), put.id(), put.params()), (again.method(), again.id(), again.params()));
            prop_assert_eq!(Context::of(&put), Some(own));
        }
    }
}
