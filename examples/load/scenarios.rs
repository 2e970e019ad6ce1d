//! What is tried, and what has to hold.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;

use crate::{
    Report,
    client::Client,
    hub::{Hub, alive, children, descriptors, memory, processor, signal, upstream},
};

type Run = for<'a> fn(&'a mut Report, bool) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

pub const SCENARIOS: [(&str, &str, Run); 9] = [
    ("histories", "1,000 clients that count from 0 share one process: whose answer is whose", |r, s| {
        Box::pin(histories(r, s))
    }),
    ("reload", "calls without pause while other upstreams come, change and go", |r, s| Box::pin(reload(r, s))),
    ("many", "200 upstreams in the file: how soon it listens", |r, s| Box::pin(many(r, s))),
    ("cycles", "1,000 times a process starts and stops, or is killed: what is left", |r, s| Box::pin(cycles(r, s))),
    ("idle-streams", "10,000 open streams that say nothing: what they cost", |r, s| Box::pin(idle_streams(r, s))),
    ("parked", "10,000 calls that wait for an answer that never comes", |r, s| Box::pin(crate::parked::parked(r, s))),
    ("watched", "500 status requests a second, 200 open status pages: what others notice", |r, s| {
        Box::pin(crate::watched::watched(r, s))
    }),
    ("siege", "10,000 sockets that are slow on purpose: what others notice, and when they are closed", |r, s| {
        Box::pin(crate::siege::siege(r, s))
    }),
    ("storm", "1,000 list_changed a second to 100 sessions", |r, s| Box::pin(storm(r, s))),
];

/// What one client did and saw.
struct Turn {
    id: u64,
    said: String,
    answer: Result<serde_json::Value, String>,
}

async fn histories(report: &mut Report, short: bool) {
    let (clients, calls) = if short { (100, 50) } else { (1000, 100) };
    let hub = Hub::start(&upstream("echo", "echo", "isolation = \"shared\""));
    let open = stream::iter(0..clients).map(|_| Client::open(&hub, "/echo/mcp")).buffered(50);
    let opened: Vec<_> = open.filter_map(async |client| client.ok()).collect().await;
    report.holds("every client has a session", opened.len() == clients, opened.len());
    let began = Instant::now();
    let play = opened.into_iter().enumerate().map(|(number, client)| {
        tokio::spawn(async move {
            let mut history = Vec::with_capacity(calls);
            for id in 0..calls as u64 {
                let said = format!("client {number} call {id}");
                let answer = client.call(id, "echo", json!({ "text": said })).await;
                history.push(Turn { id, said, answer });
            }
            history
        })
    });
    let histories: Vec<Vec<Turn>> = join_all(play).await.into_iter().map(|played| played.unwrap_or_default()).collect();
    let seconds = began.elapsed().as_secs_f64();
    let (mut right, mut wrong, mut errors) = (0, 0, 0);
    for turn in histories.iter().flatten() {
        let answer = turn.answer.as_ref();
        match answer.map(|answer| (&answer["id"], &answer["result"]["content"][0]["text"])) {
            Ok((id, text)) if *id == turn.id && *text == *turn.said => right += 1,
            Ok((_, text)) if text.is_string() => {
                wrong += 1;
                println!("   said {:?} as {}, got {answer:?}", turn.said, turn.id);
            }
            _ => {
                errors += 1;
                if errors <= 5 {
                    println!("   {answer:?}");
                }
            }
        }
    }
    report.holds("nobody got another's answer", wrong == 0, format!("{wrong} wrong answers"));
    report.holds("every call was answered", right == clients * calls, format!("{right} right, {errors} errors"));
    let pids = hub.status().await["upstreams"][0]["pids"].as_array().map_or(0, Vec::len);
    report.holds("one process did it all", pids == 1, pids);
    report.figure("calls a second", format!("{:.0}", right as f64 / seconds));
}

