//! Which connection serves which caller: `session`, `call`, `shared`.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    audience::{Level, Wish},
    engine::Engine,
    lifecycle::{Effect, Event, Lifecycle},
    routes::Route,
    session::Session,
    upstream::Unavailable,
};
use crate::{
    bridge::{Bridged, Offer},
    config::{Isolation, Name},
    wire::trouble::Reason,
};

/// A connection for one call (or one batch).
pub enum Seat {
    /// The session's own process, or the one that everybody shares.
    Kept(Arc<Bridged>),
    /// A process of the pool, nobody else's until it is given back.
    Leased(Lease),
}

impl Seat {
    pub fn bridged(&self) -> &Arc<Bridged> {
        match self {
            Seat::Kept(bridged) => bridged,
            Seat::Leased(lease) => &lease.bridged,
        }
    }
}

/// What a client may use of an upstream under this isolation.
pub fn offer(isolation: Isolation) -> Offer {
    match isolation {
        Isolation::Session => Offer::Everything,
        Isolation::Shared => Offer::Shared,
        Isolation::Call => Offer::SingleCalls,
    }
}

/// The connection for a call of this session, where there is one that nobody has to wait for: mostly there is.
pub fn seat_at_once(route: &Route, session: &Session) -> Option<Seat> {
    // A session keeps the process it has, also while a reload changes the upstream under it.
    let kept = match (session.own.load_full(), route.isolation()) {
        (None, Isolation::Shared) => route.serving.connection.load_full(),
        (own, _) => own,
    };
    kept.filter(|kept| !kept.connection.is_over()).map(Seat::Kept)
}

/// Finds a connection for a call of this session; starts a process where there is none. A route that was replaced
/// meanwhile leads on to its successor: a reload is nothing a caller should notice.
pub async fn seat(route: &Route, session: &Arc<Session>) -> Result<Seat, Unavailable> {
    if let Some(seat) = seat_at_once(route, session) {
        return Ok(seat);
    }
    if session.own.load().is_some() && route.isolation() == Isolation::Shared {
        return move_in(route, session).await.map(Seat::Kept);
    }
    let mut later: Option<Arc<Route>> = None;
    loop {
        let route = later.as_deref().unwrap_or(route);
        let seat = match route.isolation() {
            Isolation::Session => own(route, session).await.map(Seat::Kept),
            Isolation::Shared => shared(route).await.map(Seat::Kept),
            Isolation::Call => lease(route).await.map(Seat::Leased),
        };
        match (seat, route.serving.successor.load_full()) {
            (Err(_), Some(successor)) => later = Some(successor),
            (seat, _) => return seat,
        }
    }
}

/// The connection that everybody shares.
async fn shared(route: &Route) -> Result<Arc<Bridged>, Unavailable> {
    match route.serving.connection.load_full().filter(|shared| !shared.connection.is_over()) {
        Some(shared) => Ok(shared),
        None => route.upstream.connect(None).await,
    }
}

/// A session whose own process has gone comes to the one that everybody shares, with its subscriptions: a reload has
/// changed the isolation, or the era.
async fn move_in(route: &Route, session: &Arc<Session>) -> Result<Arc<Bridged>, Unavailable> {
    let shared = shared(route).await?;
    session.own.store(None);
    for uri in session.subscriptions() {
        session.subscribe(&uri, false);
        if route.audience.subscribe(session, &uri, true, shared.keeps_apart()) == Wish::Tell {
            shared.subscribe(&session.whose(), &uri, true).await;
        }
    }
    Ok(shared)
}

/// The session's own process: a new one where the last has ended, told again what the client told the last.
async fn own(route: &Route, session: &Arc<Session>) -> Result<Arc<Bridged>, Unavailable> {
    let mut life = session.connecting.lock().await;
    if let Some(own) = session.own.load_full().filter(|own| !own.connection.is_over()) {
        return Ok(own);
    }
    if let Some(dead) = session.own.swap(None)
        && dead.connection.died()
    {
        let why = format!("its process {}", dead.connection.why());
        let life = life.get_or_insert_with(|| Lifecycle::new(route.config.patience()));
        life.step(Event::Lost { why, counts: true }, Instant::now(), jitter());
    }
    if let Some(life) = life.as_mut() {
        admit(&route.name, life).await?;
    }
    let connected = route.upstream.connect(Some(session)).await;
    if let Some(life) = life.as_mut() {
        match &connected {
            Ok(_) => drop(life.step(Event::Ready, Instant::now(), jitter())),
            Err(_) => life.forget_start(),
        }
    }
    let bridged = connected?;
    if bridged.profile.is_modern() {
        // That was found out just now: it is everybody's.
        return Ok(bridged);
    }
    let wanted = [(None, session.subscriptions())].into();
    bridged.bring_up_to_date(session.level().map(Level::as_str), wanted).await;
    session.own.store(Some(bridged.clone()));
    // A DELETE may have come in between.
    if session.ended.is_cancelled() {
        session.end("the session ended");
    }
    Ok(bridged)
}

