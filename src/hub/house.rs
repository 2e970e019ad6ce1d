//! What the server and the Hub share: what may be seen, and who is admitted, without asking an actor.

use super::*;

/// What the server and the Hub share: what may be seen without asking an actor.
pub struct House {
    pub engine: Arc<Engine>,
    pub table: RouteTable,
    pub config: ArcSwap<HubConfig>,
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
