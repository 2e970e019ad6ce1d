//! What is written: the whole file, walked by hand over the tree with positions.
//!
//! Serde would stop at the first problem. Whoever edits a file wants all of them, each where it stands; so every key is
//! matched here, and what matches nothing is told with the word that was probably meant.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;

use super::keys::{self, Section};
use super::report::{Diagnostic, Findings, Severity};
use super::upstream::UpstreamFile;
use super::value::{Field, Reader};
use super::{Config, HubConfig, Name, UpstreamConfig};

/// Syntax errors follow from each other; beyond this many they are noise.
const SYNTAX_ERRORS_MAX: usize = 10;

/// Reads a text that was found in `folder`.
///
/// All problems are found at once, in the order of the file. The text comes to nothing else: only `${file:…}` reads
/// from the disk, and variables come from `env`.
pub fn parse(
    text: &str,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { folder, env, found: Findings::default(), excused: None, forgivable: false };
    let whole = syntax(&mut reader.found, &errors, text, root.get_ref());
    // A tree with holes would bring findings about what the holes swallowed.
    let config = if whole { reader.root(root.get_ref()) } else { Config::default() };
    let list = reader.found.finish(text);
    if list.iter().any(|d| d.severity == Severity::Error) { Err(list) } else { Ok((config, list)) }
}

