//! Headers of a request that go on to a remote upstream: those that are configured, and `Mcp-Param-*`.
//!
//! A caller's credentials end here, whatever is configured: the one leg is none of the other's business.

use actix_web::http::header::HeaderMap;

use crate::{
    config::RemoteConfig,
    hub::routes::Route,
    wire::{
        Message,
        message::{Body, Headers},
    },
};

/// Never passed on, even where a file says so that nobody checked.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
/// Arguments that a tool wants repeated. Who does not know one passes it on (2026-07-28,
/// basic/transports/streamable-http).
const PARAMS: &str = "mcp-param-";

/// A body of an older client, with the headers that go on with it.
pub fn body(body: Body, headers: &HeaderMap, route: &Route) -> Body {
    let Some(headers) = chosen(headers, route, false) else { return body };
    match body {
        Body::One(message) => Body::One(message.with_headers(Some(headers))),
        Body::Batch(messages) => {
            Body::Batch(messages.into_iter().map(|message| message.with_headers(Some(headers.clone()))).collect())
        }
    }
}

/// A request of a newer client, with the headers that go on with it.
pub fn request(message: Message, headers: &HeaderMap, route: &Route) -> Message {
    message.with_headers(chosen(headers, route, true))
}

fn chosen(headers: &HeaderMap, route: &Route, params: bool) -> Option<Headers> {
    choose(headers, route.config.remote.as_ref()?, params)
}

fn choose(headers: &HeaderMap, remote: &RemoteConfig, params: bool) -> Option<Headers> {
    if remote.forward_headers.is_empty() && !params {
        return None;
    }
    let goes_on = |name: &str| {
        let named = remote.forward_headers.iter().any(|known| known == name);
        (named && !CREDENTIALS.contains(&name)) || (params && name.starts_with(PARAMS))
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
        let mut remote = RemoteConfig::new("https://a.example/mcp".into());
        let headers: HeaderMap =
            ["authorization", "cookie", "proxy-authorization", "x-trace", "x-other", "mcp-param-region"]
                .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("v")))
                .into_iter()
                .collect();
        let names = |remote: &RemoteConfig, params| -> Vec<String> {
            let chosen = choose(&headers, remote, params);
            chosen.iter().flat_map(|chosen| chosen.iter()).map(|(name, _)| name.clone()).collect()
        };
        assert!(names(&remote, false).is_empty());
        assert_eq!(names(&remote, true), ["mcp-param-region"]);
        remote.forward_headers =
            ["x-trace", "authorization", "cookie", "proxy-authorization"].map(str::to_owned).into();
        assert_eq!(names(&remote, false), ["x-trace"]);
    }
}
