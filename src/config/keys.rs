//! The keys of `hub.toml`: which there are, which will be, and which was probably meant.

/// A table of the file, for the words of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Root,
    Hub,
    Access,
    Token,
    Jwt,
    Forward,
    Limits,
    Rate,
    Log,
    Audit,
    Defaults,
    Upstream,
    Restart,
    Auth,
    OAuth,
    ClientCredentials,
    User,
    UpstreamTls,
    Tools,
    Sandbox,
    HubTls,
}

use Section::*;

const SECTIONS: [Section; 20] = [
    Root,
    Hub,
    Access,
    Token,
    Jwt,
    Forward,
    Limits,
    Rate,
    Log,
    Audit,
    Upstream,
    Restart,
    Auth,
    OAuth,
    ClientCredentials,
    User,
    UpstreamTls,
    Tools,
    Sandbox,
    HubTls,
];

impl Section {
    /// What can be written here.
    pub(super) fn known(self) -> &'static [&'static str] {
        match self {
            Root => &["hub", "defaults", "upstreams"],
            Hub => &[
                "bind",
                "public_url",
                "tls",
                "prefixes",
                "default",
                "mcp_path",
                "sse_path",
                "transports",
                "stateless",
                "allowed_hosts",
                "allowed_origins",
                "allowed_headers",
                "exposed_headers",
                "auth",
                "trusted_proxies",
                "admin_socket",
                "drain_delay",
                "drain_timeout",
                "keep_alive",
                "generation_header",
                "workers",
                "limits",
                "log",
            ],
            Limits => &[
                "body_bytes_max",
                "message_bytes_max",
                "sessions_max",
                "session_idle_timeout",
                "replay_events_max",
                "replay_bytes_max",
                "calls_in_flight_max",
                "connections_max",
                "streams_max",
                "queue_max",
                "answer_timeout",
                "starts_max",
                "rate",
                "principal_calls_max",
                "principal_sessions_max",
                "principal_streams_max",
            ],
            Access => &["allow_unauthenticated", "tokens", "jwt", "forward"],
            Token => &["name", "sha256", "secret", "upstreams"],
            Jwt => &["issuer", "audience", "jwks_url", "scopes", "algorithms"],
            Forward => &["url", "user_header"],
            Rate => &["per_second", "burst"],
            Log => &["level", "format", "audit"],
            Audit => &["path", "on_failure"],
            Defaults | Upstream => &[
                "enabled",
                "required",
                "command",
                "args",
                "env",
                "inherit_env",
                "cwd",
                "isolation",
                "start",
                "process_max",
                "start_timeout",
                "request_timeout",
                "idle_timeout",
                "stop_timeout",
                "overlap",
                "era",
                "strict_stdout",
                "expose_errors",
                "restart",
                "allow",
                "sandbox",
                "url",
                "transport",
                "headers",
                "forward_headers",
                "auth",
                "tls",
                "proxy",
                "tools",
                "pin_tools",
                "log_level",
                "stderr_file",
            ],
            Restart => &["max", "period", "backoff_min", "backoff_max"],
            Auth => &["oauth", "client_credentials", "basic", "digest"],
            OAuth => &["client_id", "client_secret", "client_metadata_url", "scopes"],
            ClientCredentials => &["token_url", "client_id", "client_secret", "private_key", "scopes"],
            User => &["username", "password"],
            UpstreamTls => &["ca", "cert", "key", "verify"],
            Tools => &["allow", "deny"],
            Sandbox => &["read", "write", "memory_max", "processes_max", "network"],
            HubTls => &["cert", "key", "client_ca"],
        }
    }

    /// What has a meaning already, and no code yet.
    pub(super) fn later(self) -> &'static [&'static str] {
        match self {
            Defaults | Upstream => &["extensions"],
            _ => &[],
        }
    }

    /// The table that is called so.
    pub(super) fn titled(title: &str) -> Option<Self> {
        SECTIONS.into_iter().chain([Defaults]).find(|section| section.title() == title)
    }

    /// How the table is called where a key of it is expected.
    pub(super) fn title(self) -> &'static str {
        match self {
            Root => "the file",
            Hub => "[hub]",
            Access => "[hub.auth]",
            Token => "a token",
            Jwt => "jwt",
            Forward => "forward",
            Limits => "[hub.limits]",
            Rate => "rate",
            Log => "[hub.log]",
            Audit => "audit",
            Defaults => "[defaults]",
            Upstream => "an upstream",
            Restart => "restart",
            Auth => "auth",
            OAuth => "auth.oauth",
            ClientCredentials => "auth.client_credentials",
            User => "basic or digest",
            UpstreamTls => "an upstream's tls",
            Tools => "tools",
            Sandbox => "sandbox",
            HubTls => "hub.tls",
        }
    }
}

