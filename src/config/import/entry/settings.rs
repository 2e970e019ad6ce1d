//! What is said about a server beside how it is reached; what the hub has no word for becomes a note.

use indexmap::IndexSet;

use super::Entry;
use crate::config::edit::NewUpstream;
use crate::config::import::reference::escaped;
use crate::config::import::secret;
use crate::config::import::tree::Tree;

/// What clients have a word for, and the hub another place or none.
const ELSEWHERE: [(&str, &str); 16] = [
    ("autoApprove", "what needs no question is the client's to decide"),
    ("alwaysAllow", "what needs no question is the client's to decide"),
    ("trust", "what needs no question is the client's to decide"),
    ("default_tools_approval_mode", "what needs no question is the client's to decide"),
    ("headersHelper", "a command that prints headers is not run; write ${env:NAME} or ${file:PATH} in `headers`"),
    ("envFile", "it was not read: add its variables to `env`"),
    ("env_file", "it was not read: add its variables to `env`"),
    ("sandbox", "see `sandbox` of hub.toml, which is written otherwise"),
    ("sandboxEnabled", "see `sandbox` of hub.toml, which is written otherwise"),
    ("dev", "the hub restarts a server whose definition changes, and not whose files do"),
    ("watch", "the hub restarts a server whose definition changes, and not whose files do"),
    ("watchPaths", "the hub restarts a server whose definition changes, and not whose files do"),
    ("keepAliveInterval", "the hub looks after its connections by itself"),
    ("required", "which servers a client cannot do without is the client's to decide"),
    ("prompts", "what is shown of it is not chosen but for `tools`"),
    ("proxy", "see `proxy` of hub.toml"),
];

/// These say what is known already.
const SAID: [&str; 6] = ["source", "name", "id", "bundled", "$schema", "display_name"];

