//! A login by a person: begun here, seen through in a browser, here or in another process.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::{
    Device, Mode, OAuth, Prompt, STORE_POLL,
    code::{self, Listener, Reply, Visit},
    device::{self, Waiting},
    discovery::Found,
    http::Fault,
    now,
    registration::{self, Choice},
    renewal::issued,
    scope::{self, Known},
    token::{self, Identity},
};
use crate::auth::{
    AuthError,
    challenge::Challenge,
    store::{Lock, Locked, Origin, Secret, Token},
};

/// How long a browser may take to open. One in a terminal takes until it is closed.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(5);

/// A login that a daemon waits for.
pub(super) struct Pending {
    pub url: String,
    issuer: String,
    scopes: Vec<String>,
    end: Instant,
    task: AbortHandle,
}

impl Pending {
    pub fn is_open(&self) -> bool {
        Instant::now() < self.end && !self.task.is_finished()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Its listener closes: the next login may want the port.
        self.task.abort();
    }
}

/// A login that was begun.
struct Attempt {
    found: Found,
    identity: Identity,
    scopes: Vec<String>,
    way: Way,
    prompt: Prompt,
    /// What was there before, and is no sign that somebody has logged in.
    before: Option<Secret>,
    end: Instant,
}

/// How the answer comes.
enum Way {
    Code { listener: Listener, state: String, verifier: String },
    Device(Waiting),
}

impl OAuth {
    /// Lets a person log in. True: there is a token now.
    pub(super) async fn log_in(
        &self,
        found: Found,
        challenge: Option<&Challenge>,
        scopes_before: &[String],
    ) -> Result<bool, AuthError> {
        let scopes = scope::wanted(Known {
            configured: self.spec.settings.scopes.as_deref(),
            challenged: challenge.and_then(|challenge| challenge.get("scope")),
            missing: challenge.is_some_and(Challenge::wants_scope),
            resource: found.scopes.as_deref(),
            before: scopes_before,
            issuer: &found.issuer.scopes,
        });
        match self.spec.mode {
            Mode::Nobody => {
                let server = &self.spec.server;
                Err(AuthError::needed(format!("one has to log in first: hubward auth login {server}")))
            }
            Mode::Daemon => self.log_in_later(found, scopes).await,
            Mode::Interactive => self.log_in_now(found, scopes).await,
        }
    }

    /// Tells where to log in, and waits in the background.
    async fn log_in_later(&self, found: Found, scopes: Vec<String>) -> Result<bool, AuthError> {
        let needed = |visit: String| AuthError::Needed { why: "one has to log in".to_owned(), visit: Some(visit) };
        let open = self.pending().as_ref().filter(|pending| pending.is_open()).and_then(|pending| {
            let enough = scopes.iter().all(|scope| pending.scopes.contains(scope));
            (enough && pending.issuer == found.issuer.name).then(|| pending.url.clone())
        });
        if let Some(url) = open {
            return Err(needed(url));
        }
        *self.pending() = None;
        let attempt = self.begin(found, scopes).await?;
        let (url, issuer) = (attempt.prompt.url.clone(), attempt.found.issuer.name.clone());
        let (scopes, end) = (attempt.scopes.clone(), attempt.end);
        (self.spec.show)(&attempt.prompt);
        let (me, server) = (self.me.clone(), self.spec.server.clone());
        let task = tokio::spawn(async move {
            match finish(&me, attempt).await {
                Ok(()) => tracing::info!("logged in to {server}"),
                Err(fault) => tracing::warn!("the login to {server} failed: {fault}"),
            }
        });
        let visit = url.clone();
        *self.pending() = Some(Pending { url, issuer, scopes, end, task: task.abort_handle() });
        Err(needed(visit))
    }

    /// Opens a browser, and waits.
    async fn log_in_now(&self, found: Found, scopes: Vec<String>) -> Result<bool, AuthError> {
        let before = self.stored().await.map(|token| token.access);
        // One window for all processes: whoever waits for it may find that the login is done.
        let Some(_window) = self.window(before.as_ref()).await? else { return Ok(true) };
        let issuer = found.issuer.name.clone();
        for again in [true, false] {
            let mut attempt = self.begin(found.clone(), scopes.clone()).await?;
            attempt.prompt.opened = attempt.prompt.code.is_none() && self.spec.settings.browser && {
                let url = attempt.prompt.url.clone();
                has_browser() && open(url).await
            };
            (self.spec.show)(&attempt.prompt);
            let late = attempt.end;
            match finish(&self.me, attempt).await {
                Ok(()) => return Ok(true),
                // The client is gone there: once, another is registered.
                Err(fault) if again && fault.is("invalid_client") && self.forget_client(&issuer).await => {}
                Err(fault) => {
                    if Instant::now() >= late {
                        // Maybe all that the page showed was that the client is unknown: the next one is new.
                        self.forget_client(&issuer).await;
                    }
                    return Err(fault.into());
                }
            }
        }
        Ok(false)
    }

