//! A cgroup for each child that asks for limits, where a part of the tree is delegated to the hub (cgroup v2).
//!
//! It bounds what all processes of the child take together. Which part is ours is decided once: the cgroup that we
//! run in or the one above it, if it says that it was delegated, or if it is the root of a container; and then only
//! if nobody else lives there. Processes and further cgroups cannot be in the same one, so the hub moves into
//! a cgroup below.

use std::{
    ffi::CString,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
};

use crate::link::orphans;

/// What was decided.
static BASE: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| base().and_then(settle));
/// Cgroups whose processes had not left yet when they were to be removed.
static LEFT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Where the hub itself lives.
const HUB: &str = "hubward-hub";
const ROUNDS_MAX: usize = 5;

pub(super) struct Group {
    folder: PathBuf,
    procs: OwnedFd,
    /// Where the tree can be seen.
    mounts: Vec<CString>,
}

impl Group {
    /// Or why there can be none.
    pub(super) fn make(memory_max: Option<u64>, processes_max: Option<u64>) -> Result<Group, String> {
        Group::make_in(BASE.as_deref().map_err(String::clone)?, memory_max, processes_max)
    }

    fn make_in(base: &Path, memory_max: Option<u64>, processes_max: Option<u64>) -> Result<Group, String> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = base.join(format!("hubward-{}-{number}", orphans::run()));
        let failed = |error: io::Error| format!("{}: {error}", folder.display());
        fs::create_dir(&folder).map_err(failed)?;
        let removed = |error: io::Error| {
            let _ = fs::remove_dir(&folder);
            failed(error)
        };
        let limits = [("memory.max", memory_max), ("pids.max", processes_max)];
        for (file, max) in limits.into_iter().filter_map(|(file, max)| Some((file, max?))) {
            fs::write(folder.join(file), max.to_string()).map_err(removed)?;
        }
        if memory_max.is_some() {
            // Swap is not a way round. Not every kernel has it; and half a server is of no use to anybody.
            let _ = fs::write(folder.join("memory.swap.max"), "0");
            let _ = fs::write(folder.join("memory.oom.group"), "1");
        }
        let procs = open(folder.join("cgroup.procs"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let procs = procs.map_err(|errno| removed(errno.into()))?;
        Ok(Group {
            folder,
            procs,
            mounts: mounts()?.into_iter().filter_map(|(mount, _)| CString::new(mount).ok()).collect(),
        })
    }

    /// Moves the calling process in. Runs in the child.
    pub(super) fn join(&self) -> rustix::io::Result<()> {
        rustix::io::write(&self.procs, b"0").map(drop)
    }

    /// Covers the tree with nothing. Runs in the child, in namespaces of its own: what may write to a cgroup is a
    /// question of the user, who is the same.
    pub(super) fn hide(&self) -> rustix::io::Result<()> {
        mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)?;
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        self.mounts.iter().try_for_each(|place| mount(c"none", place.as_c_str(), c"tmpfs", flags, None))
    }
}

impl Drop for Group {
    /// Ends who is left, and removes it, now or with one of the next.
    fn drop(&mut self) {
        let _ = fs::write(self.folder.join("cgroup.kill"), "1");
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.push(std::mem::take(&mut self.folder));
        left.retain(|folder| fs::remove_dir(folder).is_err() && folder.exists());
    }
}

/// Where cgroups v2 are mounted, and how.
fn mounts() -> Result<Vec<(String, String)>, String> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let cgroups = text.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        Some((mount.split(' ').nth(4)?.to_owned(), kind.strip_prefix("cgroup2 ")?.to_owned()))
    });
    Ok(cgroups.collect())
}

/// The cgroup that is ours, and that in which we are.
fn base() -> Result<(PathBuf, PathBuf), String> {
    let path = "/proc/self/cgroup";
    let cgroups = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("there is no cgroup v2")?;
    let (mount, options) = mounts()?.into_iter().next().ok_or("no cgroup v2 is mounted")?;
    // Without it whoever makes a namespace of cgroups may still lift the limits of its own.
    if !options.split([' ', ',']).any(|option| option == "nsdelegate") {
        return Err(format!("{mount} is mounted without `nsdelegate`, so a child could lift its limits"));
    }
    let mount = Path::new(&mount);
    let ours = mount.join(own);
    let above = ours.parent().filter(|above| above.starts_with(mount));
    let is_ours = |folder: &&Path| is_delegated(folder) || *folder == mount;
    match [Some(ours.as_path()), above].into_iter().flatten().find(is_ours) {
        Some(base) => Ok((base.to_path_buf(), ours.clone())),
        None => Err(format!("the cgroup {} is not delegated", ours.display())),
    }
}

