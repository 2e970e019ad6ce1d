//! `hubward proxy`: one stdio server over HTTP, without a file.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{FAILED, Globals, OK, USAGE, fail, not_started, serve::announce};
use crate::{
    config::{Bind, Config, Format, InheritEnv, Isolation, Name, Text, UpstreamConfig},
    run::{self, Running},
    shutdown::Shutdown,
};

/// The name of the one upstream; it is at `/mcp` and `/sse` as well.
const NAME: &str = "server";

#[derive(clap::Args)]
pub struct Args {
    /// Listen here: HOST:PORT or unix:PATH [default: 127.0.0.1:8808; port 0 picks one]
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["host", "port"])]
    bind: Vec<Bind>,
    /// The host to listen on
    #[arg(long, env = "MCP_BIND_HOST", default_value = "127.0.0.1")]
    host: String,
    /// The port to listen on
    #[arg(long, env = "MCP_PORT", default_value_t = 8808)]
    port: u16,
    /// session: a process per client; call: a pool, one call at a time; shared: one process for all
    #[arg(long, value_enum, default_value = "session")]
    isolation: IsolationArg,
    /// A session that was idle for this many seconds ends
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
    /// A variable for the server's environment, NAME=VALUE (repeatable)
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Pass our whole environment on to the server
    #[arg(long)]
    pass_environment: bool,
    /// The server's working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// An origin whose pages may call the server (repeatable)
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// The server's command and its arguments; with a URL in place of them it is `hubward connect`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    /// Is it a URL that stands in place of the command?
    pub fn is_remote(&self) -> bool {
        let is_url = |word: &String| word.starts_with("http://") || word.starts_with("https://");
        // No command begins with a dash: it is a flag of the other direction.
        let is_flag = self.command.first().is_some_and(|word| word.starts_with('-'));
        self.command.first().is_some_and(is_url) || (is_flag && self.command.iter().any(is_url))
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum IsolationArg {
    Session,
    Call,
    Shared,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let log = match globals.log("info", Format::Human) {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    let config = match config(args) {
        Ok(config) => config,
        Err(error) => return fail(USAGE, error),
    };
    let code = run::on_system(async move {
        let running = match Running::start(config, String::new(), None).await {
            Ok(running) => running,
            Err(error) => return not_started(error),
        };
        let shutdown = match Shutdown::listen(|| tracing::info!("there is no file to read again")) {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(FAILED, format!("cannot listen for signals: {error}")),
        };
        let urls = running.bases.iter().map(|base| format!("{base}/mcp\n{base}/sse"));
        announce(urls.collect());
        running.until(shutdown).await;
        OK
    });
    log.flush();
    code
}

/// The flags as a configuration with one upstream.
fn config(args: Args) -> Result<Config, String> {
    let mut command = args.command.into_iter();
    let program = command.next().ok_or("a command is needed")?;
    let here = std::env::current_dir().map_err(|error| format!("the current directory cannot be read: {error}"))?;
    let cwd = args.cwd.map_or_else(|| here.clone(), |cwd| here.join(cwd));
    let mut upstream = UpstreamConfig::new(Text::from(program), cwd);
    upstream.args = command.map(Text::from).collect();
    upstream.isolation = match args.isolation {
        IsolationArg::Session => Isolation::Session,
        IsolationArg::Call => Isolation::Call,
        IsolationArg::Shared => Isolation::Shared,
    };
    if args.pass_environment {
        upstream.inherit_env = InheritEnv::All;
    }
    for pair in args.env {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("`--env {pair}` must be NAME=VALUE"))?;
        upstream.env.insert(name.to_owned(), Text::secret(value.to_owned()));
    }
    let name = Name::new(NAME).map_err(|error| error.to_string())?;
    let mut config = Config { upstreams: BTreeMap::from([(name.clone(), upstream)]), ..Config::default() };
    config.hub.bind = match args.bind.is_empty() {
        true => vec![Bind::tcp(args.host, args.port)],
        false => args.bind,
    };
    config.hub.default = Some(name);
    config.hub.allowed_origins = args.allow_origin;
    let limits = &mut config.hub.limits;
    limits.session_idle_timeout = Duration::from_secs(args.timeout);
    Ok(config)
}
