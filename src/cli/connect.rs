//! `hubward connect`: a remote server on our stdin and stdout, for clients that only start commands.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::ValueEnum;

use super::{FAILED, Globals, OK, USAGE, fail, not_started};
use crate::{
    config::{
        Auth, ClientCredentials, Config, Era, Format, Name, RemoteConfig, Text, TlsConfig, Transport, UpstreamConfig,
    },
    link::stdio,
    run,
    shutdown::Shutdown,
};

/// The name of the one upstream, in errors and in the log.
const NAME: &str = "remote";
/// The first connection may wait for a person who logs in.
const START_MAX: Duration = Duration::from_secs(10 * 60);

#[derive(clap::Args)]
pub struct Args {
    /// The server's URL
    #[arg(value_name = "URL", env = "MCP_SERVER_URL")]
    url: Option<String>,
    /// The server's URL
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    server_url: Option<String>,
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
    /// Of a client that was registered by hand
    #[arg(long, value_name = "ID", env = "MCP_CLIENT_ID")]
    client_id: Option<String>,
    #[arg(long, value_name = "SECRET", env = "MCP_CLIENT_SECRET", hide_env_values = true, requires = "client_id")]
    client_secret: Option<String>,
    /// Get a token here with the client's own credentials: no person is needed
    #[arg(long, value_name = "URL", requires = "client_id")]
    token_url: Option<String>,
    /// HTTP Basic
    #[arg(long, requires = "password")]
    username: Option<String>,
    #[arg(long, requires = "username")]
    password: Option<String>,
    /// Digest in place of Basic
    #[arg(long, requires = "username")]
    digest: bool,
    /// Check the server's certificate; or trust the authorities in this PEM file too
    #[arg(long, value_name = "true|false|FILE", num_args = 0..=1, default_missing_value = "true", require_equals = false)]
    verify_ssl: Option<String>,
    /// Believe any certificate
    #[arg(long, conflicts_with = "verify_ssl")]
    no_verify_ssl: bool,
    /// The proxy to use [default: that of the environment]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// The longest call, in seconds
    #[arg(long, value_name = "SECONDS", env = "REQUEST_TIMEOUT", default_value_t = 300)]
    request_timeout: u64,
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
    let log = match globals.log("warn", Format::Human) {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    let (name, config) = match config(args) {
        Ok(config) => config,
        Err(error) => return fail(USAGE, error),
    };
    let code = run::on_system(async move {
        let (link, flushed) = match stdio::open(config.hub.limits.message_bytes_max) {
            Ok(open) => open,
            Err(error) => return fail(FAILED, format!("cannot use stdin and stdout: {error}")),
        };
        let shutdown = match Shutdown::listen(|| tracing::info!("there is no file to read again")) {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(FAILED, format!("cannot listen for signals: {error}")),
        };
        if let Err(error) = run::serve_stdio(config, &name, link, shutdown).await {
            return not_started(error);
        }
        flushed.wait().await;
        OK
    });
    log.flush();
    code
}

/// The flags as a configuration with one upstream.
fn config(args: Args) -> Result<(Name, Config), String> {
    let url = args.server_url.or(args.url).ok_or("the URL of a server is needed: hubward connect https://…")?;
    let parsed = url::Url::parse(&url).map_err(|error| format!("{url:?} is not a URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("{url:?} does not begin with http:// or https://"));
    }
    let mut remote = RemoteConfig::new(Text::from(url));
    remote.headers = headers(&args.header, &args.headers)?;
    remote.transport = match args.transport {
        TransportArg::Auto => Transport::Auto,
        TransportArg::StreamableHttp => Transport::StreamableHttp,
        TransportArg::Sse => Transport::Sse,
    };
    remote.tls = tls(args.verify_ssl.as_deref(), args.no_verify_ssl)?;
    remote.proxy = args.proxy.map(Text::from);
    let user = args.username.map(Text::from).zip(args.password.map(Text::secret));
    remote.auth = match (user, args.digest, args.token_url, args.client_id) {
        (Some((username, password)), true, ..) => Auth::Digest { username, password },
        (Some((username, password)), false, ..) => Auth::Basic { username, password },
        (None, _, Some(token_url), Some(client_id)) => Auth::ClientCredentials(ClientCredentials {
            token_url: Some(Text::from(token_url)),
            client_id: Text::from(client_id),
            client_secret: args.client_secret.map(Text::secret),
            private_key: None,
            scopes: None,
        }),
        (None, _, _, Some(client_id)) => Auth::OAuth(crate::config::OAuthConfig {
            client_id: Some(Text::from(client_id)),
            client_secret: args.client_secret.map(Text::secret),
            ..Default::default()
        }),
        _ => Auth::Auto,
    };
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut upstream = UpstreamConfig::new("", here);
    upstream.remote = Some(remote);
    upstream.era = match args.era {
        EraArg::Auto => Era::Auto,
        EraArg::Legacy => Era::Legacy,
        EraArg::Modern => Era::Modern,
    };
    upstream.start_timeout = START_MAX;
    upstream.request_timeout = Duration::from_secs(args.request_timeout.max(1));
    upstream.expose_errors = true;
    let name = Name::new(NAME).map_err(|error| error.to_string())?;
    let mut config = Config { upstreams: BTreeMap::from([(name.clone(), upstream)]), ..Config::default() };
    // The one client has one session, however long it thinks.
    config.hub.limits.session_idle_timeout = Duration::MAX;
    Ok((name, config))
}

/// Headers of both spellings; `API_ACCESS_TOKEN` gives an Authorization where none is named.
fn headers(lines: &[String], pairs: &[String]) -> Result<BTreeMap<String, Text>, String> {
    let mut headers = BTreeMap::new();
    let lines = lines.iter().map(|line| line.split_once(':').ok_or_else(|| format!("--header {line:?} needs a colon")));
    let pairs = pairs.chunks_exact(2).map(|pair| Ok((pair[0].as_str(), pair[1].as_str())));
    for pair in lines.chain(pairs) {
        let (name, value) = pair?;
        headers.insert(name.trim().to_ascii_lowercase(), Text::secret(expanded(value.trim())?));
    }
    if let Some(token) = std::env::var("API_ACCESS_TOKEN").ok().filter(|token| !token.is_empty()) {
        headers.entry("authorization".into()).or_insert_with(|| Text::secret(format!("Bearer {token}")));
    }
    Ok(headers)
}

/// `${VAR}` in a header: clients split arguments at blanks, so a value with one comes from the environment.
fn expanded(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').ok_or_else(|| format!("`${{` without its `}}` in {text:?}"))?;
        let name = name.strip_prefix("env:").unwrap_or(name);
        out.push_str(before);
        out.push_str(&std::env::var(name).map_err(|_| format!("the variable `{name}` is not set"))?);
        rest = behind;
    }
    Ok(out + rest)
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
