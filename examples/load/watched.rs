//! Those who look at the hub, by the hundred, and what other clients notice of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use tokio::time::{interval, sleep, timeout};

use crate::{
    Report,
    hub::{Hub, PATIENCE, upstream},
    others::{self, bearable, measure},
};

/// Status requests each second, by so many clients.
const REQUESTS: usize = 500;
const ASKERS: usize = 10;
/// Status pages that are open.
const PAGES: usize = 200;

/// Lookers on a thread of their own, until told to stop.
struct Lookers {
    over: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

#[derive(Clone, Copy)]
enum Way {
    Ask,
    Watch,
}

impl Lookers {
    fn begin(hub: &Hub, way: Way) -> Lookers {
        let (over, seen) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ends, count, base) = (over.clone(), seen.clone(), format!("http://{}", hub.address()));
        let thread = std::thread::spawn(move || {
            others::step_back();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let number = match way {
                    Way::Ask => ASKERS,
                    Way::Watch => PAGES,
                };
                let http = reqwest::Client::new();
                let all = (0..number).map(|_| async {
                    match way {
                        Way::Ask => ask(&http, &base, &ends, &count).await,
                        Way::Watch => watch(&http, &base, &ends, &count).await,
                    }
                });
                let _ = timeout(PATIENCE * 4, join_all(all)).await;
            });
        });
        Lookers { over, seen, thread }
    }

    fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.seen.load(Ordering::Relaxed)
    }
}

async fn ask(http: &reqwest::Client, base: &str, over: &AtomicBool, seen: &AtomicUsize) {
    let mut pace = interval(Duration::from_secs(1) * ASKERS as u32 / REQUESTS as u32);
    while !over.load(Ordering::Relaxed) {
        pace.tick().await;
        let Ok(answer) = http.get(format!("{base}/api/v1/status")).send().await else { continue };
        if answer.bytes().await.is_ok_and(|status| status.starts_with(b"{")) {
            seen.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn watch(http: &reqwest::Client, base: &str, over: &AtomicBool, seen: &AtomicUsize) {
    let Ok(answer) = http.get(format!("{base}/api/v1/events")).send().await else { return };
    let mut stream = answer.bytes_stream();
    while !over.load(Ordering::Relaxed) {
        if let Ok(Some(Ok(_))) = timeout(Duration::from_millis(500), stream.next()).await {
            seen.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub async fn watched(report: &mut Report, short: bool) {
    let calls = if short { 400 } else { 2000 };
    let toml: String = (0..10).map(|n| upstream(&format!("echo{n}"), "echo", "isolation = \"shared\"")).collect();
    let hub = Hub::start(&toml);
    let clients = match others::open(&hub, "/echo0/mcp").await {
        Ok(clients) => clients,
        Err(error) => return report.holds("a session", false, error),
    };
    let _ = measure(&clients, 100).await;
    for (way, what) in [(Way::Ask, "500 status requests a second"), (Way::Watch, "200 open status pages")] {
        let mut last = None;
        // Whoever else uses this machine is noticed too, so one good try is enough.
        for _ in 0..3 {
            let Ok(quiet) = measure(&clients, calls).await else { return report.holds(what, false, "no answers") };
            let (lookers, began) = (Lookers::begin(&hub, way), Instant::now());
            while lookers.seen.load(Ordering::Relaxed) < 50 && began.elapsed() < PATIENCE {
                sleep(Duration::from_millis(20)).await;
            }
            let busy = measure(&clients, calls).await.unwrap_or_default();
            let took = began.elapsed().as_secs_f64();
            let (seen, most) = (lookers.end(), bearable(quiet.p99, 25));
            let good = seen >= 50 && busy.calls > 0 && busy.p99 <= most;
            last = Some((
                good,
                format!(
                    "99th {:.2?}, without {:.2?}, bearable {most:.2?}; {:.0} seen a second",
                    busy.p99,
                    quiet.p99,
                    seen as f64 / took
                ),
            ));
            if good {
                break;
            }
        }
        let (good, text) = last.unwrap_or_default();
        report.holds(&format!("others hardly notice {what}"), good, text);
    }
}
