//! What mcp-proxy of npm is told with. Its flags are written in camel case or with dashes, its times are milliseconds,
//! and each is also a variable.

use std::{path::PathBuf, time::Duration};

use clap::builder::{BoolishValueParser, FalseyValueParser};

use url::Url;

use super::{draft::Draft, pypi::list};
use crate::{
    cli::tunnel,
    config::{self, Era, Face, HubTls, TokenConfig, UpstreamConfig, hash},
};

/// No limit is none that could be kept: this is the largest that hub.toml takes.
const BODY_BYTES_MAX: usize = 1 << 30;
/// Who comes with the key.
const KEY_OWNER: &str = "api-key";

#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Serve only this: sse, or stream (Streamable HTTP)
    #[arg(long, value_enum, env = "MCP_PROXY_SERVER")]
    pub server: Option<Server>,
    /// The path of the one that --server names
    #[arg(long, value_name = "PATH", env = "MCP_PROXY_ENDPOINT")]
    pub endpoint: Option<String>,
    /// The path of the event stream [default: /sse]
    #[arg(long, alias = "sseEndpoint", value_name = "PATH", env = "MCP_PROXY_SSE_ENDPOINT")]
    pub sse_endpoint: Option<String>,
    /// The path of Streamable HTTP [default: /mcp]
    #[arg(long, alias = "streamEndpoint", value_name = "PATH", env = "MCP_PROXY_STREAM_ENDPOINT")]
    pub stream_endpoint: Option<String>,
    /// How long a server may take to start [default: 60000]
    #[arg(long, alias = "connectionTimeout", value_name = "MS", env = "MCP_PROXY_CONNECTION_TIMEOUT", value_parser = milliseconds)]
    pub connection_timeout: Option<Duration>,
    /// The longest call [default: 300000]
    #[arg(long, alias = "requestTimeout", value_name = "MS", env = "MCP_PROXY_REQUEST_TIMEOUT", value_parser = milliseconds)]
    pub request_timeout: Option<Duration>,
    /// How long an idle connection is kept [default: 75000]
    #[arg(long, alias = "keepAliveTimeout", value_name = "MS", env = "MCP_PROXY_KEEP_ALIVE_TIMEOUT", value_parser = milliseconds)]
    pub keep_alive_timeout: Option<Duration>,
    /// How long a session without a stream may be idle; 0 is for ever [default: 1800000]
    #[arg(long, alias = "sessionIdleTimeout", value_name = "MS", env = "MCP_PROXY_SESSION_IDLE_TIMEOUT")]
    pub session_idle_timeout: Option<u64>,
    /// Keep events for clients that come back; the default
    #[arg(long, alias = "eventStore", value_name = "BOOL", env = "MCP_PROXY_EVENT_STORE", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new(), overrides_with = "no_event_store")]
    pub event_store: Option<bool>,
    /// Keep none
    #[arg(long, aliases = ["no-eventStore", "noEventStore"], overrides_with = "event_store")]
    pub no_event_store: bool,
    /// How many events are kept for each stream [default: 1000]
    #[arg(long, alias = "eventStoreMaxEvents", value_name = "N", env = "MCP_PROXY_EVENT_STORE_MAX_EVENTS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub event_store_max_events: Option<u32>,
    /// The largest body, in bytes; 0 is 1 GiB [default: 4194304]
    #[arg(long, alias = "maxBodySize", value_name = "BYTES", env = "MCP_PROXY_MAX_BODY_SIZE")]
    pub max_body_size: Option<usize>,
    /// Serve clients of 2026-07-28 too; that is always so
    #[arg(long, value_name = "BOOL", env = "MCP_PROXY_MODERN", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new(), overrides_with = "no_modern")]
    pub modern: Option<bool>,
    /// Only older clients are expected; newer ones are served all the same
    #[arg(long, alias = "noModern", overrides_with = "modern")]
    pub no_modern: bool,
    /// What the server speaks [default: auto: it is asked]
    #[arg(long, alias = "upstreamProtocol", value_enum, env = "MCP_PROXY_UPSTREAM_PROTOCOL")]
    pub upstream_protocol: Option<Protocol>,
    /// A header that web pages may send, beside those of the protocol (repeatable)
    #[arg(long, alias = "corsAddAllowedHeader", value_name = "NAME", env = "MCP_PROXY_CORS_ADD_ALLOWED_HEADER")]
    pub cors_add_allowed_header: Vec<String>,
    /// How long calls may go on after the signal to stop [default: 30000]
    #[arg(long, alias = "gracefulShutdownTimeout", value_name = "MS", env = "MCP_PROXY_GRACEFUL_SHUTDOWN_TIMEOUT", value_parser = milliseconds)]
    pub graceful_shutdown_timeout: Option<Duration>,
    /// Start the command by the shell, which may find more than a program in it
    #[arg(long, env = "MCP_PROXY_SHELL", value_parser = FalseyValueParser::new())]
    pub shell: bool,
    /// Callers have to show this, as X-API-Key or as a bearer token
    #[arg(long, alias = "apiKey", value_name = "KEY", env = "MCP_PROXY_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Serve HTTPS with this certificate (PEM)
    #[arg(long, alias = "sslCert", value_name = "FILE", env = "MCP_PROXY_SSL_CERT", requires = "ssl_key")]
    pub ssl_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, alias = "sslKey", value_name = "FILE", env = "MCP_PROXY_SSL_KEY", requires = "ssl_cert")]
    pub ssl_key: Option<PathBuf>,
    /// Clients have to show a certificate that one of these signed
    #[arg(long, alias = "sslCa", value_name = "FILE", env = "MCP_PROXY_SSL_CA", requires = "ssl_cert")]
    pub ssl_ca: Option<PathBuf>,
    /// Make it reachable from elsewhere, through a server that sees all that passes
    #[arg(long, env = "MCP_PROXY_TUNNEL", value_parser = FalseyValueParser::new())]
    pub tunnel: bool,
    /// The name that is wanted there [default: the server makes one up]
    #[arg(long, alias = "tunnelSubdomain", value_name = "NAME", env = "MCP_PROXY_TUNNEL_SUBDOMAIN", value_parser = config::tunnel_name)]
    pub tunnel_subdomain: Option<String>,
    #[arg(help = "The server: one that speaks pipenet's protocol [default: https://tunnel.gla.ma]")]
    #[arg(long, alias = "tunnelHost", value_name = "URL", env = "MCP_PROXY_TUNNEL_HOST", value_parser = config::tunnel_server)]
    pub tunnel_host: Option<Url>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Server {
    Sse,
    Stream,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Protocol {
    Legacy,
    Auto,
    Modern,
}

impl Flags {
    pub fn apply(&self, here: &std::path::Path, draft: &mut Draft, each: &mut UpstreamConfig) -> Result<(), String> {
        self.places(draft)?;
        self.door(here, draft)?;
        self.limits(draft);
        self.tunnel(draft)?;
        if let Some(limit) = self.connection_timeout {
            each.start_timeout = limit;
        }
        if let Some(limit) = self.request_timeout {
            each.request_timeout = limit;
        }
        match self.upstream_protocol {
            Some(Protocol::Legacy) => each.era = Era::Legacy,
            Some(Protocol::Modern) => each.era = Era::Modern,
            Some(Protocol::Auto) | None => {}
        }
        if self.no_modern || self.modern == Some(false) {
            draft.note(
                "--no-modern changes nothing: older clients are served as ever, newer ones are served too".to_owned(),
            );
        }
        Ok(())
    }

    /// What is served, and where.
    fn places(&self, draft: &mut Draft) -> Result<(), String> {
        let hub = &mut draft.config.hub;
        let read =
            |flag: &str, path: &String| config::endpoint(path).map_err(|error| format!("{flag} {path}: {error}"));
        let own = self.endpoint.as_ref().map(|path| read("--endpoint", path)).transpose()?;
        match self.server {
            Some(Server::Sse) => {
                hub.transports = vec![Face::Sse];
                hub.sse_path = own.unwrap_or_else(|| hub.sse_path.clone());
            }
            Some(Server::Stream) => {
                hub.transports = vec![Face::StreamableHttp];
                hub.mcp_path = own.unwrap_or_else(|| hub.mcp_path.clone());
            }
            None if own.is_some() => draft.notes.push(
                "--endpoint means something with --server only; both are where they are without it, and \
                 --sse-endpoint and --stream-endpoint move one of them"
                    .to_owned(),
            ),
            None => {}
        }
        if let Some(path) = &self.sse_endpoint {
            hub.sse_path = read("--sse-endpoint", path)?;
        }
        if let Some(path) = &self.stream_endpoint {
            hub.mcp_path = read("--stream-endpoint", path)?;
        }
        match hub.mcp_path == hub.sse_path {
            true if self.server == Some(Server::Sse) => hub.mcp_path = "/mcp".to_owned(),
            true if self.server == Some(Server::Stream) => hub.sse_path = "/sse".to_owned(),
            true => return Err(format!("both would be at {}", hub.mcp_path)),
            false => {}
        }
        Ok(())
    }

    /// Who comes in, and how.
    fn door(&self, here: &std::path::Path, draft: &mut Draft) -> Result<(), String> {
        let hub = &mut draft.config.hub;
        if let Some(key) = &self.api_key {
            if key.trim().is_empty() {
                return Err("--api-key is empty: anybody would have it".to_owned());
            }
            hub.access.tokens.push(TokenConfig {
                name: KEY_OWNER.to_owned(),
                sha256: hash(key.trim()),
                upstreams: None,
            });
        }
        hub.allowed_headers = list("--cors-add-allowed-header", &self.cors_add_allowed_header, config::header)?;
        if let (Some(cert), Some(key)) = (&self.ssl_cert, &self.ssl_key) {
            let ca = self.ssl_ca.as_ref().map(|ca| here.join(ca));
            hub.tls = Some(HubTls::load(here.join(cert), here.join(key), ca).map_err(|flaw| flaw.to_string())?);
            if self.ssl_ca.is_some() {
                draft.note(
                    "--ssl-ca: clients have to show a certificate that one of these authorities signed".to_owned(),
                );
            }
        }
        Ok(())
    }

    /// How others reach it from elsewhere.
    fn tunnel(&self, draft: &mut Draft) -> Result<(), String> {
        if self.tunnel {
            draft.config.hub.tunnel = Some(tunnel::config(self.tunnel_subdomain.clone(), self.tunnel_host.clone())?);
        } else if self.tunnel_subdomain.is_some() || self.tunnel_host.is_some() {
            draft.note("--tunnel-subdomain and --tunnel-host mean something with --tunnel only".to_owned());
        }
        Ok(())
    }

    fn limits(&self, draft: &mut Draft) {
        let hub = &mut draft.config.hub;
        if let Some(limit) = self.keep_alive_timeout {
            hub.keep_alive = limit;
        }
        if let Some(limit) = self.graceful_shutdown_timeout {
            hub.drain_timeout = limit;
        }
        match self.session_idle_timeout {
            Some(0) => hub.limits.session_idle_timeout = Duration::MAX,
            Some(limit) => hub.limits.session_idle_timeout = Duration::from_millis(limit),
            None => {}
        }
        if let Some(most) = self.event_store_max_events {
            hub.limits.replay_events_max = most as usize;
        }
        if self.no_event_store || self.event_store == Some(false) {
            hub.limits.replay_events_max = 0;
        }
        match self.max_body_size {
            Some(0) => {
                hub.limits.body_bytes_max = BODY_BYTES_MAX;
                draft.note("--max-body-size 0: a body may have 1 GiB; none may be without end".to_owned());
            }
            Some(bytes) => hub.limits.body_bytes_max = bytes,
            None => {}
        }
    }

    /// A command line as a shell reads it.
    pub fn by_shell(&self, words: Vec<String>) -> Vec<String> {
        match (self.shell, cfg!(windows)) {
            (false, _) => words,
            (true, false) => vec!["/bin/sh".into(), "-c".into(), words.join(" ")],
            (true, true) => vec!["cmd.exe".into(), "/d".into(), "/s".into(), "/c".into(), words.join(" ")],
        }
    }
}

/// A time that is not nothing.
fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(0) => Err("0 is no time".to_owned()),
        Ok(number) => Ok(Duration::from_millis(number)),
        Err(_) => Err("a whole number of milliseconds is needed".to_owned()),
    }
}
