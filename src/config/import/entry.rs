//! One server of a client: how it is started or reached, and how `settings.rs` has the rest of it.

mod settings;

use indexmap::{IndexMap, IndexSet};

use super::Server;
use super::auth;
use super::bridge::{self, Bridged};
use super::client::Client;
use super::reference::{Surroundings, Translator, escaped};
use super::tree::{Table, Tree};
use crate::config::edit::NewUpstream;

/// How a server is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stdio,
    Http,
    Sse,
}

pub(super) struct Entry<'a> {
    table: &'a Table,
    taken: IndexSet<&'a str>,
    client: Client,
    around: &'a Surroundings,
    pub(super) translator: Translator<'a>,
    pub(super) notes: Vec<String>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(table: &'a Table, client: Client, around: &'a Surroundings) -> Self {
        let translator = Translator { around, notes: IndexSet::new() };
        Self { table, taken: IndexSet::new(), client, around, translator, notes: Vec::new() }
    }

    /// The first of these keys that is there; all of them are accounted for.
    pub(super) fn take(&mut self, keys: &[&str]) -> Option<&'a Tree> {
        let table = self.table;
        let found: Vec<(&'a str, &'a Tree)> =
            keys.iter().filter_map(|key| table.get_key_value(*key)).map(|(key, tree)| (key.as_str(), tree)).collect();
        self.taken.extend(found.iter().map(|(key, _)| *key));
        let (first, others) = found.split_first()?;
        for (key, other) in others {
            if *other != first.1 && !other.is_empty() {
                self.notes.push(format!("`{key}` was left out: `{}` says it already", first.0));
            }
        }
        Some(first.1).filter(|tree| **tree != Tree::Null)
    }

    pub(super) fn text(&mut self, raw: &str) -> String {
        self.translator.text(raw)
    }

    /// The server, or why it cannot be one of a hub.
    pub(super) fn server(mut self, name: &str) -> Result<Server, String> {
        let kind = self.kind()?;
        let (url, kind) = self.url(kind);
        let command = self.command();
        let env = self.env();
        let mut new = NewUpstream::default();
        match (url, kind) {
            (Some(url), Some(Kind::Http | Kind::Sse)) | (Some(url), None) if kind.is_some() || command.is_empty() => {
                if !command.is_empty() {
                    self.notes.push("`command` was left out: it has a URL".into());
                }
                new.url = Some(self.text(&url));
                new.transport = self.transport(kind);
                self.without("env", &env);
            }
            (url, _) if !command.is_empty() => {
                if url.is_some() {
                    self.notes.push("its URL was left out: it has a command".into());
                }
                match bridge::unwrap(&command, &env) {
                    Some(bridged) => self.bridged(bridged, &env, &mut new),
                    None => self.started(command, env, &mut new),
                }
            }
            _ => return Err("it has neither a command nor a URL".into()),
        }
        self.headers(&mut new);
        self.working_directory(&mut new);
        auth::read(&mut self, &mut new);
        self.switches(&mut new);
        self.times(&mut new);
        self.tools(&mut new);
        self.comment(&mut new);
        self.leftovers();
        let mut notes = self.notes;
        notes.extend(self.translator.notes);
        Ok(Server { name: name.to_owned(), new, notes })
    }

    fn kind(&mut self) -> Result<Option<Kind>, String> {
        if self.table.get("bundled").and_then(Tree::bool) == Some(true) {
            return Err(format!("it is a part of {} itself", self.client.label()));
        }
        let Some(word) = self.take(&["type", "transport", "transportType"]).and_then(Tree::word) else {
            return Ok(None);
        };
        let word: String = word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        match word.as_str() {
            "stdio" | "local" | "command" => Ok(Some(Kind::Stdio)),
            "sse" => Ok(Some(Kind::Sse)),
            "http" | "streamablehttp" | "streaming" | "remote" => Ok(Some(Kind::Http)),
            "ws" | "websocket" => Err("there are no servers over WebSocket".into()),
            "builtin" | "platform" | "frontend" | "inlinepython" | "sdk" | "openapi" => {
                Err("it is no server of its own, but a part of the client".into())
            }
            _ => {
                self.notes.push("its type is not known here: how it speaks is found out".into());
                Ok(None)
            }
        }
    }

    fn url(&mut self, kind: Option<Kind>) -> (Option<String>, Option<Kind>) {
        let plain = self.table.contains_key("url") && !self.table.contains_key("httpUrl");
        let url = self.take(&["httpUrl", "url", "serverUrl", "uri"]).and_then(Tree::text).filter(|url| !url.is_empty());
        let implied = (url.is_some() && self.client.means_sse()).then_some(if plain { Kind::Sse } else { Kind::Http });
        (url.map(str::to_owned), kind.or(implied))
    }

    fn transport(&self, kind: Option<Kind>) -> Option<&'static str> {
        match (kind?, self.client) {
            (Kind::Sse, _) => Some("sse"),
            // There it means: one, and if that fails the other.
            (_, Client::VsCode | Client::OpenCode) => None,
            (Kind::Http, _) => Some("streamable-http"),
            (Kind::Stdio, _) => None,
        }
    }

    /// The words of the command, as the client wrote them.
    fn command(&mut self) -> Vec<String> {
        let (command, args) = (self.take(&["command", "cmd"]), self.take(&["args", "arguments"]));
        let mut words = Vec::new();
        match command {
            Some(Tree::Table(inner)) => {
                // Zed's older form.
                words.extend(inner.get("path").and_then(Tree::word));
                words.extend(self.list("args", inner.get("args")));
            }
            Some(Tree::List(_)) => words.extend(self.list("command", command)),
            Some(one) => words.extend(one.word().into_iter().flat_map(|one| self.split(one, args.is_some()))),
            None => {}
        }
        words.extend(self.list("args", args));
        words.retain(|word| !word.contains('\0'));
        words
    }

    /// Some write a whole line where a program is meant.
    fn split(&mut self, line: String, has_args: bool) -> Vec<String> {
        if !line.trim().contains(' ') {
            return vec![line.trim().to_owned()].into_iter().filter(|word| !word.is_empty()).collect();
        }
        let first = line.split(' ').next().unwrap_or_default();
        match shlex::split(&line) {
            Some(words) if !first.contains(['/', '\\']) && !words.is_empty() => {
                self.notes.push("`command` was a whole line, and was split at its spaces".into());
                words
            }
            _ => {
                if !has_args {
                    self.notes.push("`command` holds a space, and was taken for one path".into());
                }
                vec![line]
            }
        }
    }

    /// A list of words; what is none is told.
    pub(super) fn list(&mut self, key: &str, tree: Option<&Tree>) -> Vec<String> {
        match tree {
            Some(Tree::List(list)) => {
                let words: Vec<String> = list.iter().filter_map(Tree::word).collect();
                if words.len() < list.len() {
                    self.notes.push(format!("an entry of `{key}` is no text, and was left out"));
                }
                words
            }
            Some(Tree::Text(line)) if !line.is_empty() => {
                self.notes.push(format!("`{key}` was one text, and was split at its spaces"));
                shlex::split(line).unwrap_or_else(|| line.split_whitespace().map(str::to_owned).collect())
            }
            Some(tree) if !tree.is_empty() => {
                self.notes.push(format!("`{key}` is no list, and was left out"));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Names and texts of a table, or of a list of `NAME=text`.
    pub(super) fn pairs(&mut self, key: &str, tree: Option<&Tree>) -> Vec<(String, String)> {
        let mut found: IndexMap<String, String> = IndexMap::new();
        let mut lost = false;
        match tree {
            Some(Tree::Table(table)) => {
                for (name, value) in table {
                    match value.word() {
                        Some(word) => drop(found.insert(name.clone(), word)),
                        None => lost = true,
                    }
                }
            }
            Some(Tree::List(list)) => {
                for one in list {
                    let text = one.text().and_then(|text| text.split_once('='));
                    let named = || Some((one.get("name").or(one.get("key"))?.text()?, one.get("value")?.text()?));
                    match text.or_else(named) {
                        Some((name, value)) => drop(found.insert(name.to_owned(), value.to_owned())),
                        None => lost = true,
                    }
                }
            }
            Some(tree) => lost = !tree.is_empty(),
            None => {}
        }
        if lost {
            self.notes.push(format!("a part of `{key}` is no text, and was left out"));
        }
        found.into_iter().filter(|(name, value)| !name.is_empty() && !value.contains('\0')).collect()
    }

    fn env(&mut self) -> Vec<(String, String)> {
        let mut env = Vec::new();
        if let Some(Tree::Table(command)) = self.table.get("command") {
            env.extend(self.pairs("env", command.get("env")));
        }
        let own = self.take(&["env", "environment", "envs"]);
        env.extend(self.pairs("env", own));
        // Names of variables that are passed on: from the keyring of goose, or from the environment of Codex.
        for name in self.take(&["env_keys", "env_vars"]).and_then(Tree::list).unwrap_or_default() {
            if let Some(name) = name.word().or_else(|| name.get("name")?.word()) {
                env.push((name.clone(), format!("${{{name}}}")));
                self.notes.push(format!("set the variable `{name}` for the hub: the client has it elsewhere"));
            }
        }
        env.retain(|(name, _)| !name.contains(['=', '\0']));
        env
    }

    fn started(&mut self, command: Vec<String>, env: Vec<(String, String)>, new: &mut NewUpstream) {
        new.command = command.iter().map(|word| self.text(word)).collect();
        new.env = env.into_iter().map(|(name, value)| (name, self.text(&value))).collect();
        let relative = |word: &String| word.starts_with("./") || word.starts_with("../");
        // A program with a slash in it would be looked for beside hub.toml.
        let beside = new.command.first().is_some_and(relative);
        match self.around.workspace.as_deref().map(escaped) {
            Some(folder) => {
                if let Some(program) = new.command.first_mut().filter(|_| beside) {
                    *program = format!("{folder}/{}", program.trim_start_matches("./"));
                }
                new.cwd = new.command.iter().any(relative).then_some(folder);
            }
            None if new.command.iter().any(relative) => {
                self.notes.push("a relative path begins at the folder of hub.toml now".into());
            }
            None => {}
        }
    }

    fn bridged(&mut self, found: Bridged, env: &[(String, String)], new: &mut NewUpstream) {
        self.notes.push(format!("`{}` was only the way to its URL, which the hub reaches by itself", found.bridge));
        let told = found.lost.iter().map(|lost| format!("{lost} of `{}` was left out", found.bridge));
        self.notes.extend(told);
        new.url = Some(self.text(&found.url));
        new.transport = found.transport;
        new.headers = found.headers.iter().map(|(name, value)| (name.clone(), self.text(value))).collect();
        new.deny = found.deny;
        let mut credentials = NewUpstream { auth: found.auth, ..Default::default() };
        credentials.texts().into_iter().for_each(|(_, text)| *text = self.text(text));
        new.auth = credentials.auth;
        let used = |name: &str| self.table_text().contains(&format!("${{{name}}}")) || name == "API_ACCESS_TOKEN";
        let unused: Vec<(String, String)> = env.iter().filter(|(name, _)| !used(name)).cloned().collect();
        self.without("env", &unused);
    }

    /// The arguments, to see which variables they use.
    fn table_text(&self) -> String {
        let args = self.table.get("args").or_else(|| self.table.get("command")).and_then(Tree::list);
        args.unwrap_or_default().iter().filter_map(Tree::text).collect::<Vec<_>>().join(" ")
    }

    fn without(&mut self, key: &str, pairs: &[(String, String)]) {
        if !pairs.is_empty() {
            let names: Vec<String> = pairs.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.notes.push(format!("{} of `{key}` was left out: nothing is started here", names.join(", ")));
        }
    }
}
