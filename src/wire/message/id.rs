//! Ids of requests, and progress tokens.

use std::fmt;

use bytestring::ByteString;

/// Longest request id or progress token we keep, in bytes of JSON.
pub const ID_BYTES_MAX: usize = 1024;

/// A request id or progress token: its JSON text, so that `1`, `"1"` and `18446744073709551616` stay apart.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(ByteString);

impl Id {
    /// Reads an id: a string or an integer (JSON-RPC allows fractions, MCP does not). The text may be anything.
    pub fn read(json: &str) -> Option<Id> {
        if json.len() > ID_BYTES_MAX {
            return None;
        }
        if json.starts_with('"') {
            let inner = json.get(1..json.len() - 1).filter(|_| json.ends_with('"'))?;
            if inner.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
                return Some(Id(json.into()));
            }
            // Two spellings of one string are one id.
            let text: String = serde_json::from_str(json).ok()?;
            return Some(Id(serde_json::to_string(&text).ok()?.into()));
        }
        let digits = json.strip_prefix('-').unwrap_or(json);
        let is_number = digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
        (!digits.is_empty() && is_number).then(|| Id(json.into()))
    }

    /// No id at all: what is kept where one is no longer needed.
    pub const BLANK: Id = Id(ByteString::new());

    /// The id as it stands on the wire.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The number, where it is one of ours.
    pub fn as_u64(&self) -> Option<u64> {
        let text = self.as_json();
        // "007" and "+7" are not how we print a number.
        let number = text.parse().ok()?;
        (text.len() == 1 || !text.starts_with(['0', '+'])).then_some(number)
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Id {
        Id(number.to_string().into())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_json())
    }
}
