//! What a tool takes: its parameters, and how a word becomes a value of one. Pure.
//!
//! Schemas are read as far as they are plain: `type`, `enum`, `const`, `anyOf`, `oneOf`, `$ref` within the schema, an
//! `allOf` of one. What is beyond that is not judged; the server does it.

use serde_json::{Value, value::RawValue};

use crate::wire::object::Object;

/// References that are followed, and schemas in schemas.
const DEPTH_MAX: usize = 16;
/// The choices of an `enum` that are told.
const CHOICES_MAX: usize = 12;
/// Types from the narrowest: what can be read as a number is one, unless it has to be a text.
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "array", "object", "string"];

/// The parameters of one tool or prompt.
#[derive(Debug, Default)]
pub struct Parameters {
    /// In the order of the schema.
    pub all: Vec<Parameter>,
    /// There are no others.
    pub closed: bool,
    root: Value,
}

#[derive(Debug)]
pub struct Parameter {
    pub name: String,
    pub required: bool,
    pub description: Option<String>,
    pub default: Option<String>,
    pub schema: Value,
}

impl Parameters {
    /// Of a tool, by its `inputSchema`.
    pub fn of_tool(schema: &str) -> Parameters {
        let root: Value = serde_json::from_str(schema).unwrap_or_default();
        let closed = root["additionalProperties"] == Value::Bool(false);
        let required = |name: &str| root["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let properties = Object::read(schema).and_then(|schema| schema.get("properties"));
        let properties = properties.and_then(|properties| Object::read(properties.get()));
        let mut all = Vec::new();
        for member in properties.iter().flat_map(Object::members) {
            let schema: Value = serde_json::from_str(member.value.get()).unwrap_or_default();
            let name = member.name.to_string();
            let default = schema.get("default").filter(|default| !default.is_null()).map(Value::to_string);
            let description = schema["description"].as_str().map(str::to_owned);
            all.push(Parameter { required: required(&name), name, description, default, schema });
        }
        Parameters { all, closed, root }
    }

    /// Of a prompt, by its `arguments`: all are texts.
    pub fn of_prompt(arguments: &Value) -> Parameters {
        let one = |argument: &Value| {
            Some(Parameter {
                name: argument["name"].as_str()?.to_owned(),
                required: argument["required"] == Value::Bool(true),
                description: argument["description"].as_str().map(str::to_owned),
                default: None,
                schema: serde_json::json!({ "type": "string" }),
            })
        };
        let all = arguments.as_array().into_iter().flatten().filter_map(one).collect();
        Parameters { all, closed: true, root: Value::Null }
    }

    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.all.iter().find(|parameter| parameter.name == name)
    }

    /// What a parameter is, in a few words.
    pub fn kind(&self, parameter: &Parameter) -> String {
        self.words(&parameter.schema, 0)
    }

