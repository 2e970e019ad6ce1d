//! Taps by themselves: what they show, what they lose, and how they end.

use serde_json::Value;

use super::{watcher::BODY_BYTES_MAX, *};
use crate::wire::message;

fn sent(text: &str) -> Outbound {
    Bytes::copy_from_slice(text.as_bytes()).into()
}

fn came(text: &str) -> Inbound {
    Inbound::Message(message::one(Bytes::copy_from_slice(text.as_bytes())).unwrap())
}

fn json(seen: Seen) -> Value {
    let mut line = serde_json::to_value(seen).unwrap();
    if let Some(line) = line.as_object_mut() {
        line.remove("time");
    }
    line
}

#[tokio::test]
async fn s4_79_a_tap_sees_both_directions_and_the_link_ends_as_without_it() {
    let (link, mut peer) = pair();
    let (saw, mut seen) = mpsc::channel(8);
    let link = tap(link, move |passed| {
        let _ = saw.try_send(match passed {
            Passed::To(outbound) => format!("> {}", String::from_utf8_lossy(&outbound.bytes)),
            Passed::From(Inbound::Message(message)) => format!("< {}", message.method()),
            Passed::Close => "close".into(),
            Passed::Closed => "closed".into(),
            Passed::From(other) => panic!("{other:?}"),
        });
    });
    let Link { to, mut from, .. } = link;
    to.send(sent("x")).await.unwrap();
    assert_eq!(peer.from.recv().await.unwrap().bytes, "x");
    peer.to.send(came(r#"{"jsonrpc":"2.0","method":"m"}"#)).await.unwrap();
    assert!(matches!(from.recv().await, Some(Inbound::Message(message)) if message.method() == "m"));
    assert_eq!((seen.recv().await.unwrap(), seen.recv().await.unwrap()), ("> x".into(), "< m".into()));
    drop(to);
    assert!(peer.from.recv().await.is_none(), "the peer is asked to end");
    drop(peer.to);
    assert!(from.recv().await.is_none(), "and its end is seen");
    assert_eq!((seen.recv().await.unwrap(), seen.recv().await.unwrap()), ("close".into(), "closed".into()));
    assert!(seen.recv().await.is_none());
    // The other way: whoever does not listen any more asks it to end, and its deaf end is seen.
    let (link, peer) = pair();
    let Link { to, from, .. } = tap(link, |_| ());
    drop(from);
    peer.to.closed().await;
    drop(peer.from);
    to.closed().await;
}

#[tokio::test]
async fn s4_79_an_observer_that_panics_stops_nothing() {
    let (link, mut peer) = pair();
    let mut link = tap(link, |passed| panic!("at {passed:?}"));
    link.to.send(sent("x")).await.unwrap();
    assert_eq!(peer.from.recv().await.unwrap().bytes, "x");
    peer.to.send(came(r#"{"jsonrpc":"2.0","method":"m"}"#)).await.unwrap();
    assert!(matches!(link.from.recv().await, Some(Inbound::Message(_))));
}

#[tokio::test]
async fn an_answer_is_shown_with_its_method_and_its_time() {
    let recorder = Arc::new(Recorder::default());
    let (one, two) = (recorder.probe(3, Some(77)), recorder.probe(3, None));
    one.show(Passed::To(&sent(r#"{"jsonrpc":"2.0","id":1,"method":"before/anybody/watched"}"#)));
    let mut tap = recorder.tap().unwrap();
    one.show(Passed::To(&sent(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#)));
    // The same id elsewhere, and the same id the other way round.
    two.show(Passed::To(&sent(r#"{"jsonrpc":"2.0","id":2,"method":"prompts/get"}"#)));
    one.show(Passed::From(&came(r#"{"jsonrpc":"2.0","id":2,"method":"roots/list"}"#)));
    one.show(Passed::From(&came(r#"{"jsonrpc":"2.0","id":2,"error":{"code":-5,"message":"m"}}"#)));
    one.show(Passed::To(&sent(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#)));
    one.show(Passed::From(&came(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)));
    one.show(Passed::From(&Inbound::TooLong { id: Some(Id::from(9)), bytes: 5 }));
    let mut lines = Vec::new();
    for _ in 0..7 {
        let mut line = json(tap.next().await.unwrap());
        let timed = line.as_object_mut().unwrap().remove("took_ms").is_some_and(|took| took.as_f64() >= Some(0.0));
        lines.push((timed, line));
    }
    let (sent, received) = ("sent", "received");
    let of = |direction: &str, kind: &str, method: Option<&str>, bytes: u64| {
        let mut line = serde_json::json!({ "direction": direction, "instance": 3, "pid": 77, "kind": kind, "id": 2, "bytes": bytes });
        if let Some(method) = method {
            line["method"] = method.into();
        }
        line
    };
    let mut elsewhere = of(sent, "request", Some("prompts/get"), 47);
    elsewhere.as_object_mut().unwrap().remove("pid");
    let mut error = of(received, "error", Some("tools/call"), 58);
    error["code"] = (-5).into();
    let (mut unknown, mut long) = (of(received, "response", None, 36), of(received, "too_long", None, 5));
    (unknown["id"], long["id"]) = (1.into(), 9.into());
    let expected = [
        (false, of(sent, "request", Some("tools/call"), 46)),
        (false, elsewhere),
        (false, of(received, "request", Some("roots/list"), 46)),
        (true, error),
        (true, of(sent, "response", Some("roots/list"), 36)),
        (false, unknown),
        (false, long),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_tap_that_does_not_keep_up_is_told_what_it_lost_and_no_other_is() {
    let recorder = Arc::new(Recorder::default());
    let probe = recorder.probe(1, None);
    let (mut slow, mut other) = (recorder.tap().unwrap(), recorder.tap().unwrap());
    let note = sent(r#"{"jsonrpc":"2.0","method":"n"}"#);
    for _ in 0..ENTRIES_MAX {
        probe.show(Passed::To(&note));
        assert!(matches!(other.next().await, Some(Seen::Passed(_))));
    }
    (0..5).for_each(|_| probe.show(Passed::To(&note)));
    assert!(matches!(slow.next().await, Some(Seen::Passed(_))));
    probe.show(Passed::To(&note));
    for _ in 1..ENTRIES_MAX {
        assert!(matches!(slow.next().await, Some(Seen::Passed(_))));
    }
    assert!(matches!(slow.next().await, Some(Seen::Lost { lost: 5 })), "where they are missing");
    assert!(matches!(slow.next().await, Some(Seen::Passed(_))));
    // Large ones are lost sooner, and one alone never.
    let large = sent(&format!(r#"{{"jsonrpc":"2.0","method":"{}"}}"#, "x".repeat(WAITING_BYTES_MAX)));
    (0..3).for_each(|_| probe.show(Passed::To(&large)));
    assert!(matches!(slow.next().await, Some(Seen::Passed(_))));
    assert!(matches!(slow.next().await, Some(Seen::Lost { lost: 2 })), "though nothing follows");
    probe.show(Passed::To(&large));
    assert!(matches!(slow.next().await, Some(Seen::Passed(_))), "and its room is free again");
}

#[tokio::test]
async fn a_recorder_is_off_when_nobody_watches_and_bounded_and_ends_its_taps() {
    let recorder = Arc::new(Recorder::default());
    let mut taps: Vec<Tap> = (0..TAPS_MAX).map(|_| recorder.tap().unwrap()).collect();
    assert!(recorder.tap().is_none());
    taps.truncate(1);
    assert_eq!(recorder.taps(), 1);
    let probe = recorder.probe(1, None);
    drop(recorder);
    probe.show(Passed::To(&sent("no message")));
    let line = json(taps[0].next().await.expect("its connection is still there"));
    assert_eq!((&line["kind"], &line["bytes"]), (&"unreadable".into(), &10.into()));
    drop(probe);
    assert!(taps[0].next().await.is_none());
    let recorder = Arc::new(Recorder::default());
    drop(recorder.tap());
    assert!(recorder.taps.load().is_none());
}

#[tokio::test]
async fn a_long_body_is_cut_between_two_characters() {
    let recorder = Arc::new(Recorder::default());
    let mut tap = recorder.tap().unwrap();
    let long = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"a":"{}"}}}}"#, "ü".repeat(BODY_BYTES_MAX));
    recorder.probe(1, None).show(Passed::To(&sent(&long)));
    let line = tap.next().await.unwrap();
    assert!(line.to_json(false).get("body").is_none());
    let line = line.to_json(true);
    let body = line["body"].as_str().unwrap();
    assert!(line["cut"] == true && long.starts_with(body) && body.len() + 1 >= BODY_BYTES_MAX, "{}", body.len());
}
