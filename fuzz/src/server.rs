//! Who may knock: names and origins against what the URL standard makes of them, and the other headers of a request.

use std::{path::Path, sync::OnceLock};

use actix_web::{http::header, test::TestRequest};
use hubward::{
    config::{self, Bind, HubConfig},
    server::{
        address,
        guard::{accepts, admit, host_allowed, json_body, origin_allowed},
        path::{Leaf, resolve},
    },
};
use url::{Host, Url};

use super::chosen;

/// A hub as it comes, one with names of its own, one in the network, and one that pages of any origin may use.
fn hubs() -> &'static [HubConfig; 4] {
    static HUBS: OnceLock<[HubConfig; 4]> = OnceLock::new();
    HUBS.get_or_init(|| {
        let hub = |text: &str| {
            let text = format!("[hub]\n{text}\n[upstreams.x]\ncommand = 'x'\n");
            config::parse(&text, Path::new("/"), &|_| None).expect("a good file").0.hub
        };
        let own = "public_url = 'https://mcp.example.com:8443/x'\nallowed_hosts = ['hub.lan', 'box:8443', '10.0.0.7']\n\
                   allowed_origins = ['https://good.example', 'http://good.example:81']";
        let mut wide = hub("");
        wide.bind = vec![Bind::tcp("0.0.0.0", 80), Bind::tcp("fd00::7", 8808)];
        [hub(""), hub(own), wide, hub("allowed_origins = ['any']")]
    })
}

/// Is this host one that the hub of this number may be called by?
fn is_ours(hub: usize, host: Option<Host<&str>>, port: u16) -> bool {
    match host {
        Some(Host::Ipv4(address)) => address.is_loopback() || (hub == 1 && address.octets() == [10, 0, 0, 7]),
        Some(Host::Ipv6(address)) => address.is_loopback() || (hub == 2 && address.to_string() == "fd00::7"),
        Some(Host::Domain("localhost")) => true,
        Some(Host::Domain("mcp.example.com" | "hub.lan")) => hub == 1,
        Some(Host::Domain("box")) => hub == 1 && port == 8443,
        _ => false,
    }
}

/// No name and no origin gets in that is not ours by the URL standard too (T1).
pub fn guard(data: &[u8]) {
    let Some(([hub], text)) = chosen(data) else { return };
    let hub = hub % 4;
    let Ok(text) = std::str::from_utf8(text) else { return };
    let config = &hubs()[hub];
    let (host, origin) = text.split_once('\n').unwrap_or((text, text));
    if host_allowed(host, config) {
        let url = Url::parse(&format!("http://{host}/")).unwrap_or_else(|error| panic!("{host:?}: {error}"));
        assert!(is_ours(hub, url.host(), url.port_or_known_default().unwrap()), "{host:?}");
        assert!(url.username().is_empty() && url.password().is_none() && url.path() == "/", "{host:?}");
        assert!(host_allowed(&host.to_ascii_uppercase(), config), "a name has no case: {host}");
    }
    if origin_allowed(origin, config) && hub != 3 {
        let url = Url::parse(origin).unwrap_or_else(|error| panic!("{origin:?}: {error}"));
        let serialized = url.origin().ascii_serialization();
        let (host, port) = (url.host(), url.port_or_known_default().unwrap());
        let loopback = is_ours(0, url.host(), port) && matches!(url.scheme(), "http" | "https");
        let good = match hub {
            0 => loopback,
            1 => {
                let named = ["https://good.example", "http://good.example:81", "https://mcp.example.com:8443"];
                loopback || named.contains(&serialized.as_str())
            }
            // What listens in the network trusts no page of this machine.
            _ => {
                matches!(host, Some(Host::Ipv6(address)) if address.to_string() == "fd00::7" && port == 8808)
                    || matches!(host, Some(Host::Ipv4(address)) if address.is_unspecified() && port == 80)
            }
        };
        assert!(good, "{hub} {origin:?}");
        assert!(url.username().is_empty() && url.path() == "/" && url.query().is_none(), "{origin:?}");
    }
    let with =
        |name: header::HeaderName, value: &str| header::HeaderValue::from_str(value).ok().map(|value| (name, value));
    if let (Some(host_header), Some(origin_header)) = (with(header::HOST, host), with(header::ORIGIN, origin)) {
        let request = TestRequest::default().insert_header(host_header).insert_header(origin_header).to_http_request();
        let admitted = admit(&request, config).is_ok();
        assert_eq!(admitted, host_allowed(host, config) && origin_allowed(origin, config), "{host:?} {origin:?}");
    }
}

