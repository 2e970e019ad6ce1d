//! Where the calls of one POST stand in the traces of their callers.
//!
//! A call that is sent on names the span of that as its parent, to a child process as to a server somewhere else. Where
//! nothing is traced, nothing here does anything.

use std::fmt::Display;

use super::*;
use crate::{
    bridge::Speaks,
    observe::trace::{self, Arrival, Sent, Why},
    wire::{object::Object, revision::MODERN, trace::Context},
};

impl Calls {
    /// How the requests came to us.
    pub fn arrived(&mut self, arrival: impl FnOnce() -> Arrival) {
        if trace::is_on() {
            let arrival = arrival();
            self.records.iter_mut().for_each(|(_, record)| record.way.arrived(&arrival));
        }
    }

    /// The client was asked something, which is the end of its request but not of the call.
    pub fn parked(&mut self) {
        self.records.iter_mut().for_each(|(_, record)| record.way.told());
    }

    /// A request as it goes on; none where it is not traced.
    pub(super) fn traced(&mut self, message: &Message, bridged: &Bridged) -> Option<Message> {
        let context = self.sent_on(message.id()?, bridged)?;
        Some(put_on(&context, message, &self.route))
    }

    /// Its upstream asked something, and is sent the call again with the answers.
    pub(super) fn sent_again(&mut self, id: &Id) -> Option<Context> {
        let bridged = self.seat.as_ref().filter(|_| trace::is_on())?.bridged().clone();
        self.sent_on(id, &bridged)
    }

    fn sent_on(&mut self, id: &Id, bridged: &Bridged) -> Option<Context> {
        let (_, record) = self.records.iter_mut().filter(|_| trace::is_on()).find(|(own, _)| own == id)?;
        let url = self.route.config.remote.as_ref().and_then(|remote| url::Url::parse(remote.url.expose()).ok());
        let server = url.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default())));
        let revision = match bridged.profile.speaks {
            Speaks::Legacy(revision) => revision.as_str(),
            Speaks::Modern => MODERN,
        };
        record.way.send(&Sent { revision, server })
    }

    /// It was sent, or could not be.
    pub(super) fn numbered(&mut self, id: Option<&Id>, sent: &Result<Reply, CallError>) {
        let record = self.records.iter_mut().filter(|_| trace::is_on()).find(|(own, _)| Some(own) == id);
        match (record, sent) {
            (Some((_, record)), Ok(reply)) => record.way.numbered(&Id::from(reply.number())),
            (Some((_, record)), Err(error)) => {
                record.way.because(|| Why::new(error.kind(), error));
                record.way.answered(Outcome::Failed);
            }
            (None, _) => {}
        }
    }

    /// The upstream has answered one of them.
    pub(super) fn answered(&mut self, bytes: &Bytes) {
        if !trace::is_on() {
            return;
        }
        let id = response_id(&self.open, bytes);
        let Some((_, record)) = self.records.iter_mut().find(|(own, _)| Some(own) == id.as_ref()) else { return };
        let outcome = record::outcome(bytes);
        if let Outcome::Error(_) = outcome
            && let Some(text) = message_of(bytes)
        {
            record.way.because(|| Why { kind: None, text });
        }
        record.way.answered(outcome);
    }

    /// Why a call has no answer.
    pub(super) fn because(&mut self, id: &Id, kind: &'static str, error: &impl Display) {
        if let Some((_, record)) = self.records.iter_mut().find(|(own, _)| own == id) {
            record.fails();
            record.way.because(|| Why::new(kind, error));
        }
    }
}

/// The request with this place in its trace: where a server is reached over HTTP, beside it as well.
pub fn put_on(context: &Context, message: &Message, route: &Route) -> Message {
    let message = context.put_on(message);
    if route.config.remote.is_some() { context.put_beside(message) } else { message }
}

/// The message of an error.
fn message_of(bytes: &Bytes) -> Option<String> {
    Object::read(message::one(bytes.clone())?.error()?)?.string("message")
}
