//! OAuth 2.1 as a client: a token for each request, renewed ahead of its end; a login where none is to be had without.
//!
//! One [`OAuth`] is shared by all that ask the same server in this process; several processes share the store. What
//! must happen once happens behind a lock of the process and one of the file, and looks at the store again behind both:
//! a refresh token that can be used once is used once. Exchanges run as tasks of their own, because a caller that goes
//! away in the middle must not take the new token with it.

pub mod code;
pub mod device;
pub mod discovery;
pub mod guard;
pub mod http;
pub mod login;
pub mod manage;
pub mod refusal;
pub mod registration;
pub mod renewal;
pub mod scope;
pub mod settings;
pub mod token;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use reqwest::{
    Request, StatusCode,
    header::{AUTHORIZATION, HeaderMap},
};
use secrecy::ExposeSecret;
use tokio::sync::watch;

pub use self::settings::{Client, Device, Endpoints, Given, Grant, Mode, OAuthSpec, Prompt, Settings, SigningKey};
use self::{http::Http, login::Pending, refusal::Operation};
use crate::auth::{
    AuthError, challenge,
    password::secret_header,
    store::{Entry, Method, Origin, Secret, Token},
};

/// How often the store is looked at by those who wait for a login, which another process may see through.
const STORE_POLL: Duration = Duration::from_secs(1);

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A token for one server, and all it takes to come by one.
pub struct OAuth {
    spec: OAuthSpec,
    http: Http,
    entry: Entry,
    memory: Mutex<Memory>,
    /// Held while a token is exchanged.
    exchange: tokio::sync::Mutex<()>,
    /// Held while a refusal is settled, which may take as long as a person does.
    settling: tokio::sync::Mutex<()>,
    /// The login that a daemon waits for.
    pending: Mutex<Option<Pending>>,
    /// Counts the tokens that were come by.
    changed: watch::Sender<u64>,
    me: Weak<OAuth>,
}

/// What is known without looking.
#[derive(Default)]
struct Memory {
    token: Option<Token>,
    /// When a person logged in last.
    logged_in: Option<Instant>,
    /// What this process got last.
    got: Option<Got>,
    /// How often a bigger scope was asked for in vain, by what wanted it.
    steps: HashMap<Operation, u8>,
}

/// A token that this process got, and how it fared.
struct Got {
    access: Secret,
    when: Instant,
    /// For how many requests it was used.
    uses: u64,
    /// How many of them were refused.
    refusals: u64,
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("server", &self.spec.server.as_str()).finish_non_exhaustive()
    }
}

impl OAuth {
    /// Nothing is asked before a request needs it.
    #[must_use]
    pub fn new(spec: OAuthSpec) -> Arc<OAuth> {
        let settings = &spec.settings;
        let server = discovery::canonical(&spec.server);
        let client = settings.client.as_ref().map(|client| client.id.as_str()).unwrap_or_default();
        let grant = if settings.grant == Grant::ClientCredentials { "client" } else { "" };
        let parts = [&server, settings.resource.as_deref().unwrap_or_default(), client, grant, &settings.tenant];
        let entry = spec.store.entry(&server, spec.server.host_str().unwrap_or_default(), &parts);
        Arc::new_cyclic(|me| OAuth {
            http: Http::new(&spec),
            entry,
            memory: Mutex::default(),
            exchange: tokio::sync::Mutex::default(),
            settling: tokio::sync::Mutex::default(),
            pending: Mutex::default(),
            changed: watch::Sender::new(0),
            me: me.clone(),
            spec,
        })
    }

    /// Puts the token onto a request, if there is one.
    pub async fn apply(&self, request: &mut Request) -> Result<(), AuthError> {
        if let Some(token) = self.token().await?
            && let Some(value) = secret_header(&format!("Bearer {}", token.access.expose()))
        {
            request.headers_mut().insert(AUTHORIZATION, value);
            if let Some(got) = self.memory().got.as_mut().filter(|got| got.access == token.access) {
                got.uses += 1;
            }
        }
        Ok(())
    }

    /// See [`Credentials::refused`](crate::auth::Credentials::refused).
    pub async fn refused(&self, sent: &HeaderMap, status: StatusCode, answer: &HeaderMap) -> Result<bool, AuthError> {
        let challenge = challenge::bearer(answer);
        let more = challenge.as_ref().is_some_and(challenge::Challenge::wants_scope);
        if status != StatusCode::UNAUTHORIZED && !(status == StatusCode::FORBIDDEN && more) {
            return Ok(false);
        }
        let sent_token = sent.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent_token = sent_token.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        let operation = Operation::of(sent, challenge.as_ref());
        self.whole(|me| async move {
            match more && sent_token.is_some() {
                true => me.step_up(sent_token, challenge, operation).await,
                false => me.renew(sent_token, challenge).await,
            }
        })
        .await
    }

