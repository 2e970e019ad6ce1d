//! Upstream: keeps one named upstream connected.
//!
//! A thin shell round [`lifecycle`](super::lifecycle): messages become events, effects become tasks. It decides
//! whether there is a connection and never sees what passes through it.

mod act;
mod handle;
mod instances;
mod look;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use act::{Halt, Launch};
use handle::{Connect, Outcome};
pub use handle::{Unavailable, UpstreamHandle};

use super::{
    act::Done,
    audience::{Audience, Level},
    engine::Engine,
    instance::{self, STDERR_LINES, StartError, StartSpec, Started, last_words, shown},
    isolation::jitter,
    lifecycle::{Effect, Event, Lifecycle, Phase},
    peer::Peer,
    remote::{Far, credentials},
    routes::{Serving, State, UpstreamStatus},
    session::Session,
    tether::Tether,
};
use crate::{
    bridge::{
        Bridged,
        feed::{Hear, Whose},
        handshake::{Greeting, Hello},
    },
    config::{Era, Isolation, Name, Start, Transport, UpstreamConfig},
    link::connection::{Attribution, ConnectionWatch},
    wire::{Message as WireMessage, trouble::Reason},
};

/// How often idleness and retirement are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long an upstream that was asked is believed to open with `initialize`.
const ERA_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

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
        peer: Peer,
    },
    Started {
        number: u64,
        bridged: Arc<Bridged>,
        watch: ConnectionWatch,
        took: Duration,
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
    /// Somebody has logged in.
    LoggedIn,
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
    /// A newer server's process was lost: what it would have told meanwhile nobody has heard.
    unheard: bool,
    retiring: Option<Retire>,
    /// The operator wants it stopped, until nothing of it is left.
    halting: Option<Halt>,
    /// The operator wants to hear how the start ends.
    launches: Vec<oneshot::Sender<Done>>,
    stderr: Vec<String>,
    /// What callers are told of the last trouble.
    public: Option<String>,
    /// The last start failed for want of a login.
    unauthorized: bool,
    /// A task waits for one.
    awaits_login: bool,
    /// Where it is somewhere else.
    far: Option<Arc<Far>>,
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
    peer: Option<Peer>,
    ready: Option<ConnectionWatch>,
}

impl Running {
    fn pid(&self) -> Option<u32> {
        self.peer.as_ref().and_then(Peer::pid)
    }
}

impl Upstream {
    pub fn new(spec: UpstreamSpec) -> Upstream {
        // HTTP+SSE is older than the question what it speaks.
        let sse = spec.config.remote.as_ref().is_some_and(|remote| remote.transport == Transport::Sse);
        let modern = match spec.config.era {
            Era::Auto if sse => Some((false, Instant::now())),
            Era::Auto => None,
            era => Some((era == Era::Modern, Instant::now())),
        };
        spec.serving.modern.store(spec.config.era == Era::Modern, Ordering::Relaxed);
        spec.serving.exposes_errors.store(spec.config.expose_errors, Ordering::Relaxed);
        let far = spec.config.remote.as_ref().map(|config| {
            let given = spec.engine.credentials.get().cloned();
            Far::new(config.clone(), given.unwrap_or_else(|| Arc::new(credentials(&spec.name, config))))
        });
        Upstream {
            life: Lifecycle::new(spec.config.patience()),
            far,
            unauthorized: false,
            awaits_login: false,
            spec,
            instances: HashMap::new(),
            last_instance: 0,
            waiters: VecDeque::new(),
            modern,
            queue: VecDeque::new(),
            proving: false,
            unheard: false,
            retiring: None,
            halting: None,
            launches: Vec::new(),
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
        let effect = self.life.step(event, Instant::now(), jitter());
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
        if !self.is_shared() || !wanted || self.life.processes() > 0 || self.retiring.is_some() || self.is_stopped() {
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
        let refused = |reason: &str| Err(Unavailable::new(&self.spec.name, reason, soon).because(Reason::Overloaded));
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
            _ => {
                let starting = Unavailable::new(&self.spec.name, "it is starting", soon).because(Reason::Starting);
                let _ = connect.waiter.send(Err(starting));
            }
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
        let refused = |why, reason: &str| Err(Unavailable::new(&self.spec.name, reason, soon).because(why));
        if let Some(retire) = &self.retiring {
            let _ = connect.waiter.send(refused(Reason::Draining, &format!("it {}", retire.why)));
        } else if self.is_stopped() {
            let _ = connect.waiter.send(Err(self.unavailable_stopped()));
        } else if self.is_shared() {
            self.waiters.retain(|connect| !connect.waiter.is_closed());
            match self.spec.serving.connection.load_full().filter(|now| !now.connection.is_over()) {
                Some(ready) => drop(connect.waiter.send(Ok(ready))),
                None if self.waiters.len() >= self.spec.engine.limits.load().queue_max => {
                    let why = "too many calls wait for it to start (queue_max)";
                    let _ = connect.waiter.send(refused(Reason::Overloaded, why));
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
            Told::Spawned { number, peer } => {
                if let Some(running) = self.instances.get_mut(&number) {
                    running.peer = Some(peer);
                }
            }
            Told::Started { number, bridged, watch, took } => self.started(number, bridged, watch, took, context),
            Told::Settled { number, modern } => self.settled(number, modern, context),
            Told::StartFailed { number, error } => self.start_failed(number, error, context),
            Told::GivenUp { number } => {
                self.instances.remove(&number);
                self.launched(&Err("the start was given up".into()));
                self.life.forget_start();
                self.serve_queue(context);
            }
            Told::LoggedIn => {
                self.awaits_login = false;
                self.step(Event::Revive, context);
                self.serve_waiters(context);
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
        self.spec.serving.pool.clear();
        let soon = Some(Duration::from_secs(1));
        let why = format!("it {}", retire.why);
        let error = Unavailable::new(&self.spec.name, &why, soon).because(Reason::Draining);
        self.waiters.drain(..).for_each(|connect| drop(connect.waiter.send(Err(error.clone()))));
        self.queue.drain(..).for_each(|connect| drop(connect.waiter.send(Err(error.clone()))));
        self.retiring = Some(retire);
        self.tell();
        self.tick(context);
    }
}

impl Handler<Adopt> for Upstream {
    type Result = ();

    fn handle(&mut self, Adopt(config): Adopt, context: &mut Self::Context) {
        self.life.set_policy(config.patience());
        self.spec.serving.exposes_errors.store(config.expose_errors, Ordering::Relaxed);
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