/// What other programs call our keys.
const ELSEWHERE: [(&str, &str); 20] = [
    ("mcpServers", "upstreams"),
    ("mcp_servers", "upstreams"),
    ("servers", "upstreams"),
    ("upstream", "upstreams"),
    ("listen", "bind"),
    ("address", "bind"),
    ("host", "bind"),
    ("port", "bind"),
    ("threads", "workers"),
    ("cmd", "command"),
    ("arguments", "args"),
    ("environment", "env"),
    ("directory", "cwd"),
    ("working_dir", "cwd"),
    ("timeout", "request_timeout"),
    ("disabled", "enabled"),
    ("autostart", "start"),
    ("serverUrl", "url"),
    ("httpUrl", "url"),
    ("http_headers", "headers"),
];

/// The help line for an unknown key.
pub(super) fn help(key: &str, section: Section) -> String {
    let known = section.known();
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(theirs, ours)| *theirs == key && known.contains(ours)) {
        return format!("here it is called `{ours}`");
    }
    if let Some(near) = nearest(key, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    // The right key in the wrong table: a forgotten header is the usual cause.
    let mut homes = SECTIONS.iter().filter(|s| **s != section && s.known().contains(&key));
    if let Some(home) = homes.next() {
        return format!("`{key}` belongs into {}", home.title());
    }
    format!("{} takes {}", section.title(), listed(known))
}

/// `a`, `b` and `c`.
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The word that was probably meant, if one is near enough.
pub fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (word.chars().count() / 3).max(1);
    let begins = |long: &str, short: &str| short.len() >= 3 && long.starts_with(short);
    words
        .map(|candidate| match begins(candidate, word) || begins(word, candidate) {
            true => (bound.min(distance(word, candidate)), candidate),
            false => (distance(word, candidate), candidate),
        })
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: a letter put in, left out, changed, or two neighbours swapped. `-` and `_` and case are
/// not edits: they are habits.
fn distance(a: &str, b: &str) -> usize {
    let letters = |s: &str| -> Vec<char> {
        s.chars().take(64).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        let check = |key: &str, section, expected: &str| assert_eq!(help(key, section), expected, "{key}");
        check("arg", Upstream, "did you mean `args`?");
        check("agrs", Upstream, "did you mean `args`?");
        check("request-timeout", Upstream, "did you mean `request_timeout`?");
        check("Command", Upstream, "did you mean `command`?");
        check("mcpServers", Root, "here it is called `upstreams`");
        check("timeout", Defaults, "here it is called `request_timeout`");
        check("sessions", Limits, "did you mean `sessions_max`?");
        check("maximum", Restart, "did you mean `max`?");
        check("bind", Root, "`bind` belongs into [hub]");
        check("command", Hub, "`command` belongs into an upstream");
        check("zzzzzz", Log, "[hub.log] takes `level`, `format` and `audit`");
    }

    #[test]
    fn the_starter_shows_every_key() {
        let starter = include_str!("../../hub.toml");
        for section in SECTIONS {
            for key in section.known() {
                let shown = [format!("{key} = "), format!("[{key}]"), format!(".{key}]"), format!("[{key}.")];
                assert!(shown.iter().any(|form| starter.contains(form)), "{key} of {}", section.title());
            }
        }
    }

    #[test]
    fn distances() {
        let check = |a, b, expected| assert_eq!(distance(a, b), expected, "{a} {b}");
        check("", "", 0);
        check("", "abc", 3);
        check("abc", "acb", 1);
        check("kitten", "sitting", 3);
        check("A-b", "a_b", 0);
    }
}
