//! Upstream: keeps one named upstream connected.
//!
//! A thin shell round [`lifecycle`](super::lifecycle): messages become events, effects become tasks. It decides
//! whether there is a connection and never sees what passes through it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    audience::{Audience, Level},
    engine::Engine,
    instance::{self, STDERR_LINES, StartError, StartSpec, Started},
    isolation::jitter,
    lifecycle::{Effect, Event, Lifecycle, Phase},
    routes::{Serving, State, UpstreamStatus},
    session::Session,
    tether::Tether,
};
use crate::{
    bridge::{
        Bridged,
        feed::Hear,
        handshake::{Greeting, Hello},
    },
    config::{Era, Isolation, Name, Start, UpstreamConfig},
    link::{
        connection::{Attribution, ConnectionWatch},
        process::Process,
    },
    wire::Message as WireMessage,
};

/// How often idleness and retirement are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long an upstream that was asked is believed to open with `initialize`.
const ERA_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// An upstream cannot be called now.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("upstream `{name}` is not available: {reason}")]
pub struct Unavailable {
    pub name: Name,
    pub reason: String,
    /// When to come back; none where only a changed configuration helps.
    pub retry_after: Option<Duration>,
}

impl Unavailable {
    pub fn new(name: &Name, reason: &str, retry_after: Option<Duration>) -> Unavailable {
        Unavailable { name: name.clone(), reason: reason.to_owned(), retry_after }
    }
}

type Outcome = Result<Arc<Bridged>, Unavailable>;

/// A caller found no live connection.
#[derive(Message)]
#[rtype(result = "()")]
struct Connect {
    /// Isolation `session`: whose own process it shall be.
    session: Option<Arc<Session>>,
    /// Closed when the caller has left.
    waiter: oneshot::Sender<Outcome>,
}

/// Starts a process to see whether the definition works: before it replaces another, or for `start = "eager"`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Prove;

/// Finish and end. Calls in flight have until the deadline.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire {
    pub deadline: Instant,
    /// Sessions keep their processes until the deadline.
    pub pinned: bool,
    pub why: &'static str,
}

/// A change that needs no new process.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Adopt(pub Arc<UpstreamConfig>);

/// Panics, so that a test can see who picks up the pieces.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub struct Poison;

/// To the Hub: how the proof of a definition ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Proved {
    pub name: Name,
    pub number: u64,
    pub outcome: Result<(), String>,
}

/// What an instance's task reports.
#[derive(Message)]
#[rtype(result = "()")]
enum Told {
    Spawned {
        number: u64,
        process: Process,
    },
    Started {
        number: u64,
        bridged: Arc<Bridged>,
        watch: ConnectionWatch,
    },
    /// It was asked what it speaks, and is to be started again.
    Settled {
        number: u64,
        modern: bool,
    },
    StartFailed {
        number: u64,
        error: StartError,
    },
    GivenUp {
        number: u64,
    },
    Lost {
        number: u64,
        asked: bool,
        why: String,
        stderr: Vec<String>,
    },
}

/// What an Upstream is made from.
pub struct UpstreamSpec {
    pub name: Name,
    pub config: Arc<UpstreamConfig>,
    pub engine: Arc<Engine>,
    pub serving: Arc<Serving>,
    pub audience: Arc<Audience>,
    /// No process starts before this is cancelled.
    pub free: CancellationToken,
    pub proved: Recipient<Proved>,
    pub tether: Tether,
    /// Owns the tasks that wait for processes.
    pub tasks: TaskTracker,
}

