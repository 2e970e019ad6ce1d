//! Commands that only lead to a URL: what clients start because they cannot reach one by themselves.
//!
//! The hub can, so the bridge goes, and what it was told becomes keys of a remote upstream.

use crate::config::edit::NewAuth;

/// A remote server, as a bridge was told of it; texts as the client wrote them.
#[derive(Debug, Default)]
pub(super) struct Bridged {
    pub bridge: &'static str,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub transport: Option<&'static str>,
    pub deny: Vec<String>,
    pub auth: Option<NewAuth>,
    /// What has no counterpart here.
    pub lost: Vec<String>,
}

/// The program that a launcher runs, and its words: `npx -y mcp-remote@1 …` runs `mcp-remote`.
fn launched<'a>(command: &[&'a str]) -> Option<(&'a str, usize)> {
    let name = |word: &'a str| {
        let file = word.rsplit(['/', '\\']).next().unwrap_or(word);
        file.strip_suffix(".cmd").or(file.strip_suffix(".exe")).unwrap_or(file)
    };
    let mut at = 0;
    if command.len() > 2 && name(command[0]) == "cmd" && command[1].eq_ignore_ascii_case("/c") {
        at = 2;
    }
    let launcher = name(command.get(at)?);
    at += 1;
    match (launcher, command.get(at).copied()) {
        ("npx" | "bunx" | "uvx" | "pnpx" | "dnx", _) => {}
        ("npm", Some("exec" | "x")) | ("pnpm" | "yarn", Some("dlx" | "exec")) | ("bun", Some("x")) => at += 1,
        ("pipx", Some("run")) => at += 1,
        ("uv", Some("tool")) if command.get(at + 1) == Some(&"run") => at += 2,
        _ => return Some((launcher, at)),
    }
    while let Some(word) = command.get(at).filter(|word| word.starts_with('-')) {
        at += if matches!(*word, "-p" | "--package" | "--from" | "--python" | "--with") { 2 } else { 1 };
    }
    let package = *command.get(at)?;
    // `@scope/name@1.2` is `@scope/name`.
    let bare = package
        .char_indices()
        .find(|(at, c)| *at > 0 && (*c == '@' || *c == '='))
        .map_or(package, |(at, _)| &package[..at]);
    Some((bare, at + 1))
}

/// What a command leads to, if it is a bridge that we know and there is a URL.
pub(super) fn unwrap(command: &[String], env: &[(String, String)]) -> Option<Bridged> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let (program, from) = launched(&words)?;
    let rest = words.get(from..)?;
    let mut found = match program {
        "mcp-remote" => mcp_remote(rest),
        "supergateway" => supergateway(rest),
        "mcp-proxy" => mcp_proxy(rest, env),
        "hubward" if rest.first() == Some(&"connect") => mcp_remote(rest.get(1..)?),
        _ => return None,
    };
    found.bridge = match program {
        "mcp-remote" => "mcp-remote",
        "supergateway" => "supergateway",
        "mcp-proxy" => "mcp-proxy",
        _ => "hubward connect",
    };
    for (_, value) in &mut found.headers {
        *value = of_env(value, env);
    }
    is_url(&found.url).then_some(found)
}

fn is_url(word: &str) -> bool {
    word.starts_with("https://") || word.starts_with("http://")
}

/// `${NAME}` of the bridge's own environment: mcp-remote expands it, because a space in an argument is lost on Windows.
fn of_env(value: &str, env: &[(String, String)]) -> String {
    env.iter().fold(value.to_owned(), |value, (name, own)| value.replace(&format!("${{{name}}}"), own))
}

fn header(written: &str) -> Option<(String, String)> {
    let (name, value) = written.split_once(':')?;
    Some((name.trim().to_owned(), value.trim().to_owned()))
}

/// Flags and what follows each: `--flag value` and `--flag=value`.
struct Words<'a>(std::slice::Iter<'a, &'a str>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        let word = *self.0.next()?;
        match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => Some((flag, Some(value))),
            _ => Some((word, None)),
        }
    }

    fn value(&mut self, own: Option<&'a str>) -> &'a str {
        own.or_else(|| self.0.next().copied()).unwrap_or_default()
    }
}

fn mcp_remote(rest: &[&str]) -> Bridged {
    let (mut found, mut words) = (Bridged::default(), Words(rest.iter()));
    while let Some((word, own)) = words.next() {
        match word {
            "--header" | "-H" => match header(words.value(own)) {
                Some(pair) => found.headers.push(pair),
                None => found.lost.push("a header without a `:`".into()),
            },
            "--transport" => {
                found.transport = match words.value(own) {
                    "sse-only" => Some("sse"),
                    "http-only" => Some("streamable-http"),
                    // The others try one and then the other, as we do.
                    _ => None,
                }
            }
            "--ignore-tool" => found.deny.push(words.value(own).to_owned()),
            "--static-oauth-client-info" => {
                found.auth = oauth(words.value(own));
                if found.auth.is_none() {
                    found
                        .lost
                        .push("`--static-oauth-client-info`, which is in a file: write auth = { oauth = … }".into());
                }
            }
            "--static-oauth-client-metadata" | "--host" | "--resource" | "--auth-timeout" | "--protocol-version" => {
                words.value(own);
                found.lost.push(format!("`{word}`"));
            }
            // Of no meaning within the hub.
            "--allow-http" | "--debug" | "--silent" | "--enable-proxy" => {}
            _ if is_url(word) && found.url.is_empty() => found.url = word.to_owned(),
            // The port of its callback.
            _ if word.bytes().all(|b| b.is_ascii_digit()) => {}
            _ => found.lost.push(shown(word)),
        }
    }
    found
}

