//! The end of a child: close stdin, wait, SIGTERM, wait, SIGKILL, always to its whole group, and reap it.
//!
//! One task per child, on the runtime that started it, lives as long as the child does. Each rung is reached in
//! time to let the last one fit into the stop timeout. A child that ends by itself leaves the same way what it
//! started: nothing of its group stays behind.
//! Invariant: [`climb`] returns after the child is reaped, and its group is gone.

use std::{
    fmt,
    process::ExitStatus,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{process::Child, task::JoinHandle, time};

use super::{orphans::Instance, process::Control, pump, sandbox::Bounds};

/// How long a group may outlive SIGKILL before we go on; only a kernel that waits for a device lets it.
const UNKILLABLE_MAX: Duration = Duration::from_secs(1);
/// How long the last words on stderr may take.
const LAST_WORDS_MAX: Duration = Duration::from_millis(200);

/// How a child ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Whether it was asked to.
    pub stopped: bool,
    /// Why it was, if it was unhealthy.
    pub fault: Option<Fault>,
}

/// Why a child is unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NotReading,
    StrayLine,
    StrayFlood,
}

impl Exit {
    pub(super) fn of(status: Option<ExitStatus>, stopped: bool, fault: Option<Fault>) -> Exit {
        #[cfg(unix)]
        let signal = status.and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status));
        #[cfg(not(unix))]
        let signal = None;
        Exit { code: status.and_then(|status| status.code()), signal, stopped, fault }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.fault, self.stopped, self.code, self.signal) {
            // Some are gone before they can be stopped.
            (Some(fault), ..) => write!(f, "was stopped: it {fault}"),
            (None, true, ..) => f.write_str("was stopped"),
            (_, false, Some(code), _) => write!(f, "exited with code {code}"),
            (_, false, _, Some(9)) => f.write_str("was killed by signal 9 (likely out of memory)"),
            (_, false, _, Some(signal)) => write!(f, "was killed by signal {signal}"),
            (_, false, None, None) => f.write_str("ended"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::NotReading => write!(f, "did not read its stdin for {} s", pump::WRITE_STALL_MAX.as_secs()),
            Fault::StrayLine => f.write_str("printed a line that is no message, and strict_stdout is set"),
            Fault::StrayFlood => {
                write!(f, "printed {} lines that are no messages, and no message between", pump::STRAY_LINES_MAX)
            }
        }
    }
}

/// The child and what it started.
pub(super) struct Family {
    pub(super) child: Child,
    pub(super) group: Group,
    pub(super) stop_timeout: Duration,
    /// To be told that the child was reaped.
    pub(super) instance: Instance,
    /// What it was bound by has to last as long.
    pub(super) _bounds: Arc<Bounds>,
}

/// The tasks at the child's pipes that end with it.
pub(super) struct Tasks {
    pub(super) stdin: JoinHandle<()>,
    pub(super) stderr: JoinHandle<()>,
}

/// Waits for the child to end, or to be asked to end, and sees it through.
pub(super) async fn climb(mut family: Family, mut tasks: Tasks, control: Arc<Control>) -> Exit {
    let by_itself = tokio::select! {
        biased;
        status = family.child.wait() => Some(status),
        () = control.stop.cancelled() => None,
    };
    let stopped = by_itself.is_none();
    let begun = Instant::now();
    // The last rung is reached early enough for the kernel to do its part within the time.
    let last = family.stop_timeout - (family.stop_timeout / 5).min(Duration::from_millis(250));

    // First rung: the writer closes stdin. Only the leader is waited for.
    if stopped {
        let _ = time::timeout(family.stop_timeout / 2, or_killed(&control, family.child.wait())).await;
    }
    // Second rung: whoever is left.
    if !control.kill.is_cancelled() && family.is_alive() {
        family.group.terminate();
        let left = last.saturating_sub(begun.elapsed());
        let _ = time::timeout(left, or_killed(&control, family.gone(&control))).await;
    }
    // Third rung.
    if family.is_alive() {
        tracing::debug!(upstream = %control.name, "killing what does not end");
        family.kill();
    }
    let status = family.reaped(&control).await;
    if time::timeout(UNKILLABLE_MAX, family.gone(&control)).await.is_err() {
        tracing::warn!(upstream = %control.name, group = family.group.number(), "the process group outlives SIGKILL");
    }

    if time::timeout(LAST_WORDS_MAX, &mut tasks.stderr).await.is_err() {
        // Somebody else still holds its end.
        tasks.stderr.abort();
    }
    tasks.stdin.abort();
    Exit::of(status, stopped, control.fault.get().copied())
}

async fn or_killed<T>(control: &Control, wait: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = control.kill.cancelled() => None,
        done = wait => Some(done),
    }
}

impl Family {
    /// Waits for the leader, and tells the tasks at its pipes.
    async fn reaped(&mut self, control: &Control) -> Option<ExitStatus> {
        let status = self.child.wait().await.ok();
        self.instance.reaped();
        control.gone.cancel();
        status
    }

    /// Waits for the leader to be reaped, and for the rest to leave.
    async fn gone(&mut self, control: &Control) {
        self.reaped(control).await;
        let mut pause = Duration::from_millis(1);
        while self.group.is_alive() {
            time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
            // Their new parent may be in no hurry to reap them.
            if pause > Duration::from_millis(8) && self.group.is_dead() {
                return;
            }
        }
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None)) || self.group.is_alive()
    }

    fn kill(&mut self) {
        self.group.kill();
        let _ = self.child.start_kill();
    }
}

/// The process group that the child leads.
#[cfg(unix)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Group(rustix::process::Pid);

#[cfg(unix)]
impl Group {
    pub(super) fn of(pid: u32) -> Option<Group> {
        rustix::process::Pid::from_raw(i32::try_from(pid).ok()?).map(Group)
    }

    fn number(self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    /// Whether it has members. Its number is not given away as long as it has.
    fn is_alive(self) -> bool {
        rustix::process::test_kill_process_group(self.0).is_ok()
    }

    /// Whether its members are all zombies.
    #[cfg(target_os = "linux")]
    fn is_dead(self) -> bool {
        let Ok(all) = std::fs::read_dir("/proc") else { return false };
        let group = self.number().to_string();
        !all.flatten().filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok()).any(|stat| {
            // After the name, in parentheses, which may hold any: state, parent, group.
            let mut rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
            rest.next().is_some_and(|state| !matches!(state, "Z" | "X")) && rest.nth(1) == Some(&group)
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn is_dead(self) -> bool {
        false
    }

    fn terminate(self) {
        let _ = rustix::process::kill_process_group(self.0, rustix::process::Signal::TERM);
    }

    fn kill(self) {
        let _ = rustix::process::kill_process_group(self.0, rustix::process::Signal::KILL);
    }
}

/// Without groups the child stands alone.
#[cfg(not(unix))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Group(u32);

#[cfg(not(unix))]
impl Group {
    pub(super) fn of(pid: u32) -> Option<Group> {
        Some(Group(pid))
    }

    fn number(self) -> u32 {
        self.0
    }

    fn is_alive(self) -> bool {
        false
    }

    fn is_dead(self) -> bool {
        true
    }

    fn terminate(self) {}

    fn kill(self) {}
}
