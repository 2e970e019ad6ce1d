//! Clients that come and go, told to the program that the hub is a part of.
//!
//! Nobody waits for it: what it is told lies in a bounded queue, and one task works it off, in order. What it does with
//! that may fail, panic or hang, and no call notices.

use std::{
    error::Error,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

use super::{
    routes::Route,
    session::{Session, Transport},
};
use crate::{access::Principal, config::Name};

/// Visits that may wait to be told; what comes then is lost, and counted in the log.
const WAITING_MAX: usize = 1024;
/// How long one may take to be heard; then the next one is.
const HEARING_MAX: Duration = Duration::from_secs(30);
/// How long the last ones may take when the hub ends.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// One client at one upstream: a session; or, of a client without sessions (2026-07-28), all its requests together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Visit {
    /// Whom it visits.
    pub upstream: Name,
    /// The same when it comes and when it goes, and of no other visit.
    pub number: u64,
    /// `clientInfo.name`. Unknown as yet where a stream is opened before `initialize` (2024-11-05).
    pub client: Option<String>,
    /// Who it is.
    pub principal: Principal,
    /// Whether it has a session that it names.
    pub has_session: bool,
    /// Why it is over; none when it begins.
    pub why: Option<Arc<str>>,
}

/// What hears of visits. An error, a panic, or 30 s without an end are logged, and nothing more.
pub type Hears = Box<dyn Fn(Visit) -> BoxFuture<'static, Result<(), Box<dyn Error + Send + Sync>>> + Send + Sync>;

/// The way to who hears of visits.
pub struct Visits {
    to: mpsc::Sender<Told>,
    lost: AtomicU64,
}

enum Told {
    Visit(Visit),
    /// All before it was heard.
    Mark(oneshot::Sender<()>),
}

impl Visit {
    /// What is told of a session; `why`: it is over.
    pub fn of(route: &Route, session: &Session, why: Option<Arc<str>>) -> Visit {
        Visit {
            upstream: route.name.clone(),
            number: session.key,
            client: session.greeting().map(|greeting| greeting.client.clone()),
            principal: session.owner.clone(),
            has_session: session.transport != Transport::Stateless,
            why,
        }
    }
}

impl Visits {
    /// Call it within a runtime, whose task hears what is told.
    pub fn start(came: Option<Hears>, went: Option<Hears>) -> Visits {
        let (to, mut from) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(told) = from.recv().await {
                match told {
                    Told::Visit(visit) => {
                        let (hears, what) = if visit.why.is_none() { (&came, "connect") } else { (&went, "close") };
                        if let Some(hears) = hears {
                            hear(hears, what, visit).await;
                        }
                    }
                    Told::Mark(reached) => drop(reached.send(())),
                }
            }
        });
        Visits { to, lost: AtomicU64::new(0) }
    }

    /// Never waits.
    pub fn tell(&self, visit: Visit) {
        if let Err(error) = self.to.try_send(Told::Visit(visit)) {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            // A flood of them is no reason for a flood of lines.
            if lost.is_power_of_two() {
                tracing::warn!("{lost} visits were not told, because the hooks for them do not keep up: {error}");
            }
        }
    }

    /// Waits until all was heard, a moment at most.
    pub async fn flushed(&self) {
        let (reached, wait) = oneshot::channel();
        let all = async {
            if self.to.send(Told::Mark(reached)).await.is_ok() {
                let _ = wait.await;
            }
        };
        let _ = tokio::time::timeout(FLUSH_MAX, all).await;
    }
}

async fn hear(hears: &Hears, what: &str, visit: Visit) {
    let upstream = visit.upstream.clone();
    let heard = AssertUnwindSafe(async { hears(visit).await }).catch_unwind();
    match tokio::time::timeout(HEARING_MAX, heard).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%upstream, "the hook for {what} failed: {error}"),
        Ok(Err(_)) => tracing::error!(%upstream, "the hook for {what} panicked"),
        Err(_) => tracing::error!(%upstream, "the hook for {what} took longer than {HEARING_MAX:?} and was given up"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn visit(number: u64, why: Option<&str>) -> Visit {
        let upstream = Name::new("a").expect("a name");
        let why = why.map(Into::into);
        Visit { upstream, number, client: None, principal: Principal::default(), has_session: true, why }
    }

    #[tokio::test(start_paused = true)]
    async fn s4_68_a_hook_that_fails_panics_or_hangs_stops_nobody() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let seen = heard.clone();
        let came: Hears = Box::new(move |visit| {
            seen.lock().expect("heard").push(visit.number);
            assert!(visit.number != 1, "a panic before there is a future");
            Box::pin(async move {
                match visit.number {
                    2 => Err("no".into()),
                    3 => panic!("within it"),
                    4 => std::future::pending().await,
                    _ => Ok(()),
                }
            })
        });
        let visits = Visits::start(Some(came), None);
        (1..=5).for_each(|number| visits.tell(visit(number, None)));
        visits.tell(visit(5, Some("gone")));
        while heard.lock().expect("heard").len() < 5 {
            visits.flushed().await;
        }
        assert_eq!(*heard.lock().expect("heard"), [1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn s4_68_what_is_told_is_bounded() {
        let hangs: Hears = Box::new(|_| Box::pin(std::future::pending()));
        let visits = Visits::start(Some(hangs), None);
        (0..2 * WAITING_MAX as u64).for_each(|number| visits.tell(visit(number, None)));
        assert_eq!(visits.lost.load(Ordering::Relaxed), WAITING_MAX as u64);
    }
}