async fn reload(report: &mut Report, short: bool) {
    let seconds = if short { 5 } else { 60 };
    let kept = upstream("kept", "echo", "isolation = \"shared\"");
    let hub = Arc::new(Hub::start(&kept));
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|number| {
            let (hub, stop) = (hub.clone(), stop.clone());
            tokio::spawn(async move {
                let client = Client::open(&hub, "/kept/mcp").await?;
                let pid = client.text("pid", json!({})).await?;
                let (mut calls, mut slowest) = (0u64, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let said = format!("{number} {calls}");
                    if client.text("echo", json!({ "text": said })).await? != said {
                        return Err(format!("another answer than {said}"));
                    }
                    slowest = slowest.max(began.elapsed());
                    calls += 1;
                }
                match client.text("pid", json!({})).await? == pid {
                    true => Ok((calls, slowest)),
                    false => Err("another process".to_owned()),
                }
            })
        })
        .collect();
    for round in 0..seconds {
        // One comes and goes, one is replaced each time, one is there every third time.
        let mut toml = kept.clone();
        if round % 2 == 0 {
            toml += &upstream("coming", "echo", "start = \"eager\"");
        }
        toml += &upstream("changing", "echo", &format!("start = \"eager\"\nenv = {{ ROUND = \"{round}\" }}"));
        if round % 3 == 0 {
            toml += &upstream("other", "rogue", "isolation = \"call\"");
        }
        hub.edit(&toml);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut calls, mut slowest, mut failed) = (0, Duration::ZERO, Vec::new());
    for caller in join_all(callers).await {
        match caller {
            Ok(Ok((made, took))) => {
                calls += made;
                slowest = slowest.max(took);
            }
            Ok(Err(error)) => failed.push(error),
            Err(error) => failed.push(error.to_string()),
        }
    }
    report.holds("no call failed, and all had one process", failed.is_empty(), format!("{calls} calls, {failed:?}"));
    // The first start is a generation too; two quick edits may be read as one.
    let applied = hub.status().await["reload"]["generation"].as_u64().unwrap_or_default();
    report.holds("the edits were applied", applied >= seconds, format!("{applied} generations, {seconds} edits"));
    report.figure("calls a second", calls / seconds);
    report.figure("slowest call", format!("{slowest:?}"));
}

async fn many(report: &mut Report, _: bool) {
    let toml: String = (0..200).map(|number| upstream(&format!("u{number}"), "echo", "")).collect();
    let hub = Hub::start(&toml);
    let listening = hub.listening;
    report.holds("200 upstreams listen within 1 s", listening < Duration::from_secs(1), format!("{listening:?}"));
    let status = hub.status().await;
    let there = status["upstreams"].as_array().map_or(0, Vec::len);
    report.holds("all are mounted", there == 200, there);
    let running = children(hub.pid()).len();
    report.holds("no upstream has started", running <= 1, format!("{running} processes, the keeper is one"));
    let began = Instant::now();
    let called = async { Client::open(&hub, "/u199/mcp").await?.text("echo", json!({ "text": "x" })).await };
    let called = called.await;
    report.holds("the last one can be called", called.as_deref() == Ok("x"), format!("{called:?}"));
    report.figure("session and first call, with the start of its process", format!("{:?}", began.elapsed()));
    report.figure("memory", format!("{} KiB", memory(hub.pid())));
}

