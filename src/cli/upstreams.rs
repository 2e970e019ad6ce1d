//! `hubward add|remove|enable|disable|list`: the upstreams of hub.toml. A running hub sees the change by itself.

use std::path::Path;

use serde_json::json;

use super::{ConfigFlag, FAILED, Globals, OK, USAGE, complain, fail, load, say};
use crate::config::{self, EditError, Name, NewUpstream, report};

#[derive(clap::Args)]
#[command(override_usage = "hubward add [OPTIONS] NAME URL\n       hubward add [OPTIONS] NAME -- COMMAND ARGS...")]
pub struct AddArgs {
    /// What it will be called: in its URL, in the log
    name: String,
    /// The URL of a remote server
    #[arg(value_name = "URL", required_unless_present = "command", conflicts_with = "command")]
    url: Option<String>,
    /// The command of a server that is started here
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// A variable for the command, as NAME=VALUE (repeatable); `${env:X}` and `${file:PATH}` keep secrets out of the file
    #[arg(long, short, value_name = "NAME=VALUE", conflicts_with = "url")]
    env: Vec<String>,
    /// A header for the remote server, as "NAME: VALUE" (repeatable)
    #[arg(long, short = 'H', value_name = "HEADER", conflicts_with = "command")]
    header: Vec<String>,
    #[command(flatten)]
    config: ConfigFlag,
}

#[derive(clap::Args)]
pub struct NameArgs {
    /// The upstream, by its name in hub.toml
    name: String,
    #[command(flatten)]
    config: ConfigFlag,
}

#[derive(clap::Args)]
pub struct ListArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlag,
}

pub fn add(args: AddArgs, globals: &Globals) -> u8 {
    if let Err(why) = Name::new(&args.name) {
        return fail(USAGE, format!("`{}`: {why}", args.name));
    }
    let pairs = |all: &[String], between: char| -> Result<Vec<(String, String)>, u8> {
        let split = |pair: &String| {
            let (name, value) = pair.split_once(between)?;
            (!name.trim().is_empty()).then(|| (name.trim().to_owned(), value.trim_start().to_owned()))
        };
        let pair = |pair| split(pair).ok_or_else(|| fail(USAGE, format!("`{pair}` has no `{between}` after a name")));
        all.iter().map(pair).collect()
    };
    let new = match (pairs(&args.env, '='), pairs(&args.header, ':')) {
        (Ok(env), Ok(headers)) => {
            NewUpstream { url: args.url, command: args.command, env, headers, ..Default::default() }
        }
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let name = &args.name;
    edit(&args.config, globals, &format!("added `{name}`"), |text| config::add_upstream(text, name, &new))
}

pub fn remove(args: NameArgs, globals: &Globals) -> u8 {
    let name = &args.name;
    edit(&args.config, globals, &format!("removed `{name}`"), |text| config::remove_upstream(text, name))
}

pub fn enable(args: NameArgs, enabled: bool, globals: &Globals) -> u8 {
    let (name, word) = (&args.name, if enabled { "enabled" } else { "disabled" });
    edit(&args.config, globals, &format!("{word} `{name}`"), |text| config::enable_upstream(text, name, enabled))
}

/// Changes the file, unless the change would be a mistake.
fn edit(flag: &ConfigFlag, globals: &Globals, done: &str, change: impl Fn(&str) -> Result<String, EditError>) -> u8 {
    let path = match config::find(globals.file(flag).as_deref()) {
        Ok(path) => path,
        Err(error) => return fail(USAGE, error),
    };
    let text = match config::text(&path) {
        Ok(text) => text,
        Err(error) => return fail(FAILED, error),
    };
    let changed = match change(&text) {
        Ok(changed) => changed,
        Err(error) => return fail(FAILED, error),
    };
    if changed == text {
        complain(format_args!("{}: nothing to change", path.display()));
        return OK;
    }
    if let Err(drawn) = judge(&path, &text, &changed, globals) {
        complain(drawn);
        return fail(USAGE, format!("{}: nothing was changed", path.display()));
    }
    match config::replace(&path, &text, &changed) {
        Ok(()) => {
            complain(format_args!("{}: {done}; a running hub sees it by itself", path.display()));
            OK
        }
        Err(error) => fail(FAILED, error),
    }
}

/// A mistake that was there before is not ours to mend.
pub(super) fn judge(path: &Path, before: &str, after: &str, globals: &Globals) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let parse = |text: &str| config::parse(text, folder, &|name| std::env::var(name).ok());
    let Err(found) = parse(after) else { return Ok(()) };
    let known: Vec<String> = parse(before).err().into_iter().flatten().map(|one| one.title).collect();
    let (new, _): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| !known.contains(&one.title));
    match new.is_empty() {
        true => Ok(()),
        false => Err(report::draw(&new, after, path, globals.color(std::io::stderr()))),
    }
}

pub fn list(args: ListArgs, globals: &Globals) -> u8 {
    let path = match config::find(globals.file(&args.config).as_deref()) {
        Ok(path) => path,
        Err(error) => return fail(USAGE, error),
    };
    let upstreams = match load(&path, globals) {
        Ok(loaded) => loaded.config.upstreams,
        Err(code) => return code,
    };
    let rows = upstreams.iter().map(|(name, config)| {
        let (kind, what) = match &config.remote {
            Some(remote) => ("remote", remote.url_shown()),
            None => ("stdio", config.command.to_string()),
        };
        (name.as_str(), kind, config.enabled, what)
    });
    if args.json {
        let all: Vec<_> = rows
            .map(|(name, kind, enabled, what)| json!({ "name": name, "kind": kind, "enabled": enabled, "what": what }))
            .collect();
        say(json!(all));
        return OK;
    }
    if upstreams.is_empty() {
        complain("there are no upstreams; `hubward add NAME -- COMMAND` adds one");
        return OK;
    }
    let width = upstreams.keys().map(|name| name.as_str().len()).max().unwrap_or(0);
    let line = |(name, kind, enabled, what): (&str, &str, bool, String)| {
        let word = if enabled { "enabled" } else { "disabled" };
        format!("{name:width$}  {kind:6}  {word:8}  {what}")
    };
    say(rows.map(line).collect::<Vec<_>>().join("\n"));
    OK
}
