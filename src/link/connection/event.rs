//! What a call yields, and why it may yield no answer.

use super::*;
use crate::wire::{
    message::INTERNAL_ERROR,
    trouble::{Reason, Retry, Trouble},
};

/// When a call that did not fit may fit.
const OVERLOAD: Duration = Duration::from_secs(1);

/// What a call yields, in order, until its final event.
#[derive(Debug)]
pub enum Event {
    /// Progress of the call, with the caller's own token.
    Progress(Bytes),
    /// A log message that concerns the call.
    Log(Message),
    /// The server asks the client something.
    Ask(Ask),
    /// The server no longer wants an answer to this ask.
    Withdrawn { ask: u64 },
    /// A notification of a subscription (2026-07-28).
    Notice(Message),
    /// Final: the response, with the caller's own id.
    Response(Bytes),
    /// Final: there will be no response.
    Failed { id: Id, error: CallError },
}

/// A question of the server; answer it by its number.
#[derive(Debug)]
pub struct Ask {
    pub number: u64,
    pub message: Message,
}

/// Why a call got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("upstream `{name}` {why} while the call was under way; the call was not repeated")]
    Lost {
        name: Arc<str>,
        why: Arc<str>,
        /// It was our wish.
        asked: bool,
    },
    #[error("upstream `{name}` has {max} calls in flight already (calls_in_flight_max)")]
    Overloaded { name: Arc<str>, max: usize },
    #[error("upstream `{name}` answered with {bytes} bytes, more than message_bytes_max allows")]
    TooLong { name: Arc<str>, bytes: u64 },
    #[error("upstream `{name}` answered with a batch, which its revision does not have")]
    Batched { name: Arc<str> },
    #[error("upstream `{name}` did not answer within {limit:?}; the call was cancelled")]
    Timeout { name: Arc<str>, limit: Duration },
    #[error("upstream `{name}` cannot be reached: {why}")]
    Unreachable { name: Arc<str>, why: Arc<str> },
    #[error("upstream `{name}` answered with HTTP {status}{why}")]
    Status { name: Arc<str>, status: u16, why: Arc<str>, retry_after: Option<Duration> },
    #[error("upstream `{name}` wants authorization: {why}")]
    Unauthorized {
        name: Arc<str>,
        why: Arc<str>,
        /// Where a person can give it.
        visit: Option<Arc<str>>,
    },
    #[error("upstream `{name}` {why}")]
    Odd { name: Arc<str>, why: Arc<str> },
    #[error("{why}; the call to upstream `{name}` was cancelled")]
    Ended { name: Arc<str>, why: Arc<str> },
    #[error("`params` must be an object")]
    Malformed,
    #[error("`{0}` must stand once in a request, as a string or an integer")]
    Ambiguous(&'static str),
}

impl CallError {
    /// May the same call be tried again as it is?
    pub fn retryable(&self) -> bool {
        match self {
            CallError::Lost { .. }
            | CallError::Overloaded { .. }
            | CallError::Timeout { .. }
            | CallError::Unreachable { .. } => true,
            CallError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// A word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            CallError::Lost { .. } => "connection_lost",
            CallError::Overloaded { .. } => "overloaded",
            CallError::TooLong { .. } => "too_long",
            CallError::Timeout { .. } => "timeout",
            CallError::Unreachable { .. } => "unreachable",
            CallError::Status { .. } => "http_status",
            CallError::Unauthorized { .. } => "unauthorized",
            CallError::Batched { .. } | CallError::Odd { .. } => "invalid_response",
            CallError::Ended { .. } => "cancelled",
            CallError::Malformed | CallError::Ambiguous(_) => "invalid_request",
        }
    }

    /// Was nothing heard of the peer?
    pub fn is_silence(&self) -> bool {
        matches!(self, CallError::Unreachable { .. } | CallError::Lost { .. })
    }

    /// What the caller is told.
    pub fn trouble(&self, upstream: &str) -> Trouble {
        let reason = match self {
            CallError::Lost { asked: true, .. } => Reason::Draining,
            CallError::Overloaded { .. } | CallError::Status { status: 429, .. } => Reason::Overloaded,
            CallError::Timeout { .. } => Reason::Timeout,
            CallError::Unauthorized { .. } => Reason::NeedsAuth,
            CallError::Ended { .. } => Reason::Cancelled,
            CallError::Malformed | CallError::Ambiguous(_) => Reason::Invalid,
            _ => Reason::Failed,
        };
        let retry = match (self.retry_after(), self) {
            (Some(wait), _) if self.retryable() => Retry::After(wait),
            (_, CallError::Overloaded { .. }) => Retry::After(OVERLOAD),
            _ if self.retryable() => Retry::Yes,
            _ => Retry::No,
        };
        let code = if let CallError::Ambiguous(_) = self { INVALID_PARAMS } else { INTERNAL_ERROR };
        let trouble = Trouble::new(code, reason, retry, self.to_string()).of(upstream);
        let trouble = Trouble { http_status: self.status(), ..trouble };
        match reason {
            Reason::Invalid | Reason::Cancelled => trouble,
            _ => trouble.advised(),
        }
    }

