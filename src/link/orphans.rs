//! Descendants of children that got away, by a session of their own or by a double fork.
//!
//! Each child is started with two marks in its environment, which its descendants inherit: the run of this hub,
//! and the number of the child's instance. A program that called [`adopt`] becomes the parent of descendants
//! whose own parent died. It reaps the dead, and ends those whose instance is over.
//! Invariant: a child is started and registered under one lock, and that lock is held while others are judged.
//! A descendant that wipes its environment and leaves its group is beyond this; a cgroup would hold it.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    sync::{
        LazyLock, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

/// The environment variable that names this run of the hub.
pub(super) const RUN: &str = "HUBWARD_RUN";
/// The environment variable that numbers the instance.
pub(super) const INSTANCE: &str = "HUBWARD_INSTANCE";

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);
/// Something ended: look whom it left behind.
static ENDED: Notify = Notify::const_new();

/// What this process started itself.
#[derive(Default)]
struct Registry {
    /// Children not reaped yet, with the number of their instance.
    children: HashMap<u32, u64>,
    /// Instances that are not over.
    instances: HashSet<u64>,
}

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names this run: no other process, before or beside it, has the same.
pub(super) fn run() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| {
        let random = || RandomState::new().build_hasher().finish();
        format!("{:x}-{:016x}{:016x}", std::process::id(), random(), random())
    })
}

/// Whether a process bears the mark of this run.
#[cfg(target_os = "linux")]
pub(super) fn is_of_this_run(pid: u32) -> bool {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let mark = format!("{RUN}={}", run());
    environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
}

/// One child from before its start until its group is gone.
#[derive(Debug)]
pub(super) struct Instance {
    number: u64,
    pid: Option<u32>,
}

impl Instance {
    pub(super) fn begin() -> Instance {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        registry().instances.insert(number);
        Instance { number, pid: None }
    }