    /// The lock of the browser window; `None`: somebody has logged in meanwhile.
    async fn window(&self, before: Option<&Secret>) -> Result<Option<Locked>, Fault> {
        let end = Instant::now() + self.spec.settings.login_time(self.spec.mode);
        let mut waited = false;
        loop {
            let locked = self.entry.try_lock(Lock::Login);
            if waited && let Some(token) = self.logged_in(before).await {
                self.remember(&token);
                return Ok(None);
            }
            if locked.is_some() {
                return Ok(locked);
            }
            if Instant::now() > end {
                return Err(Fault::wrong("another process waits for the same login"));
            }
            waited = true;
            tokio::time::sleep(STORE_POLL).await;
        }
    }

    /// A token that was not there before, got by anybody.
    async fn logged_in(&self, before: Option<&Secret>) -> Option<Token> {
        let token = self.entry.read().await.token?;
        (Some(&token.access) != before && token.is_alive(now())).then_some(token)
    }

    /// Forgets a registration on the spot. False: there was none.
    async fn forget_client(&self, issuer: &str) -> bool {
        let _one_of_all = self.entry.lock(Lock::Exchange).await;
        let mut record = self.entry.read().await;
        let known = record.registrations.remove(issuer).is_some();
        if known {
            self.entry.write(record).await;
        }
        known
    }

    /// All that comes before the person: a client, a listener or a code, and a URL.
    async fn begin(&self, found: Found, scopes: Vec<String>) -> Result<Attempt, Fault> {
        let (settings, mode) = (&self.spec.settings, self.spec.mode);
        let issuer = &found.issuer;
        let offered = issuer.device.is_some();
        let by_code = match settings.device {
            Device::Auto => offered && mode == Mode::Interactive && !has_browser(),
            Device::Prefer => offered,
            Device::Never => false,
        };
        let before = self.entry.read().await;
        let known = before.registrations.get(&issuer.name);
        let choice = registration::choose(settings, issuer)?;
        let listener = match by_code {
            true => None,
            false => Some(Listener::bind(settings, known.map(|known| known.redirect_uri.as_str())).await?),
        };
        let redirect = listener.as_ref().map(|listener| listener.redirect.as_str());
        let identity = match choice {
            Choice::Document(url) => registration::public(url),
            Choice::ByHand => {
                registration::by_hand(settings, issuer).ok_or_else(|| Fault::wrong("no client is configured"))?
            }
            Choice::OnTheSpot => self.on_the_spot(&found, redirect).await?,
        };
        let within = settings.login_time(mode);
        let (way, url, code) = match listener {
            Some(listener) => {
                let (state, verifier) = (code::random(32), code::random(48));
                if state.is_empty() || verifier.is_empty() {
                    return Err(Fault::wrong("the system has no randomness"));
                }
                let visit = Visit {
                    client_id: &identity.id,
                    redirect: &listener.redirect,
                    state: &state,
                    verifier: &verifier,
                    scopes: &scopes,
                    resource: &found.resource,
                };
                let url = code::visit(issuer, &visit)?.to_string();
                (Way::Code { listener, state, verifier }, url, None)
            }
            None => {
                let waiting = device::begin(&self.http, issuer, &identity, &scopes, &found.resource).await?;
                let (url, code) = (waiting.url.clone(), waiting.code.clone());
                (Way::Device(waiting), url, Some(code))
            }
        };
        let prompt = Prompt { server: self.spec.server.to_string(), url, code, opened: false, within };
        let before = before.token.map(|token| token.access);
        Ok(Attempt { found, identity, scopes, way, prompt, before, end: Instant::now() + within })
    }

