//! Why a one-shot ends without what was asked for: a text for a person, and the exit code for a program.

use crate::{
    cli::{FAILED, LOGIN_NEEDED, UNREACHABLE, USAGE},
    link::connection::CallError,
};

/// The tool answered, and says that it failed.
pub const TOOL_FAILED: u8 = 5;
/// By the custom of shells: 128 and the number of SIGINT.
pub const INTERRUPTED: u8 = 130;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub code: u8,
    /// Empty where all was said already.
    pub text: String,
}

impl Stop {
    pub fn new(code: u8, text: impl Into<String>) -> Stop {
        Stop { code, text: text.into() }
    }

    pub fn usage(text: impl Into<String>) -> Stop {
        Stop::new(USAGE, text)
    }

    pub fn failed(text: impl Into<String>) -> Stop {
        Stop::new(FAILED, text)
    }

    pub fn said(code: u8) -> Stop {
        Stop::new(code, "")
    }
}

/// `greeted`: it has answered before, so that it can be reached.
pub fn of_call(error: &CallError, greeted: bool) -> Stop {
    let code = match error {
        CallError::Unauthorized { .. } => LOGIN_NEEDED,
        CallError::Unreachable { .. } => UNREACHABLE,
        CallError::Lost { .. } | CallError::Timeout { .. } if !greeted => UNREACHABLE,
        // Whoever stands before the server says that it is not there.
        CallError::Status { status: 502..=504, .. } => UNREACHABLE,
        _ => FAILED,
    };
    let text = match error {
        CallError::Timeout { limit, .. } => format!("it did not answer within {limit:?}"),
        CallError::Unauthorized { why, visit: Some(visit), .. } => {
            format!("it wants authorization: {why}; log in at {visit}")
        }
        error => error.reason(),
    };
    Stop::new(code, text)
}
