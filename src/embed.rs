//! A hub as a part of another program: the public face, which the daemon itself is made of.
//!
//! | to | call |
//! |---|---|
//! | serve a configuration over HTTP, and nothing else | [`serve_http`] |
//! | serve one upstream to whoever is at the other end of a link, such as our own stdin and stdout | [`serve_stdio`] |
//! | have the hub within an actix-web app of your own | [`Builder::start`], then [`Hub::mount`] |
//! | hear of clients, say who they are, answer what is not the hub's | the methods of [`Builder`] |
//! | tell clients that something has changed | [`Hub::notify`] |
//! | put two links together, look on at one | [`proxy`](crate::proxy()), [`tap`](crate::tap()) |
//!
//! All of it runs on an actix System: within `#[actix_web::main]`, or in [`on_system`](crate::on_system). The thread it
//! is started on forks the children, which end with that thread. Each item's program stands under `examples/`, and in the
//! table of `docs/library.md`.

#![warn(missing_docs)]

mod notify;
mod serving;

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, HttpResponse, web};

pub use crate::{
    access::{Guest, Principal},
    config::{Config, Name, UpstreamConfig},
    hub::{
        Applied, ReloadError,
        replay::{EventStore, Kept},
        visits::Visit,
    },
    link::{
        Link,
        proxy::proxy,
        tap::{Passed, tap},
    },
    server::socket::{Listener, accepted},
    shutdown::Shutdown,
};
pub use notify::Notify;
pub use serving::{Serving, serve_http};

use crate::{
    auth::Credentials,
    hub::{
        Apply, Drain, House, Hub as Actor, HubAddress, Source, board,
        engine::MakesLink,
        visits::{Hears, Visits},
    },
    server::{
        self, Front,
        hooks::{Handled, Hooks},
        stdio::Hides,
    },
};

/// How long what is under way may take when a client on stdin has gone.
const FAREWELL_MAX: Duration = Duration::from_millis(100);

/// Why a hub serves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nobody would have to show who they are at an address that others reach.
    #[error(
        "{0} can be reached from other machines, and nobody would have to show who they are: set `hub.access` of the \
         configuration, or `Builder::authenticate`; or say `hub.access.allow_unauthenticated = true`"
    )]
    Exposed(SocketAddr),
    /// The sockets cannot be used.
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
    /// The configuration cannot be applied.
    #[error(transparent)]
    Config(#[from] ReloadError),
    /// [`serve_stdio`] serves one upstream, and there is none, or more than one.
    #[error("one upstream is served on a link: configure exactly one, or name it as `hub.default`")]
    Which,
}

/// A hub that is not started yet: its configuration, and what the program wants to decide itself. Without hooks a
/// request costs nothing more than in the daemon, and with them what they take.
pub struct Builder {
    pub(crate) config: Config,
    pub(crate) hash: String,
    pub(crate) source: Option<Source>,
    pub(crate) executable: Option<PathBuf>,
    pub(crate) credentials: Option<Arc<Credentials>>,
    pub(crate) hides: Option<Hides>,
    pub(crate) came: Option<Hears>,
    pub(crate) went: Option<Hears>,
    pub(crate) hooks: Hooks,
    pub(crate) inside: BTreeMap<Name, MakesLink>,
    pub(crate) events: Option<Arc<dyn EventStore>>,
}

impl From<Config> for Builder {
    fn from(config: Config) -> Builder {
        Builder {
            config,
            hash: String::new(),
            source: None,
            executable: None,
            credentials: None,
            hides: None,
            came: None,
            went: None,
            hooks: Hooks::default(),
            inside: BTreeMap::new(),
            events: None,
        }
    }
}

impl Builder {
    /// A server within this program, as the upstream `name`: `make` is called once for each instance, as often as a
    /// command would be started (by the isolation: for each session, each place in the pool, or once; once more where it
    /// has to be found out what the server speaks). [`link::streams::over`](crate::link::streams::over) makes a link of
    /// two byte streams. What [`config`](Self::config) says of the name stands, but for its command. It must not block.
    pub fn inside(mut self, name: Name, make: impl Fn() -> Link + Send + Sync + 'static) -> Builder {
        let folder = || std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        self.config.upstreams.entry(name.clone()).or_insert_with(|| UpstreamConfig::new("", folder()));
        self.inside.insert(name, Arc::new(make));
        self
    }

    /// Changes the configuration.
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Builder {
        change(&mut self.config);
        self
    }

