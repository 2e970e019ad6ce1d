//! From what was seen to what it means, and what to type next. Pure: no I/O, no clock.

#[cfg(test)]
mod tests;
mod way;

use std::time::Duration;

use self::way::{is_here, name, tcp, tls};
use super::seen::{Answer, Metadata, Seen, Shown, Stream};

/// A stream whose first byte takes longer is held back by somebody.
pub const PROMPT: Duration = Duration::from_secs(2);
/// Days before its end at which a certificate is worth a word.
const DAYS: i64 = 14;
const DAY: i64 = 24 * 3600;

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One step of the way, what was seen there, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub step: &'static str,
    pub verdict: Verdict,
    pub seen: String,
    pub next: Option<String>,
}

impl Finding {
    pub fn ok(step: &'static str, seen: impl Into<String>) -> Finding {
        Finding { step, verdict: Verdict::Ok, seen: seen.into(), next: None }
    }

    pub fn warn(step: &'static str, seen: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { step, verdict: Verdict::Warn, seen: seen.into(), next: Some(next.into()) }
    }

    pub fn fail(step: &'static str, seen: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { step, verdict: Verdict::Fail, seen: seen.into(), next: Some(next.into()) }
    }
}

/// Everything that can be said of it, in the order of the way to the server.
pub fn judge(seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(name(seen));
    found.extend(tcp(seen));
    found.extend(tls(seen));
    found.extend(http(seen));
    found.extend(host(seen));
    found.extend(origin(seen));
    found.extend(cors(seen));
    found.extend(metadata(seen));
    found.extend(auth(seen));
    found.extend(stream(seen));
    found.extend(era(seen));
    found.extend(tools(seen));
    found
}

fn http(seen: &Seen) -> Option<Finding> {
    let answer = match seen.answer.as_ref()? {
        Ok(answer) => answer,
        Err(why) => {
            let next = match seen.secure {
                true => "is it an HTTP server that listens there?".into(),
                false => format!("if it speaks TLS: {}", seen.url.replacen("http://", "https://", 1)),
            };
            return Some(Finding::fail("http", format!("no answer to a POST: {why}"), next));
        }
    };
    let told = format!("{} {} after {} ms", answer.version, answer.status, answer.after.as_millis());
    let fail = |seen: String, next: &str| Some(Finding::fail("http", seen, next));
    match answer.status {
        _ if answer.is_mcp => Some(Finding::ok("http", told)),
        _ if seen.older => Some(Finding::ok("http", format!("{told}; it speaks HTTP+SSE, an older transport"))),
        // These are for the steps that follow.
        401 => Some(Finding::ok("http", told)),
        403 if answer.text.contains("Host") || answer.text.contains("Origin") => Some(Finding::ok("http", told)),
        403 => fail(
            format!("{told}: {}", answer.text),
            "the credentials are good for something else: see `allow` of the upstream, or the token's scopes",
        ),
        300..=399 => {
            let to = answer.location.as_deref().unwrap_or("nowhere");
            fail(format!("{told}, which leads to {to}"), "give clients that URL: many follow no redirect of a POST")
        }
        404 if seen.hub => fail(
            format!("{told}: no upstream is mounted at {}", seen.path),
            "the path is /NAME/mcp; `hubward status` and the page at / show the names, `prefixes` in [hub] what stands before them",
        ),
        404 => fail(format!("{told}: nothing is at {}", seen.path), "is the path right? It often ends with /mcp"),
        405 => {
            fail(format!("{told}: nobody takes a POST at {}", seen.path), "is the path right? It often ends with /mcp")
        }
        429 => fail(format!("{told}: {}", answer.text), "too many requests came from here; wait a minute"),
        502..=504 if !seen.hub => fail(
            format!("{told}: {}", answer.text),
            "what stands in front answers, and does not reach the server behind it: look there",
        ),
        500..=599 => {
            fail(format!("{told}: {}", answer.text), "the server's log says why: `hubward status`, `hubward logs`")
        }
        200..=299 => fail(
            format!("{told}, and no answer of MCP: {}", answer.text),
            "something else serves that path; is the URL right?",
        ),
        _ => fail(
            format!("{told}: {}", answer.text),
            "the server refuses what every client begins with; is it an MCP server?",
        ),
    }
}

