//! A JSON object as text, and edits of its members that leave every other byte as it came.
//!
//! Between the eras some members have to come or go. Printing the rest again would lose what a tree does not
//! keep: the digits of a number, the order of members, an escape. So we cut and insert.

use std::{borrow::Cow, ops::Range};

use serde_json::value::RawValue;

use super::members::{each, span_in};

/// The members of an object, in order.
#[derive(Debug)]
pub struct Object<'a> {
    text: &'a str,
    members: Vec<Member<'a>>,
}

/// One member.
#[derive(Debug)]
pub struct Member<'a> {
    pub name: Cow<'a, str>,
    pub value: &'a RawValue,
    /// Where the value stands in the object's text.
    span: Range<usize>,
}

/// Changes to one object, to be made together.
#[derive(Debug)]
pub struct Edit<'o, 'a> {
    object: &'o Object<'a>,
    removed: Vec<usize>,
    replaced: Vec<(usize, String)>,
    added: Vec<(&'o str, String)>,
}

impl<'a> Object<'a> {
    /// Reads an object; `text` is that of a JSON value without white space around it.
    pub fn read(text: &'a str) -> Option<Object<'a>> {
        let mut members = Vec::new();
        let whole = each(text, |name, value| {
            members.push(Member { name, value, span: span_in(text, value.get()) });
            Ok(())
        });
        whole.ok().map(|()| Object { text, members })
    }

    pub fn members(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter()
    }

    /// The value of a member; the last one, where it stands twice.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.members.iter().rev().find(|member| member.name == name).map(|member| member.value)
    }

    /// A member that is a string.
    pub fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    pub fn edit(&self) -> Edit<'_, 'a> {
        Edit { object: self, removed: Vec::new(), replaced: Vec::new(), added: Vec::new() }
    }
}

impl<'o> Edit<'o, '_> {
    /// Takes a member out, wherever it stands.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        let all = self.object.members.iter().enumerate();
        self.removed.extend(all.filter(|(_, member)| member.name == name).map(|(at, _)| at));
        self
    }

    /// Takes members out of the object in `_meta`, and that with the last of them.
    pub fn remove_meta(&mut self, names: &[&str]) -> &mut Self {
        let Some(meta) = self.object.get("_meta").and_then(|meta| Object::read(meta.get())) else { return self };
        let mut own = meta.edit();
        for name in names {
            own.remove(name);
        }
        if own.is_empty() {
            return self;
        }
        match own.apply() {
            empty if empty == "{}" => self.remove("_meta"),
            rest => self.set("_meta", rest),
        }
    }

    /// Gives a member a value that is JSON already. A new member comes first; one that stood twice stands once.
    pub fn set(&mut self, name: &'o str, json: impl Into<String>) -> &mut Self {
        let mut places = self.object.members.iter().enumerate().rev().filter(|(_, member)| member.name == name);
        match places.next() {
            Some((at, _)) => self.replaced.push((at, json.into())),
            None => self.added.push((name, json.into())),
        }
        self.removed.extend(places.map(|(at, _)| at));
        self
    }

    /// Is there anything to change?
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.replaced.is_empty() && self.added.is_empty()
    }

    /// The text with all changes made.
    pub fn apply(&self) -> String {
        let Object { text, members } = self.object;
        let mut out = String::with_capacity(text.len() + 64);
        out.push('{');
        let mut first = true;
        let comma = |out: &mut String, first: &mut bool| {
            if !std::mem::take(first) {
                out.push(',');
            }
        };
        for (name, json) in &self.added {
            comma(&mut out, &mut first);
            out.push_str(&quoted(name));
            out.push(':');
            out.push_str(json);
        }
        let mut from = 1;
        for (at, member) in members.iter().enumerate() {
            // From behind the last value to this one's start: a comma perhaps, white space, the name, a colon.
            let lead = text[from..member.span.start].trim_start_matches([' ', '\t', '\r', '\n', ',']);
            from = member.span.end;
            if self.removed.contains(&at) {
                continue;
            }
            comma(&mut out, &mut first);
            out.push_str(lead);
            match self.replaced.iter().rev().find(|(replaced, _)| *replaced == at) {
                Some((_, json)) => out.push_str(json),
                None => out.push_str(member.value.get()),
            }
        }
        out.push('}');
        out
    }
}

/// A string as JSON.
fn quoted(text: &str) -> String {
    // Nearly all names of members are plain.
    match text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        true => serde_json::Value::from(text).to_string(),
        false => ["\"", text, "\""].concat(),
    }
}

/// A list with some of its items changed: none where it is no list, and none inside where all stay as they are.
pub fn map_list(list: &str, change: impl Fn(&str) -> Option<String>) -> Option<Option<String>> {
    let items: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    let new: Vec<Option<String>> = items.iter().map(|item| change(item.get())).collect();
    Some(new.iter().any(Option::is_some).then(|| {
        let all = items.iter().zip(&new).map(|(old, new)| new.as_deref().unwrap_or(old.get()));
        format!("[{}]", all.collect::<Vec<_>>().join(","))
    }))
}

/// A list without the items that are not wanted: none where it is no list, and none inside where all stay.
pub fn retain_list(list: &str, wanted: impl Fn(&str) -> bool) -> Option<Option<String>> {
    let items: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    let kept: Vec<&str> = items.iter().map(|item| item.get()).filter(|item| wanted(item)).collect();
    Some((kept.len() < items.len()).then(|| format!("[{}]", kept.join(","))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn edits_leave_every_other_byte() {
        let text = r#"{ "a" : 1.50, "b":"é\/" ,"c" : [ 1,2 ] , "d":{"x":1}}"#;
        let object = Object::read(text).unwrap();
        let edited = object.edit().remove("a").set("c", "null").set("new", "9007199254740993").apply();
        assert_eq!(edited, r#"{"new":9007199254740993,"b":"é\/","c" : null,"d":{"x":1}}"#);
        assert_eq!(Object::read("{}").unwrap().edit().set("a", "1").apply(), r#"{"a":1}"#);
        assert_eq!(Object::read(r#"{"a":1}"#).unwrap().edit().remove("a").apply(), "{}");
        assert_eq!(object.string("b").as_deref(), Some("é/"));
        assert!(Object::read("[]").is_none() && Object::read("1").is_none());
        let twice = Object::read(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert_eq!(twice.edit().set("a", "4").apply(), r#"{"b":2,"a":4}"#, "what stood twice stands once");
    }

    proptest! {
        #[test]
        fn an_edit_means_the_same_as_on_a_tree(
            names in proptest::collection::btree_set("[a-e]", 0..5), remove in "[a-f]", set in "[a-f]", spaces in "[ \n]{0,2}",
        ) {
            let members: Vec<String> = names.iter().map(|name| format!("{spaces}\"{name}\"{spaces}:{spaces}[1]{spaces}")).collect();
            let text = format!("{{{}}}", members.join(","));
            let object = Object::read(&text).unwrap();
            let edited: Value = serde_json::from_str(&object.edit().remove(&remove).apply()).unwrap();
            let mut tree: Value = serde_json::from_str(&text).unwrap();
            tree.as_object_mut().unwrap().remove(&remove);
            prop_assert_eq!(edited, tree.clone());
            let edited: Value = serde_json::from_str(&object.edit().set(&set, "5").apply()).unwrap();
            let mut tree: Value = serde_json::from_str(&text).unwrap();
            tree[&set] = json!(5);
            prop_assert_eq!(edited, tree);
        }
    }
}
