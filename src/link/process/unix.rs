//! Pipes of our own, a process group, and what a child does before it is its program.

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

pub(in crate::link) type StdinEnd = End<PipeWriter>;
pub(in crate::link) type StdoutEnd = End<PipeReader>;

impl StdinEnd {
    pub(in crate::link) fn open(self) -> io::Result<Stdin> {
        Sender::from_owned_fd(self.0.into())
    }

    /// The runtime of this pipe need not know it any more.
    pub(in crate::link) fn of(stdin: Stdin) -> io::Result<StdinEnd> {
        stdin.into_nonblocking_fd().map(|fd| End(fd.into()))
    }
}

impl StdoutEnd {
    pub(in crate::link) fn open(self) -> io::Result<Stdout> {
        Receiver::from_owned_fd(self.0.into())
    }

    pub(in crate::link) fn of(stdout: Stdout) -> io::Result<StdoutEnd> {
        stdout.into_nonblocking_fd().map(|fd| End(fd.into()))
    }
}

pub(super) struct Ends {
    pub(super) stdin: StdinEnd,
    pub(super) stdout: StdoutEnd,
    pub(super) stderr: StdoutEnd,
}

pub(super) fn start(spec: &ProcessSpec, bounds: &Arc<Bounds>, instance: &mut Instance) -> io::Result<(Child, Ends)> {
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
