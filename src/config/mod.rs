//! From text to meaning: `hub.toml` becomes a [`Config`], or a drawn list of what is wrong with it.
//!
//! [`Config`] is what is *meant*: complete, valid, every default filled in, every path resolved. What is *written*
//! lives in `file.rs` and `upstream.rs` and never leaves this folder. Everything is pure but [`read`], [`find`] and
//! [`watch()`].
//!
//! Invariant: a `Config` in hand is one the hub can run. Nobody validates it again.

#![cfg_attr(docsrs, doc(hidden))]

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

mod access;
mod address;
mod auth;
mod disk;
mod edit;
mod expand;
mod face;
mod file;
mod hub;
pub mod import;
mod inherit;
mod keys;
mod limits;
mod lint;
mod logs;
mod name;
pub mod plan;
mod remote;
pub mod report;
mod restart;
mod sandbox;
mod schema;
mod secret;
mod show;
pub mod snippet;
mod tls;
mod tools;
mod tunnel;
mod upstream;
mod value;
mod watch;

pub use access::{AccessConfig, ForwardConfig, Grant, JwtConfig, Network, TokenConfig, hash, hex, token_name};
pub use address::{Bind, Scheme, endpoint, header, host, origin};
pub use disk::{Loaded, NotFound, Rejected, admin_socket, find, hub_alone, identity, read, resolve, text};
pub use edit::{
    EditError, NewAuth, NewUpstream, add_token, add_upstream, add_upstreams, enable_upstream, remove_token,
    remove_upstream, replace,
};
pub use expand::Text;
pub use face::Face;
pub use file::parse;
pub use inherit::{InheritEnv, SAFE_ENV};
pub use keys::nearest;
pub use limits::{Limits, Rate};
pub use name::{Name, NameError};
pub use plan::{Plan, plan};
pub use remote::{Auth, ClientCredentials, OAuthConfig, RemoteConfig, TlsConfig, Transport};
pub use report::{Diagnostic, Severity};
pub use sandbox::SandboxConfig;
pub use schema::schema;
pub use show::shown;
pub use tls::{Clients, HubTls, Identity, provider};
pub use tools::ToolFilter;
pub use tunnel::{TunnelConfig, tunnel_name, tunnel_server};
pub use watch::{Watch, WatchError, watch, watch_all};

/// Everything the daemon was told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[hub]`.
    pub hub: HubConfig,
    /// `[upstreams.<name>]`, each under its name.
    pub upstreams: BTreeMap<Name, UpstreamConfig>,
}

impl Config {
    /// One upstream, and every default.
    pub fn of(name: Name, upstream: UpstreamConfig) -> Config {
        Config { upstreams: BTreeMap::from([(name, upstream)]), ..Config::default() }
    }
}

