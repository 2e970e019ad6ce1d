//! What is recorded of calls, where an audit is kept.

use bytes::Bytes;

use super::{Calls, Route, Session};
use crate::{
    observe::audit::{Outcome, Record},
    wire::{Id, Message, message, object::Object},
};

impl Calls {
    /// Ends the record of a request, where there is one.
    pub(super) fn record(&mut self, id: Option<&Id>, end: impl FnOnce() -> (Outcome, usize)) {
        let at = self.records.iter().position(|(own, _)| Some(own) == id);
        if let Some(at) = at {
            let (outcome, bytes) = end();
            self.records.swap_remove(at).1.end(outcome, bytes);
        }
    }
}

/// The record of a request that is under way.
pub(super) fn begun(route: &Route, session: &Session, request: &Message) -> Option<(Id, Record)> {
    let record = route.serving.engine.record(&session.owner, route.name.as_str(), request)?;
    Some((request.id().cloned()?, record))
}

/// How a call ended, by its response.
pub(super) fn outcome(response: &Bytes) -> Outcome {
    let Some(message) = message::one(response.clone()) else { return Outcome::Failed };
    if let Some(error) = message.error() {
        let code = Object::read(error).and_then(|error| error.get("code")?.get().parse().ok());
        return Outcome::Error(code.unwrap_or(0));
    }
    let failed =
        message.result().and_then(Object::read).and_then(|result| Some(result.get("isError")?.get() == "true"));
    if failed == Some(true) { Outcome::ToolError } else { Outcome::Ok }
}