/// As systemd marks what it leaves to others.
fn is_delegated(folder: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(folder, *name, &mut value).is_ok_and(|len| &value[..len] == b"1")
    })
}

/// Moves us out of the way, and has limits counted below.
fn settle((base, ours): (PathBuf, PathBuf)) -> Result<PathBuf, String> {
    let at = |folder: &Path, file: &str| folder.join(file);
    let failed = |error: io::Error| format!("the cgroup {} cannot be used: {error}", base.display());
    let controllers = fs::read_to_string(at(&base, "cgroup.controllers")).map_err(failed)?;
    let missing = ["memory", "pids"].into_iter().find(|name| !controllers.split_whitespace().any(|word| word == *name));
    if let Some(missing) = missing {
        return Err(format!("the cgroup {} has no controller `{missing}`", base.display()));
    }
    if base == ours {
        let below = base.join(HUB);
        fs::create_dir(&below).or_else(|error| if below.is_dir() { Ok(()) } else { Err(error) }).map_err(failed)?;
        // Whoever starts somebody in the meantime is moved after him.
        for _ in 0..ROUNDS_MAX {
            let procs = fs::read_to_string(at(&base, "cgroup.procs")).map_err(failed)?;
            let pids: Vec<u32> = procs.lines().filter_map(|pid| pid.parse().ok()).collect();
            if let Some(pid) = pids.iter().find(|pid| **pid != std::process::id() && !orphans::is_of_this_run(**pid)) {
                return Err(format!("the cgroup {} is not ours alone: process {pid} is in it", base.display()));
            }
            for pid in pids {
                // Who has ended need not be moved; who cannot be is met again below.
                let _ = fs::write(at(&below, "cgroup.procs"), pid.to_string());
            }
        }
    }
    fs::write(at(&base, "cgroup.subtree_control"), "+memory +pids").map_err(failed)?;
    tracing::debug!(cgroup = %base.display(), "limits of children are counted here");
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_stand_in_the_files_and_the_cgroup_goes_with_its_owner() {
        let base = tempfile::tempdir().unwrap();
        // There the kernel makes it.
        let made = Group::make_in(base.path(), Some(1 << 30), None);
        assert!(made.is_err_and(|why| why.contains("No such file")));
        let folder = fs::read_dir(base.path()).unwrap().next().unwrap().unwrap().path();
        assert_eq!(fs::read_to_string(folder.join("memory.max")).unwrap(), "1073741824");
        assert_eq!(fs::read_to_string(folder.join("memory.swap.max")).unwrap(), "0");
        assert!(!folder.join("pids.max").exists());
    }

    #[test]
    fn only_ours_is_taken() {
        let base = tempfile::tempdir().unwrap();
        let settle = || settle((base.path().to_path_buf(), base.path().to_path_buf()));
        let write = |file: &str, text: &str| fs::write(base.path().join(file), text).unwrap();
        assert!(settle().unwrap_err().contains("cannot be used"));
        write("cgroup.controllers", "cpu memory\n");
        assert!(settle().unwrap_err().contains("no controller `pids`"));
        write("cgroup.controllers", "cpu memory pids\n");
        write("cgroup.procs", "1\n");
        assert!(settle().unwrap_err().contains("process 1 is in it"));
        write("cgroup.procs", &format!("{}\n", std::process::id()));
        assert_eq!(settle().unwrap(), base.path());
        let moved = fs::read_to_string(base.path().join(HUB).join("cgroup.procs")).unwrap();
        assert_eq!(moved, std::process::id().to_string());
        assert_eq!(fs::read_to_string(base.path().join("cgroup.subtree_control")).unwrap(), "+memory +pids");
    }
}
