//! Tokens that an identity provider signs.
//!
//! How they may be signed, and by whom, is configured; what a token says of itself only chooses among the provider's
//! keys. Keys are fetched when they are needed, at most every few seconds, and again when they are old, so that both
//! a new key and a withdrawn one are noticed. A token that was found good is not computed again until it expires.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use jsonwebtoken::{
    DecodingKey, Header, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::{Denied, Principal, share::Shares};
use crate::config::{JwtConfig, hash};

/// The largest token. Those of large providers have 4 KiB.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The most that the provider's documents may have.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Keys that are tried for a token that names none.
const KEYS_MAX: usize = 16;
const FETCH_WAIT_MAX: Duration = Duration::from_secs(5);
/// Strangers can name keys that do not exist: the provider is asked this often at most.
const FETCH_PAUSE: Duration = Duration::from_secs(5);
/// Keys are looked at again when they are this old,
const KEYS_FRESH: Duration = Duration::from_secs(10 * 60);
/// and are good for this long where the provider cannot be reached.
const KEYS_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Clocks differ.
const LEEWAY_SECONDS: u64 = 30;
/// Tokens that are remembered as good.
const KNOWN_MAX: usize = 10_000;

/// The rules for tokens of one provider.
pub(super) struct Jwt {
    config: JwtConfig,
    number: u64,
    http: Option<reqwest::Client>,
    keys: ArcSwap<Keys>,
    /// When the provider was asked last; held while it is asked.
    asked: tokio::sync::Mutex<Option<Instant>>,
    known: Mutex<HashMap<[u8; 32], Known>>,
    shares: Arc<Shares>,
}

#[derive(Default)]
struct Keys {
    set: Vec<Jwk>,
    fetched: Option<Instant>,
}

struct Known {
    principal: Principal,
    expires: u64,
}

/// What is read of a token.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    exp: u64,
    #[serde(default)]
    aud: Value,
    #[serde(default)]
    scope: Value,
    /// Some providers have a list of them under this name.
    #[serde(default)]
    scp: Value,
    client_id: Option<String>,
    azp: Option<String>,
}

impl Claims {
    /// The client that the token was issued to (RFC 9068; OpenID Connect calls it `azp`).
    pub(super) fn client(&self) -> &str {
        self.client_id.as_deref().or(self.azp.as_deref()).unwrap_or_default()
    }

    pub(super) fn audience(&self) -> Vec<String> {
        texts(&self.aud).into_iter().map(str::to_owned).collect()
    }

    pub(super) fn scopes(&self) -> Vec<String> {
        let all = texts(&self.scope).into_iter().chain(texts(&self.scp));
        all.flat_map(str::split_ascii_whitespace).map(str::to_owned).collect()
    }
}

/// One text, or several.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Three parts with points between.
pub(super) fn looks_like_one(token: &str) -> bool {
    token.bytes().filter(|b| *b == b'.').count() == 2
}

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

