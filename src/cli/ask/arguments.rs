//! Arguments as a person types them become the object that a tool takes. Pure.
//!
//! A JSON object goes as it is. `key=value` is typed by the schema, so `text=5` is a text where a text is wanted and a
//! number where that is. Bare words go to the one parameter they can be meant for. Nothing is ever made up: what is
//! missing is named, and no call is made.

use serde_json::{Value, value::RawValue};

use super::schema::{Parameter, Parameters, guess, json};
use crate::{config::nearest, wire::object::Object};

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// A JSON object.
    pub json: String,
    /// What may be a mistake, and is sent all the same.
    pub doubts: Vec<String>,
}

/// Makes the object. `whose`: what a complaint calls the tool or prompt.
pub fn object(words: &[String], parameters: &Parameters, whose: &str) -> Result<Arguments, String> {
    let mut reader = Reader { parameters, whose, given: Vec::new(), doubts: Vec::new() };
    match words {
        [only] if only.trim_start().starts_with('{') => {
            let json = json(only).ok_or_else(|| format!("`{only}` begins like a JSON object, and is none"))?;
            reader.whole(&json)?;
            return Ok(Arguments { json, doubts: reader.doubts });
        }
        [] => {}
        words => {
            let pairs: Vec<Option<(&str, &str)>> = words.iter().map(|word| reader.pair(word)).collect();
            match pairs.iter().position(Option::is_none) {
                None => reader.pairs(pairs.into_iter().flatten())?,
                Some(_) if pairs.iter().all(Option::is_none) => reader.bare(&words.join(" "))?,
                Some(at) => {
                    let word = &words[at];
                    return Err(format!("`{word}` is no key=value like the others; are there quotes missing?"));
                }
            }
        }
    }
    reader.is_complete()?;
    let members = reader.given.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name)));
    let json = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
    Ok(Arguments { json, doubts: reader.doubts })
}

struct Reader<'a> {
    parameters: &'a Parameters,
    whose: &'a str,
    /// Values as JSON, by name.
    given: Vec<(&'a str, String)>,
    doubts: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A JSON object: is anything in it certain to be refused?
    fn whole(&mut self, json: &str) -> Result<(), String> {
        let Some(object) = Object::read(json) else { return Err(format!("`{json}` is no JSON object")) };
        for member in object.members() {
            let Some(parameter) = self.parameters.get(&member.name) else {
                self.unknown(&member.name)?;
                continue;
            };
            let value: Value = serde_json::from_str(member.value.get()).unwrap_or_default();
            // A number may be beyond what we can hold.
            let readable = !value.is_null() || member.value.get() == "null";
            if readable && !self.parameters.admits(&parameter.schema, &value) {
                return Err(self.wrong(parameter, member.value.get()));
            }
        }
        self.missing(|name| object.get(name).is_some())
    }

    /// `key=value`, where the word is that.
    fn pair<'w>(&self, word: &'w str) -> Option<(&'w str, &'w str)> {
        let (key, value) = word.split_once('=')?;
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        let like_a_name = key.starts_with(letter)
            && key.chars().all(|c| letter(c) || c.is_ascii_digit() || matches!(c, '.' | '-' | '$'));
        (like_a_name || self.parameters.get(key).is_some()).then_some((key, value))
    }

    fn pairs<'w: 'a>(&mut self, pairs: impl Iterator<Item = (&'w str, &'w str)>) -> Result<(), String> {
        let mut grouped: Vec<(&str, Vec<&str>)> = Vec::new();
        for (key, value) in pairs {
            match grouped.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) => values.push(value),
                None => grouped.push((key, vec![value])),
            }
        }
        for (key, values) in grouped {
            let value = match (self.parameters.get(key), values.as_slice()) {
                (Some(parameter), [value]) => self.typed(parameter, value)?,
                (Some(parameter), values) => self.list(parameter, values)?,
                (None, [value]) => {
                    self.unknown(key)?;
                    guess(value)
                }
                (None, _) => return Err(format!("`{key}` is given more than once")),
            };
            self.given.push((key, value));
        }
        Ok(())
    }

    /// A key that stands several times is a list.
    fn list(&self, parameter: &Parameter, values: &[&str]) -> Result<String, String> {
        let mut items = Vec::new();
        for value in values {
            let one = self.typed(parameter, value)?;
            let Ok(several) = serde_json::from_str::<Vec<&RawValue>>(&one) else {
                let kind = self.parameters.kind(parameter);
                return Err(format!("`{}` is given more than once, and takes one {kind}", parameter.name));
            };
            items.extend(several.into_iter().map(|item| item.get().to_owned()));
        }
        Ok(format!("[{}]", items.join(",")))
    }

    /// Words without a key: for the only required text, the only required parameter, or the only one.
    fn bare(&mut self, word: &str) -> Result<(), String> {
        let parameters = self.parameters;
        let only = |fits: &dyn Fn(&&Parameter) -> bool| {
            let mut fitting = parameters.all.iter().filter(fits);
            fitting.next().filter(|_| fitting.next().is_none())
        };
        let parameter = only(&|one| one.required && parameters.is_text(one))
            .or_else(|| only(&|one| one.required))
            .or_else(|| only(&|_| true));
        let Some(parameter) = parameter else {
            let names: Vec<String> = parameters.all.iter().map(|one| format!("{}=…", one.name)).collect();
            return Err(match names.is_empty() {
                true => format!("{} takes no arguments", self.whose),
                false => format!("which parameter of {} is `{word}`? Write {}", self.whose, names.join(" ")),
            });
        };
        let value = self.typed(parameter, word)?;
        self.given.push((&parameter.name, value));
        Ok(())
    }

    fn typed(&self, parameter: &Parameter, word: &str) -> Result<String, String> {
        self.parameters.typed(word, &parameter.schema).ok_or_else(|| self.wrong(parameter, word))
    }

    fn wrong(&self, parameter: &Parameter, given: &str) -> String {
        let meant = nearest(given, self.parameters.choices(parameter));
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        let (name, kind) = (&parameter.name, self.parameters.kind(parameter));
        format!("`{name}` of {} takes {kind}, and `{given}` is not that{meant}", self.whose)
    }

    /// A name that the schema does not have may be allowed all the same.
    fn unknown(&mut self, name: &str) -> Result<(), String> {
        let names = || self.parameters.all.iter().map(|parameter| parameter.name.as_str());
        let hint = match nearest(name, names()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None if self.parameters.all.is_empty() => String::new(),
            None => format!("; there is {}", names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
        };
        let told = format!("{} has no parameter `{name}`{hint}", self.whose);
        match self.parameters.closed {
            true => Err(told),
            false => {
                self.doubts.push(told);
                Ok(())
            }
        }
    }

    fn is_complete(&self) -> Result<(), String> {
        self.missing(|name| self.given.iter().any(|(given, _)| *given == name))
    }

    fn missing(&self, is_given: impl Fn(&str) -> bool) -> Result<(), String> {
        let missing = self.parameters.all.iter().filter(|one| one.required && !is_given(&one.name));
        let told: Vec<String> = missing
            .map(|one| {
                let description = one.description.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
                format!("`{}` ({}){description}", one.name, self.parameters.kind(one))
            })
            .collect();
        if told.is_empty() {
            return Ok(());
        }
        let doubts = self.doubts.iter().map(|doubt| format!("\n  {doubt}")).collect::<String>();
        Err(format!("{} needs {}{doubts}", self.whose, told.join(", ")))
    }
}

#[cfg(test)]
mod tests;
