//! With what we ask remote servers: passwords, tokens, and how a token is come by.
//!
//! A remote link puts [`Credentials`] onto each request and tells them of refusals; where they come from is no business
//! of the link's.

#![cfg_attr(docsrs, doc(hidden))]

pub mod challenge;
pub(crate) mod file;
#[cfg(feature = "keyring")]
mod keyring;
pub mod oauth;
pub mod password;
pub mod record;
pub mod store;

use std::sync::Arc;

use reqwest::{
    Request, StatusCode,
    header::{AUTHORIZATION, HeaderMap},
};

pub use oauth::{OAuth, OAuthSpec, Prompt, Settings};
pub use password::{Digest, Password};
pub use store::Store;

/// What proves to a remote server who asks.
#[derive(Debug, Default)]
pub enum Credentials {
    /// Nothing, or a header that the configuration names.
    #[default]
    None,
    /// HTTP Basic.
    Basic(Password),
    /// HTTP Digest.
    Digest(Digest),
    /// A token of an authorization server; shared by all that ask the same server.
    OAuth(Arc<OAuth>),
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

impl AuthError {
    /// The configuration or a person has to help, and there is no page to visit.
    pub(crate) fn needed(why: impl Into<String>) -> AuthError {
        AuthError::Needed { why: why.into(), visit: None }
    }
}

/// The cause behind an error, such as "Connection refused": the layers in between only say that there was one.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(deeper) = error.source() {
        error = deeper;
    }
    error.to_string()
}

impl Credentials {
    /// Puts what proves who we are onto a request.
    pub async fn apply(&self, request: &mut Request) -> Result<(), AuthError> {
        match self {
            Credentials::None => Ok(()),
            Credentials::Basic(password) => {
                let value = password.basic().ok_or_else(|| AuthError::needed("the name or the password is no text"))?;
                request.headers_mut().insert(AUTHORIZATION, value);
                Ok(())
            }
            Credentials::Digest(digest) => digest.apply(request),
            Credentials::OAuth(oauth) => oauth.apply(request).await,
        }
    }

    /// Resolves when there is a token that was not there before: somebody has logged in.
    pub async fn renewed(&self) {
        match self {
            Credentials::OAuth(oauth) => oauth.wait_ready().await,
            _ => std::future::pending().await,
        }
    }

    /// The server refused a request that bore these headers. Is it worth asking again, with what [`apply`] now gives?
    ///
    /// `sent` has to hold the `Authorization` that was sent: it tells whether a newer token is there by now.
    ///
    /// [`apply`]: Credentials::apply
    pub async fn refused(&self, sent: &HeaderMap, status: StatusCode, answer: &HeaderMap) -> Result<bool, AuthError> {
        match self {
            Credentials::OAuth(oauth) => oauth.refused(sent, status, answer).await,
            _ if status != StatusCode::UNAUTHORIZED => Ok(false),
            Credentials::None => {
                Err(AuthError::needed("the server wants credentials (HTTP 401), and none, or others, are configured"))
            }
            Credentials::Basic(_) => Err(AuthError::needed("the server refuses the name or the password (HTTP 401)")),
            Credentials::Digest(digest) => digest.refused(sent, answer),
        }
    }
}
