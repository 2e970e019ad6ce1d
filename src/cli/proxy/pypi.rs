//! What mcp-proxy of PyPI is told with, in its direction from HTTP to stdio. The other one is `hubward connect`.

use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;

use super::{
    NAMED,
    draft::{Draft, Environment},
    named,
};
use crate::config::{self, InheritEnv, Text, UpstreamConfig};

/// What the hub is opened with is none of its children's business.
const OURS: [&str; 1] = ["MCP_PROXY_API_KEY"];

#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// A variable for the server's environment, NAME=VALUE or NAME VALUE (repeatable); not for named servers
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// The server's working directory; not for named servers
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Pass our whole environment on to the servers, but for our key
    #[arg(long, overrides_with = "no_pass_environment")]
    pub pass_environment: bool,
    /// Pass on what programs need to find themselves at home; the default
    #[arg(long)]
    pub no_pass_environment: bool,
    /// No sessions at /mcp: each request stands alone
    #[arg(long, env = "MCP_PROXY_STATELESS", value_parser = FalseyValueParser::new(), overrides_with = "no_stateless")]
    pub stateless: bool,
    /// Sessions at /mcp; the default
    #[arg(long, overrides_with = "stateless")]
    pub no_stateless: bool,
    /// An origin whose pages may call the servers, or * (repeatable)
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// A header of answers that such pages may read, beside those of the protocol (repeatable)
    #[arg(long, value_name = "NAME")]
    pub expose_header: Vec<String>,
    /// Log everything, whatever --log-level says
    #[arg(long, env = "MCP_PROXY_DEBUG", value_parser = FalseyValueParser::new(), overrides_with = "no_debug")]
    pub debug: bool,
    /// Log as --log-level says; the default
    #[arg(long, overrides_with = "debug")]
    pub no_debug: bool,
    /// One more server, at /servers/NAME/mcp and /servers/NAME/sse (repeatable)
    #[arg(long, num_args = 2, value_names = ["NAME", "COMMAND"], action = clap::ArgAction::Append)]
    pub named_server: Vec<String>,
    /// More servers, from a file with `mcpServers`; those of --named-server are left out then
    #[arg(long, value_name = "FILE")]
    pub named_server_config: Option<PathBuf>,
}

impl Flags {
    pub fn is_debug(&self) -> bool {
        self.debug && !self.no_debug
    }

    /// What all servers have in common.
    pub fn apply(&self, environment: &Environment, draft: &mut Draft, each: &mut UpstreamConfig) -> Result<(), String> {
        if self.pass_environment && !self.no_pass_environment {
            each.inherit_env = passed(environment);
        }
        let hub = &mut draft.config.hub;
        hub.stateless = self.stateless && !self.no_stateless;
        hub.exposed_headers = list("--expose-header", &self.expose_header, config::header)?;
        match self.allow_origin.iter().any(|origin| origin == "*") {
            false => hub.allowed_origins = list("--allow-origin", &self.allow_origin, config::origin)?,
            true if hub.access.is_set() => draft.note(
                "--allow-origin '*' is for a hub that asks nobody who they are; with a key name the origins".to_owned(),
            ),
            true => hub.allowed_origins = vec!["any".to_owned()],
        }
        Ok(())
    }

    /// What the one server has for itself.
    pub fn own(&self, here: &Path, upstream: &mut UpstreamConfig) -> Result<(), String> {
        if let Some(cwd) = &self.cwd {
            upstream.cwd = here.join(cwd);
        }
        for pair in &self.env {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("`--env {pair}` must be NAME=VALUE"))?;
            upstream.env.insert(name.to_owned(), Text::secret(value.to_owned()));
        }
        Ok(())
    }

    /// The named servers: of the file, else of the command line.
    pub fn named(&self, draft: &mut Draft, each: &UpstreamConfig) -> Result<(), String> {
        let entries = match &self.named_server_config {
            Some(file) => {
                if !self.named_server.is_empty() {
                    draft.note("--named-server is left out: --named-server-config is the only source".to_owned());
                }
                named::of_file(file, draft, each)?
            }
            None => named::of_words(&self.named_server, each)?,
        };
        if entries.is_empty() {
            return Ok(());
        }
        draft.config.hub.prefixes.push(NAMED.to_owned());
        for (word, upstream) in entries {
            let name = named::name(&word, draft)?;
            if draft.config.upstreams.insert(name.clone(), upstream).is_some() {
                return Err(format!("two named servers are called `{name}`"));
            }
        }
        Ok(())
    }
}

/// The whole environment, without what opens us.
fn passed(environment: &Environment) -> InheritEnv {
    match OURS.iter().any(|ours| environment.contains_key(*ours)) {
        false => InheritEnv::All,
        true => InheritEnv::Names(environment.keys().filter(|name| !OURS.contains(&name.as_str())).cloned().collect()),
    }
}

/// A list of texts with a grammar, without repetitions.
pub fn list(flag: &str, all: &[String], read: impl Fn(&str) -> Result<String, String>) -> Result<Vec<String>, String> {
    let mut values = Vec::new();
    for written in all {
        let value = read(written).map_err(|error| format!("{flag} {written}: {error}"))?;
        if !values.contains(&value) {
            values.push(value);
        }
    }
    Ok(values)
}
