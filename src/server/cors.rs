//! What browsers are told: whose pages may call the hub, with which headers, and what of the answers they may read.
//!
//! Whether an origin may call at all is decided by the guard alone, with the same function; here it is only said, on
//! every answer whatever its status, for a page that may not read a 404 or a 401 cannot know that it should open a
//! session or log in. Own code, because the middlewares there are allow a fixed list of headers or any, but no prefix
//! (`Mcp-Param-*`), answer the preflights of paths that nobody serves, and refuse in words of their own.
//!
//! Never `Access-Control-Allow-Credentials`: a browser's cookies and certificates mean nothing here.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method,
        header::{self, HeaderMap, HeaderValue},
    },
};

use super::{
    guard,
    path::{Leaf, resolve},
    rescue::Refusal,
};
use crate::{config::HubConfig, hub::House};

/// What a page may send beside what it always may. A `*` would not cover `Authorization`.
const ALLOWED: &str = "Authorization, X-API-Key, Content-Type, Accept, Last-Event-ID, Mcp-Session-Id, \
                       MCP-Protocol-Version, Mcp-Method, Mcp-Name, traceparent, tracestate, baggage";
/// Arguments of tools that are repeated in headers; which there are, their tools say.
const PARAM: &str = "mcp-param-";
/// What a page may read beside what it always may.
const EXPOSED: &str = "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After, Link";
/// How long a browser may remember a preflight, in seconds; Chromium remembers none for longer.
const MAX_AGE: &str = "7200";
/// Documents that tell where to log in (RFC 9728), one per mount, and their answer to OPTIONS.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The page that calls, if one does and it may: what it has to be told. Looked at before the request is served.
pub struct Page(Option<(HeaderValue, HeaderValue)>);

impl Page {
    pub fn of(request: &HttpRequest, config: &HubConfig) -> Page {
        let origin = guard::allowed_origin(request, config);
        Page(origin.map(|origin| {
            let origin = match config.allowed_origins.iter().any(|allowed| allowed == "any") {
                true => HeaderValue::from_static("*"),
                false => origin.clone(),
            };
            let exposed = HeaderValue::try_from(with(EXPOSED, &config.exposed_headers));
            (origin, exposed.unwrap_or(HeaderValue::from_static(EXPOSED)))
        }))
    }

    /// Lets the page read an answer. That it depends on the origin is said even where there is none: caches keep both.
    pub fn may_read(self, mut response: HttpResponse) -> HttpResponse {
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some((origin, exposed)) = self.0 {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        response
    }
}

/// Answers the question that a browser asks before it lets a page send what forms cannot. The guard has let its origin
/// pass; authentication comes later, for a preflight carries no credentials. None: this is no preflight.
pub fn preflight(request: &HttpRequest, house: &House, config: &HubConfig) -> Option<HttpResponse> {
    let asked = request.headers();
    let asks = asked.contains_key(header::ORIGIN) && asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if request.method() != Method::OPTIONS || !asks {
        return None;
    }
    Some(match methods(request.path(), house, config) {
        Some(Ok(methods)) => permission(asked, methods, &config.allowed_headers),
        Some(Err(refusal)) => refusal.respond(None, None),
        None => return None,
    })
}

/// What a page may do at a path; none where only the path itself can tell.
fn methods(path: &str, house: &House, config: &HubConfig) -> Option<Result<&'static str, Refusal>> {
    let below = |place: &str| path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if below(WELL_KNOWN) || path == "/api/v1/status" {
        return Some(Ok("GET, OPTIONS"));
    }
    let target = resolve(path, config)?;
    let route = match target.name {
        Some(name) => house.table.find(name),
        None => house.table.unnamed(),
    };
    Some(route.ok_or(Refusal::NoMount).map(|_| match target.leaf {
        Leaf::Mcp => "GET, POST, DELETE, OPTIONS",
        Leaf::Sse => "GET, OPTIONS",
        Leaf::Message => "POST, OPTIONS",
    }))
}

fn permission(asked: &HeaderMap, methods: &'static str, more: &[String]) -> HttpResponse {
    let mut response = HttpResponse::NoContent();
    response
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, methods))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, headers(asked, more)))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE))
        .insert_header((header::VARY, "Access-Control-Request-Method, Access-Control-Request-Headers"));
    // Older browsers asked so before a page of the internet reached into a private network; newer ones ask their user.
    if asked.get("access-control-request-private-network").is_some_and(|asks| asks == "true") {
        response.insert_header(("Access-Control-Allow-Private-Network", "true"));
    }
    response.finish()
}

/// The allowed headers, and of the requested ones those that repeat arguments. What else was asked for is not there.
fn headers(asked: &HeaderMap, more: &[String]) -> String {
    let requested = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).filter_map(|value| value.to_str().ok());
    let names = requested.flat_map(|list| list.split(',')).map(str::trim);
    names.filter(|name| repeats_argument(name)).fold(with(ALLOWED, more), |list, name| list + ", " + name)
}

/// A list of headers, and those that the configuration adds.
fn with(list: &str, more: &[String]) -> String {
    more.iter().fold(list.to_owned(), |list, name| list + ", " + name)
}

/// Is this the name of a header that repeats an argument?
fn repeats_argument(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    name.len() > PARAM.len()
        && name.bytes().all(token)
        && name.get(..PARAM.len()).is_some_and(|start| start.eq_ignore_ascii_case(PARAM))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn f61_of_the_requested_headers_only_repeated_arguments_are_echoed() {
        let allowed = |lists: &[&str]| {
            let asked = lists.iter().fold(TestRequest::default(), |request, list| {
                request.append_header((header::ACCESS_CONTROL_REQUEST_HEADERS, *list))
            });
            headers(asked.to_http_request().headers(), &[]).split_off(ALLOWED.len())
        };
        assert_eq!(allowed(&[]), "");
        assert_eq!(allowed(&["authorization, x-evil,cookie"]), "");
        assert_eq!(
            allowed(&["mcp-param-a,content-type, Mcp-Param-B.c", "mcp-param-d"]),
            ", mcp-param-a, Mcp-Param-B.c, mcp-param-d"
        );
        for name in
            ["mcp-param-", "mcp-param", "xmcp-param-a", "mcp-param-a b", "mcp-param-a:", "mcp-param-*;", "mcp-paramé-x"]
        {
            assert_eq!(allowed(&[name]), "", "{name}");
        }
    }
}
