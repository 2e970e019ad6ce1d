//! From what several files say to what is added to one `hub.toml`: names that are free, secrets in files of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::reference::{escaped, needed, plain_text};
use super::{Imported, Server, secret};
use crate::config::edit::{EditError, NewAuth, NewUpstream, add_upstreams, known_upstreams};
use crate::config::{Name, parse};

/// The folder beside `hub.toml` that holds secrets.
const FOLDER: &str = "secrets";

/// What is added, and what has to be told.
#[derive(Debug, Default)]
pub struct Settled {
    pub upstreams: Vec<Ready>,
    /// To be written before the file that refers to them, readable by nobody else.
    pub files: Vec<SecretFile>,
    pub notes: Vec<String>,
}

/// An upstream that can be added.
#[derive(Debug)]
pub struct Ready {
    pub name: Name,
    /// As the client calls it.
    pub origin: String,
    pub client: &'static str,
    /// As it is written.
    pub new: NewUpstream,
    /// As it is shown: `***` where a secret stands in the file.
    pub shown: NewUpstream,
    pub notes: Vec<String>,
}

/// A secret, and where it goes, relative to `hub.toml`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    pub path: String,
    pub value: String,
}

/// The value never shows itself.
impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ***", self.path)
    }
}

/// What there is already, and what is wished.
pub struct Place<'a> {
    /// Of `hub.toml`; empty if there is none.
    pub text: &'a str,
    pub folder: &'a Path,
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a secret file of this path can be had: it is not there, or holds the same.
    pub free: &'a dyn Fn(&str, &str) -> bool,
    pub keep_secrets: bool,
}

/// Chooses names and files. What `hubward check` would refuse is left out and told.
pub fn settle(files: Vec<Imported>, place: &Place<'_>) -> Result<Settled, EditError> {
    let known: BTreeMap<String, String> = known_upstreams(place.text)?.into_iter().collect();
    let mut settled = Settled::default();
    let mut seen: Vec<(NewUpstream, Name)> = Vec::new();
    for file in files {
        let client = file.client.label();
        settled.notes.extend(file.notes.into_iter().map(|note| format!("{client}: {note}")));
        for server in file.servers {
            // The same server in two clients is one server.
            if let Some((_, name)) =
                seen.iter().find(|(new, name)| *new == server.new && base(&server.name).as_ref() == Some(name))
            {
                settled.notes.push(format!("{client}: `{name}` is the same as another client's, and was taken once"));
                continue;
            }
            let definition = server.new.clone();
            match one(server, client, &known, &settled, place) {
                Ok((ready, files)) => {
                    seen.push((definition, ready.name.clone()));
                    settled.upstreams.push(ready);
                    settled.files.extend(files);
                }
                Err(note) => settled.notes.push(format!("{client}: {note}")),
            }
        }
    }
    Ok(settled)
}

/// The name that a client's becomes, if nobody else has it.
fn base(name: &str) -> Option<Name> {
    let near = || Name::near(name).filter(|_| name.contains(|c: char| c.is_ascii_alphanumeric()));
    Name::new(name).ok().or_else(near).or_else(|| Name::new("server").ok())
}

fn one(
    mut server: Server,
    client: &'static str,
    known: &BTreeMap<String, String>,
    settled: &Settled,
    place: &Place<'_>,
) -> Result<(Ready, Vec<SecretFile>), String> {
    let origin: String = server.name.chars().filter(|c| !c.is_control()).take(80).collect();
    let base = base(&server.name).ok_or_else(|| format!("`{origin}` was left out: nothing can be made of its name"))?;
    let Server { new, notes, .. } = &mut server;
    last_of_each(&mut new.env, str::eq, notes);
    last_of_each(&mut new.headers, str::eq_ignore_ascii_case, notes);
    optional(&mut server, place);
    let refused = |why: String| format!("`{origin}` was left out: {why}");
    // With its secrets in it, so that what they hold is judged too.
    judge(&base, &server.new, place).map_err(refused)?;
    let is_free =
        |name: &Name| !known.contains_key(name.as_str()) && !settled.upstreams.iter().any(|other| other.name == *name);
    let mut names = std::iter::once(base.clone()).chain((2..=1000).filter_map(|n| suffixed(&base, n)));
    let (name, written, files) = loop {
        let name =
            names.next().ok_or_else(|| format!("`{origin}` was left out: its name is taken a thousand times"))?;
        let (written, files) = moved(&name, &server.new, settled, place);
        let as_written = if place.keep_secrets { &server.new } else { &written };
        if known.get(name.as_str()).is_some_and(|there| *there == as_written.meant()) {
            return Err(format!("`{name}` is in hub.toml already, and stays as it is"));
        }
        if is_free(&name) {
            break (name, written, files);
        }
    };
    if name.as_str() != server.name {
        let taken = if name != base { ", for that name is taken" } else { "" };
        server.notes.insert(0, format!("it is called `{name}` here{taken}"));
    }
    let (new, shown, files) = match place.keep_secrets {
        true => (server.new, masked(written, &files), Vec::new()),
        false => (written.clone(), written, files),
    };
    Ok((Ready { name, origin, client, new, shown, notes: server.notes }, files))
}