    fn words(&self, schema: &Value, depth: usize) -> String {
        let schema = self.resolved(schema);
        if depth > DEPTH_MAX {
            return "any".to_owned();
        }
        if let Some(choices) = choices(schema) {
            let shown = choices.iter().take(CHOICES_MAX).map(|choice| match choice {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            let more = if choices.len() > CHOICES_MAX { " | …" } else { "" };
            return shown.collect::<Vec<_>>().join(" | ") + more;
        }
        if let Some(branches) = branches(schema) {
            let mut words: Vec<String> = branches.iter().map(|branch| self.words(branch, depth + 1)).collect();
            words.dedup();
            return words.join(" | ");
        }
        let one = |kind: &str| match (kind, schema.get("items")) {
            ("array", Some(items)) => format!("array of {}", self.words(items, depth + 1)),
            _ => kind.to_owned(),
        };
        match types(schema) {
            types if types.is_empty() => "any".to_owned(),
            types => types.into_iter().map(one).collect::<Vec<_>>().join(" | "),
        }
    }

    /// A word as a value of this schema, as JSON.
    pub fn typed(&self, word: &str, schema: &Value) -> Option<String> {
        // A lone word may stand for a list of one, unless it can be something by itself.
        self.read(word, schema, false, 0).or_else(|| self.read(word, schema, true, 0))
    }

    fn read(&self, word: &str, schema: &Value, wrap: bool, depth: usize) -> Option<String> {
        let schema = self.resolved(schema);
        if depth > DEPTH_MAX {
            return Some(guess(word));
        }
        if let Some(choices) = choices(schema) {
            let text = Value::from(word);
            if choices.contains(&text) {
                return Some(text.to_string());
            }
            let value: Value = serde_json::from_str(word).ok()?;
            return choices.contains(&value).then(|| word.trim().to_owned());
        }
        if let Some(branches) = branches(schema) {
            let mut branches: Vec<&Value> = branches.iter().collect();
            branches.sort_by_key(|branch| self.rank(branch));
            return branches.into_iter().find_map(|branch| self.read(word, branch, wrap, depth + 1));
        }
        let mut types = types(schema);
        if types.is_empty() {
            return Some(guess(word));
        }
        types.sort_by_key(|kind| rank(kind));
        types.into_iter().find_map(|kind| match kind {
            "null" => (word == "null").then(|| word.to_owned()),
            "boolean" => matches!(word, "true" | "false").then(|| word.to_owned()),
            "integer" => (is_number(word) && is_whole(word)).then(|| word.to_owned()),
            "number" => is_number(word).then(|| word.to_owned()),
            "array" if word.trim_start().starts_with('[') => json(word),
            "array" if wrap => {
                let item = schema.get("items").map_or_else(|| Some(guess(word)), |items| self.typed(word, items));
                item.map(|item| format!("[{item}]"))
            }
            "object" if word.trim_start().starts_with('{') => json(word),
            "string" => Some(Value::from(word).to_string()),
            _ => None,
        })
    }

    /// How narrow a branch is.
    fn rank(&self, schema: &Value) -> usize {
        let schema = self.resolved(schema);
        match types(schema).into_iter().map(rank).max() {
            _ if choices(schema).is_some() => 0,
            Some(rank) => rank,
            None => TYPES.len(),
        }
    }

    /// Can this value be one of the schema's? Only what is certain is denied.
    pub fn admits(&self, schema: &Value, value: &Value) -> bool {
        self.allows(schema, value, 0)
    }

    fn allows(&self, schema: &Value, value: &Value, depth: usize) -> bool {
        let schema = self.resolved(schema);
        if depth > DEPTH_MAX {
            return true;
        }
        if let Some(choices) = choices(schema) {
            let same = |choice: &Value| choice == value || choice.is_number() && choice.as_f64() == value.as_f64();
            return choices.iter().any(same);
        }
        if let Some(branches) = branches(schema) {
            return branches.iter().any(|branch| self.allows(branch, value, depth + 1));
        }
        let types = types(schema);
        types.is_empty()
            || types.into_iter().any(|kind| match kind {
                "null" => value.is_null(),
                "boolean" => value.is_boolean(),
                "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
                "number" => value.is_number(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                "string" => value.is_string(),
                _ => true,
            })
    }

    /// Does a word of any kind fit, as a text?
    pub fn is_text(&self, parameter: &Parameter) -> bool {
        choices(self.resolved(&parameter.schema)).is_none() && self.admits(&parameter.schema, &Value::from("any text"))
    }

    /// The choices of a parameter that are words.
    pub fn choices<'a>(&'a self, parameter: &'a Parameter) -> impl Iterator<Item = &'a str> {
        choices(self.resolved(&parameter.schema)).into_iter().flatten().filter_map(Value::as_str)
    }

    /// The schema behind a reference, or the only one of an `allOf`.
    fn resolved<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        for _ in 0..DEPTH_MAX {
            let pointer = schema["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
            let lone = schema["allOf"].as_array().filter(|all| all.len() == 1 && schema.get("type").is_none());
            schema = match (pointer.and_then(|pointer| self.root.pointer(pointer)), lone) {
                (Some(target), _) => target,
                (None, Some(all)) => &all[0],
                (None, None) => return schema,
            };
        }
        schema
    }
}

fn rank(kind: &str) -> usize {
    TYPES.iter().position(|known| *known == kind).unwrap_or(TYPES.len())
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn choices(schema: &Value) -> Option<&[Value]> {
    match (schema.get("const"), schema["enum"].as_array()) {
        (Some(only), _) => Some(std::slice::from_ref(only)),
        (None, Some(all)) => Some(all),
        (None, None) => None,
    }
}

fn branches(schema: &Value) -> Option<&Vec<Value>> {
    ["anyOf", "oneOf"].iter().find_map(|name| schema[*name].as_array())
}

/// Where nothing is known of it: JSON is what it says, all else is a text.
pub fn guess(word: &str) -> String {
    json(word).unwrap_or_else(|| Value::from(word).to_string())
}

/// Valid JSON, to the letter.
pub fn json(word: &str) -> Option<String> {
    serde_json::from_str::<&RawValue>(word).ok().map(|raw| raw.get().to_owned())
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && !word.ends_with(char::is_whitespace)
        && json(word).is_some()
}

fn is_whole(word: &str) -> bool {
    !word.contains(['.', 'e', 'E']) || word.parse::<f64>().is_ok_and(|number| number.fract() == 0.0)
}
