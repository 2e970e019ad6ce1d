//! A child process as a Link: how it starts, and the handle to it.
//!
//! [`spawn`] forks on the calling thread, because Linux ties a child's parent-death signal to that thread; the
//! task that waits for the child stays on its runtime. The pipes live on the runtime behind `io`, beside the
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

use tokio::{runtime::Handle, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{
    Link,
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

/// Starts a child. Call it on a thread that lives as long as the program, within a runtime.
pub fn spawn(spec: &ProcessSpec, io: &Handle) -> Result<(Process, Link), SpawnError> {
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
    let (link, peer) = pair();
    let tasks = Tasks {
        stdin: io.spawn({
            let (control, stop_timeout) = (control.clone(), spec.stop_timeout);
            async move {
                match ends.stdin.open() {
                    Ok(stdin) => pump::write(peer.from, stdin, control, stop_timeout).await,
                    Err(error) => control.lost("stdin", &error),
                }
            }
        }),
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
    io.spawn({
        let control = control.clone();
        let reading = pump::Reading { message_bytes_max: spec.message_bytes_max, strict: spec.strict_stdout };
        async move {
            match ends.stdout.open() {
                Ok(stdout) => pump::read(peer.to, stdout, control, reading).await,
                Err(error) => control.lost("stdout", &error),
            }
        }
    });
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

    fn lost(&self, end: &str, error: &io::Error) {
        tracing::warn!(upstream = %self.name, "cannot use the pipe to its {end}: {error}");
        self.cut.cancel();
        self.stop.cancel();
    }
}

/// A pipe that no runtime knows yet.
struct End<T>(T);

#[cfg(unix)]
mod unix {
    use std::{
        io::{PipeReader, PipeWriter},
        os::{
            fd::{BorrowedFd, RawFd},
            unix::process::CommandExt as _,
        },
    };

    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
    use tokio::{
        net::unix::pipe::{Receiver, Sender},
        process::{Child, Command},
    };

    use super::*;
    use crate::link::sandbox::close_all_on_exec;

    pub(in crate::link) type Stdin = Sender;
    pub(in crate::link) type Stdout = Receiver;

    impl End<PipeWriter> {
        pub(super) fn open(self) -> io::Result<Stdin> {
            Sender::from_owned_fd(self.0.into())
        }
    }

    impl End<PipeReader> {
        pub(super) fn open(self) -> io::Result<Stdout> {
            Receiver::from_owned_fd(self.0.into())
        }
    }

    pub(super) struct Ends {
        pub(super) stdin: End<PipeWriter>,
        pub(super) stdout: End<PipeReader>,
        pub(super) stderr: End<PipeReader>,
    }

    pub(super) fn start(
        spec: &ProcessSpec,
        bounds: &Arc<Bounds>,
        instance: &mut Instance,
    ) -> io::Result<(Child, Ends)> {
        let (stdin, our_stdin) = io::pipe()?;
        let (our_stdout, stdout) = io::pipe()?;
        let (our_stderr, stderr) = io::pipe()?;
        let mut command = std::process::Command::new(&spec.command);
        command.args(&spec.args).env_clear().envs(spec.env.iter().map(|(name, value)| (name, value)));
        command.envs(instance.marks()).current_dir(&spec.cwd).process_group(0);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        prepare(&mut command, bounds.clone());
        // The command holds the child's ends of the pipes: it must go, or they would never close.
        let mut command = Command::from(command);
        let child = instance.start(|| command.spawn(), |child| child.id())?;
        #[cfg(target_os = "linux")]
        raise_badness(&child);
        Ok((child, Ends { stdin: End(our_stdin), stdout: End(our_stdout), stderr: End(our_stderr) }))
    }

    /// What the child does between fork and exec.
    fn prepare(command: &mut std::process::Command, bounds: Arc<Bounds>) {
        let inherited = inherited();
        #[cfg(target_os = "linux")]
        let hub = rustix::process::getpid();
        let in_child = move || {
            // What is found at the start is enough, unless the program that embeds us opens more.
            close_all_on_exec();
            for fd in inherited {
                // SAFETY: the number is used for one call; if it is not open any more, the call fails.
                let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
                let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
            }
            bounds.lay()?;
            #[cfg(target_os = "linux")]
            {
                use rustix::process::{Signal, getppid, set_parent_process_death_signal};
                set_parent_process_death_signal(Some(Signal::KILL))?;
                if getppid() != Some(hub) {
                    // The hub died before the signal was armed.
                    return Err(rustix::io::Errno::SRCH.into());
                }
            }
            Ok(())
        };
        // SAFETY: the closure only makes system calls on values prepared before the fork; it takes no lock and
        // allocates nothing, as is required between fork and exec.
        unsafe { command.pre_exec(in_child) };
    }

    /// Descriptors that this process itself inherited without the close-on-exec flag.
    ///
    /// All that Rust opens has the flag, so it is enough to look once.
    fn inherited() -> &'static [RawFd] {
        static INHERITED: OnceLock<Vec<RawFd>> = OnceLock::new();
        INHERITED.get_or_init(|| {
            let Ok(all) = std::fs::read_dir("/dev/fd") else { return Vec::new() };
            let fds = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            let is_passed_on = |fd: &RawFd| {
                // SAFETY: the number is used for one call; if it is not open any more, the call fails.
                let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
                fcntl_getfd(fd).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
            };
            fds.filter(|fd| *fd > 2).filter(is_passed_on).collect()
        })
    }

    /// How much sooner than the hub a child is chosen when memory runs out, of 1000.
    #[cfg(target_os = "linux")]
    const BADNESS_MORE: i32 = 200;

    /// It is a program of its own by now, and so lets us; what it started in the meantime has to be sooner than fast.
    #[cfg(target_os = "linux")]
    fn raise_badness(child: &Child) {
        let Some(pid) = child.id() else { return };
        let ours = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        let badness = (ours.trim().parse().unwrap_or(0) + BADNESS_MORE).min(1000);
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), badness.to_string());
    }
}

#[cfg(unix)]
use unix::start;
#[cfg(unix)]
pub(super) use unix::{Stdin, Stdout};

#[cfg(not(unix))]
mod elsewhere {
    use std::process::Stdio;

    use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

    use super::*;

    pub(in crate::link) type Stdin = ChildStdin;
    pub(in crate::link) type Stdout = ChildStdout;

    impl<T> End<T> {
        pub(super) fn open(self) -> io::Result<T> {
            Ok(self.0)
        }
    }

    pub(super) struct Ends {
        pub(super) stdin: End<ChildStdin>,
        pub(super) stdout: End<ChildStdout>,
        pub(super) stderr: End<ChildStderr>,
    }

    pub(super) fn start(
        spec: &ProcessSpec,
        _bounds: &Arc<Bounds>,
        instance: &mut Instance,
    ) -> io::Result<(Child, Ends)> {
        let mut command = Command::new(&spec.command);
        command.args(&spec.args).env_clear().envs(spec.env.iter().map(|(name, value)| (name, value)));
        command.envs(instance.marks()).current_dir(&spec.cwd);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = instance.start(|| command.spawn(), |child| child.id())?;
        let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = taken else { return Err(io::ErrorKind::BrokenPipe.into()) };
        Ok((child, Ends { stdin: End(stdin), stdout: End(stdout), stderr: End(stderr) }))
    }
}

#[cfg(not(unix))]
use elsewhere::start;
#[cfg(not(unix))]
pub(super) use elsewhere::{Stdin, Stdout};
