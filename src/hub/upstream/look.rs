//! What is seen of an upstream from outside, and what it looks after from time to time.

use std::time::SystemTime;

use super::*;

impl Upstream {
    /// Publishes the state for all to see.
    pub(super) fn tell(&self) {
        let config = &self.spec.config;
        let state = match self.life.phase() {
            _ if self.retiring.is_some() || self.halting.is_some() => State::Retiring,
            _ if config.enabled && self.is_stopped() => State::Disabled,
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
        let reason = if config.enabled && self.is_stopped() { Some(act::STOPPED) } else { reason };
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
        // What users see: a start that is tried again and again is one and the same trouble to them.
        let before = self.spec.serving.status.load();
        let since = before.since.filter(|_| before.state == state).or_else(|| Some(SystemTime::now()));
        let status = Arc::new(UpstreamStatus {
            state,
            reason: reason.map(str::to_owned),
            since,
            pids,
            restarts: self.life.restarts(),
            retry_in,
            stderr,
        });
        let stirred = !status.is_like(&before);
        self.spec.serving.status.store(status);
        if stirred {
            self.spec.engine.stirred.notify_one();
        }
    }

    /// Why a person has to log in, where that is all that is missing.
    fn wants_login(&self) -> Option<String> {
        if self.unauthorized {
            return self.life.reason().map(str::to_owned);
        }
        let mut remotes = self.instances.values().filter_map(|running| running.peer.as_ref()?.remote());
        remotes.find_map(|remote| remote.unauthorized()).map(|error| error.to_string())
    }

    /// What a caller is told that cannot be served now.
    pub(super) fn unavailable(&self, after: Option<Duration>) -> Unavailable {
        let cause = self.public.as_deref().unwrap_or("it is not running");
        let reason = match self.life.phase() {
            Phase::Failed => {
                format!(
                    "{cause}; it failed too often and stays down until its configuration changes or it is restarted"
                )
            }
            _ => cause.to_owned(),
        };
        let (why, after) = match self.unauthorized {
            // It is tried again by itself, which is no use to anybody before that.
            true => (Reason::NeedsAuth, None),
            false => (Reason::Failed, after),
        };
        self.with_words(Unavailable::new(&self.spec.name, &reason, after).because(why), &self.stderr)
    }

    /// Adds what a process said last, where callers may see it.
    pub(super) fn with_words(&self, unavailable: Unavailable, stderr: &[String]) -> Unavailable {
        match self.spec.config.expose_errors {
            true => Unavailable { stderr: shown(&self.spec.config, stderr), ..unavailable },
            false => unavailable,
        }
    }

    pub(super) fn tick(&mut self, context: &mut Context<Self>) {
        if let Some(retire) = &self.retiring {
            self.wind_down(retire.deadline, retire.pinned, retire.why);
            if self.instances.is_empty() {
                context.stop();
            }
            return;
        }
        if self.halting.is_some() {
            return self.halt();
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

    /// Lets go of what is not in use, and of everything at the deadline. `pinned`: sessions keep theirs until then.
    pub(super) fn wind_down(&self, deadline: Instant, pinned: bool, why: &'static str) {
        let over = Instant::now() >= deadline;
        let apart = pinned && self.isolation() == Isolation::Session;
        let profile = self.spec.serving.profile.load_full().filter(|_| apart);
        for running in self.instances.values() {
            match &running.ready {
                Some(watch) if !watch.is_over() && (over || (watch.in_flight() == 0 && !apart)) => {
                    watch.close(why);
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
        if over || !pinned {
            self.starts.cancel();
        }
    }
}
