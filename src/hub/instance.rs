//! One process of an upstream, or one connection to it, from its start to its end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio_util::task::TaskTracker;

use super::{
    engine::Engine,
    peer::{End, Peer},
    remote::Far,
    routes::Serving,
};
use crate::{
    bridge::{
        Bridged,
        feed::{Feed, Hear},
        handshake::{Greeting, HandshakeError, Met, meet},
        older::own_params,
    },
    config::{Name, UpstreamConfig},
    link::{
        connection::{Attribution, CallError, Connection, ConnectionWatch},
        home::Home,
        process::Printed,
    },
    observe::journal::{Journal, Kind},
};

/// How often a process that let a call time out is asked for a sign of life, and how long each time.
const PROBES: u32 = 3;
const PROBE_WAIT_MAX: Duration = Duration::from_secs(10);
const PROBE_PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for the cause of a death during the start, which is worth more than a moment.
const OBITUARY_WAIT_MAX: Duration = Duration::from_secs(1);
/// Patience before each harder way of stopping a process that only had to say what it speaks.
const PROBE_STOP_MAX: Duration = Duration::from_millis(500);
/// Lines of stderr that accompany an error in the status.
pub const STDERR_LINES: usize = 50;
/// Lines that a caller is told, where it may see them.
const EXPOSED_LINES: usize = 10;
/// Characters of such a line that stand within a sentence.
const WORDS_CHARS_MAX: usize = 300;

/// A peer that was started and greeted.
pub struct Instance {
    pub peer: Peer,
    pub watch: ConnectionWatch,
    /// What a living process answers, whatever else it does; and its parameters.
    sign: (&'static str, Option<String>),
}

/// Why a process did not get ready.
#[derive(Clone, Debug)]
pub struct StartError {
    /// What a client may know: no paths, and stderr only where the configuration says so.
    pub public: String,
    /// What the operator is told.
    pub full: String,
    pub stderr: Vec<String>,
    /// The process was fine, but answered our greeting with an error.
    pub refused: bool,
    /// It was greeted as what it is not.
    pub wrong_era: bool,
    /// A person has to log in first.
    pub unauthorized: bool,
}

/// Everything a start needs.
pub struct StartSpec {
    pub name: Name,
    pub config: Arc<UpstreamConfig>,
    /// Where it is somewhere else.
    pub far: Option<Arc<Far>>,
    pub engine: Arc<Engine>,
    /// Its number.
    pub number: u64,
    pub serving: Arc<Serving>,
    pub attribution: Attribution,
    pub greeting: Greeting,
    /// Who hears what the process says to no call in particular.
    pub hear: Hear,
    /// What the process prints on stderr goes there.
    pub journal: Arc<Journal>,
    /// Told of the peer before it is greeted.
    pub spawned: Box<dyn FnOnce(Peer)>,
    /// Owns the wait for a process that did not get ready.
    pub tasks: TaskTracker,
}

/// Ends a peer whose start was given up.
struct StopOnDrop {
    peer: Option<Peer>,
    tasks: TaskTracker,
    engine: Arc<Engine>,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let Some(peer) = self.peer.take() else { return };
        let engine = self.engine.clone();
        self.tasks.spawn_local(async move { stopped(&peer, &engine).await });
    }
}

/// Stops a peer and waits for its end.
async fn stopped(peer: &Peer, engine: &Engine) -> End {
    peer.stop();
    tokio::select! {
        end = peer.ended() => end,
        () = engine.at_once.cancelled() => {
            peer.kill();
            peer.ended().await
        }
    }
}

/// What came of a start.
pub enum Started {
    Ready(Arc<Bridged>, Instance),
    /// It was asked what it speaks, and is gone: to be started again, and greeted accordingly.
    Again {
        modern: bool,
    },
}

