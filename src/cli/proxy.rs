//! `hubward proxy`: stdio servers over HTTP without a file, by the flags of three older tools.

mod draft;
mod named;
pub mod npm;
pub mod pypi;
pub mod streamable;
#[cfg(test)]
mod tests;
pub mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use self::draft::{Draft, draft};
use super::{FAILED, Globals, OK, USAGE, complain, fail, not_started, serve::announce, tunnel};
use crate::{
    config::{Bind, Config, Format},
    observe,
    run::{self, Running},
    shutdown::Shutdown,
};

/// Under which prefix named servers are found too.
const NAMED: &str = "/servers";

#[derive(clap::Args)]
pub struct Args {
    /// Listen here: HOST:PORT or unix:PATH [default: 127.0.0.1:8808; port 0 picks one]
    #[arg(long, value_name = "ADDRESS")]
    bind: Vec<Bind>,
    /// session: a process per client; call: a pool, one call at a time; shared: one process for all
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
    /// Open to everybody who can reach the address, whatever it is
    #[arg(long)]
    allow_unauthenticated: bool,
    /// A name that clients call this machine by, beside localhost and the bound address (repeatable)
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    #[command(flatten)]
    streamable: streamable::Flags,
    #[command(flatten)]
    pypi: pypi::Flags,
    #[command(flatten)]
    npm: npm::Flags,
    /// Flags of ours that stand behind the command, and so belong to it.
    #[arg(skip)]
    pub(super) behind: Vec<String>,
    /// The server's command and its arguments; with a URL in place of them it is `hubward connect`
    #[arg(
        required_unless_present_any = ["named_server", "named_server_config"],
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum IsolationArg {
    Session,
    Call,
    Shared,
}

impl Args {
    /// Is it a URL that stands in place of the command?
    pub fn is_remote(&self) -> bool {
        let is_url = |word: &String| word.starts_with("http://") || word.starts_with("https://");
        // No command begins with a dash: it is a flag of the other direction.
        let is_flag = self.command.first().is_some_and(|word| word.starts_with('-'));
        let meant = || self.command.iter().any(is_url) || is_url_by_variable();
        self.command.first().is_some_and(is_url) || (is_flag && meant())
    }
}

/// Nothing is said but a variable: `SSE_URL` in place of a command.
pub fn is_remote_by_variable(error: &clap::Error) -> bool {
    is_url_by_variable() && error.kind() == clap::error::ErrorKind::MissingRequiredArgument
}

fn is_url_by_variable() -> bool {
    std::env::var_os("SSE_URL").is_some_and(|url| !url.is_empty())
}

/// Everything that `proxy` can be told with: flags in all their spellings, and variables.
pub fn spellings() -> BTreeSet<String> {
    let flags = <Args as clap::Args>::augment_args(clap::Command::new("proxy"));
    let mut all: BTreeSet<String> = streamable::VARIABLES.into_iter().chain(["SSE_URL"]).map(str::to_owned).collect();
    for flag in flags.get_arguments() {
        let long = flag.get_long().into_iter().chain(flag.get_all_aliases().into_iter().flatten());
        all.extend(long.map(|long| format!("--{long}")));
        all.extend(flag.get_short().map(|short| format!("-{short}")));
        all.extend(flag.get_env().map(|variable| variable.to_string_lossy().into_owned()));
    }
    all
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let here = match std::env::current_dir() {
        Ok(here) => here,
        Err(error) => return fail(USAGE, format!("the current directory cannot be read: {error}")),
    };
    let Draft { config, notes, level, log_file } = match draft(&args, &environment, here) {
        Ok(draft) => draft,
        Err(error) => return fail(USAGE, error),
    };
    if let Some(open) = config.hub.exposed() {
        return fail(USAGE, exposed(open));
    }
    if config.hub.bares_all() {
        return fail(USAGE, BARE);
    }
    let mut globals = globals.clone();
    if args.is_debug() {
        globals.log_level = Some("debug".into());
    }
    let log = match install(&globals, &level, log_file) {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    for note in notes {
        complain(format_args!("hubward: {note}"));
    }
    let traces = observe::trace::install();
    let code = run::on_system(serve(config));
    traces.flush();
    log.flush();
    code
}

async fn serve(config: Config) -> u8 {
    let running = match Running::start(config, String::new(), None).await {
        Ok(running) => running,
        Err(error) => return not_started(error),
    };
    let shutdown = match Shutdown::listen(|| tracing::info!("there is no file to read again")) {
        Ok(shutdown) => shutdown,
        Err(error) => return fail(FAILED, format!("cannot listen for signals: {error}")),
    };
    announce(urls(&running, &running.serving.bases));
    tunnel::serve(running, shutdown, urls).await;
    OK
}

/// Where the one server is, and where the named ones are.
fn urls(running: &Running, bases: &[String]) -> Vec<String> {
    let house = &running.serving.hub.house;
    let (hub, routes) = (house.config.load(), house.table.load());
    let own = routes.default.iter().flat_map(|_| hub.paths(None));
    let named = routes.by_name.keys().filter(|name| routes.default.as_ref() != Some(name));
    let named = named.flat_map(|name| hub.paths(Some(name.as_str()))).map(|path| format!("{NAMED}{path}"));
    let paths: Vec<String> = own.chain(named).collect();
    bases.iter().flat_map(|base| paths.iter().map(move |path| format!("{base}{path}"))).collect()
}

/// The log, and beside it the file that a variable names.
fn install(globals: &Globals, level: &str, copy: Option<PathBuf>) -> Result<observe::Log, String> {
    if let Some(folder) = copy.as_deref().and_then(|file| file.parent()).filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("cannot make the folder of LOG_FILE, {}: {error}", folder.display()))?;
    }
    observe::install(observe::Flags { copy: copy.as_deref(), ..globals.log_flags() }, level, Format::Human)
}

const BARE: &str = "a tunnel leads here from everywhere, and nobody would have to show who they are: --api-key KEY asks \
                    for a key, --allow-unauthenticated says that this is meant";

fn exposed(bind: &Bind) -> String {
    format!(
        "{bind} can be reached from other machines, and nobody would have to show who they are: --api-key KEY asks for a \
         key, --allow-unauthenticated says that this is meant, --host 127.0.0.1 or another loopback address needs neither"
    )
}
