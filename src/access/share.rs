//! What one principal takes of what all share: calls, sessions, streams, and requests over time.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

use crate::config::Rate;

/// Principals that are counted at once. Those who hold nothing are forgotten first.
const SHARES_MAX: usize = 10_000;

/// The shares of all principals.
#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<String, Arc<Share>>>);

impl Shares {
    pub(super) fn of(&self, id: &str) -> Arc<Share> {
        let mut all = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(share) = all.get(id) {
            return share.clone();
        }
        if all.len() >= SHARES_MAX {
            all.retain(|_, share| Arc::strong_count(share) > 1);
        }
        all.entry(id.to_owned()).or_default().clone()
    }
}

/// What one principal holds.
#[derive(Default)]
pub struct Share {
    held: [AtomicUsize; 3],
    rate: ArcSwapOption<Limiter>,
}

struct Limiter {
    rate: Rate,
    bucket: DefaultDirectRateLimiter,
}

/// A kind of thing that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Calls,
    Sessions,
    Streams,
}

/// Something held, until it is dropped.
pub struct Permit {
    share: Arc<Share>,
    what: Held,
}

impl Share {
    /// Takes one more, if there are fewer than `max`.
    pub fn take(self: &Arc<Self>, what: Held, max: usize) -> Option<Permit> {
        let count = &self.held[what as usize];
        let taken = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < max).then_some(held + 1));
        taken.ok().map(|_| Permit { share: self.clone(), what })
    }

    pub fn held(&self, what: Held) -> usize {
        self.held[what as usize].load(Ordering::Relaxed)
    }

    /// Counts a request; answers how long to wait where there were too many.
    pub fn pace(&self, rate: Rate) -> Option<Duration> {
        let limiter = match self.rate.load_full().filter(|limiter| limiter.rate == rate) {
            Some(limiter) => limiter,
            None => {
                let least = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
                let quota = Quota::per_second(least(rate.per_second)).allow_burst(least(rate.burst));
                let limiter = Arc::new(Limiter { rate, bucket: RateLimiter::direct(quota) });
                self.rate.store(Some(limiter.clone()));
                limiter
            }
        };
        let early = limiter.bucket.check().err()?;
        Some(early.wait_time_from(DefaultClock::default().now()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.share.held[self.what as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f77_what_one_holds_is_counted_and_given_back() {
        let shares = Shares::default();
        let (ada, bob) = (shares.of("ada"), shares.of("bob"));
        let held: Vec<_> = (0..3).map(|_| ada.take(Held::Calls, 3).unwrap()).collect();
        assert!(ada.take(Held::Calls, 3).is_none());
        assert!(ada.take(Held::Streams, 3).is_some() && bob.take(Held::Calls, 3).is_some());
        assert!(shares.of("ada").take(Held::Calls, 3).is_none(), "whoever asks for it");
        drop(held);
        assert_eq!(ada.held(Held::Calls), 0);
    }

    #[test]
    fn f77_a_burst_passes_and_then_one_has_to_wait() {
        let share = Share::default();
        let rate = Rate { per_second: 1, burst: 5 };
        assert!((0..5).all(|_| share.pace(rate).is_none()));
        let wait = share.pace(rate).unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(share.pace(Rate { per_second: 1, burst: 6 }).is_none(), "another rate begins anew");
    }

    #[test]
    fn those_who_hold_nothing_are_forgotten_first() {
        let shares = Shares::default();
        let kept = shares.of("kept");
        let _permit = kept.take(Held::Sessions, 1).unwrap();
        for number in 0..SHARES_MAX + 5 {
            shares.of(&number.to_string());
        }
        assert!(shares.0.lock().unwrap().len() <= SHARES_MAX);
        assert_eq!(shares.of("kept").held(Held::Sessions), 1);
    }
}
