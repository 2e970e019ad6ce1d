//! The hub's certificate over time: renewed files are taken over, and its end is announced.
//!
//! A renewal does not wait for `hub.toml`: it goes in even where an edit of that is rejected just now.

use std::sync::{Mutex, MutexGuard};

use super::*;
use crate::config::HubTls;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is known beside the certificate itself.
#[derive(Default)]
pub struct Renewal {
    /// Why the files that are there now are not served.
    error: Mutex<Option<String>>,
    told: Mutex<Expiry>,
}

impl Renewal {
    pub fn error(&self) -> Option<String> {
        lock(&self.error).clone()
    }
}

impl House {
    /// Reads the files of the certificate again; blocks. What cannot be used changes nothing but the status.
    pub fn renew(&self) {
        let Some(old) = self.config.load().tls.clone() else { return };
        let new = match old.again() {
            Ok(new) => new,
            Err(flaw) => {
                let error = flaw.to_string();
                if lock(&self.renewal.error).replace(error.clone()).as_ref() != Some(&error) {
                    tracing::error!("the renewed certificate is not used, the one before it still is: {error}");
                }
                return;
            }
        };
        self.certify(&new);
    }

    /// Serves what was read anew from the files that are named already.
    pub(super) fn certify(&self, new: &HubTls) {
        *lock(&self.renewal.error) = None;
        let old = self.config.rcu(|config| match &config.tls {
            Some(tls) if tls == new && !tls.holds_what(new) => {
                Arc::new(HubConfig { tls: Some(new.clone()), ..(**config).clone() })
            }
            // A reload may have named other files meanwhile, which it has read itself.
            _ => config.clone(),
        });
        if old.tls.as_ref().is_some_and(|tls| tls == new && !tls.holds_what(new)) {
            tracing::info!(names = ?new.identity.names, days_left = days_left(new), "the certificate was renewed");
        }
    }

    /// Says that the end of the certificate is near, once for each stage of it.
    pub(super) fn mind_expiry(&self) {
        let config = self.config.load();
        let Some(tls) = &config.tls else { return };
        let Some(stage) = lock(&self.renewal.told).due(tls.identity.not_after, SystemTime::now()) else { return };
        let (cert, names, days) = (tls.cert.display(), tls.identity.names.join(", "), days_left(tls));
        match stage {
            0 => tracing::error!(
                "the certificate {cert} for {names} HAS EXPIRED; it is still served, and clients will refuse it: renew it"
            ),
            _ => tracing::warn!("the certificate {cert} for {names} expires in {days} days: renew it"),
        }
    }
}

/// Whole days until it expires; below zero, since it did.
pub fn days_left(tls: &HubTls) -> i64 {
    let days = |span: Duration| (span.as_secs() / DAY.as_secs()) as i64;
    match tls.identity.not_after.duration_since(SystemTime::now()) {
        Ok(left) => days(left),
        Err(over) => -1 - days(over.duration()),
    }
}

/// What was said last, and of which certificate.
#[derive(Default)]
struct Expiry(Option<(SystemTime, u64)>);

impl Expiry {
    /// The stage that has come since: so many days are left, or none.
    fn due(&mut self, not_after: SystemTime, now: SystemTime) -> Option<u64> {
        let left = not_after.duration_since(now).unwrap_or_default();
        let stage = [0, 3, 14, 30].into_iter().find(|days| left <= DAY * *days as u32)?;
        let news = self.0.is_none_or(|(of, told)| of != not_after || stage < told);
        self.0 = Some((not_after, stage));
        news.then_some(stage)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t23_each_stage_is_told_once() {
        let (mut expiry, end) = (Expiry::default(), SystemTime::UNIX_EPOCH + DAY * 1000);
        let mut told = Vec::new();
        // Four times a day from forty days before to two days after.
        for quarter in 0..42 * 4 {
            let now = end - DAY * 40 + DAY / 4 * quarter;
            told.extend(expiry.due(end, now).map(|stage| (quarter / 4, stage)));
        }
        assert_eq!(told, [(10, 30), (26, 14), (37, 3), (40, 0)]);
        // A new one begins anew, and one that is found late is told at its stage.
        assert_eq!(expiry.due(end + DAY * 90, end), None);
        assert_eq!(expiry.due(end + DAY * 2, end), Some(3));
        assert_eq!(expiry.due(end + DAY * 2, end), None);
    }
}
