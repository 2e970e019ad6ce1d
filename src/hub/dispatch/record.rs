//! What is recorded of calls.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::{Calls, Route, Session, Transport};
use crate::{
    observe::{
        meter::Outcome,
        record::{Beginning, Record},
        trace::{Served, Way},
    },
    wire::{Id, Message, members, message, object::Object, printable::cut},
};

/// Where a tool says whether it failed.
const FAILED: &[u8] = b"\"isError\"";
/// The longest name of a tool or method that is recorded, in characters.
const NAME_MAX: usize = 200;

impl Calls {
    /// A request is on its way to the upstream.
    pub(super) fn record_sent(&mut self, id: &Id) {
        self.records.iter_mut().filter(|(own, _)| own == id).for_each(|(_, record)| record.sent());
    }

    /// Ends the record of a request, where there is one.
    pub(super) fn record(&mut self, id: Option<&Id>, end: impl FnOnce() -> (Outcome, usize)) {
        let at = self.records.iter().position(|(own, _)| Some(own) == id);
        if let Some(at) = at {
            let (outcome, bytes) = end();
            self.records.swap_remove(at).1.end(outcome, bytes);
        }
    }
}

/// Begins the record of a request.
pub fn begin(route: &Route, session: &Session, request: &Message) -> Record {
    let named = matches!(request.method(), "tools/call" | "prompts/get");
    let name = request.param(["name"]).ok().filter(|_| named).and_then(|[name]| name);
    let name = name.and_then(members::string);
    let way = way(route, session, request, name.as_deref());
    let beginning = Beginning {
        principal: session.owner.shared_name(),
        upstream: route.name.shared(),
        method: cut(request.method(), NAME_MAX),
        name: name.map(|name| cut(&name, NAME_MAX).into()),
        revision: session.speaks(),
        bytes_in: request.bytes().len(),
        way,
    };
    let serving = &route.serving;
    Record::begin(&serving.meter, serving.engine.audit.load_full(), beginning)
}

/// Begins the spans of a request, where it is traced.
pub fn way(route: &Route, session: &Session, request: &Message, name: Option<&str>) -> Way {
    let upstream = route.name.as_str();
    let id = Some(&*session.id).filter(|_| session.transport != Transport::Stateless);
    Way::begin(&Served { request, name, upstream, revision: session.speaks(), session: id })
}

/// How a call ended, by its response.
pub fn outcome(response: &Bytes) -> Outcome {
    // Mostly nothing went wrong, and that can be seen without reading it all.
    let denies = |at: usize| response[at + FAILED.len()..].starts_with(b":false");
    static ERROR: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"error\""));
    static FAILS: LazyLock<Finder> = LazyLock::new(|| Finder::new(FAILED));
    let answers = message::is_result(response) || ERROR.find(response).is_none();
    if answers && FAILS.find_iter(response).all(denies) {
        return Outcome::Ok;
    }
    let Some(message) = message::one(response.clone()) else { return Outcome::Failed };
    if let Some(error) = message.error() {
        let code = Object::read(error).and_then(|error| error.get("code")?.get().parse().ok());
        return Outcome::Error(code.unwrap_or(0));
    }
    let failed =
        message.result().and_then(Object::read).and_then(|result| Some(result.get("isError")?.get() == "true"));
    if failed == Some(true) { Outcome::ToolError } else { Outcome::Ok }
}
