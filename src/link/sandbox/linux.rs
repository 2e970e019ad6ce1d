//! How the bounds are laid: in an order in which none stands in the way of the next, each naming itself if it fails.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
};
use seccompiler::BpfProgram;

use super::{Sandbox, Unenforced, calls, count::Count, files};
use crate::link::process::ProcessSpec;

/// All that is laid on a child.
pub(in crate::link) struct Bounds {
    core: Rlimit,
    count: Option<Count>,
    data: Option<u64>,
    /// And whether it bounds reading.
    files: Option<(OwnedFd, bool)>,
    calls: Option<BpfProgram>,
}

/// What a child was doing when it failed; its number travels with the error's.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Step {
    Privileges = 1,
    Core,
    Namespace,
    Count,
    Data,
    Files,
    Calls,
}

/// The errors of Linux stay below, and the pipe by which the child's error comes to us passes on any number.
const STEP: i32 = 1 << 16;

impl Bounds {
    /// Everything that may take memory or time.
    pub(in crate::link) fn prepare(spec: &ProcessSpec) -> Result<Bounds, Unenforced> {
        let Sandbox { read: _, write: _, memory_max, processes_max, offline } = &spec.sandbox;
        let private = memory_max.is_some();
        let what = if *offline { NETWORK } else { MEMORY };
        let filter = (*offline || private).then(|| calls::filter(*offline, private)).transpose();
        Ok(Bounds {
            core: no_core(),
            count: processes_max.map(Count::new),
            data: *memory_max,
            files: files::ruleset(spec)?,
            calls: filter.map_err(|error| Unenforced::new(what, error.to_string()))?,
        })
    }

    /// Lays them on this process, which is the child.
    pub(in crate::link) fn lay(&self) -> io::Result<()> {
        let at =
            |step: Step| move |errno: Errno| io::Error::from_raw_os_error(step as i32 * STEP + errno.raw_os_error());
        // No program run from here on gains what the hub does not have: no set-user-ID, no file capabilities.
        rustix::thread::set_no_new_privs(true).map_err(at(Step::Privileges))?;
        setrlimit(Resource::Core, self.core.clone()).map_err(at(Step::Core))?;
        if let Some(count) = &self.count {
            count.enter().map_err(at(Step::Namespace))?;
            count.limit().map_err(at(Step::Count))?;
        }
        if let Some(bytes) = self.data {
            limit(Resource::Data, bytes).map_err(at(Step::Data))?;
            // Stacks are not data, and a main thread's is as large as its limit.
            limit(Resource::Stack, bytes).map_err(at(Step::Data))?;
        }
        if let Some((ruleset, reading)) = &self.files {
            restrict(ruleset, *reading).map_err(at(Step::Files))?;
        }
        if let Some(filter) = &self.calls {
            seccompiler::apply_filter(filter).map_err(|error| at(Step::Calls)(errno(&error)))?;
        }
        Ok(())
    }

    /// What a failed start says, if it was a bound that failed.
    pub(in crate::link) fn failed(&self, error: &io::Error) -> Option<Unenforced> {
        let raw = error.raw_os_error().filter(|raw| *raw > STEP)?;
        let why = io::Error::from_raw_os_error(raw % STEP);
        let steps = [
            (Step::Privileges, "no_new_privs", "the kernel denies it"),
            (Step::Core, "the end of core dumps", "the kernel denies it"),
            (Step::Namespace, PROCESSES, NAMESPACE),
            (Step::Count, PROCESSES, ROOT),
            (Step::Data, MEMORY, "the kernel denies the limit"),
            (Step::Files, "`sandbox.read` and `sandbox.write`", "the kernel denies the rules"),
            (Step::Calls, if self.data.is_some() { MEMORY } else { NETWORK }, "the kernel takes no seccomp filter"),
        ];
        let (_, what, told) = steps.into_iter().find(|(step, ..)| *step as i32 == raw / STEP)?;
        Some(Unenforced::new(what, format!("{told} ({why})")))
    }

    /// Whether the bounds say which files may be executed.
    pub(in crate::link) fn bound_reading(&self) -> bool {
        self.files.as_ref().is_some_and(|(_, reading)| *reading)
    }
}

const PROCESSES: &str = "`sandbox.processes_max`";
const MEMORY: &str = "`sandbox.memory_max`";
const NETWORK: &str = "`sandbox.network`";
const NAMESPACE: &str =
    "no cgroup is delegated to the hub and it may make no user namespace; delegate one (systemd: Delegate=yes)";
const ROOT: &str = "no cgroup is delegated to the hub, and without one the kernel counts no processes of root; delegate one (systemd: Delegate=yes), or run the hub as another user";

fn limit(resource: Resource, bytes: u64) -> rustix::io::Result<()> {
    let old = getrlimit(resource);
    let least = |old: Option<u64>| Some(old.map_or(bytes, |old| old.min(bytes)));
    setrlimit(resource, Rlimit { current: least(old.current), maximum: least(old.maximum) })
}

/// Enters the Landlock domain. A process may read its own files of /proc, which exist only now.
fn restrict(ruleset: &OwnedFd, reading: bool) -> rustix::io::Result<()> {
    // As in linux/landlock.h.
    #[repr(C, packed)]
    struct PathBeneath {
        allowed_access: u64,
        parent_fd: i32,
    }
    const PATH_BENEATH: i32 = 1;
    const READ_FILE_AND_DIR: u64 = 1 << 2 | 1 << 3;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let (true, Ok(own)) = (reading, open(c"/proc/self", folder, Mode::empty())) {
        let rule = PathBeneath { allowed_access: READ_FILE_AND_DIR, parent_fd: own.as_raw_fd() };
        // SAFETY: the kernel reads the rule, which lives until the call returns. Without it the child has less.
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0) };
    }
    // SAFETY: it takes no pointers.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_fd().as_raw_fd(), 0) } {
        0 => Ok(()),
        _ => Err(last()),
    }
}

fn last() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

fn errno(error: &seccompiler::Error) -> Errno {
    match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => {
            Errno::from_io_error(error).unwrap_or(Errno::INVAL)
        }
        _ => Errno::INVAL,
    }
}

/// A limit of 1 and not 0: that also keeps the kernel from handing the image to a program that collects them.
fn no_core() -> Rlimit {
    let max = getrlimit(Resource::Core).maximum.map_or(1, |old| old.min(1));
    Rlimit { current: Some(max), maximum: Some(max) }
}

/// Keeps what this process knows from others of the same user: no core dump, and nobody reads its memory or its
/// environment by /proc. Root can, unless bound by file rules.
pub fn keep_secrets() {
    let done = setrlimit(Resource::Core, no_core()).and(set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        tracing::warn!("the hub's memory may be dumped when it crashes: {error}");
    }
}

/// Has every descriptor from 3 on closed when this process becomes another program. Answers whether it could.
pub(in crate::link) fn close_all_on_exec() -> bool {
    const CLOEXEC: u32 = 4;
    // SAFETY: it takes no pointers, and closes nothing yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOEXEC) == 0 }
}
