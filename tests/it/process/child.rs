//! What the tests of a child process share: scripts, a worker to run their links, and states to wait for.

use std::{
    ffi::OsString,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hubward::link::{
    Inbound, Link,
    process::{Process, ProcessSpec, spawn},
};
use tokio::{runtime::Handle, sync::oneshot, time::timeout};

pub const MIB: usize = 1024 * 1024;
/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A thread with a runtime of its own, like a worker of the server.
pub struct Worker {
    pub handle: Handle,
    _end: oneshot::Sender<()>,
}

pub fn worker(paused: bool) -> Worker {
    let (end, ended) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build().unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(async { drop(ended.await) }));
    Worker { handle, _end: end }
}

pub fn spec(command: &str, args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        name: "test".into(),
        command: command.into(),
        args: args.iter().map(OsString::from).collect(),
        env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        cwd: "/".into(),
        stop_timeout: Duration::from_secs(1),
        message_bytes_max: 16 * MIB,
        strict_stdout: false,
        sandbox: Default::default(),
        hears: None,
    }
}

/// A shell script; `say NAME` in it sends a notification.
pub fn sh(script: &str) -> ProcessSpec {
    let say = r#"say() { printf '{"jsonrpc":"2.0","method":"%s"}\n' "$1"; }"#;
    spec("sh", &["-c", &format!("{say}\n{script}")])
}

/// A child with its link and its worker.
pub struct Child {
    pub process: Process,
    pub link: Link,
    pub _worker: Worker,
}

pub fn start(spec: &ProcessSpec) -> Child {
    start_on(spec, worker(false))
}

pub fn start_on(spec: &ProcessSpec, worker: Worker) -> Child {
    let (process, link) = spawn(spec, &worker.handle).unwrap();
    Child { process, link, _worker: worker }
}

impl Child {
    pub async fn next(&mut self) -> Option<Inbound> {
        timeout(PATIENCE, self.link.from.recv()).await.expect("something comes")
    }

    pub async fn heard(&mut self) -> String {
        match self.next().await {
            Some(Inbound::Message(message)) => message.method().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn pid_heard(&mut self) -> i32 {
        self.heard().await.parse().unwrap()
    }

    pub async fn send(&self, text: impl Into<Bytes>) {
        self.link.to.send(text.into().into()).await.unwrap();
    }

    pub async fn link_ends(&mut self) {
        assert!(self.next().await.is_none());
    }

    pub async fn exited(&self) -> String {
        timeout(PATIENCE, self.process.exited()).await.expect("it ends").to_string()
    }

    pub async fn stopped(&self) -> String {
        self.process.stop();
        self.exited().await
    }
}

/// Waits for a state.
pub async fn until(what: &str, state: impl Fn() -> bool) {
    let begun = Instant::now();
    while !state() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether it runs; a zombie does not.
pub fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Children of this process, zombies included.
pub fn children() -> usize {
    let parent = |stat: String| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok();
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| parent(stat.clone()) == Some(std::process::id()))
        .count()
}

pub const ROLE: &str = "HUBWARD_TEST_ROLE";

/// This test alone in a process, in a role.
pub fn in_role(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("process::{test}"), "--nocapture"]).env(ROLE, role);
    command
}

pub fn role() -> String {
    std::env::var(ROLE).unwrap_or_default()
}

/// Runs a body in a process of its own, because it looks at, or changes, the whole of one.
pub fn alone(test: &str, body: impl Future<Output = ()>) {
    if role() == "alone" {
        return tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
    }
    assert!(in_role(test, "alone").status().unwrap().success());
}
