//! A child process as a Link: what goes wrong with one, row by row of the fault catalogue.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    os::fd::AsRawFd as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hubward::{
    link::{
        Inbound, Link, keeper, orphans,
        process::{Fault, Process, ProcessSpec, SpawnError, spawn},
    },
    wire::Id,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{runtime::Handle, sync::oneshot, time::timeout};

const MIB: usize = 1024 * 1024;
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A thread with a runtime of its own, like a worker of the server.
struct Worker {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

fn worker(paused: bool) -> Worker {
    let (end, ended) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build().unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(async { drop(ended.await) }));
    Worker { handle, _end: end }
}

fn spec(command: &str, args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        name: "test".into(),
        command: command.into(),
        args: args.iter().map(OsString::from).collect(),
        env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        cwd: "/".into(),
        stop_timeout: Duration::from_secs(5),
        message_bytes_max: 16 * MIB,
        strict_stdout: false,
    }
}

/// A shell script; `say NAME` in it sends a notification.
fn sh(script: &str) -> ProcessSpec {
    let say = r#"say() { printf '{"jsonrpc":"2.0","method":"%s"}\n' "$1"; }"#;
    spec("sh", &["-c", &format!("{say}\n{script}")])
}

/// A child with its link and its worker.
struct Child {
    process: Process,
    link: Link,
    _worker: Worker,
}

fn start(spec: &ProcessSpec) -> Child {
    start_on(spec, worker(false))
}

fn start_on(spec: &ProcessSpec, worker: Worker) -> Child {
    let (process, link) = spawn(spec, &worker.handle).unwrap();
    Child { process, link, _worker: worker }
}

impl Child {
    async fn next(&mut self) -> Option<Inbound> {
        timeout(PATIENCE, self.link.from.recv()).await.expect("something comes")
    }

    async fn heard(&mut self) -> String {
        match self.next().await {
            Some(Inbound::Message(message)) => message.method().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    async fn pid_heard(&mut self) -> i32 {
        self.heard().await.parse().unwrap()
    }

    async fn send(&self, text: impl Into<Bytes>) {
        self.link.to.send(text.into()).await.unwrap();
    }

    async fn link_ends(&mut self) {
        assert!(self.next().await.is_none());
    }

    async fn exited(&self) -> String {
        timeout(PATIENCE, self.process.exited()).await.expect("it ends").to_string()
    }

    async fn stopped(&self) -> String {
        self.process.stop();
        self.exited().await
    }
}

/// Waits for a state.
async fn until(what: &str, state: impl Fn() -> bool) {
    let begun = Instant::now();
    while !state() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether it runs; a zombie does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Children of this process, zombies included.
fn children() -> usize {
    let parent = |stat: String| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok();
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| parent(stat.clone()) == Some(std::process::id()))
        .count()
}

const ROLE: &str = "HUBWARD_TEST_ROLE";

/// This test alone in a process, in a role.
fn in_role(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("process::{test}"), "--nocapture"]).env(ROLE, role);
    command
}

fn role() -> String {
    std::env::var(ROLE).unwrap_or_default()
}

/// Runs a body in a process of its own, because it looks at, or changes, the whole of one.
fn alone(test: &str, body: impl Future<Output = ()>) {
    if role() == "alone" {
        return tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
    }
    assert!(in_role(test, "alone").status().unwrap().success());
}

#[tokio::test]
async fn f1_what_cannot_start_says_why_and_tells_clients_no_paths() {
    let worker = worker(false);
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "x").unwrap();
    let mut nowhere = spec("cat", &[]);
    nowhere.cwd = folder.path().join("missing");
    let mut in_file = spec("cat", &[]);
    in_file.cwd = plain.clone();
    let cases = [
        (spec("no-such-command-here", &[]), "install it"),
        (spec(plain.to_str().unwrap(), &[]), "make it an executable file"),
        (nowhere, "correct `cwd`"),
        (in_file, "correct `cwd`"),
    ];
    for (spec, advice) in cases {
        let error = spawn(&spec, &worker.handle).unwrap_err();
        assert!(error.to_string().contains(advice), "{error}");
        assert!(!error.for_clients().contains(['/', '"']), "{}", error.for_clients());
    }
}

