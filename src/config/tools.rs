//! Which tools of an upstream exist for its callers: patterns over names, and whether definitions are pinned.

use std::fmt;

use globset::{Glob, GlobBuilder, GlobSet};
use toml::de::DeTable;

use super::UpstreamConfig;
use super::keys::Section;
use super::value::{Field, Reader};

/// The keys of an upstream that stand here.
pub(super) const TOOL_KEYS: [&str; 2] = ["tools", "pin_tools"];

/// `tools = { allow, deny }`: a tool exists where a pattern of `allow` matches its name and none of `deny` does.
#[derive(Debug, Clone)]
pub struct ToolFilter {
    allow: Patterns,
    deny: Patterns,
}

impl ToolFilter {
    /// None where a pattern is none.
    pub fn new(allow: &[&str], deny: &[&str]) -> Option<Self> {
        Some(Self { allow: Patterns::new(allow.iter().copied())?, deny: Patterns::new(deny.iter().copied())? })
    }

    /// The patterns of `allow` and of `deny`.
    pub fn written(&self) -> (&[String], &[String]) {
        (&self.allow.written, &self.deny.written)
    }

    /// Whether the hub lists and calls the tool.
    pub fn admits(&self, tool: &str) -> bool {
        self.allow.set.is_match(tool) && !self.deny.set.is_match(tool)
    }
}

impl PartialEq for ToolFilter {
    fn eq(&self, other: &Self) -> bool {
        (&self.allow.written, &self.deny.written) == (&other.allow.written, &other.deny.written)
    }
}

#[derive(Clone)]
struct Patterns {
    written: Vec<String>,
    set: GlobSet,
}

/// As written: the automaton is no sight.
impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl Patterns {
    fn new<'a>(written: impl Iterator<Item = &'a str>) -> Option<Self> {
        let written: Vec<String> = written.map(str::to_owned).collect();
        let mut set = GlobSet::builder();
        for pattern in &written {
            set.add(glob(pattern).ok()?);
        }
        Some(Self { written, set: set.build().ok()? })
    }
}

/// A name is no path: `*` goes over a slash.
fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build()
}

/// As written; `None` is "not said".
#[derive(Default, Clone)]
pub(super) struct ToolsFile {
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
    pin: Option<bool>,
}

impl ToolsFile {
    /// This, with `defaults` where it says nothing.
    pub(super) fn over(self, defaults: &Self) -> Self {
        Self {
            allow: self.allow.or_else(|| defaults.allow.clone()),
            deny: self.deny.or_else(|| defaults.deny.clone()),
            pin: self.pin.or(defaults.pin),
        }
    }

    /// Fills the gaps. A filter that admits everything is none.
    pub(super) fn complete(&self, config: &mut UpstreamConfig) {
        let words = |list: &Option<Vec<String>>, default: &[&str]| -> Vec<String> {
            list.clone().unwrap_or_else(|| default.iter().map(|word| (*word).to_owned()).collect())
        };
        let (allow, deny) = (words(&self.allow, &["*"]), words(&self.deny, &[]));
        let admits_all = deny.is_empty() && allow.iter().any(|pattern| pattern == "*");
        let compiled = |list: &[String]| Patterns::new(list.iter().map(String::as_str));
        // Each pattern was tried when it was read; together they can still be too large, and then nothing is admitted.
        let none = || Patterns { written: Vec::new(), set: GlobSet::empty() };
        config.tools = (!admits_all).then(|| match (compiled(&allow), compiled(&deny)) {
            (Some(allow), Some(deny)) => ToolFilter { allow, deny },
            _ => ToolFilter { allow: none(), deny: none() },
        });
        config.pin_tools = self.pin.unwrap_or(false);
    }
}

impl<'a> Reader<'a> {
    pub(super) fn tool_key(&mut self, field: &Field<'a>, file: &mut ToolsFile) {
        if field.key == "pin_tools" {
            file.pin = self.switch(field);
            return;
        }
        for (key, value) in self.table(field).into_iter().flat_map(DeTable::iter) {
            let field = Field::new(&field.path, key, value);
            match field.key {
                "allow" => file.allow = self.patterns(&field),
                "deny" => file.deny = self.patterns(&field),
                _ => self.unknown(&field, Section::Tools),
            }
        }
    }

    fn patterns(&mut self, field: &Field<'a>) -> Option<Vec<String>> {
        let mut patterns = Vec::new();
        for entry in self.list(field)? {
            let Some(text) = self.text(&entry) else { continue };
            match glob(text.expose()) {
                Ok(_) => patterns.push(text.expose().to_owned()),
                Err(error) => {
                    self.bad(&entry, &format!("this is no pattern: {}", error.kind()))
                        .help("* is anything, ? one character, [a-z] a class, {a,b} one of several; \\ takes a character as it is");
                }
            }
        }
        Some(patterns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t21_deny_wins_and_case_counts() {
        let check = |allow: &[&str], deny: &[&str], yes: &[&str], no: &[&str]| {
            let filter = ToolFilter::new(allow, deny).unwrap();
            yes.iter().for_each(|tool| assert!(filter.admits(tool), "{allow:?} {deny:?} {tool:?}"));
            no.iter().for_each(|tool| assert!(!filter.admits(tool), "{allow:?} {deny:?} {tool:?}"));
        };
        check(
            &["*"],
            &["delete_*"],
            &["add", "Delete_x", "un_delete_x"],
            &["delete_", "delete_x", "delete_a/b", "delete_\n"],
        );
        check(&["get_*", "add"], &["get_secret"], &["get_", "get_time", "add"], &["get_secret", "added", "", "x.get_"]);
        check(&[], &[], &[], &["", "a"]);
        check(&["{a,b}?", "[x-z]", r"\*"], &[], &["aa", "b1", "y", "*"], &["c1", "xy", "q"]);
        check(&["*/*"], &[], &["a/b"], &["ab"]);
    }

    #[test]
    fn what_is_written_decides_what_is_equal() {
        let filter = |deny: &[&str]| ToolFilter::new(&["*"], deny).unwrap();
        assert_eq!(filter(&["a"]), filter(&["a"]));
        assert_ne!(filter(&["a"]), filter(&["b"]));
        assert!(ToolFilter::new(&["[a"], &[]).is_none());
    }
}
