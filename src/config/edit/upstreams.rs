//! Upstreams that come, go, and are switched off and on again.

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value, value};

use super::{EditError, read};

/// What is written of a new upstream.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct NewUpstream {
    /// Lines above it.
    pub comment: Option<String>,
    /// A remote server's,
    pub url: Option<String>,
    /// or the words of a command.
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub transport: Option<&'static str>,
    pub auth: Option<NewAuth>,
    /// Durations, as they are written.
    pub start_timeout: Option<String>,
    pub request_timeout: Option<String>,
    /// Patterns of tools; none: all, and none.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    /// `enabled = false`
    pub disabled: bool,
    /// `required = false`
    pub optional: bool,
}

/// With what a new remote upstream is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum NewAuth {
    OAuth { client_id: Option<String>, client_secret: Option<String>, scopes: Vec<String> },
    ClientCredentials { token_url: Option<String>, client_id: String, client_secret: String },
    Basic { username: String, password: String },
}

impl NewUpstream {
    /// Every text that may hold a reference, or be a secret, with where it stands.
    pub(in crate::config) fn texts(&mut self) -> Vec<(String, &mut String)> {
        let mut all: Vec<(String, &mut String)> = Vec::new();
        all.extend(self.url.iter_mut().map(|text| ("url".to_owned(), text)));
        all.extend(self.command.iter_mut().map(|text| ("args".to_owned(), text)));
        all.extend(self.env.iter_mut().map(|(name, text)| (name.clone(), text)));
        all.extend(self.headers.iter_mut().map(|(name, text)| (name.clone(), text)));
        all.extend(self.cwd.iter_mut().map(|text| ("cwd".to_owned(), text)));
        match &mut self.auth {
            Some(NewAuth::OAuth { client_id, client_secret, .. }) => {
                all.extend(client_id.iter_mut().map(|text| ("client_id".to_owned(), text)));
                all.extend(client_secret.iter_mut().map(|text| ("client_secret".to_owned(), text)));
            }
            Some(NewAuth::ClientCredentials { token_url, client_id, client_secret }) => {
                all.extend(token_url.iter_mut().map(|text| ("token_url".to_owned(), text)));
                all.extend([("client_id".to_owned(), client_id), ("client_secret".to_owned(), client_secret)]);
            }
            Some(NewAuth::Basic { username, password }) => {
                all.extend([("username".to_owned(), username), ("password".to_owned(), password)]);
            }
            None => {}
        }
        all
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        if let Some(url) = &self.url {
            table.insert("url", value(url));
        }
        if let Some((program, args)) = self.command.split_first() {
            table.insert("command", value(program));
            if !args.is_empty() {
                table.insert("args", value(args.iter().collect::<Array>()));
            }
        }
        let lines = [
            ("cwd", self.cwd.as_deref()),
            ("transport", self.transport),
            ("start_timeout", self.start_timeout.as_deref()),
            ("request_timeout", self.request_timeout.as_deref()),
        ];
        for (key, text) in lines {
            if let Some(text) = text {
                table.insert(key, value(text));
            }
        }
        for (key, pairs) in [("env", &self.env), ("headers", &self.headers)] {
            if !pairs.is_empty() {
                let pairs = pairs.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str())));
                table.insert(key, value(pairs.collect::<InlineTable>()));
            }
        }
        if let Some(auth) = &self.auth {
            let (kind, inner) = auth.table();
            table.insert("auth", value([(kind, Value::from(inner))].into_iter().collect::<InlineTable>()));
        }
        let tools = [("allow", &self.allow), ("deny", &self.deny)].into_iter().filter(|(_, all)| !all.is_empty());
        let tools: InlineTable = tools.map(|(key, all)| (key, Value::from(all.iter().collect::<Array>()))).collect();
        if !tools.is_empty() {
            table.insert("tools", value(tools));
        }
        for (key, said) in [("enabled", self.disabled), ("required", self.optional)] {
            if said {
                table.insert(key, value(false));
            }
        }
        table
    }
}

