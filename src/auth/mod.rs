//! With what we ask remote servers: passwords, tokens, and how a token is come by.
//!
//! A remote link puts [`Credentials`] onto each request and tells them of refusals; where they come from is no business
//! of the link's.

use reqwest::{Request, StatusCode, header::HeaderMap};

/// What proves to a remote server who asks.
#[derive(Debug, Default)]
pub enum Credentials {
    /// Nothing, or a header that the configuration names.
    #[default]
    None,
}

/// Why a request cannot be made with credentials that the server takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A person has to log in, or the configuration has to name other credentials.
    #[error("{why}")]
    Needed {
        why: String,
        /// Where to log in, once that is known.
        visit: Option<String>,
    },
    /// The authorization server cannot be asked now; what we have stays.
    #[error("{0}")]
    Unreachable(String),
}

impl Credentials {
    /// Puts what proves who we are onto a request.
    pub async fn apply(&self, _request: &mut Request) -> Result<(), AuthError> {
        match self {
            Credentials::None => Ok(()),
        }
    }

    /// The server refused a request that bore these headers. Is it worth asking again, with what [`apply`] now gives?
    ///
    /// [`apply`]: Credentials::apply
    pub async fn refused(&self, _sent: &HeaderMap, status: StatusCode, _answer: &HeaderMap) -> Result<bool, AuthError> {
        match self {
            Credentials::None if status == StatusCode::UNAUTHORIZED => {
                let why = "the server wants credentials (HTTP 401), and none, or others, are configured".to_owned();
                Err(AuthError::Needed { why, visit: None })
            }
            Credentials::None => Ok(false),
        }
    }
}
