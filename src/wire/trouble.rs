//! What a client is told where the hub answers in a server's place: what happened to which upstream, in one sentence that
//! ends with whether it helps to try again.
//!
//! The same for programs is in `data`: `reason` is one of few words that do not change, `retryable` and `retryAfterMs` say
//! whether and when. The words hold no path and no secret.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Id, message};

/// What happened, in one word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is about to be there.
    Starting,
    /// It does not start, died, or answered what is no answer.
    Failed,
    /// More is asked of it, or of the hub, than fits.
    Overloaded,
    /// The hub let it finish and end: it is replaced or removed, or the hub shuts down.
    Draining,
    Timeout,
    /// Somebody has to log in.
    NeedsAuth,
    /// An operator switched it off.
    Stopped,
    /// A tool changed since it was accepted.
    Withheld,
    /// The caller may not.
    Forbidden,
    /// The call's own session ended.
    Cancelled,
    /// The caller's mistake.
    Invalid,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Starting => "starting",
            Reason::Failed => "failed",
            Reason::Overloaded => "overloaded",
            Reason::Draining => "draining",
            Reason::Timeout => "timeout",
            Reason::NeedsAuth => "needs_auth",
            Reason::Stopped => "stopped",
            Reason::Withheld => "withheld",
            Reason::Forbidden => "forbidden",
            Reason::Cancelled => "cancelled",
            Reason::Invalid => "invalid",
        }
    }
}

/// Does it help to try again?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before somebody has changed something.
    No,
    Yes,
    After(Duration),
}

impl From<Option<Duration>> for Retry {
    fn from(after: Option<Duration>) -> Retry {
        after.map_or(Retry::No, Retry::After)
    }
}

/// An error of the hub's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    pub code: i32,
    pub text: String,
    pub upstream: Option<String>,
    pub reason: Reason,
    pub retry: Retry,
    /// What a remote upstream answered with.
    pub http_status: Option<u16>,
    /// The last lines on its stderr, where callers may see them.
    pub stderr: Vec<String>,
}

impl Trouble {
    /// The text is said as it is.
    pub fn new(code: i32, reason: Reason, retry: Retry, text: impl Into<String>) -> Trouble {
        Trouble { code, text: text.into(), upstream: None, reason, retry, http_status: None, stderr: Vec::new() }
    }

    pub fn of(self, upstream: &str) -> Trouble {
        Trouble { upstream: Some(upstream.to_owned()), ..self }
    }

    /// Ends the text with whether it helps to try again.
    pub fn advised(mut self) -> Trouble {
        self.text += &match (self.reason, self.retry) {
            (_, Retry::After(wait)) => format!("; try again in {} s", seconds(wait)),
            (_, Retry::Yes) => "; it can be tried again".to_owned(),
            (Reason::NeedsAuth, Retry::No) => "; trying again helps once somebody has logged in".to_owned(),
            (_, Retry::No) => "; trying again does not help".to_owned(),
        };
        self
    }

    /// The same for programs.
    pub fn data(&self) -> Value {
        let mut data = json!({ "reason": self.reason.as_str(), "retryable": self.retry != Retry::No });
        if let Some(upstream) = &self.upstream {
            data["upstream"] = upstream.as_str().into();
        }
        if let Retry::After(wait) = self.retry {
            data["retryAfterMs"] = (wait.as_millis() as u64).into();
        }
        if let Some(status) = self.http_status {
            data["http_status"] = status.into();
        }
        if !self.stderr.is_empty() {
            data["stderr"] = self.stderr.as_slice().into();
        }
        data
    }

    /// The answer to a request.
    pub fn response(&self, id: Option<&Id>) -> Bytes {
        message::error_response(id, self.code, &self.text, Some(&self.data()))
    }
}

/// As in `Retry-After`: whole seconds, at least one.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_secs_f64().ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::{message::INTERNAL_ERROR, *};

    #[test]
    fn the_sentence_and_the_data_say_the_same() {
        let wait = Duration::from_millis(1500);
        let cases = [
            (Reason::Failed, Retry::Yes, "x; it can be tried again", json!({ "retryable": true })),
            (
                Reason::Starting,
                Retry::After(wait),
                "x; try again in 2 s",
                json!({ "retryable": true, "retryAfterMs": 1500 }),
            ),
            (Reason::Failed, Retry::No, "x; trying again does not help", json!({ "retryable": false })),
            (
                Reason::NeedsAuth,
                Retry::No,
                "x; trying again helps once somebody has logged in",
                json!({ "retryable": false }),
            ),
        ];
        for (reason, retry, text, mut data) in cases {
            data["reason"] = reason.as_str().into();
            data["upstream"] = "a".into();
            let trouble = Trouble::new(INTERNAL_ERROR, reason, retry, "x").of("a").advised();
            assert_eq!((trouble.text.as_str(), trouble.data()), (text, data.clone()));
            let answer: Value = serde_json::from_slice(&trouble.response(Some(&Id::from(1)))).unwrap();
            let error = json!({ "code": INTERNAL_ERROR, "message": text, "data": data });
            assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": 1, "error": error }));
        }
        let more = Trouble {
            http_status: Some(502),
            stderr: vec!["bye".into()],
            ..Trouble::new(-1, Reason::Failed, Retry::No, "")
        };
        assert_eq!(
            more.data(),
            json!({ "reason": "failed", "retryable": false, "http_status": 502, "stderr": ["bye"] })
        );
    }
}
