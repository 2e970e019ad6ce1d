//! The door: what a request shows becomes a principal, and a refusal says with what to come back.
//!
//! Nobody is remembered: each request shows its credentials in its headers (2026-07-28, basic/authorization). A token in
//! a query or a path is no credential, for those are written into logs.

use std::{net::IpAddr, time::Duration};

use actix_web::{HttpRequest, http::header};

use super::{
    address,
    path::{Leaf, Target},
    rescue::Refusal,
    tls::{Encrypted, Peer},
    tunnel::Via,
};
use crate::{
    access::{Barred, Denied, Held, Kind, Knock, Outline, Permit, Principal},
    config::HubConfig,
    hub::{House, routes::Route},
};

const API_KEY: &str = "x-api-key";
/// Where the metadata of a protected resource are: between host and path (RFC 9728, section 3.1).
pub const METADATA: &str = "/.well-known/oauth-protected-resource";
/// How long to wait where nobody can tell who is asking.
const UNSURE_WAIT: Duration = Duration::from_secs(5);

/// Who is it? `target`: what the path names, whether or not there is such a mount.
pub async fn admit(
    request: &HttpRequest,
    house: &House,
    config: &HubConfig,
    target: Option<&Target<'_>>,
) -> Result<Principal, Refusal> {
    let gate = house.gate.load_full();
    let from = address::of(request, &config.trusted_proxies);
    let via = Via::of(request);
    let refused = |denied| refusal(denied, house, config, target, via);
    let token = match token(request) {
        // Another scheme is for the service that decides; where nobody is asked it means nothing.
        Err(_) if gate.takes_anything() => None,
        token => token.map_err(refused)?,
    };
    let certificate = Peer::of(request).and_then(|peer| peer.name.as_deref());
    let knock = Knock { token, certificate, address: from };
    let principal = gate.admit(knock, || outline(request, from)).await.map_err(|denied| {
        let upstream = target.and_then(|target| target.name);
        tracing::debug!(upstream, from = ?from, "not let in: {denied}");
        refused(denied)
    })?;
    paced(house, config, principal, from)
}

/// Nobody knows who asks.
pub fn stranger(request: &HttpRequest, house: &House, config: &HubConfig, target: Option<&Target<'_>>) -> Refusal {
    refusal(Denied::Missing, house, config, target, Via::of(request))
}

/// Does it come too often?
pub fn paced(
    house: &House,
    config: &HubConfig,
    principal: Principal,
    from: Option<IpAddr>,
) -> Result<Principal, Refusal> {
    match config.limits.rate.and_then(|rate| house.gate.load().pace(&principal, from, rate)) {
        Some(wait) => Err(Refusal::TooMany("requests come faster than `rate` in [hub.limits]", wait)),
        None => Ok(principal),
    }
}

/// May they come in here?
pub fn enter(
    request: &HttpRequest,
    house: &House,
    config: &HubConfig,
    target: &Target<'_>,
    route: &Route,
    principal: &Principal,
) -> Result<(), Refusal> {
    let gate = house.gate.load();
    let Some(barred) = house.bars(&gate, config, route, principal) else { return Ok(()) };
    tracing::info!(upstream = %route.name, principal = principal.name(), ?barred, "not let in");
    let (issued, via) = (gate.issuer().is_some(), Via::of(request));
    Err(match barred {
        Barred::Audience => Refusal::Unauthorized {
            why: "the token was not issued for this URL".into(),
            challenge: Some(challenge(house, config, Some(target), via, Some("invalid_token"), None)),
        },
        Barred::Scope(scopes) if issued => Refusal::Forbidden {
            why: format!("the token lacks a scope: {}", scopes.join(" ")),
            challenge: Some(challenge(house, config, Some(target), via, Some("insufficient_scope"), Some(&scopes))),
        },
        Barred::Scope(_) | Barred::Others => {
            Refusal::Forbidden { why: format!("`{}` may not use this upstream", principal.name()), challenge: None }
        }
    })
}

/// May they see pages of the hub's own? Not with a token that was issued for something else.
pub fn look(house: &House, config: &HubConfig, principal: &Principal) -> Result<(), Refusal> {
    let gate = house.gate.load();
    let routes = house.table.load();
    let mut bars = routes.by_name.values().map(|route| house.bars(&gate, config, route, principal));
    if principal.kind() != Kind::Jwt || bars.any(|barred| barred != Some(Barred::Audience)) {
        return Ok(());
    }
    Err(Refusal::Unauthorized {
        why: "the token was not issued for this hub".into(),
        challenge: Some(challenge(house, config, None, None, Some("invalid_token"), None)),
    })
}

/// One more of what a principal may hold; nothing is counted of those who cannot be told apart.
pub fn hold(house: &House, principal: &Principal, what: Held) -> Result<Option<Permit>, Refusal> {
    if !principal.is_known() {
        return Ok(None);
    }
    let limits = house.engine.limits.load();
    let (max, why) = match what {
        Held::Calls => (limits.principal_calls_max, "principal_calls_max calls are under way already"),
        Held::Sessions => (limits.principal_sessions_max, "principal_sessions_max sessions are open already"),
        Held::Streams => (limits.principal_streams_max, "principal_streams_max streams are open already"),
    };
    match principal.share().take(what, max) {
        Some(permit) => Ok(Some(permit)),
        None => Err(Refusal::TooMany(why, Duration::from_secs(1))),
    }
}

