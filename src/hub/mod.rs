//! Hub: applies Plans, owns the upstreams, publishes routes.
//!
//! Whatever changes who lives goes through this actor: a start, a reload, an embedder's `Apply`.

#![cfg_attr(docsrs, doc(hidden))]

pub mod act;
pub mod audience;
pub mod board;
pub mod certificate;
pub mod change;
pub mod crossing;
pub mod dispatch;
pub mod engine;
pub mod forecast;
pub mod house;
pub mod instance;
pub mod isolation;
pub mod lifecycle;
pub mod lists;
pub mod marks;
pub mod parking;
pub mod peer;
pub mod remote;
pub mod replay;
pub mod rounds;
pub mod routes;
pub mod session;
pub mod settle;
pub mod tasks;
pub mod tether;
pub mod thrift;
pub mod tools;
pub mod upstream;
pub mod view;
pub mod visits;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use actix::prelude::*;
use arc_swap::ArcSwap;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::{
    self, Config, HubConfig, Isolation, Loaded, Name, Start, UpstreamConfig,
    plan::{Change, Plan, change, plan},
};

pub use house::{House, HubStatus};

use audience::Audience;
use engine::Engine;
use routes::{Lasting, Route, RouteTable, Routes, Serving, State, UpstreamStatus};
use tether::{Ended, Tether};
use tools::Tools;
use upstream::{Adopt, Prove, Proved, Retire, Upstream, UpstreamHandle, UpstreamSpec};

/// How often sessions are looked at that may have been idle for too long.
const SWEEP: Duration = Duration::from_secs(1);
/// Panics of one upstream's supervisor within [`REBUILD_PERIOD`] after which it is left alone.
const REBUILDS_MAX: usize = 5;
const REBUILD_PERIOD: Duration = Duration::from_secs(60);
/// Messages that may wait for the Hub while it reads a file: each upstream may have one to say.
const MAILBOX_MAX: usize = 1024;

/// Reads the file again and applies it.
#[derive(Message)]
#[rtype(result = "Result<Applied, ReloadError>")]
pub struct Reload;

/// Applies a configuration that does not come from the file.
#[derive(Message)]
#[rtype(result = "Result<Applied, ReloadError>")]
pub struct Apply(pub Config);

/// Ends all upstreams. Answers when nothing is left.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Drain {
    /// Calls in flight may finish until then.
    Until(Instant),
    /// Nothing may.
    Now,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// The file says what runs already.
    Unchanged,
    Generation {
        number: u64,
        plan: String,
    },
}

/// Why a reload did nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("there is no file to read again")]
    NoFile,
    #[error("{0}")]
    Rejected(String),
    #[error("a change of {} needs a restart of hubward; nothing of the edit was applied", keys.join(", "))]
    NeedsRestart { keys: Vec<&'static str> },
    #[error("the hub is shutting down")]
    Draining,
}

/// The way to the Hub, for those who know no actors.
pub type HubAddress = Addr<Hub>;

/// The file, and what the command line puts over it.
pub struct Source {
    pub path: PathBuf,
    pub overrides: Box<dyn Fn(&mut Config) + Send + Sync>,
}

/// The one actor that decides who lives.
pub struct Hub {
    house: Arc<House>,
    config: Config,
    /// The text that runs, by its hash.
    hash: String,
    source: Option<Arc<Source>>,
    children: BTreeMap<Name, Child>,
    /// Actors that replaced or removed ones left behind, still finishing.
    retiring: BTreeMap<u64, (Name, Addr<Upstream>)>,
    last_number: u64,
    tasks: TaskTracker,
    thrift: thrift::Thrift,
}

/// An upstream that is published.
struct Child {
    number: u64,
    address: Addr<Upstream>,
    route: Arc<Route>,
    /// The replacement, until it has shown that it works.
    next: Option<Next>,
    /// With `overlap = false`: cancelled when no earlier process of this name is left.
    free: CancellationToken,
    panics: Vec<Instant>,
}

struct Next {
    number: u64,
    address: Addr<Upstream>,
    route: Arc<Route>,
    free: CancellationToken,
}

/// Tells an upstream what to do. Orders may neither be lost nor overtake one another where callers fill a mailbox;
/// there are few of them, one or two for each reload or process.
#[expect(clippy::disallowed_methods, reason = "they must go in")]
fn order<M>(to: &Addr<Upstream>, order: M)
where
    M: Message<Result = ()> + Send + 'static,
    Upstream: Handler<M>,
{
    to.do_send(order);
}

impl Hub {
    /// Starts the actor with nothing; the first `Apply` brings the upstreams. Runs on the current actix System.
    pub fn start(house: Arc<House>, config: Config, hash: String, source: Option<Source>) -> Addr<Hub> {
        let first = Config { hub: config.hub.clone(), upstreams: BTreeMap::new() };
        let hub = Hub {
            house,
            config: first,
            hash,
            source: source.map(Arc::new),
            children: BTreeMap::new(),
            retiring: BTreeMap::new(),
            last_number: 0,
            tasks: TaskTracker::new(),
            thrift: thrift::Thrift::default(),
        };
        Actor::start(hub)
    }

