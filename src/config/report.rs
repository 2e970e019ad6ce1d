//! A problem drawn under the line that caused it; or told to a program as JSON, or to GitHub's log.
//!
//! Invariant: no value that came from a variable or a file is in a [`Diagnostic`]. What is drawn is what the file says.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::json;

/// Whether the file can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing to know about the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Bytes of the text; `None` when it is about the file as a whole.
    pub span: Option<Range<usize>>,
    /// From 1; 0 when there is no span.
    pub line: usize,
    /// From 1, in characters; 0 when there is no span.
    pub column: usize,
    /// The problem, in one line that makes sense alone.
    pub title: String,
    /// What stands under the caret; may be empty.
    pub label: String,
    /// The next step.
    pub help: Option<String>,
    /// Other places that have to do with it.
    pub other: Vec<(Range<usize>, String)>,
}

impl Diagnostic {
    pub(super) fn new(severity: Severity, span: Option<Range<usize>>, title: impl Into<String>) -> Self {
        Self {
            severity,
            span,
            line: 0,
            column: 0,
            title: title.into(),
            label: String::new(),
            help: None,
            other: Vec::new(),
        }
    }

    /// A problem of the file as a whole.
    pub(crate) fn of_file(title: impl Into<String>) -> Self {
        Self::new(Severity::Error, None, title)
    }

    pub(super) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn also(&mut self, span: Range<usize>, label: impl Into<String>) -> &mut Self {
        self.other.push((span, label.into()));
        self
    }
}

/// What was found so far; each problem once, however many upstreams share the line that causes it.
#[derive(Default)]
pub(super) struct Findings {
    list: Vec<Diagnostic>,
    seen: HashSet<(usize, String)>,
    scrap: Option<Diagnostic>,
}

impl Findings {
    pub(super) fn error(&mut self, span: Range<usize>, title: impl Into<String>) -> &mut Diagnostic {
        self.add(Diagnostic::new(Severity::Error, Some(span), title))
    }

    pub(super) fn warning(&mut self, span: Range<usize>, title: impl Into<String>) -> &mut Diagnostic {
        self.add(Diagnostic::new(Severity::Warning, Some(span), title))
    }

    pub(super) fn add(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        let start = diagnostic.span.as_ref().map_or(0, |span| span.start);
        if self.seen.insert((start, diagnostic.title.clone())) {
            let at = self.list.len();
            self.list.push(diagnostic);
            &mut self.list[at]
        } else {
            self.scrap.insert(diagnostic)
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// All of it, in the order of the file, with lines and columns.
    pub(super) fn finish(self, text: &str) -> Vec<Diagnostic> {
        let mut list = self.list;
        list.sort_by_key(|d| (d.span.as_ref().map_or(0, |span| span.start), d.severity));
        let lines = Lines::of(text);
        for diagnostic in &mut list {
            if let Some(span) = &diagnostic.span {
                (diagnostic.line, diagnostic.column) = lines.place(span.start);
            }
        }
        list
    }
}

/// Where the lines begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(breaks).collect() }
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts[line - 1];
        let column = self.text.get(start..at).map_or(at - start, |before| before.chars().count());
        (line, column + 1)
    }
}

/// Beyond this many nobody reads on, and a broken file of ten thousand upstreams would fill the log.
const DRAWN_MAX: usize = 40;

/// The report as a person reads it.
pub fn draw(diagnostics: &[Diagnostic], text: &str, path: &Path, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(120);
    let path = path.display().to_string();
    let mut out = String::new();
    for diagnostic in diagnostics.iter().take(DRAWN_MAX) {
        out.push_str(&renderer.render(&[group(diagnostic, text, &path)]));
        out.push_str("\n\n");
    }
    if diagnostics.len() > DRAWN_MAX {
        let _ = writeln!(out, "… and {} more\n", diagnostics.len() - DRAWN_MAX);
    }
    if !diagnostics.is_empty() {
        let _ = writeln!(out, "{path}: {}", counted(diagnostics));
    }
    out
}

fn group<'a>(diagnostic: &'a Diagnostic, text: &'a str, path: &'a str) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.title.as_str()));
    match &diagnostic.span {
        Some(span) => {
            let (window, line) = window(text, span, &diagnostic.other);
            let shifted = |range: &Range<usize>| {
                let end = window.len();
                range.start.saturating_sub(window.start).min(end)..range.end.saturating_sub(window.start).min(end)
            };
            let mut primary = AnnotationKind::Primary.span(shifted(span));
            if !diagnostic.label.is_empty() {
                primary = primary.label(diagnostic.label.as_str());
            }
            let mut snippet = Snippet::source(&text[window.clone()]).line_start(line).path(path).annotation(primary);
            for (range, label) in &diagnostic.other {
                snippet = snippet.annotation(AnnotationKind::Context.span(shifted(range)).label(label.as_str()));
            }
            group = group.element(snippet);
        }
        None if diagnostic.line > 0 => {
            let place = Origin::path(path).line(diagnostic.line).char_column(diagnostic.column);
            group = group.element(place);
        }
        None => group = group.element(Origin::path(path)),
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    group
}

