//! A changed, replaced or removed upstream.
//!
//! Where a process lives and serves, its replacement has to show that it works first; then it takes over the route,
//! and the audience with it, and the old one finishes.

use super::*;
use crate::{observe, wire::trouble::Reason};

impl Hub {
    /// Builds an upstream that is not started and not visible. What outlives a definition it has from the one before.
    pub(super) fn make(
        &mut self,
        name: &Name,
        config: Arc<UpstreamConfig>,
        before: Option<&Route>,
        context: &Context<Self>,
    ) -> Child {
        let audience = before.map(|before| before.audience.clone()).unwrap_or_default();
        let file = || self.source.as_ref().map(|source| source.path.clone());
        let new = || Lasting::new(Tools::new(name, file()));
        let lasting = before.map_or_else(new, |before| before.serving.lasting.clone());
        let serving = Serving::new(config.process_max, self.house.engine.clone(), lasting);
        let free = CancellationToken::new();
        let (number, address, upstream) = self.make_actor(name, &config, &serving, &audience, &free, context);
        let route = Arc::new(Route { name: name.clone(), config, upstream, serving, audience });
        Child { number, address, route, next: None, free, panics: Vec::new() }
    }

    pub(super) fn make_actor(
        &mut self,
        name: &Name,
        config: &Arc<UpstreamConfig>,
        serving: &Arc<Serving>,
        audience: &Arc<Audience>,
        free: &CancellationToken,
        context: &Context<Self>,
    ) -> (u64, Addr<Upstream>, UpstreamHandle) {
        if config.overlap || !self.retiring.values().any(|(retiring, _)| retiring == name) {
            free.cancel();
        }
        self.last_number += 1;
        let number = self.last_number;
        let tether = Tether { name: name.clone(), number, owner: context.address().recipient() };
        let address = Upstream::new(UpstreamSpec {
            name: name.clone(),
            config: config.clone(),
            engine: self.house.engine.clone(),
            serving: serving.clone(),
            audience: audience.clone(),
            free: free.clone(),
            proved: context.address().recipient(),
            tether,
            tasks: self.tasks.clone(),
        })
        .start();
        let handle = match (config.enabled, &config.unavailable) {
            (true, None) => UpstreamHandle::to(name, address.clone(), config),
            (false, _) => UpstreamHandle::absent(name, Reason::Stopped, "it is disabled in the configuration"),
            (true, Some(_)) => {
                let why = "its configuration refers to something that is missing";
                UpstreamHandle::absent(name, Reason::Failed, why)
            }
        };
        (number, address, handle)
    }

    /// A changed definition. It is compared with what runs, which is not the last one where that did not start.
    pub(super) fn change(
        &mut self,
        name: &Name,
        config: Arc<UpstreamConfig>,
        drain: Instant,
        context: &mut Context<Self>,
    ) {
        let Some(child) = self.children.get_mut(name) else { return };
        if !child.address.connected() {
            // Its supervisor panicked too often. A change is worth another try.
            let before = child.route.clone();
            let child = self.make(name, config, Some(&before), context);
            self.children.insert(name.clone(), child);
            return self.start_eagerly(name);
        }
        if let Some(next) = &mut child.next
            && change(&next.route.config, &config) != Change::Process
        {
            return update(&mut next.route, &next.address, config);
        }
        let difference = change(&child.route.config, &config);
        if difference == Change::Process {
            return self.replace(name, config, drain, context);
        }
        update(&mut child.route, &child.address, config);
        child.route.serving.notice.store(None);
        if let Some(next) = child.next.take() {
            self.retire(name, next.number, next.address, Instant::now(), false, "was replaced by a newer definition");
        }
    }

    /// A change that needs a new process. Where one runs, the new one has to show that it works first.
    pub(super) fn replace(
        &mut self,
        name: &Name,
        config: Arc<UpstreamConfig>,
        drain: Instant,
        context: &mut Context<Self>,
    ) {
        let Some(mut old) = self.children.remove(name) else { return };
        if let Some(next) = old.next.take() {
            // A newer edit overtakes the proof of the last one.
            self.retire(name, next.number, next.address, Instant::now(), false, "was replaced by a newer definition");
        }
        let lives = !old.route.serving.status.load().pids.is_empty();
        let callable = config.enabled && config.unavailable.is_none();
        let before = old.route.clone();
        if lives && callable && config.overlap {
            let new = self.make(name, config, Some(&before), context);
            order(&new.address, Prove);
            old.next = Some(Next { number: new.number, address: new.address, route: new.route, free: new.free });
            self.children.insert(name.clone(), old);
            return;
        }
        // `overlap = false`: calls in flight finish and the old process stops before the new one starts.
        let pinned = callable && config.overlap;
        self.retiring.insert(old.number, (name.clone(), old.address.clone()));
        let mut new = self.make(name, config, Some(&before), context);
        old.route.serving.successor.store(Some(new.route.clone()));
        self.retire(name, old.number, old.address, drain, pinned, "was replaced by a changed configuration");
        new.panics = old.panics;
        self.children.insert(name.clone(), new);
        self.start_eagerly(name);
    }

