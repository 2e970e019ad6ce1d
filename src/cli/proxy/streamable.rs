//! What mcp-streamablehttp-proxy was told with: its flags, and the variables that its documents name.

use std::time::Duration;

use super::draft::{Draft, Environment};

/// Variables without a flag. Some of them only its documents know.
pub const VARIABLES: [&str; 11] = [
    "LOG_FILE",
    "MCP_LOG_LEVEL",
    "MCP_MAX_SESSIONS",
    "MCP_READ_BUFFER_SIZE",
    "MCP_STARTUP_TIMEOUT",
    "MCP_SUBPROCESS_TIMEOUT",
    "MCP_WRITE_BUFFER_SIZE",
    "MCP_PROXY_HOST",
    "MCP_PROXY_LOG_LEVEL",
    "MCP_PROXY_PORT",
    "MCP_PROXY_TIMEOUT",
];

#[derive(clap::Args)]
#[group(skip)]
pub struct Flags {
    /// The host to listen on [default: 127.0.0.1]
    #[arg(long, env = "MCP_BIND_HOST", alias = "sse-host", overrides_with = "host")]
    pub host: Option<String>,
    /// The port to listen on; 0 picks one [default: 8808]
    #[arg(long, env = "MCP_PORT", alias = "sse-port", overrides_with = "port")]
    pub port: Option<u16>,
    /// A session that was idle for this many seconds ends [default: 1800]
    #[arg(long, env = "MCP_SESSION_TIMEOUT", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,
}

impl Flags {
    /// Do the flags say where to listen, and not only the variables?
    pub fn is_typed(&self, environment: &Environment) -> bool {
        let typed = |flag: Option<String>, variable: &str| flag.is_some() && flag.as_ref() != environment.get(variable);
        typed(self.host.clone(), "MCP_BIND_HOST") || typed(self.port.map(|port| port.to_string()), "MCP_PORT")
    }

    /// Where to listen, if anything says so.
    pub fn address(&self, environment: &Environment) -> Result<(Option<String>, Option<u16>), String> {
        let host = self.host.clone().or_else(|| environment.get("MCP_PROXY_HOST").cloned());
        // Kubernetes gives the address of a service of this name under the same variable.
        let text = environment.get("MCP_PROXY_PORT").filter(|text| !text.starts_with("tcp://"));
        let port = match (self.port, text) {
            (None, Some(text)) => Some(text.parse().map_err(|_| format!("MCP_PROXY_PORT: {text:?} is no port"))?),
            (port, _) => port,
        };
        Ok((host, port))
    }

    pub fn apply(
        &self,
        environment: &Environment,
        draft: &mut Draft,
        each: &mut crate::config::UpstreamConfig,
    ) -> Result<(), String> {
        let number = |name: &str| match environment.get(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) if number > 0 => Ok(Some(number)),
                _ => Err(format!("{name}: {text:?} is no number above 0")),
            },
        };
        let limits = &mut draft.config.hub.limits;
        if let Some(seconds) = self.timeout.or(number("MCP_PROXY_TIMEOUT")?) {
            limits.session_idle_timeout = Duration::from_secs(seconds);
        }
        if let Some(most) = number("MCP_MAX_SESSIONS")? {
            limits.sessions_max = usize::try_from(most).unwrap_or(usize::MAX);
        }
        if let Some(seconds) = number("MCP_SUBPROCESS_TIMEOUT")? {
            each.request_timeout = Duration::from_secs(seconds);
        }
        if let Some(seconds) = number("MCP_STARTUP_TIMEOUT")? {
            each.start_timeout = Duration::from_secs(seconds);
        }
        for name in ["MCP_READ_BUFFER_SIZE", "MCP_WRITE_BUFFER_SIZE"] {
            if environment.contains_key(name) {
                draft.note(format!("{name} has no meaning: buffers grow with the message, up to 16 MiB"));
            }
        }
        for name in ["MCP_PROXY_LOG_LEVEL", "MCP_LOG_LEVEL"] {
            if let Some(level) = environment.get(name) {
                draft.level = crate::cli::level_of(level).to_owned();
            }
        }
        draft.log_file = environment.get("LOG_FILE").filter(|path| !path.is_empty()).map(Into::into);
        Ok(())
    }
}
