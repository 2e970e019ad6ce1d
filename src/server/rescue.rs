//! Every error becomes a status and a JSON-RPC error, here only.
//!
//! On the MCP path 404 means "no such mount" or "no such session" and nothing else, because a client that gets it
//! opens a new session. A method that does not exist is an error in a 200.

use std::time::Duration;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    body::SizedStream,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{
    hub::{tasks, upstream::Unavailable},
    link::connection::CallError,
    wire::{
        Id, Revision,
        envelope::{HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION, VERSION},
        message::{self, INTERNAL_ERROR, INVALID_REQUEST, NotAMessage, PARSE_ERROR},
        trouble::{Reason, Trouble, seconds},
    },
};

/// How long a refused client may take to read why, before the connection is cut.
const LINGER: Duration = Duration::from_millis(300);
/// How much a refused client may go on to send: many read nothing before they have sent all.
const DISCARDED_BYTES_MAX: usize = 16 << 20;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("no upstream is mounted here; GET /api/v1/status lists the mounts")]
    NoMount,
    #[error("the Host `{0}` is not served here; add it to allowed_hosts in [hub]")]
    Host(String),
    #[error("the Origin `{0}` is not allowed; add it to allowed_origins in [hub]")]
    Origin(String),
    #[error("{why}")]
    Unauthorized { why: String, challenge: Option<String> },
    #[error("{why}")]
    Forbidden { why: String, challenge: Option<String> },
    #[error("{0}")]
    TooMany(&'static str, Duration),
    #[error("{0}; try again later")]
    Unsure(&'static str, Duration),
    #[error("{method} is not served here; allowed: {allow}")]
    Method { method: String, allow: &'static str },
    #[error("the body must be `Content-Type: application/json`, in UTF-8")]
    ContentType,
    #[error("a compressed body is not accepted")]
    ContentEncoding,
    #[error("the answer is `{0}`, which the Accept header excludes")]
    Accept(&'static str),
    #[error("the body is larger than body_bytes_max ({0} bytes)")]
    TooLarge(usize),
    #[error("the body came too slowly: at less than {0} KiB a second, or with a long pause; send it again")]
    TooSlow(usize),
    #[error("the body did not arrive whole")]
    Incomplete,
    #[error(transparent)]
    Message(#[from] NotAMessage),
    #[error("{0}")]
    BadRequest(String),
    #[error("protocol version `{0}` is not supported here")]
    Version(String),
    #[error("protocol version `{0}` is not supported here")]
    ModernVersion(String),
    #[error("{0}")]
    Envelope(String),
    #[error("{0}")]
    Mismatch(String),
    #[error("there is no method {0}")]
    NoMethod(String),
    #[error("unknown or expired requestState")]
    State,
    #[error("there is no such task")]
    Task,
    #[error("the client did not declare the capability `{}`", tasks::EXTENSION)]
    NoTasks,
    #[error("the session is unknown or has expired; initialize a new one")]
    NoSession,
    #[error("another stream of this session is open already")]
    Taken,
    #[error("{0} are open already ({1}); try again later")]
    Full(&'static str, &'static str),
    #[error("the hub is shutting down; try again when it is back")]
    Draining,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::NoMount | Refusal::NoSession | Refusal::NoMethod(_) => StatusCode::NOT_FOUND,
            Refusal::State | Refusal::Task => StatusCode::OK,
            Refusal::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Refusal::Host(_) | Refusal::Origin(_) | Refusal::Forbidden { .. } => StatusCode::FORBIDDEN,
            Refusal::TooMany(..) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::ContentType | Refusal::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::Accept(_) => StatusCode::NOT_ACCEPTABLE,
            Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Refusal::Incomplete
            | Refusal::Message(_)
            | Refusal::BadRequest(_)
            | Refusal::Version(_)
            | Refusal::ModernVersion(_)
            | Refusal::Envelope(_)
            | Refusal::Mismatch(_)
            | Refusal::NoTasks => StatusCode::BAD_REQUEST,
            Refusal::Taken => StatusCode::CONFLICT,
            Refusal::Full(..) | Refusal::Draining | Refusal::Unavailable(_) | Refusal::Unsure(..) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn code(&self) -> i32 {
        match self {
            Refusal::Message(error) => error.code,
            Refusal::Incomplete => PARSE_ERROR,
            Refusal::Version(_) | Refusal::ModernVersion(_) => UNSUPPORTED_VERSION,
            Refusal::Envelope(_) | Refusal::State | Refusal::Task => message::INVALID_PARAMS,
            Refusal::Mismatch(_) => HEADER_MISMATCH,
            Refusal::NoMethod(_) => message::METHOD_NOT_FOUND,
            Refusal::NoTasks => MISSING_CAPABILITY,
            Refusal::Unavailable(_) | Refusal::Draining | Refusal::Full(..) | Refusal::Unsure(..) => INTERNAL_ERROR,
            _ => INVALID_REQUEST,
        }
    }

    fn data(&self) -> Option<Value> {
        match self {
            Refusal::Version(requested) => {
                Some(json!({ "supported": Revision::ALL.map(Revision::as_str), "requested": requested }))
            }
            Refusal::ModernVersion(requested) => Some(json!({ "supported": [VERSION], "requested": requested })),
            Refusal::NoTasks => Some(json!({ "requiredCapabilities": { "extensions": { tasks::EXTENSION: {} } } })),
            _ => None,
        }
    }

    /// What is no mistake in the request.
    fn trouble(&self) -> Option<Trouble> {
        let reason = match self {
            Refusal::Unavailable(error) => return Some(error.trouble()),
            Refusal::Draining => Reason::Draining,
            Refusal::Full(..) | Refusal::TooMany(..) => Reason::Overloaded,
            Refusal::Unsure(..) => Reason::Failed,
            Refusal::Forbidden { .. } => Reason::Forbidden,
            Refusal::Unauthorized { .. } => Reason::NeedsAuth,
            _ => return None,
        };
        Some(Trouble::new(self.code(), reason, self.retry_after().into(), self.to_string()))
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::Unavailable(error) => error.retry_after,
            Refusal::TooMany(_, wait) | Refusal::Unsure(_, wait) => Some(*wait),
            Refusal::Full(..) | Refusal::Draining => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// The error where there is no response to put it into.
    pub fn message(&self, id: Option<&Id>) -> Bytes {
        match self.trouble() {
            Some(trouble) => trouble.response(id),
            None => message::error_response(id, self.code(), &self.to_string(), self.data().as_ref()),
        }
    }

    /// The response. `unread`: the request's body, where it was not read to its end.
    pub fn respond(&self, id: Option<&Id>, unread: Option<web::Payload>) -> HttpResponse {
        let id = match self {
            Refusal::Message(error) => error.id.as_ref(),
            _ => id,
        };
        let mut response = HttpResponse::build(self.status());
        if let Refusal::Method { allow, .. } = self {
            response.insert_header((header::ALLOW, *allow));
        }
        if let Refusal::Unauthorized { challenge: Some(challenge), .. }
        | Refusal::Forbidden { challenge: Some(challenge), .. } = self
        {
            response.insert_header((header::WWW_AUTHENTICATE, challenge.as_str()));
        }
        if let Some(after) = self.retry_after() {
            response.insert_header((header::RETRY_AFTER, seconds(after)));
        }
        response.content_type("application/json").insert_header((header::CACHE_CONTROL, "no-store"));
        let body = self.message(id);
        match unread {
            Some(unread) => cut(response, body, unread),
            None => response.body(body),
        }
    }
}

/// Answers and then ends the connection, by a body that breaks off once it was sent whole. Otherwise actix would
/// wait for the rest of a refused body for ever; and it reads and throws away, as fast as it comes, what nobody
/// holds, so the body is held.
fn cut(mut response: HttpResponseBuilder, body: Bytes, unread: web::Payload) -> HttpResponse {
    let length = body.len() as u64;
    let parts = stream::unfold((Some(body), unread), |(body, mut unread)| async move {
        if let Some(body) = body {
            return Some((Ok(body), (None, unread)));
        }
        match tokio::time::timeout(LINGER, discard(&mut unread)).await {
            Ok(()) => None,
            Err(_) => Some((Err(std::io::Error::other("the request was refused")), (None, unread))),
        }
    });
    response.force_close().body(SizedStream::new(length, parts))
}

/// Reads a body to its end, if that is not too far.
async fn discard(unread: &mut web::Payload) {
    let mut room = DISCARDED_BYTES_MAX;
    while let Some(Ok(chunk)) = unread.next().await {
        match room.checked_sub(chunk.len()) {
            Some(left) => room = left,
            None => std::future::pending().await,
        }
    }
}

/// The status of a call that got no answer, where one can still be given. Too many calls is a state of the mount, which
/// proxies in between should see too (F78).
pub fn status(error: &CallError) -> StatusCode {
    match error {
        CallError::Overloaded { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// A call that got no answer, in the words of JSON-RPC.
pub fn failed(id: &Id, upstream: &str, error: &CallError) -> Bytes {
    error.trouble(upstream).response(Some(id))
}
