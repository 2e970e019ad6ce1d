//! From a [`Target`] to a server that was greeted: what the hub does for an upstream, once and without a hub.
//!
//! An older stdio server that was asked what it speaks is of no use afterwards; it is started again, as the hub does.
//! Invariant: whatever was opened is in [`Opened`], and is seen off before we end.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{
    stop::{self, Stop},
    target::Target,
};
use crate::{
    bridge::{
        Profile,
        feed::Hear,
        handshake::{Greeting, HandshakeError, Hello, Met, meet},
        older::{Introduction, hub_info},
    },
    cli::UNREACHABLE,
    config::Era,
    hub::{
        peer::{Peer, process_spec},
        remote::Far,
    },
    link::{
        connection::{Attribution, CallError, Connection},
        process, remote,
    },
    wire::Revision,
};

/// A single result may be a film. It is kept in memory once or twice.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// We make one call at a time.
const CALLS_MAX: usize = 8;
/// How often a server is opened: to be asked, and for each of its two possible answers.
const TRIES_MAX: u32 = 3;
/// How long a remote server may take to hear that its session is over.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// How long the cause of a death is waited for.
const OBITUARY_WAIT_MAX: Duration = Duration::from_secs(1);
/// A process that only had to say what it speaks has nothing to finish.
const PROBE_STOP_MAX: Duration = Duration::from_millis(500);
/// Lines of stderr that explain why a command did not get ready.
const STDERR_LINES: usize = 10;

/// All that was opened for one target.
#[derive(Default)]
pub struct Opened(Mutex<Vec<Peer>>);

/// What we say of ourselves.
pub struct Ourselves {
    pub hello: Hello,
    pub introduction: Introduction,
}

impl Ourselves {
    /// `askable`: a person is there to answer questions.
    pub fn new(askable: bool) -> Ourselves {
        let capabilities = if askable { json!({ "elicitation": { "form": {} } }) } else { json!({}) };
        let params = json!({ "capabilities": capabilities, "clientInfo": hub_info() });
        let introduction = Introduction::of_client(&params, Revision::LATEST);
        Ourselves { hello: Hello::of_client(params, Revision::LATEST), introduction }
    }
}

/// Reaches for a server and greets it.
pub async fn dial(
    target: &Target,
    ourselves: &Ourselves,
    hear: &Hear,
    opened: &Opened,
) -> Result<(Connection, Profile), Stop> {
    let far = target.config.remote.as_ref().map(|config| Far::new(config.clone(), target.credentials.clone()));
    let legacy = || Greeting::Legacy(ourselves.hello.clone());
    let mut greeting = match target.config.era {
        Era::Auto => Greeting::Ask,
        Era::Legacy => legacy(),
        Era::Modern => Greeting::Modern,
    };
    for _ in 0..TRIES_MAX {
        let modern = matches!(greeting, Greeting::Modern);
        let probe = matches!(greeting, Greeting::Ask);
        let attribution = match far.is_some() && !matches!(greeting, Greeting::Legacy(_)) {
            true => Attribution::Streams,
            false => Attribution::OneClient,
        };
        let (peer, connection) = open(target, far.as_ref(), attribution, probe, hear, opened)?;
        let limit = target.config.start_timeout;
        let met = meet(&connection, &greeting, target.name.as_str(), limit, peer.is_remote()).await;
        if let (Peer::Remote(remote, far), true) = (&peer, met.is_ok()) {
            far.learn(remote.transport());
        }
        match met {
            Ok(Met::Ready(profile)) => return Ok((connection, profile)),
            Ok(Met::Again { modern: again }) if modern != again || probe => {
                drop(connection);
                opened.close().await;
                greeting = if again { Greeting::Modern } else { legacy() };
            }
            Ok(Met::Again { .. }) => break,
            Err(error) => return Err(not_greeted(&error, &peer).await),
        }
    }
    Err(Stop::failed("it does not say what it speaks; try --era"))
}