/// A flag may be named; what else there is may be anything.
fn shown(word: &str) -> String {
    if word.starts_with("--") { format!("`{word}`") } else { "an argument".into() }
}

fn oauth(json: &str) -> Option<NewAuth> {
    let info: serde_json::Value = serde_json::from_str(json).ok()?;
    let text = |key: &str| info.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let client_id = Some(text("client_id")?);
    Some(NewAuth::OAuth { client_id, client_secret: text("client_secret"), scopes: Vec::new() })
}

fn supergateway(rest: &[&str]) -> Bridged {
    let (mut found, mut words) = (Bridged::default(), Words(rest.iter()));
    while let Some((word, own)) = words.next() {
        match word {
            "--sse" => (found.url, found.transport) = (words.value(own).to_owned(), Some("sse")),
            "--streamableHttp" => {
                (found.url, found.transport) = (words.value(own).to_owned(), Some("streamable-http"));
            }
            "--header" => match header(words.value(own)) {
                Some(pair) => found.headers.push(pair),
                None => found.lost.push("a header without a `:`".into()),
            },
            "--oauth2Bearer" => {
                found.headers.push(("Authorization".into(), format!("Bearer {}", words.value(own))));
            }
            "--outputTransport" | "--logLevel" => drop(words.value(own)),
            _ => found.lost.push(shown(word)),
        }
    }
    found
}

fn mcp_proxy(rest: &[&str], env: &[(String, String)]) -> Bridged {
    let (mut found, mut words) = (Bridged::default(), Words(rest.iter()));
    let (mut id, mut secret, mut token_url) = (None, None, None);
    while let Some((word, own)) = words.next() {
        match word {
            "-H" | "--headers" => {
                let name = words.value(own).to_owned();
                found.headers.push((name, words.value(None).to_owned()));
            }
            "--transport" => {
                found.transport = match words.value(own) {
                    "sse" => Some("sse"),
                    _ => Some("streamable-http"),
                }
            }
            "--client-id" => id = Some(words.value(own).to_owned()),
            "--client-secret" => secret = Some(words.value(own).to_owned()),
            "--token-url" => token_url = Some(words.value(own).to_owned()),
            "--debug" | "--no-debug" | "--pass-environment" | "--no-pass-environment" => {}
            "--log-level" => drop(words.value(own)),
            "--no-verify-ssl" => found.lost.push("`--no-verify-ssl`: write tls = { ca = \"….pem\" }".into()),
            "--verify-ssl" => found.lost.push("`--verify-ssl`: write tls = { ca = \"….pem\" }".into()),
            _ if is_url(word) && found.url.is_empty() => found.url = word.to_owned(),
            _ => found.lost.push(shown(word)),
        }
    }
    if let (Some(client_id), Some(client_secret)) = (id, secret) {
        found.auth = Some(NewAuth::ClientCredentials { token_url, client_id, client_secret });
    }
    let bare = !found.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if let (true, Some((_, token))) = (bare, env.iter().find(|(name, _)| name == "API_ACCESS_TOKEN")) {
        found.headers.push(("Authorization".into(), format!("Bearer {token}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&str>) {
        let command: Vec<String> = line.split(' ').map(|word| word.replace('~', " ")).collect();
        let env = [("AUTH".to_owned(), "Bearer x".to_owned()), ("API_ACCESS_TOKEN".to_owned(), "y".to_owned())];
        let told = unwrap(&command, &env).map(|found| {
            format!("{} {} {:?} {:?} {:?}", found.bridge, found.url, found.headers, found.transport, found.lost)
        });
        assert_eq!(told.as_deref(), expected, "{line}");
    }

    #[test]
    fn bridges_and_what_is_none() {
        check("npx -y mcp-remote https://a.example/mcp?x=1", Some("mcp-remote https://a.example/mcp?x=1 [] None []"));
        check(
            "npx.cmd mcp-remote@0.1.2 https://a.example/sse 3334 --transport sse-only --header Authorization:${AUTH} --allow-http",
            Some(r#"mcp-remote https://a.example/sse [("Authorization", "Bearer x")] Some("sse") []"#),
        );
        check(
            "cmd /c npx mcp-remote https://a --resource z q",
            Some("mcp-remote https://a [] None [\"`--resource`\", \"an argument\"]"),
        );
        check("bunx supergateway --sse https://a/sse", Some("supergateway https://a/sse [] Some(\"sse\") []"));
        check(
            "uvx mcp-proxy --transport=streamablehttp -H X y http://a/mcp",
            Some(r#"mcp-proxy http://a/mcp [("X", "y"), ("Authorization", "Bearer y")] Some("streamable-http") []"#),
        );
        check("hubward connect https://a", Some("hubward connect https://a [] None []"));
        check("uvx mcp-proxy --port 80 uvx time", None);
        check("npx -y supergateway --stdio x", None);
        check("npx -y @scope/mcp-remote https://a", None);
        check("npx", None);
        check("docker mcp gateway run", None);
    }
}