#[tokio::test]
async fn f2_exit_at_once_keeps_the_last_words() {
    let mut child = start(&sh("seq 100 >&2; printf 'last words' >&2; exit 3"));
    assert_eq!(child.exited().await, "exited with code 3");
    let tail = child.process.stderr_tail(50);
    assert_eq!((tail.len(), tail[0].as_str(), tail[49].as_str()), (50, "52", "last words"));
    child.link_ends().await;
    assert!(child.process.exit().is_some());
}

#[tokio::test]
async fn f4_death_closes_the_link_after_what_was_said() {
    let mut child = start(&sh("say one; say two; kill -9 $$"));
    assert_eq!((child.heard().await, child.heard().await), ("one".into(), "two".into()));
    child.link_ends().await;
    assert_eq!(child.exited().await, "was killed by signal 9 (likely out of memory)");
}

#[tokio::test]
async fn f5_a_child_that_never_reads_is_stopped() {
    // Where the clock is paused, waiting is skipped.
    let mut child = start_on(&sh("exec sleep 300"), worker(true));
    for _ in 0..20 {
        child.send(vec![b' '; 10_000]).await;
    }
    child.link_ends().await;
    assert_eq!(child.exited().await, "was stopped: it did not read its stdin for 30 s");
}

#[tokio::test]
async fn f6_sigterm_ignored() {
    let mut spec = sh("trap '' TERM; say ready; while :; do sleep 1; done");
    spec.stop_timeout = Duration::from_secs(1);
    let mut child = start(&spec);
    assert_eq!(child.heard().await, "ready");
    let begun = Instant::now();
    child.process.stop();
    let exit = child.process.exited().await;
    assert!((0.5..1.5).contains(&begun.elapsed().as_secs_f32()), "{:?}", begun.elapsed());
    assert_eq!((exit.signal, exit.stopped), (Some(9), true));
}

