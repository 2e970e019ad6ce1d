//! The commands: flags, one library call, an exit code.

pub mod accept;
pub mod ask;
pub mod auth;
pub mod check;
pub mod connect;
pub mod demo;
pub mod init;
pub mod keeper;
pub mod proxy;
pub mod reload;
pub mod running;
pub mod serve;
pub mod token;
pub mod version;

use std::{
    ffi::OsString,
    io::{IsTerminal, Write},
    path::PathBuf,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{config::Format, observe, run::StartError, server};

/// Done.
pub const OK: u8 = 0;
/// The thing asked for failed.
pub const FAILED: u8 = 1;
/// Wrong usage, or an invalid configuration.
pub const USAGE: u8 = 2;
/// Somebody has to log in.
pub const LOGIN_NEEDED: u8 = 3;
/// Whoever was asked cannot be reached.
pub const UNREACHABLE: u8 = 4;

/// Many MCP servers behind one address: each at its own URL, supervised, reloaded live.
#[derive(Parser)]
#[command(name = "hubward", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args, Clone)]
pub struct Globals {
    #[command(flatten)]
    config: ConfigFlag,
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,hubward::link=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "HUBWARD_LOG")]
    log_level: Option<String>,
    /// How to log
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Colours on a terminal, always, or never
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    color: Color,
}

/// Before or behind the commands that read a file.
#[derive(clap::Args, Clone)]
pub struct ConfigFlag {
    /// The configuration [default: ./hub.toml, $XDG_CONFIG_HOME/hubward/hub.toml, /etc/hubward/hub.toml]
    #[arg(short, long, value_name = "FILE", env = "HUBWARD_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Command {
    /// Run the hub in the foreground
    Serve(serve::Args),
    /// Show all errors and warnings of a configuration; start nothing
    Check(check::Args),
    /// Write a starter hub.toml that works as it stands
    Init(init::Args),
    /// Serve one stdio server over HTTP, without a file
    Proxy(proxy::Args),
    /// A remote server on our stdin and stdout, for clients that only start commands
    Connect(Box<connect::Args>),
    /// Log in to a remote server, see what is there, log out
    Auth(Box<auth::Args>),
    /// The tokens of those who call the hub: make, list, revoke
    Token(token::Args),
    /// Let the running hub read its file again, and say what came of it
    Reload(reload::Args),
    /// Take the tools of an upstream, as they are now, for the right ones (pin_tools)
    Accept(accept::Args),
    /// List the tools of a server: what they do, and what they take
    #[command(override_usage = usage("tools", ""))]
    Tools(ask::ServerArgs),
    /// List the resources of a server
    #[command(override_usage = usage("resources", ""))]
    Resources(ask::ServerArgs),
    /// List the prompts of a server
    #[command(override_usage = usage("prompts", ""))]
    Prompts(ask::ServerArgs),
    /// Call a tool: ARGS are a JSON object, key=value pairs, or one bare value
    #[command(override_usage = usage("call", " TOOL [ARGS]..."))]
    Call(ask::NamedArgs),
    /// Read a resource
    #[command(override_usage = usage("read", " URI"))]
    Read(ask::NamedArgs),
    /// Get a prompt: ARGS as for call
    #[command(override_usage = usage("prompt", " NAME [ARGS]..."))]
    Prompt(ask::NamedArgs),
    /// Send one JSON-RPC request, and print the response
    #[command(override_usage = usage("raw", " JSON"))]
    Raw(ask::RawArgs),
    /// Greet a server, and say who answers
    #[command(override_usage = usage("ping", ""))]
    Ping(ask::ServerArgs),
    /// A small MCP server on stdin and stdout, to try things with
    Demo(demo::Args),
    /// Show the version
    Version(version::Args),
}

/// The two ways to name a server.
fn usage(verb: &str, rest: &str) -> String {
    format!("hubward {verb} [OPTIONS] URL{rest}\n       hubward {verb} [OPTIONS]{rest} -- COMMAND...")
}

