//! An operator's orders to one upstream.

use super::*;

/// Why it is not there.
pub(super) const STOPPED: &str = "it was stopped by the operator";

/// Start one to see whether it works, unless one is there.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Launch {
    pub done: oneshot::Sender<Done>,
}

/// Let calls in flight finish until the deadline, and be stopped from then on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Halt {
    pub deadline: Instant,
    pub done: oneshot::Sender<Done>,
}

impl Upstream {
    pub(super) fn is_stopped(&self) -> bool {
        self.spec.serving.stopped.load(Ordering::Relaxed)
    }

    /// What its callers are told.
    pub(super) fn unavailable_stopped(&self) -> Unavailable {
        Unavailable::new(&self.spec.name, STOPPED, None).because(Reason::Stopped)
    }

    /// A start ended, for those who gave the order.
    pub(super) fn launched(&mut self, outcome: &Done) {
        self.launches.drain(..).for_each(|done| drop(done.send(outcome.clone())));
    }

    /// Keeps in mind what happened, for those who look and those who read its lines.
    pub(super) fn note(&self, event: &'static str, pid: Option<u32>, text: impl std::fmt::Display) {
        let text = text.to_string();
        self.spec.serving.journal.say(pid, &text);
        let process = pid.map_or_else(String::new, |pid| format!("process {pid}: "));
        self.spec.serving.meter.note(event, &format!("{process}{text}"));
    }

    pub(super) fn halt(&mut self) {
        let Some(halt) = &self.halting else { return };
        self.wind_down(halt.deadline, false, "was stopped by the operator");
        if !self.instances.is_empty() {
            return;
        }
        self.starts = CancellationToken::new();
        if let Some(halt) = self.halting.take() {
            let _ = halt.done.send(Ok(()));
        }
        self.tell();
    }
}

impl Handler<Launch> for Upstream {
    type Result = ();

    fn handle(&mut self, Launch { done }: Launch, context: &mut Self::Context) {
        if self.retiring.is_some() {
            return drop(done.send(Err("it is being replaced".into())));
        }
        if let Some(halt) = self.halting.take() {
            let _ = halt.done.send(Err("it was started again meanwhile".into()));
            self.starts = CancellationToken::new();
        }
        self.launches.push(done);
        self.step(Event::Revive, context);
        match self.life.phase() {
            Phase::Ready => self.launched(&Ok(())),
            // Its end is the answer.
            Phase::Starting => {}
            _ => self.prove(context),
        }
        self.tell();
    }
}

impl Handler<Halt> for Upstream {
    type Result = ();

    fn handle(&mut self, halt: Halt, context: &mut Self::Context) {
        self.halting = Some(halt);
        self.launched(&Err(STOPPED.into()));
        self.spec.serving.pool.clear();
        let error = self.unavailable_stopped();
        self.waiters
            .drain(..)
            .chain(self.queue.drain(..))
            .for_each(|connect| drop(connect.waiter.send(Err(error.clone()))));
        self.tell();
        self.tick(context);
    }
}
