//! What all upstreams share: the workers' runtimes, the permits to start, the limits.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Credentials,
    config::{Limits, Name},
    link::Link,
    observe::{audit::Audit, shelf::Shelf},
};

/// Shared by the Hub, its upstreams, and the server.
pub struct Engine {
    pub workers: Workers,
    pub limits: ArcSwap<Limits>,
    /// Children that may be starting at once.
    pub starts: ArcSwap<Semaphore>,
    /// Sessions of all mounts.
    pub sessions: AtomicUsize,
    /// Event streams that are open.
    pub streams: AtomicUsize,
    /// Told when the state of something changes.
    pub stirred: Notify,
    /// Where calls are recorded, if they are.
    pub audit: ArcSwapOption<Audit>,
    /// The files of `stderr_file`.
    pub shelf: Shelf,
    /// Cancelled when the hub is to end at once: no process gets time to finish.
    pub at_once: CancellationToken,
    /// What remote upstreams are asked with, in place of what their configurations say.
    pub credentials: OnceLock<Arc<Credentials>>,
    /// Our own executable, which stands in for a command named `hubward`; unset in other programs.
    pub executable: OnceLock<std::path::PathBuf>,
    /// Servers of the program that the hub is a part of, in place of what their upstreams' configurations say.
    pub inside: OnceLock<BTreeMap<Name, MakesLink>>,
}

/// Makes a link to a server within this program: one for each instance of its upstream.
pub type MakesLink = Arc<dyn Fn() -> Link + Send + Sync>;

impl Engine {
    pub fn new(limits: Limits) -> Arc<Engine> {
        let engine = Engine {
            workers: Workers::default(),
            starts: ArcSwap::from_pointee(Semaphore::new(limits.starts_max)),
            limits: ArcSwap::from_pointee(limits),
            sessions: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            stirred: Notify::new(),
            audit: ArcSwapOption::empty(),
            shelf: Shelf::default(),
            at_once: CancellationToken::new(),
            credentials: OnceLock::new(),
            executable: OnceLock::new(),
            inside: OnceLock::new(),
        };
        Arc::new(engine)
    }

    /// Takes over changed limits. Starts under way keep the permits of their time.
    pub fn set_limits(&self, limits: Limits) {
        if self.limits.load().starts_max != limits.starts_max {
            self.starts.store(Arc::new(Semaphore::new(limits.starts_max)));
        }
        self.limits.store(Arc::new(limits));
    }
}

/// The runtimes of the server's worker threads. A child's pipes live on one of them, because a call that stays
/// on its thread costs a third less than one that wakes another.
#[derive(Default)]
pub struct Workers {
    runtimes: Mutex<Vec<Handle>>,
    arrived: Notify,
    next: AtomicUsize,
}

impl Workers {
    /// Registers the current runtime. A server's factory runs once per worker and listener.
    pub fn register(&self) {
        let Ok(handle) = Handle::try_current() else { return };
        if !self.include(&handle) {
            self.runtimes().push(handle);
        }
        self.arrived.notify_waiters();
    }

    /// Whether every worker takes up work within this time. One that is stuck in something that never waits does not.
    pub async fn are_alive(&self, within: Duration) -> bool {
        let runtimes = self.runtimes().clone();
        let pulses = join_all(runtimes.iter().map(|runtime| runtime.spawn(async {})));
        let felt = tokio::time::timeout(within, pulses).await;
        !runtimes.is_empty() && felt.is_ok_and(|felt| felt.iter().all(Result::is_ok))
    }

    /// The next runtime in turn; waits until there is one.
    pub async fn pick(&self) -> Handle {
        loop {
            let arrived = self.arrived.notified();
            if let Some(handle) = self.try_pick() {
                return handle;
            }
            arrived.await;
        }
    }

    /// Whether this runtime is one of theirs.
    pub fn include(&self, handle: &Handle) -> bool {
        self.runtimes().iter().any(|known| known.id() == handle.id())
    }

    fn runtimes(&self) -> MutexGuard<'_, Vec<Handle>> {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_pick(&self) -> Option<Handle> {
        let runtimes = self.runtimes();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        runtimes.get(turn.checked_rem(runtimes.len())?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_is_stuck_is_not_alive() {
        let workers = Arc::new(Workers::default());
        let soon = Duration::from_secs(20);
        assert!(!workers.are_alive(soon).await, "there is none");
        let (registered, ready) = mpsc::channel();
        let (release, stuck) = mpsc::channel::<()>();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let known = workers.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                known.register();
                registered.send(()).unwrap();
                stuck.recv().unwrap();
                ended.await.unwrap();
            });
        });
        ready.recv().unwrap();
        workers.register();
        assert!(!workers.are_alive(Duration::from_millis(50)).await, "one of two is stuck");
        release.send(()).unwrap();
        assert!(workers.are_alive(soon).await);
        end.send(()).unwrap();
        thread.join().unwrap();
        assert!(!workers.are_alive(soon).await, "one of two is gone");
    }
}
