//! Clients that call at their pace while something else happens, and how long their calls take.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::interval;

use crate::{client::Client, hub::Hub};

/// The measuring clients, and how often each calls.
const OTHERS: u64 = 4;
const PACE: Duration = Duration::from_millis(10);

/// Opens the clients.
pub async fn open(hub: &Hub, path: &str) -> Result<Vec<Client>, String> {
    let mut clients = Vec::new();
    for _ in 0..OTHERS {
        clients.push(Client::open(hub, path).await?);
    }
    Ok(clients)
}

/// They come from elsewhere: what they cost on this machine is not to be taken from the hub and its clients. Of low
/// priority is not enough: such a thread keeps its core for milliseconds once it has it.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    {
        let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
        let idle = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
        if !idle.is_ok_and(|status| status.success()) {
            let _ = rustix::process::nice(19);
        }
    }
}

/// How long calls took.
#[derive(Clone, Copy, Default)]
pub struct Times {
    pub calls: usize,
    pub p50: Duration,
    pub p99: Duration,
    pub most: Duration,
}

/// Clients that call at their pace, as they did before. At full speed they would have no core left for anybody, and
/// every siege would be theirs.
pub async fn measure(clients: &[Client], calls: u64) -> Result<Times, String> {
    let each = clients.iter().map(async |client| {
        let (mut took, mut pace) = (Vec::new(), interval(PACE));
        for id in 0..calls {
            pace.tick().await;
            let began = Instant::now();
            client.call(id, "echo", json!({ "text": "x" })).await?;
            took.push(began.elapsed());
        }
        Ok::<_, String>(took)
    });
    let mut took = Vec::new();
    for one in join_all(each).await {
        took.extend(one?);
    }
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
    Ok(Times {
        calls: took.len(),
        p50: at(50),
        p99: at(99),
        most: at(100).max(took.last().copied().unwrap_or_default()),
    })
}

/// What closes together is closed together: unoptimised that takes tens of milliseconds, and says nothing of the hub.
const UNOPTIMISED: Duration = Duration::from_millis(25);

/// The longest that calls may take: so many parts of a hundred more, or a millisecond, whichever is more.
pub fn bearable(quiet: Duration, part: u32) -> Duration {
    let build = if cfg!(debug_assertions) { UNOPTIMISED } else { Duration::ZERO };
    quiet + (quiet * part / 100).max(Duration::from_millis(1)) + build
}
