//! The last hour, minute by minute: how many calls, how many failed, and how long they took.

use std::{collections::VecDeque, time::Duration};

/// Minutes that are kept.
const MINUTES: usize = 60;
/// Minutes that "lately" means, with the one that has begun.
const LATELY: u64 = 5;
/// Buckets of times, each a fifth wider than the one before; the first ends at [`FIRST`].
const BUCKETS: usize = 96;
const FIRST: f64 = 20e-6;
const WIDER: f64 = 1.2;

/// One minute, as it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minute {
    pub calls: u32,
    pub errors: u32,
    pub p50: Option<Duration>,
    pub p95: Option<Duration>,
}

/// The last minutes in one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lately {
    pub calls_per_minute: f64,
    /// Of a hundred calls.
    pub errors: Option<f64>,
    pub p50: Option<Duration>,
    pub p95: Option<Duration>,
}

/// Only minutes with calls take memory.
#[derive(Debug, Default)]
pub(super) struct Minutes(VecDeque<Tally>);

#[derive(Debug)]
struct Tally {
    minute: u64,
    calls: u32,
    errors: u32,
    times: Box<[u32; BUCKETS]>,
}

impl Minutes {
    pub(super) fn add(&mut self, minute: u64, took: Duration, error: bool) {
        if self.0.back().is_none_or(|last| last.minute != minute) {
            while self.0.front().is_some_and(|first| first.minute + (MINUTES as u64) <= minute) {
                self.0.pop_front();
            }
            self.0.push_back(Tally { minute, calls: 0, errors: 0, times: Box::new([0; BUCKETS]) });
        }
        let Some(now) = self.0.back_mut() else { return };
        now.calls = now.calls.saturating_add(1);
        now.errors = now.errors.saturating_add(error.into());
        let bucket = &mut now.times[bucket(took)];
        *bucket = bucket.saturating_add(1);
    }

    pub(super) fn lately(&self, minute: u64) -> Lately {
        let since = (minute + 1).saturating_sub(LATELY);
        let mut all = Tally { minute, calls: 0, errors: 0, times: Box::new([0; BUCKETS]) };
        for tally in self.0.iter().filter(|tally| tally.minute >= since) {
            all.calls = all.calls.saturating_add(tally.calls);
            all.errors = all.errors.saturating_add(tally.errors);
            all.times.iter_mut().zip(tally.times.iter()).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
        }
        let minutes = LATELY.min(minute + 1) as f64;
        Lately {
            calls_per_minute: f64::from(all.calls) / minutes,
            errors: (all.calls > 0).then(|| f64::from(all.errors) * 100.0 / f64::from(all.calls)),
            p50: all.percentile(50),
            p95: all.percentile(95),
        }
    }

    pub(super) fn hour(&self, minute: u64) -> Vec<Minute> {
        let first = (minute + 1).saturating_sub(MINUTES as u64);
        let of = |minute: u64| self.0.iter().find(|tally| tally.minute == minute).map(Tally::shown);
        (first..=minute).map(|minute| of(minute).unwrap_or_default()).collect()
    }
}

impl Tally {
    fn shown(&self) -> Minute {
        Minute { calls: self.calls, errors: self.errors, p50: self.percentile(50), p95: self.percentile(95) }
    }

    /// The time within which so many of a hundred calls ended, a tenth more or less.
    fn percentile(&self, part: u64) -> Option<Duration> {
        let all: u64 = self.times.iter().map(|count| u64::from(*count)).sum();
        let mut left = (all * part).div_ceil(100);
        for (number, count) in self.times.iter().enumerate() {
            left = left.saturating_sub(u64::from(*count));
            if left == 0 && all > 0 {
                // The middle of the bucket.
                return Some(Duration::from_secs_f64(FIRST * WIDER.powf(number as f64 - 0.5)));
            }
        }
        None
    }
}

fn bucket(took: Duration) -> usize {
    let steps = (took.as_secs_f64() / FIRST).max(1.0).log(WIDER).ceil();
    (steps as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_tenth() {
        let mut minutes = Minutes::default();
        for millis in 1..=1000 {
            minutes.add(0, Duration::from_millis(millis), millis % 4 == 0);
        }
        let lately = minutes.lately(0);
        let near = |seen: Option<Duration>, wanted: f64| {
            let seen = seen.unwrap().as_secs_f64();
            assert!((seen / wanted - 1.0).abs() < 0.1, "{seen} is not about {wanted}");
        };
        near(lately.p50, 0.5);
        near(lately.p95, 0.95);
        assert_eq!((lately.calls_per_minute, lately.errors), (1000.0, Some(25.0)));
    }

    #[test]
    fn what_is_too_long_ago_does_not_count() {
        let mut minutes = Minutes::default();
        let took = Duration::from_millis(1);
        minutes.add(0, took, true);
        minutes.add(7, took, false);
        assert_eq!(minutes.lately(7).errors, Some(0.0));
        assert_eq!(minutes.lately(7).calls_per_minute, 0.2);
        assert_eq!(minutes.lately(100), Lately::default());
        let hour = minutes.hour(7);
        assert_eq!((hour.len(), hour[0].calls, hour[7].calls, hour[3]), (8, 1, 1, Minute::default()));
        minutes.add(60, took, false);
        assert_eq!((minutes.0.len(), minutes.hour(60).len()), (2, 60));
    }

    #[test]
    fn the_longest_and_the_shortest_have_a_place() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_secs(1 << 20)), BUCKETS - 1);
        assert!(FIRST * WIDER.powi(BUCKETS as i32 - 2) > 300.0);
    }
}
