//! What a hostile child gets, with a sandbox and without: each deed succeeds where nothing forbids it.
#![cfg(target_os = "linux")]

use std::{
    fs,
    os::unix::{net::UnixListener, process::CommandExt as _},
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use super::fixture::{Answer, Client, Hub, LATEST, PATIENCE, eventually, http, hubward, initialize, post, rogue};

/// Somebody without privileges, who is everywhere.
const NOBODY: u32 = 65534;

/// The same rogue three times: within the sandbox, free, and as a bystander.
fn three(sandbox: &str) -> String {
    ["bound", "free", "other"]
        .map(|name| match name {
            "bound" => rogue(name, &[], &format!("sandbox = {sandbox}")),
            _ => rogue(name, &[], ""),
        })
        .concat()
}

struct Clients {
    bound: Client,
    free: Client,
    other: Client,
}

impl Clients {
    async fn open(hub: &Hub) -> Clients {
        let open = async |path| Client::open(hub, path).await;
        Clients { bound: open("/bound/mcp").await, free: open("/free/mcp").await, other: open("/other/mcp").await }
    }

    /// The deed succeeds for the free one, and fails for the other as said.
    async fn only_the_free_one(&self, tool: &str, arguments: Value, refusal: &str) {
        let free = told(&self.free, tool, &arguments).await;
        assert!(!free.starts_with("error"), "{tool} {arguments} fails without a sandbox too: {free}");
        let bound = told(&self.bound, tool, &arguments).await;
        assert!(bound.starts_with("error") && bound.contains(refusal), "{tool} {arguments}: {bound}");
        self.others_go_on().await;
    }

    async fn both(&self, tool: &str, arguments: Value) {
        for client in [&self.free, &self.bound] {
            let told = told(client, tool, &arguments).await;
            assert!(!told.starts_with("error"), "{tool} {arguments}: {told}");
        }
    }

    async fn others_go_on(&self) {
        assert_eq!(told(&self.other, "echo", &json!({ "text": "still here" })).await, "still here");
    }
}

async fn told(client: &Client, tool: &str, arguments: &Value) -> String {
    client.call(tool, arguments.clone()).await.tool_text()
}

async fn greet(hub: &Hub, path: &str) -> Answer {
    post(&http(), &hub.url(path), &[], &initialize(LATEST, json!({}))).await
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `hubward serve` by somebody without privileges, who may write to the folder.
fn start_as_nobody(toml: &str, more: impl FnOnce(&mut Command)) -> Hub {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    fs::write(&path, toml).unwrap();
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "--log-level", "debug", "-c"]);
    command.arg(path).env("HOME", folder.path());
    if is_root() {
        for path in [folder.path(), &folder.path().join("hub.toml")] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    more(&mut command);
    Hub::run(folder, command)
}

/// A hub whose kernel answers a system call with an error.
fn start_denied(toml: &str, call: i64, errno: i32) -> Hub {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = [(call, Vec::new())].into_iter().collect();
    let (allow, deny) = (SeccompAction::Allow, SeccompAction::Errno(errno as u32));
    let filter = SeccompFilter::new(rules, allow, deny, std::env::consts::ARCH.try_into().unwrap()).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    start_as_nobody(toml, |command| {
        let deny = move || seccompiler::apply_filter(&filter).map_err(|_| std::io::ErrorKind::Other.into());
        // SAFETY: between fork and exec it only makes system calls on what was made before.
        unsafe { command.pre_exec(deny) };
    })
}

/// The upstream fails with a reason that holds these words; callers learn no more than that it does.
async fn fails_with_the_reason(hub: &Hub, words: &[&str]) {
    let answer = greet(hub, "/bound/mcp").await;
    assert!(answer.error().1.contains("its sandbox cannot be enforced here"), "{answer:?}");
    let status = hub.until_upstream("bound", |status| status["reason"].is_string()).await;
    let reason = status["reason"].as_str().unwrap();
    for word in words {
        assert!(reason.contains(word), "{word:?} is not in {reason:?}");
    }
    let other = Client::open(hub, "/other/mcp").await;
    assert_eq!(told(&other, "echo", &json!({ "text": "still here" })).await, "still here");
}

#[tokio::test]
async fn t19_file_rules_bound_what_a_child_reads_and_writes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for name in ["data", "docs", "private"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(&format!("{name}/file")), "content").unwrap();
    }
    let sandbox = format!("{{ read = [{:?}], write = ['./mine', {:?}] }}", at("docs"), at("data"));
    let own = tempfile::tempdir().unwrap();
    fs::create_dir(own.path().join("mine")).unwrap();
    let mine = own.path().join("mine/new").display().to_string();
    let hub = Hub::start_in(own, &three(&sandbox));
    let clients = Clients::open(&hub).await;
    let file = |path: &str| json!({ "path": path });

    for path in [at("docs/file"), at("data/file"), "/dev/null".into(), "/proc/self/status".into()] {
        clients.both("read_file", file(&path)).await;
    }
    for path in [at("data/file"), at("data/new"), mine, "/dev/null".into()] {
        clients.both("write_file", file(&path)).await;
    }
    let secrets = [at("private/file"), "/etc/passwd".into(), hub.path().display().to_string()];
    for path in secrets {
        clients.only_the_free_one("read_file", file(&path), "PermissionDenied").await;
    }
    for path in [at("docs/file"), at("docs/new"), at("private/file"), at("private/new")] {
        clients.only_the_free_one("write_file", file(&path), "PermissionDenied").await;
    }
    for path in [at("docs/file"), at("private/file")] {
        clients.only_the_free_one("empty_file", file(&path), "Permission").await;
    }
}

