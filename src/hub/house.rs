//! What the server and the Hub share: what may be seen, and who is admitted, without asking an actor.

use std::sync::OnceLock;

use tokio::sync::watch;

use super::*;
use crate::{
    access::{Barred, Gate, Principal},
    link::tunnel,
    observe::audit::Audit,
};

/// What the server and the Hub share: what may be seen without asking an actor.
pub struct House {
    pub engine: Arc<Engine>,
    pub table: RouteTable,
    pub config: ArcSwap<HubConfig>,
    /// Who may knock, of the same generation as the configuration.
    pub gate: ArcSwap<Gate>,
    /// How it is with the way in from elsewhere.
    pub tunnel: watch::Sender<tunnel::State>,
    /// The addresses that are listened on, as URLs.
    pub listeners: OnceLock<Vec<String>>,
    pub status: ArcSwap<HubStatus>,
    /// What became of the certificate's last renewal.
    pub renewal: certificate::Renewal,
    /// What those see who watch.
    pub board: board::Board,
    /// Calls that wait for their client's answer.
    pub parking: Arc<parking::Parking>,
    /// Cancelled when the hub begins to end: no new work, streams close.
    pub draining: CancellationToken,
    /// Cancelled with it, or before: whoever asks is told to send nobody any more, and who comes is served still.
    pub leaving: CancellationToken,
    /// Who is told when the file is about to be read again, and when that is done.
    pub herald: OnceLock<Herald>,
    /// Who hears of clients that come and go, in an embedding program.
    pub visits: OnceLock<visits::Visits>,
    /// Keeps the events that clients come back for, in an embedding program.
    pub events: OnceLock<Arc<dyn replay::EventStore>>,
}

/// Hears `true` when a reload begins, and `false` when it is over.
pub type Herald = Box<dyn Fn(bool) + Send + Sync>;

impl House {
    pub fn new(config: &Config) -> Arc<House> {
        let (now, draining) = (SystemTime::now(), CancellationToken::new());
        let status = HubStatus {
            generation: 0,
            hash: String::new(),
            applied: now,
            plan: String::new(),
            rejected: None,
            rejections: 0,
            started: now,
            panics: 0,
        };
        Arc::new(House {
            engine: Engine::new(config.hub.limits.clone()),
            table: RouteTable::default(),
            config: ArcSwap::from_pointee(config.hub.clone()),
            gate: ArcSwap::from_pointee(Gate::new(&config.hub, None)),
            tunnel: watch::Sender::default(),
            listeners: OnceLock::new(),
            status: ArcSwap::from_pointee(status),
            renewal: certificate::Renewal::default(),
            board: board::Board::default(),
            parking: parking::Parking::new(),
            leaving: draining.child_token(),
            draining,
            herald: OnceLock::new(),
            visits: OnceLock::new(),
            events: OnceLock::new(),
        })
    }

    /// Has the file read again, and tells whoever waits for the end of that.
    pub async fn reload(&self, hub: &HubAddress) -> Result<Applied, ReloadError> {
        let tell = |begins| self.herald.get().iter().for_each(|herald| herald(begins));
        tell(true);
        let outcome = hub.send(Reload).await.unwrap_or(Err(ReloadError::Draining));
        tell(false);
        outcome
    }

    /// Makes a session known.
    pub fn admit_session(&self, route: &Route, session: Arc<session::Session>) {
        self.engine.sessions.fetch_add(1, Ordering::Relaxed);
        self.tell_visit(route, &session, None);
        route.audience.insert(session);
    }

    /// Tells an embedding program of a client.
    fn tell_visit(&self, route: &Route, session: &session::Session, why: Option<&str>) {
        if let Some(visits) = self.visits.get() {
            visits.tell(visits::Visit::of(route, session, why.map(Into::into)));
        }
    }