pub struct Upstream {
    spec: UpstreamSpec,
    life: Lifecycle,
    instances: HashMap<u64, Running>,
    last_instance: u64,
    /// Callers of a shared upstream until it is ready, and of any until it is known what it speaks.
    waiters: VecDeque<Connect>,
    /// Is it a newer server, and since when is that known?
    modern: Option<(bool, Instant)>,
    /// Callers of the other isolations, until a process that is ending has made room.
    queue: VecDeque<Connect>,
    proving: bool,
    retiring: Option<Retire>,
    since: SystemTime,
    stderr: Vec<String>,
    /// What callers are told of the last trouble.
    public: Option<String>,
    /// Cancelled when nobody can be served any more by what is starting.
    starts: CancellationToken,
    /// Cancelled with the actor, panics included: no process survives it.
    alive: CancellationToken,
}

/// An instance as its Upstream sees it.
struct Running {
    /// Whom the start was for; none for a shared process.
    waiter: Option<oneshot::Sender<Outcome>>,
    /// Whose process it is, in isolation `session`.
    session: Weak<Session>,
    /// Ends a start that nobody waits for.
    given_up: CancellationToken,
    process: Option<Process>,
    ready: Option<ConnectionWatch>,
}

/// The way to an Upstream, for those who know no actors.
#[derive(Clone)]
pub struct UpstreamHandle {
    name: Name,
    address: Option<Addr<Upstream>>,
    patience: Duration,
    /// Why there is no actor.
    absent: &'static str,
}

impl UpstreamHandle {
    pub fn to(name: &Name, address: Addr<Upstream>, config: &UpstreamConfig) -> UpstreamHandle {
        // A start has its own deadline; this one covers the wait for the permit to start.
        let patience = config.start_timeout * 2;
        UpstreamHandle { name: name.clone(), address: Some(address), patience, absent: "" }
    }

    /// The handle of an upstream that is switched off.
    pub fn absent(name: &Name, why: &'static str) -> UpstreamHandle {
        UpstreamHandle { name: name.clone(), address: None, patience: Duration::ZERO, absent: why }
    }

    #[cfg(test)]
    pub fn poison(&self) {
        self.address.as_ref().expect("an actor").try_send(Poison).expect("room in its mailbox");
    }

    /// The same way with changed timeouts.
    pub fn with(self, config: &UpstreamConfig) -> UpstreamHandle {
        UpstreamHandle { patience: config.start_timeout * 2, ..self }
    }

    /// Asks for a connection, and waits for it.
    pub async fn connect(&self, session: Option<&Arc<Session>>) -> Outcome {
        let Some(address) = &self.address else {
            return Err(Unavailable::new(&self.name, self.absent, None));
        };
        let soon = Some(Duration::from_secs(1));
        // The actor keeps one end only, so that it sees a caller leave.
        let (waiter, outcome) = oneshot::channel();
        let connected = async {
            address.send(Connect { session: session.cloned(), waiter }).await.ok()?;
            outcome.await.ok()
        };
        match tokio::time::timeout(self.patience, connected).await {
            Ok(Some(outcome)) => outcome,
            // The actor is being rebuilt, or was retired this instant.
            Ok(None) => Err(Unavailable::new(&self.name, "it is being replaced", soon)),
            Err(_) => Err(Unavailable::new(&self.name, "it is still starting", soon)),
        }
    }
}

impl Upstream {
    pub fn new(spec: UpstreamSpec) -> Upstream {
        let modern = match spec.config.era {
            Era::Auto => None,
            era => Some((era == Era::Modern, Instant::now())),
        };
        spec.serving.modern.store(spec.config.era == Era::Modern, Ordering::Relaxed);
        Upstream {
            life: Lifecycle::new(spec.config.restart.clone()),
            spec,
            instances: HashMap::new(),
            last_instance: 0,
            waiters: VecDeque::new(),
            modern,
            queue: VecDeque::new(),
            proving: false,
            retiring: None,
            since: SystemTime::now(),
            stderr: Vec::new(),
            public: None,
            starts: CancellationToken::new(),
            alive: CancellationToken::new(),
        }
    }

    /// How callers are kept apart. Until it is known what the upstream speaks they wait together.
    fn isolation(&self) -> Isolation {
        match self.modern {
            Some((false, _)) => self.spec.config.isolation,
            Some((true, _)) | None => Isolation::Shared,
        }
    }

