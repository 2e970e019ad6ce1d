//! Flags and variables as a configuration: a pure function, but for the files that they name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Args, IsolationArg, pypi::list};
use crate::config::{self, Bind, Config, Isolation, Name, Text, UpstreamConfig};

/// The name of the one server; it is at `/mcp` and `/sse` as well. The second where a named one has the first.
const NAMES: [&str; 2] = ["server", "default"];
/// Where to listen unless told otherwise.
const ADDRESS: (&str, u16) = ("127.0.0.1", 8808);

/// The variables that can be read.
pub type Environment = BTreeMap<String, String>;

/// What comes of them.
#[derive(Default)]
pub struct Draft {
    pub config: Config,
    /// What the operator should know: what means something else here, or nothing.
    pub notes: Vec<String>,
    /// How much to log, unless a flag says so.
    pub level: String,
    /// A copy of the log.
    pub log_file: Option<PathBuf>,
}

impl Draft {
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

impl Args {
    pub fn is_debug(&self) -> bool {
        self.pypi.is_debug()
    }
}

pub fn draft(args: &Args, environment: &Environment, here: PathBuf) -> Result<Draft, String> {
    let mut draft = Draft { level: "info".to_owned(), ..Draft::default() };
    if let Some(flag) = args.command.first().filter(|word| word.starts_with('-')) {
        return Err(format!(
            "there is no flag {flag}; `hubward proxy --help` lists them, and a command begins with no dash"
        ));
    }
    let mut each = UpstreamConfig::new("", here.clone());
    args.streamable.apply(environment, &mut draft, &mut each)?;
    args.npm.apply(&here, &mut draft, &mut each)?;
    args.pypi.apply(environment, &mut draft, &mut each)?;
    each.isolation = match args.isolation {
        Some(IsolationArg::Session) | None => Isolation::Session,
        Some(IsolationArg::Call) => Isolation::Call,
        Some(IsolationArg::Shared) => Isolation::Shared,
    };
    args.pypi.named(&mut draft, &each)?;
    own(args, &here, &each, &mut draft)?;
    door(args, environment, &mut draft)?;
    for flag in &args.behind {
        draft.note(format!("{flag} stands behind the command and is passed to it; our flags come first (`--` says so without this line)"));
    }
    draft.config = draft.config.settled();
    Ok(draft)
}

/// The server without a name.
fn own(args: &Args, here: &Path, each: &UpstreamConfig, draft: &mut Draft) -> Result<(), String> {
    if args.command.is_empty() {
        if !args.pypi.env.is_empty() || args.pypi.cwd.is_some() {
            draft.note("--env and --cwd are for the server of the command line, and there is none".to_owned());
        }
        return Ok(());
    }
    let mut words = args.npm.by_shell(args.command.clone()).into_iter().map(Text::from);
    let mut upstream = each.clone();
    upstream.command = words.next().ok_or("a command is needed")?;
    upstream.args = words.collect();
    args.pypi.own(here, &mut upstream)?;
    let taken = |name: &&&str| !draft.config.upstreams.contains_key(**name);
    let name = NAMES.iter().find(taken).ok_or("the names `server` and `default` are both taken")?;
    let name = Name::new(name).map_err(|error| error.to_string())?;
    draft.config.hub.default = Some(name.clone());
    draft.config.upstreams.insert(name, upstream);
    Ok(())
}

/// Where to listen, and for whom.
fn door(args: &Args, environment: &Environment, draft: &mut Draft) -> Result<(), String> {
    let hub = &mut draft.config.hub;
    let (host, port) = args.streamable.address(environment)?;
    if !args.bind.is_empty() && args.streamable.is_typed(environment) {
        return Err("--bind says where to listen, and so do --host and --port: one of them is too much".to_owned());
    }
    hub.bind = match args.bind.is_empty() {
        true => vec![Bind::tcp(host.unwrap_or(ADDRESS.0.into()).trim_matches(['[', ']']), port.unwrap_or(ADDRESS.1))],
        false => args.bind.clone(),
    };
    hub.access.allow_unauthenticated = args.allow_unauthenticated && !hub.access.is_set();
    hub.allowed_hosts = list("--allow-host", &args.allow_host, config::host)?;
    if hub.allowed_hosts.is_empty() && hub.exposed().is_none() && hub.bind.iter().any(Bind::is_wildcard) {
        draft.note("only requests to localhost are served: name what clients type with --allow-host HOST".to_owned());
    }
    Ok(())
}
