//! Who may knock: Host, Origin, sizes, content types. Cheap refusals first.

mod body;

use std::net::IpAddr;

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderValue},
};

pub use self::body::body;
use super::{rescue::Refusal, tunnel::Via};
use crate::config::HubConfig;

/// Refuses names and origins that are not ours, on every verb: a web page that was made to resolve to this
/// machine sends its own name (2025-11-25, basic/transports, security warning).
pub fn admit(request: &HttpRequest, config: &HubConfig) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(header::HOST);
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        // HTTP/2 has the authority in its place.
        (None, _) => request.uri().authority().map(|authority| authority.as_str()).unwrap_or_default(),
        _ => return Err(Refusal::Host("two hosts".into())),
    };
    let ours = |host: &str| match Via::of(request) {
        Some(via) => is_named(host, config) || split(host).is_some_and(|(host, _)| via.is_named(host)),
        None => host_allowed(host, config),
    };
    if !ours(host) {
        return Err(Refusal::Host(printable(host)));
    }
    // An absolute request target names a host too.
    if let Some(authority) = request.uri().authority().filter(|authority| !ours(authority.as_str())) {
        return Err(Refusal::Host(printable(authority.as_str())));
    }
    match request.headers().get(header::ORIGIN) {
        Some(origin) if allowed_origin(request, config).is_none() => {
            Err(Refusal::Origin(printable(&String::from_utf8_lossy(origin.as_bytes()))))
        }
        _ => Ok(()),
    }
}

/// A page of another site that is not allowed here may not make a browser ask, even where it cannot read the answer.
pub fn same_site(request: &HttpRequest) -> Result<(), Refusal> {
    let said = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    // One of an allowed origin says so, and was looked at.
    let foreign = said("sec-fetch-site") == Some("cross-site") && said("origin").is_none();
    match foreign && said("sec-fetch-mode") != Some("navigate") {
        true => Err(Refusal::Origin("of another site".into())),
        false => Ok(()),
    }
}

/// The origin of the page that calls, if there is one and it may.
pub fn allowed_origin<'a>(request: &'a HttpRequest, config: &HubConfig) -> Option<&'a header::HeaderValue> {
    let mut origins = request.headers().get_all(header::ORIGIN);
    match (origins.next(), origins.next()) {
        (Some(origin), None) => {
            let text = origin.to_str().unwrap_or_default();
            let own = Via::of(request).is_some_and(|via| via.is_origin(text));
            (own || origin_allowed(text, config)).then_some(origin)
        }
        _ => None,
    }
}

/// Is this `host[:port]` one of our names?
pub fn host_allowed(text: &str, config: &HubConfig) -> bool {
    let Some((host, _)) = split(text) else { return false };
    let mut bound = config.bind.iter().map(|bind| bind.host.trim_matches(['[', ']'])).filter(|host| !is_wildcard(host));
    is_loopback_name(host) || bound.any(|name| name.eq_ignore_ascii_case(host)) || is_named(text, config)
}

/// Is this a name that was given to us, by which others call us wherever they are?
fn is_named(text: &str, config: &HubConfig) -> bool {
    let Some((host, port)) = split(text) else { return false };
    let public = config.public_url.as_ref().and_then(|url| url.host_str()).map(|host| host.trim_matches(['[', ']']));
    public.is_some_and(|name| name.eq_ignore_ascii_case(host))
        || config
            .allowed_hosts
            .iter()
            .filter_map(|allowed| split(allowed))
            .any(|(name, wanted)| name.eq_ignore_ascii_case(host) && (wanted.is_none() || wanted == port))
}

/// May pages of this origin call us?
pub fn origin_allowed(origin: &str, config: &HubConfig) -> bool {
    if config.allowed_origins.iter().any(|allowed| allowed == "any" || allowed.eq_ignore_ascii_case(origin)) {
        return origin != "null" || config.allowed_origins.iter().any(|allowed| allowed == "any");
    }
    if config.public_url.as_ref().is_some_and(|url| url.origin().ascii_serialization() == origin.to_ascii_lowercase()) {
        return true;
    }
    let Some((scheme @ ("http" | "https"), rest)) = origin.split_once("://") else { return false };
    let Some((host, port)) = split(rest) else { return false };
    if config.bind.iter().all(|bind| bind.is_loopback()) {
        return is_loopback_name(host);
    }
    // The hub's own pages.
    let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
    config.bind.iter().any(|bind| bind.port == port && bind.host.trim_matches(['[', ']']).eq_ignore_ascii_case(host))
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; nothing else: no user, no path, no other spelling of an address.
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    match port {
        None => Some((host, None)),
        Some(port) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok()?)))
        }
        Some(_) => None,
    }
}

fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// What a stranger sent, fit for an error message.
fn printable(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_default).collect()
}

/// Only JSON is read as JSON: a form that a page posts across sites comes as `text/plain` (F46, F64).
pub fn json_body(request: &HttpRequest) -> Result<(), Refusal> {
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::ContentEncoding);
    }
    let text = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.filter_map(|part| part.split_once('=')).all(|(name, value)| {
        !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if json && utf8 { Ok(()) } else { Err(Refusal::ContentType) }
}

/// What the client takes for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepts {
    pub json: bool,
    pub events: bool,
}

