//! The HTTP client for whatever a server names: it follows no redirect, goes nowhere inside, and reads little.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Client, RequestBuilder, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, CONTENT_TYPE, HeaderMap},
    redirect,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    OAuthSpec,
    guard::{self, Reach},
};
use crate::auth::{AuthError, cause};

/// The largest document that is read.
const BODY_BYTES_MAX: usize = 256 << 10;
/// The longest that one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest text of a server that is shown.
const SHOWN_CHARS_MAX: usize = 300;

/// What went wrong on the way to a token.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It may work the next time.
    #[error("{0}")]
    Unreachable(String),
    /// The authorization server says no, by a code of OAuth.
    #[error("the authorization server refuses: {code}{}", text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused { code: String, text: Option<String> },
    /// It will not work until somebody changes something.
    #[error("{0}")]
    Wrong(String),
}

impl Fault {
    pub fn wrong(why: impl Into<String>) -> Fault {
        Fault::Wrong(why.into())
    }

    /// Did the server say this code?
    pub fn is(&self, expected: &str) -> bool {
        matches!(self, Fault::Refused { code, .. } if code == expected)
    }
}

impl From<Fault> for AuthError {
    fn from(fault: Fault) -> AuthError {
        match fault {
            Fault::Unreachable(why) => AuthError::Unreachable(why),
            fault => AuthError::needed(fault.to_string()),
        }
    }
}

/// A text of a server's, fit to be shown.
pub fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS_MAX).collect()
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// What a refusal says, by the rules of OAuth or as well as it can be told.
    pub fn refusal(&self, asked: &Url) -> Fault {
        let host = asked.host_str().unwrap_or_default();
        if self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS {
            return Fault::Unreachable(format!("{host} answers HTTP {}", self.status.as_u16()));
        }
        let body: Value = self.json().unwrap_or_default();
        match body["error"].as_str() {
            Some(code) => Fault::Refused { code: shown(code), text: body["error_description"].as_str().map(shown) },
            None => Fault::wrong(format!("{host}{} answers HTTP {}", asked.path(), self.status.as_u16())),
        }
    }
}

/// The guarded client of one server.
pub struct Http {
    server: Url,
    base: Arc<dyn Fn() -> reqwest::ClientBuilder + Send + Sync>,
    /// Names that are resolved unchecked: proxies, which are inside by nature.
    proxies: Arc<[String]>,
    /// Built at the first use, when the server's own addresses are known.
    built: Mutex<Option<(Reach, Client)>>,
}

impl Http {
    pub fn new(spec: &OAuthSpec) -> Http {
        let variables = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
        let proxies = variables.iter().filter_map(|name| std::env::var(name).ok()).filter_map(|text| {
            let url = if text.contains("://") { text } else { format!("http://{text}") };
            Url::parse(&url).ok()?.host_str().map(str::to_owned)
        });
        Http {
            server: spec.server.clone(),
            base: spec.base.clone(),
            proxies: proxies.chain(spec.settings.proxy_host.clone()).collect(),
            built: Mutex::default(),
        }
    }

    /// How far we may be sent, and the client that minds it.
    async fn client(&self) -> Result<(Reach, Client), Fault> {
        if let Some(built) = &*self.built.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(built.clone());
        }
        let known = match guard::literal(&self.server) {
            Some(reach) => Some(reach),
            None => match (self.server.host_str(), self.server.port_or_known_default()) {
                (Some(host), Some(port)) => tokio::net::lookup_host((host, port))
                    .await
                    .ok()
                    // A name never reaches this machine, whatever it resolves to: its owner chose that, not ours.
                    .map(|found| guard::of_addresses(found.map(|address| address.ip())).min(Reach::Private)),
                _ => None,
            },
        };
        let reach = known.unwrap_or(Reach::Public);
        let client = (self.base)()
            .redirect(redirect::Policy::none())
            .timeout(REQUEST_TIMEOUT)
            .dns_resolver(Arc::new(Guarded { reach, proxies: self.proxies.clone() }))
            .build()
            .map_err(|error| Fault::wrong(format!("no HTTP client: {error}")))?;
        // Behind a proxy names may be unknown to us: that is found out again the next time.
        if known.is_some() {
            *self.built.lock().unwrap_or_else(PoisonError::into_inner) = Some((reach, client.clone()));
        }
        Ok((reach, client))
    }

    /// How far inside what the server names may be.
    pub async fn reach(&self) -> Result<Reach, Fault> {
        self.client().await.map(|(reach, _)| reach)
    }

    /// A URL that a server named, if it may be used.
    pub async fn checked(&self, text: &str) -> Result<Url, Fault> {
        guard::checked(text, self.reach().await?).map_err(Fault::Wrong)
    }

    /// Asks, and reads the whole answer. The URL has to be [`checked`](Http::checked).
    pub async fn ask(&self, url: &Url, build: impl FnOnce(&Client) -> RequestBuilder) -> Result<Answer, Fault> {
        let (reach, client) = self.client().await?;
        guard::checked(url.as_str(), reach).map_err(Fault::Wrong)?;
        let unreachable = |error: reqwest::Error| {
            let why = shown(&cause(&error));
            Fault::Unreachable(format!("{} cannot be asked: {why}", url.host_str().unwrap_or_default()))
        };
        let sent = build(&client).header(ACCEPT, "application/json").send().await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error) if inside(&error) => {
                let host = url.host_str().unwrap_or_default();
                return Err(Fault::wrong(format!("{host} is refused: it leads to an address inside")));
            }
            Err(error) => return Err(unreachable(error)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(Fault::wrong(format!("the document of {url} is too large")));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_redirection() {
            return Err(Fault::wrong(format!("{url} redirects elsewhere, which is not followed")));
        }
        Ok(Answer { status, headers, body })
    }

    /// A JSON document; `None` where there is none.
    pub async fn document(&self, url: &Url) -> Result<Option<Value>, Fault> {
        let answer = self.ask(url, |client| client.get(url.clone())).await?;
        match answer.status {
            status if status.is_success() => Ok(answer.json::<Value>().filter(Value::is_object)),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => Err(answer.refusal(url)),
            _ => Ok(None),
        }
    }

    /// A request with no credentials, to hear how the server refuses it.
    pub async fn probe(&self, headers: &HeaderMap) -> Result<Answer, Fault> {
        let (_, client) = self.client().await?;
        let request = client
            .post(self.server.clone())
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .headers(headers.clone())
            .body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        let response = request.send().await.map_err(|error| Fault::Unreachable(error.without_url().to_string()))?;
        Ok(Answer { status: response.status(), headers: response.headers().clone(), body: Vec::new() })
    }
}

/// The resolver refused: nothing that another try could change.
fn inside(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.to_string().contains(INSIDE) {
            return true;
        }
        source = error.source();
    }
    false
}

/// What the resolver says.
const INSIDE: &str = "an address inside";

/// Resolves names to addresses that may be asked. The client connects to what was checked here, and to nothing else.
struct Guarded {
    reach: Reach,
    proxies: Arc<[String]>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, proxies) = (self.reach, self.proxies.clone());
        Box::pin(async move {
            let name = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            let proxy = proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(name));
            if !proxy && found.iter().any(|address| !guard::allows(reach, address.ip())) {
                return Err(io::Error::other(format!("{name} leads to {INSIDE}")).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
