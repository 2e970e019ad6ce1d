//! What an operator does to one upstream: start, stop, restart.
//!
//! A restart is a reload of the same definition: the new process has to show that it works before it takes over, and
//! calls in flight finish on the old one. A stop lasts until a start; a changed definition does not end it.

use tokio::sync::oneshot;

use super::*;
use upstream::{Halt, Launch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start,
    Stop,
    Restart,
}

/// How it ended, in words where it failed.
pub type Done = Result<(), String>;

/// Does something to an upstream. The answer tells when it is done.
#[derive(Message)]
#[rtype(result = "Result<oneshot::Receiver<Done>, ActError>")]
pub struct Act {
    pub name: Name,
    pub action: Action,
}

/// Why nothing was done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ActError {
    #[error("there is no upstream `{0}`")]
    Unknown(Name),
    #[error("upstream `{0}` is disabled in hub.toml; remove `enabled = false` there")]
    Disabled(Name),
    #[error("upstream `{name}` cannot run: {why}")]
    Unavailable { name: Name, why: String },
    #[error("the hub is shutting down")]
    Draining,
}

impl Handler<Act> for Hub {
    type Result = Result<oneshot::Receiver<Done>, ActError>;

    fn handle(&mut self, Act { name, action }: Act, context: &mut Self::Context) -> Self::Result {
        if self.house.draining.is_cancelled() {
            return Err(ActError::Draining);
        }
        let Some(child) = self.children.get_mut(&name) else { return Err(ActError::Unknown(name)) };
        let route = child.route.clone();
        if !route.config.enabled {
            return Err(ActError::Disabled(name));
        }
        if let Some(why) = route.config.unavailable.clone() {
            return Err(ActError::Unavailable { name, why });
        }
        tracing::info!(upstream = %name, ?action, "the operator acts");
        let (done, end) = oneshot::channel();
        let deadline = Instant::now() + self.config.hub.drain_timeout;
        route.serving.stopped.store(action == Action::Stop, Ordering::Relaxed);
        route.serving.notice.store(None);
        if action == Action::Stop {
            route.serving.meter.note("stopping", "asked by the operator");
            order(&child.address, Halt { deadline, done });
            if let Some(next) = child.next.take() {
                self.retire(&name, next.number, next.address, Instant::now(), false, "was stopped by the operator");
            }
            return Ok(end);
        }
        if action == Action::Restart {
            route.serving.meter.note("restarting", "asked by the operator");
            self.replace(&name, route.config.clone(), deadline, context);
            self.publish();
        }
        if let Some(child) = self.children.get(&name) {
            order(child.next.as_ref().map_or(&child.address, |next| &next.address), Launch { done });
        }
        Ok(end)
    }
}
