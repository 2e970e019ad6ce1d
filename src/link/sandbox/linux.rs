//! How the bounds are laid: in an order in which none stands in the way of the next, each naming itself if it fails.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Once,
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, CapabilitySets, UnshareFlags, capabilities, set_capabilities, unshare_unsafe},
};
use seccompiler::BpfProgram;

use super::{Sandbox, Unenforced, calls, cgroup::Group, count, count::Namespace, files};
use crate::link::process::ProcessSpec;

/// All that is laid on a child.
pub(in crate::link) struct Bounds {
    core: Rlimit,
    /// Anything at all was asked for.
    bounded: bool,
    /// Counts what is taken, and is in place of `count` and `data`.
    group: Option<Group>,
    /// Why there is none.
    ungrouped: Option<String>,
    namespace: Namespace,
    count: Option<u64>,
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
    Group,
    ShutIn,
    Namespace,
    Count,
    Capabilities,
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
        let limited = memory_max.is_some() || processes_max.is_some();
        let (group, ungrouped) = match limited.then(|| Group::make(*memory_max, *processes_max)).transpose() {
            Ok(group) => (group, None),
            Err(why) => (None, Some(why)),
        };
        if let (Some(_), Some(why)) = (memory_max, &ungrouped) {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| tracing::info!("`sandbox.memory_max` bounds each process by itself: {why}"));
        }
        let alone = group.is_none();
        let private = alone && memory_max.is_some();
        let what = if *offline { NETWORK } else { MEMORY };
        let filter = (*offline || private).then(|| calls::filter(*offline, private)).transpose();
        Ok(Bounds {
            core: no_core(),
            bounded: spec.sandbox != Sandbox::default(),
            namespace: Namespace::new(),
            count: processes_max.filter(|_| alone),
            data: memory_max.filter(|_| alone),
            group,
            ungrouped,
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
        setrlimit(Resource::Core, self.core).map_err(at(Step::Core))?;
        if let Some(group) = &self.group {
            group.join().map_err(at(Step::Group))?;
            self.shut_in(group).map_err(at(Step::ShutIn))?;
        }
        if let Some(max) = self.count {
            self.namespace.enter(UnshareFlags::empty()).map_err(at(Step::Namespace))?;
            count::limit(max).map_err(at(Step::Count))?;
        }
        if self.bounded {
            shed().map_err(at(Step::Capabilities))?;
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

    /// Keeps the child from moving to another cgroup, and from changing any limits: it sees no cgroups but its own.
    fn shut_in(&self, group: &Group) -> rustix::io::Result<()> {
        let apart = UnshareFlags::NEWCGROUP | UnshareFlags::NEWNS;
        // SAFETY: this process has one thread, being forked, and keeps all its descriptors.
        match unsafe { unshare_unsafe(apart) } {
            Err(Errno::PERM) => self.namespace.enter(apart)?,
            done => done?,
        }
        group.hide()
    }

    /// What a failed start says, if it was a bound that failed.
    pub(in crate::link) fn failed(&self, error: &io::Error) -> Option<Unenforced> {
        let raw = error.raw_os_error().filter(|raw| *raw > STEP)?;
        let why = io::Error::from_raw_os_error(raw % STEP);
        let steps = [
            (Step::Privileges, "no_new_privs", "the kernel denies it"),
            (Step::Core, "the end of core dumps", "the kernel denies it"),
            (Step::Group, "a limit of `sandbox`", "the child's cgroup cannot be entered"),
            (Step::ShutIn, "a limit of `sandbox`", SHUT_IN),
            (Step::Capabilities, "`sandbox`", "capabilities cannot be given up"),
            (Step::Namespace, PROCESSES, NAMESPACE),
            (Step::Count, PROCESSES, ROOT),
            (Step::Data, MEMORY, "the kernel denies the limit"),
            (Step::Files, "`sandbox.read` and `sandbox.write`", "the kernel denies the rules"),
            (Step::Calls, if self.data.is_some() { MEMORY } else { NETWORK }, "the kernel takes no seccomp filter"),
        ];
        let (step, what, told) = steps.into_iter().find(|(step, ..)| *step as i32 == raw / STEP)?;
        let ungrouped = self.ungrouped.as_deref().filter(|_| matches!(step, Step::Namespace | Step::Count));
        let ungrouped = ungrouped.map(|why| format!("; {why}")).unwrap_or_default();
        Some(Unenforced::new(what, format!("{told} ({why}{ungrouped})")))
    }

    /// Whether the bounds say which files may be executed.
    pub(in crate::link) fn bound_reading(&self) -> bool {
        self.files.as_ref().is_some_and(|(_, reading)| *reading)
    }
}

const PROCESSES: &str = "`sandbox.processes_max`";
const MEMORY: &str = "`sandbox.memory_max`";
const NETWORK: &str = "`sandbox.network`";
const SHUT_IN: &str = "the child cannot be kept in its cgroup, which takes namespaces of cgroups and mounts";
const NAMESPACE: &str =
    "no cgroup is delegated to the hub and it may make no user namespace; delegate one (systemd: Delegate=yes)";
const ROOT: &str = "no cgroup is delegated to the hub, and without one the kernel counts no processes of root; delegate one (systemd: Delegate=yes), or run the hub as another user";

/// What root needs to be at home among its own files, and to be a server. Whatever else it can would undo a bound:
/// raise a limit, look into other processes, load a module.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Gives up all other capabilities, for good: with no_new_privs no program gets back what its process had not.
fn shed() -> rustix::io::Result<()> {
    let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
    let [effective, permitted, inheritable] = [effective, permitted, inheritable].map(|set| set & KEPT);
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable })
}

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
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) } {
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
