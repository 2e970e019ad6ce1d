//! On which runtime the tasks of a link live, and when they move.
//!
//! A call that stays on its thread costs a third less than one that wakes another. Where a child is first at home is
//! chance; so once all its calls come from one other worker for a while (one client alone, or a process for each
//! session), the tasks at its pipes follow them there. With callers on several workers they stay.
//! Invariant: a task moves between two messages, with all it holds, and is on one runtime at a time.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::runtime::{Handle, Id};
use tokio_util::task::AbortOnDropHandle;

/// So many calls, over so many milliseconds, from one worker and no other are a habit.
const HABIT_CALLS: u32 = 16;
const HABIT_MS: u64 = 100;

/// The runtime on which the tasks of one link live.
#[derive(Clone)]
pub struct Home(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    moves: AtomicU32,
    /// Where may it move to? None: nowhere.
    among: Option<Among>,
}

type Among = Box<dyn Fn(&Handle) -> bool + Send + Sync>;

struct State {
    at: Handle,
    habit: Habit,
}

/// Says to a task whether it still lives where it should.
pub(super) struct Lease {
    home: Home,
    moves: u32,
}

impl Home {
    /// It begins at `at`, and may move to whatever `among` allows: what lasts as long.
    pub fn new(at: Handle, among: impl Fn(&Handle) -> bool + Send + Sync + 'static) -> Home {
        Home::at(at, Some(Box::new(among)))
    }

    fn at(at: Handle, among: Option<Among>) -> Home {
        let state = State { at, habit: Habit::default() };
        Home(Arc::new(Inner { state: Mutex::new(state), moves: AtomicU32::new(0), among }))
    }

    /// Where it is now.
    pub fn handle(&self) -> Handle {
        self.state().at.clone()
    }

    /// A call comes from this thread. Where that has become a habit, this is the new home.
    pub(super) fn call(&self, now_ms: u64) {
        let Some(among) = &self.0.among else { return };
        let Ok(here) = Handle::try_current() else { return };
        let mut state = self.state();
        if state.habit.call(here.id(), now_ms) && state.at.id() != here.id() && among(&here) {
            state.at = here;
            self.0.moves.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs a task where the home is, and carries it along: `step` ends with what it is to go on with elsewhere once its
    /// lease is over. None is the end.
    pub(super) async fn live<S, F>(self, mut state: S, step: impl Fn(S, Lease) -> F)
    where
        F: Future<Output = Option<S>> + Send + 'static,
        S: Send + 'static,
    {
        loop {
            let (at, lease) = self.lease();
            match AbortOnDropHandle::new(at.spawn(step(state, lease))).await {
                Ok(Some(next)) => state = next,
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn lease(&self) -> (Handle, Lease) {
        let state = self.state();
        (state.at.clone(), Lease { home: self.clone(), moves: self.0.moves.load(Ordering::Relaxed) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that never moves.
impl From<&Handle> for Home {
    fn from(at: &Handle) -> Home {
        Home::at(at.clone(), None)
    }
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_tuple("Home").field(&self.handle().id()).finish()
    }
}

impl Lease {
    pub(super) fn is_over(&self) -> bool {
        self.home.0.moves.load(Ordering::Relaxed) != self.moves
    }
}

/// Where calls come from.
#[derive(Default)]
struct Habit {
    from: Option<Id>,
    since_ms: u64,
    calls: u32,
    told: bool,
}

impl Habit {
    /// A call comes from there. Answers once whether this has become a habit.
    fn call(&mut self, from: Id, now_ms: u64) -> bool {
        if self.from != Some(from) {
            *self = Habit { from: Some(from), since_ms: now_ms, calls: 0, told: false };
        }
        self.calls = self.calls.saturating_add(1);
        let is_one = self.calls >= HABIT_CALLS && now_ms.saturating_sub(self.since_ms) >= HABIT_MS;
        is_one && !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    #[test]
    fn calls_from_one_place_alone_are_a_habit_after_a_while() {
        let (here, there) = (runtime(), runtime());
        let (here, there) = (here.handle().id(), there.handle().id());
        // Where a call comes from and when, and whether that made a habit.
        let many = |from: Id, ms: u64, count: usize| vec![(from, ms, false); count];
        let tables = [
            [many(here, 0, 100), vec![(here, HABIT_MS, true)], many(here, 5000, 100)].concat(),
            [vec![(here, 0, false)], many(here, 5000, 14), vec![(here, 5001, true), (here, 9999, false)]].concat(),
            [many(here, 0, 20), many(there, 50, 1), many(here, 99, 50), many(here, 198, 9), vec![(here, 199, true)]]
                .concat(),
            (0..1000).map(|i| (if i % 15 == 0 { there } else { here }, i * 20, false)).collect(),
        ];
        for table in tables {
            let mut habit = Habit::default();
            for (at, (from, ms, expected)) in table.iter().enumerate() {
                assert_eq!(habit.call(*from, *ms), *expected, "call {at} of {}", table.len());
            }
        }
    }

    #[test]
    fn a_task_lives_where_its_home_is_and_takes_along_what_it_has() {
        let (one, two, stranger) = (runtime(), runtime(), runtime());
        let allowed = two.handle().id();
        let home = Home::new(one.handle().clone(), move |handle| handle.id() == allowed);
        // Each step tells where it ran, and on which number it was.
        let (tell, told) = std::sync::mpsc::channel();
        let life = one.spawn(home.clone().live(0, move |number, lease| {
            let tell = tell.clone();
            async move {
                loop {
                    let _ = tell.send((Handle::current().id(), number));
                    tokio::task::yield_now().await;
                    if lease.is_over() {
                        return (number < 1).then_some(number + 1);
                    }
                }
            }
        }));
        let calls = |from: &tokio::runtime::Runtime| {
            let _here = from.enter();
            (0..HABIT_CALLS).for_each(|_| home.call(0));
            home.call(HABIT_MS);
        };
        let turns = |on: &tokio::runtime::Runtime| {
            on.block_on(async {
                for _ in 0..9 {
                    tokio::task::yield_now().await
                }
            })
        };
        turns(&one);
        calls(&stranger);
        turns(&one);
        assert!(told.try_iter().all(|step| step == (one.handle().id(), 0)), "nobody may move there");
        calls(&two);
        turns(&one);
        let last = told.try_iter().last();
        assert!(last.is_none_or(|step| step == (one.handle().id(), 0)), "the other has not run yet");
        turns(&two);
        let steps: Vec<_> = told.try_iter().collect();
        assert!(!steps.is_empty() && steps.iter().all(|step| *step == (two.handle().id(), 1)), "{steps:?}");
        life.abort();
        turns(&one);
        turns(&two);
        let _ = told.try_iter().count();
        turns(&two);
        assert_eq!(told.try_iter().count(), 0, "who ends its life ends the task");
    }
}