    /// The client that we registered, or register now.
    async fn on_the_spot(&self, found: &Found, redirect: Option<&str>) -> Result<Identity, Fault> {
        let issuer = &found.issuer;
        let record = self.entry.read().await;
        let known = record.registrations.get(&issuer.name);
        if let Some(known) = known.filter(|known| registration::is_usable(known, redirect)) {
            // Where that can be asked: is it still there? A person would only see an error page.
            match registration::read(&self.http, known).await {
                _ if known.uri.is_none() => return Ok(registration::registered(known)),
                Err(Fault::Wrong(why)) => tracing::info!("a new client is registered with {}: {why}", issuer.name),
                Err(_) => return Ok(registration::registered(known)),
                Ok((_, known)) => {
                    let identity = registration::registered(&known);
                    self.keep_client(&issuer.name, known).await;
                    return Ok(identity);
                }
            }
        }
        // Where no browser comes back, any address of this machine does.
        let redirect = redirect.unwrap_or("http://127.0.0.1/callback");
        let registration = registration::register(&self.http, &self.spec.settings, issuer, redirect).await?;
        let identity = registration::registered(&registration);
        self.keep_client(&issuer.name, registration).await;
        Ok(identity)
    }

    /// Keeps a registration.
    pub(super) async fn keep_client(&self, issuer: &str, registration: crate::auth::store::Registration) {
        let _one_of_all = self.entry.lock(Lock::Exchange).await;
        let mut record = self.entry.read().await;
        if record.registrations.insert(issuer.to_owned(), registration.clone()).as_ref() != Some(&registration) {
            self.entry.write(record).await;
        }
    }

    /// From the code that the browser brought, or the one that was typed, to a token that is kept.
    async fn redeem(&self, attempt: &Attempt, reply: Option<Reply>) -> Result<(), Fault> {
        let Attempt { found, identity, scopes, way, .. } = attempt;
        let issuer = &found.issuer;
        let granted = match way {
            Way::Device(waiting) => device::wait(&self.http, issuer, identity, waiting, &found.resource).await?,
            Way::Code { listener: Listener { redirect, .. }, verifier, .. } => {
                let code = code::judge(reply.unwrap_or_default(), issuer)?;
                let form = vec![
                    ("grant_type", "authorization_code".to_owned()),
                    ("code", code),
                    ("redirect_uri", redirect.clone()),
                    ("code_verifier", verifier.clone()),
                    ("resource", found.resource.clone()),
                ];
                token::ask(&self.http, token::endpoint(issuer)?, &issuer.name, identity, form).await?
            }
        };
        let token = issued(granted, issuer, identity, &found.resource, scopes, Origin::Login)?;
        let _one_of_all = self.entry.lock(Lock::Exchange).await;
        self.memory().logged_in = Some(Instant::now());
        self.keep(&token).await;
        Ok(())
    }
}

/// Waits for the person, and for nobody else than the one who asked: when the [`OAuth`] is gone, so is the wait.
async fn finish(me: &Weak<OAuth>, attempt: Attempt) -> Result<(), Fault> {
    let gone = || Fault::Unreachable("the login is not needed any more".to_owned());
    let answered = async {
        let reply = match &attempt.way {
            Way::Code { listener, state, .. } => Some(listener.reply(state).await),
            Way::Device(_) => None,
        };
        me.upgrade().ok_or_else(gone)?.redeem(&attempt, reply).await
    };
    let (before, within) = (attempt.before.clone(), attempt.prompt.within);
    // Another process may see a login through, for the same server.
    let elsewhere = async {
        loop {
            tokio::time::sleep(STORE_POLL).await;
            let Some(me) = me.upgrade() else { return Err(gone()) };
            if let Some(token) = me.logged_in(before.as_ref()).await {
                me.remember(&token);
                return Ok(());
            }
        }
    };
    tokio::select! {
        done = answered => done,
        done = elsewhere => done,
        () = tokio::time::sleep(within) => {
            let minutes = within.as_secs().div_ceil(60);
            Err(Fault::wrong(format!("nobody has logged in within {minutes} min: ask again")))
        }
    }
}

/// Can a browser be shown to the person who runs us?
fn has_browser() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("BROWSER") {
        return true;
    }
    let far = is_set("SSH_CONNECTION") || is_set("SSH_TTY");
    let shown = !cfg!(target_os = "linux") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY");
    shown && !far
}

/// Opens a browser, without a shell, and only for what is http or https.
async fn open(url: String) -> bool {
    let open = tokio::task::spawn_blocking(move || {
        // What it prints is none of our output, which a program may be reading.
        let mut options = webbrowser::BrowserOptions::new();
        options.with_suppress_output(true);
        webbrowser::open_browser_with_options(webbrowser::Browser::Default, &url, &options).is_ok()
    });
    // One that takes long has opened.
    tokio::time::timeout(BROWSER_TIMEOUT, open).await.map_or(true, |opened| opened.unwrap_or(false))
}