impl Entry<'_> {
    pub(super) fn headers(&mut self, new: &mut NewUpstream) {
        let options = self.take(&["requestOptions", "requestInit"]);
        for key in
            options.and_then(Tree::table).into_iter().flat_map(|table| table.keys()).filter(|key| *key != "headers")
        {
            self.notes
                .push(format!("`{}` of its requests has no counterpart in hub.toml, and was left out", quiet(key)));
        }
        let headers = self.take(&["headers", "http_headers"]).or_else(|| options?.get("headers"));
        let mut found = self.pairs("headers", headers);
        for (name, variable) in {
            let by_name = self.take(&["env_http_headers"]);
            self.pairs("env_http_headers", by_name)
        } {
            found.push((name, format!("${{{variable}}}")));
        }
        if let Some(variable) = self.take(&["bearer_token_env_var"]).and_then(Tree::text) {
            found.push(("Authorization".into(), format!("Bearer ${{{variable}}}")));
        }
        if let Some(token) =
            self.take(&["bearer_token", "bearerToken", "apiKey", "authorization_token"]).and_then(Tree::text)
        {
            found.push(("Authorization".into(), format!("Bearer {token}")));
        }
        if new.url.is_none() {
            if !found.is_empty() {
                self.notes.push("its headers were left out: it is started here".into());
            }
            return;
        }
        for (name, value) in found {
            let same = |known: &(String, String)| known.0.eq_ignore_ascii_case(&name);
            if !new.headers.iter().any(same) {
                let value = self.text(&value);
                new.headers.push((name, value));
            }
        }
    }

    pub(super) fn working_directory(&mut self, new: &mut NewUpstream) {
        let keys = ["cwd", "workingDirectory", "working_directory", "workingDir", "workdir"];
        let Some(folder) = self.take(&keys).and_then(Tree::text).filter(|folder| !folder.is_empty()) else { return };
        if new.url.is_some() {
            return self.notes.push("its working directory was left out: nothing is started here".into());
        }
        let folder = self.text(folder);
        let relative = !folder.starts_with(['/', '~', '$']) && !folder.contains(':');
        new.cwd = Some(match (&self.around.workspace, folder.strip_prefix("~/"), &self.around.home) {
            (_, Some(rest), Some(home)) => format!("{}/{rest}", escaped(home)),
            (Some(workspace), ..) if relative => {
                let folder = folder.trim_start_matches("./");
                format!("{}/{folder}", escaped(workspace))
            }
            _ => {
                if relative {
                    self.notes
                        .push("its working directory is relative, and begins at the folder of hub.toml now".into());
                }
                folder
            }
        });
    }

    pub(super) fn switches(&mut self, new: &mut NewUpstream) {
        let off = self.take(&["disabled", "disable"]).and_then(Tree::bool);
        let on = self.take(&["enabled", "isActive", "active"]).and_then(Tree::bool);
        new.disabled = off == Some(true) || on == Some(false);
    }

    pub(super) fn times(&mut self, new: &mut NewUpstream) {
        const SECOND: f64 = 1000.0;
        let unit = if self.client.counts_seconds() { SECOND } else { 1.0 };
        let starts = self.client.times_the_start();
        self.time(&["timeout"], unit, starts, new);
        self.time(&["requestTimeout", "toolTimeout", "networkTimeout"], 1.0, false, new);
        self.time(&["request_timeout", "tool_timeout_sec"], SECOND, false, new);
        self.time(&["startup_timeout_sec"], SECOND, true, new);
        self.time(&["startup_timeout_ms", "startupTimeout", "initTimeout", "connectionTimeout"], 1.0, true, new);
    }

    /// A time, counted in so many thousandths of a second: of the start, or of a call.
    fn time(&mut self, keys: &[&str], unit: f64, start: bool, new: &mut NewUpstream) {
        let Some(said) = self.take(keys).and_then(Tree::word) else { return };
        let place = if start { &mut new.start_timeout } else { &mut new.request_timeout };
        let most = if start { 3_600_000.0 } else { 86_400_000.0 };
        match said.parse::<f64>().map(|count| count * unit) {
            Ok(time) if (100.0..=most).contains(&time) => *place = Some(duration(time)),
            _ => self.notes.push(format!("`{}` is no time that fits here, and was left out", keys[0])),
        }
    }

    pub(super) fn tools(&mut self, new: &mut NewUpstream) {
        let allow = self.take(&["includeTools", "enabled_tools", "enabledTools", "available_tools", "allowedTools"]);
        let deny = self.take(&["excludeTools", "disabled_tools", "disabledTools"]);
        new.allow.extend(self.list("tools", allow));
        new.deny.extend(self.list("tools", deny));
        // mcphub: a table of tools, each with its switch.
        match self.take(&["tools"]) {
            Some(Tree::Table(tools)) => {
                let off = tools.iter().filter(|(_, tool)| tool.get("enabled").and_then(Tree::bool) == Some(false));
                new.deny.extend(off.map(|(name, _)| name.clone()));
            }
            Some(Tree::List(tools)) if tools.iter().all(|tool| tool.text() == Some("*")) => {}
            Some(Tree::List(list)) => new.allow.extend(list.iter().filter_map(Tree::word)),
            _ => {}
        }
        // mcp-proxy of TBXark, and others that put what they add into a table of its own.
        if let Some(options) = self.take(&["options"]) {
            self.options(options, new);
        }
        for list in [&mut new.allow, &mut new.deny] {
            let mut seen = IndexSet::new();
            list.retain(|tool| !tool.is_empty() && seen.insert(tool.clone()));
        }
    }

    fn options(&mut self, options: &Tree, new: &mut NewUpstream) {
        for (key, value) in options.table().into_iter().flatten() {
            match key.as_str() {
                "toolFilter" => {
                    let list = value.get("list").and_then(Tree::list).unwrap_or_default();
                    let words = list.iter().filter_map(Tree::word);
                    let only = value.get("mode").and_then(Tree::text) == Some("allow");
                    if only { new.allow.extend(words) } else { new.deny.extend(words) }
                }
                "timeout"
                    if value
                        .word()
                        .and_then(|word| word.parse::<f64>().ok())
                        .is_some_and(|n| (100.0..=8.64e7).contains(&n)) =>
                {
                    new.request_timeout = value.word().and_then(|word| word.parse().ok()).map(duration);
                }
                "disabled" => new.disabled |= value.bool() == Some(true),
                _ => self
                    .notes
                    .push(format!("`options.{}` has no counterpart in hub.toml, and was left out", quiet(key))),
            }
        }
    }

    pub(super) fn comment(&mut self, new: &mut NewUpstream) {
        if let Some(text) = self.take(&["description"]).and_then(Tree::text).filter(|text| !text.trim().is_empty()) {
            if secret::is_value(text) {
                return self.notes.push("its description looked like it holds a secret, and was left out".into());
            }
            let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
            new.comment = Some(line.chars().filter(|c| !c.is_control()).take(160).collect());
        }
    }

    pub(super) fn leftovers(&mut self) {
        for (key, value) in self.table {
            if self.taken.contains(key.as_str()) || SAID.contains(&key.as_str()) || value.is_empty() {
                continue;
            }
            match ELSEWHERE.iter().find(|(name, _)| name == key) {
                Some((_, why)) => self.notes.push(format!("`{key}` was left out: {why}")),
                None => self.notes.push(format!("`{}` has no counterpart in hub.toml, and was left out", quiet(key))),
            }
        }
    }
}

fn quiet(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Thousandths of a second, in the largest unit that tells them whole.
fn duration(time: f64) -> String {
    let time = time as u64;
    match time {
        _ if time.is_multiple_of(60_000) => format!("{}m", time / 60_000),
        _ if time.is_multiple_of(1000) => format!("{}s", time / 1000),
        _ => format!("{time}ms"),
    }
}
