//! systemd's side: sockets that were passed, and what it is told. The test plays its part by the documented protocol.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            net::{UnixDatagram, UnixListener},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use sd_notify::NotifyState;
use serde_json::{Value, json};

use super::fixture::{Client, Hub, LATEST, PATIENCE, echo, eventually, http, hubward, initialize, post, rogue};

/// `hubward serve` of a folder, with these addresses.
fn serve(folder: &Path, toml: &str, binds: &[String]) -> Command {
    let path = folder.join("hub.toml");
    std::fs::write(&path, toml).unwrap();
    let mut command = hubward(&["serve", "--log-level", "debug", "-c"]);
    command.arg(path);
    for bind in binds {
        command.args(["--bind", bind]);
    }
    command
}

/// The command as systemd starts it: the sockets from descriptor 3 on, inheritable, and said to be for this process.
fn activated(command: &Command, sockets: &[&dyn AsFd], names: &str, pid: &str) -> Command {
    // Out of the way of those they become.
    let dup = |socket: &&dyn AsFd| rustix::io::fcntl_dupfd_cloexec(socket.as_fd(), 100).unwrap();
    let sockets: Vec<OwnedFd> = sockets.iter().map(dup).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("export LISTEN_PID={pid}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    shell.env_remove("HUBWARD_CONFIG").env_remove("HUBWARD_LOG");
    let pass = move || {
        for (at, socket) in sockets.iter().enumerate() {
            // SAFETY: only numbers, in a child that executes another program at once.
            if unsafe { libc::dup2(socket.as_raw_fd(), 3 + at as i32) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: it makes system calls only.
    unsafe { shell.pre_exec(pass) };
    shell
}

fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Connects anew for every request, all the time.
struct Callers {
    over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    wrong: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Callers {
    fn begin(address: SocketAddr) -> Callers {
        let (over, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let wrong = Arc::<Mutex<Vec<String>>>::default();
        let url = format!("http://{address}/a/mcp");
        let task = || {
            let (over, served, wrong) = (over.clone(), served.clone(), Arc::clone(&wrong));
            let url = url.clone();
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let sent = http().post(&url).header("accept", "application/json, text/event-stream");
                    let sent = sent.header("content-type", "application/json").header("connection", "close");
                    let outcome = match sent.body(initialize(LATEST, json!({})).to_string()).send().await {
                        Ok(answer) if answer.status() == 200 => {
                            answer.bytes().await.map(drop).map_err(|e| format!("{e:?}"))
                        }
                        Ok(answer) => Err(format!("{}", answer.status())),
                        Err(error) => Err(format!("{error:?}")),
                    };
                    match outcome {
                        Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => wrong.lock().unwrap().push(error),
                    }
                }
            })
        };
        let tasks = (0..4).map(|_| task()).collect();
        Callers { over, served, wrong, tasks }
    }

    /// Waits for that many more.
    async fn more(&self, count: usize) {
        let wanted = self.served.load(Ordering::Relaxed) + count;
        let (served, wrong) = (&self.served, &self.wrong);
        eventually("clients are served", || {
            served.load(Ordering::Relaxed) >= wanted || !wrong.lock().unwrap().is_empty()
        })
        .await;
        assert_eq!(*wrong.lock().unwrap(), Vec::<String>::new());
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        assert_eq!(*self.wrong.lock().unwrap(), Vec::<String>::new());
    }
}

// The clients go on while a hub is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f107_an_upgrade_under_socket_activation_refuses_nobody() {
    let (socket, address) = listening();
    let start = || {
        let folder = tempfile::tempdir().unwrap();
        let toml = format!("{}{}", echo("a", "isolation = 'shared'"), rogue("r", &[], ""));
        let command = serve(folder.path(), &toml, &[address.to_string()]);
        Hub::run(folder, activated(&command, &[&socket], "hubward.socket", "$$"))
    };
    let mut first = start();
    assert_eq!(first.base, format!("http://{address}"));
    let callers = Callers::begin(address);
    callers.more(20).await;
    let client = Client::open(&first, "/r/mcp").await;
    let long = {
        let client = client.clone();
        tokio::spawn(async move { client.call("sleep", json!({ "ms": 1500 })).await })
    };
    first.until_upstream("r", |r| r["in_flight"] == 1).await;
    // The next one comes while the first finishes what it has.
    let mut second = start();
    first.signal("TERM");
    callers.more(20).await;
    assert_eq!(long.await.unwrap().tool_text(), "slept");
    assert!(first.ended().success());
    callers.more(20).await;
    // Nobody there at all: who connects meanwhile waits.
    second.signal("TERM");
    assert!(second.ended().success());
    let waiting = std::net::TcpStream::connect(address).unwrap();
    let third = start();
    callers.more(20).await;
    drop(waiting);
    callers.end().await;
    drop(third);
}

#[tokio::test]
async fn addresses_take_the_sockets_that_were_passed_and_socket_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (unix, (tcp, address)) = (UnixListener::bind(&path).unwrap(), listening());
    let binds = [format!("127.0.0.1:{}", address.port()), "127.0.0.1:0".into(), format!("unix:{}", path.display())];
    let command = serve(folder.path(), &rogue("r", &[], ""), &binds);
    let mut hub = Hub::run(folder, activated(&command, &[&unix, &tcp], "file:net", "$$"));
    hub.logged("the socket `net` at 127.0.0.1:").await;
    hub.logged("the socket `file` at unix:").await;
    assert_eq!(hub.base, format!("http://{address}"));
    let over = reqwest::Client::builder().no_proxy().tls_certs_only([]).unix_socket(path.clone()).build().unwrap();
    for (client, url) in [(http(), hub.url("/r/mcp")), (over, "http://localhost/r/mcp".to_owned())] {
        assert_eq!(post(&client, &url, &[], &initialize(LATEST, json!({}))).await.status, 200, "{url}");
    }
    hub.signal("TERM");
    assert!(hub.ended().success());
    assert!(path.exists(), "it belongs to whoever passed it");
    // They listen on, in our hands.
    std::net::TcpStream::connect(address).unwrap();
}

#[tokio::test]
async fn t19_children_inherit_neither_sockets_nor_the_way_to_systemd() {
    let (socket, address) = listening();
    let folder = tempfile::tempdir().unwrap();
    let (notify, _said) = supervisor(folder.path());
    let command = serve(folder.path(), &rogue("r", &[], "inherit_env = true"), &[address.to_string()]);
    let mut command = activated(&command, &[&socket], "x", "$$");
    command.env("NOTIFY_SOCKET", notify).env("WATCHDOG_USEC", "20000000").env("SOMETHING", "else");
    let hub = Hub::run(folder, command);
    let client = Client::open(&hub, "/r/mcp").await;
    let seen = async |tool: &str| -> BTreeMap<String, Value> {
        serde_json::from_str(&client.call(tool, json!({})).await.tool_text()).unwrap()
    };
    let env = seen("env").await;
    assert_eq!(env["SOMETHING"], "else");
    let systemd =
        |name: &&String| name.starts_with("LISTEN_") || name.starts_with("NOTIFY_") || name.starts_with("WATCHDOG_");
    assert_eq!(env.keys().filter(systemd).count(), 0, "{env:?}");
    let ours = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    let ours = ours.to_str().unwrap();
    let fds = seen("fds").await;
    assert!(fds.values().all(|target| !target.to_string().contains(ours)), "{fds:?}");
    // Nor does the keeper, which is started without any bounds.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", hub.pid())).unwrap();
    let held = |pid: &str| {
        let all = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let targets = all.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.map(|target| target.display().to_string()).collect::<Vec<_>>()
    };
    assert!(held(&hub.pid().to_string()).iter().any(|target| target == ours), "the hub itself has it");
    assert!(children.split_whitespace().count() >= 2, "{children}");
    for child in children.split_whitespace() {
        assert!(!held(child).iter().any(|target| target == ours), "{child}");
    }
}

#[tokio::test]
async fn sockets_for_another_process_are_none_of_ours() {
    let (socket, address) = listening();
    let folder = tempfile::tempdir().unwrap();
    let command = serve(folder.path(), &rogue("r", &[], ""), &[address.to_string()]);
    let ended = activated(&command, &[&socket], "x", "1").output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("another program holds it"), "{told}");
    // One that no address names is told of, and not served.
    let command = serve(folder.path(), &rogue("r", &[], ""), &["127.0.0.1:0".into()]);
    let hub = Hub::run(folder, activated(&command, &[&socket], "lost", "$$"));
    assert_ne!(hub.base, format!("http://{address}"));
    hub.logged(&format!("the socket `lost` at {address} was passed to us, and no address in `bind` is that")).await;
}

