//! An upstream's configuration as it is in effect, every default included, with everything secret masked.
//!
//! For people to read: on the status page, where whoever may use the upstream can see it. So a value is masked that
//! came from a variable or a file, and one whose name says that it opens something.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::value::{duration_text, size_text};
use super::{Auth, Era, InheritEnv, Isolation, RemoteConfig, Start, Text, Transport, UpstreamConfig};

const MASK: &str = "***";
/// Names of what opens something have one of these in them.
const TELLTALE: [&str; 9] = ["token", "key", "secret", "pass", "auth", "cred", "cookie", "session", "signature"];

/// TOML that says what is in effect. Not all of it can be written into hub.toml: what is masked is lost.
pub fn shown(config: &UpstreamConfig) -> String {
    let UpstreamConfig {
        enabled,
        required,
        remote,
        command,
        args,
        env,
        inherit_env,
        cwd,
        isolation,
        start,
        process_max,
        start_timeout,
        request_timeout,
        idle_timeout,
        stop_timeout,
        overlap,
        era,
        strict_stdout,
        expose_errors,
        restart,
        allow,
        tools,
        pin_tools,
        sandbox,
        log_level,
        stderr_file,
        unavailable: _,
    } = config;
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
    put("enabled", (*enabled).into());
    put("required", (*required).into());
    match remote {
        Some(remote) => remote_keys(remote, &mut put),
        None => {
            put("command", command.to_string().into());
            put("args", arguments(args).into());
            put("env", masked(env));
            put(
                "inherit_env",
                match inherit_env {
                    InheritEnv::Safe => super::SAFE_ENV.to_vec().into(),
                    InheritEnv::All => true.into(),
                    InheritEnv::Names(names) => names.clone().into(),
                },
            );
            put("cwd", cwd.display().to_string().into());
            put("strict_stdout", (*strict_stdout).into());
            put("sandbox", sandbox_keys(sandbox));
        }
    }
    let isolation = match isolation {
        Isolation::Session => "session",
        Isolation::Call => "call",
        Isolation::Shared => "shared",
    };
    put("isolation", isolation.into());
    put("start", if *start == Start::Eager { "eager" } else { "lazy" }.into());
    put("process_max", number(*process_max));
    put("start_timeout", duration_text(*start_timeout).into());
    put("request_timeout", duration_text(*request_timeout).into());
    put("idle_timeout", duration_text(*idle_timeout).into());
    put("stop_timeout", duration_text(*stop_timeout).into());
    put("overlap", (*overlap).into());
    let era = match era {
        Era::Auto => "auto",
        Era::Legacy => "legacy",
        Era::Modern => "modern",
    };
    put("era", era.into());
    put("expose_errors", (*expose_errors).into());
    put("allow", allow.iter().map(ToString::to_string).collect::<Vec<_>>().into());
    put("pin_tools", (*pin_tools).into());
    if let Some(level) = log_level {
        put("log_level", level.to_string().into());
    }
    if let Some(file) = stderr_file {
        put("stderr_file", file.display().to_string().into());
    }
    let mut restarts = Table::new();
    restarts.insert("max".into(), number(restart.max));
    restarts.insert("period".into(), duration_text(restart.period).into());
    restarts.insert("backoff_min".into(), duration_text(restart.backoff_min).into());
    restarts.insert("backoff_max".into(), duration_text(restart.backoff_max).into());
    put("restart", restarts.into());
    if let Some(filter) = tools {
        let (allow, deny) = filter.written();
        let both = [("allow", allow), ("deny", deny)];
        put(
            "tools",
            both.map(|(key, names)| (key.to_owned(), Value::from(names.to_vec())))
                .into_iter()
                .collect::<Table>()
                .into(),
        );
    }
    toml::to_string_pretty(&table).unwrap_or_default()
}

fn remote_keys(remote: &RemoteConfig, put: &mut impl FnMut(&str, Value)) {
    let RemoteConfig { url: _, transport, headers, forward_headers, auth, tls, proxy } = remote;
    put("url", remote.url_shown().into());
    let transport = match transport {
        Transport::Auto => "auto",
        Transport::StreamableHttp => "streamable-http",
        Transport::Sse => "sse",
    };
    put("transport", transport.into());
    put("headers", masked(headers));
    put("forward_headers", forward_headers.clone().into());
    // What is in it is secret, or names who we are; what kind it is, is enough.
    let kind = match auth {
        Auth::Auto => "auto",
        Auth::OAuth(_) => "oauth",
        Auth::ClientCredentials(_) => "client_credentials",
        Auth::Basic { .. } => "basic",
        Auth::Digest { .. } => "digest",
    };
    put("auth", kind.into());
    if !tls.verify {
        put("tls", Table::from_iter([("verify".to_owned(), Value::from(false))]).into());
    }
    if proxy.is_some() {
        // A proxy's URL often has a password.
        put("proxy", MASK.into());
    }
}