/// What a text says of the hub itself, whatever is wrong with the rest of it.
pub(super) fn hub_alone(text: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Option<HubConfig> {
    let (root, _) = DeTable::parse_recoverable(text);
    let mut reader = Reader { folder, env, found: Findings::default(), excused: None, forgivable: false };
    let (key, value) = root.get_ref().get_key_value("hub")?;
    let mut hub = HubConfig::default();
    reader.hub(&Field::new("", key, value), &mut hub);
    Some(hub)
}

const DUPLICATE: &str = "duplicate key";

/// Tells what the parser found, without the echoes of each problem. `true` if the tree has no holes.
fn syntax(found: &mut Findings, errors: &[toml::de::Error], text: &str, root: &DeTable<'_>) -> bool {
    let span = |error: &toml::de::Error| error.span().unwrap_or(text.len()..text.len());
    let unclosed = errors.iter().any(|error| error.message().starts_with("unclosed"));
    let mut broken = 0;
    // Up to here the problem that was told last has its echoes.
    let mut told = 0;
    // The parser tells of duplicates last.
    let mut errors: Vec<_> = errors.iter().map(|error| (span(error), error)).collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (span, error) in errors {
        if span.start < told {
            continue;
        }
        let rest = text.get(span.start..).unwrap_or_default();
        if error.message() == DUPLICATE {
            let line = text.get(..span.start).unwrap_or_default().rfind('\n').map_or(0, |at| at + 1);
            if header(text[line..].lines().next().unwrap_or_default()).is_some() {
                // The keys of the second table are joined with those of the first, and so are there twice as well.
                told = rest.find("\n[").map_or(text.len(), |at| span.start + at + 1);
            }
            duplicate(found, span, text, root);
            continue;
        }
        broken += 1;
        if broken > SYNTAX_ERRORS_MAX {
            break;
        }
        let finding = found.error(span.clone(), error.message().to_owned());
        if unclosed {
            // All the rest of the file was read as a part of what is open.
            finding.help("a bracket that was opened before this may not be closed");
            break;
        }
        told = rest.find('\n').map_or(text.len(), |at| span.start + at + 1);
    }
    broken == 0
}

fn duplicate(found: &mut Findings, span: Range<usize>, text: &str, root: &DeTable<'_>) {
    let key = text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']);
    let first = first_header(text, &span).or_else(|| first_key(root, key, span.start));
    let title = format!("`{key}` is here twice");
    let finding = found.error(span, title).label("again").help("rename or remove one of the two");
    if let Some(first) = first {
        finding.also(first, "first here");
    }
}

/// The parser forgets where the first one stood. If the second is a header, the first is a header of the same words.
fn first_header(text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let path = header(text[start..].lines().next()?)?;
    // Most headers of a large file need not be parsed.
    let word = path.last()?.as_str();
    let mut at = 0;
    for line in text[..start].split_inclusive('\n') {
        if line.contains(word) && header(line).as_ref() == Some(&path) {
            let indent = line.len() - line.trim_start().len();
            return Some(at + indent..at + line.trim_end().len());
        }
        at += line.len();
    }
    None
}

fn header(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if !line.starts_with('[') {
        return None;
    }
    let root = DeTable::parse(line).ok()?;
    let mut path = Vec::new();
    let mut table = root.get_ref();
    while let Some((key, value)) = table.iter().next() {
        path.push(key.get_ref().to_string());
        table = value.get_ref().as_table()?;
    }
    Some(path)
}

/// The last key of these words before `end`.
fn first_key(table: &DeTable<'_>, key: &str, end: usize) -> Option<Range<usize>> {
    let mut best: Option<Range<usize>> = None;
    for (name, value) in table.iter() {
        let here = Some(name.span()).filter(|_| name.get_ref() == key);
        let below = value.get_ref().as_table().and_then(|table| first_key(table, key, end));
        for span in here.into_iter().chain(below).filter(|span| span.start < end) {
            if best.as_ref().is_none_or(|best| best.start < span.start) {
                best = Some(span);
            }
        }
    }
    best
}

impl<'a> Reader<'a> {
    fn root(&mut self, root: &'a DeTable<'a>) -> Config {
        if root.is_empty() {
            let mut empty = Diagnostic::of_file("the file is empty");
            empty.help("`hubward init` writes one to begin with; a hub without upstreams is a file with [hub]");
            self.found.add(empty);
            return Config::default();
        }
        let mut hub = HubConfig::default();
        let mut default = None;
        let mut defaults = UpstreamFile::default();
        let mut tables = None;
        for (key, value) in root.iter() {
            let field = Field::new("", key, value);
            match field.key {
                "hub" => default = self.hub(&field, &mut hub),
                "defaults" => {
                    if let Some(table) = self.table(&field) {
                        defaults = self.upstream_file(table, "defaults", Section::Defaults);
                    }
                }
                "upstreams" => tables = self.table(&field),
                _ => self.unknown(&field, Section::Root),
            }
        }
        let upstreams = tables.map(|tables| self.upstreams(tables, &defaults)).unwrap_or_default();
        if tables.is_none_or(|tables| tables.is_empty()) && !self.found.has_errors() {
            let mut none = Diagnostic::new(Severity::Warning, None, "there are no upstreams");
            none.help("add one: [upstreams.time] with a `command`");
            self.found.add(none);
        }
        self.default_upstream(default, tables, &mut hub);
        self.crossings(&hub, &upstreams, root);
        self.doors(&hub, &upstreams, root);
        Config { hub, upstreams }.settled()
    }

    fn upstreams(&mut self, tables: &'a DeTable<'a>, defaults: &UpstreamFile) -> BTreeMap<Name, UpstreamConfig> {
        let mut upstreams = BTreeMap::new();
        for (key, value) in tables.iter() {
            let field = Field::new("upstreams", key, value);
            let name = Name::new(field.key);
            if let Err(error) = &name {
                let finding = self.found.error(field.key_span.clone(), format!("bad name: {error}"));
                // `Time` beside `time` is not cured by writing it small.
                let folded = field.key.to_lowercase();
                match tables.get_key_value(folded.as_str()) {
                    Some((twin, _)) if folded != field.key => {
                        finding.also(twin.span(), "the same name but for case").help("choose another name");
                    }
                    _ => {
                        if let Some(near) = Name::near(field.key) {
                            finding.help(format!("`{near}` would do"));
                        }
                    }
                }
            }
            let Some(table) = self.table(&field) else {
                continue;
            };
            let upstream = self.upstream(table, &field, defaults);
            if let (Ok(name), Some(upstream)) = (name, upstream) {
                upstreams.insert(name, upstream);
            }
        }
        upstreams
    }

    fn default_upstream(
        &mut self,
        default: Option<(String, Range<usize>)>,
        tables: Option<&DeTable<'a>>,
        hub: &mut HubConfig,
    ) {
        let Some((word, span)) = default else { return };
        let names = || tables.into_iter().flat_map(DeTable::iter).map(|(key, _)| key.get_ref().as_ref());
        if names().any(|name| name == word) {
            // A bad name was told already, where it is defined.
            hub.default = Name::new(&word).ok();
            return;
        }
        let finding = self.found.error(span, "`hub.default` names no upstream");
        match keys::nearest(&word, names()) {
            Some(near) => finding.help(format!("did you mean \"{near}\"?")),
            None if names().count() == 0 => finding.help("there are no upstreams"),
            None => finding.help(format!("there are {}", keys::listed(&names().take(10).collect::<Vec<_>>()))),
        };
    }

    /// `/a` as a prefix and `a` as a name under `/` would give `/a/mcp` two meanings once `default` is set.
    fn crossings(&mut self, hub: &HubConfig, upstreams: &BTreeMap<Name, UpstreamConfig>, root: &DeTable<'_>) {
        for prefix in &hub.prefixes {
            let Some((parent, last)) = prefix.rsplit_once('/') else {
                continue;
            };
            if !upstreams.contains_key(last) || !hub.prefixes.iter().any(|other| other == parent) {
                continue;
            }
            let prefixes = root.get("hub").and_then(|hub| hub.get_ref().get("prefixes"));
            let title = format!("`{prefix}` is a prefix and also where the upstream `{last}` is mounted");
            let finding = self.found.error(prefixes.map_or(0..0, |p| p.span()), title);
            finding.help("choose another prefix, or rename the upstream");
        }
    }
}
