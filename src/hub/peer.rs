//! What an instance talks to: a child process, or a server somewhere else.

use std::{
    ffi::OsString,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{engine::Engine, remote::Far};
use crate::{
    config::{Name, SandboxConfig, UpstreamConfig},
    link::{
        Link,
        home::Home,
        inside::{self, Inside},
        process::{self, Exit, Process, ProcessSpec},
        remote::{self, Remote},
        sandbox::Sandbox,
    },
};

/// The handle to whatever is at the other end.
#[derive(Clone)]
pub enum Peer {
    Process(Process),
    Remote(Remote, Arc<Far>),
    /// A server of the program that the hub is a part of.
    Inside(Inside),
}

/// Why nothing could be started or reached for.
pub struct NoPeer {
    /// What a client may know.
    pub public: String,
    pub full: String,
}

/// How a peer came to its end.
pub struct End {
    pub why: String,
    /// It was well, and ended because it was told to.
    pub clean: bool,
}

impl Peer {
    /// Starts a process, or reaches for a remote server. Runs on the main thread, which forks.
    pub fn open(
        name: &Name,
        config: &UpstreamConfig,
        far: Option<&Arc<Far>>,
        engine: &Engine,
        home: Home,
        shape: impl FnOnce(&mut ProcessSpec),
    ) -> Result<(Peer, Link), NoPeer> {
        let message_bytes_max = engine.limits.load().message_bytes_max;
        if let Some(far) = far {
            let spec = far.spec(name, message_bytes_max, config.expose_errors);
            let spec = spec.map_err(|full| NoPeer { public: "it cannot be asked as configured".into(), full })?;
            let (remote, link) = remote::open(spec, &home.handle());
            return Ok((Peer::Remote(remote, far.clone()), link));
        }
        if let Some(make) = engine.inside.get().and_then(|all| all.get(name)) {
            let made = catch_unwind(AssertUnwindSafe(|| make()));
            let link = made.map_err(|_| {
                let full = "whatever makes it in this program panicked".into();
                NoPeer { public: "it could not be made".into(), full }
            })?;
            let (inside, link) = inside::open(link, &home.handle());
            return Ok((Peer::Inside(inside), link));
        }
        let executable = engine.executable.get().map(PathBuf::as_path);
        let mut spec = process_spec(name, config, executable, message_bytes_max);
        shape(&mut spec);
        let started = process::spawn(&spec, home);
        let (process, link) =
            started.map_err(|error| NoPeer { public: error.for_clients().to_owned(), full: error.to_string() })?;
        Ok((Peer::Process(process), link))
    }

    pub fn stop(&self) {
        match self {
            Peer::Process(process) => process.stop(),
            Peer::Remote(remote, _) => remote.stop(),
            Peer::Inside(inside) => inside.stop(),
        }
    }

    pub fn kill(&self) {
        match self {
            Peer::Process(process) => process.kill(),
            Peer::Remote(remote, _) => remote.stop(),
            Peer::Inside(inside) => inside.stop(),
        }
    }

    /// Resolves when it is gone.
    pub async fn ended(&self) -> End {
        match self {
            Peer::Process(process) => End::of(process.exited().await),
            Peer::Remote(remote, _) => End { why: remote.ended().await, clean: true },
            Peer::Inside(inside) => End { why: inside.ended().await, clean: true },
        }
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<End> {
        match self {
            Peer::Process(process) => process.exit().map(End::of),
            Peer::Remote(..) | Peer::Inside(_) => None,
        }
    }

    pub fn pid(&self) -> Option<u32> {
        match self {
            Peer::Process(process) => Some(process.pid()),
            Peer::Remote(..) | Peer::Inside(_) => None,
        }
    }

    pub fn stderr_tail(&self, lines: usize) -> Vec<String> {
        match self {
            Peer::Process(process) => process.stderr_tail(lines),
            Peer::Remote(..) | Peer::Inside(_) => Vec::new(),
        }
    }

    pub fn remote(&self) -> Option<&Remote> {
        match self {
            Peer::Process(_) | Peer::Inside(_) => None,
            Peer::Remote(remote, _) => Some(remote),
        }
    }

    pub fn is_remote(&self) -> bool {
        self.remote().is_some()
    }
}

impl End {
    fn of(exit: Exit) -> End {
        End { clean: exit.stopped && exit.fault.is_none(), why: exit.to_string() }
    }
}

/// How to start a command upstream. `executable`: this program.
pub fn process_spec(
    name: &Name,
    config: &UpstreamConfig,
    executable: Option<&Path>,
    message_bytes_max: usize,
) -> ProcessSpec {
    let inherited =
        std::env::vars_os().filter(|(key, _)| key.to_str().is_some_and(|key| config.inherit_env.admits(key)));
    let own = config.env.iter().map(|(key, value)| (OsString::from(key), OsString::from(value.expose())));
    let command = match config.command.expose() {
        // The starter file must work before anything is installed into the PATH.
        "hubward" => executable.map_or_else(|| "hubward".into(), |path| path.as_os_str().to_owned()),
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
        sandbox: sandbox(&config.sandbox),
        hears: None,
    }
}

fn sandbox(config: &SandboxConfig) -> Sandbox {
    let SandboxConfig { read, write, memory_max, processes_max, network } = config.clone();
    Sandbox {
        read,
        write,
        memory_max: memory_max.map(|bytes| bytes as u64),
        processes_max: processes_max.map(|count| count as u64),
        offline: !network,
    }
}
