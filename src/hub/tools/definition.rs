//! What a tool is, as a hash: the same for every order of members and spelling of a string, another for all else.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    config::hex,
    wire::{members, object::Object},
};

/// Longest name of a tool that is kept.
const NAME_BYTES_MAX: usize = 1024;
/// Tools of one upstream that are kept.
const TOOLS_MAX: usize = 10_000;
/// Members of a tool that are told apart; there are eight in the protocol.
const FIELDS_MAX: usize = 32;
/// Nesting that is looked into; what is deeper counts as it is spelt.
const DEPTH_MAX: usize = 64;

/// One tool's definition, as hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Of the whole.
    pub hash: String,
    /// Of each member, shortened: only to say which of them changed.
    fields: BTreeMap<String, String>,
}

/// All tools of an upstream, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Definitions(BTreeMap<String, Definition>);

/// From one list of tools to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// And which members of each.
    pub changed: Vec<(String, Vec<String>)>,
}

/// The name of a tool in a list; none where it has none, or two.
pub fn name_of(tool: &Object<'_>) -> Option<String> {
    let mut names = tool.members().filter(|member| member.name == "name");
    let (Some(name), None) = (names.next(), names.next()) else { return None };
    let name: String = serde_json::from_str(name.value.get()).ok()?;
    (name.len() <= NAME_BYTES_MAX).then_some(name)
}

impl Definition {
    /// Reads a tool of a list, with its name.
    pub fn read(tool: &str) -> Option<(String, Definition)> {
        let object = Object::read(tool)?;
        let name = name_of(&object)?;
        let named = object.members().filter(|member| member.name != "name" && member.name.len() <= NAME_BYTES_MAX);
        let fields = named.take(FIELDS_MAX).map(|member| {
            let mut short = hash_of(member.value.get());
            short.truncate(16);
            (member.name.to_string(), short)
        });
        Some((name, Definition { hash: hash_of(tool), fields: fields.collect() }))
    }
}

impl Definitions {
    pub fn get(&self, name: &str) -> Option<&Definition> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Definition)> {
        self.0.iter()
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds the tools of one page. Fails where they cannot all be told apart.
    #[must_use]
    pub fn add(&mut self, tools: &str) -> bool {
        let Ok(all) = serde_json::from_str::<Vec<&RawValue>>(tools) else { return false };
        all.into_iter().all(|tool| {
            let Some((name, new)) = Definition::read(tool.get()) else { return false };
            match self.0.get_mut(&name) {
                // Which of two a client takes is not known: together they are neither.
                Some(twin) => {
                    twin.hash = hex(digest(&SHA256, format!("{} {}", twin.hash, new.hash).as_bytes()).as_ref())
                }
                None => drop(self.0.insert(name, new)),
            }
            self.0.len() <= TOOLS_MAX
        })
    }

    /// One hash of all.
    pub fn hash(&self) -> String {
        let mut context = Context::new(&SHA256);
        for (name, definition) in &self.0 {
            put(&mut context, b'"', name);
            put(&mut context, b'=', &definition.hash);
        }
        let mut hash = hex(context.finish().as_ref());
        hash.truncate(16);
        hash
    }

    pub fn difference_to(&self, new: &Definitions) -> Difference {
        let missing = |from: &Definitions, of: &Definitions| -> Vec<String> {
            of.0.keys().filter(|name| !from.0.contains_key(*name)).cloned().collect()
        };
        let both = new.0.iter().filter_map(|(name, new)| Some((name, self.get(name)?, new)));
        let changed = both.filter(|(_, old, new)| old.hash != new.hash).map(|(name, old, new)| {
            let all: BTreeSet<&String> = old.fields.keys().chain(new.fields.keys()).collect();
            let other = all.into_iter().filter(|field| old.fields.get(*field) != new.fields.get(*field));
            (name.clone(), other.cloned().collect())
        });
        Difference { added: missing(self, new), removed: missing(new, self), changed: changed.collect() }
    }
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Each name, and what became of it.
    pub fn names(&self) -> impl Iterator<Item = (&String, &'static str)> {
        let added = self.added.iter().map(|name| (name, "added"));
        let changed = self.changed.iter().map(|(name, _)| (name, "changed"));
        added.chain(changed).chain(self.removed.iter().map(|name| (name, "removed")))
    }
}

fn hash_of(json: &str) -> String {
    let mut context = Context::new(&SHA256);
    feed(&mut context, json, 0);
    hex(context.finish().as_ref())
}

