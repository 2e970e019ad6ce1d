//! An upstream that is somewhere else: `url`, and how it is asked.

mod file;

use std::{collections::BTreeMap, path::PathBuf};

use url::Url;

use super::expand::Text;
pub(super) use file::{COMMAND_KEYS, REMOTE_KEYS, RemoteFile};

/// An MCP server that is somewhere else.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteConfig {
    /// A valid `http:` or `https:` URL, unless the upstream is unavailable.
    pub url: Text,
    /// How it speaks HTTP.
    pub transport: Transport,
    /// Sent with each request; names in lower case.
    pub headers: BTreeMap<String, Text>,
    /// Headers of the caller that go on; names in lower case, never `authorization` or `cookie`.
    pub forward_headers: Vec<String>,
    /// What it is shown.
    pub auth: Auth,
    /// Whom we believe it to be.
    pub tls: TlsConfig,
    /// In place of what the environment says.
    pub proxy: Option<Text>,
}

impl RemoteConfig {
    /// A remote upstream with every default.
    pub fn new(url: Text) -> Self {
        Self {
            url,
            transport: Transport::default(),
            headers: BTreeMap::new(),
            forward_headers: Vec::new(),
            auth: Auth::default(),
            tls: TlsConfig::default(),
            proxy: None,
        }
    }

    /// The URL without what may be secret in it.
    pub fn url_shown(&self) -> String {
        match Url::parse(self.url.expose()) {
            Ok(mut url) if !self.url.is_secret() => {
                url.set_query(None);
                url.to_string()
            }
            _ => "***".to_owned(),
        }
    }
}

/// How a remote upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// It is found out.
    #[default]
    Auto,
    /// POST and GET at one URL (2025-03-26 and later).
    StreamableHttp,
    /// An event stream that names where to post (2024-11-05).
    Sse,
}

/// With what a remote upstream is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Auth {
    /// OAuth where the server asks for it, and no `Authorization` header is configured.
    #[default]
    Auto,
    /// RFC 7617.
    Basic {
        /// Sent with each request.
        username: Text,
        /// The same.
        password: Text,
    },
    /// RFC 7616.
    Digest {
        /// Sent with each request.
        username: Text,
        /// Never sent.
        password: Text,
    },
    /// A login of a user.
    OAuth(OAuthConfig),
    /// The program is its own user.
    ClientCredentials(ClientCredentials),
}

/// A person gives the authorization.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OAuthConfig {
    /// Of a client that was registered by hand.
    pub client_id: Option<Text>,
    /// Of a client that was registered by hand.
    pub client_secret: Option<Text>,
    /// Where a document describes this client (client id metadata document).
    pub client_metadata_url: Option<Text>,
    /// In place of those that the server asks for.
    pub scopes: Option<Vec<String>>,
}

/// The hub itself is authorized (RFC 6749, section 4.4).
#[derive(Debug, Clone, PartialEq)]
pub struct ClientCredentials {
    /// None: it is found by the server's metadata.
    pub token_url: Option<Text>,
    /// As the authorization server knows us.
    pub client_id: Text,
    /// Or none, where a key shows who we are.
    pub client_secret: Option<Text>,
    /// In place of the secret: signs an assertion (RFC 7523). In PEM.
    pub private_key: Option<Text>,
    /// Asked for; `None`: what the server says it needs.
    pub scopes: Option<Vec<String>>,
}

/// Whom to trust, and what to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Beside the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// `false`: any certificate will do. For tries only.
    pub verify: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { ca: None, identity: None, verify: true }
    }
}