fn host(seen: &Seen) -> Option<Finding> {
    let answer = seen.answer.as_ref()?.as_ref().ok()?;
    if matches!(answer.status, 403 | 421) && answer.text.contains("Host") {
        let next =
            format!("in hub.toml: `public_url` if clients type this name, or allowed_hosts = [\"{}\"]", seen.host);
        return Some(Finding::fail(
            "host",
            format!("the server does not serve the name {}: {}", seen.host, answer.text),
            next,
        ));
    }
    Some(match seen.foreign_host? {
        status @ (400..=499) if status != 401 => Finding::ok("host", format!("a foreign Host is refused ({status})")),
        status if is_here(seen) => Finding::warn(
            "host",
            format!("a foreign Host is served ({status})"),
            "a web page can reach this server by a name of its own (DNS rebinding): let the server check Host",
        ),
        status => {
            Finding::ok("host", format!("a foreign Host is served ({status}), which is harmless off this machine"))
        }
    })
}

fn origin(seen: &Seen) -> Option<Finding> {
    let foreign = seen.foreign_origin?;
    if let Some(page) = seen.pages.iter().find(|page| page.status == 403) {
        let next = format!(
            "in hub.toml: allowed_origins = [\"{}\"], or public_url where that is the server's own",
            page.origin
        );
        return Some(Finding::fail("origin", format!("pages of {} are refused (403)", page.origin), next));
    }
    let pages: Vec<&str> = seen.pages.iter().map(|page| page.origin.as_str()).collect();
    Some(match foreign {
        403 => Finding::ok("origin", format!("pages of strangers are refused, those of {} are not", pages.join(", "))),
        // Who has to show a token is not called by a page that has none.
        401 => Finding::ok("origin", "pages of strangers get nowhere without a token (401)"),
        _ => Finding::warn(
            "origin",
            format!("pages of any site may call it ({foreign})"),
            "name those that may: allowed_origins in [hub], without \"any\"",
        ),
    })
}

fn cors(seen: &Seen) -> Option<Finding> {
    let page = seen.pages.iter().find(|page| page.status != 403)?;
    let answer = seen.answer.as_ref()?.as_ref().ok()?;
    if !(answer.is_mcp || seen.older || answer.status == 401) {
        return None;
    }
    let allowed = (200..300).contains(&page.preflight)
        && page.allows.as_deref().is_some_and(|allows| allows == "*" || allows.eq_ignore_ascii_case(&page.origin));
    Some(match allowed {
        true => Finding::ok("cors", format!("a page of {} may ask and read ({})", page.origin, page.preflight)),
        false => Finding::warn(
            "cors",
            format!("a page of {} gets no permission (preflight: {})", page.origin, page.preflight),
            "only web pages need it; in hub.toml: allowed_origins; a proxy in front has to pass OPTIONS on",
        ),
    })
}

fn metadata(seen: &Seen) -> Option<Finding> {
    let Metadata { status, resource, issuers, issuer_error } = seen.metadata.as_ref()?;
    let wanted = seen.answer.as_ref()?.as_ref().ok()?.status == 401;
    let names = || issuers.join(", ");
    Some(match (status, resource) {
        (200, Some(resource)) if !same(resource, &seen.url) => Finding::fail(
            "metadata",
            format!("they are about {resource}, and clients asked for {}", seen.url),
            "clients refuse that: give them this URL, or set `public_url` in [hub] to what they type",
        ),
        (200, Some(_)) => match issuer_error {
            _ if issuers.is_empty() => Finding::fail(
                "metadata",
                "they name no authorization server",
                "the server has to say who issues tokens (RFC 9728)",
            ),
            Some(why) => Finding::fail(
                "metadata",
                format!("the authorization server {} cannot be asked: {why}", issuers[0]),
                "clients ask it too: it has to be reachable from where they are",
            ),
            None => Finding::ok("metadata", format!("tokens are issued by {}", names())),
        },
        (200, None) => Finding::fail(
            "metadata",
            "what is there is no metadata (RFC 9728)",
            "something else answers at /.well-known/oauth-protected-resource: see that a proxy passes it on",
        ),
        (status, _) if wanted => {
            Finding::ok("metadata", format!("none ({status}): no client will find a login by itself"))
        }
        (status, _) => Finding::ok("metadata", format!("none ({status}), and none needed")),
    })
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/').eq_ignore_ascii_case(other.trim_end_matches('/'))
}

fn auth(seen: &Seen) -> Option<Finding> {
    let answer = seen.answer.as_ref()?.as_ref().ok()?;
    if answer.status != 401 {
        let told = if !seen.credentialed { "nobody is asked who they are" } else { "the credentials are taken" };
        return (answer.is_mcp || seen.older).then(|| Finding::ok("auth", told));
    }
    Some(asked(seen, answer))
}

