//! A JSON object as text, and edits of its members that leave every other byte as it came.
//!
//! Between the eras some members have to come or go. Printing the rest again would lose what a tree does not
//! keep: the digits of a number, the order of members, an escape. So we cut and insert.

use std::{borrow::Cow, fmt, ops::Range};

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

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
    added: Vec<(String, String)>,
}

impl<'a> Object<'a> {
    /// Reads an object; `text` is that of a JSON value without white space around it.
    pub fn read(text: &'a str) -> Option<Object<'a>> {
        struct Reader<'a>(&'a str);
        impl<'a> Visitor<'a> for Reader<'a> {
            type Value = Vec<Member<'a>>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value: &RawValue = map.next_value()?;
                    let start = value.get().as_ptr() as usize - self.0.as_ptr() as usize;
                    let span = start..start + value.get().len();
                    members.push(Member { name: name.into(), value, span });
                }
                Ok(members)
            }
        }
        let members = serde_json::Deserializer::from_str(text).deserialize_map(Reader(text)).ok()?;
        Some(Object { text, members })
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

impl Edit<'_, '_> {
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

    /// Gives a member a value that is JSON already. A new member comes first.
    pub fn set(&mut self, name: &str, json: impl Into<String>) -> &mut Self {
        match self.object.members.iter().rposition(|member| member.name == name) {
            Some(at) => self.replaced.push((at, json.into())),
            None => self.added.push((name.to_owned(), json.into())),
        }
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
            out.push_str(&serde_json::Value::from(name.as_str()).to_string());
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
