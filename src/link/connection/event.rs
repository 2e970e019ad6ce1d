//! What a call yields, and why it may yield no answer.

use super::*;

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
    #[error("upstream `{name}` {why} while the call was under way; it was not repeated")]
    Lost { name: Arc<str>, why: Arc<str> },
    #[error("upstream `{name}` has {max} calls in flight already; try again later")]
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

    /// Was nothing heard of the peer?
    pub fn is_silence(&self) -> bool {
        matches!(self, CallError::Unreachable { .. } | CallError::Lost { .. })
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