/// Of several values under one name the last counts, and none of the others leaves a secret behind.
fn last_of_each(pairs: &mut Vec<(String, String)>, same: fn(&str, &str) -> bool, notes: &mut Vec<String>) {
    let mut at = 0;
    while let Some((name, _)) = pairs.get(at) {
        match pairs[at + 1..].iter().any(|(later, _)| same(name, later)) {
            true => notes.push(format!("`{}` stands there more than once: the last one counts", pairs.remove(at).0)),
            false => at += 1,
        }
    }
}

fn suffixed(base: &Name, n: usize) -> Option<Name> {
    let end = format!("-{n}");
    let most = base.as_str().len().min(63 - end.len());
    Name::new(&format!("{}{end}", &base.as_str()[..most])).ok()
}

/// What is not set here must not keep the whole hub from starting.
fn optional(server: &mut Server, place: &Place<'_>) {
    let mut missing = BTreeSet::new();
    let mut files = false;
    for (_, text) in server.new.texts() {
        missing.extend(needed(text).into_iter().filter(|name| (place.env)(name).is_none()).map(str::to_owned));
        files |= text.contains("${file:");
    }
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
        let is = if names.len() == 1 { "is" } else { "are" };
        server
            .notes
            .push(format!("{} {is} not set here: `required = false` lets the hub start without", names.join(", ")));
    }
    if files {
        server.notes.push("it reads a file: `required = false` lets the hub start without".into());
    }
    server.new.optional = !missing.is_empty() || files;
}

/// Whether the upstream would be taken, alone.
fn judge(name: &Name, new: &NewUpstream, place: &Place<'_>) -> Result<(), String> {
    let text = add_upstreams("", [(name.as_str(), new)]).map_err(|error| error.to_string())?;
    match parse(&text, place.folder, place.env) {
        Ok(_) => Ok(()),
        Err(found) => {
            let first = found.into_iter().find(|one| one.severity == crate::config::Severity::Error);
            Err(first.map_or_else(|| "it is no upstream".into(), |one| one.title))
        }
    }
}

/// The upstream with references in place of its secrets, and the files that they lead to.
fn moved(name: &Name, new: &NewUpstream, settled: &Settled, place: &Place<'_>) -> (NewUpstream, Vec<SecretFile>) {
    let mut new = new.clone();
    let mut mover = Mover { name, files: Vec::new(), settled, place };
    if let Some(url) = &mut new.url {
        mover.url(url);
    }
    mover.command(&mut new.command);
    for (key, value) in new.env.iter_mut().chain(&mut new.headers) {
        mover.named(key, value);
    }
    match &mut new.auth {
        Some(NewAuth::OAuth { client_secret: Some(secret), .. }) => mover.whole("client_secret", secret),
        Some(NewAuth::ClientCredentials { client_secret, .. }) => mover.whole("client_secret", client_secret),
        Some(NewAuth::Basic { password, .. }) => mover.whole("password", password),
        _ => {}
    }
    let files = mover.files;
    (new, files)
}

fn masked(mut new: NewUpstream, files: &[SecretFile]) -> NewUpstream {
    for (_, text) in new.texts() {
        for file in files {
            *text = text.replace(&format!("${{file:{}}}", file.path), "***");
        }
    }
    new
}