#[tokio::test]
async fn t19_write_alone_bounds_writing_alone() {
    let hub = Hub::start(&three("{ write = [] }"));
    let clients = Clients::open(&hub).await;
    clients.both("read_file", json!({ "path": "/etc/passwd" })).await;
    clients.both("write_file", json!({ "path": "/dev/null" })).await;
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("x");
    clients.only_the_free_one("write_file", json!({ "path": path }), "PermissionDenied").await;
}

#[tokio::test]
async fn t19_no_child_reads_the_environment_of_the_hub() {
    let secret = "s3cret-of-the-hub";
    let toml = three("{ read = ['/proc'] }");
    // As root the free one may look anywhere, which shows that there is something to see.
    let environ = |hub: &Hub| json!({ "path": format!("/proc/{}/environ", hub.pid()) });
    if is_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        fs::write(&path, &toml).unwrap();
        let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "-c"]);
        command.arg(path).env("SECRET", secret);
        let hub = Hub::run(folder, command);
        let clients = Clients::open(&hub).await;
        assert!(told(&clients.free, "read_file", &environ(&hub)).await.contains(secret));
        clients.only_the_free_one("read_file", environ(&hub), "PermissionDenied").await;
        let memory = json!({ "path": format!("/proc/{}/maps", hub.pid()) });
        clients.only_the_free_one("read_file", memory, "PermissionDenied").await;
    }
    // Anybody else may not, with a sandbox or without; nor has the keeper what the hub has.
    let hub = start_as_nobody(&toml, |command| {
        command.env("SECRET", secret);
    });
    let clients = Clients::open(&hub).await;
    for client in [&clients.free, &clients.bound] {
        let told = told(client, "read_file", &environ(&hub)).await;
        assert!(told.contains("PermissionDenied"), "{told}");
    }
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        if status.contains(&format!("PPid:\t{}\n", hub.pid())) {
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&environ).contains(secret), "{status}");
        }
    }
}

#[tokio::test]
async fn t19_without_a_network_there_are_no_sockets() {
    let hub = Hub::start(&three("{ network = false }"));
    let clients = Clients::open(&hub).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _unix = UnixListener::bind(&path).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut ways = vec![
        ("tcp", tcp.local_addr().unwrap().to_string()),
        ("udp", udp.local_addr().unwrap().to_string()),
        ("unix", path.display().to_string()),
        ("tcp", hub.base.trim_start_matches("http://").to_owned()),
    ];
    let six = std::net::TcpListener::bind("[::1]:0");
    ways.extend(six.iter().map(|six| ("tcp", six.local_addr().unwrap().to_string())));
    for (by, to) in ways {
        clients.only_the_free_one("connect", json!({ "by": by, "to": to }), "PermissionDenied").await;
    }
    // It needs a kernel that has them.
    if told(&clients.free, "connect", &json!({ "by": "ring" })).await == "connected" {
        clients.only_the_free_one("connect", json!({ "by": "ring" }), "PermissionDenied").await;
    }
    // What reaches nobody is left: runtimes need it.
    clients.both("connect", json!({ "by": "pair" })).await;
    // A call of another kind of program would have another number.
    let status = told(&clients.bound, "read_file", &json!({ "path": "/proc/self/status" })).await;
    assert!(status.contains("Seccomp:\t2"), "{status}");
}

