//! Where the members of a message's parameters stand, found once: a newer client's request is asked for many.

use std::{borrow::Cow, ops::Range, sync::Arc};

use serde::de::Error as _;
use serde_json::Error;

use super::{Message, Text};
use crate::wire::members::{each, members, span_in, twice};

/// Of more members than this nothing is kept, and they are looked through each time.
const MEMBERS_MAX: usize = 32;

/// Names and values, in their order; none where there are too many.
pub(super) type Outline = Option<Arc<[(Text, Range<usize>)]>>;

impl Message {
    /// Members of `params`, by name, as JSON. Fails where one of them stands twice.
    pub fn param<const N: usize>(&self, names: [&str; N]) -> Result<[Option<&str>; N], Error> {
        let Some(params) = self.params().filter(|params| params.starts_with('{')) else { return Ok([None; N]) };
        let Some(outline) = self.outline.get_or_init(|| self.outline_of(params)) else { return members(params, names) };
        let mut found = [None; N];
        for (name, value) in outline.iter() {
            let name = self.string(name);
            match names.iter().position(|wanted| *wanted == name) {
                Some(at) if found[at].replace(self.text(value)).is_some() => return Err(twice(name)),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Members of `params._meta`, by name, as JSON.
    pub fn meta<const N: usize>(&self, names: [&str; N]) -> Result<[Option<&str>; N], Error> {
        match self.param(["_meta"])? {
            [Some(meta)] if meta.starts_with('{') => members(meta, names),
            _ => Ok([None; N]),
        }
    }

    fn outline_of(&self, params: &str) -> Outline {
        let mut found = Vec::with_capacity(4);
        let whole = each(params, |name, value| {
            let name = match name {
                Cow::Borrowed(name) => Text::Span(span_in(&self.bytes, name)),
                Cow::Owned(name) => Text::Decoded(name.into()),
            };
            found.push((name, span_in(&self.bytes, value.get())));
            if found.len() > MEMBERS_MAX { Err(Error::custom("too many")) } else { Ok(()) }
        });
        whole.ok().map(|()| found.into())
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::message::{Message, one};

    fn request(params: &str) -> Message {
        one(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#).into()).unwrap()
    }

    #[test]
    fn members_are_found_however_many_there_are() {
        let few = request(r#"{"a":1,"b\n":{"x":[ 2 ]},"_meta":{"k":"v"}}"#);
        let many: Vec<String> = (0..40).map(|n| format!(r#""x{n}":0"#)).collect();
        let many = request(&format!(r#"{{"a":1,{},"b\n":{{"x":[ 2 ]}},"_meta":{{"k":"v"}}}}"#, many.join(",")));
        for request in [few, many] {
            // The second time from what was found the first time.
            for _ in 0..2 {
                assert_eq!(request.param(["b\n", "c", "a"]).unwrap(), [Some(r#"{"x":[ 2 ]}"#), None, Some("1")]);
                assert_eq!(request.meta(["k"]).unwrap(), [Some("\"v\"")]);
                let [Some(value)] = request.param(["a"]).unwrap() else { panic!() };
                assert_eq!(&request.bytes()[request.span(value)], b"1");
            }
        }
    }

    #[test]
    fn what_stands_twice_is_an_error_for_whoever_asks_for_it() {
        let request = request(r#"{"a":1,"b":2,"a":3}"#);
        assert_eq!(request.param(["a"]).unwrap_err().to_string(), "`a` stands twice");
        assert_eq!(request.param(["b"]).unwrap(), [Some("2")]);
    }

    #[test]
    fn parameters_that_are_no_object_have_no_members() {
        assert_eq!(request(r#"["a"]"#).param(["a"]).unwrap(), [None]);
    }
}
