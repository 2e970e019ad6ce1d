//! `/metrics`: the values of [every metric](crate::observe::metrics::ALL), as they are when somebody asks.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};

use super::{Front, rescue::Refusal};
use crate::{
    hub::{
        House,
        routes::{Route, State, UpstreamStatus},
        tools::ToolsStatus,
    },
    observe::{
        meter::{Counts, Histogram, Kind},
        metrics::{self, Labels, Metric, Source, Values},
    },
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Statuses that are counted: 100 to 599.
const STATUSES: usize = 500;

/// Answers by status.
pub struct Answered(Box<[AtomicU64; STATUSES]>);

impl Default for Answered {
    fn default() -> Answered {
        Answered(Box::new([const { AtomicU64::new(0) }; STATUSES]))
    }
}

impl Answered {
    pub fn count(&self, status: StatusCode) {
        if let Some(count) = usize::from(status.as_u16()).checked_sub(100).and_then(|at| self.0.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn values(&self) -> Vec<(Labels, f64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        let seen = counts.filter(|(_, count)| *count > 0);
        seen.map(|(at, count)| (vec![(at + 100).to_string()], count as f64)).collect()
    }
}

/// In the format that the scraper asks for.
pub fn serve(request: &HttpRequest, front: &Front, may: impl Fn(&Route) -> bool) -> Result<HttpResponse, Refusal> {
    let routes = front.house.table.load();
    let seen = routes.by_name.values().filter(|route| may(route));
    let upstreams = seen.map(Scraped::of).collect();
    let scrape = Scrape { house: front.house.clone(), upstreams, answered: front.answered.values() };
    let text = metrics::text(scrape).map_err(|_| Refusal::Full("metrics", "they cannot be printed"))?;
    let accepts = request.headers().get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = HttpResponse::Ok();
    response.insert_header(("Cache-Control", "no-store"));
    Ok(match accepts.contains("application/openmetrics-text") {
        true => response.content_type(OPENMETRICS).body(text),
        false => response.content_type(CLASSIC).body(metrics::classic(&text)),
    })
}

/// One upstream, as it was in one moment.
struct Scraped {
    route: Arc<Route>,
    status: Arc<UpstreamStatus>,
    counts: Counts,
    tools: ToolsStatus,
    /// CPU seconds and bytes of memory of its processes.
    usage: (f64, f64),
}

impl Scraped {
    fn of(route: &Arc<Route>) -> Scraped {
        let serving = &route.serving;
        let status = serving.status.load_full();
        let used = status.pids.iter().filter_map(|pid| usage(*pid));
        Scraped {
            route: route.clone(),
            counts: serving.meter.counts(),
            tools: serving.tools.status(&route.config),
            usage: used.fold((0.0, 0.0), |(cpu, rss), (own, held)| (cpu + own, rss + held)),
            status,
        }
    }
}

struct Scrape {
    house: Arc<House>,
    upstreams: Vec<Scraped>,
    answered: Vec<(Labels, f64)>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Source for Scrape {
    fn values(&self, metric: &Metric) -> Values {
        let hub = self.house.status.load();
        let one = |value: f64| Values::Numbers(vec![(Vec::new(), value)]);
        match *metric {
            metrics::OPERATIONS => self.kinds(|counts| &counts.served, |_, kind| kind.revision.to_owned()),
            metrics::REQUESTS => self.kinds(
                |counts| &counts.asked,
                |route, _| if route.config.remote.is_some() { "tcp" } else { "pipe" }.to_owned(),
            ),
            metrics::SESSIONS_ENDED => self.histograms(|name, counts| {
                counts
                    .sessions
                    .iter()
                    .map(|(revision, times)| (vec![name.clone(), (*revision).into()], times.clone()))
                    .collect()
            }),
            metrics::STARTS => self.histograms(|name, counts| vec![(vec![name], counts.starts.clone())]),
            metrics::BUILD => Values::Numbers(vec![(vec![env!("CARGO_PKG_VERSION").into()], 1.0)]),
            metrics::STARTED => one(since_1970(hub.started)),
            metrics::GENERATION => one(hub.generation as f64),
            metrics::RELOAD_OK => one(f64::from(u8::from(hub.rejected.is_none()))),
            metrics::RELOADED => one(since_1970(hub.applied)),
            metrics::RELOADS => Values::Numbers(vec![
                (vec!["applied".into()], hub.generation as f64),
                (vec!["rejected".into()], hub.rejections as f64),
            ]),
            metrics::STREAMS => one(self.house.engine.streams.load(Ordering::Relaxed) as f64),
            metrics::PANICS => one(hub.panics as f64),
            metrics::AUDIT_LOST => one(self.house.engine.audit.load().as_ref().map_or(0, |audit| audit.lost()) as f64),
            metrics::RESPONSES => Values::Numbers(self.answered.clone()),
            metrics::CERTIFICATE => {
                let config = self.house.config.load();
                let names = config.tls.iter().flat_map(|tls| {
                    let until = since_1970(tls.identity.not_after);
                    tls.identity.names.iter().map(move |name| (vec![name.clone()], until))
                });
                Values::Numbers(names.collect())
            }
            _ => self.upstreams(metric),
        }
    }
}

impl Scrape {
    /// What is one number, or a few, for each upstream.
    fn upstreams(&self, metric: &Metric) -> Values {
        let of = |upstream: &Scraped| -> Vec<(Labels, f64)> {
            let Scraped { route, status, counts, tools, usage: (cpu, rss) } = upstream;
            let name = route.name.to_string();
            let value = match *metric {
                metrics::UP => {
                    f64::from(u8::from(matches!(status.state, State::Idle | State::Starting | State::Ready)))
                }
                metrics::RESTARTS => status.restarts as f64,
                metrics::IN_FLIGHT => counts.in_flight as f64,
                metrics::PROCESSES => status.pids.len() as f64,
                metrics::RSS => *rss,
                metrics::CPU => *cpu,
                metrics::TOOL_CHANGES => tools.changes as f64,
                metrics::WITHHELD => tools.withheld.len() as f64,
                metrics::STATE => {
                    let states = State::ALL.into_iter();
                    let is = |state: State| f64::from(u8::from(state == status.state));
                    return states.map(|state| (vec![name.clone(), state.as_str().into()], is(state))).collect();
                }
                metrics::SESSIONS => {
                    let (legacy, modern) = route.audience.eras();
                    let eras = [("legacy", legacy), ("modern", modern)];
                    return eras.map(|(era, count)| (vec![name.clone(), era.into()], count as f64)).into();
                }
                _ => return Vec::new(),
            };
            vec![(vec![name], value)]
        };
        Values::Numbers(self.upstreams.iter().flat_map(of).collect())
    }

    fn histograms(&self, of: impl Fn(String, &Counts) -> Vec<(Labels, Histogram)>) -> Values {
        Values::Histograms(self.upstreams.iter().flat_map(|one| of(one.route.name.to_string(), &one.counts)).collect())
    }

    /// Calls by kind; `last` is the last label.
    fn kinds(&self, of: impl Fn(&Counts) -> &Vec<(Kind, Histogram)>, last: impl Fn(&Route, &Kind) -> String) -> Values {
        let all = self.upstreams.iter().flat_map(|up| of(&up.counts).iter().map(move |one| (&up.route, one)));
        let mut sums = std::collections::BTreeMap::<Labels, Histogram>::new();
        for (route, (kind, times)) in all {
            let labels = vec![
                route.name.to_string(),
                kind.method.to_owned(),
                tool(kind),
                kind.outcome.error_type().unwrap_or_default(),
                last(route, kind),
            ];
            sums.entry(labels).or_default().merge(times);
        }
        Values::Histograms(sums.into_iter().collect())
    }
}

/// The tool that was called; prompts have names too.
fn tool(kind: &Kind) -> String {
    kind.name.as_deref().filter(|_| kind.method == "tools/call").unwrap_or_default().to_owned()
}

fn since_1970(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64().floor()
}

/// CPU seconds and bytes of memory of a process.
#[cfg(target_os = "linux")]
fn usage(pid: u32) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    Some(((number(11)? + number(12)?) / ticks, number(21)? * rustix::param::page_size() as f64))
}

#[cfg(not(target_os = "linux"))]
fn usage(_: u32) -> Option<(f64, f64)> {
    None
}