    /// Ends all sessions of a hub that has ended, where an embedding program wants to hear of it.
    pub async fn farewell(&self) {
        let Some(visits) = self.visits.get() else { return };
        for route in self.table.load().by_name.values() {
            let sessions = route.audience.all();
            sessions.iter().for_each(|session| self.end_session(route, session, "the hub is shutting down"));
        }
        visits.flushed().await;
    }

    /// Makes known what the requests of a client without sessions share; the first one wins.
    pub fn admit_identity(&self, route: &Route, session: Arc<session::Session>) -> Arc<session::Session> {
        let (session, new) = route.audience.get_or_insert(session);
        if new {
            self.engine.sessions.fetch_add(1, Ordering::Relaxed);
            self.tell_visit(route, &session, None);
        }
        session
    }

    /// Ends the sessions that were idle the longest, to make room. Answers whether there was one.
    pub fn evict_idle_session(&self) -> bool {
        let routes = self.table.load();
        let idle = routes.by_name.values().flat_map(|route| {
            let sessions = route.audience.idle(Duration::ZERO).into_iter();
            sessions.map(move |session| (session.idle_for(), route, session))
        });
        let mut idle: Vec<_> = idle.collect();
        idle.sort_by_key(|(idle_for, ..)| std::cmp::Reverse(*idle_for));
        // A hundredth at once, so that a flood does not sort them all for each newcomer.
        let room = (self.engine.limits.load().sessions_max / 100).max(1);
        let evicted = idle.iter().take(room);
        evicted
            .map(|(_, route, session)| self.end_session(route, session, "its session made room for newer ones"))
            .count()
            > 0
    }

    /// Ends a session wherever it is counted.
    pub fn end_session(&self, route: &Route, session: &Arc<session::Session>, why: &str) {
        let shared = route.serving.connection.load_full();
        let apart = shared.as_ref().is_some_and(|shared| shared.keeps_apart());
        let Some(orphans) = route.audience.remove(session, why, apart) else { return };
        self.tell_visit(route, session, Some(why));
        if session.transport != session::Transport::Stateless {
            route.serving.meter.session_ended(session.speaks(), session.age());
        }
        self.engine.sessions.fetch_sub(1, Ordering::Relaxed);
        let Some(shared) = shared.filter(|_| !orphans.is_empty()) else { return };
        let whose = session.whose();
        tokio::spawn(async move {
            for uri in orphans {
                shared.subscribe(&whose, &uri, false).await;
            }
        });
    }

    /// Where clients find us, without a slash at the end. Never what a request says of that.
    pub fn outside(&self, config: &HubConfig) -> String {
        let first = |all: &Vec<String>| all.iter().find(|base| base.starts_with("http")).cloned();
        let bound = || self.listeners.get().and_then(first).unwrap_or_default();
        config.public_url.as_ref().map_or_else(bound, |url| url.as_str().trim_end_matches('/').to_owned())
    }

    /// Where clients find us by the tunnel, while it is open.
    pub fn by_tunnel(&self) -> Option<String> {
        self.tunnel.borrow().lease().map(|lease| lease.base())
    }

    /// The URLs of an upstream.
    pub(super) fn mounts(&self, config: &HubConfig, route: &Route) -> Vec<String> {
        let (outsides, name) = ([Some(self.outside(config)), self.by_tunnel()], route.name.as_str());
        let is_default = self.table.load().default.as_ref() == Some(&route.name);
        let own = config.paths(None).filter(|_| is_default);
        let paths: Vec<String> = own.chain(config.paths(Some(name))).collect();
        let within = |outside: &String| -> Vec<String> {
            let prefixes = config.prefixes.iter();
            prefixes.flat_map(|prefix| paths.iter().map(move |path| format!("{outside}{prefix}{path}"))).collect()
        };
        outsides.iter().flatten().flat_map(within).collect()
    }

    /// Why a principal may not use an upstream, if it may not.
    pub fn bars(&self, gate: &Gate, config: &HubConfig, route: &Route, principal: &Principal) -> Option<Barred> {
        gate.bars(principal, route.name.as_str(), &route.config.allow, || self.mounts(config, route))
    }

