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

pub(super) struct Count {
    max: u64,
    /// In the namespace everybody is who they were outside.
    users: String,
    groups: String,
}

impl Count {
    pub(super) fn new(max: u64) -> Count {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Count { max, users: format!("{user} {user} 1"), groups: format!("{group} {group} 1") }
    }

    /// Enters the namespace. Runs in the child.
    pub(super) fn enter(&self) -> Result<()> {
        // Its own files in /proc belong to it only while it may be looked at; exec would make it so anyway.
        set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        // SAFETY: this process has one thread, being forked, and keeps all its descriptors.
        unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }?;
        write(c"/proc/self/setgroups", "deny")?;
        write(c"/proc/self/uid_map", &self.users)?;
        write(c"/proc/self/gid_map", &self.groups)
    }

    /// Lays the limit on, having seen that it binds. Runs in the child.
    pub(super) fn limit(&self) -> Result<()> {
        let old = rustix::process::getrlimit(Resource::Nproc);
        setrlimit(Resource::Nproc, Rlimit { current: Some(1), maximum: old.maximum })?;
        // There is one process now: us.
        if can_fork() {
            return Err(Errno::OPNOTSUPP);
        }
        let max = old.maximum.map_or(self.max, |old| old.min(self.max));
        setrlimit(Resource::Nproc, Rlimit { current: Some(max), maximum: Some(max) })
    }
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
