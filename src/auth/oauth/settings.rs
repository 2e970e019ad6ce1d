//! What a configuration may say about OAuth, and what a login tells a person.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{ClientBuilder, Url};
use secrecy::SecretString;

use crate::auth::store::Store;

/// How to come by a token for one server.
#[derive(Clone)]
pub struct OAuthSpec {
    /// The MCP server's URL.
    pub server: Url,
    pub settings: Settings,
    pub store: Store,
    pub mode: Mode,
    /// Tells a person where to log in.
    pub show: Arc<dyn Fn(&Prompt) + Send + Sync>,
    /// An HTTP client with the trust and the proxy that are configured for the server; redirects, addresses and times
    /// are set here.
    pub base: Arc<dyn Fn() -> ClientBuilder + Send + Sync>,
}

impl fmt::Debug for OAuthSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthSpec").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

impl OAuthSpec {
    /// With usual settings, the usual store, and a person who sees stderr.
    #[must_use]
    pub fn new(server: Url, mode: Mode) -> OAuthSpec {
        OAuthSpec {
            server,
            settings: Settings::default(),
            store: Store::usual(),
            mode,
            show: Arc::new(|prompt| eprintln!("{prompt}")),
            base: Arc::new(ClientBuilder::new),
        }
    }
}

/// Is somebody there who waits for the answer?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A person at a terminal: a refusal waits for the login, and opens a browser.
    Interactive,
    /// A daemon: a refusal starts a login that may be visited, and is told as [`AuthError::Needed`] at once.
    ///
    /// [`AuthError::Needed`]: crate::auth::AuthError::Needed
    Daemon,
    /// Nobody, and nobody will look: a refusal is told, and no login is begun.
    Nobody,
}

/// What may be configured. All of it has a default.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A client that was registered by hand.
    pub client: Option<Client>,
    /// Where our own client metadata document is, the id of a client that needs no registration.
    pub client_metadata_url: Option<String>,
    /// What is asked for; `None`: what the server says.
    pub scopes: Option<Vec<String>>,
    /// What tokens are for; `None`: what the server says, or its URL.
    pub resource: Option<String>,
    pub grant: Grant,
    pub device: Device,
    /// Open a browser in an interactive login.
    pub browser: bool,
    /// Where the browser is sent back to: a host of this machine, and a port; 0 picks one.
    pub callback_host: String,
    pub callback_port: u16,
    /// The path of that address.
    pub callback_path: String,
    /// How we are called where we register ourselves.
    pub client_name: String,
    /// Named by hand what would be discovered.
    pub endpoints: Endpoints,
    /// Tells apart tokens of one server that must not be mixed, such as those of two tenants that a header names.
    pub tenant: String,
    /// Tokens that came from outside.
    pub given: Given,
    /// The host of the proxy that is configured for the server, which may be inside though the servers are outside.
    pub proxy_host: Option<String>,
    /// How long a login may take; `None`: 5 minutes for one who waits, 10 for one who was told.
    pub login_timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            client: None,
            client_metadata_url: None,
            scopes: None,
            resource: None,
            grant: Grant::Person,
            device: Device::Auto,
            browser: true,
            callback_host: "127.0.0.1".to_owned(),
            callback_port: 0,
            callback_path: "/callback".to_owned(),
            client_name: "hubward".to_owned(),
            endpoints: Endpoints::default(),
            tenant: String::new(),
            given: Given::default(),
            proxy_host: None,
            login_timeout: None,
        }
    }
}

impl Settings {
    /// How long a login may take.
    #[must_use]
    pub fn login_time(&self, mode: Mode) -> Duration {
        let usual = match mode {
            Mode::Interactive => Duration::from_secs(5 * 60),
            Mode::Daemon | Mode::Nobody => Duration::from_secs(10 * 60),
        };
        self.login_timeout.unwrap_or(usual)
    }
}

/// What tells apart the tokens of two tenants of one server, whom it knows by a header. `Authorization` is none: it is
/// what we are here for.
#[must_use]
pub fn tenant<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut lines: Vec<String> = headers
        .map(|(name, value)| format!("{}:{value}", name.to_ascii_lowercase()))
        .filter(|line| !line.starts_with("authorization:"))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// A client that was registered by hand.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub secret: Option<SecretString>,
    /// Signs assertions in place of a secret (`private_key_jwt`).
    pub key: Option<SigningKey>,
    /// Who registered it; another one is refused.
    pub issuer: Option<String>,
}

/// A private key.
#[derive(Clone, Debug)]
pub struct SigningKey {
    pub pem: SecretString,
    /// `ES256`, `RS256`, …; `None`: what fits the key.
    pub algorithm: Option<String>,
}

/// Who the token speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A person, who logs in.
    Person,
    /// The client itself: nobody has to log in.
    ClientCredentials,
}

/// Log in by a code that is typed on another machine (RFC 8628)?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Where it is offered, and no browser can be opened here.
    Auto,
    /// Where it is offered.
    Prefer,
    Never,
}

/// Named by hand what would be discovered.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    pub issuer: Option<String>,
    pub authorization: Option<String>,
    pub token: Option<String>,
    pub device: Option<String>,
    pub registration: Option<String>,
}

/// Tokens that came from outside, such as the environment.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub access_token: Option<SecretString>,
    pub refresh_token: Option<SecretString>,
    /// Seconds since 1970.
    pub expires_at: Option<u64>,
    /// What manages our registration (RFC 7592).
    pub registration_token: Option<SecretString>,
    pub registration_uri: Option<String>,
}

/// Where to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The server it is for.
    pub server: String,
    pub url: String,
    /// What has to be typed there.
    pub code: Option<String>,
    /// A browser was opened with it.
    pub opened: bool,
    /// How long that can be done.
    pub within: Duration,
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.within.as_secs().div_ceil(60);
        match (&self.code, self.opened) {
            (Some(code), _) => {
                write!(
                    f,
                    "To log in to {}, visit within {minutes} min\n  {}\nand enter the code {code}",
                    self.server, self.url
                )
            }
            (None, true) => {
                write!(f, "A browser shows the login of {}. If it does not, visit\n  {}", self.server, self.url)
            }
            (None, false) => write!(
                f,
                "To log in to {}, visit within {minutes} min, with a browser on this machine\n  {}",
                self.server, self.url
            ),
        }
    }
}