    /// Keeps in mind what the upstream speaks.
    fn settle_era(&mut self, modern: Option<bool>) {
        self.modern = modern.map(|modern| (modern, Instant::now()));
        self.spec.serving.modern.store(modern == Some(true), Ordering::Relaxed);
    }

    /// An upgrade may have made a newer server of it. The other way round, a start fails.
    fn doubt_era(&mut self) {
        let old = self.modern.is_some_and(|(modern, since)| !modern && since.elapsed() > ERA_AGE_MAX);
        if old && self.spec.config.era == Era::Auto && self.instances.is_empty() {
            self.settle_era(None);
        }
    }

    fn is_shared(&self) -> bool {
        self.isolation() == Isolation::Shared
    }

    fn step(&mut self, event: Event, context: &mut Context<Self>) -> Option<Effect> {
        let before = self.life.phase().clone();
        let effect = self.life.step(event, Instant::now(), jitter());
        if *self.life.phase() != before {
            self.since = SystemTime::now();
        }
        if let Some(Effect::WakeAt(at)) = effect {
            context.run_later(at.saturating_duration_since(Instant::now()), |this, context| {
                this.step(Event::Woke, context);
                this.serve_waiters(context);
                this.tell();
            });
        }
        effect
    }

    /// Starts a process for those who wait for a shared one, if there are any and it may be.
    fn serve_waiters(&mut self, context: &mut Context<Self>) {
        self.waiters.retain(|connect| !connect.waiter.is_closed());
        let wanted = !self.waiters.is_empty() || self.wanted_anyway();
        if !self.is_shared() || !wanted || self.life.processes() > 0 || self.retiring.is_some() {
            return;
        }
        match self.step(Event::Wanted, context) {
            Some(Effect::Spawn) => self.spawn(None, context),
            Some(Effect::Refuse { after }) => self.refuse_waiters(after),
            _ => {}
        }
    }

    /// Must a shared process run although nobody calls it?
    fn wanted_anyway(&self) -> bool {
        self.spec.config.start == Start::Eager || !self.spec.audience.subscribed().is_empty()
    }

    /// Starts a process for one caller, if there is room or soon will be.
    fn seat(&mut self, connect: Connect, context: &mut Context<Self>) {
        let soon = Some(Duration::from_secs(1));
        let refused = |reason: &str| Err(Unavailable::new(&self.spec.name, reason, soon));
        if self.life.processes() >= self.spec.config.process_max {
            let over = |running: &&Running| running.ready.as_ref().is_some_and(ConnectionWatch::is_over);
            match self.queue.len() < self.instances.values().filter(over).count() {
                true => self.queue.push_back(connect),
                false => drop(connect.waiter.send(refused("all its processes are in use (process_max)"))),
            }
            return;
        }
        match self.step(Event::Wanted, context) {
            Some(Effect::Spawn) => self.spawn(Some(connect), context),
            Some(Effect::Refuse { after }) => drop(connect.waiter.send(Err(self.unavailable(after)))),
            _ => drop(connect.waiter.send(Err(Unavailable::new(&self.spec.name, "it is starting", soon)))),
        }
    }

    /// A process has gone: the next in the queue has its room.
    fn serve_queue(&mut self, context: &mut Context<Self>) {
        self.queue.retain(|connect| !connect.waiter.is_closed());
        while self.life.processes() < self.spec.config.process_max && self.retiring.is_none() {
            let Some(connect) = self.queue.pop_front() else { return };
            self.seat(connect, context);
        }
    }

    fn refuse_waiters(&mut self, after: Option<Duration>) {
        let error = self.unavailable(after);
        self.waiters.drain(..).for_each(|connect| drop(connect.waiter.send(Err(error.clone()))));
    }

