//! A small second process that cleans up when the hub is killed outright.
//!
//! The kernel ends the children of a killed hub, but not their descendants. The keeper holds one end of a pipe
//! whose other end only the hub holds. When that pipe ends without a word, the keeper ends every process that
//! bears the run's mark in its environment. An orderly hub says `q` first.
//! Linux only: elsewhere there is no keeper, and [`start`] gives an empty handle.

use std::{io, process::Command};

/// Said before an orderly end.
#[cfg(target_os = "linux")]
const QUIT: u8 = b'q';

/// The hub's end of the pipe; dropping it is an orderly end.
#[derive(Debug)]
pub struct Keeper {
    #[cfg(target_os = "linux")]
    inner: Option<linux::Inner>,
}

/// Starts this program again as `keeper`.
pub fn start() -> io::Result<Keeper> {
    let mut command = Command::new(std::env::current_exe()?);
    // What the hub's environment holds is not for everybody who may look at the keeper's.
    command.arg("keeper").env_clear();
    start_as(command)
}

/// Starts a command that calls [`keep`].
pub fn start_as(command: Command) -> io::Result<Keeper> {
    #[cfg(target_os = "linux")]
    return linux::start(command);
    #[cfg(not(target_os = "linux"))]
    {
        drop(command);
        Ok(Keeper {})
    }
}

/// Is the keeper: returns when the hub has ended and nothing of it is left.
pub fn keep() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return linux::keep();
    #[cfg(not(target_os = "linux"))]
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        env, fs,
        io::{self, PipeWriter, Read as _, Write as _},
        os::unix::process::CommandExt as _,
        process::{Child, Command, Stdio},
        thread::sleep,
        time::{Duration, Instant},
    };

    use rustix::process::{Pid, Signal, kill_process};
    use tokio::signal::unix::{SignalKind, signal};

    use super::{Keeper, QUIT};
    use crate::link::orphans::{Instance, RUN};

    /// Time for the kernel to end the children, and for descendants to notice.
    const GRACE: Duration = Duration::from_millis(200);
    /// Longest time of ending what is left.
    const TIME_MAX: Duration = Duration::from_secs(5);
    /// Longest wait for the keeper to end in turn.
    const QUIT_MAX: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(10);

    #[derive(Debug)]
    pub(super) struct Inner {
        pipe: Option<PipeWriter>,
        child: Child,
        /// Keeps the orphans' task away from this child.
        _instance: Instance,
    }

    pub(super) fn start(mut command: Command) -> io::Result<Keeper> {
        let (reader, pipe) = io::pipe()?;
        let mut instance = Instance::begin();
        command.envs(instance.marks()).stdin(reader).stdout(Stdio::null()).current_dir("/").process_group(0);
        let child = instance.start(|| command.spawn(), |child| Some(child.id()))?;
        Ok(Keeper { inner: Some(Inner { pipe: Some(pipe), child, _instance: instance }) })
    }

    impl Drop for Keeper {
        fn drop(&mut self) {
            let Some(mut inner) = self.inner.take() else { return };
            if let Some(mut pipe) = inner.pipe.take() {
                let _ = pipe.write_all(&[QUIT]);
            }
            let begun = Instant::now();
            while begun.elapsed() < QUIT_MAX && matches!(inner.child.try_wait(), Ok(None)) {
                sleep(Duration::from_millis(1));
            }
        }
    }

    pub(super) fn keep() -> io::Result<()> {
        let run = env::var(RUN).map_err(|_| io::Error::other("it is started by the hub, not by hand"))?;
        // A handler, even one that nobody listens to, takes the place of the default, which is to die.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()] {
            drop(signal(kind)?);
        }
        drop(guard);

        let mut said = Vec::new();
        io::stdin().take(16).read_to_end(&mut said)?;
        if said.contains(&QUIT) {
            return Ok(());
        }
        sleep(GRACE);
        let (begun, mut ended, mut clean) = (Instant::now(), 0, 0);
        // One look is not enough: amid its exec a process shows no environment at all.
        while clean < 2 && begun.elapsed() < TIME_MAX {
            let left = marked(&run);
            clean = if left.is_empty() { clean + 1 } else { 0 };
            for pid in left {
                ended += u32::from(kill_process(pid, Signal::KILL).is_ok());
            }
            sleep(PAUSE);
        }
        if ended > 0 {
            eprintln!("hubward keeper: the hub was killed; ended {ended} processes it left behind");
        }
        Ok(())
    }

    /// Everybody else who bears the mark of this run.
    fn marked(run: &str) -> Vec<Pid> {
        let mark = format!("{RUN}={run}");
        let bears = |pid: &i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        };
        let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = std::process::id() as i32;
        pids.filter(|pid| *pid != ours).filter(bears).filter_map(Pid::from_raw).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_mark_is_compared_whole() {
            // Only a program that has answered surely shows its environment: `spawn` returns amid its exec.
            let start = |run: &str| {
                let mut command = Command::new("cat");
                let mut child = command.env(RUN, run).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                child.stdin.as_mut().unwrap().write_all(b".").unwrap();
                child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
                child
            };
            let mut children = [start("keeper-test"), start("keeper-test2"), start("xkeeper-test")];
            let found = marked("keeper-test");
            assert_eq!(found, [Pid::from_child(&children[0])]);
            for child in &mut children {
                drop(child.stdin.take());
                child.wait().unwrap();
            }
            assert_eq!(marked("keeper-test"), []);
        }
    }
}
