//! Every metric there is: its name, what it counts, its unit and its labels. The text is OpenMetrics.
//!
//! Names of OpenTelemetry's MCP conventions where there are any, `hubward_` before all others. A label is never what a
//! caller or an upstream can make up without bound: see [`meter`](super::meter).

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::meter::{BOUNDS, Histogram};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Counter,
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Without `_total`, which the text of a counter adds.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! metrics {
    ($($name:ident = $kind:ident $text:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub const $name: Metric = Metric { name: $text, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// All of them, in the order of their text.
        pub const ALL: &[Metric] = &[$($name),*];
    };
}

metrics! {
    OPERATIONS = Histogram "mcp_server_operation_duration_seconds" ["upstream", "mcp_method_name", "gen_ai_tool_name", "error_type", "mcp_protocol_version"] "Requests of clients, from their arrival to their answer";
    REQUESTS = Histogram "mcp_client_operation_duration_seconds" ["upstream", "mcp_method_name", "gen_ai_tool_name", "error_type", "network_transport"] "The same, from the moment they were sent to the upstream";
    SESSIONS_ENDED = Histogram "mcp_server_session_duration_seconds" ["upstream", "mcp_protocol_version"] "How long the sessions lasted that have ended";
    BUILD = Gauge "hubward_build_info" ["version"] "1; the version is the label";
    STARTED = Gauge "hubward_start_time_seconds" [] "When the hub started, in seconds since 1970";
    GENERATION = Gauge "hubward_config_generation" [] "How many configurations were applied";
    RELOAD_OK = Gauge "hubward_config_last_reload_successful" [] "0: the present hub.toml was rejected, and the one before it runs on";
    RELOADED = Gauge "hubward_config_last_reload_success_timestamp_seconds" [] "When a configuration was last applied, in seconds since 1970";
    RELOADS = Counter "hubward_config_reloads" ["result"] "Times a changed configuration was applied or rejected";
    UP = Gauge "hubward_upstream_up" ["upstream"] "1 unless it is waiting, failed, needs a login or is switched off";
    STATE = Gauge "hubward_upstream_state" ["upstream", "state"] "1 for the state it is in";
    RESTARTS = Counter "hubward_upstream_restarts" ["upstream"] "Processes that ended, or connections that were lost, without our asking";
    STARTS = Histogram "hubward_upstream_start_duration_seconds" ["upstream"] "From the start of a process to the end of its handshake";
    IN_FLIGHT = Gauge "hubward_calls_in_flight" ["upstream"] "Requests that are not answered yet";
    SESSIONS = Gauge "hubward_sessions" ["upstream", "era"] "Clients that are known: legacy ones by their session, modern ones by who they are";
    STREAMS = Gauge "hubward_streams" [] "Event streams that are open";
    PROCESSES = Gauge "hubward_child_processes" ["upstream"] "Processes that are ready";
    RSS = Gauge "hubward_child_rss_bytes" ["upstream"] "Memory of those processes, without their own children";
    CPU = Counter "hubward_child_cpu_seconds" ["upstream"] "CPU time of the processes that are ready now";
    RESPONSES = Counter "hubward_http_responses" ["status"] "Answers to HTTP requests, by status";
    TOOL_CHANGES = Counter "hubward_tool_schema_changes" ["upstream"] "Times its tools were others than before";
    WITHHELD = Gauge "hubward_tools_withheld" ["upstream"] "Tools that wait for `hubward accept`";
    CERTIFICATE = Gauge "hubward_tls_cert_not_after_timestamp_seconds" ["name"] "When the certificate expires, in seconds since 1970";
    PANICS = Counter "hubward_panics" [] "Supervisors of upstreams that ended in a panic, and were built anew";
    AUDIT_LOST = Counter "hubward_audit_lines_lost" [] "Lines of the audit that could not be written";
}

/// The values of a metric.
pub enum Values {
    /// Of a gauge or a counter.
    Numbers(Vec<(Labels, f64)>),
    Histograms(Vec<(Labels, Histogram)>),
}

/// In the order of the metric's own labels.
pub type Labels = Vec<String>;

/// Gives the values of a metric.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    fn values(&self, metric: &Metric) -> Values;
}

/// What is scraped, as OpenMetrics has it.
pub fn text(source: impl Source) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(source)));
    let mut out = String::with_capacity(16 << 10);
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The same as Prometheus' older text format has it, where the name of a counter is that of its values.
pub fn classic(text: &str) -> String {
    let counter = |name: &str| ALL.iter().any(|metric| metric.kind == Kind::Counter && metric.name == name);
    let lines = text.lines().filter_map(|line| {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => None,
            (Some("#"), Some(what), Some(name), Some(rest)) if counter(name) => {
                Some(format!("# {what} {name}_total {rest}\n"))
            }
            _ => Some(format!("{line}\n")),
        }
    });
    lines.collect()
}

#[derive(Debug)]
struct Scrape<S>(S);

impl<S: Source> Collector for Scrape<S> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in ALL {
            let kind = match metric.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            let labelled = |values: Labels| metric.labels.iter().copied().zip(values).collect::<Vec<_>>();
            match self.0.values(metric) {
                Values::Numbers(all) => {
                    let encode = |one: MetricEncoder<'_>, value| match metric.kind {
                        Kind::Counter => ConstCounter::new(value).encode(one),
                        _ => ConstGauge::new(value).encode(one),
                    };
                    if metric.labels.is_empty() {
                        // Not every parser takes empty braces.
                        all.first().map_or(Ok(()), |(_, value)| encode(family, *value))?;
                        continue;
                    }
                    for (labels, value) in all {
                        encode(family.encode_family(&labelled(labels))?, value)?;
                    }
                }
                Values::Histograms(all) => {
                    for (labels, times) in all {
                        let labels = labelled(labels);
                        let bounds = BOUNDS.into_iter().chain([f64::MAX]);
                        let buckets: Vec<(f64, u64)> = bounds.zip(times.buckets).collect();
                        let mut one = family.encode_family(&labels)?;
                        one.encode_histogram::<NoLabelSet>(times.sum.as_secs_f64(), times.count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