/// The token of a request, if it has one. Two that disagree are none.
fn token(request: &HttpRequest) -> Result<Option<&str>, Denied> {
    let mut found: Option<&str> = None;
    let bearers = request.headers().get_all(header::AUTHORIZATION).map(|value| bearer(value.to_str().ok()));
    let keys = request.headers().get_all(API_KEY).map(|value| value.to_str().map_err(|_| ()));
    for token in bearers.chain(keys) {
        let token = token.map_err(|()| Denied::Invalid("it is not sent as `Bearer TOKEN`"))?.trim();
        if found.is_some_and(|other| other != token) {
            return Err(Denied::Invalid("there are two"));
        }
        found = Some(token);
    }
    Ok(found)
}

fn bearer(value: Option<&str>) -> Result<&str, ()> {
    let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or(())?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token) } else { Err(()) }
}

/// What another service is told.
fn outline(request: &HttpRequest, from: Option<IpAddr>) -> Outline {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let shown = ["authorization", "cookie", API_KEY].into_iter();
    Outline {
        method: request.method().to_string(),
        uri: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        host: text(header::HOST).unwrap_or_default().to_owned(),
        proto: match Via::of(request) {
            Some(via) => via.proto(),
            None if Encrypted::is(request) => "https",
            None => "http",
        },
        address: from.map(|from| from.to_string()).unwrap_or_default(),
        credentials: shown
            .flat_map(|name| request.headers().get_all(name).map(move |value| (name, value.as_bytes().to_owned())))
            .collect(),
    }
}

fn refusal(
    denied: Denied,
    house: &House,
    config: &HubConfig,
    target: Option<&Target<'_>>,
    via: Option<&Via>,
) -> Refusal {
    let challenge = |error| Some(challenge(house, config, target, via, error, None));
    let why = denied.to_string();
    match denied {
        Denied::Missing => Refusal::Unauthorized { why, challenge: challenge(None) },
        Denied::Invalid(_) => Refusal::Unauthorized { why, challenge: challenge(Some("invalid_token")) },
        Denied::TooMany(wait) => Refusal::TooMany("too many wrong tokens came from this address", wait),
        Denied::Unsure(why) => Refusal::Unsure(why, UNSURE_WAIT),
        Denied::Refused { status: 403, challenge } => Refusal::Forbidden { why, challenge },
        Denied::Refused { challenge: own, .. } => Refusal::Unauthorized { why, challenge: own.or(challenge(None)) },
    }
}

/// What a client needs to come back (RFC 6750, section 3; RFC 9728, section 5.1). A mount without signed tokens points
/// nowhere: a client that finds metadata would want to log in.
fn challenge(
    house: &House,
    config: &HubConfig,
    target: Option<&Target<'_>>,
    via: Option<&Via>,
    error: Option<&str>,
    scopes: Option<&[String]>,
) -> String {
    let gate = house.gate.load();
    let mut parts: Vec<String> = error.into_iter().map(|error| format!("error=\"{error}\"")).collect();
    if let Some((_, own)) = gate.issuer() {
        let scopes = scopes.unwrap_or(own);
        if !scopes.is_empty() {
            parts.push(format!("scope=\"{}\"", scopes.join(" ")));
        }
        if let Some(target) = target {
            parts.push(format!("resource_metadata=\"{}\"", metadata_url(house, config, target, via)));
        }
    }
    if parts.is_empty() { "Bearer".into() } else { format!("Bearer {}", parts.join(", ")) }
}

/// The URL of a mount, as tokens for it name it.
pub fn resource(house: &House, config: &HubConfig, target: &Target<'_>, via: Option<&Via>) -> String {
    let path = match target.leaf {
        Leaf::Mcp | Leaf::Sse => target.path.to_owned(),
        Leaf::Message if target.name.is_none() => format!("{}{}", target.base, config.sse_path),
        Leaf::Message => format!("{}/sse", target.base),
    };
    let outside = via.filter(|_| config.public_url.is_none()).and_then(Via::outside);
    format!("{}{path}", outside.unwrap_or_else(|| house.outside(config)))
}

fn metadata_url(house: &House, config: &HubConfig, target: &Target<'_>, via: Option<&Via>) -> String {
    let resource = resource(house, config, target, via);
    let path =
        resource.find("://").and_then(|at| Some(at + 3 + resource[at + 3..].find('/')?)).unwrap_or(resource.len());
    format!("{}{METADATA}{}", &resource[..path], &resource[path..])
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn f68_one_token_is_read_and_from_headers_only() {
        let read = |headers: &[(&str, &str)]| {
            let mut request = TestRequest::with_uri("/a/mcp?access_token=query&token=query");
            for (name, value) in headers {
                request = request.append_header((*name, *value));
            }
            token(&request.to_http_request()).map(|token| token.map(str::to_owned))
        };
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(read(&[]), Ok(None), "none of the query");
        assert_eq!(read(&[("authorization", "Bearer abc")]), some("abc"));
        assert_eq!(read(&[("authorization", "bEARER abc")]), some("abc"));
        assert_eq!(read(&[("x-api-key", "abc")]), some("abc"));
        assert_eq!(read(&[("x-api-key", "abc"), ("authorization", "Bearer abc")]), some("abc"));
        assert!(read(&[("x-api-key", "abc"), ("authorization", "Bearer abd")]).is_err());
        assert!(read(&[("authorization", "Bearer abc"), ("authorization", "Bearer abd")]).is_err());
        for other in ["Basic YTpi", "Bearer", "abc", "", "Digest x"] {
            assert!(read(&[("authorization", other)]).is_err(), "{other}");
        }
    }
}
