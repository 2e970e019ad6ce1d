//! Large messages: what can be told of them, and changed, without going over all of their bytes.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::{Id, Message, splice};

/// From here on a copy costs more than to ask whose the bytes are.
const LARGE_BYTES: usize = 16 << 10;
/// So much of a response is looked at: its version and its id.
const HEAD_BYTES: usize = 256;

impl Message {
    /// The message under another id, in its own bytes where nobody else has them and the id finds room: spaces after it
    /// mean nothing.
    pub fn under(self, id: &Id) -> Bytes {
        let json = id.as_json();
        let Some((_, own)) = &self.id else { return self.with_id(id, None) };
        if json.len() > own.len() || self.bytes.len() < LARGE_BYTES {
            return self.with_id(id, None);
        }
        let own = own.clone();
        match self.bytes.into_bytes().try_into_mut() {
            Ok(mut bytes) => {
                let (text, room) = bytes[own].split_at_mut(json.len());
                text.copy_from_slice(json.as_bytes());
                room.fill(b' ');
                bytes.freeze()
            }
            Err(shared) => splice(&shared, [(own, json)]),
        }
    }
}

/// Does a response say with its first members that it is a result? Where it does not it may still be one.
pub fn is_result(response: &[u8]) -> bool {
    static RESULT: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"result\":"));
    let head = &response[..response.len().min(HEAD_BYTES)];
    // Only the object's own brace comes before it, and no escape could make it a part of a text.
    RESULT.find(head).is_some_and(|at| head[..at].iter().filter(|b| matches!(b, b'{' | b'[' | b'\\')).count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::one;

    #[test]
    fn a_large_answer_gets_its_id_back_in_its_own_bytes() {
        let answer = |id: &str, size: usize| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"text":"{}"}}}}"#, "x".repeat(size));
            Bytes::from(text.into_bytes())
        };
        for (own, other, size, shared, moved) in [
            ("12345", "7", 1 << 20, false, false),
            ("12345", "54321", 1 << 20, false, false),
            ("12345", "\"a\"", 1 << 20, false, false),
            ("12345", "7", 1 << 20, true, true),
            ("12345", "\"a longer one\"", 1 << 20, false, true),
            ("12345", "7", 10, false, true),
        ] {
            let bytes = answer(own, size);
            let at = bytes.as_ptr();
            let other_hand = shared.then(|| bytes.clone());
            let under = one(bytes).unwrap().under(&Id::read(other).unwrap());
            assert_eq!(under.as_ptr() != at, moved, "{own} {other} {size} {shared}");
            let read = one(under.clone()).unwrap();
            assert_eq!(read.id().unwrap().as_json(), other);
            assert_eq!(read.result(), one(answer(own, size)).unwrap().result());
            assert!(other_hand.is_none_or(|bytes| bytes == answer(own, size)), "what others hold stays");
        }
    }

    #[test]
    fn a_result_is_told_by_its_head() {
        for (text, so) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, true),
            (r#" { "result":{"error":{}}, "id":1,"jsonrpc":"2.0"}"#, true),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"","data":{"result":1}}}"#, false),
            (r#"{"jsonrpc":"2.0","id":"\"result\":","error":{"code":1,"message":""}}"#, false),
            (r#"{"jsonrpc":"2.0","id":"{","result":{}}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"result" :{}}"#, false),
            ("", false),
        ] {
            assert_eq!(is_result(text.as_bytes()), so, "{text}");
        }
    }
}