    fn unavailable(&self, after: Option<Duration>) -> Unavailable {
        let cause = self.public.as_deref().unwrap_or("it is not running");
        let reason = match self.life.phase() {
            Phase::Failed => {
                format!(
                    "{cause}; it failed too often and stays down until its configuration changes or it is restarted"
                )
            }
            _ => cause.to_owned(),
        };
        Unavailable::new(&self.spec.name, &reason, after)
    }

    fn spawn(&mut self, caller: Option<Connect>, context: &mut Context<Self>) {
        self.last_instance += 1;
        let number = self.last_instance;
        let session = caller.as_ref().and_then(|caller| caller.session.as_ref());
        let (greeting, attribution) = match (self.modern, self.isolation()) {
            (None, _) => (Greeting::Ask, Attribution::Strangers),
            (Some((true, _)), _) => (Greeting::Modern, Attribution::Strangers),
            (_, Isolation::Session) => {
                let greeting = session.and_then(|session| session.greeting());
                let hello = greeting.map_or_else(Hello::shared, |greeting| greeting.hello.clone());
                (Greeting::Legacy(hello), Attribution::OneClient)
            }
            (_, Isolation::Call) => (Greeting::Legacy(Hello::single_calls()), Attribution::Strangers),
            (_, Isolation::Shared) => (Greeting::Legacy(Hello::shared()), Attribution::Strangers),
        };
        let address = context.address();
        let spec = StartSpec {
            name: self.spec.name.clone(),
            config: self.spec.config.clone(),
            engine: self.spec.engine.clone(),
            attribution,
            greeting,
            hear: self.listener(session),
            spawned: Box::new({
                let address = address.clone();
                move |process| super::order(&address, Told::Spawned { number, process })
            }),
            tasks: self.spec.tasks.clone(),
        };
        let (engine, alive, starts) = (self.spec.engine.clone(), self.alive.clone(), self.starts.clone());
        // Where the caller of a start leaves, the start is given up.
        let given_up = CancellationToken::new();
        let owner = session.map(Arc::downgrade).unwrap_or_default();
        let waiter = caller.map(|caller| watch_closed(caller.waiter, given_up.clone()));
        let running = Running { waiter, session: owner, given_up: given_up.clone(), process: None, ready: None };
        self.instances.insert(number, running);
        tracing::info!(upstream = %self.spec.name, instance = number, "starting");
        let free = self.spec.free.clone();
        self.spec.tasks.spawn_local(async move {
            let start = async {
                free.cancelled().await;
                instance::start(spec).await
            };
            let started = tokio::select! {
                started = start => Some(started),
                () = alive.cancelled() => None,
                () = starts.cancelled() => None,
                () = engine.at_once.cancelled() => None,
                () = given_up.cancelled() => None,
            };
            let Some(started) = started else {
                let _ = address.send(Told::GivenUp { number }).await;
                return;
            };
            let (bridged, instance) = match started {
                Ok(Started::Ready(bridged, instance)) => (bridged, instance),
                Ok(Started::Again { modern }) => {
                    let _ = address.send(Told::Settled { number, modern }).await;
                    return;
                }
                Err(error) => {
                    let _ = address.send(Told::StartFailed { number, error }).await;
                    return;
                }
            };
            let watch = &instance.watch;
            let told = Told::Started { number, bridged, watch: watch.clone() };
            if address.send(told).await.is_err() {
                watch.close("its supervisor ended");
            }
            let (asked, why) = tokio::select! {
                end = instance.keep(&engine) => end,
                () = alive.cancelled() => {
                    watch.close("its supervisor ended");
                    instance.keep(&engine).await
                }
            };
            let stderr = instance.process.stderr_tail(STDERR_LINES);
            let _ = address.send(Told::Lost { number, asked, why, stderr }).await;
        });
    }

