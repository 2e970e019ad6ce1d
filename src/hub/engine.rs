//! What all upstreams share: the workers' runtimes, the permits to start, the limits.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::Principal,
    auth::Credentials,
    config::Limits,
    observe::audit::{Audit, Record},
    wire::Message,
};

/// The longest name of a tool or method that is recorded, in characters.
const NAME_MAX: usize = 200;

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
    /// Where calls are recorded, if they are.
    pub audit: ArcSwapOption<Audit>,
    /// Cancelled when the hub is to end at once: no process gets time to finish.
    pub at_once: CancellationToken,
    /// What remote upstreams are asked with, in place of what their configurations say.
    pub credentials: OnceLock<Arc<Credentials>>,
    /// Our own executable, which stands in for a command named `hubward`.
    pub executable: OnceLock<std::path::PathBuf>,
}

impl Engine {
    pub fn new(limits: Limits) -> Arc<Engine> {
        let engine = Engine {
            workers: Workers::default(),
            starts: ArcSwap::from_pointee(Semaphore::new(limits.starts_max)),
            limits: ArcSwap::from_pointee(limits),
            sessions: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            audit: ArcSwapOption::empty(),
            at_once: CancellationToken::new(),
            credentials: OnceLock::new(),
            executable: OnceLock::new(),
        };
        if let Ok(path) = std::env::current_exe() {
            let _ = engine.executable.set(path);
        }
        Arc::new(engine)
    }

    /// Begins the record of a call, where calls are recorded.
    pub fn record(&self, principal: &Principal, upstream: &str, message: &Message) -> Option<Record> {
        let audit = self.audit.load();
        let audit = audit.as_ref()?;
        let named = matches!(message.method(), "tools/call" | "prompts/get");
        let name = message.param(["name"]).ok().filter(|_| named).and_then(|[name]| name);
        let name = name.and_then(|name| serde_json::from_str::<String>(name.get()).ok());
        let name = name.map(|name| name.chars().take(NAME_MAX).collect());
        let method: String = message.method().chars().take(NAME_MAX).collect();
        Some(audit.begin(principal.name(), upstream, &method, name, message.bytes().len()))
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
    /// Registers the current runtime. The factory of an `HttpServer` runs once per worker and listener.
    pub fn register(&self) {
        let Ok(handle) = Handle::try_current() else { return };
        let mut runtimes = self.runtimes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if runtimes.iter().all(|known| known.id() != handle.id()) {
            runtimes.push(handle);
        }
        self.arrived.notify_waiters();
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

    fn try_pick(&self) -> Option<Handle> {
        let runtimes = self.runtimes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        runtimes.get(turn.checked_rem(runtimes.len())?).cloned()
    }
}