impl NewAuth {
    fn table(&self) -> (&'static str, InlineTable) {
        let (kind, lines, scopes): (_, Vec<(&str, Option<&String>)>, &[String]) = match self {
            NewAuth::OAuth { client_id, client_secret, scopes } => {
                let lines = vec![("client_id", client_id.as_ref()), ("client_secret", client_secret.as_ref())];
                ("oauth", lines, scopes)
            }
            NewAuth::ClientCredentials { token_url, client_id, client_secret } => {
                let own = [("client_id", Some(client_id)), ("client_secret", Some(client_secret))];
                ("client_credentials", [("token_url", token_url.as_ref())].into_iter().chain(own).collect(), &[])
            }
            NewAuth::Basic { username, password } => {
                ("basic", vec![("username", Some(username)), ("password", Some(password))], &[])
            }
        };
        let lines = lines.into_iter().filter_map(|(key, text)| Some((key, Value::from(text?.as_str()))));
        let scopes = (!scopes.is_empty()).then(|| ("scopes", Value::from(scopes.iter().collect::<Array>())));
        (kind, lines.chain(scopes).collect())
    }
}

/// Adds `[upstreams.<name>]` at the end of the file.
pub fn add_upstream(text: &str, name: &str, new: &NewUpstream) -> Result<String, EditError> {
    add_upstreams(text, [(name, new)])
}

/// Adds several, in their order.
pub fn add_upstreams<'a>(
    text: &str,
    all: impl IntoIterator<Item = (&'a str, &'a NewUpstream)>,
) -> Result<String, EditError> {
    let mut document = read(text)?;
    let upstreams = upstreams(&mut document)?;
    let mut first = text.trim().is_empty();
    for (name, new) in all {
        if upstreams.contains_key(name) {
            return Err(EditError::UpstreamTaken(name.to_owned()));
        }
        let mut table = new.table();
        let mut before = if std::mem::take(&mut first) { String::new() } else { "\n".to_owned() };
        for line in new.comment.iter().flat_map(|comment| comment.lines()) {
            before += &format!("# {}\n", line.replace(char::is_control, " ").trim());
        }
        table.decor_mut().set_prefix(before);
        upstreams.insert(name, Item::Table(table));
    }
    Ok(document.to_string())
}

/// The names of those that are there, each with what it is.
pub(in crate::config) fn known_upstreams(text: &str) -> Result<Vec<(String, String)>, EditError> {
    let mut document = read(text)?;
    let all = upstreams(&mut document)?.iter().map(|(name, item)| (name.to_owned(), meant(item.as_table_like())));
    Ok(all.collect())
}

impl NewUpstream {
    /// What it is, whatever stands around it.
    pub(in crate::config) fn meant(&self) -> String {
        meant(Some(&self.table()))
    }
}

/// The keys in an order of their own and without comments, to compare.
fn meant(table: Option<&dyn TableLike>) -> String {
    let mut keys: Vec<String> = table
        .into_iter()
        .flat_map(|table| table.iter())
        .map(|(key, item)| match (item.as_table_like(), item.as_value()) {
            (Some(inner), _) => format!("{key}{{{}}}", meant(Some(inner))),
            (None, Some(value)) => format!("{key}={}", plain(value.clone())),
            _ => key.to_owned(),
        })
        .collect();
    keys.sort();
    keys.join(";")
}

/// A value as it would be written if nobody had cared.
fn plain(mut value: Value) -> String {
    if let Value::Array(array) = &mut value {
        return format!("[{}]", array.iter().map(|one| plain(one.clone())).collect::<Vec<_>>().join(","));
    }
    match &value {
        Value::String(text) => format!("{:?}", text.value()),
        _ => value.decorated("", "").to_string(),
    }
}