    /// Hears of each client that comes: of a session when it opens; of a client without sessions (2026-07-28) with its
    /// first request. At most 1024 wait to be heard, in order; one that fails, panics or takes longer than 30 s is
    /// logged, and no call waits for any. It runs on the hub's own thread: it may wait, and must not block.
    pub fn on_connect<F>(mut self, hears: impl Fn(Visit) -> F + Send + Sync + 'static) -> Builder
    where
        F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        self.came = Some(Box::new(move |visit| Box::pin(hears(visit))));
        self
    }

    /// Hears of each client that goes, and why ([`Visit::why`]): its session was deleted, was idle for too long, or
    /// ended with its stream or the hub. The bounds are those of [`on_connect`](Self::on_connect).
    pub fn on_close<F>(mut self, hears: impl Fn(Visit) -> F + Send + Sync + 'static) -> Builder
    where
        F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        self.went = Some(Box::new(move |visit| Box::pin(hears(visit))));
        self
    }

    /// Says who asks, for each request to an upstream or to a page that is not for anybody: `Ok(Some(guest))` lets it
    /// in; `Ok(None)` leaves it to the rules of `hub.auth`, and where there are none it is refused with 401; `Err(response)`
    /// goes out as it is, with its status and headers. A panic, or 30 s without an end, is an answer of 500.
    ///
    /// It is asked on the worker that serves the request, of its head alone: the body is the hub's. Sessions belong to the
    /// guest that opened them, by its id. Nothing is remembered: a guest that is known no more is refused with its next
    /// request.
    pub fn authenticate<F>(mut self, asks: impl Fn(HttpRequest) -> F + Send + Sync + 'static) -> Builder
    where
        F: Future<Output = Result<Option<Guest>, HttpResponse>> + 'static,
    {
        self.hooks.authenticate = Some(Box::new(move |request| Box::pin(asks(request))));
        self
    }

    /// Answers requests that name no upstream and no page of the hub, before anybody is asked who they are; `Ok(None)`
    /// leaves them to the hub, which answers 404. `Host` and `Origin` were checked; the body was not: how much of it is read is
    /// the program's business. An error, a panic, or 30 s without an
    /// end is an answer of 500, and a line in the log.
    ///
    /// Where the hub is [mounted](Hub::mount) in an app, the app's own routes do this, and come first.
    pub fn on_unhandled<F>(
        mut self,
        handles: impl Fn(HttpRequest, web::Payload) -> F + Send + Sync + 'static,
    ) -> Builder
    where
        F: Future<Output = Handled> + 'static,
    {
        self.hooks.unhandled = Some(Box::new(move |request, payload| Box::pin(handles(request, payload))));
        self
    }

    /// Keeps the events that clients come back for (`Last-Event-ID`) in place of the hub's memory, which keeps
    /// `hub.limits.replay_events_max` and `replay_bytes_max` of each session.
    pub fn event_store(mut self, events: impl EventStore + 'static) -> Builder {
        self.events = Some(Arc::new(events));
        self
    }

    /// Starts the hub, and listens nowhere: the next step is [`Hub::mount`]. Call it on an actix System.
    pub async fn start(self) -> Result<Hub, ServeError> {
        let (hub, config) = self.open();
        hub.begin(config).await?;
        Ok(hub)
    }

    /// The hub without its upstreams, and the configuration that brings them.
    fn open(self) -> (Hub, Config) {
        let Builder { config, hash, source, executable, credentials, came, went, hooks, inside, events, .. } = self;
        let house = House::new(&config);
        let engine = &house.engine;
        executable.map(|path| engine.executable.set(path));
        credentials.map(|credentials| engine.credentials.set(credentials));
        events.map(|events| house.events.set(events));
        if !inside.is_empty() {
            let _ = engine.inside.set(inside);
        }
        if came.is_some() || went.is_some() {
            let _ = house.visits.set(Visits::start(came, went));
        }
        let address = Actor::start(house.clone(), config.clone(), hash, source);
        let front = Front::new(house.clone(), hooks);
        (Hub { house, address, front }, config)
    }
}

/// A hub that runs, seen from outside. Cheap to clone; it runs until [`stop`](Self::stop), or until the actix System
/// ends.
#[derive(Clone)]
pub struct Hub {
    pub(crate) house: Arc<House>,
    pub(crate) address: HubAddress,
    front: Arc<Front>,
}

impl Hub {
    /// The way to one: a configuration that was built in code, parsed of a text (`text.parse::<Config>()`), or
    /// [read](crate::config::read) of a file.
    pub fn builder(config: Config) -> Builder {
        config.into()
    }