impl Jwt {
    pub(super) fn new(config: JwtConfig, shares: Arc<Shares>) -> Jwt {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(FETCH_WAIT_MAX);
        let http = client.build().inspect_err(|error| tracing::error!("cannot ask for keys of tokens: {error}"));
        Jwt {
            config,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            http: http.ok(),
            keys: ArcSwap::default(),
            asked: tokio::sync::Mutex::new(None),
            known: Mutex::default(),
            shares,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whose token it is, if it was found good before and is still.
    pub(super) fn known(&self, token: &str) -> Option<Principal> {
        // Withdrawn keys have to be noticed.
        self.keys.load().fetched.filter(|fetched| fetched.elapsed() < KEYS_FRESH)?;
        let known = self.remembered();
        let found = known.get(&hash(token))?;
        (found.expires + LEEWAY_SECONDS > now()).then(|| found.principal.clone())
    }

    /// Judges a token.
    pub(super) async fn verify(&self, token: &str) -> Result<Principal, Denied> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denied::Invalid("it is too long"));
        }
        let header = decode_header(token).map_err(|_| Denied::Invalid("it is no signed token"))?;
        if !self.config.algorithms.contains(&header.alg) {
            return Err(Denied::Invalid("it is signed by a method that is not accepted"));
        }
        let mut keys = self.keys.load_full();
        let old = keys.fetched.is_none_or(|fetched| fetched.elapsed() >= KEYS_FRESH);
        if old || !keys.set.iter().any(|key| fits(key, &header)) {
            keys = self.fetch(old).await?;
        }
        let claims = self.read(token, &header, &keys.set)?;
        let principal = Principal::of_claims(&claims, self.number, &self.shares);
        let mut known = self.remembered();
        if known.len() >= KNOWN_MAX {
            let now = now();
            known.retain(|_, known| known.expires > now);
        }
        if known.len() < KNOWN_MAX {
            known.insert(hash(token), Known { principal: principal.clone(), expires: claims.exp });
        }
        Ok(principal)
    }

    fn read(&self, token: &str, header: &Header, keys: &[Jwk]) -> Result<Claims, Denied> {
        use jsonwebtoken::errors::ErrorKind;
        let mut rules = Validation::new(header.alg);
        rules.leeway = LEEWAY_SECONDS;
        rules.validate_nbf = true;
        // For whom it is depends on where it is shown.
        rules.validate_aud = false;
        rules.set_required_spec_claims(&["exp", "iss", "sub"]);
        rules.set_issuer(&[&self.config.issuer]);
        let mut why = "no key of its issuer fits";
        for key in keys.iter().filter(|key| fits(key, header)).take(KEYS_MAX) {
            let Ok(key) = DecodingKey::from_jwk(key) else { continue };
            match decode::<Claims>(token, &key, &rules) {
                Ok(found) => return Ok(found.claims),
                Err(error) => {
                    why = match error.kind() {
                        ErrorKind::ExpiredSignature => "it has expired",
                        ErrorKind::ImmatureSignature => "it is not good yet",
                        ErrorKind::InvalidIssuer => "it has another issuer",
                        ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => {
                            "a claim is missing or of another type"
                        }
                        _ => "its signature is wrong",
                    }
                }
            }
        }
        Err(Denied::Invalid(why))
    }

    /// The provider's keys, asked for anew if that is not too soon. `old`: those at hand are not to be relied on.
    async fn fetch(&self, old: bool) -> Result<Arc<Keys>, Denied> {
        let before = self.keys.load_full();
        let mut asked = self.asked.lock().await;
        let after = self.keys.load_full();
        if !Arc::ptr_eq(&before, &after) {
            return Ok(after);
        }
        let usable = after.fetched.is_some_and(|fetched| fetched.elapsed() < KEYS_AGE_MAX);
        let unsure = Denied::Unsure("the keys of the identity provider cannot be fetched");
        if asked.is_some_and(|asked| asked.elapsed() < FETCH_PAUSE) {
            return if usable { Ok(after) } else { Err(unsure) };
        }
        *asked = Some(Instant::now());
        match self.ask().await {
            Ok(set) => {
                let keys = Arc::new(Keys { set, fetched: Some(Instant::now()) });
                // Whoever came in by a key that is gone has to show a token of another one.
                self.remembered().clear();
                self.keys.store(keys.clone());
                Ok(keys)
            }
            Err(error) => {
                tracing::warn!(issuer = %self.config.issuer, old, "cannot fetch the keys for tokens: {error}");
                if usable { Ok(after) } else { Err(unsure) }
            }
        }
    }

    async fn ask(&self) -> Result<Vec<Jwk>, String> {
        let url = match &self.config.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let document = self.document(&url).await?;
        // One key of a kind that nobody knows must not cost the others.
        let keys = document["keys"].as_array().ok_or_else(|| format!("{url} holds no list of keys"))?;
        let set = JwkSet { keys: keys.iter().filter_map(|key| serde_json::from_value(key.clone()).ok()).collect() };
        tracing::info!(issuer = %self.config.issuer, keys = set.keys.len(), "fetched the keys for tokens");
        Ok(set.keys)
    }

    /// Where the keys are, by the issuer's metadata (RFC 8414, OpenID Connect Discovery).
    async fn discover(&self) -> Result<Url, String> {
        let issuer = Url::parse(&self.config.issuer).map_err(|error| error.to_string())?;
        let mut last = String::new();
        for url in crate::auth::oauth::discovery::issuer_urls(&issuer) {
            match self.document(&url).await {
                Ok(document) if document["issuer"] != self.config.issuer.as_str() => {
                    last = format!("{url} names another issuer");
                }
                Ok(document) => match document["jwks_uri"].as_str().and_then(|url| Url::parse(url).ok()) {
                    Some(keys) if keys.scheme() == "https" || keys.origin() == issuer.origin() => return Ok(keys),
                    _ => last = format!("{url} names no `jwks_uri` that could be trusted"),
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn document(&self, url: &Url) -> Result<Value, String> {
        let failed = |error: reqwest::Error| format!("{url}: {}", crate::auth::cause(&error));
        let http = self.http.as_ref().ok_or("there is no TLS to ask with")?;
        let response = http.get(url.clone()).header("accept", "application/json").send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(format!("{url} answers HTTP {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(failed)?);
            if body.len() > DOCUMENT_BYTES_MAX {
                return Err(format!("{url} is larger than {DOCUMENT_BYTES_MAX} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|_| format!("{url} is no JSON"))
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<[u8; 32], Known>> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// May this key have signed a token with that header? Its own words about its use are obeyed.
fn fits(key: &Jwk, header: &Header) -> bool {
    let named = header.kid.as_ref().is_none_or(|kid| key.common.key_id.as_ref() == Some(kid));
    let signs = key.common.public_key_use.as_ref().is_none_or(|what| *what == PublicKeyUse::Signature);
    let same = key.common.key_algorithm.is_none_or(|algorithm| algorithm.to_string() == format!("{:?}", header.alg));
    let right = DecodingKey::from_jwk(key).is_ok_and(|decoding| decoding.family() == header.alg.family());
    named && signs && same && right
}
