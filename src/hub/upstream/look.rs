//! What is seen of an upstream from outside, and what it looks after from time to time.

use super::*;

impl Upstream {
    /// Publishes the state for all to see.
    pub(super) fn tell(&self) {
        let config = &self.spec.config;
        let state = match self.life.phase() {
            _ if self.retiring.is_some() => State::Retiring,
            _ if !config.enabled => State::Disabled,
            _ if config.unavailable.is_some() => State::Failed,
            _ if self.wants_login().is_some() => State::NeedsAuth,
            Phase::Idle => State::Idle,
            Phase::Starting => State::Starting,
            Phase::Ready => State::Ready,
            Phase::Waiting { .. } if self.life.processes() > 0 => State::Ready,
            Phase::Waiting { .. } => State::Waiting,
            Phase::Failed => State::Failed,
        };
        let retry_in = match self.life.phase() {
            Phase::Waiting { until, .. } => Some(until.saturating_duration_since(Instant::now())),
            _ => None,
        };
        let reason = match (config.enabled, &config.unavailable) {
            (false, _) => Some("disabled in the configuration"),
            (true, Some(missing)) => Some(missing.as_str()),
            (true, None) => self.life.reason(),
        };
        let wants = self.wants_login().filter(|_| config.enabled);
        let reason = wants.as_deref().or(reason);
        let ready = self.instances.values().filter(|running| running.ready.is_some());
        let mut pids: Vec<u32> = ready.filter_map(|running| running.peer.as_ref()?.pid()).collect();
        pids.sort_unstable();
        // A slow start says what it waits for (F27); else the last trouble is of interest.
        let newest =
            self.instances.iter().max_by_key(|(number, _)| **number).and_then(|(_, running)| running.peer.as_ref());
        let stderr = match newest {
            Some(peer) if state == State::Starting => peer.stderr_tail(STDERR_LINES),
            _ => self.stderr.clone(),
        };
        self.spec.serving.status.store(Arc::new(UpstreamStatus {
            state,
            reason: reason.map(str::to_owned),
            since: Some(self.since),
            pids,
            restarts: self.life.restarts(),
            retry_in,
            stderr,
        }));
    }

    /// Why a person has to log in, where that is all that is missing.
    fn wants_login(&self) -> Option<String> {
        if self.unauthorized {
            return self.life.reason().map(str::to_owned);
        }
        let mut remotes = self.instances.values().filter_map(|running| running.peer.as_ref()?.remote());
        remotes.find_map(|remote| remote.unauthorized()).map(|error| error.to_string())
    }

    pub(super) fn tick(&mut self, context: &mut Context<Self>) {
        if let Some(retire) = &self.retiring {
            let over = Instant::now() >= retire.deadline;
            let pinned = retire.pinned && self.isolation() == Isolation::Session;
            let profile = self.spec.serving.profile.load_full().filter(|_| pinned);
            for running in self.instances.values() {
                match &running.ready {
                    Some(watch) if !watch.is_over() && (over || (watch.in_flight() == 0 && !pinned)) => {
                        watch.close(retire.why);
                        // From here on another process answers the session, perhaps with other lists.
                        if let (Some(session), Some(profile)) = (running.session.upgrade(), &profile) {
                            session.announce_new_lists(profile);
                        }
                    }
                    None if over || running.waiter.is_none() => running.given_up.cancel(),
                    _ => {}
                }
            }
            // Nobody can be served by what is starting now.
            if over || !retire.pinned {
                self.starts.cancel();
            }
            if self.instances.is_empty() {
                context.stop();
            }
            return;
        }
        if *self.life.phase() == Phase::Starting || self.far.is_some() {
            self.tell();
        }
        let idle_timeout = self.spec.config.idle_timeout;
        if idle_timeout.is_zero() || self.instances.is_empty() {
            return;
        }
        match self.isolation() {
            Isolation::Call => self.spec.serving.pool.shrink(idle_timeout),
            Isolation::Shared => {
                let audience = &self.spec.audience;
                let used = self.spec.config.start == Start::Eager
                    || !audience.subscribed().is_empty()
                    || audience
                        .all()
                        .iter()
                        .any(|session| session.is_listening() || session.streams(|streams| streams.is_read()));
                for watch in self.instances.values().filter_map(|running| running.ready.as_ref()) {
                    if !used && watch.unused_for() > idle_timeout && !watch.is_over() {
                        watch.close_unused("was idle");
                    }
                }
            }
            // Lives as long as its session.
            Isolation::Session => {}
        }
    }
}