fn asked(seen: &Seen, answer: &Answer) -> Finding {
    let issuer = seen.metadata.as_ref().is_some_and(|metadata| !metadata.issuers.is_empty());
    let bearer = answer.challenges.iter().find(|challenge| challenge.scheme == "bearer");
    let wrong = bearer.and_then(|challenge| challenge.error.as_deref());
    let url = &seen.url;
    if issuer || bearer.is_some_and(|challenge| challenge.metadata.is_some()) {
        return Finding::fail("auth", "a login is asked for (401, OAuth)", format!("hubward auth login {url}"));
    }
    if seen.credentialed {
        let told =
            format!("the credentials are refused (401{})", wrong.map(|wrong| format!(", {wrong}")).unwrap_or_default());
        return Finding::fail(
            "auth",
            told,
            "is the token complete, and still good? `hubward token list` shows those of a hub",
        );
    }
    match answer.challenges.iter().map(|challenge| challenge.scheme.as_str()).find(|scheme| *scheme != "bearer") {
        Some(scheme) if bearer.is_none() => {
            let next = "in hub.toml: auth = { basic = { username, password } }, or digest";
            Finding::fail("auth", format!("a password is asked for (401, {scheme})"), next)
        }
        _ => Finding::fail(
            "auth",
            "a token is asked for (401)",
            format!(
                "hubward doctor {url} -H 'Authorization: Bearer TOKEN'; `hubward token new NAME` makes one for a hub"
            ),
        ),
    }
}

fn stream(seen: &Seen) -> Option<Finding> {
    let held = "something in between holds event streams back";
    let next = "switch buffering off there for text/event-stream: nginx `proxy_buffering off;`, Apache `flushpackets=on`, no compression of it; and let a stream be silent for 30 s";
    Some(match seen.stream.as_ref()? {
        Stream::None(status) => Finding::ok("stream", format!("no stream is offered ({status}): nothing to hold back")),
        Stream::Nothing(watched) => {
            Finding::fail("stream", format!("no head of a stream within {} s: {held}", watched.as_secs()), next)
        }
        Stream::Open { first: Some(first), .. } if *first > PROMPT => {
            Finding::warn("stream", format!("the first byte of a stream took {} ms: {held}", first.as_millis()), next)
        }
        Stream::Open { first: Some(first), .. } => {
            Finding::ok("stream", format!("the first byte of a stream came after {} ms", first.as_millis()))
        }
        Stream::Open { first: None, watched, .. } if seen.hub => Finding::fail(
            "stream",
            format!("a stream opened, and no byte of it came in {} s: {held}", watched.as_secs()),
            next,
        ),
        Stream::Open { first: None, head, .. } => {
            Finding::ok("stream", format!("a stream opened after {} ms, and is silent so far", head.as_millis()))
        }
    })
}

fn era(seen: &Seen) -> Option<Finding> {
    let legacy = seen.legacy.as_ref().map(|revision| format!("initialize: {revision}"));
    let modern = seen.modern.as_ref().map(|all| format!("server/discover: {}", all.join(", ")));
    let older = seen.older.then(|| "HTTP+SSE".to_owned());
    let all: Vec<String> = [older, legacy, modern].into_iter().flatten().collect();
    let answered = seen.answer.as_ref()?.as_ref().ok()?;
    match all.is_empty() {
        false => Some(Finding::ok("era", all.join("; "))),
        true if answered.is_mcp => {
            let next = "`hubward raw URL` shows what it answers";
            Some(Finding::fail("era", format!("it settles on no revision: {}", answered.text), next))
        }
        true => None,
    }
}

fn tools(seen: &Seen) -> Option<Finding> {
    Some(match seen.greeted.as_ref()? {
        Ok(greeted) => match greeted.tools {
            Some(0) => Finding::warn(
                "tools",
                format!("{} has none for this caller", greeted.name),
                "see `tools` of the upstream, and `allow`",
            ),
            Some(count) => {
                Finding::ok("tools", format!("{} has {count}, in revision {}", greeted.name, greeted.revision))
            }
            None => Finding::ok("tools", format!("{} offers none", greeted.name)),
        },
        Err(why) => Finding::fail(
            "tools",
            format!("a client gets no further: {why}"),
            "`hubward status NAME` and `hubward logs NAME` on the hub's machine",
        ),
    })
}