fn sandbox_keys(sandbox: &super::SandboxConfig) -> Value {
    let super::SandboxConfig { read, write, memory_max, processes_max, network } = sandbox;
    let paths = |paths: &[std::path::PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let mut table = Table::new();
    read.iter().for_each(|read| drop(table.insert("read".into(), paths(read).into())));
    write.iter().for_each(|write| drop(table.insert("write".into(), paths(write).into())));
    memory_max.iter().for_each(|max| drop(table.insert("memory_max".into(), size_text(*max).into())));
    processes_max.iter().for_each(|max| drop(table.insert("processes_max".into(), number(*max))));
    table.insert("network".into(), (*network).into());
    table.into()
}

fn number(number: usize) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn tells(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLTALE.iter().any(|word| name.contains(word))
}

fn masked(values: &BTreeMap<String, Text>) -> Value {
    let show = |(name, value): (&String, &Text)| {
        let value = if tells(name) { MASK.to_owned() } else { value.to_string() };
        (name.clone(), Value::from(value))
    };
    values.iter().map(show).collect::<Table>().into()
}

/// `--token=x` keeps its name, and what follows `--token` is masked.
fn arguments(args: &[Text]) -> Vec<String> {
    let mut follows = false;
    let show = |arg: &Text| {
        let text = arg.to_string();
        let hidden = std::mem::replace(&mut follows, false);
        if hidden && !text.starts_with('-') {
            return MASK.to_owned();
        }
        match text.split_once('=') {
            Some((name, _)) if tells(name) => format!("{name}={MASK}"),
            Some(_) => text,
            None => {
                follows = text.starts_with('-') && tells(&text);
                text
            }
        }
    };
    args.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn show(text: &str) -> Table {
        let env = |name: &str| (name == "X").then(|| "from-the-environment".to_owned());
        let (config, _) = super::super::parse(text, Path::new("/"), &env).unwrap_or_else(|found| panic!("{found:?}"));
        let shown = shown(config.upstreams.values().next().unwrap());
        assert!(!shown.contains("from-the-environment") && !shown.contains("hidden"), "{shown}");
        shown.parse().unwrap()
    }

    #[test]
    fn what_is_in_effect_is_shown_and_what_is_secret_is_not() {
        let table = show(
            "[upstreams.x]\ncommand = 'run'\nargs = ['--token', 'hidden1', '--api-key=hidden2', '-v', 'plain', '${env:X}']\n\
             env = { TZ = 'UTC', A = '${env:X}', GITHUB_TOKEN = 'hidden3' }\nallow = ['ci', 'sub:me']\ntools = { deny = ['rm*'] }\n",
        );
        assert_eq!(table["args"].to_string(), r#"["--token", "***", "--api-key=***", "-v", "plain", "***"]"#);
        assert_eq!(table["env"]["TZ"].as_str(), Some("UTC"));
        assert_eq!((table["env"]["A"].as_str(), table["env"]["GITHUB_TOKEN"].as_str()), (Some(MASK), Some(MASK)));
        assert_eq!(table["allow"].to_string(), r#"["ci", "sub:me"]"#);
        assert_eq!(table["tools"]["deny"].to_string(), r#"["rm*"]"#);
        assert_eq!(table["request_timeout"].as_str(), Some("5m"));
    }

    #[test]
    fn a_remote_one_shows_no_query_and_no_credentials() {
        let table = show(
            "[upstreams.x]\nurl = 'https://a.example/mcp?k=hidden1'\nheaders = { Authorization = 'Bearer hidden2', X-Team = 'a' }\n\
             proxy = 'http://u:hidden3@p:1'\n",
        );
        assert_eq!(table["url"].as_str(), Some("https://a.example/mcp"));
        assert_eq!(table["headers"]["x-team"].as_str(), Some("a"));
        assert_eq!(table["proxy"].as_str(), Some(MASK));
        assert!(table.get("command").is_none());
    }
}
