//! `hubward token`: the static tokens of those who call the hub. A token is shown once; the file keeps its hash.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::{ConfigFlag, FAILED, Globals, OK, USAGE, complain, fail, load, say};
use crate::config::{self, EditError, hex};

/// Where a token comes from is seen by whoever finds one lying about.
const PREFIX: &str = "hubward_";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make a token, print it once, and keep its hash in hub.toml
    New(New),
    /// List the tokens of hub.toml
    List(List),
    /// Remove a token; a running hub ends the sessions that were opened with it
    Revoke(Revoke),
}

#[derive(clap::Args)]
struct New {
    /// Who will use it: in logs, and in `allow`
    name: String,
    /// An upstream that it is good for (repeatable; default: all)
    #[arg(long, value_name = "NAME")]
    upstream: Vec<String>,
    /// Print the entry for hub.toml too, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFlag,
}

#[derive(clap::Args)]
struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlag,
}

#[derive(clap::Args)]
struct Revoke {
    name: String,
    #[command(flatten)]
    config: ConfigFlag,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let flag = match &args.verb {
        Verb::New(args) => &args.config,
        Verb::List(args) => &args.config,
        Verb::Revoke(args) => &args.config,
    };
    let path = match config::find(globals.file(flag).as_deref()) {
        Ok(path) => path,
        Err(error) => return fail(USAGE, error),
    };
    match args.verb {
        Verb::New(args) => new(&path, &args),
        Verb::List(args) => list(&path, args.json, globals),
        Verb::Revoke(args) => revoke(&path, &args.name),
    }
}

fn new(path: &Path, args: &New) -> u8 {
    if let Err(why) = config::token_name(&args.name) {
        return fail(USAGE, format!("`{}`: {why}", args.name));
    }
    let mut secret = [0; 32];
    if getrandom::fill(&mut secret).is_err() {
        return fail(FAILED, "the system gives no random numbers");
    }
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let sha256 = hex(&config::hash(&token));
    let added = |text: &str| config::add_token(text, &args.name, &sha256, &args.upstream);
    if args.dry_run {
        match added("") {
            Ok(entry) => complain(entry.trim_end()),
            Err(error) => return fail(FAILED, error),
        }
    } else if let Err(code) = edit(path, added) {
        return code;
    } else {
        complain(format_args!("{}: added; this is the only time that the token is shown:", path.display()));
    }
    say(token);
    OK
}

fn revoke(path: &Path, name: &str) -> u8 {
    match edit(path, |text| config::remove_token(text, name)) {
        Ok(()) => {
            complain(format_args!("{}: removed `{name}`; a running hub knows it no more", path.display()));
            OK
        }
        Err(code) => code,
    }
}

fn edit(path: &Path, change: impl Fn(&str) -> Result<String, EditError>) -> Result<(), u8> {
    let text = config::text(path).map_err(|error| fail(FAILED, error))?;
    let changed = change(&text).map_err(|error| fail(FAILED, error))?;
    config::replace(path, &text, &changed).map_err(|error| fail(FAILED, error))
}

fn list(path: &Path, as_json: bool, globals: &Globals) -> u8 {
    let loaded = match load(path, globals) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let tokens = &loaded.config.hub.access.tokens;
    if as_json {
        let all: Vec<_> =
            tokens.iter().map(|token| json!({ "name": token.name, "upstreams": token.upstreams })).collect();
        say(json!(all));
    } else if tokens.is_empty() {
        complain("there are no tokens; `hubward token new NAME` makes one");
    } else {
        let width = tokens.iter().map(|token| token.name.len()).max().unwrap_or(0);
        let line = |token: &config::TokenConfig| {
            let upstreams = token.upstreams.as_ref().map_or("all upstreams".into(), |names| names.join(", "));
            format!("{:width$}  {upstreams}", token.name)
        };
        say(tokens.iter().map(line).collect::<Vec<_>>().join("\n"));
    }
    OK
}
