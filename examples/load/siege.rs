//! Sockets that are slow on purpose, by the thousand, and what other clients notice of them.
//!
//! The besiegers have a thread of their own, and come again whenever the hub is rid of one. They stop when the
//! measuring is done, and by themselves after `PATIENCE`.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    Report,
    client::Client,
    hub::{Hub, PATIENCE, descriptors, memory, upstream},
    others::{self, Times, bearable, measure},
    scenarios::descriptors_allowed,
};

/// A besieger sends, or reads, one byte this often.
const DRIP: Duration = Duration::from_secs(2);
/// One that was thrown out comes again after this: slowness is tried here, and not a flood of connections.
const PAUSE: Duration = Duration::from_millis(200);
/// They come over this time, so that they do not all do the same at once.
const RAMP: Duration = Duration::from_secs(4);
/// What a slow reader is sent, and the most it lets the kernel keep for it.
const LARGE: usize = 32 << 10;
const WINDOW: u32 = 2 << 10;

/// Ways to be slow.
#[derive(Clone, Copy)]
enum Way {
    Head,
    Body,
    Read,
}

const WAYS: [(Way, &str); 3] = [(Way::Head, "slow heads"), (Way::Body, "slow bodies"), (Way::Read, "slow readers")];

/// How the besiegers of one way fared.
#[derive(Default)]
struct Fate {
    open: AtomicUsize,
    /// How long the hub bore each that it closed, and the first line it said.
    borne: Mutex<Vec<(Duration, String)>>,
    failed: AtomicUsize,
}

struct Siege {
    over: Arc<AtomicBool>,
    fates: Arc<[Fate; 3]>,
    thread: JoinHandle<()>,
}

impl Siege {
    /// Lays a siege with so many sockets. `session`: the slow readers' own.
    fn lay(address: SocketAddr, sockets: usize, session: Arc<str>) -> Siege {
        let (over, fates) = (Arc::<AtomicBool>::default(), Arc::<[Fate; 3]>::default());
        let (ends, seen) = (over.clone(), fates.clone());
        let thread = std::thread::spawn(move || {
            others::step_back();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let all = (0..sockets).map(|number| {
                    let after = RAMP.mul_f64(number as f64 / sockets as f64);
                    tokio::spawn(besiege(address, number % 3, after, session.clone(), ends.clone(), seen.clone()))
                });
                let all: Vec<_> = all.collect();
                let _ = timeout(PATIENCE * 4, join_all(all)).await;
            });
        });
        Siege { over, fates, thread }
    }

    fn open(&self) -> usize {
        self.fates.iter().map(|fate| fate.open.load(Ordering::Relaxed)).sum()
    }

    fn lift(self) -> Arc<[Fate; 3]> {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.fates
    }
}

/// One besieger, who comes again and again.
async fn besiege(
    address: SocketAddr,
    kind: usize,
    after: Duration,
    session: Arc<str>,
    over: Arc<AtomicBool>,
    fates: Arc<[Fate; 3]>,
) {
    let (way, fate) = (WAYS[kind].0, &fates[kind]);
    sleep(after).await;
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let Ok(mut socket) = attack(address, way, &session).await else {
            fate.failed.fetch_add(1, Ordering::Relaxed);
            sleep(DRIP).await;
            continue;
        };
        fate.open.fetch_add(1, Ordering::Relaxed);
        let said = drip(&mut socket, way, &over).await;
        fate.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(said) = said {
            fate.borne.lock().unwrap_or_else(PoisonError::into_inner).push((began.elapsed(), said));
            sleep(PAUSE).await;
        }
    }
}

