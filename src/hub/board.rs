//! What those see who watch the hub: each upstream as text, made once for all of them, and only where somebody looks.
//!
//! A change of state is there at once, figures once a second. A watcher that does not keep up loses steps, is told so,
//! and gets the whole again.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Notify, broadcast};

use super::{House, view};
use crate::config::Name;

/// Steps that a watcher may be behind.
const STEPS_MAX: usize = 16;
/// Time between two looks at what changes all the time,
const FIGURES: Duration = Duration::from_secs(1);
/// and at least between any two: what happens in it is one step.
const PAUSE: Duration = Duration::from_millis(100);
/// What is only of this moment, and no change.
const PASSING: [&str; 2] = ["now", "retry_in_seconds"];

/// Watchers, and what they see.
#[derive(Debug)]
pub struct Board {
    watchers: AtomicUsize,
    arrived: Notify,
    /// One looks at a time, and keeps nobody from seeing what was seen before.
    turn: Mutex<()>,
    shown: Mutex<Shown>,
    steps: broadcast::Sender<Arc<Step>>,
}

/// All that is seen in one moment.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub hub: Seen,
    pub upstreams: BTreeMap<Name, Seen>,
}

/// One thing as it was last seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub text: Bytes,
    /// Of what is not only of this moment.
    hash: u64,
}

/// From one moment to the next.
#[derive(Debug, Default)]
pub struct Step {
    pub hub: Option<Bytes>,
    pub changed: Vec<(Name, Bytes)>,
    pub gone: Vec<Name>,
}

/// Somebody who looks, until dropped.
pub struct Watcher {
    house: Arc<House>,
    steps: broadcast::Receiver<Arc<Step>>,
}

impl Default for Board {
    fn default() -> Board {
        Board {
            watchers: AtomicUsize::new(0),
            arrived: Notify::new(),
            turn: Mutex::default(),
            shown: Mutex::default(),
            steps: broadcast::Sender::new(STEPS_MAX),
        }
    }
}

impl Board {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the board up to date, until the hub drains.
pub async fn keep(house: Arc<House>) {
    let board = &house.board;
    loop {
        let arrived = board.arrived.notified();
        match board.watchers.load(Ordering::Relaxed) {
            // The first one has looked.
            0 => tokio::select! {
                () = arrived => {}
                () = house.draining.cancelled() => return,
            },
            _ => refresh(&house),
        }
        tokio::time::sleep(PAUSE).await;
        tokio::select! {
            () = house.engine.stirred.notified() => {}
            () = tokio::time::sleep(FIGURES.saturating_sub(PAUSE)) => {}
            () = house.draining.cancelled() => return,
        }
    }
}

/// Looks at everything, and tells what is new.
fn refresh(house: &House) {
    let _turn = house.board.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let (config, routes) = (house.config.load(), house.table.load());
    let mut shown = house.board.shown().clone();
    let mut step = Step { hub: shown.hub.replace(view::hub(house)), ..Step::default() };
    step.gone.extend(shown.upstreams.keys().filter(|name| !routes.by_name.contains_key(name.as_str())).cloned());
    step.gone.iter().for_each(|name| drop(shown.upstreams.remove(name)));
    for (name, route) in &routes.by_name {
        let seen = shown.upstreams.entry(name.clone()).or_default();
        step.changed.extend(seen.replace(view::upstream(house, &config, route)).map(|new| (name.clone(), new)));
    }
    *house.board.shown() = shown;
    if step.hub.is_some() || !step.changed.is_empty() || !step.gone.is_empty() {
        let _ = house.board.steps.send(Arc::new(step));
    }
}

impl Seen {
    /// Puts the new text in place of the old one, and answers it where it says something else.
    fn replace(&mut self, mut new: Value) -> Option<Bytes> {
        self.text = new.to_string().into();
        PASSING.iter().for_each(|key| drop(new.get_mut(key).map(Value::take)));
        let mut hasher = DefaultHasher::new();
        new.to_string().hash(&mut hasher);
        let before = std::mem::replace(&mut self.hash, hasher.finish());
        (before != self.hash).then(|| self.text.clone())
    }
}

impl Watcher {
    /// Begins to look; sees all there is first.
    pub fn new(house: &Arc<House>) -> (Watcher, Shown) {
        let board = &house.board;
        let first = board.watchers.fetch_add(1, Ordering::Relaxed) == 0;
        let watcher = Watcher { house: house.clone(), steps: board.steps.subscribe() };
        if first {
            // Nobody has looked for a while.
            refresh(house);
            board.arrived.notify_one();
        }
        let shown = board.shown().clone();
        (watcher, shown)
    }

    /// The next step; the whole where some were missed. None when there is no more to come.
    pub async fn next(&mut self) -> Option<Result<Arc<Step>, Shown>> {
        match self.steps.recv().await {
            Ok(step) => Some(Ok(step)),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.steps = self.steps.resubscribe();
                Some(Err(self.house.board.shown().clone()))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.house.board.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
