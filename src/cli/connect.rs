//! `hubward connect`: a remote server on our stdin and stdout, for clients that only start commands.

mod credentials;
mod deeds;
mod variables;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use clap::ValueEnum;

use self::{deeds::Deeds, variables::Variables};
use super::{FAILED, Globals, OK, USAGE, ask::Target, complain, fail, level_of, not_started};
use crate::{
    auth::Credentials,
    config::{Config, Era, Format, Name, RemoteConfig, Text, TlsConfig, Transport, UpstreamConfig},
    embed::{Builder, serve_stdio},
    link::{sandbox, stdio},
    observe, run,
    server::stdio::Hides,
    shutdown::Shutdown,
};

/// The name of the one upstream, in errors and in the log.
const NAME: &str = "remote";
/// The first connection may wait for a person who logs in.
const START_MAX: Duration = Duration::from_secs(10 * 60);

#[derive(clap::Args)]
pub struct Args {
    /// The server's URL [default: MCP_SERVER_URL, of the environment or of `.env`]
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Where the browser comes back to, as --callback-port
    #[arg(value_name = "PORT", hide = true)]
    port: Option<u16>,
    /// The server's URL
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    server_url: Option<String>,
    /// Variables from a file; the environment wins. Without a URL the nearest `.env` of this folder and those above
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// A header for each request, `Name: value`; ${VAR} stands for a variable (repeatable)
    #[arg(long = "header", value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The same as two words (repeatable)
    #[arg(short = 'H', long = "headers", num_args = 2, value_names = ["NAME", "VALUE"], action = clap::ArgAction::Append)]
    headers: Vec<String>,
    /// How the server speaks
    #[arg(long, value_enum, default_value = "auto")]
    transport: TransportArg,
    /// Whether it opens with `initialize` (legacy) or is of 2026-07-28 (modern)
    #[arg(long, value_enum, default_value = "auto")]
    era: EraArg,
    /// OAuth: of a client that was registered by hand [env: MCP_CLIENT_ID]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Its secret [env: MCP_CLIENT_SECRET]
    #[arg(long, value_name = "SECRET")]
    client_secret: Option<String>,
    /// In place of a secret: the key that signs (PEM)
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// The client speaks for itself: nobody has to log in
    #[arg(long)]
    client_credentials: bool,
    /// The same, with a token from here
    #[arg(long, value_name = "URL")]
    token_url: Option<String>,
    /// Where a document describes this client
    #[arg(long, value_name = "URL")]
    client_metadata_url: Option<String>,
    /// What to ask for, in place of what the server says (repeatable)
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// What tokens are for, in place of what the server says
    #[arg(long, value_name = "URL")]
    resource: Option<String>,
    /// Print the address of a login and open nothing
    #[arg(long)]
    no_browser: bool,
    /// Log in by a code that is typed on another machine, where that is offered
    #[arg(long)]
    device: bool,
    /// Where the browser comes back to [default: a free port]
    #[arg(long, value_name = "PORT")]
    callback_port: Option<u16>,
    /// The host it comes back to
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// How long a login may take, in seconds [default: 300]
    #[arg(long, value_name = "SECONDS")]
    auth_timeout: Option<u64>,
    /// `{"client_id": …, "client_secret": …}`, or @FILE
    #[arg(long, value_name = "JSON", conflicts_with = "client_id")]
    static_oauth_client_info: Option<String>,
    /// `{"scope": …, "client_name": …}`, or @FILE
    #[arg(long, value_name = "JSON")]
    static_oauth_client_metadata: Option<String>,
    /// HTTP Basic
    #[arg(long)]
    username: Option<String>,
    #[arg(long)]
    password: Option<String>,
    /// Digest in place of Basic
    #[arg(long, requires = "username")]
    digest: bool,
    /// Check the server's certificate; or trust the authorities in this PEM file too [env: VERIFY_SSL]
    #[arg(long, value_name = "true|false|FILE", num_args = 0..=1, default_missing_value = "true")]
    verify_ssl: Option<String>,
    /// Believe any certificate
    #[arg(long, conflicts_with = "verify_ssl")]
    no_verify_ssl: bool,
    /// The proxy to use [default: that of the environment]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// The longest call, in seconds [env: REQUEST_TIMEOUT] [default: 300]
    #[arg(long, value_name = "SECONDS")]
    request_timeout: Option<u64>,
    /// Leave out tools of this name; `*` stands for anything (repeatable)
    #[arg(long, value_name = "GLOB")]
    ignore_tool: Vec<String>,
    /// What is sent to another machine in plain text is meant to be: no warning
    #[arg(long)]
    allow_http: bool,
    /// Obey the proxies of the environment; that is so anyway
    #[arg(long, hide = true, conflicts_with = "proxy")]
    enable_proxy: bool,
    /// Log everything
    #[arg(long)]
    debug: bool,
    /// Log nothing but errors
    #[arg(long, conflicts_with = "debug")]
    silent: bool,
    #[command(flatten)]
    deeds: Deeds,
    /// Belongs to the other direction
    #[arg(long = "named-server", num_args = 2, hide = true)]
    named_server: Vec<String>,
    #[arg(long = "named-server-config", hide = true)]
    named_server_config: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum TransportArg {
    #[value(aliases = ["http-first", "sse-first"])]
    Auto,
    #[value(aliases = ["streamablehttp", "http-only", "http"])]
    StreamableHttp,
    #[value(alias = "sse-only")]
    Sse,
}

#[derive(Clone, Copy, ValueEnum)]
enum EraArg {
    Auto,
    Legacy,
    Modern,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let named = args.url.as_ref().or(args.server_url.as_ref());
    let variables = match Variables::read(args.env_file.as_deref(), named.is_none()) {
        Ok(variables) => variables,
        Err(error) => return fail(USAGE, error),
    };
    let level = match (args.debug, args.silent) {
        (true, _) => "debug".to_owned(),
        (_, true) => "error".to_owned(),
        _ => variables.get("LOG_LEVEL").map_or_else(|| "warn".to_owned(), |level| level_of(&level).to_owned()),
    };
    let log = match globals.log(&level, Format::Human) {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    if !args.named_server.is_empty() || args.named_server_config.is_some() {
        complain("hubward: named servers belong to the other direction, `hubward proxy`, and are ignored");
    }
    let (name, config, credentials) = match made(&args, &variables) {
        Ok(made) => made,
        Err(error) => return fail(USAGE, error),
    };
    let Some((_, upstream)) = config.upstreams.first_key_value() else { return FAILED };
    let shown = upstream.remote.as_ref().map(RemoteConfig::url_shown).unwrap_or_default();
    let target = Target { name: name.clone(), config: upstream.clone(), credentials: credentials.clone(), shown };
    if let Some(code) = deeds::run(&args.deeds, &target) {
        log.flush();
        return code;
    }
    let hides = match hidden(&args.ignore_tool) {
        Ok(hides) => hides,
        Err(error) => return fail(USAGE, error),
    };
    let traces = observe::trace::install();
    let code = run::on_system(async move {
        let (link, flushed) = match stdio::open(config.hub.limits.message_bytes_max) {
            Ok(open) => open,
            Err(error) => return fail(FAILED, format!("cannot use stdin and stdout: {error}")),
        };
        let shutdown = match Shutdown::listen(|| tracing::info!("there is no file to read again")) {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(FAILED, format!("cannot listen for signals: {error}")),
        };
        sandbox::keep_secrets();
        let builder = Builder { credentials: Some(credentials), hides, ..config.into() };
        if let Err(error) = serve_stdio(builder, link, shutdown).await {
            return not_started(error.into());
        }
        flushed.wait().await;
        OK
    });
    traces.flush();
    log.flush();
    code
}

/// The tools that are left out, by their names.
fn hidden(globs: &[String]) -> Result<Option<Hides>, String> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut set = globset::GlobSetBuilder::new();
    for glob in globs {
        set.add(globset::Glob::new(glob).map_err(|error| format!("--ignore-tool {error}"))?);
    }
    let set = set.build().map_err(|error| format!("--ignore-tool: {error}"))?;
    Ok(Some(Box::new(move |name| set.is_match(name))))
}

/// Flags and variables as a configuration with one upstream, and what it is asked with.
fn made(args: &Args, variables: &Variables) -> Result<(Name, Config, Arc<Credentials>), String> {
    let url = args.server_url.clone().or_else(|| args.url.clone());
    let url = url.or_else(|| variables.get("MCP_SERVER_URL").or_else(|| variables.get("SSE_URL")));
    let url = url.ok_or("the URL of a server is needed: hubward connect https://…")?;
    let parsed = url::Url::parse(&url).map_err(|error| format!("{url:?} is not a URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("{url:?} does not begin with http:// or https://"));
    }
    if is_plain(&parsed) && !args.allow_http {
        complain(format_args!(
            "hubward: {} is asked in plain text, which others can read; --allow-http if that is meant",
            parsed.host_str().unwrap_or_default()
        ));
    }
    let mut remote = RemoteConfig::new(Text::from(url));
    remote.headers = headers(args, variables)?;
    remote.transport = match args.transport {
        TransportArg::Auto => Transport::Auto,
        TransportArg::StreamableHttp => Transport::StreamableHttp,
        TransportArg::Sse => Transport::Sse,
    };
    let verify = args.verify_ssl.clone().or_else(|| variables.get("VERIFY_SSL"));
    remote.tls = tls(verify.as_deref(), args.no_verify_ssl)?;
    remote.proxy = args.proxy.clone().map(Text::from);
    remote.auth = credentials::password(args)?;
    let name = Name::new(NAME).map_err(|error| error.to_string())?;
    let credentials = credentials::make(args, variables, &name, &remote)?;
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut upstream = UpstreamConfig::new("", here);
    upstream.remote = Some(remote);
    upstream.era = match args.era {
        EraArg::Auto => Era::Auto,
        EraArg::Legacy => Era::Legacy,
        EraArg::Modern => Era::Modern,
    };
    upstream.start_timeout = START_MAX;
    let limit = args.request_timeout.or_else(|| variables.get("REQUEST_TIMEOUT")?.parse().ok());
    upstream.request_timeout = Duration::from_secs(limit.unwrap_or(300).max(1));
    upstream.expose_errors = true;
    let mut config = Config::of(name.clone(), upstream);
    // The one client has one session, however long it thinks.
    config.hub.limits.session_idle_timeout = Duration::MAX;
    Ok((name, config, credentials))
}

/// Does this leave the machine without encryption?
fn is_plain(url: &url::Url) -> bool {
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    };
    url.scheme() == "http" && !here
}

/// Headers of both spellings. `API_ACCESS_TOKEN` gives an `Authorization` where none is named.
fn headers(args: &Args, variables: &Variables) -> Result<BTreeMap<String, Text>, String> {
    let mut headers = BTreeMap::new();
    let split = |line: &String| {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("--header {line:?} needs a colon"))?;
        Ok::<_, String>((name.trim().to_owned(), value.trim().to_owned()))
    };
    let pairs = args.headers.chunks_exact(2).map(|pair| Ok((pair[0].clone(), pair[1].clone())));
    for pair in args.header.iter().map(split).chain(pairs) {
        let (name, value) = pair?;
        headers.insert(name.to_ascii_lowercase(), Text::secret(variables.expand(&value)?));
    }
    if let Some(token) = variables.get("API_ACCESS_TOKEN") {
        headers.entry("authorization".into()).or_insert_with(|| Text::secret(format!("Bearer {token}")));
    }
    Ok(headers)
}

fn tls(verify: Option<&str>, none: bool) -> Result<TlsConfig, String> {
    let word = verify.unwrap_or("true").to_ascii_lowercase();
    let off = none || matches!(word.as_str(), "false" | "0" | "no" | "off");
    if off {
        tracing::warn!("any certificate will be believed");
    }
    let on = off || matches!(word.as_str(), "true" | "1" | "yes" | "on");
    let ca = verify.filter(|_| !on).map(PathBuf::from);
    if let Some(file) = ca.as_ref().filter(|file| !file.is_file()) {
        return Err(format!("--verify-ssl {}: there is no such file", file.display()));
    }
    Ok(TlsConfig { ca, identity: None, verify: !off })
}
