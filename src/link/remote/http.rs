//! One HTTP request to a peer: credentials, patience, redirects, and what went wrong.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, Request, Response, StatusCode,
    header::{HeaderMap, HeaderName, LOCATION, RETRY_AFTER},
};
use url::Url;

use super::{Endpoint, RemoteSpec};
use crate::{
    auth::{AuthError, cause},
    link::connection::CallError,
};

/// Pauses before a peer that was there a while ago is tried again. Nothing was sent yet.
const PATIENCE: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// How often credentials are renewed for one request.
const REFUSALS_MAX: usize = 4;
const REDIRECTS_MAX: usize = 3;
/// The longest pause that a peer may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How much of an error page is read, and of that, told.
const PAGE_BYTES_MAX: usize = 64 << 10;
const EXCERPT_CHARS: usize = 300;

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The way to the peer is broken.
    Network(String),
    /// It broke after the request was sent.
    Cut(String),
    Auth(AuthError),
    Status {
        status: StatusCode,
        page: String,
        retry_after: Option<Duration>,
    },
    /// What it answered is no answer.
    Odd(String),
    TooLong(u64),
}

impl Failure {
    pub fn is_network(&self) -> bool {
        matches!(self, Failure::Network(_) | Failure::Cut(_))
    }

    pub fn into_error(self, spec: &RemoteSpec) -> CallError {
        let name = spec.name.clone();
        match self {
            Failure::Network(why) => CallError::Unreachable { name, why: why.into() },
            Failure::Cut(why) => {
                CallError::Lost { name, why: format!("broke off its answer ({why})").into(), asked: false }
            }
            Failure::Auth(AuthError::Needed { why, visit }) => {
                CallError::Unauthorized { name, why: why.into(), visit: visit.map(Into::into) }
            }
            Failure::Auth(AuthError::Unreachable(why)) => CallError::Unreachable { name, why: why.into() },
            Failure::Status { status, page, retry_after } => {
                let reason = status.canonical_reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
                let page = page.trim();
                if !page.is_empty() {
                    tracing::debug!(upstream = %name, status = status.as_u16(), page, "refused a request");
                }
                let told = match spec.expose_errors && !page.is_empty() {
                    true => spec.secrets.iter().fold(format!(": {page}"), |page, secret| page.replace(secret, "***")),
                    false => String::new(),
                };
                CallError::Status { name, status: status.as_u16(), why: format!("{reason}{told}").into(), retry_after }
            }
            Failure::Odd(why) => CallError::Odd { name, why: why.into() },
            Failure::TooLong(bytes) => CallError::TooLong { name, bytes },
        }
    }
}

impl Endpoint {
    /// Where requests go.
    pub(super) fn url(&self) -> Url {
        let moved = self.moved.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        moved.as_ref().unwrap_or(&self.spec.url).clone()
    }

