//! `hubward healthcheck`: is the hub of this machine alive? For containers, which have no curl.
//!
//! It asks at an address of the hub's own file. A file that is broken says nothing of the hub that runs: then, and where
//! the hub wants certificates of its clients, the admin socket is asked.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{ConfigFlag, FAILED, Globals, OK, fail, say};
use crate::{
    config::{self, Bind, HubConfig, Scheme},
    link::remote::{
        HttpSpec,
        probe::{Prober, Question},
    },
};

/// What is read of an answer: it is one word.
const WORD_BYTES_MAX: usize = 256;

#[derive(clap::Args)]
pub struct Args {
    /// Is it ready for work (/readyz), and not only alive (/healthz)?
    #[arg(long)]
    ready: bool,
    /// Ask there, and not where the file says: HOST:PORT, https://HOST:PORT or unix:PATH, as in `serve --bind`
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<Bind>,
    /// The longest wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    config: ConfigFlag,
}

/// Where the hub is asked.
#[derive(Debug, PartialEq, Eq)]
struct Door {
    url: String,
    socket: Option<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let file = config::find(globals.file(&args.config).as_deref());
    let hub = file.as_ref().ok().and_then(|path| config::hub_alone(path));
    let doors = match (&args.bind, &hub) {
        (Some(bind), _) => doors(std::slice::from_ref(bind), None),
        (None, Some(hub)) => doors(&hub.bind, Some(hub)),
        (None, None) => Vec::new(),
    };
    let page = if args.ready { "readyz" } else { "healthz" };
    let within = Duration::from_secs(args.timeout);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format!("cannot start: {error}")),
    };
    let mut told = Vec::new();
    match runtime.block_on(ask(&doors, page, within)) {
        Ok(word) => {
            say(word);
            return OK;
        }
        Err(why) => told.extend(why),
    }
    match (&args.bind, file) {
        (Some(_), _) => {}
        (None, Ok(path)) => match runtime.block_on(ask_admin(&path, args.ready, within)) {
            Ok(word) => {
                say(word);
                return OK;
            }
            Err(why) => told.push(why),
        },
        (None, Err(error)) => told.push(format!("{error}; or name the address with --bind")),
    }
    fail(FAILED, told.join("; "))
}

/// The ways to the hub, the simplest first. Without a port that is known there is none.
fn doors(binds: &[Bind], hub: Option<&HubConfig>) -> Vec<Door> {
    let certified = hub.is_some_and(|hub| hub.tls.is_some());
    let mut doors: Vec<(u8, Door)> = Vec::new();
    for bind in binds {
        if let Scheme::Unix(path) = &bind.scheme {
            doors.push((0, Door { url: "http://localhost".into(), socket: Some(path.clone()) }));
            continue;
        }
        if bind.port == 0 {
            continue;
        }
        let host = match bind.host.parse::<IpAddr>() {
            // What stands for all addresses is none that could be asked.
            Ok(address) if address.is_unspecified() && address.is_ipv4() => "127.0.0.1".into(),
            Ok(address) if address.is_unspecified() => "[::1]".into(),
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => bind.host.clone(),
        };
        let door = |scheme: &str| Door { url: format!("{scheme}://{host}:{}", bind.port), socket: None };
        let plain = bind.scheme != Scheme::Https && !bind.is_secure(certified);
        doors.extend(plain.then(|| (1, door("http"))));
        // Its certificate may just be unreadable.
        doors.extend((bind.scheme != Scheme::Http).then(|| (2, door("https"))));
    }
    doors.sort_by_key(|(rank, _)| *rank);
    doors.into_iter().map(|(_, door)| door).collect()
}

/// The word that one of them answers with, or why none does.
async fn ask(doors: &[Door], page: &str, within: Duration) -> Result<String, Vec<String>> {
    let (mut told, end) = (Vec::new(), Instant::now() + within);
    for door in doors {
        let left = end.saturating_duration_since(Instant::now());
        match asked(door, page, left).await {
            Ok((200, word)) => return Ok(word),
            // It answers: nobody else has to be asked.
            Ok((503, word)) => return Err(vec![format!("{}/{page}: {word}", door.url)]),
            Ok((status, word)) => told.push(format!("{}/{page}: HTTP {status}, {word}", door.url)),
            Err(why) => told.push(format!("{}/{page}: {why}", door.url)),
        }
    }
    Err(told)
}

async fn asked(door: &Door, page: &str, within: Duration) -> Result<(u16, String), String> {
    // It is this machine, whatever its certificate says.
    let spec = HttpSpec { unverified: true, ..HttpSpec::default() };
    let prober = Prober::new(&spec, door.socket.as_deref())?;
    let (url, headers) = (format!("{}/{page}", door.url), [("host", "localhost")]);
    let heard = prober.ask(&Question { method: "GET", url: &url, headers: &headers, body: None }, within).await?;
    let status = heard.status;
    let word = heard.body(WORD_BYTES_MAX, within, |_| false).await;
    let word: String = String::from_utf8_lossy(&word).chars().filter(|c| !c.is_control()).collect();
    Ok((status, word))
}

/// The admin socket is there as soon as the hub serves, and knows whether it finishes.
#[cfg(unix)]
async fn ask_admin(file: &Path, ready: bool, within: Duration) -> Result<String, String> {
    use crate::admin::{ask, place};
    let socket = config::admin_socket(file).unwrap_or_else(|| place::default(file));
    let question = serde_json::json!({ "command": "status", "upstream": null });
    let mut draining = None;
    let asked = ask::ask(&socket, &question, |status| {
        draining = status["draining"].as_bool();
        std::ops::ControlFlow::Continue(())
    });
    match tokio::time::timeout(within, asked).await {
        Err(_) => Err(format!("{}: no answer", socket.display())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) if ready && draining != Some(false) => Err("not ready".into()),
        Ok(Ok(_)) => Ok(if ready { "ready" } else { "ok" }.into()),
    }
}

#[cfg(not(unix))]
async fn ask_admin(_: &Path, _: bool, _: Duration) -> Result<String, String> {
    Err("name the address with --bind".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_is_asked_where_it_can_be() {
        let check = |binds: &[&str], expected: &[&str]| {
            let binds: Vec<Bind> = binds.iter().map(|bind| bind.parse().unwrap()).collect();
            let doors = doors(&binds, None);
            let doors = doors.into_iter().map(|door| match door.socket {
                Some(path) => path.display().to_string(),
                None => door.url,
            });
            assert_eq!(doors.collect::<Vec<_>>(), expected, "{binds:?}");
        };
        check(&["127.0.0.1:8808"], &["http://127.0.0.1:8808", "https://127.0.0.1:8808"]);
        check(&["http://0.0.0.0:80"], &["http://127.0.0.1:80"]);
        check(&["https://[::]:443"], &["https://[::1]:443"]);
        check(&["[fd00::1]:8808"], &["http://[fd00::1]:8808", "https://[fd00::1]:8808"]);
        check(
            &["https://hub:443", "http://hub:80", "unix:/run/x.sock"],
            &["/run/x.sock", "http://hub:80", "https://hub:443"],
        );
        check(&["127.0.0.1:0"], &[]);
    }
}