    /// What has to succeed before a configuration of the hub itself is taken over. One that was overridden by flags is
    /// judged here again: without them it may have been harmless.
    pub(super) fn prepare(&self, hub: &HubConfig) -> Result<Option<Arc<Audit>>, ReloadError> {
        let bare = hub.exposed().is_some() && self.status.load().generation > 0;
        if bare || hub.bares_all() {
            let why = "the hub can be reached from other machines, and nobody would have to show who they are; keep \
                       tokens in [hub.auth], or say `allow_unauthenticated = true` there";
            self.reject(why);
            tracing::error!("{why}");
            return Err(ReloadError::Rejected(why.to_owned()));
        }
        self.audit(hub)
    }

    /// The audit of a configuration: the one that is written already, or another.
    fn audit(&self, hub: &HubConfig) -> Result<Option<Arc<Audit>>, ReloadError> {
        let Some(wanted) = &hub.log.audit else { return Ok(None) };
        let there = self.engine.audit.load_full().filter(|audit| audit.config() == wanted);
        if there.is_some() {
            return Ok(there);
        }
        Audit::open(wanted).map(Some).map_err(|error| {
            let why = format!(
                "cannot write the audit {}: {error}; correct `path`, or make its folder",
                wanted.path.display()
            );
            self.reject(&why);
            tracing::error!("{why}");
            ReloadError::Rejected(why)
        })
    }

    /// Takes over what a configuration says of the hub itself.
    pub(super) fn adopt(&self, hub: &HubConfig, audit: Option<Arc<Audit>>) {
        self.engine.set_limits(hub.limits.clone());
        self.engine.audit.store(audit);
        self.gate.store(Arc::new(Gate::new(hub, Some(&self.gate.load()))));
        self.config.store(Arc::new(hub.clone()));
    }

    /// Ends the sessions of principals who are not known any more, or not let in where they are.
    pub(super) fn see_off_strangers(&self) {
        let (gate, config) = (self.gate.load(), self.config.load());
        for route in self.table.load().by_name.values() {
            for session in route.audience.all() {
                let known = gate.knows(&session.owner);
                if known.is_none_or(|owner| self.bars(&gate, &config, route, &owner).is_some()) {
                    tracing::info!(upstream = %route.name, owner = session.owner.name(), "its session ends: it may not be here any more");
                    self.end_session(route, &session, "its client may not be here any more");
                }
            }
        }
    }

    /// Nobody records anything any more: the last lines are written.
    pub fn rest(&self) {
        // When nobody holds it any more.
        self.engine.audit.store(None);
        self.engine.shelf.flush();
    }

    /// Closes the streams of all sessions on which nothing is being answered.
    pub fn see_off(&self) {
        for route in self.table.load().by_name.values() {
            route.audience.all().into_iter().for_each(session::Session::see_off);
        }
    }

    /// Keeps in mind why an edit was refused.
    pub(super) fn reject(&self, why: &str) {
        self.update_status(|status| {
            status.rejected = Some(why.to_owned());
            status.rejections += 1;
        });
    }

    pub(super) fn update_status(&self, change: impl Fn(&mut HubStatus)) {
        let mut status = HubStatus::clone(&self.status.load());
        change(&mut status);
        self.status.store(Arc::new(status));
        self.engine.stirred.notify_one();
    }
}

/// The last reload, and what runs.
#[derive(Clone, Debug)]
pub struct HubStatus {
    pub generation: u64,
    pub hash: String,
    pub applied: SystemTime,
    pub plan: String,
    /// The drawn error of an edit that was refused since.
    pub rejected: Option<String>,
    /// Edits that were refused.
    pub rejections: u64,
    pub started: SystemTime,
    /// The supervisor of an upstream ended in a panic this often.
    pub panics: u64,
}