    /// Who hears what a process says to no call in particular.
    fn listener(&self, session: Option<&Arc<Session>>) -> Hear {
        let owner = session.map(Arc::downgrade);
        let audience = (self.isolation() == Isolation::Shared).then(|| self.spec.audience.clone());
        let serving = self.spec.serving.clone();
        Arc::new(move |message: WireMessage| {
            // What is remembered of a list goes before anybody reads the list again.
            if message.method() == "notifications/tools/list_changed" {
                serving.marks.store(None);
            }
            match (&audience, owner.as_ref().and_then(Weak::upgrade)) {
                (Some(audience), _) => audience.hear(&message),
                (None, Some(session)) => session.hear(&message),
                // A process of the pool, between two clients.
                (None, None) => {
                    tracing::debug!(method = message.method(), "a message of a pooled process belongs to nobody")
                }
            }
        })
    }

    /// It is known what the upstream speaks: whoever waited is served accordingly.
    fn settled(&mut self, number: u64, modern: bool, context: &mut Context<Self>) {
        self.instances.remove(&number);
        self.settle_era(Some(modern));
        self.life.forget_start();
        if self.proving {
            self.prove(context);
        }
        if self.is_shared() {
            return self.serve_waiters(context);
        }
        for connect in std::mem::take(&mut self.waiters) {
            self.seat(connect, context);
        }
    }

    fn prove(&mut self, context: &mut Context<Self>) {
        self.proving = true;
        if self.step(Event::Wanted, context) == Some(Effect::Spawn) {
            self.spawn(None, context);
        }
    }

    fn started(&mut self, number: u64, bridged: Arc<Bridged>, watch: ConnectionWatch, context: &mut Context<Self>) {
        self.step(Event::Ready, context);
        self.settle_era(Some(bridged.profile.is_modern()));
        let Some(running) = self.instances.get_mut(&number) else { return };
        let pid = running.process.as_ref().map(Process::pid);
        tracing::info!(upstream = %self.spec.name, instance = number, pid, "ready");
        running.ready = Some(watch);
        let waiter = running.waiter.take();
        self.spec.serving.profile.store(Some(bridged.profile.clone()));
        self.proof(Ok(()));
        match self.isolation() {
            Isolation::Shared => {
                self.bring_up_to_date(bridged.clone());
                self.spec.serving.connection.store(Some(bridged.clone()));
                for connect in self.waiters.drain(..) {
                    let _ = connect.waiter.send(Ok(bridged.clone()));
                }
            }
            Isolation::Call => match waiter {
                Some(waiter) => drop(waiter.send(Ok(bridged))),
                None => self.spec.serving.pool.put(bridged),
            },
            // Without a waiter it was a proof, and ends with this handle.
            Isolation::Session => drop(waiter.map(|waiter| waiter.send(Ok(bridged)))),
        }
    }

    /// Tells a new shared process what the clients told the last one.
    fn bring_up_to_date(&self, bridged: Arc<Bridged>) {
        let (level, uris) = (self.spec.audience.level(), self.spec.audience.subscribed());
        self.spec.tasks.spawn_local(async move { replay_wishes(&bridged, level, uris).await });
    }

    fn start_failed(&mut self, number: u64, error: StartError, context: &mut Context<Self>) {
        tracing::warn!(upstream = %self.spec.name, instance = number, reason = %error.full, "did not start");
        let waiter = self.instances.remove(&number).and_then(|running| running.waiter);
        if self.spec.config.era == Era::Auto && error.wrong_era && self.instances.is_empty() {
            // It is another program by now: ask again.
            self.settle_era(None);
        }
        let waiter = match waiter {
            // What it refused is this client's own greeting; others may be welcome.
            Some(waiter) if error.refused && self.isolation() == Isolation::Session => {
                self.life.forget_start();
                let _ = waiter.send(Err(Unavailable::new(&self.spec.name, &error.public, None)));
                return self.serve_queue(context);
            }
            waiter => waiter,
        };
        self.public = Some(error.public);
        self.stderr = error.stderr;
        let effect = self.step(Event::StartFailed(error.full.clone()), context);
        let after = match effect {
            Some(Effect::WakeAt(at)) => Some(at.saturating_duration_since(Instant::now())),
            _ => None,
        };
        if let Some(waiter) = waiter {
            let _ = waiter.send(Err(self.unavailable(after)));
        }
        self.refuse_waiters(after);
        self.proof(Err(error.full));
        self.serve_queue(context);
    }