#[tokio::test]
async fn f24_memory_max_bounds_what_a_child_takes() {
    let hub = Hub::start(&three("{ memory_max = '256 MiB' }"));
    let clients = Clients::open(&hub).await;
    let got: u64 = told(&clients.bound, "allocate", &json!({ "mib": 8192 })).await.parse().unwrap();
    assert!((64..=256).contains(&got), "{got} MiB");
    clients.others_go_on().await;
    assert_eq!(told(&clients.free, "allocate", &json!({ "mib": 384 })).await, "384");
    // Nothing is used of these.
    for kind in ["private", "shared", "growing"] {
        clients.only_the_free_one("map", json!({ "mib": 512, "kind": kind }), "error").await;
    }
    assert_eq!(told(&clients.bound, "echo", &json!({ "text": "lives on" })).await, "lives on");
}

/// Whether user namespaces may be made here by whom the hub runs as.
fn may_count() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "true"]);
    if is_root() {
        unshare.uid(NOBODY).gid(NOBODY);
    }
    unshare.output().is_ok_and(|done| done.status.success())
}

#[tokio::test]
async fn f24_processes_max_bounds_a_fork_bomb() {
    let toml = three("{ processes_max = 40 }");
    let hub = start_as_nobody(&toml, |_| ());
    if !may_count() {
        println!("no user namespaces here: the upstream has to fail");
        return fails_with_the_reason(&hub, &["processes_max", "user namespace"]).await;
    }
    println!("user namespaces are permitted: the limit has to hold");
    let clients = Clients::open(&hub).await;
    let got: u64 = told(&clients.bound, "fork", &json!({ "count": 10_000 })).await.parse().unwrap();
    assert!((20..40).contains(&got), "{got} processes");
    clients.others_go_on().await;
    assert_eq!(told(&clients.free, "fork", &json!({ "count": 100 })).await, "100");
    // Each process of the upstream counts for itself, and again after what it started is gone.
    let second = Client::open(&hub, "/bound/mcp").await;
    for client in [&second, &clients.bound] {
        assert!(told(client, "fork", &json!({ "count": 20 })).await == "20");
    }
}

#[tokio::test]
async fn f111_a_count_that_does_not_bind_root_fails_with_the_reason() {
    if !is_root() {
        return println!("not root: see f24_processes_max_bounds_a_fork_bomb");
    }
    let hub = Hub::start(&three("{ processes_max = 40 }"));
    fails_with_the_reason(&hub, &["`sandbox.processes_max` cannot be enforced", "root", "delegate"]).await;
}

#[tokio::test]
async fn f111_a_path_that_is_not_there_fails_with_the_reason() {
    let hub = Hub::start(&three("{ read = ['/no/such/place'] }"));
    fails_with_the_reason(&hub, &["`sandbox.read` cannot be enforced", "/no/such/place", "create it"]).await;
}

#[tokio::test]
async fn f111_a_kernel_without_landlock_fails_file_rules_with_the_reason() {
    for sandbox in ["{ read = ['/usr'] }", "{ write = [] }"] {
        let hub = start_denied(&three(sandbox), libc::SYS_landlock_create_ruleset, libc::ENOSYS);
        fails_with_the_reason(&hub, &["cannot be enforced", "Linux 6.2", "landlock"]).await;
    }
}

#[tokio::test]
async fn f111_a_kernel_without_seccomp_fails_the_network_with_the_reason() {
    for (sandbox, key) in [("{ network = false }", "network"), ("{ memory_max = '1 GiB' }", "memory_max")] {
        let hub = start_denied(&three(sandbox), libc::SYS_seccomp, libc::ENOSYS);
        fails_with_the_reason(&hub, &[&format!("`sandbox.{key}` cannot be enforced"), "seccomp"]).await;
    }
}

#[tokio::test]
async fn f111_where_namespaces_are_denied_the_count_fails_with_the_reason() {
    let hub = start_denied(&three("{ processes_max = 40 }"), libc::SYS_unshare, libc::EPERM);
    fails_with_the_reason(&hub, &["`sandbox.processes_max` cannot be enforced", "user namespace", "delegate"]).await;
}

