//! One tree for three ways to write it: JSON with comments, YAML and TOML, in the order of the text.
//!
//! Whatever the text, the tree is small: its depth, its bytes and what aliases may repeat are bounded.

use std::fmt;

use indexmap::IndexMap;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The largest text: a client may keep its whole history in the file, and of what counts only a few KiB are needed.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// The deepest tree. Clients need eight levels.
const DEPTH_MAX: usize = 48;

/// What aliases may repeat, and all that a YAML text may hold: a thousand servers.
const YAML_NODES_MAX: usize = 100_000;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    /// As it would be written.
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Table(Table),
}

pub(super) type Table = IndexMap<String, Tree>;

impl Tree {
    pub(super) fn table(&self) -> Option<&Table> {
        if let Tree::Table(table) = self { Some(table) } else { None }
    }

    pub(super) fn list(&self) -> Option<&[Tree]> {
        if let Tree::List(list) = self { Some(list) } else { None }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Tree::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        if let Tree::Bool(value) = self { Some(*value) } else { None }
    }

    /// What stands for a word: clients are not strict about numbers and switches.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Tree::Text(text) => Some(text.clone()),
            Tree::Number(number) => Some(number.clone()),
            Tree::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Tree> {
        self.table()?.get(key)
    }

    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Tree::Null => true,
            Tree::Text(text) => text.is_empty(),
            Tree::List(list) => list.is_empty(),
            Tree::Table(table) => table.is_empty(),
            Tree::Bool(_) | Tree::Number(_) => false,
        }
    }
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    Json,
    Toml,
    Yaml,
}

impl Syntax {
    /// By the end of a file's name; without one, by how the text begins.
    pub fn guess(name: &str, text: &str) -> Self {
        match name.rsplit_once('.').map(|(_, end)| end) {
            Some("json" | "jsonc" | "json5") => Syntax::Json,
            Some("toml") => Syntax::Toml,
            Some("yaml" | "yml") => Syntax::Yaml,
            _ => match text.trim_start().as_bytes() {
                [b'{' | b'/', ..] => Syntax::Json,
                [b'[', ..] if !text.trim_start().starts_with("[{") => Syntax::Toml,
                [b'[', ..] => Syntax::Json,
                _ => Syntax::Yaml,
            },
        }
    }
}

/// Why a text is no tree. It shows where, and nothing of what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    #[error("it is larger than {} MiB", TEXT_BYTES_MAX >> 20)]
    Large,
    #[error("line {line}, column {column}: {what}")]
    At { line: usize, column: usize, what: String },
    #[error("{0}")]
    Whole(&'static str),
}

pub(super) fn read(text: &str, syntax: Syntax) -> Result<Tree, SyntaxError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SyntaxError::Large);
    }
    // Editors on Windows put it there.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match syntax {
        Syntax::Json => json(text),
        Syntax::Toml => toml(text),
        Syntax::Yaml => yaml(text),
    }
}

fn json(text: &str) -> Result<Tree, SyntaxError> {
    jsonc_parser::parse_to_serde_value(text, &jsonc_parser::ParseOptions::default()).map_err(|error| {
        let (line, column) = (error.line_display(), error.column_display());
        SyntaxError::At { line, column, what: "this is not JSON".into() }
    })
}

fn yaml(text: &str) -> Result<Tree, SyntaxError> {
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        max_nodes: YAML_NODES_MAX,
        max_events: YAML_NODES_MAX * 3,
        max_documents: 1,
        max_aliases: 1000,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: YAML_NODES_MAX,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: 1000,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        // `on` and `no` are words.
        strict_booleans: true,
        // An error would quote the line, and what is secret in it.
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| match error.location() {
        Some(at) => {
            let (line, column) = (at.line() as usize, at.column() as usize);
            SyntaxError::At { line, column, what: "this is not YAML, or too much of it".into() }
        }
        None => SyntaxError::Whole("this is not YAML, or too much of it"),
    })
}

fn toml(text: &str) -> Result<Tree, SyntaxError> {
    let document: toml_edit::DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        SyntaxError::At { line, column, what: "this is not TOML".into() }
    })?;
    table(document.as_table(), DEPTH_MAX)
}