/// Opens a socket and says all of a request but the slow part.
async fn attack(address: SocketAddr, way: Way, session: &str) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Way::Read = way {
        socket.set_recv_buffer_size(WINDOW)?;
    }
    let mut socket = socket.connect(address).await?;
    let head = "POST /echo/mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n\
                Content-Type: application/json\r\n";
    let text = match way {
        Way::Head => format!("{head}X-Slow: "),
        Way::Body => format!("{head}Content-Length: 1000000\r\n\r\n{{"),
        Way::Read => {
            let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params":
                { "name": "echo", "arguments": { "text": "x".repeat(LARGE) } } })
            .to_string();
            format!("{head}Mcp-Session-Id: {session}\r\nContent-Length: {}\r\n\r\n{call}", call.len())
        }
    };
    socket.write_all(text.as_bytes()).await?;
    if let Way::Read = way {
        // The server behind the hub is done with it: from here on it is the reader who is slow.
        socket.read_exact(&mut [0]).await?;
    }
    Ok(socket)
}

/// Goes on a byte at a time; what the hub said when it had enough, or none when the siege is over.
async fn drip(socket: &mut TcpStream, way: Way, over: &AtomicBool) -> Option<String> {
    let mut heard = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let closed = match way {
            Way::Read => {
                sleep(DRIP).await;
                socket.read(&mut [0]).await.unwrap_or(0) == 0
            }
            Way::Head | Way::Body => {
                // Whatever comes is the end of it.
                let read = timeout(DRIP, socket.read_to_end(&mut heard)).await;
                read.is_ok() || socket.write_all(b" ").await.is_err()
            }
        };
        if closed {
            let heard = String::from_utf8_lossy(&heard).into_owned();
            return Some(heard.lines().next().unwrap_or("closed").to_owned());
        }
    }
    None
}

/// Who is besieged, and a session there.
struct Besieged<'a>(&'a Hub, &'a Client);

/// What was seen in one try.
struct Seen {
    quiet: Times,
    busy: Times,
    open: usize,
    memory: (u64, u64),
    fates: Arc<[Fate; 3]>,
}

async fn attempt(besieged: Besieged<'_>, clients: &[Client], sockets: usize, calls: u64) -> Result<Seen, String> {
    let Besieged(hub, within) = besieged;
    let quiet = measure(clients, calls).await?;
    let before = memory(hub.pid());
    let address = hub.address().parse().map_err(|_| "no address")?;
    let siege = Siege::lay(address, sockets, within.session.as_str().into());
    let began = Instant::now();
    // Some are always about to come again.
    while siege.open() < sockets * 9 / 10 && began.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20)).await;
    }
    let open = siege.open();
    let busy = measure(clients, calls).await;
    // The last of the first wave has to be borne to its end.
    sleep(Duration::from_secs(8).saturating_sub(began.elapsed().saturating_sub(RAMP))).await;
    let during = memory(hub.pid());
    Ok(Seen { quiet, busy: busy?, open, memory: (before, during), fates: siege.lift() })
}

fn print(seen: &Seen) {
    println!("   {:<22}{:>8}{:>12}{:>12}{:>12}", "calls of others", "calls", "p50", "p99", "longest");
    for (name, times) in [("before", seen.quiet), ("during", seen.busy)] {
        let Times { calls, p50, p99, most } = times;
        println!("   {name:<22}{calls:>8}{p50:>12.1?}{p99:>12.1?}{most:>12.1?}");
    }
    println!("   {:<22}{:>8}{:>12}{:>12}{:>12}  with", "besiegers", "closed", "soonest", "median", "latest");
    for (fate, (_, name)) in seen.fates.iter().zip(WAYS) {
        let mut borne = fate.borne.lock().unwrap_or_else(PoisonError::into_inner);
        borne.sort_unstable();
        let at = |place: usize| borne.get(place).map_or("–".into(), |(after, _)| format!("{after:.1?}"));
        let (median, latest) = (at(borne.len() / 2), at(borne.len().saturating_sub(1)));
        let said = borne.first().map_or("", |(_, said)| said);
        println!("   {name:<22}{:>8}{:>12}{median:>12}{latest:>12}  {said}", borne.len(), at(0));
    }
}

/// How many were closed, and when nine of ten had been: a few look late because their own thread was.
fn closed(fate: &Fate) -> (usize, Duration) {
    let mut borne = fate.borne.lock().unwrap_or_else(PoisonError::into_inner);
    borne.sort_unstable();
    (borne.len(), borne.get(borne.len() * 9 / 10).map_or(Duration::ZERO, |(after, _)| *after))
}