    /// Sends a request, again where that is safe, and answers with the head of the response.
    pub(super) async fn send(
        &self,
        method: Method,
        to: Option<&Url>,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Response, Failure> {
        let (mut refusals, mut redirects, mut patience) = (0, 0, PATIENCE.iter());
        let mut url = to.cloned().unwrap_or_else(|| self.url());
        loop {
            let mut request = Request::new(method.clone(), url.clone());
            *request.headers_mut() = self.spec.headers.clone();
            request.headers_mut().extend(headers.clone());
            *request.body_mut() = body.clone().map(Into::into);
            self.authorize(&mut request).await?;
            let sent = request.headers().clone();
            let response = match self.spec.http.execute(request).await {
                Ok(response) => response,
                Err(error) => {
                    let error = error.without_url();
                    // Only what never left us may be sent again.
                    let again = error.is_connect() && self.reached.load(Ordering::Relaxed);
                    match patience.next().filter(|_| again) {
                        Some(pause) => tokio::time::sleep(*pause).await,
                        None if error.is_connect() => return Err(Failure::Network(cause(&error))),
                        None => return Err(Failure::Cut(cause(&error))),
                    }
                    continue;
                }
            };
            self.reached.store(true, Ordering::Relaxed);
            match response.status() {
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    refusals += 1;
                    let again = self.spec.credentials.refused(&sent, status, response.headers()).await;
                    match again.map_err(|error| self.unauthorized(error))? {
                        true if refusals < REFUSALS_MAX => {}
                        true => {
                            let why = "the server keeps refusing what its authorization server gives".to_owned();
                            return Err(self.unauthorized(AuthError::Needed { why, visit: None }));
                        }
                        false => return Ok(response),
                    }
                }
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    redirects += 1;
                    url = redirected(&url, response.headers()).map_err(Failure::Odd)?;
                    if redirects > REDIRECTS_MAX {
                        return Err(Failure::Odd("leads in circles (HTTP redirects)".into()));
                    }
                    if to.is_none() {
                        *self.moved.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(url.clone());
                    }
                }
                status if status.is_redirection() => {
                    let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
                    let target = target.unwrap_or("nowhere");
                    return Err(Failure::Odd(format!(
                        "answered with HTTP {} to {target}, which is not followed; is the URL right?",
                        status.as_u16()
                    )));
                }
                _ => {
                    *self.control.unauthorized.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
                    return Ok(response);
                }
            }
        }
    }

    async fn authorize(&self, request: &mut Request) -> Result<(), Failure> {
        self.spec.credentials.apply(request).await.map_err(|error| self.unauthorized(error))
    }

    /// Keeps in mind that a person is needed.
    fn unauthorized(&self, error: AuthError) -> Failure {
        if matches!(error, AuthError::Needed { .. }) {
            *self.control.unauthorized.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error.clone());
        }
        Failure::Auth(error)
    }

    /// The body, up to the largest message.
    pub(super) async fn body(&self, mut response: Response) -> Result<Bytes, Failure> {
        let max = self.spec.message_bytes_max;
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body.freeze()),
                Err(error) => return Err(Failure::Cut(cause(&error.without_url()))),
            }
            if body.len() > max {
                return Err(Failure::TooLong(body.len() as u64));
            }
        }
    }

    /// What a refusal says, in short.
    pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        let page = String::from_utf8_lossy(&body[..body.len().min(PAGE_BYTES_MAX)]);
        let page: String = page.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(EXCERPT_CHARS).collect();
        Failure::Status { status, page, retry_after: retry_after(headers) }
    }
}

/// The pause that a peer asks for, in seconds or as a date, up to a limit.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at: SystemTime = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().into();
            at.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

/// Where a redirect leads: on the same origin, for anywhere else our headers are nobody's business.
fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let target = headers.get(LOCATION).and_then(|target| target.to_str().ok());
    let target = target.ok_or("answered with a redirect to nowhere")?;
    let url = from.join(target).map_err(|error| format!("answered with a redirect to {target:?} ({error})"))?;
    match url.origin() == from.origin() {
        true => Ok(url),
        false => Err(format!("leads to {}, another origin, which is not followed; is the URL right?", shown(&url))),
    }
}

/// A URL without what may be secret in it.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Takes over headers that came from elsewhere; what is set already stays.
pub(super) fn adopt(headers: &mut HeaderMap, more: &[(String, Vec<u8>)]) {
    for (name, value) in more {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, reqwest::header::HeaderValue::from_bytes(value))
            && !headers.contains_key(&name)
        {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn f114_a_pause_is_read_in_both_forms_and_is_bounded() {
        let check = |text: &str, expected: Option<u64>| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).expect("a value"))]);
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{text}");
        };
        check("7", Some(7));
        check("0", Some(0));
        check("99999999999", Some(300));
        check("Wed, 21 Oct 2015 07:28:00 GMT", Some(0));
        check("Thu, 31 Dec 2099 23:59:59 GMT", Some(300));
        check("-1", None);
        check("soon", None);
    }

    #[test]
    fn f116_a_redirect_stays_on_its_origin() {
        let from: Url = "https://a.example:8443/mcp".parse().expect("a URL");
        let to = |target: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(target).expect("a value"))]);
            redirected(&from, &headers).map(|url| url.to_string())
        };
        assert_eq!(to("/mcp/"), Ok("https://a.example:8443/mcp/".into()));
        assert_eq!(to("https://a.example:8443/other"), Ok("https://a.example:8443/other".into()));
        for bad in ["https://b.example/", "http://a.example:8443/mcp", "https://a.example/", "//169.254.169.254/x"] {
            assert!(to(bad).is_err_and(|why| why.contains("not followed")), "{bad}");
        }
    }
}