    fn lost(&mut self, number: u64, asked: bool, why: String, stderr: Vec<String>, context: &mut Context<Self>) {
        self.instances.remove(&number);
        if asked || self.retiring.is_some() {
            tracing::info!(upstream = %self.spec.name, instance = number, "{why}");
            self.step(Event::Stopped, context);
        } else {
            tracing::warn!(upstream = %self.spec.name, instance = number, "{why}");
            self.stderr = stderr;
            self.public = Some(why.clone());
            // A client that kills its own process must not take the upstream from the others.
            let counts = self.is_shared();
            self.step(Event::Lost { why, counts }, context);
        }
        if self.is_shared() {
            let over = |current: &Option<Arc<Bridged>>| current.as_ref().is_none_or(|now| now.connection.is_over());
            if over(&self.spec.serving.connection.load_full()) {
                self.spec.serving.connection.store(None);
            }
            self.serve_waiters(context);
        }
        self.serve_queue(context);
    }

    #[expect(clippy::disallowed_methods, reason = "the Hub may be reading a file while many have something to say")]
    fn proof(&mut self, outcome: Result<(), String>) {
        if std::mem::take(&mut self.proving) {
            let proved = Proved { name: self.spec.name.clone(), number: self.spec.tether.number, outcome };
            self.spec.proved.do_send(proved);
        }
    }