const DEEP: SyntaxError = SyntaxError::Whole("it is nested too deeply");

fn table(table: &dyn toml_edit::TableLike, left: usize) -> Result<Tree, SyntaxError> {
    let left = left.checked_sub(1).ok_or(DEEP)?;
    let pairs = table.iter().map(|(key, item)| Ok((key.to_owned(), item_tree(item, left)?)));
    pairs.collect::<Result<_, _>>().map(Tree::Table)
}

fn item_tree(item: &toml_edit::Item, left: usize) -> Result<Tree, SyntaxError> {
    match item {
        toml_edit::Item::None => Ok(Tree::Null),
        toml_edit::Item::Value(one) => value(one, left),
        toml_edit::Item::Table(one) => table(one, left),
        toml_edit::Item::ArrayOfTables(list) => {
            list.iter().map(|one| table(one, left)).collect::<Result<_, _>>().map(Tree::List)
        }
    }
}

fn value(value_: &toml_edit::Value, left: usize) -> Result<Tree, SyntaxError> {
    use toml_edit::Value;
    let left = left.checked_sub(1).ok_or(DEEP)?;
    Ok(match value_ {
        Value::String(text) => Tree::Text(text.value().clone()),
        Value::Integer(number) => Tree::Number(number.value().to_string()),
        Value::Float(number) => Tree::Number(number.value().to_string()),
        Value::Boolean(value) => Tree::Bool(*value.value()),
        Value::Datetime(time) => Tree::Text(time.value().to_string()),
        Value::Array(list) => Tree::List(list.iter().map(|one| value(one, left)).collect::<Result<_, _>>()?),
        Value::InlineTable(inline) => table(inline, left)?,
    })
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level(DEPTH_MAX).deserialize(deserializer)
    }
}

/// A tree of so many levels at most.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Level).ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Number(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Tree, E> {
        Ok(Tree::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let (below, mut list) = (self.below()?, Vec::new());
        while let Some(one) = access.next_element_seed(below)? {
            list.push(one);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let (below, mut table) = (self.below()?, Table::new());
        while let Some(key) = access.next_key_seed(below)? {
            let key = key.word().ok_or_else(|| de::Error::custom("a key that is no word"))?;
            table.insert(key, access.next_value_seed(below)?);
        }
        Ok(Tree::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, syntax: Syntax) -> String {
        match read(text, syntax) {
            Ok(tree) => format!("{:?}", tree.table().map(|table| table.keys().cloned().collect::<Vec<_>>())),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_same_in_three_ways_and_in_the_order_of_the_text() {
        let json = read("\u{feff}{ // why\n \"b\": [1, 'x', null, 1.5,], \"a\": { \"c\": true } }", Syntax::Json);
        let yaml = read("b: [1, x, ~, 1.5]\na:\n  c: true\n", Syntax::Yaml);
        assert_eq!(json, yaml);
        assert_eq!(shown("b = 1\n[a]\nc = true\n", Syntax::Toml), r#"Some(["b", "a"])"#);
        assert_eq!(json.unwrap().table().unwrap().keys().collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn an_error_shows_where_and_nothing_of_what_stands_there() {
        for (text, syntax) in [
            ("{ \"key\": sk-s3cret }", Syntax::Json),
            ("key: 's3cret\nb: 2", Syntax::Yaml),
            ("key = s3cret", Syntax::Toml),
        ] {
            let told = shown(text, syntax);
            assert!(told.contains("line ") && !told.contains("s3cret"), "{told}");
        }
    }

    #[test]
    fn bombs_do_not_go_off() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for syntax in [Syntax::Json, Syntax::Yaml] {
            assert!(read(&deep, syntax).is_err());
        }
        assert!(read(&format!("a = {deep}"), Syntax::Toml).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for at in 1..12 {
            let before = vec![format!("*a{}", at - 1); 10].join(", ");
            laughs += &format!("a{at}: &a{at} [{before}]\n");
        }
        assert!(read(&laughs, Syntax::Yaml).is_err());
        assert_eq!(read(&" ".repeat(TEXT_BYTES_MAX + 1), Syntax::Json), Err(SyntaxError::Large));
    }
}