/// One life of a process: it starts with a session, and ends in one of three ways.
async fn life(hub: &Hub, round: usize) -> Result<(), String> {
    let client = Client::open(hub, "/rogue/mcp").await?;
    let pid: u32 = client.text("pid", json!({})).await?.parse().map_err(|_| "no pid")?;
    match round % 3 {
        0 => {}
        1 => signal(pid, "KILL"),
        _ => drop(client.call(2, "crash", json!({ "code": 1 })).await),
    }
    client.delete().await?;
    let began = Instant::now();
    while alive(pid) {
        if began.elapsed() > Duration::from_secs(20) {
            return Err(format!("{pid} is still alive"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn cycles(report: &mut Report, short: bool) {
    let (rounds, hubs) = if short { (60, 4) } else { (1000, 20) };
    let toml = upstream("rogue", "rogue", "stop_timeout = \"2s\"");
    let mut hub = Hub::start(&toml);
    // What is opened once and kept does not count.
    for round in 0..6 {
        let _ = life(&hub, round).await;
    }
    let (before, used) = (descriptors(hub.pid()), memory(hub.pid()));
    let began = Instant::now();
    let lives = stream::iter(0..rounds).map(|round| life(&hub, round)).buffer_unordered(4);
    let failed: Vec<String> = lives.filter_map(async |life| life.err()).collect().await;
    report.holds("every process came and went", failed.is_empty(), format!("{rounds} cycles, {failed:?}"));
    report.figure("cycles a second", format!("{:.0}", rounds as f64 / began.elapsed().as_secs_f64()));
    let gone = hub.until(|status| status["upstreams"][0]["pids"] == json!([]) && status["sessions"] == 0).await;
    report.holds("the hub knows of none", gone, gone);
    let left = settled(|| children(hub.pid()).len(), |left| *left <= 1).await;
    report.holds("no child and no zombie is left but the keeper", left <= 1, left);
    // Connections of the pool come and go.
    let after = settled(|| descriptors(hub.pid()), |after| *after <= before + 8).await;
    report.holds("no descriptor is left", after <= before + 8, format!("{before} before, {after} after"));
    report.figure("memory", format!("{used} KiB before, {} KiB after", memory(hub.pid())));
    let keeper = children(hub.pid());
    hub.signal("TERM");
    let ended = hub.ended();
    report.holds("the hub ends when told", ended, ended);
    let mut leftovers: Vec<u32> = keeper;
    for round in 0..hubs {
        let mut hub = Hub::start(&toml);
        let pids = join_all((0..3).map(|_| async {
            let client = Client::open(&hub, "/rogue/mcp").await?;
            client.text("grandchild", json!({ "ignore_term": true })).await?;
            client.text("pid", json!({})).await
        }));
        for pid in pids.await.into_iter().flatten().filter_map(|pid| pid.parse().ok()) {
            leftovers.extend(children(pid));
            leftovers.push(pid);
        }
        leftovers.extend(children(hub.pid()));
        hub.signal(if round % 2 == 0 { "KILL" } else { "TERM" });
        report.holds("the hub ends, with three servers and their children", hub.ended(), round);
    }
    let seen = leftovers.len();
    let left = settled(|| leftovers.iter().filter(|pid| alive(**pid)).count(), |left| *left == 0).await;
    report.holds("nothing outlives a hub, stopped or killed", left == 0, format!("{left} of {seen} processes"));
}

/// A number once it is as wished, or when patience ends.
async fn settled(number: impl Fn() -> usize, wished: impl Fn(&usize) -> bool) -> usize {
    let began = Instant::now();
    loop {
        let now = number();
        if wished(&now) || began.elapsed() > Duration::from_secs(10) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The median and the 99th percentile of calls one after the other.
async fn latency(client: &Client, calls: u64) -> Result<(Duration, Duration), String> {
    let mut took = Vec::new();
    for id in 0..calls {
        let began = Instant::now();
        client.call(id, "echo", json!({ "text": "x" })).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok((took[took.len() / 2], took[took.len() * 99 / 100]))
}

async fn idle_streams(report: &mut Report, short: bool) {
    let (mut wanted, seconds) = if short { (500, 2) } else { (10_000, 10) };
    let room = descriptors_allowed(wanted as u64 + 500).saturating_sub(500) as usize;
    if room < wanted {
        report.figure("fewer than wanted, for want of descriptors; `ulimit -n 16384` helps", room);
        wanted = room;
    }
    let limits = "[hub.limits]\nsessions_max = 20000\nstreams_max = 20000\n";
    let hub = Hub::start(&format!("{limits}{}", upstream("echo", "echo", "isolation = \"shared\"")));
    let caller = match Client::open(&hub, "/echo/mcp").await {
        Ok(caller) => caller,
        Err(error) => return report.holds("a session", false, error),
    };
    let _ = latency(&caller, 200).await;
    let quiet = latency(&caller, 1000).await;
    let before = memory(hub.pid());
    let opened = AtomicUsize::new(0);
    let open = stream::iter(0..wanted).map(async |_| {
        let client = Client::open(&hub, "/echo/mcp").await?;
        let listener = client.listen(&hub).await?;
        opened.fetch_add(1, Ordering::Relaxed);
        Ok::<_, String>(listener)
    });
    let results: Vec<_> = open.buffer_unordered(32).collect().await;
    let error = results.iter().find_map(|result| result.as_ref().err().cloned()).unwrap_or_default();
    let count = opened.load(Ordering::Relaxed);
    report.holds("all streams open", count == wanted, format!("{count} {error}"));
    let each = memory(hub.pid()).saturating_sub(before) as f64 / count.max(1) as f64;
    report.holds("a session and its stream cost less than 64 KiB", each < 64.0, format!("{each:.1} KiB"));
    let used = processor(hub.pid());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = processor(hub.pid()) - used;
    let share = used.as_secs_f64() / seconds as f64;
    report.holds("idle streams need less than a tenth of a core", share < 0.1, format!("{used:?} in {seconds} s"));
    let busy = latency(&caller, 1000).await;
    match (quiet, busy) {
        (Ok(quiet), Ok(busy)) => {
            let [p99, share] = [busy.1.as_secs_f64() / quiet.1.as_secs_f64() * 100.0 - 100.0, share * 100.0];
            report.figure(
                "F73 a stream, the processor, a call",
                format!("{each:.1} KiB with its session, {share:.1} % of a core, 99th {p99:+.0} %"),
            );
            let close = busy.0 < quiet.0 * 3 + Duration::from_millis(1);
            let seen = format!("median {:?}, 99th {:?}; without them {:?}, {:?}", busy.0, busy.1, quiet.0, quiet.1);
            report.holds("a call among them is about as fast as without them", close, seen);
        }
        (quiet, busy) => report.holds("calls are answered", false, format!("{quiet:?} {busy:?}")),
    }
    drop(results);
    let closed = hub.until(|status| status["streams"] == 0).await;
    report.holds("the hub notices that all have left", closed, closed);
}

/// Raises the limit of descriptors as far as needed and allowed; answers with it.
#[cfg(unix)]
pub fn descriptors_allowed(needed: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wished = now.maximum.map_or(needed, |maximum| maximum.min(needed));
    if now.current.is_some_and(|current| current < wished) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wished), maximum: now.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
pub fn descriptors_allowed(needed: u64) -> u64 {
    needed
}

async fn storm(report: &mut Report, short: bool) {
    let (sessions, seconds) = if short { (20, 2u32) } else { (100, 10) };
    let hub = Hub::start(&upstream("rogue", "rogue", "isolation = \"shared\""));
    let open = stream::iter(0..sessions).map(async |_| {
        let client = Client::open(&hub, "/rogue/mcp").await?;
        let listener = client.listen(&hub).await?;
        Ok::<_, String>((client, listener))
    });
    let all: Vec<_> = open.buffered(10).filter_map(async |opened| opened.ok()).collect().await;
    report.holds("all sessions listen", all.len() == sessions, all.len());
    let (clients, listeners): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let Some(caller) = clients.first() else { return };
    let counts = listeners.into_iter().map(|mut listener| {
        tokio::spawn(async move { listener.count("notifications/tools/list_changed", Duration::from_secs(2)).await })
    });
    let counts: Vec<_> = counts.collect();
    let used = processor(hub.pid());
    let began = Instant::now();
    // In tens of milliseconds, so that it is a stream and not a lump.
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    let (mut said, mut slowest) = (0, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(seconds.into()) {
        beat.tick().await;
        let asked = Instant::now();
        match caller.text("list_changed", json!({ "count": 10 })).await {
            Ok(_) => said += 10,
            Err(error) => println!("   {error}"),
        }
        slowest = slowest.max(asked.elapsed());
    }
    let used = processor(hub.pid()) - used;
    let heard: Vec<usize> = join_all(counts).await.into_iter().map(|count| count.unwrap_or_default()).collect();
    let (least, most) = (heard.iter().min().copied().unwrap_or(0), heard.iter().max().copied().unwrap_or(0));
    let seen = format!("{said} said, each session heard {least} to {most} in {seconds} s");
    // Four a second, one at once and one at the end.
    report.holds("the storm is one breeze per session", most <= seconds as usize * 4 + 2, &seen);
    report.holds("everybody hears of it", least >= seconds as usize, &seen);
    report.figure("the hub's share of a core", format!("{:.2}", used.as_secs_f64() / f64::from(seconds)));
    report.figure("slowest call that stormed", format!("{slowest:?}"));
}