/// `[hub]`: what concerns all upstreams alike.
#[derive(Debug, Clone, PartialEq)]
pub struct HubConfig {
    /// Where to listen; never empty. A change needs a new process.
    pub bind: Vec<Bind>,
    /// What clients type, when that is not what we bind to.
    pub public_url: Option<url::Url>,
    /// With what it speaks TLS. That it does or not needs a new process; the files may change.
    pub tls: Option<HubTls>,
    /// Under which paths every upstream is mounted: `""` for the root, else `"/a/b"` without a slash at the end.
    pub prefixes: Vec<String>,
    /// The upstream that is also at `/mcp` and `/sse`; it exists.
    pub default: Option<Name>,
    /// Where its Streamable HTTP is, and its event stream of 2024-11-05; each under every prefix.
    pub mcp_path: String,
    /// The same, of the event stream.
    pub sse_path: String,
    /// Which of the two are served, for all upstreams; never none.
    pub transports: Vec<Face>,
    /// `true`: older clients get no session on Streamable HTTP, and each of their requests stands alone. No upstream
    /// has the isolation `session` then.
    pub stateless: bool,
    /// `Host` values accepted beside loopback and `public_url`; lower case, `host` or `host:port`.
    pub allowed_hosts: Vec<String>,
    /// Browser origins accepted beside the hub's own, as a browser spells them; or exactly `["any"]`.
    pub allowed_origins: Vec<String>,
    /// Headers that web pages may send, beside what they always may,
    pub allowed_headers: Vec<String>,
    /// and may read of answers.
    pub exposed_headers: Vec<String>,
    /// `[hub.auth]`.
    pub access: AccessConfig,
    /// Peers whose `Forwarded` and `X-Forwarded-For` are believed.
    pub trusted_proxies: Vec<Network>,
    /// The socket for commands; `None`: a default place that is found by the name of the file. A change needs a new
    /// process.
    pub admin_socket: Option<PathBuf>,
    /// How long all is served on after the signal to stop, while `/readyz` says already that it ends.
    pub drain_delay: Duration,
    /// How long calls may go on after the signal to stop and that delay.
    pub drain_timeout: Duration,
    /// How long a TCP connection may be idle. A change needs a new process.
    pub keep_alive: Duration,
    /// `true`: each answer says in `Hubward-Generation` which configuration it comes from.
    pub generation_header: bool,
    /// Threads that serve; `None` is one per core. A change needs a new process.
    pub workers: Option<usize>,
    /// How others reach it from elsewhere; a flag, and no key. A change needs a new process.
    pub tunnel: Option<TunnelConfig>,
    /// `[hub.limits]`.
    pub limits: Limits,
    /// `[hub.log]`.
    pub log: LogConfig,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            bind: vec![Bind::tcp("127.0.0.1", 8808)],
            public_url: None,
            tls: None,
            prefixes: vec![String::new()],
            default: None,
            mcp_path: "/mcp".into(),
            sse_path: "/sse".into(),
            transports: vec![Face::StreamableHttp, Face::Sse],
            stateless: false,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            allowed_headers: Vec::new(),
            exposed_headers: Vec::new(),
            access: AccessConfig::default(),
            trusted_proxies: Vec::new(),
            admin_socket: None,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            // Longer than what stands in front keeps its own: who closes first loses no request.
            keep_alive: Duration::from_secs(75),
            generation_header: false,
            workers: None,
            tunnel: None,
            limits: Limits::default(),
            log: LogConfig::default(),
        }
    }
}

impl HubConfig {
    /// Whether clients show certificates.
    pub fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }

    /// An address that others reach, where nobody would have to show who he is and nobody said that this is meant.
    pub fn exposed(&self) -> Option<&Bind> {
        self.bind.iter().find(|bind| !self.is_guarded() && !bind.is_loopback())
    }

    /// Whether callers have to show who they are, or somebody said that nobody has to.
    pub fn is_guarded(&self) -> bool {
        self.access.is_set() || self.asks_for_certificates() || self.access.allow_unauthenticated
    }

    /// Whether the URLs are known that clients type.
    pub fn knows_its_url(&self) -> bool {
        self.public_url.is_some() || self.bind.iter().any(|bind| !bind.is_wildcard() && !bind.is_socket_file())
    }
}

/// `[hub.log]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogConfig {
    /// Nothing less grave is written.
    pub level: Level,
    /// Lines for people or for programs.
    pub format: Format,
    /// A line for each call; `None`: none.
    pub audit: Option<AuditConfig>,
}

/// `[hub.log] audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// Absolute, if the folder of the file is.
    pub path: PathBuf,
    /// What becomes of calls meanwhile.
    pub on_failure: OnFailure,
}

/// What becomes of calls that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// They go on.
    #[default]
    Open,
    /// They are refused.
    Closed,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// Something has to be done.
    Error,
    /// Something may have to be done.
    Warn,
    /// Starts, stops, reloads.
    #[default]
    Info,
    /// What each request leads to.
    Debug,
    /// What passes; secrets never.
    Trace,
}

impl Level {
    /// Each with the word for it in hub.toml.
    pub const WORDS: [(&str, Level); 5] = [
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];

