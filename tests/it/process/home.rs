//! Where the tasks at a child's pipes live: they follow callers who are all on one worker, and nothing is lost by that.

use std::{
    future,
    sync::{Arc, Mutex},
};

use hubward::{
    link::{
        connection::{Attribution, Caller, Connection, Event, queue},
        home::Home,
        process::{Process, spawn},
    },
    wire::message,
};
use tokio::runtime::{Handle, Id};

use super::child::*;

/// Answers each request with as many letters as it was asked for, after a notification; says when its stdin has ended.
const LETTERS: &str = r#"
    letters=$(head -c 300000 /dev/zero | tr '\0' a)
    while read -r line; do
        id=${line#*'"id":'}; id=${id%%[,\}]*}
        count=${line#*'"count":'}; count=${count%%\}*}
        say heard
        printf '{"jsonrpc":"2.0","id":%s,"result":"%.*s"}\n' "$id" "$count" "$letters"
    done
    say ended"#;

struct Served {
    process: Process,
    connection: Arc<Connection>,
    /// On which runtime what nobody asked for was heard last.
    heard_at: Arc<Mutex<Option<Id>>>,
    workers: [Worker; 2],
}

fn served() -> Served {
    let workers = [worker(false), worker(false)];
    let ids = workers.each_ref().map(|worker| worker.handle.id());
    let home = Home::new(workers[0].handle.clone(), move |handle| ids.contains(&handle.id()));
    let (process, link) = spawn(&sh(LETTERS), home).unwrap();
    let heard_at = Arc::new(Mutex::new(None));
    let hear = {
        let heard_at = heard_at.clone();
        move |_| *heard_at.lock().unwrap() = Some(Handle::current().id())
    };
    let why = future::pending();
    let connection = Connection::open("test".into(), link, &workers[0].handle, 100, Attribution::Strangers, hear, why);
    Served { process, connection: Arc::new(connection), heard_at, workers }
}

/// A call for so many letters, and whether they came.
async fn call(connection: &Connection, key: u64, count: usize) -> bool {
    let params = format!(r#"{{"count":{count}}}"#);
    let request = message::one(message::request(&key.into(), "letters", Some(&params))).unwrap();
    let (events, mut answers) = queue::channel(4);
    let caller = Caller { key, askable: false, logs: false };
    let _reply = connection.call(&request, caller, &events).await.unwrap();
    match answers.recv().await {
        Some(Event::Response(bytes)) => {
            bytes.ends_with(b"\"}") && bytes.iter().filter(|byte| **byte == b'a').count() == count
        }
        other => panic!("{other:?}"),
    }
}

impl Served {
    /// Calls from this worker until what comes is heard there; four callers at a time.
    async fn calls_from(&self, at: usize, count: usize) {
        let (here, begun) = (&self.workers[at].handle, std::time::Instant::now());
        while *self.heard_at.lock().unwrap() != Some(here.id()) {
            assert!(begun.elapsed() < PATIENCE, "it does not follow");
            let calls = [1, 2, 3, 4].map(|key| {
                let connection = self.connection.clone();
                here.spawn(async move { call(&connection, key, count).await })
            });
            for done in calls {
                assert!(done.await.unwrap(), "{count} letters");
            }
        }
    }
}

#[tokio::test]
async fn a_process_follows_callers_of_one_worker_and_no_answer_is_lost() {
    let served = served();
    // Answers that fit a pipe, and answers of which a part is read when the move comes.
    for (at, count) in [(1, 10), (0, 200_000), (1, 300_000), (0, 1)] {
        served.calls_from(at, count).await;
    }
    assert_eq!(served.process.exit(), None);
}

#[tokio::test]
async fn a_process_that_has_moved_is_asked_to_end_as_any_other() {
    let served = served();
    served.calls_from(1, 10).await;
    served.process.stop();
    assert_eq!(served.process.exited().await.code, Some(0), "its stdin was closed");
    assert!(!runs(served.process.pid() as i32));
}

#[tokio::test]
async fn a_process_that_has_moved_ends_with_the_reason_of_its_death() {
    let served = served();
    served.calls_from(1, 10).await;
    served.process.kill();
    served.connection.watch().ended().await;
    assert!(served.connection.is_over());
}

#[test]
fn moves_leave_no_descriptor_behind() {
    alone("home::moves_leave_no_descriptor_behind", async {
        let served = served();
        served.calls_from(1, 10).await;
        let before = descriptors();
        for at in [0, 1, 0, 1] {
            served.calls_from(at, 10).await;
        }
        until("as many as before", || descriptors() == before).await;
        served.process.stop();
        served.process.exited().await;
        assert_eq!(children(), 0);
    });
}
