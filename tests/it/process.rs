//! A child process as a Link: what goes wrong with one, row by row of the fault catalogue.

mod child;
mod end;
mod home;

use bytes::Bytes;
use std::{fs, os::fd::AsRawFd as _};

use hubward::{
    link::{
        Inbound,
        process::{Fault, SpawnError, spawn},
    },
    wire::Id,
};

use self::child::*;

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
    while child.link.to.send(Bytes::from(vec![b' '; 10_000]).into()).await.is_ok() {}
    child.link_ends().await;
    assert_eq!(child.exited().await, "was stopped: it did not read its stdin for 30 s");
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
    let child = start(&spec("cat", &[]));
    let its = fs::read_to_string(format!("/proc/{}/oom_score_adj", child.process.pid())).unwrap();
    assert_eq!(its.trim().parse(), Ok((ours + 200).min(1000)));
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
                    to.send(Bytes::from(format!(r#"{{{gap}"jsonrpc":"2.0","id":{id},{gap}"result":"{pad}"}}"#)).into())
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

#[test]
fn main_may_be_an_actix_system() {
    actix::System::new().block_on(async {
        let mut child = start(&spec("cat", &[]));
        child.send(r#"{"jsonrpc":"2.0","method":"hello"}"#).await;
        assert_eq!(child.heard().await, "hello");
        assert_eq!(child.stopped().await, "was stopped");
    });
}
