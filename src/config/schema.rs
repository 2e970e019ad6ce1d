//! The JSON Schema of `hub.toml`, for editors: asked of the parser, so that it cannot say anything else.
//!
//! Which keys there are is in the table of `keys.rs`. Of what kind each is, the parser tells when it is given something
//! of no kind: "must be a whole number". What it means and what it defaults to stands in the starter file, which shows
//! every key.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::keys::Section;
use super::name::RESERVED;
use super::parse;

/// A key and a word that nobody will ever mean.
const NOBODYS: &str = "qqqqqq";

/// A value that no key takes.
const NO_KIND: &str = "1979-05-27";

/// A string that refers to something stands for a value of any kind.
const REFERENCE: &str = r"\$\{(env|file):";

/// The schema (2020-12). `starter`: the file of `hubward init`.
pub fn schema(starter: &str) -> Value {
    let shown = Shown::read(starter);
    let mut root = Place { section: Section::Root, line: Box::new(str::to_owned), shown: &shown, part: "" }.table();
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("hub.toml");
    root["description"] = json!("The configuration of hubward: one daemon, many MCP servers, each at its own URL.");
    root
}

/// A table of the file: what it is called, and a whole file with a line in it.
struct Place<'a> {
    section: Section,
    line: Box<dyn Fn(&str) -> String + 'a>,
    shown: &'a Shown,
    /// Where the starter shows its keys.
    part: &'static str,
}

impl Place<'_> {
    fn table(&self) -> Value {
        let mut keys = Map::new();
        for key in self.section.known() {
            // The parser says why it does not belong here.
            let elsewhere = self.told(&format!("{key} = '{NOBODYS}'")).iter().any(|one| one.contains("cannot be in"));
            if !elsewhere {
                keys.insert((*key).to_owned(), self.key(key));
            }
        }
        json!({ "type": "object", "properties": keys, "additionalProperties": false })
    }

    fn key(&self, key: &str) -> Value {
        let mut schema = match (self.section, key) {
            (Section::Root, "upstreams") => self.upstreams(),
            _ => self.kind(key),
        };
        if let Some((value, about)) = self.shown.keys.get(&(self.part, key.to_owned())) {
            let of_kind = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            let both = [about.as_str(), of_kind].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
            if !both.is_empty() {
                schema["description"] = json!(both.join(". "));
            }
            let said = format!("{key} = {value}");
            let default = self.same(&said);
            let value = toml::from_str::<Value>(&said).ok().and_then(|mut table| table.get_mut(key).map(Value::take));
            match value {
                Some(value) if default => schema["default"] = value,
                Some(value) => schema["examples"] = json!([value]),
                None => {}
            }
        }
        schema
    }

    /// Each table under it is an upstream.
    fn upstreams(&self) -> Value {
        let line = |inner: &str| format!("upstreams = {{ x = {{ {inner} }} }}");
        let place = Place { section: Section::Upstream, line: Box::new(line), shown: self.shown, part: "upstreams" };
        let mut upstream = place.table();
        upstream["anyOf"] = json!([{ "required": ["command"] }, { "required": ["url"] }]);
        json!({
            "type": "object",
            "description": "The MCP servers, by their names.",
            "propertyNames": { "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$", "not": { "enum": RESERVED } },
            "additionalProperties": upstream,
        })
    }

    /// What may stand behind a key.
    fn kind(&self, key: &str) -> Value {
        let wanted = self.wanted(&format!("{key} = {NO_KIND}"));
        let reference = json!({ "type": "string", "pattern": REFERENCE });
        match wanted.as_str() {
            "a string" => match self.words(&format!("{key} = '{NOBODYS}'")) {
                Some(words) => json!({ "anyOf": [{ "enum": words }, reference] }),
                None => json!({ "type": "string" }),
            },
            "a list of strings" => match self.words(&format!("{key} = ['{NOBODYS}']")) {
                Some(words) => json!({ "type": "array", "items": { "anyOf": [{ "enum": words }, reference] } }),
                None => json!({ "type": "array", "items": { "type": "string" } }),
            },
            "true, false, or a list of names" => {
                json!({ "anyOf": [{ "type": "boolean" }, { "type": "array", "items": { "type": "string" } }] })
            }
            "true or false" => json!({ "anyOf": [{ "type": "boolean" }, reference] }),
            "a whole number" => {
                let (least, most) = self.range(key, "-1");
                let (least, most): (Option<i64>, Option<i64>) = (least.parse().ok(), most.parse().ok());
                json!({ "anyOf": [{ "type": "integer", "minimum": least, "maximum": most }, reference] })
            }
            "a time" => {
                let (least, most) = self.range(key, "'999999h'");
                let text = json!({ "type": "string", "pattern": format!(r"^\s*[0-9]|{REFERENCE}") });
                let none = least.starts_with('0').then(|| json!({ "const": 0 }));
                let kinds: Vec<Value> = [text].into_iter().chain(none).collect();
                let about = format!("A time such as \"30s\", \"5m\" or \"1h 30m\": {least} to {most}");
                json!({ "anyOf": kinds, "description": about })
            }
            size if size.starts_with("a size") => {
                let (least, most) = self.range(key, &i64::MAX.to_string());
                let text = json!({ "type": "string", "pattern": format!(r"^\s*[0-9]|{REFERENCE}") });
                let about = format!("Bytes, or a size such as \"4 MiB\": {least} to {most}");
                json!({ "anyOf": [text, { "type": "integer", "minimum": 0 }], "description": about })
            }
            "a list of tables" => {
                let line = |inner: &str| (self.line)(&format!("{key} = [{{ {inner} }}]"));
                json!({ "type": "array", "items": self.inner(key, Box::new(line)) })
            }
            "a table" => {
                let line = |inner: &str| (self.line)(&format!("{key} = {{ {inner} }}"));
                self.inner(key, Box::new(line))
            }
            // A kind that is new here: the tests say so.
            _ => Value::Bool(true),
        }
    }

    /// A table within this one: with keys of its own, or with any.
    fn inner<'b>(&'b self, key: &str, line: Box<dyn Fn(&str) -> String + 'b>) -> Value {
        let title = titles(&line(&format!("{NOBODYS} = 1"))).into_iter().find_map(|title| {
            let (_, section) = title.split_once(&format!("unknown key `{NOBODYS}` in "))?;
            Some(section.to_owned())
        });
        let Some(section) = title.and_then(|title| Section::titled(&title)) else {
            return json!({ "type": "object", "additionalProperties": { "type": "string" } });
        };
        let part = match (self.section, key) {
            (Section::Root, "hub") => "hub",
            (Section::Root, _) => "upstreams",
            (Section::Hub, "limits") => "hub.limits",
            (Section::Hub, "log") => "hub.log",
            (Section::Hub, "auth") => "hub.auth",
            _ => "",
        };
        let place = Place { section, line, shown: self.shown, part };
        let mut table = place.table();
        let missing = titles(&(place.line)("")).into_iter().find_map(|title| {
            let (_, problem) = title.split_once(": `")?;
            problem.strip_suffix("` is missing").map(str::to_owned)
        });
        if let Some(missing) = missing.filter(|key| section.known().contains(&key.as_str())) {
            table["required"] = json!([missing]);
        }
        table
    }

    fn told(&self, line: &str) -> Vec<String> {
        titles(&(self.line)(line))
    }

    /// What the parser wanted in place of this.
    fn wanted(&self, line: &str) -> String {
        let wanted = self.told(line).into_iter().find_map(|title| Some(title.split_once("` must be ")?.1.to_owned()));
        wanted.unwrap_or_default()
    }

    /// The words of which it wants one.
    fn words(&self, line: &str) -> Option<Vec<String>> {
        let list =
            self.told(line).into_iter().find_map(|title| Some(title.split_once(": must be one of ")?.1.to_owned()))?;
        Some(list.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    }

    /// The least and the most of what it takes.
    fn range(&self, key: &str, beyond: &str) -> (String, String) {
        let told = self.told(&format!("{key} = {beyond}"));
        let range = told.into_iter().find_map(|title| {
            let (_, range) = title.split_once(": must be ")?;
            let (least, most) = range.rsplit_once(" to ")?;
            Some((least.replace("from ", ""), most.to_owned()))
        });
        range.unwrap_or_default()
    }

    /// Whether a file with this line means the same as without it.
    fn same(&self, line: &str) -> bool {
        let of_upstream = matches!(self.section, Section::Upstream | Section::Defaults);
        let read = |base: &str, line: &str| {
            let text = match of_upstream {
                true => format!("upstreams = {{ x = {{ {base}{line} }} }}"),
                false => (self.line)(line),
            };
            parse(&text, Path::new("/"), &|_| None).ok().map(|(config, _)| config)
        };
        // Some keys are for commands, and some for remote servers.
        let bases: &[&str] = if of_upstream { &["command = 'x', ", "url = 'http://x/', "] } else { &[""] };
        bases.iter().any(|base| match (read(base, line), read(base.trim_end_matches(", "), "")) {
            (Some(with), Some(without)) => with == without,
            _ => false,
        })
    }
}

