//! What the hub adds to its callers' traces: a span for each request it serves, and one for each it sends on for that.
//!
//! Names and attributes are those of OpenTelemetry's conventions for MCP. Without the feature `otel`, or where the
//! environment names no collector, there is none: what a request says of its trace passes as it came, and nothing is
//! looked at.

use std::{fmt::Display, net::IpAddr};

use super::meter::Outcome;
#[cfg(feature = "otel")]
use super::otel::{Export, Span as Inner};
use crate::wire::{Id, Message, trace::Context};

#[cfg(not(feature = "otel"))]
type Inner = std::convert::Infallible;

/// Where traces go; either turns the export on.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// A part of a request's way.
struct Span(Inner);

/// What is told of a request that is served.
pub struct Served<'a> {
    pub request: &'a Message,
    /// The tool or prompt that is called.
    pub name: Option<&'a str>,
    pub upstream: &'a str,
    /// The client's.
    pub revision: &'static str,
    /// As the client names it.
    pub session: Option<&'a str>,
}

/// What is told of a request that is sent on.
pub struct Sent<'a> {
    /// The upstream's.
    pub revision: &'static str,
    /// Host and port of a server somewhere else; none: a child process.
    pub server: Option<(&'a str, Option<u16>)>,
}

/// How a request came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// As `network.transport` names it.
    pub transport: &'static str,
    /// The version of HTTP, where that was spoken.
    pub http: Option<&'static str>,
    pub client: Option<(IpAddr, Option<u16>)>,
}

/// Why a request has no good answer.
#[derive(Clone, Debug)]
pub struct Why {
    /// A word for its kind, of which there are few.
    pub kind: Option<&'static str>,
    pub text: String,
}

/// The spans of one call: as it is served, and as it is sent on.
#[derive(Default)]
pub struct Way {
    served: Option<Span>,
    sent: Option<Span>,
    why: Option<Why>,
}

/// Keeps the export going; the last spans leave with [`flush`](Traces::flush).
pub struct Traces {
    #[cfg(feature = "otel")]
    export: Option<Export>,
}

impl Why {
    pub fn new(kind: &'static str, error: &impl Display) -> Why {
        Why { kind: Some(kind), text: error.to_string() }
    }
}

impl Arrival {
    /// By our own stdin.
    pub const PIPE: Arrival = Arrival { transport: "pipe", http: None, client: None };
}

/// Are there spans?
#[inline]
pub fn is_on() -> bool {
    #[cfg(feature = "otel")]
    return super::otel::is_on();
    #[cfg(not(feature = "otel"))]
    false
}

/// Begins to export, where the environment says where to. Only binaries call this, once, and after the log.
pub fn install() -> Traces {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let is_disabled = said("OTEL_SDK_DISABLED").is_some_and(|said| said.trim().eq_ignore_ascii_case("true"));
    let is_refused = said("OTEL_TRACES_EXPORTER").is_some_and(|said| said.trim() == "none");
    let named = ENDPOINTS.into_iter().find(|name| said(name).is_some()).filter(|_| !is_disabled && !is_refused);
    #[cfg(feature = "otel")]
    {
        let export = named.and_then(|named| {
            let started = Export::start(said);
            started.inspect_err(|why| tracing::error!("no traces are exported, although {named} is set: {why}")).ok()
        });
        Traces { export }
    }
    #[cfg(not(feature = "otel"))]
    {
        if let Some(named) = named {
            tracing::warn!("no traces are exported, although {named} is set: this hubward was built without `otel`");
        }
        Traces {}
    }
}

impl Traces {
    /// Gives the last spans a moment to leave.
    pub fn flush(self) {
        #[cfg(feature = "otel")]
        if let Some(export) = self.export {
            export.flush();
        }
    }
}

impl Span {
    /// Begins the span of a request that is served: a step behind the one that the message names, or else the headers
    /// beside it; else the first of a trace.
    fn serve(served: &Served<'_>) -> Option<Span> {
        if !is_on() {
            return None;
        }
        #[cfg(feature = "otel")]
        return Inner::serve(served).map(Span);
        #[cfg(not(feature = "otel"))]
        {
            let _ = served;
            None
        }
    }

    /// Begins the span of a request that is sent on for this one.
    fn send(&self, sent: &Sent<'_>) -> Span {
        Span(self.0.send(sent))
    }

    /// What is told to whoever goes on from here.
    fn context(&self) -> Context {
        self.0.context()
    }

    /// It came this way.
    fn arrived(&mut self, arrival: &Arrival) {
        self.0.arrived(arrival);
    }

    /// It was sent with this id.
    fn numbered(&mut self, id: &Id) {
        self.0.numbered(id);
    }

    fn end(self, outcome: Outcome, why: Option<&Why>) {
        self.0.end(outcome, why);
    }
}

impl Way {
    pub fn begin(served: &Served<'_>) -> Way {
        Way { served: Span::serve(served), sent: None, why: None }
    }

    /// It is sent on, once more perhaps. Answers what goes along.
    #[cfg_attr(not(feature = "otel"), expect(unreachable_code, unused_variables, reason = "there are no spans"))]
    pub fn send(&mut self, sent: &Sent<'_>) -> Option<Context> {
        let span = self.served.as_ref()?.send(sent);
        let context = span.context();
        // A leg before this one that came to nothing is no blot on it.
        self.answered(Outcome::Failed);
        (self.sent, self.why) = (Some(span), None);
        Some(context)
    }

    /// It was sent with this id.
    pub fn numbered(&mut self, id: &Id) {
        if let Some(sent) = &mut self.sent {
            sent.numbered(id);
        }
    }

    pub fn arrived(&mut self, arrival: &Arrival) {
        if let Some(served) = &mut self.served {
            served.arrived(arrival);
        }
    }

    /// Why it will not end well.
    pub fn because(&mut self, why: impl FnOnce() -> Why) {
        if self.served.is_some() || self.sent.is_some() {
            self.why = Some(why());
        }
    }

    /// The upstream has answered; the client may have to wait for more.
    pub fn answered(&mut self, outcome: Outcome) {
        if let Some(sent) = self.sent.take() {
            sent.end(outcome, self.why.as_ref());
        }
    }

    /// The client has its answer, while the upstream goes on.
    pub fn told(&mut self) {
        if let Some(served) = self.served.take() {
            served.end(Outcome::Ok, None);
        }
    }

    pub fn end(&mut self, outcome: Outcome) {
        self.answered(outcome);
        if let Some(served) = self.served.take() {
            served.end(outcome, self.why.as_ref());
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.end(Outcome::Cancelled);
    }
}

/// Without the feature there is no span to say anything of.
#[cfg(not(feature = "otel"))]
trait Nothing: Sized {
    fn send(&self, _: &Sent<'_>) -> Inner;
    fn context(&self) -> Context;
    fn arrived(&mut self, _: &Arrival) {}
    fn numbered(&mut self, _: &Id) {}
    fn end(self, _: Outcome, _: Option<&Why>) {}
}

#[cfg(not(feature = "otel"))]
impl Nothing for Inner {
    fn send(&self, _: &Sent<'_>) -> Inner {
        match *self {}
    }

    fn context(&self) -> Context {
        match *self {}
    }
}