impl Globals {
    /// The file that was named, before the command or behind it.
    fn file(&self, own: &ConfigFlag) -> Option<PathBuf> {
        own.config.clone().or_else(|| self.config.config.clone())
    }

    fn color(&self, stream: impl IsTerminal) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && stream.is_terminal(),
        }
    }

    /// Installs the log; flags win over the file.
    fn log(&self, level: &str, format: Format) -> Result<observe::Log, String> {
        let format = match self.log_format {
            Some(LogFormat::Human) => Format::Human,
            Some(LogFormat::Json) => Format::Json,
            None => format,
        };
        let filter = self.log_level.as_deref().unwrap_or(level);
        observe::install(filter, server::LOG_QUIET, format, self.color(std::io::stderr()))
    }
}

/// Runs the command line. The result is the exit code.
pub fn main() -> u8 {
    // The keeper stays as small as it can: before flags, log and runtime.
    if std::env::args_os().nth(1).is_some_and(|first| first == "keeper") {
        return keeper::run();
    }
    let Cli { globals, command } = match parsed(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { OK };
            let _ = error.print();
            return code;
        }
    };
    match command {
        Command::Serve(args) => serve::run(args, &globals),
        Command::Check(args) => check::run(args, &globals),
        Command::Init(args) => init::run(args),
        Command::Proxy(args) => proxy::run(args, &globals),
        Command::Connect(args) => connect::run(*args, &globals),
        Command::Auth(args) => auth::run(*args, &globals),
        Command::Token(args) => token::run(args, &globals),
        Command::Reload(args) => reload::run(args, &globals),
        Command::Accept(args) => accept::run(args, &globals),
        Command::Tools(args) => ask::of_server(args, ask::Wish::Tools, &globals),
        Command::Resources(args) => ask::of_server(args, ask::Wish::Resources, &globals),
        Command::Prompts(args) => ask::of_server(args, ask::Wish::Prompts, &globals),
        Command::Call(args) => ask::call(args, &globals),
        Command::Read(args) => ask::read(args, &globals),
        Command::Prompt(args) => ask::prompt(args, &globals),
        Command::Raw(args) => ask::raw(args, &globals),
        Command::Ping(args) => ask::of_server(args, ask::Wish::Ping, &globals),
        Command::Demo(args) => demo::run(args),
        Command::Version(args) => version::run(args),
    }
}

/// The command line. `proxy` with a URL in place of a command is the other direction.
fn parsed(words: Vec<OsString>) -> Result<Cli, clap::Error> {
    let outcome = Cli::try_parse_from(&words);
    let is_url =
        |word: &OsString| word.to_str().is_some_and(|word| word.starts_with("http://") || word.starts_with("https://"));
    let (meant, sure) = match &outcome {
        Ok(Cli { command: Command::Proxy(args), .. }) => (args.is_remote(), true),
        // Flags of the other direction are unknown to this one.
        Err(error) => (error.use_stderr() && words.iter().any(is_url), false),
        Ok(_) => (false, false),
    };
    let Some(verb) = words.iter().position(|word| word == "proxy").filter(|_| meant) else { return outcome };
    let mut words = words;
    words[verb] = "connect".into();
    let other = Cli::try_parse_from(words);
    if sure { other } else { other.or(outcome) }
}

/// Says what went wrong, and gives the exit code back.
fn fail(code: u8, text: impl std::fmt::Display) -> u8 {
    complain(format_args!("hubward: {text}"));
    code
}

/// To stderr, which nobody has to read.
fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Data, to stdout. Whoever started us may have closed it.
fn say(text: impl std::fmt::Display) {
    // In one write, so that a program which reads it gets it whole.
    let _ = std::io::stdout().lock().write_all(format!("{text}\n").as_bytes());
}

/// The exit code of a hub that did not start.
fn not_started(error: StartError) -> u8 {
    let code = if matches!(error, StartError::Exposed(_) | StartError::NoCertificate(_)) { USAGE } else { FAILED };
    fail(code, error)
}
