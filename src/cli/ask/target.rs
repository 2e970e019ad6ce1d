//! Whom a one-shot asks: a URL, a command, or an upstream of the local hub.toml; and with what.

use std::{io::IsTerminal, path::PathBuf, sync::Arc, time::Duration};

use url::Url;

use super::{plain, stop::Stop};
use crate::{
    auth::{Credentials, oauth::Mode},
    cli::{ConfigFlag, Globals, complain},
    config::{self, Era, InheritEnv, Name, RemoteConfig, Text, Transport, UpstreamConfig, nearest, report},
    hub::remote::credentials_for,
};

/// What logs call a server that has no name.
const NAMELESS: &str = "server";

/// The greeting may wait for a person who logs in.
const LOGIN_MAX: Duration = Duration::from_secs(10 * 60);

/// A server to ask, as an upstream of nobody's hub.
#[derive(Debug)]
pub struct Target {
    pub name: Name,
    pub config: UpstreamConfig,
    pub credentials: Arc<Credentials>,
    /// What messages call it.
    pub shown: String,
}

/// How to reach it.
#[derive(clap::Args)]
#[command(next_help_heading = "The server")]
pub struct Reach {
    /// A header for each request, such as 'Authorization: Bearer ${env:TOKEN}' (repeatable)
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// How a remote server is spoken to [default: it is found out]
    #[arg(long, value_enum)]
    pub transport: Option<TransportArg>,
    /// What it speaks: revisions that open with `initialize`, or 2026-07-28 [default: it is asked]
    #[arg(long, value_enum)]
    pub era: Option<EraArg>,
    /// The longest call, such as 90s or 10m [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// The longest wait until it is greeted [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub start_timeout: Option<Duration>,
    /// Certificates to trust beside the system's, in PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long)]
    pub insecure: bool,
    /// A variable for the command's environment (repeatable)
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    #[command(flatten)]
    pub config: ConfigFlag,
    /// A stdio server to start and ask, in place of URL
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum TransportArg {
    Auto,
    StreamableHttp,
    Sse,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum EraArg {
    Auto,
    Legacy,
    Modern,
}

impl Target {
    /// An upstream, of a hub.toml or of somebody's making.
    pub fn upstream(name: Name, config: UpstreamConfig) -> Target {
        let credentials = config.remote.as_ref().map(credentials).unwrap_or_default();
        Target { shown: name.as_str().to_owned(), name, config, credentials }
    }

    /// A server with a URL.
    pub fn remote(remote: RemoteConfig) -> Result<Target, Stop> {
        let shown = remote.url_shown();
        let mut config = UpstreamConfig::new("", PathBuf::new());
        config.remote = Some(remote);
        Ok(Target { shown, ..Target::upstream(nameless()?, config) })
    }

    /// A command to be started. It sees our whole environment, as anything does that a person starts in a shell.
    pub fn command(command: &[String]) -> Result<Target, Stop> {
        let Some((program, args)) = command.split_first() else { return Err(Stop::usage("a command is needed")) };
        let here = std::env::current_dir();
        let here = here.map_err(|error| Stop::failed(format!("the current directory cannot be read: {error}")))?;
        let mut config = UpstreamConfig::new(program.as_str(), here);
        config.args = args.iter().map(|arg| arg.as_str().into()).collect();
        config.inherit_env = InheritEnv::All;
        // Nobody else waits for it.
        config.stop_timeout = Duration::from_secs(2);
        Ok(Target { name: nameless()?, config, credentials: Arc::default(), shown: program.clone() })
    }

    /// A word of the command line: a URL, or the name of an upstream.
    pub fn of_word(word: &str, file: &ConfigFlag, globals: &Globals) -> Result<Target, Stop> {
        if word.contains("://") {
            let url: Url = word.parse().map_err(|error| Stop::usage(format!("`{word}` is not a URL: {error}")))?;
            let problem = match url.scheme() {
                "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
                    "a password does not belong into the URL: give it as --header 'Authorization: …'"
                }
                "http" | "https" if url.fragment().is_some() => "the URL of a server has no #fragment",
                "http" | "https" => {
                    return Target::remote(RemoteConfig::new(word.into()));
                }
                _ => "the URL of a server begins with http:// or https://",
            };
            return Err(Stop::usage(problem));
        }
        named(word, file, globals)
    }

    /// The one of the command line, its flags heeded. The words that it leaves over are those of the verb.
    pub fn of_flags<'a>(reach: &Reach, words: &'a [String], globals: &Globals) -> Result<(Target, &'a [String]), Stop> {
        let (mut target, rest) = match (reach.command.as_slice(), words.split_first()) {
            ([], None) => {
                return Err(Stop::usage("whom to ask? A URL, a name of hub.toml, or `-- COMMAND…` is needed"));
            }
            ([], Some((word, rest))) => (Target::of_word(word, &reach.config, globals)?, rest),
            (command, _) => (Target::command(command)?, words),
        };
        target.heed(reach)?;
        Ok((target, rest))
    }