/// A text with its kind and length before it: no two rows of them read the same.
fn put(context: &mut Context, kind: u8, text: &str) {
    context.update(&[kind]);
    context.update(&(text.len() as u64).to_le_bytes());
    context.update(text.as_bytes());
}

/// A value in its one form. Members that stand twice count twice: which of them a client takes is not known.
fn feed(context: &mut Context, json: &str, depth: usize) {
    let count = |context: &mut Context, kind: u8, count: usize| {
        context.update(&[kind]);
        context.update(&(count as u64).to_le_bytes());
    };
    match json.as_bytes().first() {
        Some(b'{') if depth < DEPTH_MAX => {
            let Some(object) = Object::read(json) else { return put(context, b'?', json) };
            let mut members: Vec<_> = object.members().collect();
            members.sort_by(|a, b| a.name.cmp(&b.name));
            count(context, b'{', members.len());
            for member in members {
                put(context, b'"', &member.name);
                feed(context, member.value.get(), depth + 1);
            }
        }
        Some(b'[') if depth < DEPTH_MAX => {
            let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json) else { return put(context, b'?', json) };
            count(context, b'[', items.len());
            items.into_iter().for_each(|item| feed(context, item.get(), depth + 1));
        }
        Some(b'"') => match members::string(json) {
            Some(text) => put(context, b'"', &text),
            None => put(context, b'?', json),
        },
        _ => put(context, b'?', json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(tool: &str) -> String {
        Definition::read(tool).unwrap().1.hash
    }

    #[test]
    fn f126_order_and_spelling_are_no_change_and_all_else_is() {
        let tool = r#"{"name":"a","description":"é","inputSchema":{"type":"object","properties":{"x":{},"y":[1,2]}}}"#;
        let same = r#"{ "inputSchema" : {"properties":{"y":[1,2],"x":{}},"type":"object"}, "description":"\u00e9","name":"\u0061"}"#;
        assert_eq!(hash(tool), hash(same));
        let others = [
            tool.replace("é", "e"),
            tool.replace("[1,2]", "[2,1]"),
            tool.replace("[1,2]", "[1,[2]]"),
            tool.replace(r#""x":{}"#, r#""x":{"x":{}}"#),
            tool.replace("1,2", "1,2.0"),
            tool.replace(r#""name":"a","#, r#""name":"a","_meta":null,"#),
            // A member that stands twice: some clients would read the first.
            tool.replace(r#""description":"é""#, r#""description":"evil","description":"é""#),
        ];
        for other in others {
            assert_ne!(hash(tool), hash(&other), "{other}");
        }
    }

    #[test]
    fn no_nesting_breaks_the_reader() {
        let deep = |n: usize, inside: &str| {
            format!(r#"{{"name":"a","x":{}{inside}{}}}"#, r#"{"x":["#.repeat(n), "]}".repeat(n))
        };
        assert_eq!(hash(&deep(20, r#""a""#)), hash(&deep(20, r#""\u0061""#)));
        assert_ne!(hash(&deep(50_000, "1")), hash(&deep(50_000, "2")));
    }

    #[test]
    fn lists_are_compared_by_name() {
        let list = |tools: &str| {
            let mut all = Definitions::default();
            assert!(all.add(tools), "{tools}");
            all
        };
        let old = list(r#"[{"name":"a","description":"1"},{"name":"b"},{"name":"c","title":"x"}]"#);
        let new = list(r#"[{"name":"d"},{"name":"c","title":"y","annotations":{}},{"name":"a","description":"1"}]"#);
        let difference = old.difference_to(&new);
        assert_eq!((difference.added, difference.removed), (vec!["d".to_owned()], vec!["b".to_owned()]));
        assert_eq!(difference.changed, [("c".to_owned(), vec!["annotations".to_owned(), "title".to_owned()])]);
        assert!(old.difference_to(&old).is_empty());
        let turned = list(r#"[{"name":"c","title":"x"},{"name":"a","description":"1"},{"name":"b"}]"#);
        assert_eq!(old.hash(), turned.hash());
        assert_ne!(old.hash(), new.hash());
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_accepted_for_another() {
        let mut all = Definitions::default();
        for bad in [r#"{}"#, r#"[1]"#, r#"[{}]"#, r#"[{"name":1}]"#, r#"[{"name":"a","name":"b"}]"#] {
            assert!(!all.add(bad), "{bad}");
        }
        let (mut twins, mut one) = (Definitions::default(), Definitions::default());
        assert!(twins.add(r#"[{"name":"a","title":"evil"},{"name":"a"}]"#) && one.add(r#"[{"name":"a"}]"#));
        assert_ne!(twins.get("a").unwrap().hash, one.get("a").unwrap().hash);
    }
}
