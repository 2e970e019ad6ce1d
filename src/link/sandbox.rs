//! The bounds of a child: what it may read, write, take and reach, laid on it between fork and exec.
//!
//! Everything is prepared before the fork, and what cannot be had is told with its reason. Then the child lays the
//! bounds on itself, by system calls alone, and becomes the command only if all of them hold.
//! Invariant: no command ever runs with less than what was asked.

use std::path::PathBuf;

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod count;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as linux;
pub(super) use linux::Bounds;
#[cfg(unix)]
pub(super) use linux::close_all_on_exec;
pub use linux::keep_secrets;

/// What a child is kept from, beyond what every child is. What is not set is not bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// All that may be read and executed, beside what every program needs; then nothing is written but by `write`.
    pub read: Option<Vec<PathBuf>>,
    /// All that may be written, and read.
    pub write: Option<Vec<PathBuf>>,
    /// Bytes: of all its processes together where the hub may make cgroups, else of each by itself.
    pub memory_max: Option<u64>,
    /// Processes and threads at once.
    pub processes_max: Option<u64>,
    /// It opens no sockets.
    pub offline: bool,
}

/// Why a child cannot be bounded as asked.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be enforced: {why}")]
pub struct Unenforced {
    pub what: &'static str,
    pub why: String,
}

impl Unenforced {
    fn new(what: &'static str, why: impl Into<String>) -> Unenforced {
        Unenforced { what, why: why.into() }
    }
}

/// Where no bounds can be laid.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::*;
    use crate::link::process::ProcessSpec;

    pub(in crate::link) struct Bounds;

    impl Bounds {
        pub(in crate::link) fn prepare(spec: &ProcessSpec) -> Result<Bounds, Unenforced> {
            if spec.sandbox == Sandbox::default() {
                return Ok(Bounds);
            }
            let why = "it needs Linux: remove it, or run the hub where there is Linux, such as in a container";
            Err(Unenforced::new("`sandbox`", why))
        }

        #[cfg(unix)]
        pub(in crate::link) fn lay(&self) -> std::io::Result<()> {
            Ok(())
        }

        pub(in crate::link) fn failed(&self, _: &std::io::Error) -> Option<Unenforced> {
            None
        }

        pub(in crate::link) fn bound_reading(&self) -> bool {
            false
        }
    }

    pub fn keep_secrets() {}

    #[cfg(unix)]
    pub(in crate::link) fn close_all_on_exec() -> bool {
        false
    }
}
