//! One process of an upstream, from its start to its end.

use std::{ffi::OsString, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::engine::Engine;
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
        process::{self, Exit, Process, ProcessSpec},
    },
};

/// How often a process that let a call time out is asked for a sign of life, and how long each time.
const PROBES: u32 = 3;
const PROBE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the cause of a death during the start, which is worth more than a moment.
const OBITUARY_WAIT_MAX: Duration = Duration::from_secs(1);
/// Patience before each harder way of stopping a process that only had to say what it speaks.
const PROBE_STOP_MAX: Duration = Duration::from_millis(500);
/// Lines of stderr that accompany an error.
pub const STDERR_LINES: usize = 50;

/// A process that was started and greeted.
pub struct Instance {
    pub process: Process,
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
}

/// Everything a start needs.
pub struct StartSpec {
    pub name: Name,
    pub config: Arc<UpstreamConfig>,
    pub engine: Arc<Engine>,
    pub attribution: Attribution,
    pub greeting: Greeting,
    /// Who hears what the process says to no call in particular.
    pub hear: Hear,
    /// Told of the process before it is greeted.
    pub spawned: Box<dyn FnOnce(Process)>,
    /// Owns the wait for a process that did not get ready.
    pub tasks: TaskTracker,
}

/// Ends a process whose start was given up.
struct StopOnDrop {
    process: Option<Process>,
    tasks: TaskTracker,
    engine: Arc<Engine>,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else { return };
        let engine = self.engine.clone();
        self.tasks.spawn_local(async move { stopped(&process, &engine).await });
    }
}

/// Stops a process and waits for its end.
async fn stopped(process: &Process, engine: &Engine) -> Exit {
    process.stop();
    tokio::select! {
        exit = process.exited() => exit,
        () = engine.at_once.cancelled() => {
            process.kill();
            process.exited().await
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

/// Starts and greets a process. Runs on the main thread, which forks.
pub async fn start(spec: StartSpec) -> Result<Started, StartError> {
    let config = &spec.config;
    let starts = spec.engine.starts.load_full();
    let _permit = starts.acquire_owned().await;
    let io = spec.engine.workers.pick().await;
    let limits = spec.engine.limits.load_full();
    let mut process_spec = process_spec(&spec.name, config, &spec.engine, limits.message_bytes_max);
    if matches!(spec.greeting, Greeting::Ask) {
        // One that is thrown away has nothing to finish.
        process_spec.stop_timeout = process_spec.stop_timeout.min(PROBE_STOP_MAX);
    }
    let (process, link) = process::spawn(&process_spec, &io).map_err(|error| StartError {
        public: error.for_clients().to_owned(),
        full: error.to_string(),
        stderr: Vec::new(),
        refused: false,
        wrong_era: false,
    })?;
    (spec.spawned)(process.clone());
    let mut guard =
        StopOnDrop { process: Some(process.clone()), tasks: spec.tasks.clone(), engine: spec.engine.clone() };
    let obituary = {
        let process = process.clone();
        async move { process.exited().await.to_string() }
    };
    let name: Arc<str> = spec.name.as_str().into();
    let calls_max = limits.calls_in_flight_max;
    let hear = spec.hear.clone();
    let unsolicited = move |message| hear(message);
    let connection = Connection::open(name.clone(), link, &io, calls_max, spec.attribution, unsolicited, obituary);
    let greeted = meet(&connection, &spec.greeting, &name, config.start_timeout).await;
    if let Err(HandshakeError::Call(CallError::Lost { .. })) = &greeted {
        let _ = tokio::time::timeout(OBITUARY_WAIT_MAX, process.exited()).await;
    }
    let met = greeted.map_err(|error| {
        let why = match &error {
            HandshakeError::Call(CallError::Lost { why, .. }) => {
                let exit = process.exit().filter(|exit| !exit.stopped || exit.fault.is_some());
                format!("{} before it was ready", exit.map_or_else(|| why.to_string(), |exit| exit.to_string()))
            }
            HandshakeError::Call(CallError::Timeout { limit, .. }) => {
                let asked = match spec.greeting {
                    Greeting::Legacy(_) => "`initialize`",
                    Greeting::Modern => "`server/discover`",
                    Greeting::Ask => "`server/discover` or `initialize`",
                };
                format!("did not answer {asked} within {limit:?} (start_timeout)")
            }
            other => other.to_string(),
        };
        let stderr = process.stderr_tail(STDERR_LINES);
        let last = stderr.last().map(|line| format!("; stderr: {line}")).unwrap_or_default();
        let shown = match config.expose_errors {
            true => stderr.iter().rev().take(10).rev().map(|line| format!("\n{line}")).collect(),
            false => String::new(),
        };
        let refused = matches!(error, HandshakeError::Refused(_));
        let wrong_era = matches!(error, HandshakeError::NotModern | HandshakeError::NotLegacy);
        StartError { public: format!("{why}{shown}"), full: format!("{why}{last}"), stderr, refused, wrong_era }
    })?;
    guard.process = None;
    let profile = match met {
        Met::Ready(profile) => profile,
        Met::Again { modern } => {
            // Before the next one starts: it may hold what only one can have.
            stopped(&process, &spec.engine).await;
            return Ok(Started::Again { modern });
        }
    };
    let watch = connection.watch();
    let feed = profile.is_modern().then(|| Feed::start(watch.clone(), &profile.result["capabilities"], spec.hear, &io));
    let bridged = Bridged { connection, profile: Arc::new(profile), feed };
    // The newer revision has no `ping`.
    let sign = match bridged.profile.is_modern() {
        true => ("server/discover", own_params(None)),
        false => ("ping", None),
    };
    Ok(Started::Ready(Arc::new(bridged), Instance { process, watch, sign }))
}

impl Instance {
    /// Keeps watch until the process is gone, and answers whether that was our wish, and the cause.
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
                self.watch.close("does not respond");
                self.process.kill();
                false
            }
        };
        let exit = stopped(&self.process, engine).await;
        let why = match exit {
            Exit { stopped: true, fault: None, .. } if !asked => {
                "stopped responding or closed its output, and was stopped".to_owned()
            }
            exit => exit.to_string(),
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
            }
            if silent == PROBES {
                return;
            }
        }
    }
}

fn process_spec(name: &Name, config: &UpstreamConfig, engine: &Engine, message_bytes_max: usize) -> ProcessSpec {
    let inherited =
        std::env::vars_os().filter(|(key, _)| key.to_str().is_some_and(|key| config.inherit_env.admits(key)));
    let own = config.env.iter().map(|(key, value)| (OsString::from(key), OsString::from(value.expose())));
    let command = match config.command.expose() {
        // The starter file must work before anything is installed into the PATH.
        "hubward" => engine.executable.get().map_or_else(|| "hubward".into(), |path| path.clone().into_os_string()),
        command => command.into(),
    };
    ProcessSpec {
        name: name.as_str().to_owned(),
        command,
        args: config.args.iter().map(|arg| arg.expose().into()).collect(),
        env: inherited.chain(own).collect(),
        cwd: config.cwd.clone(),
        stop_timeout: config.stop_timeout,
        message_bytes_max,
        strict_stdout: config.strict_stdout,
    }
}