/// The whole lines that hold every span, and the number of the first: so that drawing one problem of a large file
/// does not cost the whole file.
fn window(text: &str, span: &Range<usize>, other: &[(Range<usize>, String)]) -> (Range<usize>, usize) {
    let spans = || std::iter::once(span).chain(other.iter().map(|(range, _)| range));
    let first = spans().map(|s| s.start).min().unwrap_or(0).min(text.len());
    let last = spans().map(|s| s.end).max().unwrap_or(0).clamp(first, text.len());
    let bytes = text.as_bytes();
    let start = memchr::memrchr(b'\n', &bytes[..first]).map_or(0, |at| at + 1);
    let end = memchr::memchr(b'\n', &bytes[last..]).map_or(text.len(), |at| last + at);
    (start..end, memchr::memchr_iter(b'\n', &bytes[..start]).count() + 1)
}

/// "2 errors, 1 warning".
pub fn counted(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    let word = |n: usize, word: &str| match n {
        0 => None,
        1 => Some(format!("1 {word}")),
        n => Some(format!("{n} {word}s")),
    };
    let parts = [word(count(Severity::Error), "error"), word(count(Severity::Warning), "warning")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The report as a program reads it: one JSON object.
pub fn json(diagnostics: &[Diagnostic], text: &str, path: &Path) -> String {
    let lines = Lines::of(text);
    let place = |range: &Range<usize>, label: &str| {
        let (line, column) = lines.place(range.start);
        json!({ "line": line, "column": column, "label": label })
    };
    let list: Vec<_> = diagnostics
        .iter()
        .map(|d| {
            let end = d.span.as_ref().map(|span| lines.place(span.end));
            json!({
                "severity": d.severity.as_str(),
                "line": d.line,
                "column": d.column,
                "end_line": end.map(|end| end.0),
                "end_column": end.map(|end| end.1),
                "title": d.title,
                "label": d.label,
                "help": d.help,
                "other": d.other.iter().map(|(range, label)| place(range, label)).collect::<Vec<_>>(),
            })
        })
        .collect();
    let valid = diagnostics.iter().all(|d| d.severity != Severity::Error);
    json!({ "file": path.display().to_string(), "valid": valid, "diagnostics": list }).to_string()
}

/// The report as workflow commands: GitHub shows them beside the lines of the change.
pub fn github(diagnostics: &[Diagnostic], path: &Path) -> String {
    // The two alphabets of the workflow commands: a property must hide `:` and `,` as well.
    let data = |s: &str| s.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |s: &str| data(s).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for d in diagnostics {
        let _ = write!(out, "::{} file={}", d.severity.as_str(), property(&path.display().to_string()));
        if d.line > 0 {
            let _ = write!(out, ",line={},col={}", d.line, d.column);
        }
        let more = [Some(d.label.as_str()).filter(|label| !label.is_empty()), d.help.as_deref()];
        let more: Vec<&str> = more.into_iter().flatten().collect();
        let message = if more.is_empty() { d.title.clone() } else { more.join("\n") };
        let _ = writeln!(out, ",title={}::{}", property(&d.title), data(&message));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, span: Range<usize>) -> Vec<Diagnostic> {
        let mut findings = Findings::default();
        findings.error(span.clone(), "a: b, 100%").label("here").help("do this");
        findings.error(span, "a: b, 100%").label("not told twice");
        findings.finish(text)
    }

    #[test]
    fn places_count_characters() {
        let check = |text: &str, at, expected| assert_eq!(Lines::of(text).place(at), expected, "{text:?} {at}");
        check("", 0, (1, 1));
        check("ab\ncd", 3, (2, 1));
        check("ab\ncd", 5, (2, 3));
        check("a\u{e9}b", 3, (1, 3));
    }

    #[test]
    fn formats() {
        let text = "x = 1\ny = 2\n";
        let found = one(text, 6..7);
        let path = Path::new("hub.toml");
        assert_eq!(found.len(), 1);
        assert_eq!(github(&found, path), "::error file=hub.toml,line=2,col=1,title=a%3A b%2C 100%25::here%0Ado this\n");
        let value: serde_json::Value = serde_json::from_str(&json(&found, text, path)).unwrap();
        assert_eq!(value["valid"], false);
        assert_eq!(value["diagnostics"][0]["line"], 2);
        assert_eq!(value["diagnostics"][0]["end_column"], 2);
        let drawn = draw(&found, text, path, false);
        assert!(drawn.contains("--> hub.toml:2:1") && drawn.contains("2 | y = 2"), "{drawn}");
        assert!(draw(&found, text, path, true).contains('\u{1b}'));
    }

    #[test]
    fn spans_at_the_end_and_beyond_are_drawn() {
        for (text, span) in [("", 0..0), ("a", 1..1), ("a\n", 2..2), ("a", 5..9), ("\u{e9}", 0..2)] {
            draw(&one(text, span), text, Path::new("x"), false);
        }
    }
}
