//! A child process as a Link: how it starts, and the handle to it.
//!
//! [`spawn`] forks on the calling thread, because Linux ties a child's parent-death signal to that thread; the
//! task that waits for the child stays on its runtime. The pipes live at a [`Home`] on a worker, beside the
//! requests they serve. So the message path (`pump`) and the life of the child (`ladder`) meet in `Control`
//! only: a few tokens, each of which says one thing for good.
//! Invariant: a child inherits its three pipes and the environment it was given, and nothing else.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Link,
    home::Home,
    ladder::{self, Family, Group, Tasks},
    orphans::Instance,
    pair, pump,
    sandbox::{Bounds, Sandbox, Unenforced},
    stderr::{self, Stderr},
};

pub use super::{
    ladder::{Exit, Fault},
    stderr::{Hears, Printed},
};

/// How to start a child.
#[derive(Clone)]
pub struct ProcessSpec {
    /// What logs call it.
    pub name: String,
    /// In `PATH`, or a path; no shell reads it,
    pub command: OsString,
    /// nor these.
    pub args: Vec<OsString>,
    /// The whole environment; two marks of ours are added.
    pub env: Vec<(OsString, OsString)>,
    /// The folder it starts in.
    pub cwd: PathBuf,
    /// How long it may take to end when asked to.
    pub stop_timeout: Duration,
    /// The longest line of its stdout, in bytes.
    pub message_bytes_max: usize,
    /// Whether a line on stdout that is no message ends it.
    pub strict_stdout: bool,
    pub sandbox: Sandbox,
    /// Hears what it prints on stderr.
    pub hears: Option<Hears>,
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("cannot find the command {command:?}: install it, or give its full path")]
    NotFound { command: OsString },
    #[error("cannot execute {command:?} ({why}): make it an executable file")]
    NotExecutable { command: OsString, why: io::Error },
    #[error("cannot use the working directory {cwd:?} ({why}): create it, or correct `cwd`")]
    BadCwd { cwd: PathBuf, why: io::Error },
    #[error("cannot execute {command:?} ({why}): is it an executable file, and does `sandbox.read` name what runs it?")]
    Forbidden { command: OsString, why: io::Error },
    #[error(transparent)]
    Sandbox(#[from] Unenforced),
    #[error("cannot start {command:?}: {why}")]
    Other { command: OsString, why: io::Error },
}

impl SpawnError {
    /// The reason without our paths.
    pub fn for_clients(&self) -> &'static str {
        match self {
            SpawnError::NotFound { .. } => "its command was not found",
            SpawnError::Sandbox(_) => "its sandbox cannot be enforced here",
            SpawnError::NotExecutable { .. } | SpawnError::Forbidden { .. } => "its command cannot be executed",
            SpawnError::BadCwd { .. } => "its working directory cannot be used",
            SpawnError::Other { .. } => "its process could not be started",
        }
    }

    fn of(spec: &ProcessSpec, bounds: &Bounds, why: io::Error) -> SpawnError {
        if let Some(unenforced) = bounds.failed(&why) {
            return unenforced.into();
        }
        let command = spec.command.clone();
        match why.kind() {
            io::ErrorKind::PermissionDenied if bounds.bound_reading() => SpawnError::Forbidden { command, why },
            io::ErrorKind::NotFound => SpawnError::NotFound { command },
            io::ErrorKind::PermissionDenied => SpawnError::NotExecutable { command, why },
            #[cfg(unix)]
            _ if why.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
                SpawnError::NotExecutable { command, why }
            }
            _ => SpawnError::Other { command, why },
        }
    }
}