    /// Hangs the hub into an actix-web app, as what answers when no route of the app does:
    /// `App::new().route(…).configure(|app| hub.mount(app))`. So the app's own routes come first, and are nobody's
    /// business but its own: `hub.auth` does not guard them. Paths are those of the whole URL: within a scope, name it in
    /// `hub.prefixes`.
    ///
    /// The app's `HttpServer` should set `h1_allow_half_closed(false)`, or clients that leave go unnoticed, and
    /// `on_connect(hubward::accepted)`, or their certificates do. Where clients reach it is what `hub.public_url` says.
    pub fn mount(&self, app: &mut web::ServiceConfig) {
        server::mount(app, &self.front);
    }

    /// Applies another configuration: what did not change is not touched, and nothing is where it cannot be applied
    /// whole. It is refused where it changes what needs another process, such as `bind`.
    pub async fn apply(&self, config: Config) -> Result<Applied, ReloadError> {
        self.address.send(Apply(config)).await.unwrap_or(Err(ReloadError::Draining))
    }

    /// The way to tell the clients of an upstream that something has changed. None where there is no such upstream.
    pub fn notify(&self, upstream: &str) -> Option<Notify> {
        let exists = self.house.table.find(upstream).is_some();
        exists.then(|| Notify { house: self.house.clone(), upstream: upstream.to_owned() })
    }

    /// Ends the hub. For `hub.drain_delay` it serves on and is not ready any more; then new work is refused, and calls
    /// under way may finish up to `hub.drain_timeout`; then all instances are stopped, and waited for. The server it is
    /// mounted in should go on until then.
    pub async fn stop(&self) {
        self.leave().await;
        self.drain().await;
        self.house.farewell().await;
        self.house.rest();
    }

    /// Brings up the upstreams, and tells those who watch from here on.
    async fn begin(&self, config: Config) -> Result<Applied, ReloadError> {
        let applied = self.apply(config).await?;
        // Ends when the hub drains.
        actix_web::rt::spawn(board::keep(self.house.clone()));
        Ok(applied)
    }

    /// Says that it goes, and serves on.
    async fn leave(&self) {
        let delay = self.house.config.load().drain_delay;
        if delay.is_zero() {
            return;
        }
        // By its end every balancer has asked /readyz, and sends nobody who would have to be refused (F129).
        tracing::info!("not ready any more; serving on for {delay:?}");
        self.house.leaving.cancel();
        tokio::time::sleep(delay).await;
    }

    async fn drain(&self) {
        let deadline = Instant::now() + self.house.config.load().drain_timeout;
        // New work is refused from here on. It is still answered, so that callers know; a balancer sees /readyz.
        self.house.draining.cancel();
        self.house.see_off();
        self.front.settled(deadline).await;
        let _ = self.address.send(Drain::Until(deadline)).await;
        self.front.flushed().await;
    }
}

/// Serves one upstream of a configuration, the only one or `hub.default`, to whoever is at the other end of a link, and
/// listens nowhere. Ends with the link, or when told to.
///
/// The upstream may be a command or a URL, of any revision, whatever the client's: as [`UpstreamConfig`] says.
/// [`link::stdio::open`](crate::link::stdio::open) is our own stdin and stdout.
pub async fn serve_stdio(hub: impl Into<Builder>, link: Link, shutdown: Shutdown) -> Result<(), ServeError> {
    let mut builder: Builder = hub.into();
    let hides = builder.hides.take();
    let name = only(&builder.config).cloned().ok_or(ServeError::Which)?;
    let (hub, config) = builder.open();
    // There are no workers: this thread does it all.
    hub.house.engine.workers.register();
    hub.apply(config).await?;
    if let Some(route) = hub.house.table.find(name.as_str()) {
        tokio::select! {
            () = server::stdio::serve(hub.house.clone(), route, link, hides) => {}
            () = shutdown.soon.cancelled() => {}
        }
    }
    let _ = hub.address.send(Drain::Until(Instant::now() + FAREWELL_MAX)).await;
    hub.house.farewell().await;
    Ok(())
}

/// The one upstream that is meant where none is named.
fn only(config: &Config) -> Option<&Name> {
    let only = config.upstreams.keys().next().filter(|_| config.upstreams.len() == 1);
    config.hub.default.as_ref().or(only)
}