/// All that the parser finds in a file.
fn titles(text: &str) -> Vec<String> {
    let found = match parse(text, Path::new("/"), &|_| None) {
        Ok((_, found)) | Err(found) => found,
    };
    found.into_iter().filter(|one| one.severity == super::Severity::Error).map(|one| one.title).collect()
}

/// What the starter shows: of each key, by the part that it stands in, a value and what is said of it.
struct Shown {
    keys: BTreeMap<(&'static str, String), (String, String)>,
}

impl Shown {
    fn read(starter: &str) -> Self {
        let (mut part, mut keys) = ("", BTreeMap::new());
        for line in starter.lines() {
            let line = line.strip_prefix("# ").unwrap_or(line);
            if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                part = match header {
                    "hub" => "hub",
                    "hub.limits" => "hub.limits",
                    "hub.auth" => "hub.auth",
                    "hub.log" => "hub.log",
                    _ => "upstreams",
                };
                continue;
            }
            let Ok(document) = line.parse::<toml_edit::DocumentMut>() else { continue };
            for (key, item) in document.iter().filter(|(_, item)| item.is_value()) {
                let about = item.as_value().and_then(|value| value.decor().suffix()?.as_str()).unwrap_or_default();
                let about = about.trim().trim_start_matches('#').trim().to_owned();
                let value = item.as_value().map(|value| value.clone().decorated("", "").to_string());
                let shown: &mut (String, String) = keys.entry((part, key.to_owned())).or_default();
                // Where a key is shown twice, what is said of it counts.
                if shown.1.is_empty() {
                    *shown = (value.unwrap_or_default(), about);
                }
            }
        }
        Self { keys }
    }
}