/// Starts and greets a peer. Runs on the main thread, which forks.
pub async fn start(spec: StartSpec) -> Result<Started, StartError> {
    let config = &spec.config;
    let starts = spec.engine.starts.load_full();
    // Reaching out costs us nothing, and may wait for long.
    let _permit = match spec.far {
        None => Some(starts.acquire_owned().await),
        Some(_) => None,
    };
    let io = spec.engine.workers.pick().await;
    let home = {
        let engine = spec.engine.clone();
        Home::new(io.clone(), move |worker| engine.workers.include(worker))
    };
    let opened = Peer::open(&spec.name, config, spec.far.as_ref(), &spec.engine, home, |process| {
        if matches!(spec.greeting, Greeting::Ask) {
            // One that is thrown away has nothing to finish.
            process.stop_timeout = process.stop_timeout.min(PROBE_STOP_MAX);
        }
        let journal = spec.journal.clone();
        process.hears = Some(Arc::new(move |pid, printed| note_down(&journal, pid, printed)));
    });
    let (peer, link) = opened.map_err(|error| StartError::of(error.public, error.full))?;
    (spec.spawned)(peer.clone());
    let mut guard = StopOnDrop { peer: Some(peer.clone()), tasks: spec.tasks.clone(), engine: spec.engine.clone() };
    let obituary = {
        let (peer, config, serving) = (peer.clone(), config.clone(), spec.serving.clone());
        async move {
            let why = peer.ended().await.why;
            // What is configured may have changed meanwhile.
            let open = serving.exposes_errors.load(Ordering::Relaxed);
            let words = if open { shown(&config, &peer.stderr_tail(EXPOSED_LINES)) } else { Vec::new() };
            words.last().map(|last| last_words(last)).map_or(why.clone(), |words| why + &words)
        }
    };
    let name: Arc<str> = spec.name.as_str().into();
    let calls_max = spec.engine.limits.load().calls_in_flight_max;
    let hear = spec.hear.clone();
    let unsolicited = move |message| hear(message, &None);
    let connection = Connection::open(name.clone(), link, &io, calls_max, spec.attribution, unsolicited, obituary);
    connection.record(spec.serving.recorder.probe(spec.number, peer.pid()));
    let greeted = meet(&connection, &spec.greeting, &name, config.start_timeout, peer.is_remote()).await;
    if let Err(HandshakeError::Call(CallError::Lost { .. })) = &greeted {
        let _ = tokio::time::timeout(OBITUARY_WAIT_MAX, peer.ended()).await;
    }
    let met = greeted.map_err(|error| not_started(&error, &peer, &spec.greeting))?;
    guard.peer = None;
    if let Peer::Remote(remote, far) = &peer {
        far.learn(remote.transport());
    }
    let mut profile = match met {
        Met::Ready(profile) => profile,
        Met::Again { modern } => {
            // Before the next one starts: it may hold what only one can have.
            stopped(&peer, &spec.engine).await;
            return Ok(Started::Again { modern });
        }
    };
    if let Some(remote) = peer.remote().filter(|_| !profile.is_modern())
        && !remote.hears().await
    {
        profile.tells_nothing();
    }
    let watch = connection.watch();
    let modern = profile.is_modern();
    // A process of ours is one for everybody.
    let apart = peer.is_remote();
    let feed = modern.then(|| Feed::start(watch.clone(), &profile.result["capabilities"], spec.hear, &io, apart));
    let bridged = Bridged { connection, profile: Arc::new(profile), feed };
    // The newer revision has no `ping`.
    let sign = match bridged.profile.is_modern() {
        true => ("server/discover", own_params(None)),
        false => ("ping", None),
    };
    Ok(Started::Ready(Arc::new(bridged), Instance { peer, watch, sign }))
}

/// What a process printed becomes lines of the upstream.
fn note_down(journal: &Journal, pid: u32, printed: Vec<Printed>) {
    let lines = printed.into_iter().map(|printed| match printed {
        Printed::Line(text) => (Kind::Stderr, text),
        Printed::Dropped(lines) => (Kind::Hub, format!("{lines} lines dropped: they came too fast")),
    });
    journal.extend(Some(pid), lines);
}

