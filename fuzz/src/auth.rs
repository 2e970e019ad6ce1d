//! What a remote server and its authorization server say of themselves.

use futures_util::FutureExt;
use hubward::auth::{
    Credentials, Digest, Password,
    challenge::{bearer, of, parse},
    oauth::{
        code::{self, Target},
        discovery::{Issuer, Resource, canonical, covers, issuer_urls, resource_urls},
        guard::{Reach, allows, checked, literal},
        http::Answer,
        scope,
    },
};
use reqwest::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};
use serde_json::Value;
use url::{Host, Url};

use super::chosen;

const REACHES: [Reach; 3] = [Reach::Public, Reach::Private, Reach::Loopback];

/// Any header is read to something small, a well-formed one to what it says; and what is asked for can be answered.
pub fn challenge(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        for challenge in parse(text) {
            assert!(text.contains(&challenge.text) && !challenge.scheme.is_empty());
            let scopes = challenge.get("scope").map(scope::split).unwrap_or_default();
            assert!(scopes.iter().all(|scope| !scope.contains([' ', '"', '\\']) && !scope.is_empty()));
        }
        said(text);
    }
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
    assert!(of(&headers).len() <= 32);
    if let Some(challenge) = bearer(&headers) {
        assert_eq!(challenge.scheme, "bearer");
    }
    let digest = Credentials::Digest(Digest::new(Password { username: "u".into(), password: "canary-pw".into() }));
    let refused = digest.refused(&HeaderMap::new(), StatusCode::UNAUTHORIZED, &headers).now_or_never();
    if refused.expect("it waits for nothing").is_ok() {
        let mut request = Request::new(Method::POST, Url::parse("http://a.example/x?y").expect("a URL"));
        if digest.apply(&mut request).now_or_never().expect("it waits for nothing").is_ok()
            && let Some(answer) = request.headers().get(AUTHORIZATION)
        {
            assert!(answer.is_sensitive() && answer.as_bytes().starts_with(b"Digest "));
            assert!(!String::from_utf8_lossy(answer.as_bytes()).contains("canary-pw"));
        }
    }
}

/// A challenge with these parameters, one a line, says them.
fn said(text: &str) {
    let params: Vec<(String, &str)> = text
        .lines()
        .take(32)
        .enumerate()
        .map(|(at, line)| {
            let word: String = line.chars().filter(char::is_ascii_alphabetic).take(8).collect();
            (format!("p{at}{}", word.to_ascii_lowercase()), line)
        })
        .collect();
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
    let written: Vec<String> =
        params.iter().map(|(name, value)| format!("{}=\"{}\"", name.to_ascii_uppercase(), quoted(value))).collect();
    let found = parse(&format!("Basic QQ==, Bearer {}, Negotiate", written.join(", ")));
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!((found[1].scheme.as_str(), found[2].scheme.as_str()), ("bearer", "negotiate"));
    for (name, value) in params {
        assert_eq!(found[1].get(&name), Some(value));
    }
}

