//! What each pure part of a call costs: `cargo bench --bench parts`.

use std::{fmt::Write as _, hint::black_box, path::Path};

use bytes::{BufMut, Bytes};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{FutureExt, stream};
use hubward::{
    config,
    link::remote::events::{Events, Position},
    server::path::resolve,
    wire::{
        Id, Message, Revision, envelope,
        lines::Lines,
        message::{one, read_client, read_upstream},
    },
};

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"text":"a text of some thirty-two letters"},"_meta":{"progressToken":7}}}"#;
const MODERN: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"text":"a text of some thirty-two letters"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#;

/// A result with a text of so many bytes, of which each fiftieth is an escape.
fn result(bytes: usize) -> Bytes {
    let text = r"forty-eight letters and spaces, and then a line\n".repeat(bytes / 49 + 1);
    let mut out = String::new();
    let _ = write!(out, r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#);
    out.into()
}

fn message(text: &'static str) -> Message {
    one(Bytes::from_static(text.as_bytes())).expect("a message")
}

fn messages(c: &mut Criterion) {
    c.bench_function("message: a client's call", |b| {
        b.iter(|| read_client(black_box(Bytes::from_static(CALL.as_bytes()))))
    });
    for (name, bytes) in [("200 bytes", 100), ("1 MiB", 1 << 20)] {
        let result = result(bytes);
        let mut group = c.benchmark_group("message: an upstream's result");
        group.throughput(Throughput::Bytes(result.len() as u64));
        group.bench_function(name, |b| b.iter(|| read_upstream(black_box(result.clone()))));
    }
    let (call, id) = (message(CALL), Id::from(123_456));
    let token = call.progress_token().expect("one").map(|(_, span)| span);
    c.bench_function("message: id and token spliced", |b| {
        b.iter(|| black_box(&call).with_id(&id, token.clone().map(|span| (span, &id))));
    });
}

fn eras(c: &mut Criterion) {
    for (name, text) in [("none", CALL), ("there", MODERN)] {
        let message = message(text);
        c.bench_function(&format!("envelope: {name}"), |b| b.iter(|| envelope::claim(black_box(&message))));
    }
    c.bench_function("revision: negotiated", |b| b.iter(|| Revision::negotiate(black_box("2025-06-18"))));
}

fn streams(c: &mut Criterion) {
    let mut block = Vec::new();
    for _ in 0..100 {
        block.put_slice(CALL.as_bytes());
        block.push(b'\n');
    }
    c.bench_function("lines: a hundred in one read", |b| {
        b.iter_batched_ref(
            || Lines::new(1 << 20),
            |lines| {
                lines.spare().put_slice(&block);
                while let Some(line) = lines.take() {
                    black_box(line);
                }
            },
            BatchSize::SmallInput,
        );
    });
    let events = Bytes::from(format!("event: message\nid: 1-1\ndata: {CALL}\n\n").repeat(100));
    c.bench_function("events: a hundred in one read", |b| {
        b.iter(|| {
            let (mut events, mut position) =
                (Events::read(stream::iter([Ok(events.clone())]), 1 << 20), Position::default());
            while let Some(Ok(event)) = events.next(&mut position).now_or_never() {
                black_box(event);
            }
        });
    });
}

fn routes(c: &mut Criterion) {
    let text = "[hub]\nprefixes = ['/', '/servers/']\n[upstreams.time]\ncommand = 'x'\n";
    let parsed = config::parse(text, Path::new("/"), &|_| None);
    let Ok((config, _)) = parsed else { panic!("a configuration") };
    c.bench_function("route: a path resolved", |b| b.iter(|| resolve(black_box("/servers/time/mcp"), &config.hub)));
}

criterion_group!(parts, messages, eras, streams, routes);
criterion_main!(parts);