/// Reads `Accept`. A client without one, or with `*/*`, takes anything.
pub fn accepts(request: &HttpRequest) -> Accepts {
    // As every client writes it.
    let usual = |value: &HeaderValue| value == "application/json, text/event-stream";
    if request.headers().get(header::ACCEPT).is_some_and(usual) {
        return Accepts { json: true, events: true };
    }
    let mut texts = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok()).peekable();
    if texts.peek().is_none() {
        return Accepts { json: true, events: true };
    }
    let mut accepts = Accepts { json: false, events: false };
    for range in texts.flat_map(|text| text.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let refused =
            parts.any(|part| matches!(part.replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let is = |names: [&str; 3]| names.iter().any(|name| kind.eq_ignore_ascii_case(name));
        let json = is(["application/json", "application/*", "*/*"]);
        let events = is(["text/event-stream", "text/*", "*/*"]);
        accepts.json |= json && !refused;
        accepts.events |= events && !refused;
    }
    accepts
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::config::Config;

    fn config(text: &str) -> HubConfig {
        let text = format!("[hub]\n{text}\n[upstreams.x]\ncommand = 'x'\n");
        let parsed = crate::config::parse(&text, std::path::Path::new("/"), &|_| None);
        let (Config { hub, .. }, _) = parsed.unwrap_or_else(|errors| panic!("{errors:?}"));
        hub
    }

    #[test]
    fn f59_only_our_own_names_are_served() {
        let plain = config("");
        let own = config("public_url = 'https://mcp.example.com'\nallowed_hosts = ['hub.lan', 'box:8443']");
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8808", "127.9.9.9", "[::1]", "[::1]:80"] {
            assert!(host_allowed(host, &plain), "{host}");
        }
        for host in ["mcp.example.com", "mcp.example.com:443", "hub.lan:9", "box:8443"] {
            assert!(host_allowed(host, &own) && !host_allowed(host, &plain), "{host}");
        }
        let foreign = [
            "",
            "evil.example",
            "localhost.",
            "localhost.evil.example",
            "127.1",
            "0.0.0.0",
            "2130706433",
            "0x7f.1",
            "user@localhost",
            "localhost:",
            "localhost:x",
            "localhost:99999",
            "[::1",
            "::1",
            "[127.0.0.1]",
            "[::1]x",
            "localhost/",
            "localhost, evil.example",
            "loc alhost",
            "box",
            "box:80",
            "127.0.0.1.nip.io",
        ];
        for host in foreign {
            assert!(!host_allowed(host, &own), "{host}");
        }
    }

    #[test]
    fn f60_only_our_own_origins_are_served() {
        let plain = config("");
        let own = config("public_url = 'https://mcp.example.com'\nallowed_origins = ['https://good.example']");
        for origin in ["http://localhost", "http://localhost:3000", "https://127.0.0.1:1", "http://[::1]:5"] {
            assert!(origin_allowed(origin, &plain), "{origin}");
        }
        for origin in ["https://good.example", "https://mcp.example.com"] {
            assert!(origin_allowed(origin, &own) && !origin_allowed(origin, &plain), "{origin}");
        }
        let foreign = [
            "",
            "null",
            "evil",
            "https://evil.example",
            "http://good.example",
            "https://good.example:444",
            "https://good.example.evil",
            "https://evil-good.example",
            "file://",
            "chrome-extension://x",
            "https://good.example, https://evil.example",
            "http://localhost.evil.example",
            "http://localhost@evil",
        ];
        for origin in foreign {
            assert!(!origin_allowed(origin, &own), "{origin}");
        }
        assert!(origin_allowed("https://evil.example", &config("allowed_origins = ['any']")));
    }

    #[test]
    fn f46_only_json_is_read_as_json() {
        let check =
            |kind: &str| json_body(&TestRequest::default().insert_header(("content-type", kind)).to_http_request());
        for kind in ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=\"UTF-8\""] {
            assert!(check(kind).is_ok(), "{kind}");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "", "json"]
        {
            assert!(check(kind).is_err(), "{kind}");
        }
        let gzip = TestRequest::default()
            .insert_header(("content-type", "application/json"))
            .insert_header(("content-encoding", "gzip"))
            .to_http_request();
        assert!(json_body(&gzip).is_err());
    }

    #[test]
    fn f46_accept_is_read_as_a_list() {
        let check = |accept: Option<&str>| {
            let request = TestRequest::default();
            let request = match accept {
                Some(accept) => request.insert_header(("accept", accept)),
                None => request,
            };
            let Accepts { json, events } = accepts(&request.to_http_request());
            (json, events)
        };
        assert_eq!(check(None), (true, true));
        assert_eq!(check(Some("*/*")), (true, true));
        assert_eq!(check(Some("application/json, text/event-stream")), (true, true));
        assert_eq!(check(Some("application/json")), (true, false));
        assert_eq!(check(Some("text/event-stream;q=0.5")), (false, true));
        assert_eq!(check(Some("application/json;q=0, text/html")), (false, false));
    }
}