/// A URL that a server named leads where it may, whoever reads it (T8).
pub fn url(data: &[u8]) {
    let Some(([reach], text)) = chosen(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let reach = REACHES[reach % 3];
    match checked(text, reach) {
        Ok(url) => {
            is_good(&url, reach);
            assert_eq!(checked(url.as_str(), reach).as_ref(), Ok(&url), "it stays what it is");
            assert!(checked(text, Reach::Loopback).is_ok(), "a larger reach contains a smaller one");
        }
        Err(why) => assert!(!why.chars().any(char::is_control) && why.len() < 1000, "{why:?}"),
    }
}

fn is_good(url: &Url, reach: Reach) {
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    let loopback = match url.host().expect("a host") {
        Host::Domain(name) => {
            assert!(!name.is_empty() && name.parse::<std::net::IpAddr>().is_err(), "{url}");
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(address) => {
            let inside = address.is_loopback() || address.is_private();
            assert!(reach != Reach::Public || !inside, "{url}");
            assert!(!(address.is_link_local() || address.is_unspecified() || address.is_multicast()), "{url}");
            assert!(!address.is_broadcast() && allows(reach, address.into()), "{url}");
            address.is_loopback()
        }
        Host::Ipv6(address) => {
            let inner = address.to_ipv4_mapped();
            let inside = address.is_loopback()
                || address.is_unique_local()
                || inner.is_some_and(|address| address.is_loopback() || address.is_private());
            assert!(reach != Reach::Public || !inside, "{url}");
            assert!(!address.is_unicast_link_local() && !address.is_unspecified(), "{url}");
            assert!(!inner.is_some_and(|address| address.is_link_local() || address.is_unspecified()), "{url}");
            address.is_loopback() || inner.is_some_and(|address| address.is_loopback()) || url.host_str() == Some("")
        }
    };
    match url.scheme() {
        "https" => assert!(!loopback || reach == Reach::Loopback, "{url}"),
        "http" => assert!(reach == Reach::Loopback && literal(url) == Some(Reach::Loopback), "{url}"),
        other => panic!("{other}"),
    }
}

/// Documents are believed only of what they were asked for, and lead only where they may (T9).
pub fn metadata(data: &[u8]) {
    let Some(([reach, status], text)) = chosen(data) else { return };
    let reach = REACHES[reach % 3];
    let status = StatusCode::from_u16(200 + status as u16).expect("a status");
    let asked = Url::parse("https://as.example/t").expect("a URL");
    let answer = Answer { status, headers: HeaderMap::new(), body: text.to_vec() };
    assert!(!answer.refusal(&asked).to_string().chars().any(char::is_control));
    let Some(document) = answer.json::<Value>().filter(Value::is_object) else { return };
    let names = ["https://as.example/t".to_owned(), "https://as.example".to_owned()];
    match Issuer::read(&document, &names[0], &names, reach) {
        Ok(issuer) => {
            assert!(names.contains(&issuer.name) && document["issuer"] == issuer.name);
            let all = [&issuer.authorization, &issuer.token, &issuer.registration, &issuer.device, &issuer.revocation];
            all.into_iter().flatten().for_each(|url| is_good(url, reach));
            assert!(issuer.scopes.len() <= 256);
        }
        Err(fault) => assert!(!fault.to_string().chars().any(char::is_control), "{fault}"),
    }
    let resource = Resource::read(&document);
    assert!(resource.issuers.len() <= 256 && resource.scopes.is_none_or(|scopes| scopes.len() <= 256));
    for server in ["https://mcp.example/a/b", "https://mcp.example", "http://localhost:1/x?y=z"] {
        let server = Url::parse(server).expect("a URL");
        if covers(&resource.name, &server) {
            let named = Url::parse(&resource.name).expect("a URL");
            assert!(named.origin() == server.origin() && server.path().starts_with(named.path().trim_end_matches('/')));
        }
    }
    if let Ok(server) = Url::parse(&resource.name)
        && server.origin().is_tuple()
    {
        for url in resource_urls(&server).iter().chain(&issuer_urls(&server)) {
            assert_eq!(url.origin(), server.origin());
        }
        let name = canonical(&server);
        assert!(!name.contains('#'));
        assert!(covers(&name, &server), "a server covers itself: {server}");
    }
}

/// Only the exact path with the state is the reply of the authorization server (T10).
pub fn callback(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    match code::read_target(line, "/callback", "st4te") {
        Target::Reply(_) => {
            let query = line.strip_prefix("GET /callback?").expect("the exact path");
            let mut said = url::form_urlencoded::parse(query.split(' ').next().unwrap_or_default().as_bytes());
            assert!(said.any(|(name, value)| name == "state" && value == "st4te"), "{line:?}");
        }
        Target::Stale => assert!(line.starts_with("GET /callback"), "{line:?}"),
        Target::Elsewhere => {}
    }
    assert!(!matches!(code::read_target(line, "/callback", ""), Target::Reply(_)), "an empty state is none");
}
