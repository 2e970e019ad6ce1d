//! Where a request comes from.
//!
//! The peer of the connection, unless that is a proxy whose word is taken: then what it says, and so on, from the last
//! hop towards the first. What stands to the left of the first stranger may be made up.

use std::net::IpAddr;

use actix_web::{HttpRequest, http::Version};

use super::tunnel::Via;
use crate::{config::Network, observe::trace::Arrival};

/// Hops that are looked at.
const HOPS_MAX: usize = 16;

/// The address of the client, where that is known: over a unix socket it is not.
pub fn of(request: &HttpRequest, trusted: &[Network]) -> Option<IpAddr> {
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    // A tunnel's server passes on what it is told.
    let unsaid = trusted.is_empty() || Via::of(request).is_some();
    if unsaid || peer.is_some_and(|peer| !is_trusted(peer)) {
        return peer;
    }
    let texts = |name: &str| -> Vec<String> {
        let values = request.headers().get_all(name).filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|part| part.trim().to_owned()).collect()
    };
    let hops: Vec<String> = match request.headers().contains_key("forwarded") {
        true => texts("forwarded").iter().map(|hop| hop_of(hop).unwrap_or_default()).collect(),
        false => texts("x-forwarded-for"),
    };
    let mut last = peer;
    for hop in hops.iter().rev().take(HOPS_MAX) {
        let Some(address) = node(hop) else { break };
        last = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    last
}

/// How a request came, for those who trace it.
pub fn arrival(request: &HttpRequest, trusted: &[Network]) -> Arrival {
    let client = of(request, trusted);
    let peer = request.peer_addr();
    let port = peer.filter(|peer| Some(peer.ip().to_canonical()) == client).map(|peer| peer.port());
    Arrival {
        transport: if peer.is_some() { "tcp" } else { "unix" },
        http: Some(if request.version() == Version::HTTP_2 { "2" } else { "1.1" }),
        client: client.map(|client| (client, port)),
    }
}

/// The `for` of one element of `Forwarded` (RFC 7239).
fn hop_of(element: &str) -> Option<String> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut named = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for"));
    named.next().map(|(_, value)| value.trim_matches('"').to_owned())
}

/// An address, perhaps with a port.
fn node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']')?.0.parse().ok();
    }
    let address: Option<IpAddr> = text.parse().ok();
    address.or_else(|| text.rsplit_once(':')?.0.parse().ok()).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn f70_only_trusted_proxies_are_believed() {
        let check = |peer: &str, headers: &[(&'static str, &str)], expected: &str| {
            let mut request = TestRequest::default().peer_addr(format!("{peer}:1").parse().unwrap());
            for (name, value) in headers {
                request = request.append_header((*name, *value));
            }
            let config = "[hub]\ntrusted_proxies = ['10.0.0.0/8']\n[upstreams.x]\ncommand = 'x'";
            let (config, _) = crate::config::parse(config, std::path::Path::new("/"), &|_| None).unwrap();
            let found = of(&request.to_http_request(), &config.hub.trusted_proxies);
            assert_eq!(found, expected.parse().ok(), "{peer} {headers:?}");
        };
        let xff = "x-forwarded-for";
        check("1.2.3.4", &[(xff, "9.9.9.9")], "1.2.3.4");
        check("1.2.3.4", &[("forwarded", "for=9.9.9.9")], "1.2.3.4");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &[(xff, "9.9.9.9")], "9.9.9.9");
        check("10.0.0.1", &[(xff, "6.6.6.6, 9.9.9.9, 10.0.0.2")], "9.9.9.9");
        check("10.0.0.1", &[(xff, "6.6.6.6"), (xff, "9.9.9.9")], "9.9.9.9");
        check("10.0.0.1", &[("forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=https")], "2001:db8::1");
        check("10.0.0.1", &[("forwarded", "for=9.9.9.9:1234"), (xff, "6.6.6.6")], "9.9.9.9");
        check("10.0.0.1", &[("forwarded", "for=unknown")], "10.0.0.1");
        check("10.0.0.1", &[(xff, "9.9.9.9, nonsense")], "10.0.0.1");
    }
}
