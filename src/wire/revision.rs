//! Protocol revisions, and the table of where they differ.
//!
//! A revision is a date; later dates compare greater. Every question "may this revision …?" is a method
//! here, so that no other file compares dates.

use std::fmt;

/// A revision that opens with `initialize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
}

use Revision::*;

impl Revision {
    pub const ALL: [Revision; 4] = [V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25];
    pub const LATEST: Revision = V2025_11_25;
    /// What a Streamable HTTP request without a version header speaks (2025-06-18, basic/transports).
    pub const ASSUMED: Revision = V2025_03_26;

    pub fn read(text: &str) -> Option<Revision> {
        Revision::ALL.into_iter().find(|revision| revision.as_str() == text)
    }

    /// What `initialize` answers: the client's own where we know it, else our latest (basic/lifecycle).
    pub fn negotiate(requested: &str) -> Revision {
        Revision::read(requested).unwrap_or(Revision::LATEST)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            V2024_11_05 => "2024-11-05",
            V2025_03_26 => "2025-03-26",
            V2025_06_18 => "2025-06-18",
            V2025_11_25 => "2025-11-25",
        }
    }

    /// May several messages share an array? Only 2025-03-26 says so (2025-03-26, basic/index).
    pub fn batches(self) -> bool {
        self == V2025_03_26
    }

    /// Does a stream open with an event that has an id and no data, and may it name a `retry`? (SEP-1699)
    ///
    /// Older clients hand the empty data to their JSON parser and fail.
    pub fn primes(self) -> bool {
        self >= V2025_11_25
    }

    /// Has it the experimental tasks, which became an extension afterwards (2025-11-25, basic/utilities/tasks)?
    pub fn tasks(self) -> bool {
        self == V2025_11_25
    }
}

/// The revision without sessions, the only one of its era so far.
pub const MODERN: &str = "2026-07-28";

/// Is this a date after the last revision that has sessions?
pub fn is_later(text: &str) -> bool {
    let date = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    date && text > Revision::LATEST.as_str()
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p15_each_known_revision_is_answered_with_itself_and_others_with_the_latest() {
        for revision in Revision::ALL {
            assert_eq!(Revision::negotiate(revision.as_str()), revision);
        }
        for other in ["2026-07-28", "1999-01-01", "", "2025-11-25 "] {
            assert_eq!(Revision::negotiate(other), Revision::LATEST);
        }
    }

    #[test]
    fn the_table() {
        let table = |rule: fn(Revision) -> bool| Revision::ALL.map(rule);
        assert_eq!(table(Revision::batches), [false, true, false, false]);
        assert_eq!(table(Revision::primes), [false, false, false, true]);
        assert_eq!(table(Revision::tasks), [false, false, false, true]);
    }
}
