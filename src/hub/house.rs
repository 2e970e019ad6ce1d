//! What the server and the Hub share: what may be seen, and who is admitted, without asking an actor.

use std::sync::OnceLock;

use super::*;
use crate::{
    access::{Barred, Gate, Principal},
    observe::audit::Audit,
};

/// What the server and the Hub share: what may be seen without asking an actor.
pub struct House {
    pub engine: Arc<Engine>,
    pub table: RouteTable,
    pub config: ArcSwap<HubConfig>,
    /// Who may knock, of the same generation as the configuration.
    pub gate: ArcSwap<Gate>,
    /// The first address that is listened on, as a URL.
    pub base: OnceLock<String>,
    pub status: ArcSwap<HubStatus>,
    /// What became of the certificate's last renewal.
    pub renewal: certificate::Renewal,
    /// Calls that wait for their client's answer.
    pub parking: Arc<parking::Parking>,
    /// Cancelled when the hub begins to end: no new work, streams close.
    pub draining: CancellationToken,
}

impl House {
    pub fn new(config: &Config) -> Arc<House> {
        let now = SystemTime::now();
        let status = HubStatus {
            generation: 0,
            hash: String::new(),
            applied: now,
            plan: String::new(),
            rejected: None,
            started: now,
            panics: 0,
        };
        Arc::new(House {
            engine: Engine::new(config.hub.limits.clone()),
            table: RouteTable::default(),
            config: ArcSwap::from_pointee(config.hub.clone()),
            gate: ArcSwap::from_pointee(Gate::new(&config.hub, None)),
            base: OnceLock::new(),
            status: ArcSwap::from_pointee(status),
            renewal: certificate::Renewal::default(),
            parking: parking::Parking::new(),
            draining: CancellationToken::new(),
        })
    }

    /// Makes a session known.
    pub fn admit_session(&self, route: &Route, session: Arc<session::Session>) {
        self.engine.sessions.fetch_add(1, Ordering::Relaxed);
        route.audience.insert(session);
    }

    /// Makes known what the requests of a client without sessions share; the first one wins.
    pub fn admit_identity(&self, route: &Route, session: Arc<session::Session>) -> Arc<session::Session> {
        let (session, new) = route.audience.get_or_insert(session);
        if new {
            self.engine.sessions.fetch_add(1, Ordering::Relaxed);
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
        let bound = || self.base.get().cloned().unwrap_or_default();
        config.public_url.as_ref().map_or_else(bound, |url| url.as_str().trim_end_matches('/').to_owned())
    }

    /// The URLs of an upstream.
    fn mounts(&self, config: &HubConfig, route: &Route) -> Vec<String> {
        let (outside, name) = (self.outside(config), route.name.as_str());
        let is_default = self.table.load().default.as_ref() == Some(&route.name);
        let bases = config.prefixes.iter().flat_map(|prefix| {
            let own = is_default.then(|| format!("{outside}{prefix}"));
            own.into_iter().chain([format!("{outside}{prefix}/{name}")])
        });
        bases.flat_map(|base| [format!("{base}/mcp"), format!("{base}/sse")]).collect()
    }

    /// Why a principal may not use an upstream, if it may not.
    pub fn bars(&self, gate: &Gate, config: &HubConfig, route: &Route, principal: &Principal) -> Option<Barred> {
        gate.bars(principal, route.name.as_str(), &route.config.allow, || self.mounts(config, route))
    }

    /// The audit of a configuration: the one that is written already, or another.
    pub(super) fn audit(&self, hub: &HubConfig) -> Result<Option<Arc<Audit>>, ReloadError> {
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
            self.update_status(|status| status.rejected = Some(why.clone()));
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

    /// Closes the streams of all sessions on which nothing is being answered.
    pub fn see_off(&self) {
        for route in self.table.load().by_name.values() {
            route.audience.all().into_iter().for_each(session::Session::see_off);
        }
    }

    pub(super) fn update_status(&self, change: impl Fn(&mut HubStatus)) {
        let mut status = HubStatus::clone(&self.status.load());
        change(&mut status);
        self.status.store(Arc::new(status));
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
    pub started: SystemTime,
    /// The supervisor of an upstream ended in a panic this often.
    pub panics: u64,
}
