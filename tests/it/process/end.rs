//! The end of a child process: the stop ladder, and nobody left behind.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hubward::link::{Link, keeper, orphans, process::spawn};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use super::child::*;

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
    let mut spec = sh("trap '' TERM; say ready; while :; do sleep 1; done");
    spec.stop_timeout = PATIENCE;
    let mut child = start(&spec);
    assert_eq!(child.heard().await, "ready");
    let begun = Instant::now();
    child.process.stop();
    child.process.kill();
    child.exited().await;
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
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
    alone("end::f7_who_left_the_group_is_ended_with_its_instance", async {
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
    let test = "end::f8_a_killed_hub_leaves_nobody";
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
    let test = "end::f8_the_keeper_of_an_orderly_hub_only_goes";
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
    let mut spec = sh("read first; read second; say $second; cat >/dev/null; say eof");
    spec.stop_timeout = PATIENCE;
    let mut child = start(&spec);
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
    let Link { to, mut from, .. } = link;
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
    alone("end::a_thousand_children_leave_nothing", async {
        let worker = worker(false);
        let cycle = async |number: usize| {
            let (process, mut link) = spawn(&spec("cat", &[]), &worker.handle).unwrap();
            link.to.send(Bytes::from(r#"{"jsonrpc":"2.0","method":"ready"}"#).into()).await.unwrap();
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