/// Reaches for a server that is not greeted, because what is to be sent is the greeting.
pub fn silently(target: &Target, hear: &Hear, opened: &Opened) -> Result<Connection, Stop> {
    let far = target.config.remote.as_ref().map(|config| Far::new(config.clone(), target.credentials.clone()));
    open(target, far.as_ref(), Attribution::OneClient, false, hear, opened).map(|(_, connection)| connection)
}

fn open(
    target: &Target,
    far: Option<&Arc<Far>>,
    attribution: Attribution,
    probe: bool,
    hear: &Hear,
    opened: &Opened,
) -> Result<(Peer, Connection), Stop> {
    let (name, config, io) = (&target.name, &target.config, Handle::current());
    let (peer, link) = match far {
        Some(far) => {
            let (remote, link) = remote::open(far.spec(name, MESSAGE_BYTES_MAX, true).map_err(Stop::usage)?, &io);
            (Peer::Remote(remote, far.clone()), link)
        }
        None => {
            let executable = std::env::current_exe().ok();
            let mut spec = process_spec(name, config, executable.as_deref(), MESSAGE_BYTES_MAX);
            if probe {
                spec.stop_timeout = spec.stop_timeout.min(PROBE_STOP_MAX);
            }
            let started = process::spawn(&spec, &io);
            let (process, link) = started.map_err(|error| Stop::new(UNREACHABLE, error.to_string()))?;
            (Peer::Process(process), link)
        }
    };
    opened.lock().push(peer.clone());
    let obituary = {
        let peer = peer.clone();
        async move { peer.ended().await.why }
    };
    let hear = hear.clone();
    let unsolicited = move |message| hear(message, &None);
    let name: Arc<str> = name.as_str().into();
    Ok((peer, Connection::open(name, link, &io, CALLS_MAX, attribution, unsolicited, obituary)))
}

async fn not_greeted(error: &HandshakeError, peer: &Peer) -> Stop {
    if let HandshakeError::Call(CallError::Lost { .. }) = error {
        let _ = tokio::time::timeout(OBITUARY_WAIT_MAX, peer.ended()).await;
    }
    let mut stop = match error {
        HandshakeError::Call(CallError::Lost { why, .. }) if !peer.is_remote() => {
            let end = peer.end().filter(|end| !end.clean).map_or_else(|| why.to_string(), |end| end.why);
            Stop::new(UNREACHABLE, format!("it {end} before it was ready"))
        }
        HandshakeError::Call(error) => stop::of_call(error, false),
        other => Stop::failed(other.to_string()),
    };
    for line in peer.stderr_tail(STDERR_LINES) {
        stop.text.push_str("\n  stderr: ");
        stop.text.push_str(&line);
    }
    stop
}

impl Opened {
    /// Sees everything off: sessions are ended, processes stopped.
    pub async fn close(&self) {
        let peers = std::mem::take(&mut *self.lock());
        for peer in &peers {
            peer.stop();
        }
        for peer in &peers {
            match peer {
                Peer::Remote(..) => drop(tokio::time::timeout(FAREWELL_MAX, peer.ended()).await),
                // Its own patience is limited.
                Peer::Process(_) | Peer::Inside(_) => drop(peer.ended().await),
            }
        }
    }

    /// The last words of a process.
    pub fn stderr(&self) -> Vec<String> {
        self.lock().last().map(|peer| peer.stderr_tail(STDERR_LINES)).unwrap_or_default()
    }

    /// How a remote server turned out to speak.
    pub fn transport(&self) -> Value {
        let remote = self.lock().last().and_then(|peer| peer.remote().map(|remote| remote.transport()));
        match remote {
            None => "stdio".into(),
            Some(Some(remote::Transport::Sse)) => "sse".into(),
            Some(Some(remote::Transport::StreamableHttp)) => "streamable-http".into(),
            Some(_) => Value::Null,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Peer>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
