//! The time that calls have, and how they end without an answer.

use super::*;

impl Calls {
    /// How long the client may take to answer a question.
    pub fn answer_timeout(&self) -> Duration {
        self.route.serving.engine.limits.load().answer_timeout
    }

    /// Gives the call more time: its client was asked something.
    pub(super) fn extend(&mut self) {
        let until = Instant::now() + self.answer_timeout() + self.limit;
        self.deadline = self.deadline.max(until);
        self.last_deadline = self.last_deadline.max(until);
    }

    /// Starts the call's time again: its client has answered.
    pub fn renew(&mut self) {
        self.deadline = Instant::now() + self.limit;
        self.last_deadline = self.last_deadline.max(self.deadline);
    }

    /// Whoever still reads hears why there is no answer.
    pub(super) fn session_ended(&mut self) -> Option<Event> {
        let id = self.open.pop()?.id().cloned()?;
        let name: Arc<str> = self.route.name.as_str().into();
        let error = CallError::Ended { name, why: self.session.why() };
        self.because(&id, error.kind(), &error);
        self.record(Some(&id), || (Outcome::Cancelled, 0));
        self.route.serving.meter.lost();
        Some(Event::Failed { id, error })
    }

    pub(super) fn time_out(&mut self) -> Option<Event> {
        let id = self.open.pop()?.id().cloned()?;
        let name: Arc<str> = self.route.name.as_str().into();
        let limit = if self.deadline < self.last_deadline { self.limit } else { self.limit * RENEWALS_MAX };
        let error = CallError::Timeout { name, limit };
        self.because(&id, error.kind(), &error);
        self.record(Some(&id), || (Outcome::Failed, 0));
        self.route.serving.meter.lost();
        if self.open.is_empty() {
            self.replies.drain(..).for_each(|reply| reply.cancel("the call took longer than request_timeout"));
        }
        if let Some(bridged) = self.bridged() {
            bridged.connection.suspect();
        }
        Some(Event::Failed { id, error })
    }
}