#[tokio::test]
async fn f93_every_child_gains_nothing_and_dumps_nothing() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let status = told(&client, "read_file", &json!({ "path": "/proc/self/status" })).await;
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let of = |limits: String| -> u64 {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        line.split_whitespace().map(|word| word.parse().unwrap_or(0)).max().unwrap()
    };
    // One byte is no dump, and unlike none also tells the kernel to hand it to no program.
    assert!(of(told(&client, "read_file", &json!({ "path": "/proc/self/limits" })).await) <= 1);
    assert!(of(fs::read_to_string(Path::new("/proc").join(hub.pid().to_string()).join("limits")).unwrap()) <= 1);
}

#[tokio::test]
async fn an_edited_sandbox_is_that_of_the_next_process() {
    let hub = Hub::start(&three("{ network = false }"));
    let pair = json!({ "by": "tcp", "to": hub.base.trim_start_matches("http://") });
    let before = Client::open(&hub, "/bound/mcp").await;
    assert!(told(&before, "connect", &pair).await.contains("PermissionDenied"));
    hub.edit(&three("{ network = true }"));
    hub.generation(2).await;
    // The old process serves until the new one has proved itself.
    let began = std::time::Instant::now();
    while told(&Client::open(&hub, "/bound/mcp").await, "connect", &pair).await != "connected" {
        assert!(began.elapsed() < PATIENCE, "{}", hub.log());
    }
}

/// The process that `unshare` started in its place.
fn child_of(pid: u32) -> Option<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    list.split_whitespace().next()?.parse().ok()
}

/// Children of a process by their name, dead or alive.
fn children_of(pid: u32, name: &str) -> usize {
    let stat = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("stat")).ok();
    let is_one = |stat: &String| {
        let (head, rest) = stat.rsplit_once(')').unwrap_or_default();
        head.ends_with(&format!("({name}")) && rest.split_whitespace().nth(1) == Some(&pid.to_string())
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(stat).filter(is_one).count()
}

/// A hub as in the barest container, as far as the script makes it: it ends with `exec "$@"`.
fn start_contained(script: &str) -> Option<Hub> {
    let namespaces = ["--fork", "--kill-child", "--pid", "--mount"];
    let user: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
    let unshare = |rest: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(namespaces).args(user).args(rest);
        command
    };
    if !unshare(&["mount", "-t", "tmpfs", "none", "/mnt"]).output().is_ok_and(|done| done.status.success()) {
        println!("namespaces are denied here: nothing can be shown");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), is_root().then_some(NOBODY), None).unwrap();
    let path = folder.path().join("hub.toml");
    fs::write(&path, rogue("a", &[], "")).unwrap();
    let inside = hubward(&["serve", "--bind", "127.0.0.1:0", "--log-level", "debug", "-c"]);
    let mut command = unshare(&["sh", "-ec", script, "sh"]);
    command.arg(inside.get_program()).args(inside.get_args()).arg(path);
    command.env_remove("HUBWARD_CONFIG").env_remove("HUBWARD_LOG").env("HOME", folder.path());
    Some(Hub::run(folder, command))
}

#[tokio::test]
async fn f109_first_process_one_processor_read_only_without_proc_and_privileges() {
    let drop = if is_root() { "setpriv --reuid 65534 --regid 65534 --clear-groups" } else { "" };
    for proc in ["mount -t proc none /proc", "mount -t tmpfs none /proc"] {
        let script = format!("{proc}; mount -o remount,bind,ro /; exec taskset -c 0 {drop} \"$@\"");
        let Some(hub) = start_contained(&script) else { return };
        let first = child_of(hub.pid()).unwrap();
        let client = Client::open(&hub, "/a/mcp").await;
        assert_eq!(told(&client, "echo", &json!({ "text": "works" })).await, "works");
        let refused = told(&client, "write_file", &json!({ "path": "/etc/hubward-test" })).await;
        assert!(refused.starts_with("error"), "{refused}");
        // Who is left behind has no other parent than the first process.
        assert_eq!(told(&client, "orphans", &json!({ "count": 5 })).await, "ok");
        eventually("the dead are reaped", || children_of(first, "sleep") == 0).await;
        assert_eq!(client.delete().await, 204);
        assert_eq!(told(&Client::open(&hub, "/a/mcp").await, "echo", &json!({ "text": "again" })).await, "again");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(first as i32).unwrap(),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        let mut hub = hub;
        assert!(hub.ended().success(), "{}", hub.log());
    }
}
