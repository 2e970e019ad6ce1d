//! What is asked of a tunnel server, and what its answer means. Pure.

use std::{net::IpAddr, sync::Arc};

use serde::Deserialize;
use url::{Host, Url};

use crate::wire::printable::is_plain;

/// Connections that are opened at most, whatever a server says: pipenet's takes no more of one tunnel.
const LANES_MAX: usize = 10;
/// What is shown of what a server says.
const SHOWN_MAX: usize = 200;

/// What a server promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// By which it knows us.
    pub id: String,
    /// Where others reach us, and where else.
    pub url: Url,
    pub also: Option<Url>,
    /// Where the data connections lead.
    pub host: String,
    pub port: u16,
    /// Others have theirs at the same port: each begins with the id.
    pub shared: bool,
    /// How many connections to open.
    pub lanes: usize,
}

impl Lease {
    /// With what the URLs begin.
    pub fn base(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    /// The names that others call us by.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        [Some(&self.url), self.also.as_ref()].into_iter().flatten().filter_map(Url::host_str)
    }
}

/// What comes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Open(Arc<Lease>),
    /// For good.
    Refused(String),
    /// Later it may be another.
    Again(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    id: String,
    url: String,
    port: u16,
    ip: Option<String>,
    max_conn_count: Option<usize>,
    cached_url: Option<String>,
    shared_tunnel: Option<bool>,
}

/// The URL to register at.
pub fn question(server: &Url, wanted: Option<&str>) -> Url {
    let mut url = server.clone();
    let folder = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{folder}/{}", wanted.unwrap_or_default()));
    url.set_query(wanted.is_none().then_some("new"));
    url
}

/// Reads an answer.
pub fn judge(server: &Url, wanted: Option<&str>, status: u16, body: &[u8]) -> Verdict {
    match status {
        200..=299 => promised(server, wanted, body).unwrap_or_else(|why| {
            Verdict::Again(format!("this is not how a pipenet server answers ({why}): check --tunnel-host"))
        }),
        // These say themselves that the same may be asked again.
        408 | 425 | 429 => Verdict::Again(said(status, body)),
        400..=499 => Verdict::Refused(said(status, body)),
        _ => Verdict::Again(said(status, body)),
    }
}

/// An error in the server's words.
fn said(status: u16, body: &[u8]) -> String {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let shown = |text: &str| text.chars().filter(|c| is_plain(*c)).take(SHOWN_MAX).collect::<String>();
    body["message"].as_str().map_or_else(|| format!("HTTP {status}"), |text| format!("HTTP {status}, {}", shown(text)))
}

fn promised(server: &Url, wanted: Option<&str>, body: &[u8]) -> Result<Verdict, &'static str> {
    let Reply { id, url, port, ip, max_conn_count, cached_url, shared_tunnel } =
        serde_json::from_slice(body).map_err(|_| "it is no JSON with id, url and port")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if id.is_empty() || id.len() > 63 || !id.bytes().all(plain) {
        return Err("its id is no name");
    }
    if port == 0 {
        return Err("it names no port");
    }
    let named =
        |text: &str| Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = named(&url).ok_or("its url is none")?;
    let own = server.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let url = truly(url, &id, wanted, own).ok_or("its url is none")?;
    let host = match ip.filter(|ip| !ip.is_empty()) {
        None => own.to_owned(),
        Some(ip) => leads(ip.trim_matches(['[', ']']), server).ok_or("its ip is no address that we may be sent to")?,
    };
    Ok(Verdict::Open(Arc::new(Lease {
        id,
        url,
        also: cached_url.as_deref().and_then(named),
        host,
        port,
        shared: shared_tunnel.unwrap_or(false),
        lanes: max_conn_count.unwrap_or(1).clamp(1, LANES_MAX),
    })))
}

/// The URL that leads to us: where a name was taken, servers give another one and still print the wanted one.
fn truly(mut url: Url, id: &str, wanted: Option<&str>, own: &str) -> Option<Url> {
    let host = url.host_str()?.to_owned();
    let Some((first, rest)) = host.split_once('.').filter(|_| url.domain().is_some()) else { return Some(url) };
    // The same happens to a name that it made up itself; it stands before the server's own.
    let is_name = wanted.is_some_and(|wanted| first.eq_ignore_ascii_case(wanted)) || rest.eq_ignore_ascii_case(own);
    if is_name && !first.eq_ignore_ascii_case(id) {
        url.set_host(Some(&format!("{id}.{rest}"))).ok()?;
    }
    Some(url)
}

/// An address that the server named, if it may send us there: not to this machine or its neighbours on the wire, unless
/// it is here itself.
fn leads(ip: &str, server: &Url) -> Option<String> {
    let address: IpAddr = ip.parse().ok()?;
    let inside = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_unspecified() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast(),
    };
    let here = match server.host()? {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    (here || !inside(address)).then(|| address.to_string())
}

#[cfg(test)]
mod tests;
