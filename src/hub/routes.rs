//! What a name in the URL leads to.
//!
//! A request loads the table once and owns its [`Route`] from then on, whatever a reload does. A reload publishes
//! a whole new table; kept names carry over the same `Arc<Route>`.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{
    audience::Audience, engine::Engine, isolation::Pool, marks::Marks, session::Session, tasks::TaskOwners,
    tools::Tools, upstream::UpstreamHandle,
};
use crate::{
    bridge::{Bridged, Profile, feed::KINDS},
    config::{Isolation, Name, UpstreamConfig},
    link::tap::Recorder,
    observe::{journal::Journal, meter::Meter},
    wire::message,
};

/// What a request may see of an upstream.
pub struct Route {
    pub name: Name,
    pub config: Arc<UpstreamConfig>,
    /// The way to the actor, for callers that find no live connection.
    pub upstream: UpstreamHandle,
    pub serving: Arc<Serving>,
    /// Outlives the upstream: a replaced one finds its sessions again.
    pub audience: Arc<Audience>,
}

impl Route {
    /// How callers are kept apart. What is configured is meant for servers that have sessions.
    pub fn isolation(&self) -> Isolation {
        match self.serving.modern.load(Ordering::Relaxed) {
            true => Isolation::Shared,
            false => self.config.isolation,
        }
    }

    /// Tells clients that other tools are there for them now, as the upstream promised to tell.
    pub fn announce_tools(&self) {
        let promised = self.serving.profile.load_full().filter(|_| self.isolation() != Isolation::Call);
        if let Some(promised) = promised {
            self.audience.announce_tools(&promised);
        }
    }
}

/// Lists of an upstream that may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Tools,
    Prompts,
    Resources,
}

impl Route {
    /// Tells clients to list again, on the word of an embedding program. Only those that the upstream promised to
    /// tell. Answers how many that are.
    pub fn announce(&self, list: List) -> usize {
        let (_, path, method) = KINDS[list as usize];
        let promised = self.serving.profile.load_full().filter(|_| self.isolation() != Isolation::Call);
        let notice = message::one(message::notification(method, None));
        let (Some(notice), true) = (notice, promised.is_some_and(|promised| promised.can(&path))) else { return 0 };
        let hearing = self.audience.all().into_iter().filter(|session| session.hears_of(method));
        hearing.map(|session| session.say_coalesced(&notice)).count()
    }

    /// Tells those who subscribed to a resource, or to what it is a part of, that it has changed. Answers how many that are.
    pub fn announce_update(&self, uri: &str) -> usize {
        let params = serde_json::json!({ "uri": uri }).to_string();
        let notice = message::one(message::notification("notifications/resources/updated", Some(&params)));
        let Some(notice) = notice else { return 0 };
        let subscribers = self.audience.subscribers(uri);
        let concerned = |session: &Arc<Session>| subscribers.contains(&session.key) || session.wants(uri);
        self.audience.all().into_iter().filter(concerned).map(|session| session.say_message(&notice)).count()
    }
}

/// What an Upstream puts at its callers' disposal.
pub struct Serving {
    /// It is a newer server: nothing of it depends on who asks, and one process serves all.
    pub modern: AtomicBool,
    /// May callers be told what it says on stderr?
    pub exposes_errors: AtomicBool,
    /// Isolation `shared`: the connection.
    pub connection: ArcSwapOption<Bridged>,
    /// Isolation `call`: the connections to lease.
    pub pool: Arc<Pool>,
    /// What the upstream last said of itself; a new session need not wait for a process to learn it.
    pub profile: ArcSwapOption<Profile>,
    pub status: ArcSwap<UpstreamStatus>,
    /// What the operator should know beside the state, such as a new definition that did not start.
    pub notice: ArcSwapOption<String>,
    /// What has to be known of its tools beforehand.
    pub marks: ArcSwapOption<Marks>,
    pub lasting: Lasting,
    /// What serves in its place since it was replaced: for callers that still hold the old route.
    pub successor: ArcSwapOption<Route>,
    /// Whose task each is (2026-07-28, extension tasks).
    pub tasks: TaskOwners,
    pub engine: Arc<Engine>,
}