    /// The replacement works: from now on it serves, and the old one finishes.
    pub(super) fn promote(&mut self, name: &Name) {
        let drain = Instant::now() + self.config.hub.drain_timeout;
        let Some(child) = self.children.get_mut(name) else { return };
        let Some(next) = child.next.take() else { return };
        let old = std::mem::replace(&mut child.address, next.address);
        let number = std::mem::replace(&mut child.number, next.number);
        child.free = next.free;
        let before = std::mem::replace(&mut child.route, next.route);
        before.serving.successor.store(Some(child.route.clone()));
        self.publish();
        // Its lists may differ from what clients know. A session that keeps its process hears of it when it moves.
        if let Some(profile) = before.serving.profile.load_full().filter(|_| before.isolation() == Isolation::Shared) {
            before.audience.announce_new_lists(&profile);
        }
        self.retire(name, number, old, drain, true, "was replaced by a changed configuration");
        tracing::info!(upstream = %name, "the new definition serves");
        before.serving.journal.say(None, "the new definition serves");
    }

    pub(super) fn remove(&mut self, child: Child, drain: Instant) {
        const WHY: &str = "was removed from the configuration";
        let (house, route) = (self.house.clone(), child.route.clone());
        if let Some(next) = child.next {
            self.retire(&route.name, next.number, next.address, Instant::now(), false, WHY);
        }
        self.retire(&route.name, child.number, child.address, drain, false, WHY);
        // Nobody finds the sessions any more. Their streams close; their calls have until the deadline.
        let sessions = route.audience.all();
        sessions.iter().cloned().for_each(session::Session::see_off);
        self.tasks.spawn_local(async move {
            while Instant::now() < drain && sessions.iter().any(|session| session.is_busy()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let why = "its upstream was removed from the configuration";
            sessions.iter().for_each(|session| house.end_session(&route, session, why));
        });
    }

    pub(super) fn retire(
        &mut self,
        name: &Name,
        number: u64,
        address: Addr<Upstream>,
        deadline: Instant,
        pinned: bool,
        why: &'static str,
    ) {
        order(&address, Retire { deadline, pinned, why });
        self.retiring.insert(number, (name.clone(), address));
    }

    /// After a new table is published: accepted tools are looked for, and clients hear of it where the tools that are
    /// there for them are others now.
    pub(super) fn tell_of_tools(&self, before: &Routes) {
        for (name, child) in &self.children {
            let (new, tools) = (&child.route, &child.route.serving.tools);
            if new.config.pin_tools {
                let tools = tools.clone();
                self.tasks.spawn_local(async move {
                    tools.open().await;
                });
            }
            let Some(old) = before.by_name.get(name).filter(|old| !Arc::ptr_eq(old, new)) else { continue };
            let same = (&old.config.tools, old.config.pin_tools) == (&new.config.tools, new.config.pin_tools);
            let seen = |route: &Route| tools.visible(&route.config);
            if !same && seen(old).is_none_or(|old| Some(old) != seen(new)) {
                new.announce_tools();
            }
        }
    }

    /// As much of each upstream is logged as its definition says, and its lines go where that says.
    pub(super) fn mind_logs(&self) {
        let routes = || self.children.values().map(|child| &child.route);
        for Route { name, config, serving, .. } in routes().map(|route| &**route) {
            serving.journal.keep_in(&self.house.engine.shelf, name.as_str(), config.stderr_file.as_deref());
        }
        let own = routes().filter_map(|route| Some((route.name.to_string(), route.config.log_level?)));
        observe::adopt(&self.config.hub.log, own);
    }

    pub(super) fn start_eagerly(&self, name: &Name) {
        let Some(child) = self.children.get(name) else { return };
        let config = &child.route.config;
        if config.start == Start::Eager && config.enabled && config.unavailable.is_none() {
            order(&child.address, Prove);
        }
    }
}

/// A change in place: the same actor, processes, sessions and streams.
fn update(route: &mut Arc<Route>, address: &Addr<Upstream>, config: Arc<UpstreamConfig>) {
    route.serving.pool.resize(route.config.process_max, config.process_max);
    *route = Arc::new(Route {
        name: route.name.clone(),
        upstream: route.upstream.clone().with(&config),
        config: config.clone(),
        serving: route.serving.clone(),
        audience: route.audience.clone(),
    });
    order(address, Adopt(config));
}