    /// The cause, where it is clear whose it is.
    pub fn reason(&self) -> String {
        match self {
            CallError::Unreachable { why, .. } => format!("it cannot be reached: {why}"),
            CallError::Status { status, why, .. } => format!("it answered with HTTP {status}{why}"),
            CallError::Unauthorized { why, .. } => format!("it wants authorization: {why}"),
            CallError::TooLong { bytes, .. } => {
                format!("it answered with {bytes} bytes, more than message_bytes_max allows")
            }
            CallError::Odd { why, .. } | CallError::Lost { why, .. } => format!("it {why}"),
            other => other.to_string(),
        }
    }

    /// The status of HTTP that a remote upstream answered with.
    pub fn status(&self) -> Option<u16> {
        match self {
            CallError::Status { status, .. } => Some(*status),
            CallError::Unauthorized { .. } => Some(401),
            _ => None,
        }
    }

    /// When a remote upstream wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_error_tells_what_happened_and_whether_to_try_again() {
        let (name, second): (Arc<str>, _) = ("a".into(), Duration::from_secs(1));
        let named = || name.clone();
        let lost = |why: &str, asked| CallError::Lost { name: named(), why: why.into(), asked };
        let status = |status, retry_after| CallError::Status { name: named(), status, why: " (x)".into(), retry_after };
        let cases = [
            (
                lost("exited with code 3", false),
                "upstream `a` exited with code 3 while the call was under way; the call was not repeated; it can be tried again",
                json!({ "reason": "failed", "retryable": true }),
            ),
            (
                lost("was replaced", true),
                "upstream `a` was replaced while the call was under way; the call was not repeated; it can be tried again",
                json!({ "reason": "draining", "retryable": true }),
            ),
            (
                CallError::Overloaded { name: named(), max: 4 },
                "upstream `a` has 4 calls in flight already (calls_in_flight_max); try again in 1 s",
                json!({ "reason": "overloaded", "retryable": true, "retryAfterMs": 1000 }),
            ),
            (
                CallError::Timeout { name: named(), limit: second },
                "upstream `a` did not answer within 1s; the call was cancelled; it can be tried again",
                json!({ "reason": "timeout", "retryable": true }),
            ),
            (
                CallError::TooLong { name: named(), bytes: 9 },
                "upstream `a` answered with 9 bytes, more than message_bytes_max allows; trying again does not help",
                json!({ "reason": "failed", "retryable": false }),
            ),
            (
                CallError::Batched { name: named() },
                "upstream `a` answered with a batch, which its revision does not have; trying again does not help",
                json!({ "reason": "failed", "retryable": false }),
            ),
            (
                CallError::Unreachable { name: named(), why: "no route".into() },
                "upstream `a` cannot be reached: no route; it can be tried again",
                json!({ "reason": "failed", "retryable": true }),
            ),
            (
                status(503, Some(second * 7)),
                "upstream `a` answered with HTTP 503 (x); try again in 7 s",
                json!({ "reason": "failed", "retryable": true, "retryAfterMs": 7000, "http_status": 503 }),
            ),
            (
                status(429, None),
                "upstream `a` answered with HTTP 429 (x); it can be tried again",
                json!({ "reason": "overloaded", "retryable": true, "http_status": 429 }),
            ),
            (
                status(404, None),
                "upstream `a` answered with HTTP 404 (x); trying again does not help",
                json!({ "reason": "failed", "retryable": false, "http_status": 404 }),
            ),
            (
                CallError::Unauthorized { name: named(), why: "a token is missing".into(), visit: None },
                "upstream `a` wants authorization: a token is missing; trying again helps once somebody has logged in",
                json!({ "reason": "needs_auth", "retryable": false, "http_status": 401 }),
            ),
            (
                CallError::Odd { name: named(), why: "answered with a page".into() },
                "upstream `a` answered with a page; trying again does not help",
                json!({ "reason": "failed", "retryable": false }),
            ),
            (
                CallError::Ended { name: named(), why: "the session ended".into() },
                "the session ended; the call to upstream `a` was cancelled",
                json!({ "reason": "cancelled", "retryable": false }),
            ),
            (CallError::Malformed, "`params` must be an object", json!({ "reason": "invalid", "retryable": false })),
            (
                CallError::Ambiguous("id"),
                "`id` must stand once in a request, as a string or an integer",
                json!({ "reason": "invalid", "retryable": false }),
            ),
        ];
        for (error, text, mut data) in cases {
            data["upstream"] = "a".into();
            let trouble = error.trouble("a");
            assert_eq!((trouble.text.as_str(), trouble.data()), (text, data), "{error:?}");
            let code = if matches!(error, CallError::Ambiguous(_)) { INVALID_PARAMS } else { INTERNAL_ERROR };
            assert_eq!(trouble.code, code);
        }
    }
}