pub fn remove_upstream(text: &str, name: &str) -> Result<String, EditError> {
    let mut document = read(text)?;
    upstreams(&mut document)?.remove(name).ok_or_else(|| EditError::UpstreamUnknown(name.to_owned()))?;
    Ok(document.to_string())
}

/// Switches one on or off. On is what is not said otherwise.
pub fn enable_upstream(text: &str, name: &str, enabled: bool) -> Result<String, EditError> {
    let mut document = read(text)?;
    let table = upstreams(&mut document)?.get_mut(name).ok_or_else(|| EditError::UpstreamUnknown(name.to_owned()))?;
    let table = table.as_table_like_mut().ok_or(EditError::Shape("upstreams"))?;
    match (table.get_mut("enabled"), enabled) {
        // In its place, with the comment behind it.
        (Some(Item::Value(said)), _) => {
            let decor = said.decor().clone();
            *said = Value::from(enabled);
            *said.decor_mut() = decor;
        }
        (_, true) => {}
        (_, false) => drop(table.insert("enabled", value(false))),
    }
    Ok(document.to_string())
}

fn upstreams(document: &mut DocumentMut) -> Result<&mut dyn TableLike, EditError> {
    let made = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    let upstreams = document.entry("upstreams").or_insert_with(made);
    upstreams.as_table_like_mut().ok_or(EditError::Shape("upstreams"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[hub]\nbind = [\"127.0.0.1:1\"] # here\n\n# the clock\n[upstreams.time]\ncommand = \"x\" # why\nenabled = true # for now\n";

    fn command(words: &[&str]) -> NewUpstream {
        NewUpstream { command: words.iter().map(|word| (*word).to_owned()).collect(), ..Default::default() }
    }

    #[test]
    fn upstreams_come_and_go_and_all_else_stays() {
        let mut new = command(&["npx", "-y", "a \"b\""]);
        new.env.push(("A_TOKEN".into(), "${env:A}".into()));
        let added = add_upstream(FILE, "git", &new).unwrap();
        assert!(added.starts_with(FILE), "{added}");
        assert_eq!(
            added.strip_prefix(FILE),
            Some(
                "\n[upstreams.git]\ncommand = \"npx\"\nargs = [\"-y\", 'a \"b\"']\nenv = { A_TOKEN = \"${env:A}\" }\n"
            )
        );
        let url = NewUpstream { url: Some("https://a.example/mcp".into()), ..Default::default() };
        assert!(
            add_upstream(&added, "far", &url)
                .unwrap()
                .ends_with("\n[upstreams.far]\nurl = \"https://a.example/mcp\"\n")
        );
        assert!(matches!(add_upstream(FILE, "time", &url), Err(EditError::UpstreamTaken(_))));
        assert_eq!(remove_upstream(&added, "git").unwrap(), FILE);
        assert!(matches!(remove_upstream(FILE, "git"), Err(EditError::UpstreamUnknown(_))));
        assert_eq!(add_upstream("", "a", &command(&["x"])).unwrap(), "[upstreams.a]\ncommand = \"x\"\n");
    }

    #[test]
    fn off_and_on_again_is_what_was_there() {
        let off = enable_upstream(FILE, "time", false).unwrap();
        assert_eq!(off, FILE.replace("enabled = true # for now", "enabled = false # for now"));
        assert_eq!(enable_upstream(&off, "time", true).unwrap(), FILE);
        let silent = "[upstreams.a]\ncommand = 'x'\n";
        assert_eq!(enable_upstream(silent, "a", true).unwrap(), silent);
        assert_eq!(enable_upstream(silent, "a", false).unwrap(), format!("{silent}enabled = false\n"));
        let inline = "upstreams = { a = { command = 'x' } }\n";
        assert!(enable_upstream(inline, "a", false).unwrap().contains("enabled = false"));
        assert!(matches!(enable_upstream(silent, "b", false), Err(EditError::UpstreamUnknown(_))));
    }
}