#[tokio::test]
async fn f6_kill_waits_for_nothing() {
    let mut child = start(&sh("trap '' TERM; say ready; while :; do sleep 1; done"));
    assert_eq!(child.heard().await, "ready");
    let begun = Instant::now();
    child.process.stop();
    child.process.kill();
    child.exited().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn f7_the_group_is_gone_after_a_stop() {
    let mut child = start(&sh("sleep 300 & say $!; (trap '' TERM; sleep 300) & say $!; exec cat"));
    let pids = [child.pid_heard().await, child.pid_heard().await];
    assert_eq!(child.stopped().await, "was stopped");
    assert!(!pids.into_iter().any(runs));
}

#[tokio::test]
async fn f7_the_group_is_gone_after_an_exit() {
    let mut spec = sh("(trap '' TERM; say held; sleep 300; :) & say $!; read go; exit 0");
    spec.stop_timeout = Duration::from_millis(500);
    let mut child = start(&spec);
    let words = [child.heard().await, child.heard().await];
    child.send("go").await;
    // The other one holds stdout open, and the link ends all the same.
    child.link_ends().await;
    assert_eq!(child.exited().await, "exited with code 0");
    let pid = words.iter().find(|word| *word != "held").unwrap();
    assert!(!runs(pid.parse().unwrap()));
}

#[test]
fn f7_who_left_the_group_is_ended_with_its_instance() {
    alone("f7_who_left_the_group_is_ended_with_its_instance", async {
        orphans::adopt().unwrap();
        let daemon = "setsid sh -c 'trap \"\" TERM; echo $$ >&3; exec 3>&-; sleep 300; :' 3>&1 >/dev/null 2>&1 &";
        let mut spec = sh(&format!("say \"$( {daemon} )\"; exec cat"));
        spec.stop_timeout = Duration::from_secs(1);
        let (mut one, mut other) = (start(&spec), start(&spec));
        let (dead, alive) = (one.pid_heard().await, other.pid_heard().await);
        one.stopped().await;
        until("the daemon ends", || !fs::exists(format!("/proc/{dead}")).unwrap()).await;
        assert!(runs(alive), "the other instance is not over");
        other.process.kill();
        other.exited().await;
        until("all are reaped", || children() == 0).await;
    });
}

#[test]
fn f8_a_killed_hub_leaves_nobody() {
    let test = "f8_a_killed_hub_leaves_nobody";
    match role().as_str() {
        "keeper" => assert_eq!(hubward::cli::keeper::run(), 0),
        "hub" => tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let _keeper = keeper::start_as(in_role(test, "keeper")).unwrap();
            let daemon =
                "setsid sh -c 'trap \"\" TERM HUP; echo $$ >&3; exec 3>&-; sleep 300; :' 3>&1 >/dev/null 2>&1 &";
            let mut child = start(&sh(&format!("sleep 300 & say $!; say \"$( {daemon} )\"; exec cat")));
            println!();
            println!("PIDS {} {} {}", child.process.pid(), child.heard().await, child.heard().await);
            std::future::pending::<()>().await;
        }),
        _ => {
            let mut hub = in_role(test, "hub").stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(hub.stdout.take().unwrap()).lines().map_while(Result::ok);
            let pids = lines.into_iter().find_map(|line| Some(line.strip_prefix("PIDS ")?.to_owned())).unwrap();
            let pids: Vec<i32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
            assert!(pids.len() == 3 && pids.iter().all(|pid| runs(*pid)), "{pids:?}");
            hub.kill().unwrap();
            hub.wait().unwrap();
            let begun = Instant::now();
            while pids.iter().any(|pid| runs(*pid)) {
                assert!(begun.elapsed() < PATIENCE, "{pids:?}");
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn f8_the_keeper_of_an_orderly_hub_only_goes() {
    let test = "f8_the_keeper_of_an_orderly_hub_only_goes";
    if role() == "keeper" {
        return assert_eq!(hubward::cli::keeper::run(), 0);
    }
    alone(test, async {
        let keeper = keeper::start_as(in_role(test, "keeper")).unwrap();
        let child = start(&spec("cat", &[]));
        drop(keeper);
        assert_eq!(children(), 1);
        assert_eq!(child.process.exit(), None);
    });
}

#[tokio::test]
async fn f9_closed_stdout_ends_the_link() {
    let mut child = start(&sh("say hello; exec >&-; exec sleep 300"));
    assert_eq!(child.heard().await, "hello");
    child.link_ends().await;
    assert_eq!(child.process.exit(), None);
    assert_eq!(child.stopped().await, "was stopped");
}

#[tokio::test]
async fn f10_closed_stdin_ends_the_link() {
    let mut child = start(&sh("exec <&-; say ready; exec sleep 300"));
    assert_eq!(child.heard().await, "ready");
    child.send("{}").await;
    child.link_ends().await;
    assert!(child.link.to.is_closed());
    assert_eq!(child.stopped().await, "was stopped");
}

#[tokio::test]
async fn f11_stderr_flood() {
    let line = "x".repeat(99);
    let mut child = start(&sh(&format!("yes {line} | head -c {} >&2; say done; exec cat", 64 * MIB)));
    assert_eq!(child.heard().await, "done");
    until("all is drained", || child.process.dropped_stderr_lines() > 600_000).await;
    assert_eq!(child.process.stderr_tail(usize::MAX).len(), 200);
    assert_eq!(child.stopped().await, "was stopped");
}

#[tokio::test]
async fn f12_lines_that_are_no_messages_are_skipped() {
    let mut child = start(&sh("echo Server running; echo; echo '[1]'; echo '{}'; seq 9 | tr '\\n' x; echo; say hello"));
    assert_eq!(child.heard().await, "hello");
    assert_eq!(child.process.skipped_lines(), 4);
    child.link_ends().await;
}

#[tokio::test]
async fn f12_strict_stdout_ends_it() {
    let mut spec = sh("say hello; echo Server running; exec cat");
    spec.strict_stdout = true;
    let mut child = start(&spec);
    assert_eq!(child.heard().await, "hello");
    child.link_ends().await;
    child.exited().await;
    assert_eq!(child.process.exit().unwrap().fault, Some(Fault::StrayLine));
}

#[tokio::test]
async fn f12_a_flood_of_them_ends_it() {
    let mut child = start(&sh("yes x | head -n 9999; say hello; yes"));
    assert_eq!(child.heard().await, "hello");
    child.link_ends().await;
    child.exited().await;
    assert_eq!(child.process.exit().unwrap().fault, Some(Fault::StrayFlood));
    assert_eq!(child.process.skipped_lines(), 19_999);
}

#[tokio::test]
async fn f13_an_unfinished_line_is_discarded() {
    let mut child = start(&sh(r#"say hello; printf '{"jsonrpc":"2.0","method":"x"}'"#));
    assert_eq!(child.heard().await, "hello");
    child.link_ends().await;
    assert_eq!(child.exited().await, "exited with code 0");
}

#[tokio::test]
async fn f14_hundred_megabyte_line() {
    let big = format!("head -c {} /dev/zero | tr '\\0' a", 100 * MIB);
    let script = format!(r#"printf '{{"jsonrpc":"2.0","result":"'; {big}; printf '","id":42}}\n'; say after"#);
    let mut child = start(&sh(&script));
    let id = Id::from(42);
    match child.next().await {
        Some(Inbound::TooLong { id: Some(found), bytes }) => {
            assert_eq!((found, bytes), (id, 100 * MIB as u64 + 37));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(child.heard().await, "after");
}

#[tokio::test]
async fn f14_a_message_of_exactly_the_limit_passes() {
    let mut spec = spec("cat", &[]);
    spec.message_bytes_max = MIB;
    let mut child = start(&spec);
    let message = |bytes: usize| format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{}"}}"#, "x".repeat(bytes - 36));
    assert_eq!(message(MIB).len(), MIB);
    child.send(message(MIB)).await;
    child.send(message(MIB + 1)).await;
    assert!(matches!(child.next().await, Some(Inbound::Message(message)) if message.bytes().len() == MIB));
    assert!(matches!(child.next().await, Some(Inbound::TooLong { id: Some(_), bytes }) if bytes == MIB as u64 + 1));
}

#[tokio::test]
async fn f15_line_ends_blank_lines_and_a_mark_are_tolerated() {
    let crlf = r#"{"jsonrpc":"2.0","method":"crlf"}\r\n"#;
    let mut child = start(&sh(&format!(r"printf '\357\273\277{crlf}\n\r\n  \n{crlf}'")));
    assert_eq!((child.heard().await, child.heard().await), ("crlf".into(), "crlf".into()));
    child.link_ends().await;
    assert_eq!(child.process.skipped_lines(), 0);
}

#[tokio::test]
async fn f16_invalid_utf8_is_refused() {
    let mut child = start(&sh(r#"printf '{"jsonrpc":"2.0","method":"\377"}\n'; say hello"#));
    assert_eq!(child.heard().await, "hello");
    assert_eq!(child.process.skipped_lines(), 1);
}

#[tokio::test]
async fn f17_stderr_is_escaped() {
    let child = start(&sh(r"printf '\033[31mred\000\r\b\n' >&2"));
    child.exited().await;
    assert_eq!(child.process.stderr_tail(5), [r"\u{1b}[31mred\u{0}\r\u{8}"]);
}

#[tokio::test]
async fn f23_children_are_chosen_first_when_memory_runs_out() {
    let ours: i32 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let mut child = start(&sh("say $(cat /proc/self/oom_score_adj)"));
    assert_eq!(child.pid_heard().await, (ours + 200).min(1000));
}

#[test]
fn f25_only_three_descriptors() {
    alone("f25_only_three_descriptors", async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
        assert!(listener.as_raw_fd() > 2);
        let _others = [start(&spec("cat", &[])), start(&spec("cat", &[]))];
        let mut child = start(&spec("cat", &[]));
        child.send(r#"{"jsonrpc":"2.0","method":"ready"}"#).await;
        assert_eq!(child.heard().await, "ready");
        let open = fs::read_dir(format!("/proc/{}/fd", child.process.pid())).unwrap().flatten();
        let mut open: Vec<_> = open.map(|entry| entry.file_name().into_string().unwrap()).collect();
        open.sort();
        assert_eq!(open, ["0", "1", "2"]);
    });
}

#[test]
fn f100_no_descriptors_left_is_an_error() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    alone("f100_no_descriptors_left_is_an_error", async {
        let worker = worker(false);
        let count = descriptors();
        let limit =
            |most: usize| setrlimit(Resource::Nofile, Rlimit { current: Some(most as u64), maximum: Some(4096) });
        for spare in 0..8 {
            limit(count + spare).unwrap();
            match spawn(&spec("cat", &[]), &worker.handle) {
                Err(error) => assert!(matches!(error, SpawnError::Other { .. }), "{error}"),
                Ok((process, _)) => process.kill(),
            }
        }
        limit(4096).unwrap();
        let mut child = start_on(&spec("cat", &[]), worker);
        child.send(r#"{"jsonrpc":"2.0","method":"works"}"#).await;
        assert_eq!(child.heard().await, "works");
        drop(child);
        until("nothing is left", || children() == 0).await;
    });
}

#[tokio::test]
async fn p1_concurrent_writers() {
    const WRITERS: usize = 16;
    const MESSAGES: usize = 50;
    let mut child = start(&spec("cat", &[]));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let to = child.link.to.clone();
            tokio::spawn(async move {
                for number in 0..MESSAGES {
                    // Some small, some beyond a pipe's size, some with ends of lines between their tokens.
                    let pad = "x".repeat([0, 10, 5_000, 200_000][number % 4]);
                    let gap = ["", "\n", "\r\n"][number % 3];
                    let id = writer * MESSAGES + number;
                    to.send(format!(r#"{{{gap}"jsonrpc":"2.0","id":{id},{gap}"result":"{pad}"}}"#).into())
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    let mut last = [None; WRITERS];
    for _ in 0..WRITERS * MESSAGES {
        let Some(Inbound::Message(message)) = child.next().await else { panic!("a message") };
        let id = message.id().unwrap().as_u64().unwrap() as usize;
        let (writer, number) = (id / MESSAGES, id % MESSAGES);
        assert_eq!(message.result().unwrap().len(), 2 + [0, 10, 5_000, 200_000][number % 4]);
        assert!(last[writer] < Some(number), "in order");
        last[writer] = Some(number);
    }
    assert_eq!(last, [Some(MESSAGES - 1); WRITERS]);
    assert_eq!(child.process.skipped_lines(), 0);
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn p2_a_chatty_stderr_blocks_nobody() {
    let mut child = start(&sh(&format!("while read line; do yes | head -c {MIB} >&2; say answer; done")));
    for _ in 0..5 {
        child.send("{}").await;
        assert_eq!(child.heard().await, "answer");
    }
}

#[tokio::test]
async fn p3_the_order_of_a_stop() {
    let script = "trap 'echo term >&2' TERM; say ready; cat >/dev/null; echo eof >&2; while :; do sleep 0.05; done";
    let mut spec = sh(script);
    spec.stop_timeout = Duration::from_secs(2);
    let mut child = start(&spec);
    assert_eq!(child.heard().await, "ready");
    let begun = Instant::now();
    child.process.stop();
    let exit = child.process.exited().await;
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert_eq!(exit.signal, Some(9));
    let said: Vec<_> =
        child.process.stderr_tail(50).into_iter().filter(|line| ["eof", "term"].contains(&&**line)).collect();
    assert_eq!(said, ["eof", "term"]);
}

#[tokio::test]
async fn p3_what_is_queued_is_written_before_stdin_closes() {
    let mut child = start(&sh("read first; read second; say $second; cat >/dev/null; say eof"));
    child.send("one").await;
    child.send("two").await;
    child.process.stop();
    assert_eq!((child.heard().await, child.heard().await), ("two".into(), "eof".into()));
    child.link_ends().await;
    let exit = child.process.exited().await;
    assert_eq!((exit.code, exit.stopped), (Some(0), true));
}

#[tokio::test]
async fn letting_go_of_the_senders_closes_stdin() {
    let Child { process, link, _worker } = start(&spec("cat", &[]));
    let Link { to, mut from } = link;
    drop(to);
    assert!(timeout(PATIENCE, from.recv()).await.unwrap().is_none());
    assert_eq!(process.exited().await.to_string(), "exited with code 0");
}

#[tokio::test]
async fn letting_go_of_the_receiver_stops_the_child() {
    let mut spec = sh("say ready; exec sleep 300");
    spec.stop_timeout = Duration::from_millis(500);
    let Child { process, link, _worker } = start(&spec);
    drop(link.from);
    assert_eq!(timeout(PATIENCE, process.exited()).await.unwrap().to_string(), "was stopped");
}

#[test]
fn a_thousand_children_leave_nothing() {
    alone("a_thousand_children_leave_nothing", async {
        let worker = worker(false);
        let cycle = async |number: usize| {
            let (process, mut link) = spawn(&spec("cat", &[]), &worker.handle).unwrap();
            link.to.send(r#"{"jsonrpc":"2.0","method":"ready"}"#.into()).await.unwrap();
            assert!(timeout(PATIENCE, link.from.recv()).await.unwrap().is_some());
            match number % 3 {
                0 => process.stop(),
                1 => process.kill(),
                _ => kill_process(Pid::from_raw(process.pid() as i32).unwrap(), Signal::KILL).unwrap(),
            }
            timeout(PATIENCE, process.exited()).await.unwrap();
            while timeout(PATIENCE, link.from.recv()).await.unwrap().is_some() {}
        };
        cycle(0).await;
        let before = descriptors();
        for number in 0..1000 {
            cycle(number).await;
        }
        until("every descriptor is closed", || descriptors() == before).await;
        assert_eq!(children(), 0);
    });
}
