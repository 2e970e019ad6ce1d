//! Who may start, and when: state × event → state and effects. Pure; the clock is an argument.
//!
//! ```text
//!            Wanted                 Ready
//!   Idle ───────────────▶ Starting ───────▶ Ready
//!    ▲                      │   ▲             │ Lost
//!    │ last one stopped     ▼   │ Wanted      ▼
//!    └──────────────────  Waiting ◀───────────┘
//!                           │ more than `max` in `period`
//!                           ▼
//!                         Failed ── Revive ──▶ Idle
//! ```
//!
//! A failed start always waits. The first death after health does not: its callers want a new process now.
//! A death within a minute of the last trouble counts as trouble again, so a crash loop slows down and then
//! stops (`restart` in hub.toml; OTP calls it the intensity).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::config::Restart;

/// Health that makes earlier trouble forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Where an upstream (or the process of one session) stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Starting,
    Ready,
    /// Backing off. After a failed start callers are told at once; after a death they wait for the restart.
    Waiting {
        until: Instant,
        tell: bool,
    },
    Failed,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A caller, or `start = "eager"`, wants a process.
    Wanted,
    /// A start succeeded.
    Ready,
    StartFailed(String),
    /// A start failed for want of a login: no trouble, however often it is tried.
    Unauthorized(String),
    /// A process that was ready ended without our asking. Does it count as trouble of the upstream?
    Lost {
        why: String,
        counts: bool,
    },
    /// A process ended because we asked, or a start was given up.
    Stopped,
    /// The back-off is over.
    Woke,
    /// `restart`, or a changed configuration.
    Revive,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Spawn,
    WakeAt(Instant),
    /// The caller has to wait for the restart that is due.
    Hold,
    /// The caller is told the reason, and when to come back.
    Refuse {
        after: Option<Duration>,
    },
}

/// The supervision of one upstream, or of one session's process.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    policy: Restart,
    phase: Phase,
    /// Starting and running processes.
    starting: usize,
    running: usize,
    /// When trouble happened, within the period.
    trouble: VecDeque<Instant>,
    /// Trouble without health in between: the exponent of the back-off.
    streak: u32,
    last_ready: Option<Instant>,
    /// The last cause of trouble.
    reason: Option<String>,
    restarts: u64,
}

impl Lifecycle {
    pub fn new(policy: Restart) -> Lifecycle {
        Lifecycle {
            policy,
            phase: Phase::Idle,
            starting: 0,
            running: 0,
            trouble: VecDeque::new(),
            streak: 0,
            last_ready: None,
            reason: None,
            restarts: 0,
        }
    }

    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Processes that are starting or running.
    pub fn processes(&self) -> usize {
        self.starting + self.running
    }

    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    pub fn set_policy(&mut self, policy: Restart) {
        self.policy = policy;
    }

    /// `jitter` is a random number in 0..1, so that many hubs do not come back in the same instant.
    pub fn step(&mut self, event: Event, now: Instant, jitter: f64) -> Option<Effect> {
        match event {
            Event::Wanted => match self.phase {
                Phase::Failed => Some(Effect::Refuse { after: None }),
                Phase::Waiting { until, tell } if now < until => match tell {
                    true => Some(Effect::Refuse { after: Some(until - now) }),
                    false => Some(Effect::Hold),
                },
                _ => {
                    self.starting += 1;
                    if self.running == 0 {
                        self.phase = Phase::Starting;
                    }
                    Some(Effect::Spawn)
                }
            },
            Event::Ready => {
                self.starting = self.starting.saturating_sub(1);
                self.running += 1;
                self.phase = Phase::Ready;
                self.last_ready = Some(now);
                None
            }
            Event::StartFailed(why) => {
                self.starting = self.starting.saturating_sub(1);
                self.reason = Some(why);
                self.trouble(now, true, jitter)
            }
            Event::Unauthorized(why) => {
                self.starting = self.starting.saturating_sub(1);
                self.reason = Some(why);
                // A login revives it at once; to ask again and again is only for what nobody tells.
                self.streak += 1;
                self.back_off(now, true, jitter)
            }
            Event::Lost { why, counts } => {
                self.running = self.running.saturating_sub(1);
                self.reason = Some(why);
                self.restarts += 1;
                match counts {
                    true => self.trouble(now, false, jitter),
                    false => {
                        self.settle();
                        None
                    }
                }
            }
            Event::Stopped => {
                self.running = self.running.saturating_sub(1);
                self.settle();
                None
            }
            Event::Woke => {
                if matches!(self.phase, Phase::Waiting { until, .. } if until <= now) {
                    self.settle();
                }
                None
            }
            Event::Revive => {
                self.trouble.clear();
                self.streak = 0;
                self.reason = None;
                self.settle();
                None
            }
        }
    }