    /// Publishes the state for all to see.
    fn tell(&self) {
        let config = &self.spec.config;
        let state = match self.life.phase() {
            _ if self.retiring.is_some() => State::Retiring,
            _ if !config.enabled => State::Disabled,
            _ if config.unavailable.is_some() => State::Failed,
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
        let ready = self.instances.values().filter(|running| running.ready.is_some());
        let mut pids: Vec<u32> = ready.filter_map(|running| Some(running.process.as_ref()?.pid())).collect();
        pids.sort_unstable();
        // A slow start says what it waits for (F27); else the last trouble is of interest.
        let newest =
            self.instances.iter().max_by_key(|(number, _)| **number).and_then(|(_, running)| running.process.as_ref());
        let stderr = match newest {
            Some(process) if state == State::Starting => process.stderr_tail(STDERR_LINES),
            _ => self.stderr.clone(),
        };
        self.spec.serving.status.store(Arc::new(UpstreamStatus {
            state,
            reason: reason.map(str::to_owned),
            since: Some(self.since),
            pids,
            restarts: self.life.restarts(),
            retry_in,
            stderr,
        }));
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        if let Some(retire) = &self.retiring {
            let over = Instant::now() >= retire.deadline;
            let pinned = retire.pinned && self.isolation() == Isolation::Session;
            let profile = self.spec.serving.profile.load_full().filter(|_| pinned);
            for running in self.instances.values() {
                match &running.ready {
                    Some(watch) if !watch.is_over() && (over || (watch.in_flight() == 0 && !pinned)) => {
                        watch.close(retire.why);
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
            if over || !retire.pinned {
                self.starts.cancel();
            }
            if self.instances.is_empty() {
                context.stop();
            }
            return;
        }
        if *self.life.phase() == Phase::Starting {
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
}

/// Passes a waiter's outcome on, and gives the start up when it left.
fn watch_closed(mut waiter: oneshot::Sender<Outcome>, given_up: CancellationToken) -> oneshot::Sender<Outcome> {
    let (to, from) = oneshot::channel();
    tokio::task::spawn_local(async move {
        tokio::select! {
            () = waiter.closed() => given_up.cancel(),
            outcome = from => {
                if let Ok(outcome) = outcome {
                    let _ = waiter.send(outcome);
                }
            }
        }
    });
    to
}

async fn replay_wishes(bridged: &Bridged, level: Option<Level>, uris: Vec<String>) {
    if let Some(feed) = &bridged.feed {
        feed.subscribe(uris, true).await;
        return;
    }
    const WAIT_MAX: Duration = Duration::from_secs(10);
    if let Some(level) = level.filter(|_| bridged.profile.can(&["logging"])) {
        let params = format!(r#"{{"level":"{}"}}"#, level.as_str());
        let _ = bridged.connection.request("logging/setLevel", Some(&params), WAIT_MAX).await;
    }
    for uri in uris {
        let params = serde_json::json!({ "uri": uri }).to_string();
        let _ = bridged.connection.request("resources/subscribe", Some(&params), WAIT_MAX).await;
    }
}

impl Actor for Upstream {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.tell();
        context.run_interval(TICK, |this, context| this.tick(context));
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.alive.cancel();
    }
}

impl Handler<Connect> for Upstream {
    type Result = ();

    fn handle(&mut self, connect: Connect, context: &mut Self::Context) {
        self.doubt_era();
        let soon = Some(Duration::from_secs(1));
        let refused = |reason: &str| Err(Unavailable::new(&self.spec.name, reason, soon));
        if self.retiring.is_some() {
            let _ = connect.waiter.send(refused("it is being replaced"));
        } else if self.is_shared() {
            self.waiters.retain(|connect| !connect.waiter.is_closed());
            match self.spec.serving.connection.load_full().filter(|now| !now.connection.is_over()) {
                Some(ready) => drop(connect.waiter.send(Ok(ready))),
                None if self.waiters.len() >= self.spec.engine.limits.load().queue_max => {
                    drop(connect.waiter.send(refused("too many calls wait for it to start (queue_max)")));
                }
                None => {
                    self.waiters.push_back(connect);
                    self.serve_waiters(context);
                }
            }
        } else {
            self.seat(connect, context);
        }
        self.tell();
    }
}

impl Handler<Told> for Upstream {
    type Result = ();

    fn handle(&mut self, told: Told, context: &mut Self::Context) {
        match told {
            Told::Spawned { number, process } => {
                if let Some(running) = self.instances.get_mut(&number) {
                    running.process = Some(process);
                }
            }
            Told::Started { number, bridged, watch } => self.started(number, bridged, watch, context),
            Told::Settled { number, modern } => self.settled(number, modern, context),
            Told::StartFailed { number, error } => self.start_failed(number, error, context),
            Told::GivenUp { number } => {
                self.instances.remove(&number);
                self.life.forget_start();
                self.serve_queue(context);
            }
            Told::Lost { number, asked, why, stderr } => self.lost(number, asked, why, stderr, context),
        }
        self.tell();
    }
}

impl Handler<Prove> for Upstream {
    type Result = ();

    fn handle(&mut self, _: Prove, context: &mut Self::Context) {
        self.prove(context);
        self.tell();
    }
}

impl Handler<Retire> for Upstream {
    type Result = ();

    fn handle(&mut self, retire: Retire, context: &mut Self::Context) {
        self.retiring = Some(retire);
        self.spec.serving.pool.clear();
        let soon = Some(Duration::from_secs(1));
        self.refuse_waiters(soon);
        let error = Unavailable::new(&self.spec.name, "it is being replaced", soon);
        self.queue.drain(..).for_each(|connect| drop(connect.waiter.send(Err(error.clone()))));
        self.tell();
        self.tick(context);
    }
}

impl Handler<Adopt> for Upstream {
    type Result = ();

    fn handle(&mut self, Adopt(config): Adopt, context: &mut Self::Context) {
        self.life.set_policy(config.restart.clone());
        self.spec.config = config;
        self.step(Event::Revive, context);
        self.serve_waiters(context);
        self.tell();
    }
}

#[cfg(test)]
impl Handler<Poison> for Upstream {
    type Result = ();

    fn handle(&mut self, _: Poison, _: &mut Self::Context) {
        panic!("poisoned");
    }
}