/// Content types, `Accept` and paths: only what is said is taken, and a path has one spelling.
pub fn head(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (kind, accept, path) = (lines.next().unwrap_or_default(), lines.next(), lines.next().unwrap_or_default());
    let mut request = TestRequest::default();
    if let Ok(value) = header::HeaderValue::from_str(kind) {
        request = request.insert_header((header::CONTENT_TYPE, value));
    }
    let accept = accept.and_then(|accept| header::HeaderValue::from_str(accept).ok());
    if let Some(value) = accept.clone() {
        request = request.insert_header((header::ACCEPT, value));
    }
    let request = request.to_http_request();
    if json_body(&request).is_ok() {
        let lower = kind.to_ascii_lowercase();
        let rest = lower.trim_start().strip_prefix("application/json").expect("only JSON is JSON").trim_start();
        assert!(rest.is_empty() || rest.starts_with(';'), "{kind:?}");
        let mut params = rest.split(';').map(|param| param.replace([' ', '\t', '"'], ""));
        assert!(!params.any(|param| ["charset=utf-16", "charset=latin1"].contains(&param.as_str())), "{kind:?}");
    }
    let takes = accepts(&request);
    if let Some(accept) = accept.as_ref().and_then(|accept| accept.to_str().ok()) {
        let lower = accept.to_ascii_lowercase();
        let names = |words: [&str; 3]| words.iter().any(|word| lower.contains(word));
        assert!(!takes.json || names(["*/*", "application/*", "application/json"]), "{accept:?}");
        assert!(!takes.events || names(["*/*", "text/*", "text/event-stream"]), "{accept:?}");
    } else {
        assert!(takes.json && takes.events);
    }
    let hub = HubConfig { prefixes: vec!["".to_owned(), "/a/b".to_owned()], ..HubConfig::default() };
    if let Some(target) = resolve(path, &hub) {
        let leaf = match target.leaf {
            Leaf::Mcp => "mcp",
            Leaf::Sse => "sse",
            Leaf::Message => "message",
        };
        let spelled = format!("{}/{leaf}", target.base);
        assert!(path == spelled || path.strip_suffix('/') == Some(&spelled), "{path:?}");
        assert_eq!(target.path, spelled, "{path:?}");
        let name = target.name.map(|name| format!("/{name}")).unwrap_or_default();
        assert!(hub.prefixes.iter().any(|prefix| format!("{prefix}{name}") == target.base), "{path:?}");
        assert!(target.name.is_none_or(|name| !name.is_empty() && !name.contains('/')), "{path:?}");
    }
}

/// Where a request comes from: what stands to the left of the first stranger changes nothing, and who is no trusted proxy
/// is believed nothing.
pub fn hops(data: &[u8]) {
    let Some(([way], text)) = chosen(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let config = "[hub]\ntrusted_proxies = ['10.0.0.0/8', 'fd00::/8']\n[upstreams.x]\ncommand = 'x'\n";
    let trusted = config::parse(config, Path::new("/"), &|_| None).expect("a good file").0.hub.trusted_proxies;
    let name = if way % 2 == 0 { "x-forwarded-for" } else { "forwarded" };
    let of = |peer: &str, text: String| {
        let value = header::HeaderValue::from_str(&text).ok()?;
        let peer = std::net::SocketAddr::new(peer.parse().expect("an address"), 1);
        address::of(&TestRequest::default().peer_addr(peer).insert_header((name, value)).to_http_request(), &trusted)
    };
    let Some(client) = of("10.0.0.1", text.to_owned()) else { return };
    for lie in ["6.6.6.6", "for=6.6.6.6", "10.6.6.6", "\"", "for=\"[::1]"] {
        if !trusted.iter().any(|network| network.contains(client)) {
            assert_eq!(of("10.0.0.1", format!("{lie}, {text}")), Some(client), "{lie}");
        }
        assert_eq!(of("7.7.7.7", format!("{lie}, {text}")), "7.7.7.7".parse().ok(), "{lie}");
    }
}