/// What the next definition of an upstream goes on with.
#[derive(Clone)]
pub struct Lasting {
    /// What callers see and call of its tools.
    pub tools: Arc<Tools>,
    pub meter: Arc<Meter>,
    /// What passes between it and us, for those who watch.
    pub recorder: Arc<Recorder>,
    /// Its last lines.
    pub journal: Arc<Journal>,
    /// The operator has stopped it.
    pub stopped: Arc<AtomicBool>,
}

impl Lasting {
    pub fn new(tools: Arc<Tools>) -> Lasting {
        Lasting {
            tools,
            meter: Arc::default(),
            recorder: Arc::default(),
            journal: Arc::default(),
            stopped: Arc::default(),
        }
    }
}

impl Deref for Serving {
    type Target = Lasting;

    fn deref(&self) -> &Lasting {
        &self.lasting
    }
}

impl Serving {
    pub fn new(process_max: usize, engine: Arc<Engine>, lasting: Lasting) -> Arc<Serving> {
        Arc::new(Serving {
            modern: AtomicBool::new(false),
            exposes_errors: AtomicBool::new(false),
            connection: ArcSwapOption::empty(),
            pool: Pool::new(process_max, engine.clone()),
            profile: ArcSwapOption::empty(),
            status: ArcSwap::default(),
            notice: ArcSwapOption::empty(),
            marks: ArcSwapOption::empty(),
            lasting,
            successor: ArcSwapOption::empty(),
            tasks: TaskOwners::default(),
            engine,
        })
    }
}

/// An upstream's state, in the words users see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamStatus {
    pub state: State,
    /// The cause of the state, in one line.
    pub reason: Option<String>,
    pub since: Option<SystemTime>,
    pub pids: Vec<u32>,
    pub restarts: u64,
    pub retry_in: Option<Duration>,
    pub stderr: Vec<String>,
}

impl UpstreamStatus {
    /// Is there nothing to tell, but that time has passed?
    pub fn is_like(&self, other: &UpstreamStatus) -> bool {
        let seen = |status: &UpstreamStatus| (status.state, status.restarts, status.since);
        seen(self) == seen(other) && self.reason == other.reason && self.pids == other.pids
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Idle,
    Starting,
    Ready,
    Waiting,
    Failed,
    NeedsAuth,
    Disabled,
    Retiring,
}

impl State {
    pub const ALL: [State; 8] = [
        State::Idle,
        State::Starting,
        State::Ready,
        State::Waiting,
        State::Failed,
        State::NeedsAuth,
        State::Disabled,
        State::Retiring,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Starting => "starting",
            State::Ready => "ready",
            State::Waiting => "waiting",
            State::Failed => "failed",
            State::NeedsAuth => "needs_auth",
            State::Disabled => "disabled",
            State::Retiring => "retiring",
        }
    }
}

/// All routes of one generation.
#[derive(Default)]
pub struct RouteTable {
    routes: ArcSwap<Routes>,
}

#[derive(Default)]
pub struct Routes {
    pub by_name: BTreeMap<Name, Arc<Route>>,
    /// Also reachable without a name.
    pub default: Option<Name>,
}

impl RouteTable {
    pub fn publish(&self, routes: Routes) {
        self.routes.store(Arc::new(routes));
    }

    pub fn load(&self) -> Arc<Routes> {
        self.routes.load_full()
    }

    /// The route of a name, compared byte for byte.
    pub fn find(&self, name: &str) -> Option<Arc<Route>> {
        self.routes.load().by_name.get(name).cloned()
    }

    /// The route of the default upstream.
    pub fn unnamed(&self) -> Option<Arc<Route>> {
        let routes = self.routes.load();
        routes.by_name.get(routes.default.as_ref()?.as_str()).cloned()
    }
}
