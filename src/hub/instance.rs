//! One process of an upstream, from its start to its end.

use std::{ffi::OsString, sync::Arc, time::Duration};

use super::engine::Engine;
use crate::{
    bridge::{
        Bridged,
        handshake::{HandshakeError, Hello, greet},
    },
    config::{Name, UpstreamConfig},
    link::{
        connection::{Attribution, CallError, Connection, ConnectionWatch},
        process::{self, Process, ProcessSpec},
    },
    wire::Message,
};

/// How often a process that let a call time out is asked for a sign of life, and how long each time.
const PROBES: u32 = 3;
const PROBE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Lines of stderr that accompany an error.
pub const STDERR_LINES: usize = 50;

/// A process that was started and greeted.
pub struct Instance {
    pub process: Process,
    pub watch: ConnectionWatch,
}

/// Why a process did not get ready.
#[derive(Clone, Debug)]
pub struct StartError {
    /// What a client may know: no paths, and stderr only where the configuration says so.
    pub public: String,
    /// What the operator is told.
    pub full: String,
    pub stderr: Vec<String>,
}

/// Everything a start needs.
pub struct StartSpec {
    pub name: Name,
    pub config: Arc<UpstreamConfig>,
    pub engine: Arc<Engine>,
    pub attribution: Attribution,
    pub hello: Hello,
}

/// Ends a process whose start was given up.
struct StopOnDrop(Option<Process>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.stop();
        }
    }
}

/// Starts and greets a process. Runs on the main thread, which forks.
pub async fn start(
    spec: StartSpec,
    unsolicited: impl Fn(Message) + Send + Sync + 'static,
) -> Result<(Arc<Bridged>, Instance), StartError> {
    let config = &spec.config;
    let starts = spec.engine.starts.load_full();
    let _permit = starts.acquire_owned().await;
    let io = spec.engine.workers.pick().await;
    let limits = spec.engine.limits.load_full();
    let process_spec = process_spec(&spec.name, config, &spec.engine, limits.message_bytes_max);
    let (process, link) = process::spawn(&process_spec, &io).map_err(|error| StartError {
        public: error.for_clients().to_owned(),
        full: error.to_string(),
        stderr: Vec::new(),
    })?;
    let mut guard = StopOnDrop(Some(process.clone()));
    let obituary = {
        let process = process.clone();
        async move { process.exited().await.to_string() }
    };
    let name: Arc<str> = spec.name.as_str().into();
    let calls_max = limits.calls_in_flight_max;
    let connection = Connection::open(name, link, &io, calls_max, spec.attribution, unsolicited, obituary);
    let profile = greet(&connection, &spec.hello, config.start_timeout).await.map_err(|error| {
        let why = match &error {
            HandshakeError::Call(CallError::Lost { why, .. }) => format!("{why} before it was ready"),
            HandshakeError::Call(CallError::Timeout { limit, .. }) => {
                format!("did not answer `initialize` within {limit:?} (start_timeout)")
            }
            other => other.to_string(),
        };
        let stderr = process.stderr_tail(STDERR_LINES);
        let last = stderr.last().map(|line| format!("; stderr: {line}")).unwrap_or_default();
        let shown = match config.expose_errors {
            true => stderr.iter().rev().take(10).rev().map(|line| format!("\n{line}")).collect(),
            false => String::new(),
        };
        StartError { public: format!("{why}{shown}"), full: format!("{why}{last}"), stderr }
    })?;
    guard.0 = None;
    let instance = Instance { process, watch: connection.watch() };
    Ok((Arc::new(Bridged { connection, profile: Arc::new(profile) }), instance))
}

impl Instance {
    /// Keeps watch until the process is gone, and answers whether that was our wish, and the cause.
    pub async fn keep(&self) -> (bool, String) {
        let asked = tokio::select! {
            biased;
            () = self.watch.closing() => true,
            () = self.watch.ended() => false,
            () = self.unresponsive() => {
                self.watch.close("does not respond");
                self.process.kill();
                false
            }
        };
        self.process.stop();
        let exit = self.process.exited().await;
        let why = match self.watch.silent_for() {
            _ if exit.stopped && !asked => "stopped responding or closed its output, and was stopped".to_owned(),
            _ => exit.to_string(),
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
                if self.watch.ping(PROBE_WAIT_MAX).await || self.watch.silent_for() < began.elapsed() {
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