    /// The word for it in hub.toml.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// For whom the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text, with colours at a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// `[upstreams.<name>]`: one MCP server that the hub runs.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamConfig {
    /// `false`: known, shown, and never started.
    pub enabled: bool,
    /// `false`: a missing variable or file fails this upstream only; see `unavailable`.
    pub required: bool,
    /// It is somewhere else, and what belongs to a command means nothing.
    pub remote: Option<RemoteConfig>,
    /// The program: looked up in PATH, unless it holds a slash; then it is absolute.
    pub command: Text,
    /// Passed to it as they are: no shell reads them.
    pub args: Vec<Text>,
    /// Variables set on top of what is inherited.
    pub env: BTreeMap<String, Text>,
    /// What it gets of the hub's own environment.
    pub inherit_env: InheritEnv,
    /// Absolute, if the folder of the file is.
    pub cwd: PathBuf,
    /// Which clients share a process.
    pub isolation: Isolation,
    /// When it starts.
    pub start: Start,
    /// Processes of this upstream at once.
    pub process_max: usize,
    /// From the start of the process to the end of its handshake.
    pub start_timeout: Duration,
    /// The longest call.
    pub request_timeout: Duration,
    /// A process nobody uses is stopped after this; zero is never.
    pub idle_timeout: Duration,
    /// Each rung of the stop ladder.
    pub stop_timeout: Duration,
    /// `false`: at a change the old process stops before the new one starts.
    pub overlap: bool,
    /// Which revisions it speaks.
    pub era: Era,
    /// `true`: a line on stdout that is not JSON is a failure.
    pub strict_stdout: bool,
    /// `true`: an error tells callers the last lines of stderr too.
    pub expose_errors: bool,
    /// What happens after its end.
    pub restart: Restart,
    /// Who may use it, of those who are in the hub.
    pub allow: Vec<Grant>,
    /// The tools that exist for callers; `None`: all.
    pub tools: Option<ToolFilter>,
    /// `true`: a tool whose definition is not the accepted one is withheld.
    pub pin_tools: bool,
    /// What it may do on this machine.
    pub sandbox: SandboxConfig,
    /// How much the log says about it; `None`: as much as about the hub.
    pub log_level: Option<Level>,
    /// Where its lines go as well: a file of at most 10 MiB, and four older ones. Absolute, if the folder of the file is.
    pub stderr_file: Option<PathBuf>,
    /// Why it cannot run, when a variable or file it names is missing and that is forgiven (`required = false`, or
    /// the upstream is disabled). Names the variable, never a value. Nobody writes this; it is found.
    pub unavailable: Option<String>,
}

impl UpstreamConfig {
    /// An upstream with every default.
    pub fn new(command: impl Into<Text>, cwd: PathBuf) -> Self {
        Self {
            enabled: true,
            required: true,
            remote: None,
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            inherit_env: InheritEnv::default(),
            cwd,
            isolation: Isolation::default(),
            start: Start::default(),
            process_max: 64,
            start_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(5 * 60),
            idle_timeout: Duration::from_secs(30 * 60),
            stop_timeout: Duration::from_secs(5),
            overlap: true,
            era: Era::default(),
            strict_stdout: false,
            expose_errors: false,
            restart: Restart::default(),
            allow: vec![Grant::All],
            tools: None,
            pin_tools: false,
            sandbox: SandboxConfig::default(),
            log_level: None,
            stderr_file: None,
            unavailable: None,
        }
    }
}

impl UpstreamConfig {
    /// How often it is tried again. A server elsewhere may come back at any time.
    pub fn patience(&self) -> Restart {
        match self.remote {
            Some(_) => Restart { max: usize::MAX, ..self.restart.clone() },
            None => self.restart.clone(),
        }
    }
}

/// Who shares a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// One per session. Right for every upstream.
    #[default]
    Session,
    /// A pool; one is leased to each call.
    Call,
    /// One for all.
    Shared,
}

/// What a server speaks: revisions that open with `initialize`, or one without sessions (from 2026-07-28).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Era {
    /// It is asked, on a process that is thrown away if it turns out to be older.
    #[default]
    Auto,
    /// Up to 2025-11-25: `initialize`, then a session.
    Legacy,
    /// From 2026-07-28 on: no session, each request stands alone.
    Modern,
}

/// When the first process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the first call.
    #[default]
    Lazy,
    /// With the hub.
    Eager,
}

/// How often, and how soon, a dead process is started again.
#[derive(Debug, Clone, PartialEq)]
pub struct Restart {
    /// More than this many deaths within `period`, and the upstream has failed.
    pub max: usize,
    /// Over which its ends are counted.
    pub period: Duration,
    /// The first wait; it doubles up to `backoff_max`.
    pub backoff_min: Duration,
    /// The longest pause between two starts.
    pub backoff_max: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            max: 5,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
        }
    }
}
