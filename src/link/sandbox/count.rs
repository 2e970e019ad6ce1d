//! A count of processes without a cgroup: RLIMIT_NPROC within a user namespace of the child's own.
//!
//! The limit counts all processes of a user, wherever they come from, but each user namespace has a count of its
//! own (since Linux 5.14). It does not bind root. So it is tried before it is relied on.

use std::ffi::CStr;

use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, Result},
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::{UnshareFlags, unshare_unsafe},
};

/// A user namespace, in which everybody is who they were outside.
pub(super) struct Namespace {
    users: String,
    groups: String,
}

impl Namespace {
    pub(super) fn new() -> Namespace {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Namespace { users: format!("{user} {user} 1"), groups: format!("{group} {group} 1") }
    }

    /// Makes it, and others with it, and enters. Runs in the child.
    pub(super) fn enter(&self, others: UnshareFlags) -> Result<()> {
        // Its own files in /proc belong to it only while it may be looked at; exec would make it so anyway.
        set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        // SAFETY: this process has one thread, being forked, and keeps all its descriptors.
        unsafe { unshare_unsafe(UnshareFlags::NEWUSER | others) }?;
        write(c"/proc/self/setgroups", "deny")?;
        write(c"/proc/self/uid_map", &self.users)?;
        write(c"/proc/self/gid_map", &self.groups)
    }
}

/// Lays the limit on, having seen that it binds. Runs in the child, alone in its namespace.
pub(super) fn limit(max: u64) -> Result<()> {
    let old = rustix::process::getrlimit(Resource::Nproc);
    setrlimit(Resource::Nproc, Rlimit { current: Some(1), maximum: old.maximum })?;
    // There is one process now: us.
    if can_fork() {
        return Err(Errno::OPNOTSUPP);
    }
    let max = old.maximum.map_or(max, |old| old.min(max));
    setrlimit(Resource::Nproc, Rlimit { current: Some(max), maximum: Some(max) })
}

fn write(path: &CStr, text: &str) -> Result<()> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, text.as_bytes()).map(drop)
}

fn can_fork() -> bool {
    // SAFETY: a plain copy of this process, without the hooks of fork(3), that ends at once by a system call and is
    // waited for; neither touches any memory.
    unsafe {
        match libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) {
            -1 => false,
            0 => {
                libc::syscall(libc::SYS_exit_group, 0);
                true
            }
            child => {
                libc::waitpid(child as libc::pid_t, std::ptr::null_mut(), 0);
                true
            }
        }
    }
}
