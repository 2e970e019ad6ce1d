//! The members of a JSON object as text, one after the other.

use std::{borrow::Cow, fmt, ops::Range};

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::{Error, value::RawValue};

/// The values of some members, as they stand. Any of them standing twice is an error.
pub fn members<'a, const N: usize>(json: &'a str, names: [&str; N]) -> Result<[Option<&'a str>; N], Error> {
    let mut found = [None; N];
    each(json, |name, value| match names.iter().position(|wanted| *wanted == name) {
        Some(at) if found[at].replace(value.get()).is_some() => Err(twice(&name)),
        _ => Ok(()),
    })?;
    Ok(found)
}

/// A JSON string's text.
pub fn string(json: &str) -> Option<Cow<'_, str>> {
    match json.strip_prefix('"')?.strip_suffix('"')? {
        plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}

/// Takes every name and value of an object, until there is something wrong with one.
pub(super) fn each<'a, F>(json: &'a str, take: F) -> Result<(), Error>
where
    F: FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), Error>,
{
    struct Members<F>(F);
    impl<'a, F: FnMut(Cow<'a, str>, &'a RawValue) -> Result<(), Error>> Visitor<'a> for Members<F> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a JSON object")
        }
        fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Name(name)) = map.next_key()? {
                self.0(name, map.next_value()?).map_err(A::Error::custom)?;
            }
            Ok(())
        }
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Members(take))?;
    reader.end()
}

pub(super) fn twice(name: &str) -> Error {
    Error::custom(format_args!("`{name}` stands twice"))
}

/// Where a part of a text stands in it.
pub(super) fn span_in(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// A member's name, borrowed where it was written plainly.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Name<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        reader.deserialize_str(Reader)
    }
}
