//! The status page: a few hand-written files inside the program, which know nothing until the API has told them.
//!
//! A browser cannot send a token when somebody types an address, and in the address itself it would be written into
//! logs. So browsers get the page unasked: it is the same for everybody and names neither an upstream nor a version.
//! Whatever it shows comes from `/api/v1`, where the door asks; there it sends the token that was pasted into it.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
};

use super::rescue::Refusal;
use crate::config::{hash, hex};

/// Nothing from anywhere else, nothing inline, and no text that becomes markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
/// What somebody gets who is let in and takes no HTML.
const ELSEWHERE: &str = "GET /api/v1/status tells how the hub is, /api/v1/events as it happens\n";

/// The files: path, type, text.
const FILES: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("dashboard/page.html")),
    ("/assets/page.css", "text/css; charset=utf-8", include_str!("dashboard/page.css")),
    ("/assets/icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
    ("/assets/page.js", SCRIPT, include_str!("dashboard/page.js")),
    ("/assets/dom.js", SCRIPT, include_str!("dashboard/dom.js")),
    ("/assets/words.js", SCRIPT, include_str!("dashboard/words.js")),
    ("/assets/live.js", SCRIPT, include_str!("dashboard/live.js")),
    ("/assets/overview.js", SCRIPT, include_str!("dashboard/overview.js")),
    ("/assets/upstream.js", SCRIPT, include_str!("dashboard/upstream.js")),
    ("/assets/chart.js", SCRIPT, include_str!("dashboard/chart.js")),
];

/// Is it a browser that asks for the page, or a file of the page?
pub fn concerns(request: &HttpRequest, path: &str) -> bool {
    path.starts_with("/assets/") || (path == "/" && reads(request) && takes_html(request))
}

/// Serves the page and its files to anybody.
pub fn serve(request: &HttpRequest, path: &str) -> Result<HttpResponse, Refusal> {
    let (_, kind, text) = FILES.iter().find(|(file, ..)| *file == path).ok_or(Refusal::NoMount)?;
    if !reads(request) {
        return Err(Refusal::Method { method: request.method().to_string(), allow: "GET, HEAD" });
    }
    let tag = tag(text);
    let known = has(request, &tag);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::CONTENT_TYPE, *kind))
        .insert_header((header::ETAG, tag))
        // Another hub may be behind this address tomorrow.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"));
    if path == "/" {
        response.append_header((header::VARY, "Accept"));
    }
    Ok(if known { response.finish() } else { response.body(*text) })
}

/// Tells somebody who was let in, and is no browser, where to look.
pub fn elsewhere(request: &HttpRequest) -> Result<HttpResponse, Refusal> {
    if !reads(request) {
        return Err(Refusal::Method { method: request.method().to_string(), allow: "GET, HEAD" });
    }
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::VARY, "Accept"))
        .body(ELSEWHERE))
}

fn reads(request: &HttpRequest) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Browsers name HTML when they navigate; programs take anything, or JSON.
fn takes_html(request: &HttpRequest) -> bool {
    let lists = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"))
            && !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.trim_end_matches(['0', '.']).is_empty()))
    })
}

/// The name of this version of a file.
fn tag(text: &str) -> String {
    let hex = hex(&hash(text)[..12]);
    format!("\"{hex}\"")
}

/// Does the browser have this version?
fn has(request: &HttpRequest, tag: &str) -> bool {
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
}