    /// A token that can be used now; refreshed if it is time. `None`: one has to log in.
    pub async fn token(&self) -> Result<Option<Token>, AuthError> {
        let time = now();
        if let Some(token) = self.memory().token.clone().filter(|token| token.is_fresh(time)) {
            return Ok(Some(token));
        }
        let Some(token) = self.stored().await else { return self.without().await };
        if token.is_fresh(time) {
            self.remember(&token);
            return Ok(Some(token));
        }
        let still = token.is_alive(time).then(|| token.clone());
        match self.whole(|me| async move { me.refresh(&token).await }).await {
            Ok(Some(token)) => Ok(Some(token)),
            Ok(None) if still.is_none() && self.spec.settings.grant == Grant::ClientCredentials => self.without().await,
            Ok(None) => Ok(still),
            // A blip just before its end: it is good for a while.
            Err(_) if still.is_some() => Ok(still),
            Err(fault) => Err(fault.into()),
        }
    }

    /// What is kept for the server, or came from outside.
    async fn stored(&self) -> Option<Token> {
        self.entry.read().await.token.or_else(|| self.given())
    }

    /// A token that came from outside.
    fn given(&self) -> Option<Token> {
        let settings = &self.spec.settings;
        let given = &settings.given;
        let access = given.access_token.as_ref().map(ExposeSecret::expose_secret);
        let refresh = given.refresh_token.as_ref().map(|token| token.expose_secret().into());
        if access.is_none() && refresh.is_none() {
            return None;
        }
        let client = settings.client.as_ref();
        Some(Token {
            issuer: String::new(),
            // Without an access token there is one that has ended.
            expires_at: if access.is_some() { given.expires_at } else { Some(0) },
            access: access.unwrap_or_default().into(),
            refresh,
            obtained_at: 0,
            origin: Origin::Given,
            scopes: settings.scopes.clone().unwrap_or_default(),
            resource: String::new(),
            client_id: client.map(|client| client.id.clone()).unwrap_or_default(),
            method: Method::None,
            token_endpoint: String::new(),
            revocation_endpoint: None,
        })
    }

    /// There is no token: one is got where that needs nobody, and the way there is named.
    async fn without(&self) -> Result<Option<Token>, AuthError> {
        let settings = &self.spec.settings;
        // Without the name of the endpoint it is the refusal that tells where to ask.
        if settings.grant != Grant::ClientCredentials || settings.endpoints.token.is_none() {
            return Ok(None);
        }
        Ok(Some(self.whole(|me| async move { me.client_credentials(None, None).await }).await?))
    }

    /// Resolves when there is a token that was not there at the time of the call: a login has finished, here or in
    /// another process.
    pub async fn wait_ready(&self) {
        let mut changed = self.changed.subscribe();
        let before = self.memory().token.clone().map(|token| token.access);
        loop {
            tokio::select! {
                _ = changed.changed() => return,
                () = tokio::time::sleep(STORE_POLL) => {
                    if self.stored().await.is_some_and(|token| Some(&token.access) != before.as_ref() && token.is_alive(now())) {
                        return;
                    }
                }
            }
        }
    }

    /// Where to log in, while a login is waited for.
    #[must_use]
    pub fn visit(&self) -> Option<String> {
        self.pending().as_ref().filter(|pending| pending.is_open()).map(|pending| pending.url.clone())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses a token from now on.
    fn remember(&self, token: &Token) {
        let mut memory = self.memory();
        let is_new = memory.token.as_ref().is_none_or(|known| known.access != token.access);
        memory.token = Some(token.clone());
        drop(memory);
        if is_new {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Keeps a token for all processes, and uses it.
    async fn keep(&self, token: &Token) {
        let mut record = self.entry.read().await;
        record.token = Some(token.clone());
        self.entry.write(record).await;
        self.got(token);
    }

    /// Uses a token that this process has just got.
    fn got(&self, token: &Token) {
        self.memory().got = Some(Got { access: token.access.clone(), when: Instant::now(), uses: 0, refusals: 0 });
        self.remember(token);
    }

    /// Runs to its end even if the caller goes away.
    async fn whole<T, E, F>(&self, work: impl FnOnce(Arc<OAuth>) -> F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<http::Fault> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let gone = || E::from(http::Fault::Unreachable("the hub is stopping".to_owned()));
        let Some(me) = self.me.upgrade() else { return Err(gone()) };
        tokio::spawn(work(me)).await.unwrap_or_else(|_| Err(gone()))
    }
}