/// A session whose process keeps dying waits longer each time, and is refused in the end.
async fn admit(name: &Name, life: &mut Lifecycle) -> Result<(), Unavailable> {
    loop {
        let now = Instant::now();
        match life.step(Event::Wanted, now, jitter()) {
            Some(Effect::Spawn) => return Ok(()),
            Some(Effect::Refuse { after }) => {
                let reason = format!("{}, too often for this session", life.reason().unwrap_or("its process ended"));
                return Err(Unavailable::new(name, &reason, after));
            }
            _ => match life.phase() {
                super::lifecycle::Phase::Waiting { until, .. } => tokio::time::sleep_until((*until).into()).await,
                _ => return Ok(()),
            },
        }
        life.step(Event::Woke, Instant::now(), jitter());
    }
}

/// A process of the pool for one call.
async fn lease(route: &Route) -> Result<Lease, Unavailable> {
    let pool = &route.serving.pool;
    let permit = pool.permit(route.config.start_timeout).await.map_err(|also| {
        let reason = format!("all {} processes are busy (process_max){also}", route.config.process_max);
        Unavailable::new(&route.name, &reason, Some(Duration::from_secs(1))).because(Reason::Overloaded)
    })?;
    let bridged = match pool.take() {
        Some(bridged) => bridged,
        None => route.upstream.connect(None).await?,
    };
    Ok(Lease { bridged, pool: pool.clone(), _permit: permit })
}

/// Processes that serve one call at a time.
pub struct Pool {
    idle: Mutex<Vec<Arc<Bridged>>>,
    permits: Arc<Semaphore>,
    /// Calls that wait for a permit.
    waiting: AtomicUsize,
    engine: Arc<Engine>,
}

impl Pool {
    pub fn new(process_max: usize, engine: Arc<Engine>) -> Arc<Pool> {
        let permits = Arc::new(Semaphore::new(process_max));
        Arc::new(Pool { idle: Mutex::default(), permits, waiting: AtomicUsize::new(0), engine })
    }

    /// Waits for the right to lease a process. Fails with what is to be said beside "busy".
    async fn permit(&self, patience: Duration) -> Result<OwnedSemaphorePermit, &'static str> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _place = Place::take(&self.waiting, self.engine.limits.load().queue_max)?;
        let wait = tokio::time::timeout(patience, self.permits.clone().acquire_owned());
        wait.await.map_or(Err(""), |permit| permit.map_err(|_| ""))
    }

    /// Takes over a changed `process_max`. Leases that exceed it run out.
    pub fn resize(&self, from: usize, to: usize) {
        match to.checked_sub(from) {
            Some(more) => self.permits.add_permits(more),
            None => drop(self.permits.forget_permits(from - to)),
        }
    }

    /// Takes a process that waits, the one used last: the others may then grow idle.
    pub fn take(&self) -> Option<Arc<Bridged>> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while let Some(bridged) = idle.pop() {
            if !bridged.connection.is_over() {
                return Some(bridged);
            }
        }
        None
    }

    /// Puts a process at the callers' disposal.
    pub fn put(&self, bridged: Arc<Bridged>) {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(bridged);
    }

    /// Lets go of the processes that nobody used for this long.
    pub fn shrink(&self, unused_for: Duration) {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        idle.retain(|bridged| !bridged.connection.is_over() && bridged.connection.watch().unused_for() < unused_for);
    }

    /// Lets go of all that wait.
    pub fn clear(&self) {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }
}

/// A place in the queue for a permit.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, queue_max: usize) -> Result<Place<'a>, &'static str> {
        let place = Place(waiting);
        match waiting.fetch_add(1, Ordering::Relaxed) < queue_max {
            true => Ok(place),
            false => Err(", and too many calls wait for one (queue_max)"),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The exclusive use of a process, until dropped.
pub struct Lease {
    pub bridged: Arc<Bridged>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A process that may still be busy with a cancelled call would mix it into the next one.
        let shared = self.bridged.profile.is_modern();
        if !shared && !self.bridged.connection.is_over() && !self.bridged.connection.is_busy() {
            self.pool.put(self.bridged.clone());
        }
    }
}

/// A random number in 0..1.
pub fn jitter() -> f64 {
    let mut bytes = [0; 4];
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