/// Starts a child, whose pipes are served at `home`. Call it on a thread that lives as long as the program, within a
/// runtime.
pub fn spawn(spec: &ProcessSpec, home: impl Into<Home>) -> Result<(Process, Link), SpawnError> {
    let bad_cwd = |why| SpawnError::BadCwd { cwd: spec.cwd.clone(), why };
    if !std::fs::metadata(&spec.cwd).map_err(bad_cwd)?.is_dir() {
        return Err(bad_cwd(io::ErrorKind::NotADirectory.into()));
    }
    let mut instance = Instance::begin();
    let bounds = Arc::new(Bounds::prepare(spec)?);
    let (child, ends) = start(spec, &bounds, &mut instance).map_err(|why| SpawnError::of(spec, &bounds, why))?;
    let started = Instant::now();
    let pid = child.id().unwrap_or_default();
    let Some(group) = Group::of(pid) else {
        return Err(SpawnError::Other { command: spec.command.clone(), why: io::ErrorKind::Other.into() });
    };
    tracing::debug!(upstream = %spec.name, pid, "started");

    let control = Arc::new(Control::new(&spec.name));
    let stderr = Arc::new(Stderr::default());
    let home = home.into();
    let io = home.handle();
    let (mut link, peer) = pair();
    link.home = Some(home.clone());
    let tasks = Tasks {
        stdin: io.spawn(home.clone().live((ends.stdin, peer.from), {
            let (control, stop_timeout) = (control.clone(), spec.stop_timeout);
            move |(stdin, queue), lease| pump::write(stdin, queue, lease, control.clone(), stop_timeout)
        })),
        stderr: io.spawn({
            let (control, stderr, hears) = (control.clone(), stderr.clone(), spec.hears.clone());
            async move {
                match ends.stderr.open() {
                    Ok(source) => stderr::drain(source, control.name.clone(), pid, stderr, hears).await,
                    Err(error) => control.lost("stderr", &error),
                }
            }
        }),
    };
    let reading = pump::Reading::new(peer.to, spec.message_bytes_max, spec.strict_stdout);
    io.spawn(home.live((ends.stdout, reading), {
        let control = control.clone();
        move |(stdout, reading), lease| pump::read(stdout, reading, lease, control.clone())
    }));
    let (told, exit) = watch::channel(None);
    tokio::spawn({
        let family = Family { child, group, stop_timeout: spec.stop_timeout, instance, _bounds: bounds };
        let control = control.clone();
        async move {
            let exit = ladder::climb(family, tasks, control.clone()).await;
            tracing::debug!(upstream = %control.name, pid, "{exit}");
            told.send_replace(Some(exit));
        }
    });
    Ok((Process(Arc::new(Inner { pid, started, control, stderr, exit })), link))
}

/// A child process. It lives on when its handles are dropped; dropping its link's `from` asks it to end.
#[derive(Clone, Debug)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pid: u32,
    started: Instant,
    control: Arc<Control>,
    stderr: Arc<Stderr>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    pub fn started(&self) -> Instant {
        self.0.started
    }

    /// Asks it to end: stdin closes, then SIGTERM, then SIGKILL, within the stop timeout.
    pub fn stop(&self) {
        self.0.control.stop.cancel();
    }

    /// Ends it at once, and all that it started.
    pub fn kill(&self) {
        self.0.control.kill.cancel();
        self.0.control.stop.cancel();
    }

    /// Waits until it is reaped and its group is gone.
    pub async fn exited(&self) -> Exit {
        match self.0.exit.clone().wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_default(),
            // The runtime that waited for it is gone.
            Err(_) => Exit::default(),
        }
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.0.exit.borrow().clone()
    }

    /// Its last lines on stderr, without control characters.
    pub fn stderr_tail(&self, lines: usize) -> Vec<String> {
        self.0.stderr.tail(lines)
    }

    /// Lines on stdout that were no messages.
    pub fn skipped_lines(&self) -> u64 {
        self.0.control.skipped.load(Ordering::Relaxed)
    }

    /// Lines on stderr that were not logged because too many came.
    pub fn dropped_stderr_lines(&self) -> u64 {
        self.0.stderr.dropped()
    }
}

/// What the tasks of one child say to each other.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) name: Arc<str>,
    /// The child is to end.
    pub(super) stop: CancellationToken,
    /// The child is to end at once.
    pub(super) kill: CancellationToken,
    /// Nothing more is read.
    pub(super) cut: CancellationToken,
    /// The child was reaped: what it wrote is still to be read.
    pub(super) gone: CancellationToken,
    pub(super) fault: OnceLock<Fault>,
    pub(super) skipped: AtomicU64,
}

impl Control {
    fn new(name: &str) -> Control {
        let token = CancellationToken::new;
        let (fault, skipped) = (OnceLock::new(), AtomicU64::new(0));
        Control { name: name.into(), stop: token(), kill: token(), cut: token(), gone: token(), fault, skipped }
    }

    /// The child is unhealthy.
    pub(super) fn fail(&self, fault: Fault) {
        tracing::warn!(upstream = %self.name, "it {fault}: stopping it");
        let _ = self.fault.set(fault);
        self.cut.cancel();
        self.stop.cancel();
    }

    pub(super) fn lost(&self, end: &str, error: &io::Error) {
        tracing::warn!(upstream = %self.name, "cannot use the pipe to its {end}: {error}");
        self.cut.cancel();
        self.stop.cancel();
    }
}

/// A pipe that no runtime knows.
#[derive(Debug)]
pub(super) struct End<T>(T);

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix::start;
#[cfg(unix)]
pub(super) use unix::{Stdin, StdinEnd, Stdout, StdoutEnd};

#[cfg(not(unix))]
mod elsewhere;
#[cfg(not(unix))]
use elsewhere::start;
#[cfg(not(unix))]
pub(super) use elsewhere::{Stdin, StdinEnd, Stdout, StdoutEnd};