    /// A start was given up before it succeeded or failed.
    pub fn forget_start(&mut self) {
        self.starting = self.starting.saturating_sub(1);
        if self.phase == Phase::Starting {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.phase = match (self.running, self.starting) {
            (0, 0) => Phase::Idle,
            (0, _) => Phase::Starting,
            _ => Phase::Ready,
        };
    }

    fn trouble(&mut self, now: Instant, tell: bool, jitter: f64) -> Option<Effect> {
        let period = self.policy.period;
        if self.last_ready.is_some_and(|ready| now.saturating_duration_since(ready) >= HEALTHY_AFTER) {
            self.streak = 0;
            self.trouble.clear();
        }
        self.trouble.push_back(now);
        while self.trouble.front().is_some_and(|first| now.saturating_duration_since(*first) > period) {
            self.trouble.pop_front();
        }
        if self.trouble.len() > self.policy.max {
            self.phase = Phase::Failed;
            return None;
        }
        let first_death = self.streak == 0 && !tell;
        self.streak += 1;
        if first_death {
            self.settle();
            return None;
        }
        self.back_off(now, tell, jitter)
    }

    /// Waits, longer with each trouble in a row.
    fn back_off(&mut self, now: Instant, tell: bool, jitter: f64) -> Option<Effect> {
        let exponent = self.streak.saturating_sub(if tell { 1 } else { 2 }).min(30);
        let delay = self.policy.backoff_min.saturating_mul(1 << exponent).min(self.policy.backoff_max);
        // Between 80 and 100 per cent, so that the maximum stays one.
        let until = now + delay.mul_f64(0.8 + 0.2 * jitter.clamp(0.0, 1.0));
        // Other processes of the upstream serve on; only new ones wait.
        self.phase = Phase::Waiting { until, tell };
        Some(Effect::WakeAt(until))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> Restart {
        Restart {
            max: 5,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
        }
    }

    fn delay(effect: Option<Effect>, now: Instant) -> Duration {
        match effect {
            Some(Effect::WakeAt(at)) => at - now,
            other => panic!("no back-off but {other:?}"),
        }
    }

    #[test]
    fn f3_starts_that_fail_back_off_twice_as_long_each_and_then_fail() {
        let (mut life, mut now) = (Lifecycle::new(policy()), Instant::now());
        for expected in [500, 1000, 2000, 4000, 8000] {
            assert_eq!(life.step(Event::Wanted, now, 1.0), Some(Effect::Spawn));
            let pause = delay(life.step(Event::StartFailed("x".into()), now, 1.0), now);
            assert_eq!(pause, Duration::from_millis(expected));
            let early = life.step(Event::Wanted, now, 1.0);
            assert_eq!(early, Some(Effect::Refuse { after: Some(pause) }), "callers are told at once");
            now += pause;
            life.step(Event::Woke, now, 1.0);
            assert_eq!(life.phase(), &Phase::Idle);
        }
        life.step(Event::Wanted, now, 1.0);
        assert_eq!(life.step(Event::StartFailed("last".into()), now, 1.0), None);
        assert_eq!((life.phase(), life.reason()), (&Phase::Failed, Some("last")));
        assert_eq!(life.step(Event::Wanted, now, 1.0), Some(Effect::Refuse { after: None }));
        life.step(Event::Revive, now, 1.0);
        assert_eq!(life.step(Event::Wanted, now, 1.0), Some(Effect::Spawn), "a change revives it");
    }

    #[test]
    fn what_wants_a_login_is_asked_ever_more_seldom_and_revived_by_one() {
        let (mut life, mut now) = (Lifecycle::new(policy()), Instant::now());
        for expected in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            assert_eq!(life.step(Event::Wanted, now, 1.0), Some(Effect::Spawn), "it never fails for good");
            let pause = delay(life.step(Event::Unauthorized("log in".into()), now, 1.0), now);
            assert_eq!(pause, Duration::from_millis(expected));
            now += pause;
            life.step(Event::Woke, now, 1.0);
        }
        life.step(Event::Wanted, now, 1.0);
        life.step(Event::Unauthorized("log in".into()), now, 1.0);
        life.step(Event::Revive, now, 1.0);
        assert_eq!(life.step(Event::Wanted, now, 1.0), Some(Effect::Spawn));
    }

    #[test]
    fn the_first_death_restarts_at_once_and_the_next_ones_hold_their_callers() {
        let (mut life, now) = (Lifecycle::new(policy()), Instant::now());
        let lost = || Event::Lost { why: "died".into(), counts: true };
        life.step(Event::Wanted, now, 1.0);
        life.step(Event::Ready, now, 1.0);
        assert_eq!(life.step(lost(), now, 1.0), None);
        assert_eq!(life.step(Event::Wanted, now, 1.0), Some(Effect::Spawn));
        life.step(Event::Ready, now, 1.0);
        assert_eq!(delay(life.step(lost(), now, 1.0), now), Duration::from_millis(500));
        assert_eq!(life.step(Event::Wanted, now, 1.0), Some(Effect::Hold));
        let later = now + HEALTHY_AFTER;
        life.step(Event::Woke, later, 1.0);
        life.step(Event::Wanted, later, 1.0);
        life.step(Event::Ready, later, 1.0);
        assert_eq!(life.step(lost(), later + HEALTHY_AFTER, 1.0), None, "a minute of health is forgiveness");
    }

    #[test]
    fn a_death_that_is_one_clients_own_does_not_count() {
        let (mut life, now) = (Lifecycle::new(policy()), Instant::now());
        for _ in 0..100 {
            assert_eq!(life.step(Event::Wanted, now, 1.0), Some(Effect::Spawn));
            life.step(Event::Ready, now, 1.0);
            assert_eq!(life.step(Event::Lost { why: "x".into(), counts: false }, now, 1.0), None);
        }
        assert_eq!((life.phase(), life.processes()), (&Phase::Idle, 0));
    }

    proptest! {
        #[test]
        fn no_order_of_events_exceeds_the_intensity(events in proptest::collection::vec(0u8..6, 0..200)) {
            let (mut life, mut now) = (Lifecycle::new(policy()), Instant::now());
            let mut starts: VecDeque<Instant> = VecDeque::new();
            for event in events {
                now += Duration::from_millis(200);
                let before = life.processes();
                let event = match event {
                    0 | 1 => Event::Wanted,
                    2 if life.starting > 0 => Event::Ready,
                    3 if life.starting > 0 => Event::StartFailed("x".into()),
                    4 if life.running > 0 => Event::Lost { why: "y".into(), counts: true },
                    _ => Event::Woke,
                };
                let failing = matches!(event, Event::StartFailed(_));
                let spawned = life.step(event, now, 0.5) == Some(Effect::Spawn);
                prop_assert_eq!(spawned, life.processes() > before);
                if failing {
                    starts.push_back(now);
                    prop_assert!(!matches!(life.phase(), Phase::Idle | Phase::Starting), "a failed start waits");
                }
                prop_assert!(!spawned || life.phase() != &Phase::Failed);
            }
        }
    }
}
