//! The way of spans to a collector, over OTLP.
//!
//! They go through a bounded queue to a thread of its own, so that a collector which is slow or gone never holds up a
//! call. What does not fit is dropped and counted, and that is said once a minute at most.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry::{Context as Ambient, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter as Otlp, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    resource::{EnvResourceDetector, ResourceDetector, TelemetryResourceDetector},
    trace::{SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter, SpanProcessor},
};
use tokio::sync::{Notify, mpsc as queue};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::TRACER;

/// Spans that may wait for the collector, unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise.
const QUEUE_MAX: u64 = 2048;
/// Spans that travel together, unless OTEL_BSP_MAX_EXPORT_BATCH_SIZE says otherwise.
const BATCH_MAX: u64 = 512;
/// How long a span waits for others, in milliseconds, unless OTEL_BSP_SCHEDULE_DELAY says otherwise.
const DELAY: u64 = 5000;
/// How long the collector may take, in milliseconds, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise.
const TIMEOUT: u64 = 10_000;
/// Longest wait for the last spans to leave.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// How often a loss is told.
const SAY_EVERY: Duration = Duration::from_secs(60);
const PROTOCOL: &str = "http/protobuf";
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// The way to the collector.
pub struct Export {
    stop: CancellationToken,
    done: mpsc::Receiver<()>,
}

/// The end of the way that calls see.
#[derive(Debug)]
struct Queue {
    spans: queue::Sender<SpanData>,
    /// Where it is this full, the courier does not wait any longer.
    batch: usize,
    full: Arc<Notify>,
    dropped: Arc<AtomicU64>,
}

/// The other end.
struct Courier {
    otlp: Otlp,
    spans: queue::Receiver<SpanData>,
    batch: usize,
    delay: Duration,
    full: Arc<Notify>,
    stop: CancellationToken,
    dropped: Arc<AtomicU64>,
    /// Lost since that was told last, and the cause that is known.
    lost: u64,
    why: Option<String>,
    said: Option<Instant>,
}

impl Export {
    /// `said`: what the environment says, by name.
    pub fn start(said: impl Fn(&str) -> Option<String>) -> Result<Export, String> {
        let protocol = said("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| said("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(other) = protocol.filter(|protocol| protocol != PROTOCOL) {
            return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL is `{other}`; only `{PROTOCOL}` is spoken"));
        }
        let named = said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| said("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let to = named.and_then(|url| Url::parse(&url).ok()).filter(|url| matches!(url.scheme(), "http" | "https"));
        // What it is instead may be a secret.
        let to = to.ok_or("it is no URL that begins with http:// or https://")?;
        if let Some(other) = said("OTEL_TRACES_SAMPLER").filter(|sampler| !SAMPLERS.contains(&sampler.as_str())) {
            return Err(format!("OTEL_TRACES_SAMPLER is `{other}`; known are {}", SAMPLERS.join(", ")));
        }
        let number = |name: &str, usual: u64| match said(name) {
            None => Ok(usual),
            Some(text) => match text.trim().parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{name} is `{text}`; it must be a number above 0")),
            },
        };
        let waiting = number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_MAX)?.min(1 << 20) as usize;
        let batch = (number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_MAX)? as usize).min(waiting);
        let delay = Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", DELAY)?);
        let timeout = Duration::from_millis(number("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT)?);
        let resource = resource(said("OTEL_SERVICE_NAME"));
        let mut otlp = exporter(timeout)?;
        otlp.set_resource(&resource);
        let (spans, from) = queue::channel(waiting);
        let (full, dropped, stop) = (Arc::<Notify>::default(), Arc::<AtomicU64>::default(), CancellationToken::new());
        let courier = Courier {
            otlp,
            spans: from,
            batch,
            delay,
            full: full.clone(),
            stop: stop.clone(),
            dropped: dropped.clone(),
            lost: 0,
            why: None,
            said: None,
        };
        let done = courier.set_out()?;
        let processor = Queue { spans, batch, full, dropped };
        let provider = SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build();
        match TRACER.set(provider.tracer("hubward")) {
            Ok(()) => tracing::info!("traces are exported to {}", to.origin().ascii_serialization()),
            Err(_) => return Err("they are exported already".into()),
        }
        Ok(Export { stop, done })
    }

    pub fn flush(self) {
        self.stop.cancel();
        // Where it takes longer, the end of the process is the end of it.
        let _ = self.done.recv_timeout(FLUSH_MAX);
    }
}

/// What all our spans have in common.
fn resource(name: Option<String>) -> Resource {
    let detectors: [Box<dyn ResourceDetector>; 2] =
        [Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())];
    let known = Resource::builder_empty()
        .with_service_name("hubward")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detectors(&detectors);
    match name {
        Some(name) => known.with_service_name(name).build(),
        None => known.build(),
    }
}

/// What speaks to the collector. It follows no redirect: the headers it is given are secrets, and meant for one place.
fn exporter(timeout: Duration) -> Result<Otlp, String> {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(timeout).build();
    let http = http.map_err(|error| format!("no HTTP client: {error}"))?;
    Otlp::builder().with_http().with_http_client(http).build().map_err(|_| "its URL cannot be used".into())
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut SdkSpan, _: &Ambient) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else if self.spans.max_capacity() - self.spans.capacity() >= self.batch {
            self.full.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Courier {
    /// Starts the thread. What it answers with ends when the last span has left.
    fn set_out(self) -> Result<mpsc::Receiver<()>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        let (finished, done) = mpsc::channel();
        let carry = move || {
            runtime.block_on(self.carry());
            drop(finished);
        };
        thread::Builder::new().name("traces".into()).spawn(carry).map_err(|error| format!("no thread: {error}"))?;
        Ok(done)
    }

    async fn carry(mut self) {
        loop {
            let is_last = tokio::select! {
                biased;
                () = self.stop.cancelled() => true,
                () = self.full.notified() => false,
                () = tokio::time::sleep(self.delay) => false,
            };
            while let Some(batch) = self.next() {
                let count = batch.len() as u64;
                if let Err(error) = self.otlp.export(batch).await {
                    self.lost += count;
                    self.why = Some(error.to_string());
                }
            }
            self.say(is_last);
            if is_last {
                return;
            }
        }
    }

    fn next(&mut self) -> Option<Vec<SpanData>> {
        let mut batch = Vec::new();
        while batch.len() < self.batch {
            match self.spans.try_recv() {
                Ok(span) => batch.push(span),
                Err(_) => break,
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn say(&mut self, is_last: bool) {
        self.lost += self.dropped.swap(0, Ordering::Relaxed);
        let is_due = is_last || self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY);
        if self.lost > 0 && is_due {
            let why = self.why.take().unwrap_or_else(|| "the collector is slower than the calls".into());
            tracing::warn!(lost = self.lost, "spans were lost on their way to the collector: {why}");
            (self.lost, self.said) = (0, Some(Instant::now()));
        }
    }
}