    /// What to put into the child's environment.
    pub(super) fn marks(&self) -> [(&'static str, String); 2] {
        [(RUN, run().to_owned()), (INSTANCE, self.number.to_string())]
    }

    /// Starts the child; `pid` tells its number.
    pub(super) fn start<T>(
        &mut self,
        start: impl FnOnce() -> io::Result<T>,
        pid: impl FnOnce(&T) -> Option<u32>,
    ) -> io::Result<T> {
        let mut registry = registry();
        let child = start()?;
        self.pid = pid(&child);
        if let Some(pid) = self.pid {
            registry.children.insert(pid, self.number);
        }
        Ok(child)
    }

    /// The child was waited for; its number may belong to another one now.
    pub(super) fn reaped(&mut self) {
        let Some(pid) = self.pid.take() else { return };
        let mut registry = registry();
        if registry.children.get(&pid) == Some(&self.number) {
            registry.children.remove(&pid);
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.reaped();
        registry().instances.remove(&self.number);
        ENDED.notify_one();
    }
}

#[cfg(not(target_os = "linux"))]
pub fn adopt() -> io::Result<()> {
    Ok(())
}

/// Makes this process the parent of its orphaned descendants, and starts a task on this runtime that ends them.
///
/// For a program, not for a library inside one: every child that this crate did not start is reaped when it ends.
#[cfg(target_os = "linux")]
pub fn adopt() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut died = signal(SignalKind::child())?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    tokio::spawn(async move {
        let mut sweeper = sweep::Sweeper::default();
        loop {
            let again = sweeper.sweep();
            tokio::select! {
                _ = died.recv() => {}
                () = ENDED.notified() => sweeper.look_twice(),
                () = tokio::time::sleep(sweep::AGAIN), if again => {}
            }
            // Many deaths at once are one look.
            tokio::time::sleep(sweep::PAUSE).await;
        }
    });
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub async fn settled(_limit: std::time::Duration) {}

/// Waits until nobody is left of those who were left behind. For a program that called [`adopt`] and is about to end.
#[cfg(target_os = "linux")]
pub async fn settled(limit: std::time::Duration) {
    let gone = async {
        // One look may miss somebody.
        let mut looks = 0;
        while looks < 2 {
            looks = if sweep::is_anybody_left() { 0 } else { looks + 1 };
            tokio::time::sleep(sweep::PAUSE).await;
        }
    };
    let _ = tokio::time::timeout(limit, gone).await;
}

#[cfg(target_os = "linux")]
mod sweep {
    use std::{
        collections::HashMap,
        fs,
        mem::MaybeUninit,
        path::Path,
        time::{Duration, Instant},
    };

    use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

    use super::{INSTANCE, RUN, Registry, registry, run};

    /// Between asking an orphan to end and ending it.
    const PATIENCE: Duration = Duration::from_secs(1);
    /// Between two looks while somebody is asked to end.
    pub(super) const AGAIN: Duration = Duration::from_millis(100);
    /// Between any two looks.
    pub(super) const PAUSE: Duration = Duration::from_millis(5);
    /// Looks after an instance ended: the kernel's list may miss one while others come and go.
    const LOOKS: u32 = 5;

    #[derive(Default)]
    pub(super) struct Sweeper {
        /// Orphans that were asked to end, and when.
        asked: HashMap<u32, Instant>,
        looks_left: u32,
    }

    impl Sweeper {
        pub(super) fn look_twice(&mut self) {
            self.looks_left = LOOKS;
        }

        /// Reaps and ends what needs it; returns whether to look again soon.
        pub(super) fn sweep(&mut self) -> bool {
            let registry = registry();
            if !Path::new("/proc/self").exists() {
                return reap_unseen(&registry);
            }
            let orphans: Vec<u32> = children().into_iter().filter(|pid| !registry.children.contains_key(pid)).collect();
            self.asked.retain(|pid, _| orphans.contains(pid));
            for pid in orphans {
                self.judge(pid, &registry);
            }
            self.looks_left = self.looks_left.saturating_sub(1);
            self.looks_left > 0 || !self.asked.is_empty()
        }

        fn judge(&mut self, pid: u32, registry: &Registry) {
            let Some(process) = Pid::from_raw(pid as i32) else { return };
            // It is our child: until it is reaped here the number cannot pass to another.
            if let Ok(Some(_)) = waitpid(Some(process), WaitOptions::NOHANG) {
                self.asked.remove(&pid);
                return;
            }
            match self.asked.get(&pid) {
                Some(since) if since.elapsed() > PATIENCE => drop(kill_process(process, Signal::KILL)),
                Some(_) => {}
                None if is_over(pid, registry) => {
                    tracing::debug!(pid, "ending a process that its parent left behind");
                    self.asked.insert(pid, Instant::now());
                    let _ = kill_process(process, Signal::TERM);
                }
                None => {}
            }
        }
    }

    /// Reaps the dead where /proc does not tell who there is. Returns whether one that somebody else waits for stands
    /// in front of others.
    fn reap_unseen(registry: &Registry) -> bool {
        while let Some(pid) = dead() {
            if registry.children.contains_key(&pid) {
                return true;
            }
            let _ = waitpid(Pid::from_raw(pid as i32), WaitOptions::NOHANG);
        }
        false
    }

    /// A child that ended, and stays to be waited for.
    fn dead() -> Option<u32> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: the kernel fills the whole of the zeroed info, or leaves it as it is, which means none.
        let pid = unsafe {
            match libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) {
                0 => info.assume_init().si_pid(),
                _ => 0,
            }
        };
        u32::try_from(pid).ok().filter(|pid| *pid > 0)
    }

    /// Is there a child that nobody here waits for?
    pub(super) fn is_anybody_left() -> bool {
        let registry = registry();
        children().iter().any(|pid| !registry.children.contains_key(pid))
    }

    /// Whether the process descends from an instance of ours that is over.
    fn is_over(pid: u32, registry: &Registry) -> bool {
        let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else { return false };
        let value = |name: &str| {
            let mut all = environ.split(|byte| *byte == 0);
            all.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        };
        let number = || std::str::from_utf8(value(INSTANCE)?).ok()?.parse::<u64>().ok();
        value(RUN) == Some(run().as_bytes()) && number().is_some_and(|number| !registry.instances.contains(&number))
    }

    /// The children of this process.
    fn children() -> Vec<u32> {
        listed().unwrap_or_else(searched)
    }

    /// As the kernel lists them, where it was built to.
    fn listed() -> Option<Vec<u32>> {
        let mut pids = Vec::new();
        for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
            match fs::read_to_string(task.path().join("children")) {
                Ok(list) => pids.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
                // A thread that just ended has none; a kernel without the file has none anywhere.
                Err(_) if task.path().exists() => return None,
                Err(_) => {}
            }
        }
        Some(pids)
    }

    /// By everybody's parent.
    fn searched() -> Vec<u32> {
        let ours = std::process::id();
        let parent = |pid: u32| -> Option<u32> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name stands in parentheses and may hold any.
            stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
        };
        let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| parent(*pid) == Some(ours)).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn both_ways_find_a_child() {
            let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
            assert!(searched().contains(&child.id()));
            assert!(listed().is_none_or(|pids| pids.contains(&child.id())));
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
