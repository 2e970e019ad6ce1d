//! Headers of a request that go on to a remote upstream: those that are configured, and `Mcp-Param-*`. Where requests are
//! traced, what the headers say of that comes along too, to be replaced by what goes on.
//!
//! A caller's credentials end here, whatever is configured: the one leg is none of the other's business.

use actix_web::http::header::HeaderMap;

use crate::{
    hub::routes::Route,
    observe,
    wire::{
        Kind, Message,
        message::{Body, Headers},
        trace::{PARENT, STATE},
    },
};

/// Never passed on, even where a file says so that nobody checked.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
/// Arguments that a tool wants repeated. Who does not know one passes it on (2026-07-28,
/// basic/transports/streamable-http).
const PARAMS: &str = "mcp-param-";

/// A body of an older client, with the headers that go on with it.
pub fn body(body: Body, headers: &HeaderMap, route: &Route) -> Body {
    let of = |kind| chosen(headers, route, false, kind);
    let (asked, told) = (of(Kind::Request), of(Kind::Notification));
    if asked.is_none() && told.is_none() {
        return body;
    }
    let with = |message: Message| {
        let headers = if message.kind() == Kind::Request { &asked } else { &told };
        message.with_headers(headers.clone())
    };
    match body {
        Body::One(message) => Body::One(with(message)),
        Body::Batch(messages) => Body::Batch(messages.into_iter().map(with).collect()),
    }
}

/// A request of a newer client, with the headers that go on with it.
pub fn request(message: Message, headers: &HeaderMap, route: &Route) -> Message {
    let kind = message.kind();
    message.with_headers(chosen(headers, route, true, kind))
}

fn chosen(headers: &HeaderMap, route: &Route, params: bool, kind: Kind) -> Option<Headers> {
    // What is not traced goes on as it is, and adds no header.
    let traced = kind == Kind::Request && observe::trace::is_on();
    match &route.config.remote {
        Some(remote) => choose(headers, &remote.forward_headers, params, traced),
        None => choose(headers, &[], false, traced),
    }
}

fn choose(headers: &HeaderMap, named: &[String], params: bool, traced: bool) -> Option<Headers> {
    if named.is_empty() && !params && !traced {
        return None;
    }
    let goes_on = |name: &str| {
        let named = named.iter().any(|known| known == name) && !CREDENTIALS.contains(&name);
        named || (params && name.starts_with(PARAMS)) || (traced && (name == PARENT || name == STATE))
    };
    let found: Vec<_> = headers
        .iter()
        .filter(|(name, _)| goes_on(name.as_str()))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    (!found.is_empty()).then(|| found.into())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn p63_what_goes_on_and_what_never_does() {
        let headers: HeaderMap =
            ["authorization", "cookie", "proxy-authorization", "x-trace", "x-other", "mcp-param-region", PARENT, STATE]
                .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("v")))
                .into_iter()
                .collect();
        let names = |named: &[String], params, traced| -> Vec<String> {
            let chosen = choose(&headers, named, params, traced);
            let mut chosen: Vec<_> =
                chosen.iter().flat_map(|chosen| chosen.iter()).map(|(name, _)| name.clone()).collect();
            // In a map headers have no order.
            chosen.sort();
            chosen
        };
        assert!(names(&[], false, false).is_empty());
        assert_eq!(names(&[], true, false), ["mcp-param-region"]);
        assert_eq!(names(&[], false, true), [PARENT, STATE]);
        let named = ["x-trace", "authorization", "cookie", "proxy-authorization"].map(str::to_owned);
        assert_eq!(names(&named, false, false), ["x-trace"]);
    }
}
