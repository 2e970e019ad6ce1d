//! Spans by OpenTelemetry, with the names and attributes of its conventions for MCP.

mod export;

use std::{borrow::Cow, str::FromStr, sync::OnceLock};

use opentelemetry::{
    Context as Ambient, KeyValue,
    trace::{
        Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
        Tracer as _,
    },
};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

pub use export::Export;

use super::{
    meter::Outcome,
    trace::{Arrival, Sent, Served, Why},
};
use crate::wire::{
    Id, members,
    printable::cut,
    trace::{Context, PARENT, STATE},
};

/// The longest text of an attribute, in characters; longer ones are cut.
const TEXT_MAX: usize = 200;
/// The longest URI of a resource.
const URI_MAX: usize = 1000;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

#[inline]
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// A span that is open.
pub struct Span {
    tracer: &'static SdkTracer,
    span: SdkSpan,
    name: Cow<'static, str>,
    /// What is told of the request on both legs; empty where the span is not recorded.
    told: Vec<KeyValue>,
}

impl Span {
    pub fn serve(served: &Served<'_>) -> Option<Span> {
        let tracer = TRACER.get()?;
        let request = served.request;
        let within = Context::of(request);
        let beside = request.headers().and_then(|headers| {
            let all = |name| headers.iter().filter(move |(known, _)| known == name);
            let texts = |name| all(name).filter_map(|(_, value)| std::str::from_utf8(value).ok());
            Context::of_headers(texts(PARENT), texts(STATE))
        });
        let (parent, link) = match within {
            None => (beside, None),
            // A hub before us says the same in both places.
            within => (within.clone(), beside.filter(|beside| within.as_ref() != Some(beside))),
        };
        let ambient = match &parent {
            Some(parent) => Ambient::new().with_remote_span_context(remote(parent)),
            None => Ambient::new(),
        };
        let method = cut(request.method(), TEXT_MAX);
        let target = served.name.map(|name| cut(name, TEXT_MAX));
        let name: Cow<str> = target.map_or_else(|| method.to_owned(), |target| format!("{method} {target}")).into();
        let mut builder = tracer.span_builder(name.clone()).with_kind(SpanKind::Server);
        builder.links = link.map(|link| vec![Link::with_context(remote(&link))]);
        let span = tracer.build_with_context(builder, &ambient);
        let mut span = Span { tracer, span, name, told: Vec::new() };
        if span.span.is_recording() {
            span.told = told(served, method, target);
            let session = served.session.map(|session| KeyValue::new("mcp.session.id", session.to_owned()));
            let own = [Some(KeyValue::new("mcp.protocol.version", served.revision)), request.id().map(number), session];
            span.span.set_attributes(span.told.iter().cloned().chain(own.into_iter().flatten()));
        }
        Some(span)
    }

    pub fn send(&self, sent: &Sent<'_>) -> Span {
        let ambient = Ambient::new().with_remote_span_context(self.span.span_context().clone());
        let builder = self.tracer.span_builder(self.name.clone()).with_kind(SpanKind::Client);
        let mut span = self.tracer.build_with_context(builder, &ambient);
        if span.is_recording() {
            let (host, port) = sent.server.unzip();
            let own = [
                Some(KeyValue::new("mcp.protocol.version", sent.revision)),
                Some(KeyValue::new("network.transport", if host.is_some() { "tcp" } else { "pipe" })),
                host.map(|_| KeyValue::new("network.protocol.name", "http")),
                host.map(|host| KeyValue::new("server.address", host.to_owned())),
                port.flatten().map(|port| KeyValue::new("server.port", i64::from(port))),
            ];
            span.set_attributes(self.told.iter().cloned().chain(own.into_iter().flatten()));
        }
        Span { tracer: self.tracer, span, name: self.name.clone(), told: Vec::new() }
    }

    pub fn context(&self) -> Context {
        let known = self.span.span_context();
        Context {
            trace: u128::from_be_bytes(known.trace_id().to_bytes()),
            span: u64::from_be_bytes(known.span_id().to_bytes()),
            flags: known.trace_flags().to_u8(),
            state: Some(known.trace_state().header()).filter(|state| !state.is_empty()).map(Into::into),
        }
    }

    pub fn arrived(&mut self, arrival: &Arrival) {
        let (address, port) = arrival.client.unzip();
        let own = [
            Some(KeyValue::new("network.transport", arrival.transport)),
            arrival.http.map(|_| KeyValue::new("network.protocol.name", "http")),
            arrival.http.map(|version| KeyValue::new("network.protocol.version", version)),
            address.map(|address| KeyValue::new("client.address", address.to_string())),
            port.flatten().map(|port| KeyValue::new("client.port", i64::from(port))),
        ];
        self.span.set_attributes(own.into_iter().flatten());
    }

    pub fn numbered(&mut self, id: &Id) {
        self.span.set_attribute(number(id));
    }

    pub fn end(mut self, outcome: Outcome, why: Option<&Why>) {
        if let Some(plain) = outcome.error_type() {
            let kind = why.and_then(|why| why.kind).map_or(plain, str::to_owned);
            self.span.set_attribute(KeyValue::new("error.type", kind));
            if let Some(code) = outcome.code() {
                self.span.set_attribute(KeyValue::new("rpc.response.status_code", code.to_string()));
            }
            self.span
                .set_status(Status::error(why.map_or_else(String::new, |why| cut(&why.text, TEXT_MAX).to_owned())));
        }
        self.span.end();
    }
}

/// What is told of a request on both legs.
fn told(served: &Served<'_>, method: &str, target: Option<&str>) -> Vec<KeyValue> {
    let mut told = vec![
        KeyValue::new("mcp.method.name", method.to_owned()),
        KeyValue::new("hubward.upstream", served.upstream.to_owned()),
    ];
    let named = |key: &'static str| target.map(|target| KeyValue::new(key, target.to_owned()));
    match method {
        "tools/call" => {
            told.push(KeyValue::new("gen_ai.operation.name", "execute_tool"));
            told.extend(named("gen_ai.tool.name"));
        }
        "prompts/get" => told.extend(named("gen_ai.prompt.name")),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            let uri = served.request.param(["uri"]).ok().and_then(|[uri]| uri);
            let uri = uri.and_then(members::string);
            told.extend(uri.map(|uri| KeyValue::new("mcp.resource.uri", cut(&uri, URI_MAX).to_owned())));
        }
        _ => {}
    }
    told
}

/// A request's id, as text.
fn number(id: &Id) -> KeyValue {
    let json = id.as_json();
    let plain = members::string(json).unwrap_or(json.into());
    KeyValue::new("jsonrpc.request.id", cut(&plain, TEXT_MAX).to_owned())
}

/// A step that somebody else made.
fn remote(context: &Context) -> SpanContext {
    let state = context.state.as_deref().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let (trace, span) =
        (TraceId::from_bytes(context.trace.to_be_bytes()), SpanId::from_bytes(context.span.to_be_bytes()));
    SpanContext::new(trace, span, TraceFlags::new(context.flags), true, state)
}