    /// The one road into the hub: every start and reload take it.
    fn apply(&mut self, new: Config, hash: String, context: &mut Context<Self>) -> Result<Applied, ReloadError> {
        if self.house.draining.is_cancelled() {
            return Err(ReloadError::Draining);
        }
        let plan = plan(&self.config, &new);
        if !plan.refused.is_empty() {
            let error = ReloadError::NeedsRestart { keys: plan.refused };
            self.house.reject(&error.to_string());
            tracing::error!(%error, "the new configuration was refused");
            return Err(error);
        }
        let audit = self.house.prepare(&new.hub)?;
        let mut added: Vec<Name> = Vec::new();
        for name in plan.added.iter() {
            let config = Arc::new(new.upstreams[name].clone());
            let child = self.make(name, config, None, context);
            self.children.insert(name.clone(), child);
            added.push(name.clone());
        }
        let drain = Instant::now() + new.hub.drain_timeout;
        let removed: Vec<Child> = plan.removed.iter().filter_map(|name| self.children.remove(name)).collect();
        for name in plan.updated.iter().chain(&plan.replaced) {
            self.change(name, Arc::new(new.upstreams[name].clone()), drain, context);
        }
        self.config = new;
        self.hash = hash;
        self.house.adopt(&self.config.hub, audit);
        self.publish();
        self.house.see_off_strangers();
        for child in removed {
            self.remove(child, drain);
        }
        for name in &added {
            self.start_eagerly(name);
        }
        context.run_later(thrift::SETTLED, |this, _| drop(this.tasks.spawn_blocking(thrift::give_back)));
        Ok(self.applied(&plan))
    }

    fn applied(&mut self, plan: &Plan) -> Applied {
        let text = plan.to_string();
        let hash = self.hash.clone();
        self.house.update_status(|status| {
            status.generation += 1;
            status.hash = hash.clone();
            status.applied = SystemTime::now();
            status.plan = text.clone();
            status.rejected = None;
        });
        let number = self.house.status.load().generation;
        tracing::info!(generation = number, plan = %text, "configuration applied");
        Applied::Generation { number, plan: text }
    }

    fn publish(&self) {
        let by_name = self.children.iter().map(|(name, child)| (name.clone(), child.route.clone())).collect();
        let before = self.house.table.load();
        self.house.table.publish(Routes { by_name, default: self.config.hub.default.clone() });
        self.tell_of_tools(&before);
        self.mind_logs();
    }

    /// Ends sessions that nobody used for too long, and forgets old streams.
    fn sweep(&mut self) {
        self.house.mind_expiry();
        let limit = self.config.hub.limits.session_idle_timeout;
        for child in self.children.values() {
            // Without sessions nobody ends one: the process goes when nobody has used it for idle_timeout.
            let unused = Some(child.route.config.idle_timeout).filter(|limit| !limit.is_zero());
            let stale = |session: &session::Session| match session.transport {
                session::Transport::Stateless => session.idle_for() > unused.unwrap_or(limit).min(limit),
                _ => session.idle_for() > limit,
            };
            let idle = child.route.audience.idle(unused.unwrap_or(limit).min(limit));
            for session in idle.into_iter().filter(|session| stale(session)) {
                tracing::info!(upstream = %child.route.name, "a session was idle for too long");
                self.house.end_session(&child.route, &session, "its session was idle for too long");
            }
            child.route.audience.all().iter().for_each(|session| session.streams(|streams| streams.sweep()));
        }
        let engine = &self.house.engine;
        let crowd = [&engine.sessions, &engine.streams].map(|count| count.load(Ordering::Relaxed));
        if self.thrift.is_due(crowd.iter().sum::<usize>() + self.house.parking.len()) {
            self.tasks.spawn_blocking(thrift::give_back);
        }
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_MAX);
        context.run_interval(SWEEP, |this, _| this.sweep());
    }
}

impl Handler<Apply> for Hub {
    type Result = Result<Applied, ReloadError>;

    fn handle(&mut self, Apply(config): Apply, context: &mut Self::Context) -> Self::Result {
        let hash = self.hash.clone();
        self.apply(config, hash, context)
    }
}

impl Handler<Reload> for Hub {
    type Result = AtomicResponse<Self, Result<Applied, ReloadError>>;