    fn heed(&mut self, reach: &Reach) -> Result<(), Stop> {
        let config = &mut self.config;
        config.request_timeout = reach.timeout.unwrap_or(config.request_timeout);
        config.start_timeout = reach.start_timeout.unwrap_or(config.start_timeout);
        config.era = reach.era.map_or(config.era, |era| match era {
            EraArg::Auto => Era::Auto,
            EraArg::Legacy => Era::Legacy,
            EraArg::Modern => Era::Modern,
        });
        let far = !reach.headers.is_empty() || reach.transport.is_some() || reach.ca.is_some() || reach.insecure;
        let Some(remote) = &mut config.remote else {
            if far {
                let flags = "--header, --transport, --ca and --insecure are for servers with a URL";
                return Err(Stop::usage(flags));
            }
            for pair in &reach.env {
                let pair = pair.split_once('=').ok_or_else(|| format!("`--env {pair}` must be NAME=VALUE"));
                let (name, value) = pair.map_err(Stop::usage)?;
                config.env.insert(name.to_owned(), Text::secret(value));
            }
            return Ok(());
        };
        if !reach.env.is_empty() {
            return Err(Stop::usage("--env is for commands"));
        }
        for header in &reach.headers {
            let (name, value) = header.split_once(':').ok_or_else(|| {
                Stop::usage(format!(
                    "`--header {}` must be 'Name: value'",
                    header.split('=').next().unwrap_or_default()
                ))
            })?;
            let text =
                config::resolve(value.trim()).map_err(|error| Stop::usage(format!("--header {name}: {error}")))?;
            remote.headers.insert(name.trim().to_ascii_lowercase(), text);
        }
        remote.transport = reach.transport.map_or(remote.transport, |transport| match transport {
            TransportArg::Auto => Transport::Auto,
            TransportArg::StreamableHttp => Transport::StreamableHttp,
            TransportArg::Sse => Transport::Sse,
        });
        remote.tls.ca = reach.ca.clone().or(remote.tls.ca.take());
        remote.tls.verify &= !reach.insecure;
        self.credentials = credentials(remote);
        if reach.start_timeout.is_none() && is_attended() && matches!(*self.credentials, Credentials::OAuth(_)) {
            config.start_timeout = config.start_timeout.max(LOGIN_MAX);
        }
        Ok(())
    }
}

/// Is there a person who can be asked something?
pub fn is_attended() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// What proves to a remote server who asks. Somebody at a terminal may log in; a script is told to.
fn credentials(remote: &RemoteConfig) -> Arc<Credentials> {
    let mode = if is_attended() { Mode::Interactive } else { Mode::Nobody };
    Arc::new(credentials_for(remote, mode, |prompt| complain(plain::text(&prompt.to_string()))))
}

/// An upstream of the local hub.toml.
fn named(word: &str, file: &ConfigFlag, globals: &Globals) -> Result<Target, Stop> {
    let name = Name::new(word).map_err(|error| {
        let meant = if word.contains([':', '/']) { format!("; did you mean http://{word}?") } else { String::new() };
        Stop::usage(format!("`{word}` is neither a URL nor the name of an upstream ({error}){meant}"))
    })?;
    let path = config::find(globals.file(file).as_deref())
        .map_err(|missing| Stop::usage(format!("`{word}` is not a URL, and there is {missing}")))?;
    let loaded = config::read(&path).map_err(|rejected| {
        let text = rejected.text.as_deref().unwrap_or_default();
        let color = globals.color(std::io::stderr());
        Stop::usage(format!(
            "{} cannot be used\n{}",
            path.display(),
            report::draw(&rejected.diagnostics, text, &path, color)
        ))
    })?;
    let mut upstreams = loaded.config.upstreams;
    let Some(config) = upstreams.remove(&name) else {
        let names: Vec<&str> = upstreams.keys().map(Name::as_str).collect();
        let meant = nearest(word, names.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
        let all = || format!("; there is {}", names.join(", "));
        let hint = meant.unwrap_or_else(|| if names.is_empty() { String::new() } else { all() });
        return Err(Stop::usage(format!("{} has no upstream `{word}`{hint}", path.display())));
    };
    if let Some(why) = &config.unavailable {
        return Err(Stop::usage(format!("upstream `{word}` cannot be used: {why}")));
    }
    Ok(Target::upstream(name, config))
}

fn nameless() -> Result<Name, Stop> {
    Name::new(NAMELESS).map_err(|error| Stop::failed(error.to_string()))
}

/// As in hub.toml; a number alone is of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let read = jiff::fmt::friendly::SpanParser::new().parse_unsigned_duration(text);
    read.map_err(|_| "write it as 30s, 5m or 1h".to_owned())
}