struct Mover<'a> {
    name: &'a Name,
    files: Vec<SecretFile>,
    settled: &'a Settled,
    place: &'a Place<'a>,
}

impl Mover<'_> {
    /// Moves a text into a file, if it is one and not already a reference.
    fn whole(&mut self, key: &str, text: &mut String) {
        match plain_text(text) {
            // A line break at the end would be lost.
            Some(value) if !value.is_empty() && !value.ends_with(['\n', '\r']) => *text = self.file(key, value),
            _ => {}
        }
    }

    fn file(&mut self, key: &str, value: String) -> String {
        let key: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' })
            .take(60)
            .collect();
        let mut path = format!("{FOLDER}/{}.{key}", self.name);
        let mut n = 1;
        let taken = |path: &str| {
            let mine = self.files.iter().chain(&self.settled.files).find(|file| file.path.eq_ignore_ascii_case(path));
            mine.map_or_else(|| !(self.place.free)(path, &value), |file| file.value != value)
        };
        while taken(&path) && n < 1000 {
            n += 1;
            path = format!("{FOLDER}/{}.{key}-{n}", self.name);
        }
        let reference = format!("${{file:{path}}}");
        if !self.files.iter().any(|file| file.path == path) {
            self.files.push(SecretFile { path, value });
        }
        reference
    }

    /// A variable or a header. Its scheme stays readable.
    fn named(&mut self, key: &str, text: &mut String) {
        let Some(value) = plain_text(text) else { return };
        if !secret::is_named(key, &value) && !secret::is_value(&value) {
            return;
        }
        match value.split_once(' ') {
            Some((scheme, rest)) if matches!(scheme.to_ascii_lowercase().as_str(), "bearer" | "basic" | "token") => {
                let mut rest = escaped(rest);
                self.whole(key, &mut rest);
                *text = format!("{scheme} {rest}");
            }
            _ => self.whole(key, text),
        }
    }

    /// The parts of a URL: what its query calls a token, and what looks like one wherever it stands.
    fn url(&mut self, url: &mut String) {
        if url.contains("${") {
            return;
        }
        let (before, query) = url.split_once('?').map_or((url.as_str(), None), |(before, query)| (before, Some(query)));
        let mut segments: Vec<String> = before.split('/').map(str::to_owned).collect();
        for segment in segments.iter_mut().skip(3).filter(|segment| secret::is_value(segment)) {
            self.whole("url", segment);
        }
        let pairs = query.map(|query| {
            let pairs = query.split('&').map(|pair| match pair.split_once('=') {
                Some((key, value)) => {
                    let mut value = value.to_owned();
                    self.named(key, &mut value);
                    format!("{key}={value}")
                }
                None => pair.to_owned(),
            });
            pairs.collect::<Vec<_>>().join("&")
        });
        *url = segments.join("/") + &pairs.map_or_else(String::new, |pairs| format!("?{pairs}"));
    }

    /// `--api-key X`, `--api-key=X`, `-e KEY=X`, `--header "Key: X"`, and what looks like a token by itself.
    fn command(&mut self, words: &mut [String]) {
        let mut flag: Option<String> = None;
        for word in words.iter_mut().skip(1) {
            let before = flag.take();
            if word.starts_with('-') && !word.contains(['=', ' ']) {
                flag = Some(word.trim_start_matches('-').to_owned());
                continue;
            }
            let Some(plain) = plain_text(word) else { continue };
            let parts = plain.split_once('=').map(|(key, value)| (key, "=", value));
            let parts = parts.or_else(|| plain.split_once(": ").map(|(key, value)| (key, ": ", value)));
            match parts {
                Some((key, between, value))
                    if !key.contains([' ', '/', '?']) && (secret::is_named(key, value) || secret::is_value(value)) =>
                {
                    let mut value = escaped(value);
                    self.named(key.trim_start_matches('-'), &mut value);
                    *word = format!("{}{between}{value}", escaped(key));
                }
                _ if before.as_deref().is_some_and(|flag| secret::is_named(flag, &plain)) => {
                    self.whole(&before.unwrap_or_default(), word);
                }
                _ if secret::is_value(&plain) => self.whole("arg", word),
                _ => {}
            }
        }
    }
}