/// Calls to a hub in peace, while the same is done to another one on this machine.
async fn siege_elsewhere(clients: &[Client], sockets: usize, calls: u64) -> Result<Times, String> {
    let other = Hub::start(&upstream("echo", "echo", "isolation = \"shared\""));
    let within = Client::open(&other, "/echo/mcp").await?;
    let seen = attempt(Besieged(&other, &within), clients, sockets, calls).await?;
    println!("   while another hub is besieged:");
    print(&seen);
    Ok(seen.busy)
}

/// What calls take without a siege of their hub.
fn usual(seen: &Seen, elsewhere: Option<Times>) -> Duration {
    elsewhere.map_or(seen.quiet.p99, |times| times.p99.max(seen.quiet.p99))
}

pub async fn siege(report: &mut Report, short: bool) {
    let (mut sockets, calls, part) = if short { (2000, 500, 25) } else { (10_000, 2500, 10) };
    let room = (descriptors_allowed(sockets as u64 + 500).saturating_sub(500)) as usize;
    if room < sockets {
        report.figure("fewer sockets than wanted, for want of descriptors; `ulimit -n 16384` helps", room);
        sockets = room;
    }
    let hub = Hub::start(&upstream("echo", "echo", "isolation = \"shared\""));
    let clients = match others::open(&hub, "/echo/mcp").await {
        Ok(clients) => clients,
        Err(error) => return report.holds("a session", false, error),
    };
    let warm = measure(&clients, 200).await;
    let descriptors_before = descriptors(hub.pid());
    // On few cores the besiegers take from everybody, whomever they besiege. What is left over is the hub's.
    let elsewhere = match short {
        true => None,
        false => match siege_elsewhere(&clients, sockets, calls).await {
            Ok(times) => Some(times),
            Err(error) => return report.holds("another hub is besieged", false, error),
        },
    };
    // Whoever else uses this machine is noticed too, so one good try is enough.
    let mut last = Err(format!("{:?}", warm.err()));
    for _ in 0..3 {
        last = attempt(Besieged(&hub, &clients[0]), &clients, sockets, calls).await;
        let Ok(seen) = &last else { continue };
        print(seen);
        if seen.busy.p99 <= bearable(usual(seen, elsewhere), part) {
            break;
        }
    }
    let seen = match last {
        Ok(seen) => seen,
        Err(error) => return report.holds("calls are answered", false, error),
    };
    report.holds("F31-F33 the besiegers are there", seen.open * 10 >= sockets * 9, format!("{} sockets", seen.open));
    let most = bearable(usual(&seen, elsewhere), part);
    let other = elsewhere.map_or_else(String::new, |times| format!(", with them at another hub {:.2?}", times.p99));
    let (was, is) = (seen.quiet.p99, seen.busy.p99);
    let text = format!("99th {is:.2?}, without them {was:.2?}{other}, bearable {most:.2?}");
    report.holds("F31 others hardly notice", seen.busy.p99 <= most, text);
    let deadline = Duration::from_secs(8);
    for (fate, row) in seen.fates.iter().zip(["F31 slow heads", "F32 slow bodies"]) {
        let (count, after) = closed(fate);
        let wished = count >= sockets / 3 * 9 / 10 && after < deadline;
        report.holds(
            &format!("{row} are closed after 5 s"),
            wished,
            format!("{count}, nine of ten within {after:.1?}"),
        );
    }
    let failed: usize = seen.fates.iter().map(|fate| fate.failed.load(Ordering::Relaxed)).sum();
    report.figure("sockets that could not be opened at once", failed);
    let (before, during) = seen.memory;
    let each = during.saturating_sub(before) as f64 / seen.open.max(1) as f64;
    report.figure("the hub's memory", format!("{before} KiB before, {during} during: {each:.1} KiB a socket"));
    let began = Instant::now();
    while descriptors(hub.pid()) > descriptors_before + 8 && began.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20)).await;
    }
    let after = descriptors(hub.pid());
    report.holds(
        "all places are free again",
        after <= descriptors_before + 8,
        format!("{descriptors_before}, {after}"),
    );
}
