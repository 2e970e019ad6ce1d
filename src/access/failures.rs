//! Wrong tokens are counted by where they come from (F69).
//!
//! A token that is right passes whatever others do from the same address; a guess costs time. A limiter of a library
//! takes a place with each look, and would make those wait who come with new tokens that are right.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Wrong tokens of one address before it has to wait: a team behind one address may be misconfigured together.
const BURST: f64 = 20.0;
/// One is forgotten in this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, Level>>);

/// What was not forgotten at an instant.
#[derive(Clone, Copy)]
struct Level {
    count: f64,
    at: Instant,
}

impl Level {
    fn now(self, now: Instant) -> f64 {
        let forgotten = now.saturating_duration_since(self.at).as_secs_f64() / FORGOTTEN_AFTER.as_secs_f64();
        (self.count - forgotten).max(0.0)
    }
}

impl Failures {
    pub(super) fn count(&self, address: IpAddr) {
        self.count_at(address, Instant::now());
    }

    /// How long an address has to wait, if it has to.
    pub(super) fn wait(&self, address: IpAddr) -> Option<Duration> {
        self.wait_at(address, Instant::now())
    }

    fn count_at(&self, address: IpAddr, now: Instant) {
        let mut levels = self.levels();
        if levels.len() >= ADDRESSES_MAX {
            levels.retain(|_, level| level.now(now) > 0.0);
        }
        if levels.len() >= ADDRESSES_MAX {
            // As many attackers as that are told apart no more.
            return;
        }
        let level = levels.entry(household(address)).or_insert(Level { count: 0.0, at: now });
        *level = Level { count: level.now(now) + 1.0, at: now };
    }

    fn wait_at(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let over = self.levels().get(&household(address))?.now(now) - BURST + 1.0;
        (over > 0.0).then(|| FORGOTTEN_AFTER.mul_f64(over))
    }

    fn levels(&self) -> MutexGuard<'_, HashMap<IpAddr, Level>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One who has an IPv6 address has them all, up to the 64th bit.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f69_guesses_have_to_wait_and_others_do_not() {
        let failures = Failures::default();
        let now = Instant::now();
        let [here, near, there] = ["fd00::1", "fd00::2:3", "fd00:0:0:1::1"].map(|text| text.parse().unwrap());
        for _ in 0..20 {
            assert_eq!(failures.wait_at(here, now), None);
            failures.count_at(here, now);
        }
        assert_eq!(failures.wait_at(here, now), Some(FORGOTTEN_AFTER));
        assert!(failures.wait_at(near, now).is_some(), "the same household");
        assert_eq!(failures.wait_at(there, now), None);
        let later = now + FORGOTTEN_AFTER;
        assert_eq!(failures.wait_at(here, later), None);
        failures.count_at(near, later);
        assert_eq!(failures.wait_at(here, later), Some(FORGOTTEN_AFTER), "one guess a second from here on");
        assert_eq!(failures.wait_at(here, later + FORGOTTEN_AFTER * 30), None);
    }
}
