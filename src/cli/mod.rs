//! The commands: flags, one library call, an exit code.

#![cfg_attr(docsrs, doc(hidden))]

pub mod accept;
pub mod act;
pub mod ask;
pub mod auth;
pub mod check;
pub mod connect;
pub mod demo;
pub mod doctor;
pub mod healthcheck;
pub mod import;
pub mod init;
pub mod keeper;
pub mod logs;
pub mod pages;
pub mod proxy;
pub mod reload;
pub mod running;
pub mod schema;
pub mod serve;
pub mod snippet;
pub mod status;
pub mod tap;
pub mod token;
pub mod tunnel;
pub mod upstreams;
pub mod version;

use std::{
    ffi::OsString,
    io::{IsTerminal, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::{
    config::{self, Format, Loaded, LogConfig, report},
    observe,
    run::{self, StartError},
    server,
};

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
    /// Log to this file in place of stderr
    #[arg(long, global = true, value_name = "PATH")]
    log_file: Option<PathBuf>,
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
    Proxy(Box<proxy::Args>),
    /// A remote server on our stdin and stdout, for clients that only start commands
    Connect(Box<connect::Args>),
    /// Log in to a remote server, see what is there, log out
    Auth(Box<auth::Args>),
    /// Add an upstream to hub.toml
    Add(upstreams::AddArgs),
    /// Remove an upstream from hub.toml
    Remove(upstreams::NameArgs),
    /// Switch an upstream of hub.toml on
    Enable(upstreams::NameArgs),
    /// Switch an upstream of hub.toml off: it stays known, and is never started
    Disable(upstreams::NameArgs),
    /// List the upstreams of hub.toml
    List(upstreams::ListArgs),
    /// Add the servers of other clients to hub.toml; nothing is executed
    Import(import::Args),
    /// What a client has to be given to reach an upstream, ready to paste
    Snippet(snippet::Args),
    /// The tokens of those who call the hub: make, list, revoke
    Token(token::Args),
    /// What runs in the hub, and how it is
    Status(status::Args),
    /// Start an upstream that was stopped, has failed, or is idle
    Start(act::Args),
    /// Let an upstream finish and keep it stopped, until it is started again
    Stop(act::Args),
    /// A new process for an upstream; the old one serves until it is ready
    Restart(act::Args),
    /// Let the running hub read its file again, and say what came of it
    Reload(reload::Args),
    /// What the servers print on stderr, and what the hub does with them
    Logs(logs::Args),
    /// Take the tools of an upstream, as they are now, for the right ones (pin_tools)
    Accept(accept::Args),
    /// Show what passes between the running hub and an upstream, until Ctrl-C
    Tap(tap::Args),
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
    /// Print the JSON Schema of hub.toml, for editors
    Schema(schema::Args),
    /// Why a client does not connect, and what to type next
    Doctor(doctor::Args),
    /// Ask the running hub whether it is alive, for containers: exit 0 or 1
    Healthcheck(healthcheck::Args),
    /// Print a script that completes the commands in a shell
    Completions(pages::CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(pages::ManArgs),
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

    /// Installs the log; flags win over these.
    fn log(&self, level: &str, format: Format) -> Result<observe::Log, String> {
        observe::install(self.log_flags(), level, format)
    }

    /// Installs the log of a hub with a file; flags win over it, and what they leave open follows it.
    fn log_of(&self, config: &LogConfig) -> Result<observe::Log, String> {
        let flags = observe::Flags { follows: true, ..self.log_flags() };
        observe::install(flags, config.level.as_str(), config.format)
    }

    fn log_flags(&self) -> observe::Flags<'_> {
        let format = self.log_format.map(|format| match format {
            LogFormat::Human => Format::Human,
            LogFormat::Json => Format::Json,
        });
        let (filter, file) = (self.log_level.as_deref().map(level_of), self.log_file.as_deref());
        let color = self.color(std::io::stderr());
        observe::Flags { filter, format, file, copy: None, color, quiet: server::LOG_QUIET, follows: false }
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
    if matches!(command, Command::Serve(_) | Command::Proxy(_)) {
        run::passed::receive();
    }
    match command {
        Command::Serve(args) => serve::run(args, &globals),
        Command::Check(args) => check::run(args, &globals),
        Command::Init(args) => init::run(args),
        Command::Proxy(args) => proxy::run(*args, &globals),
        Command::Connect(args) => connect::run(*args, &globals),
        Command::Auth(args) => auth::run(*args, &globals),
        Command::Token(args) => token::run(args, &globals),
        Command::Status(args) => status::run(args, &globals),
        Command::Start(args) => act::run(args, "start", &globals),
        Command::Stop(args) => act::run(args, "stop", &globals),
        Command::Restart(args) => act::run(args, "restart", &globals),
        Command::Reload(args) => reload::run(args, &globals),
        Command::Logs(args) => logs::run(args, &globals),
        Command::Accept(args) => accept::run(args, &globals),
        Command::Tap(args) => tap::run(args, &globals),
        Command::Tools(args) => ask::of_server(args, ask::Wish::Tools, &globals),
        Command::Resources(args) => ask::of_server(args, ask::Wish::Resources, &globals),
        Command::Prompts(args) => ask::of_server(args, ask::Wish::Prompts, &globals),
        Command::Call(args) => ask::call(args, &globals),
        Command::Read(args) => ask::read(args, &globals),
        Command::Prompt(args) => ask::prompt(args, &globals),
        Command::Raw(args) => ask::raw(args, &globals),
        Command::Ping(args) => ask::of_server(args, ask::Wish::Ping, &globals),
        Command::Demo(args) => demo::run(args),
        Command::Add(args) => upstreams::add(args, &globals),
        Command::Remove(args) => upstreams::remove(args, &globals),
        Command::Enable(args) => upstreams::enable(args, true, &globals),
        Command::Disable(args) => upstreams::enable(args, false, &globals),
        Command::List(args) => upstreams::list(args, &globals),
        Command::Import(args) => import::run(args, &globals),
        Command::Snippet(args) => snippet::run(args, &globals),
        Command::Schema(args) => schema::run(args),
        Command::Completions(args) => pages::completions(args),
        Command::Man(args) => pages::man(args),
        Command::Doctor(args) => doctor::run(args, &globals),
        Command::Healthcheck(args) => healthcheck::run(args, &globals),
        Command::Version(args) => version::run(args),
    }
}

/// The command line. `proxy` with a URL in place of a command is the other direction.
fn parsed(words: Vec<OsString>) -> Result<Cli, clap::Error> {
    let (words, behind) = proxy::words::ours(words, &Cli::command());
    let mut outcome = Cli::try_parse_from(&words);
    if let Ok(Cli { command: Command::Proxy(args), .. }) = &mut outcome {
        args.behind = behind;
    }
    let is_url =
        |word: &OsString| word.to_str().is_some_and(|word| word.starts_with("http://") || word.starts_with("https://"));
    let (meant, sure) = match &outcome {
        Ok(Cli { command: Command::Proxy(args), .. }) => (args.is_remote(), true),
        // Flags of the other direction are unknown to this one.
        Err(error) => (error.use_stderr() && (words.iter().any(is_url) || proxy::is_remote_by_variable(error)), false),
        Ok(_) => (false, false),
    };
    let Some(verb) = words.iter().position(|word| word == "proxy").filter(|_| meant) else { return outcome };
    let mut words = words;
    words[verb] = "connect".into();
    let other = Cli::try_parse_from(words);
    if sure { other } else { other.or(outcome) }
}

/// A log level as other programs call it, in any case.
fn level_of(text: &str) -> &str {
    match text.to_ascii_lowercase().as_str() {
        "warning" => "warn",
        "critical" | "fatal" => "error",
        _ => text,
    }
}

/// Reads a file; what is wrong with it is drawn.
fn load(path: &Path, globals: &Globals) -> Result<Loaded, u8> {
    config::read(path).map_err(|rejected| {
        let text = rejected.text.as_deref().unwrap_or_default();
        complain(report::draw(&rejected.diagnostics, text, &rejected.path, globals.color(std::io::stderr())));
        USAGE
    })
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

/// Data of which more may come: nobody has to read on.
fn show(text: impl std::fmt::Display) -> ControlFlow<()> {
    match std::io::stdout().lock().write_all(format!("{text}\n").as_bytes()) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

/// The exit code of a hub that did not start.
fn not_started(error: StartError) -> u8 {
    let code = if matches!(error, StartError::Exposed(_) | StartError::Bare | StartError::NoCertificate(_)) {
        USAGE
    } else {
        FAILED
    };
    fail(code, error)
}
