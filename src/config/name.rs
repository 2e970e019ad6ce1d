//! The name of an upstream: what stands in the URL, in the log and in the metrics.
//!
//! Invariant: a [`Name`] needs no escaping anywhere, is in one case only, and is never a word the hub answers itself.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// `[a-z0-9][a-z0-9._-]{0,62}`, and none of `RESERVED`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The longest name: that of a DNS label.
const LENGTH_MAX: usize = 63;

/// First segments of paths that are the hub's own, now or soon.
pub const RESERVED: [&str; 15] = [
    "mcp", "sse", "message", "messages", "api", "ping", "healthz", "livez", "readyz", "metrics", "status", "assets",
    "servers", "admin", "hub",
];

/// Why a word cannot name an upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no character.
    #[error("a name cannot be empty")]
    Empty,
    /// It has more than 63.
    #[error("a name has at most {LENGTH_MAX} characters")]
    Long,
    /// The hub needs the path itself.
    #[error("`{0}` is reserved: the hub answers under that path itself")]
    Reserved(String),
    /// The first character is no letter or digit.
    #[error("a name begins with a lower-case letter or a digit")]
    Begin,
    /// This one is not among those of [`Name::new`].
    #[error("{0:?} cannot stand in a name, which is made of a-z, 0-9, `.`, `_` and `-`")]
    Character(char),
}

impl Name {
    /// The word as a name, if it is one: 1 to 63 of `a-z`, `0-9`, `.`, `_` and `-`, the first a letter or digit.
    pub fn new(word: &str) -> Result<Self, NameError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let Some(first) = word.chars().next() else {
            return Err(NameError::Empty);
        };
        if let Some(odd) = word.chars().find(|&c| !plain(c) && !matches!(c, '.' | '_' | '-')) {
            return Err(NameError::Character(odd));
        }
        if !plain(first) {
            return Err(NameError::Begin);
        }
        if word.len() > LENGTH_MAX {
            return Err(NameError::Long);
        }
        if RESERVED.contains(&word) {
            return Err(NameError::Reserved(word.to_owned()));
        }
        Ok(Self(word.into()))
    }

    /// As it is written in hub.toml and in URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without a copy.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// The nearest good name to a bad one, for the help line.
    pub fn near(word: &str) -> Option<Name> {
        let mapped: String = word
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
            .take(LENGTH_MAX)
            .collect();
        let trimmed = mapped.trim_start_matches(['.', '_', '-']).trim_end_matches('-');
        Name::new(trimmed).or_else(|_| Name::new(&format!("my-{trimmed}"))).ok()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f56_reserved_names() {
        for word in RESERVED {
            assert_eq!(Name::new(word), Err(NameError::Reserved(word.into())));
            assert_eq!(Name::near(word).map(|n| n.to_string()), Some(format!("my-{word}")));
        }
    }

    #[test]
    fn names() {
        let check = |word: &str, near: Option<&str>| match near {
            None => assert!(Name::new(word).is_ok(), "{word}"),
            Some(near) => {
                assert!(Name::new(word).is_err(), "{word}");
                assert_eq!(Name::near(word).as_ref().map(Name::as_str).unwrap_or(""), near, "{word}");
            }
        };
        check("time", None);
        check("0", None);
        check("a.b_c-d", None);
        check(&"a".repeat(63), None);
        check(&"a".repeat(64), Some(&"a".repeat(63)));
        check("", Some("my-"));
        check("Time", Some("time"));
        check("my server", Some("my-server"));
        check("-x", Some("x"));
        check(".well-known", Some("well-known"));
        check("a/b", Some("a-b"));
        check("zeit\u{fc}", Some("zeit"));
    }
}