#[test]
fn a_passed_descriptor_that_does_not_listen_is_refused_by_its_name() {
    let (socket, address) = listening();
    let connection = std::net::TcpStream::connect(address).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let command = serve(folder.path(), &rogue("r", &[], ""), &[address.to_string()]);
    for (passed, expected) in
        [(&connection as &dyn AsFd, "`bad` does not listen"), (&file, "`bad` is no stream socket")]
    {
        let ended = activated(&command, &[&socket, passed], "good:bad", "$$").output().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

/// The socket that systemd would listen on.
fn supervisor(folder: &Path) -> (PathBuf, UnixDatagram) {
    let path = folder.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    (path, socket)
}

/// The next message that is about something; what else came is added to `heard`.
fn heard(socket: &UnixDatagram, about: &str, heard: &mut Vec<String>) -> String {
    let (began, mut bytes) = (Instant::now(), [0; 4096]);
    loop {
        let length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{about}: {error}; {heard:?}"));
        let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
        heard.push(message.clone());
        if message.contains(about) {
            return message;
        }
        assert!(began.elapsed() < PATIENCE, "no {about} in {heard:?}");
    }
}

fn now() -> i128 {
    match NotifyState::monotonic_usec_now().unwrap() {
        NotifyState::MonotonicUsec(now) => now,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn systemd_is_told_of_the_start_of_reloads_and_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (path, socket) = supervisor(folder.path());
    let mut command = serve(folder.path(), &rogue("r", &[], ""), &["127.0.0.1:0".into()]);
    command.env("NOTIFY_SOCKET", path);
    let mut hub = Hub::run(folder, command);
    let mut all = Vec::new();
    let ready = heard(&socket, "READY=1", &mut all);
    assert_eq!(ready, "READY=1\n");
    assert!(all[0].starts_with("STATUS=1 upstreams, 0 of them running; generation 1"), "{all:?}");
    // `systemctl reload` is SIGHUP, and waits for an answer that is younger than that.
    let asked = now();
    hub.signal("HUP");
    let reloading = heard(&socket, "RELOADING=1", &mut all);
    let stamp = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end().parse::<i128>().unwrap();
    assert!(asked <= stamp && stamp <= now(), "{asked} {stamp}");
    heard(&socket, "READY=1", &mut all);
    // So is a command, and an edit that is rejected is over too.
    std::fs::write(hub.path(), "nonsense").unwrap();
    assert!(!hub.command(&["reload"]).status.success());
    heard(&socket, "RELOADING=1", &mut all);
    heard(&socket, "READY=1", &mut all);
    heard(&socket, "the last edit was rejected", &mut all);
    hub.signal("TERM");
    heard(&socket, "STOPPING=1", &mut all);
    assert!(hub.ended().success());
    socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    while let Ok(length) = socket.recv(&mut bytes) {
        assert!(!String::from_utf8_lossy(&bytes[..length]).contains("READY=1"), "it had said goodbye");
    }
    assert!(all.iter().all(|message| !message.contains("WATCHDOG")), "nobody asked for it: {all:?}");
}

#[tokio::test]
async fn the_status_names_what_has_failed_and_the_watchdog_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (path, socket) = supervisor(folder.path());
    let toml = "[upstreams.gone]\ncommand = '/nowhere/x'\nstart = 'eager'\nera = 'legacy'\nrestart = { max = 0 }\n";
    let mut command = serve(folder.path(), toml, &["127.0.0.1:0".into()]);
    command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "300000");
    let _hub = Hub::run(folder, command);
    let mut all = Vec::new();
    heard(&socket, "failed: gone", &mut all);
    for _ in 0..5 {
        heard(&socket, "WATCHDOG=1", &mut all);
    }
}
