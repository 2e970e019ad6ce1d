//! A collector of traces: takes what is exported over OTLP, and shows it to a test.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message;

use crate::fixture::{Hub, PATIENCE, hubward};

pub const SERVER: i32 = 2;
pub const CLIENT: i32 = 3;

/// A span, as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Span {
    pub name: String,
    pub kind: i32,
    pub trace: String,
    pub id: String,
    /// Empty where it is the first of its trace.
    pub parent: String,
    pub state: String,
    pub links: Vec<(String, String)>,
    pub said: BTreeMap<String, String>,
    pub is_error: bool,
    pub why: String,
    pub took: Duration,
    /// Of the resource.
    pub of: BTreeMap<String, String>,
}

impl Span {
    /// An attribute; empty where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.said.get(name).map_or("", String::as_str)
    }

    /// As somebody who goes on from it would be told.
    pub fn parent_of(&self, context: &str) -> bool {
        context == format!("00-{}-{}-01", self.trace, self.id)
    }
}

#[derive(Clone)]
pub struct Collector {
    pub url: String,
    spans: Arc<Mutex<Vec<Span>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    pub fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Collector { url, spans: Arc::default(), heads: Arc::default() };
        let taking = collector.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let collector = taking.clone();
                std::thread::spawn(move || while collector.take(&socket).is_some() {});
            }
        });
        collector
    }

    /// Takes one export.
    fn take(&self, mut socket: &TcpStream) -> Option<()> {
        let (mut reader, mut head) = (BufReader::new(socket), String::new());
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let mut lines = head.lines().map(str::to_ascii_lowercase);
        let length = lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        self.heads.lock().unwrap().push(head);
        self.spans.lock().unwrap().extend(read(&body));
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Waits for what is wished.
    pub async fn until<T>(&self, what: &str, wished: impl Fn(&[Span]) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            let spans = self.spans();
            if let Some(found) = wished(&spans) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{what} did not come: {spans:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Both spans of a call of this tool, once they are here: as it was served, and as it was sent on.
    pub async fn call(&self, tool: &str) -> (Span, Span) {
        let of = |spans: &[Span], kind| {
            spans.iter().find(|span| span.kind == kind && span.get("gen_ai.tool.name") == tool).cloned()
        };
        self.until(tool, |spans| Some((of(spans, SERVER)?, of(spans, CLIENT)?))).await
    }

    /// A hub that exports to here, with more variables.
    pub fn hub(&self, toml: &str, variables: &[(&str, &str)]) -> Hub {
        let all = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", self.url.as_str())], variables].concat();
        hub(tempfile::tempdir().unwrap(), toml, &all)
    }
}

/// A hub with these variables, which does not wait long before it exports.
pub fn hub(folder: tempfile::TempDir, toml: &str, variables: &[(&str, &str)]) -> Hub {
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, toml).unwrap();
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "--log-level", "debug", "-c"]);
    command.arg(path).env("OTEL_BSP_SCHEDULE_DELAY", "10").envs(variables.iter().copied());
    Hub::run(folder, command)
}

fn read(body: &[u8]) -> Vec<Span> {
    let mut all = Vec::new();
    for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let of = said(&resource.resource.unwrap_or_default().attributes);
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let status = span.status.unwrap_or_default();
            all.push(Span {
                kind: span.kind,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                state: span.trace_state,
                links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                said: said(&span.attributes),
                is_error: status.code == 2,
                why: status.message,
                took: Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano),
                of: of.clone(),
                name: span.name,
            });
        }
    }
    all
}

fn said(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: &KeyValue| pair.value.as_ref()?.value.as_ref().map(text);
    attributes.iter().filter_map(|pair| Some((pair.key.clone(), value(pair)?))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