    /// Reads on a blocking thread while the mailbox rests, so that reloads follow one another.
    fn handle(&mut self, _: Reload, _: &mut Self::Context) -> Self::Result {
        let source = self.source.clone();
        let read = async move {
            let source = source?;
            let read = move || config::read(&source.path).map(|loaded| (loaded, source));
            tokio::task::spawn_blocking(read).await.ok()
        };
        AtomicResponse::new(Box::pin(read.into_actor(self).map(|read, this, context| match read {
            None => Err(ReloadError::NoFile),
            Some(Ok((Loaded { config, hash, warnings, text }, source))) => {
                if !warnings.is_empty() {
                    let report = config::report::draw(&warnings, &text, &source.path, false);
                    tracing::warn!(%report, "the configuration has warnings");
                }
                let mut config = config;
                (source.overrides)(&mut config);
                // A secret may have changed where the text has not.
                if hash == this.hash && config == this.config {
                    tracing::debug!("the configuration was read again and is the same");
                    this.house.update_status(|status| status.rejected = None);
                    config.hub.tls.iter().for_each(|tls| this.house.certify(tls));
                    return Ok(Applied::Unchanged);
                }
                this.apply(config, hash, context)
            }
            Some(Err(rejected)) => {
                let drawn = rejected.to_string();
                tracing::error!(report = %drawn, "the configuration was rejected; everything runs on as it was");
                this.house.reject(&drawn);
                Err(ReloadError::Rejected(drawn))
            }
        })))
    }
}

impl Handler<Proved> for Hub {
    type Result = ();

    fn handle(&mut self, proved: Proved, _: &mut Self::Context) {
        let Some(child) = self.children.get_mut(&proved.name) else { return };
        if child.next.as_ref().is_none_or(|next| next.number != proved.number) {
            return;
        }
        match proved.outcome {
            Ok(()) => self.promote(&proved.name),
            Err(why) => {
                let reason = format!("running the previous definition; the new one did not start: {why}");
                tracing::error!(upstream = %proved.name, "{reason}");
                child.route.serving.journal.say(None, &reason);
                let serving = child.route.serving.clone();
                if let Some(next) = child.next.take() {
                    self.retire(&proved.name, next.number, next.address, Instant::now(), false, "did not start");
                }
                serving.notice.store(Some(Arc::new(reason)));
            }
        }
    }
}

impl Handler<Ended> for Hub {
    type Result = ();

    /// An actor is gone: a retired one has finished; any other has panicked and is built anew.
    fn handle(&mut self, ended: Ended, context: &mut Self::Context) {
        if self.house.draining.is_cancelled() {
            return;
        }
        if self.retiring.remove(&ended.number).is_some() {
            if !self.retiring.values().any(|(name, _)| *name == ended.name)
                && let Some(child) = self.children.get(&ended.name)
            {
                child.free.cancel();
            }
            return;
        }
        let Some(mut child) = self.children.remove(&ended.name) else { return };
        if child.number != ended.number {
            if child.next.as_ref().is_some_and(|next| next.number == ended.number) {
                child.next = None;
                let notice = "running the previous definition; the supervisor of the new one panicked".to_owned();
                child.route.serving.notice.store(Some(Arc::new(notice)));
            }
            self.children.insert(ended.name, child);
            return;
        }
        self.house.update_status(|status| status.panics += 1);
        child.panics.retain(|at| at.elapsed() < REBUILD_PERIOD);
        child.panics.push(Instant::now());
        let route = child.route.clone();
        if child.panics.len() > REBUILDS_MAX {
            tracing::error!(upstream = %ended.name, "its supervisor panicked too often and is left alone");
            let reason = Some("its supervisor panicked too often".to_owned());
            route.serving.status.store(Arc::new(UpstreamStatus { state: State::Failed, reason, ..Default::default() }));
            self.children.insert(ended.name, child);
            return;
        }
        tracing::error!(upstream = %ended.name, "its supervisor panicked and is built anew");
        route.serving.journal.say(None, "its supervisor panicked and is built anew");
        let (number, address, upstream) =
            self.make_actor(&ended.name, &route.config, &route.serving, &route.audience, &child.free, context);
        child.number = number;
        child.address = address;
        child.route = Arc::new(Route {
            name: ended.name.clone(),
            config: route.config.clone(),
            upstream,
            serving: route.serving.clone(),
            audience: route.audience.clone(),
        });
        self.children.insert(ended.name.clone(), child);
        self.publish();
        self.start_eagerly(&ended.name);
    }
}

impl Handler<Drain> for Hub {
    type Result = ResponseFuture<()>;

    /// All upstreams finish at the same time; the answer comes when no process is left.
    fn handle(&mut self, drain: Drain, _: &mut Self::Context) -> Self::Result {
        self.house.draining.cancel();
        let deadline = match drain {
            Drain::Until(deadline) => deadline,
            Drain::Now => Instant::now(),
        };
        for (name, child) in std::mem::take(&mut self.children) {
            if let Some(next) = child.next {
                self.retire(&name, next.number, next.address, Instant::now(), false, "the hub is shutting down");
            }
            self.retire(&name, child.number, child.address, deadline, false, "was stopped: the hub is shutting down");
        }
        if matches!(drain, Drain::Now) {
            self.house.engine.at_once.cancel();
        }
        self.tasks.close();
        let tasks = self.tasks.clone();
        Box::pin(async move { tasks.wait().await })
    }
}