impl StartError {
    fn of(public: String, full: String) -> StartError {
        StartError { public, full, stderr: Vec::new(), refused: false, wrong_era: false, unauthorized: false }
    }
}

/// Lines on stderr as callers may see them.
pub fn shown(config: &UpstreamConfig, lines: &[String]) -> Vec<String> {
    let said: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    said[said.len().saturating_sub(EXPOSED_LINES)..].iter().map(|line| config.masked(line)).collect()
}

/// What a process said before it ended, behind how it ended.
pub fn last_words(line: &str) -> String {
    let words: String = line.chars().take(WORDS_CHARS_MAX).collect();
    format!(" (its last words: {})", words.trim())
}

/// Why a peer that was started is of no use.
fn not_started(error: &HandshakeError, peer: &Peer, greeting: &Greeting) -> StartError {
    let why = match error {
        HandshakeError::Call(CallError::Lost { why, .. }) if !peer.is_remote() => {
            let end = peer.end().filter(|end| !end.clean);
            format!("{} before it was ready", end.map_or_else(|| why.to_string(), |end| end.why))
        }
        HandshakeError::Call(CallError::Timeout { limit, .. }) => {
            let asked = match greeting {
                Greeting::Legacy(_) => "`initialize`",
                Greeting::Modern => "`server/discover`",
                Greeting::Ask if peer.is_remote() => "`server/discover`",
                Greeting::Ask => "`server/discover` or `initialize`",
            };
            format!("did not answer {asked} within {limit:?} (start_timeout)")
        }
        HandshakeError::Call(error) => error.reason(),
        other => other.to_string(),
    };
    let stderr = peer.stderr_tail(STDERR_LINES);
    let last = stderr.last().map(|line| format!("; stderr: {line}")).unwrap_or_default();
    let visit = match error {
        HandshakeError::Call(CallError::Unauthorized { visit: Some(visit), .. }) => format!("; log in at {visit}"),
        _ => String::new(),
    };
    let refused = matches!(error, HandshakeError::Refused(_));
    let wrong_era = matches!(error, HandshakeError::NotModern | HandshakeError::NotLegacy);
    let unauthorized = matches!(error, HandshakeError::Call(CallError::Unauthorized { .. }));
    let (public, full) = (why.clone(), format!("{why}{last}{visit}"));
    StartError { stderr, refused, wrong_era, unauthorized, ..StartError::of(public, full) }
}

impl Instance {
    /// Keeps watch until the peer is gone, and answers whether that was our wish, and the cause.
    pub async fn keep(&self, engine: &Engine) -> (bool, String) {
        let asked = tokio::select! {
            biased;
            // Who finds it dead lets go of it: that may come first, and makes a death no wish of ours.
            () = self.watch.closing() => !self.watch.died(),
            () = self.watch.ended() => !self.watch.died(),
            () = engine.at_once.cancelled() => {
                self.watch.close("was stopped: the hub is shutting down");
                true
            }
            () = self.unresponsive() => {
                self.watch.give_up("does not respond");
                self.peer.kill();
                false
            }
        };
        let end = stopped(&self.peer, engine).await;
        let why = match end.clean && !asked {
            true if self.peer.is_remote() => self.watch.why().to_string(),
            true => "stopped responding or closed its output, and was stopped".to_owned(),
            false => end.why,
        };
        (asked, why)
    }

    /// Resolves when a process that let a call time out gives no sign of life either.
    async fn unresponsive(&self) {
        loop {
            self.watch.suspected().await;
            let mut silent = 0;
            while silent < PROBES {
                let began = tokio::time::Instant::now();
                let (method, params) = (self.sign.0, self.sign.1.as_deref());
                let answers = self.watch.answers(method, params, PROBE_WAIT_MAX).await;
                if answers || self.watch.silent_for() < began.elapsed() {
                    break;
                }
                silent += 1;
                // One that cannot be reached says so at once, and may be back in a moment.
                tokio::time::sleep(PROBE_PAUSE).await;
            }
            if silent == PROBES {
                return;
            }
        }
    }
}
