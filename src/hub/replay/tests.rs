//! What of a stream can be played again, and what cannot.

use futures_util::FutureExt;

use super::*;

fn streams(events_max: usize, bytes_max: usize) -> Streams {
    Streams::new(ReplayLimits { events_max, bytes_max, resumable: true })
}

pub(super) fn read(reader: &mut Reader) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(Some(sent)) = reader.recv().now_or_never() {
        all.push(format!("{}:{}", sent.id.unwrap(), String::from_utf8_lossy(&sent.data)));
    }
    all
}

#[test]
fn p18_what_is_said_unasked_waits_for_a_reader_and_is_read_once() {
    let mut all = streams(10, 1000);
    all.push(STANDALONE, "a".into());
    all.push(STANDALONE, "b".into());
    let mut reader = all.attach(false).unwrap();
    all.push(STANDALONE, "c".into());
    assert_eq!(read(&mut reader), ["0-1:a", "0-2:b", "0-3:c"]);
    assert_eq!(all.attach(false).unwrap_err(), NoStream::Taken, "F53: the first reader is never displaced");
    drop(reader);
    all.push(STANDALONE, "d".into());
    assert_eq!(read(&mut all.attach(false).unwrap()), ["0-4:d"]);
}

#[test]
fn p19_p20_a_stream_is_resumed_behind_an_event_and_never_crosses_into_another() {
    let mut all = streams(10, 1000);
    let (one, mut reader) = all.open(true);
    let (two, other) = all.open(false);
    all.push(one, "a".into());
    assert_eq!(read(&mut reader), ["1-1:", "1-2:a"]);
    drop((reader, other));
    all.push(one, "b".into());
    all.push(two, "x".into());
    all.finish(one);
    assert_eq!(read(&mut all.resume(EventId { stream: one, place: 1 }).unwrap()), ["1-2:a", "1-3:b"]);
    assert_eq!(read(&mut all.resume(EventId { stream: one, place: 3 }).unwrap()), [""; 0]);
}

#[test]
fn f80_forged_event_ids_find_nothing() {
    let mut all = streams(10, 1000);
    all.push(STANDALONE, "a".into());
    for (stream, place) in [(0, 0), (0, 2), (1, 1), (9, 9), (u64::MAX, u64::MAX)] {
        assert_eq!(all.resume(EventId { stream, place }).unwrap_err(), NoStream::Unknown);
    }
    for text in ["", "-", "1", "1-", "-1", "a-b", "1-1-1", "+1-1", "99999999999999999999-1", " 1-1"] {
        assert_eq!(EventId::read(text), None, "{text}");
    }
    assert_eq!(EventId::read("3-4"), Some(EventId { stream: 3, place: 4 }));
}

#[test]
fn f81_the_window_is_bounded_in_count_and_bytes() {
    let mut all = streams(3, 10);
    for n in 0..1000 {
        all.push(STANDALONE, format!("{n}").into());
    }
    assert_eq!(all.streams.standalone.kept.len(), 3);
    assert!(all.lost(STANDALONE));
    all.push(STANDALONE, "123456789".into());
    assert!(all.bytes <= 10);
    all.push(STANDALONE, "0123456789abcdef".into());
    assert!(all.bytes <= 10);
    assert_eq!(all.resume(EventId { stream: 0, place: 5 }).unwrap_err(), NoStream::Unknown);
    for _ in 0..200 {
        let (id, _reader) = all.open(true);
        all.push(id, "x".into());
        all.finish(id);
    }
    assert!(all.streams.posts.len() <= FINISHED_MAX);
}

#[test]
fn a_reader_that_does_not_keep_up_is_cut_off_and_may_resume() {
    let mut all = streams(1000, 100_000);
    let (id, mut reader) = all.open(false);
    for n in 0..LIVE_MAX + 10 {
        all.push(id, format!("{n}").into());
    }
    let seen = read(&mut reader);
    assert_eq!(seen.len(), LIVE_MAX);
    assert_eq!(reader.recv().now_or_never(), Some(None), "its end");
    let rest = read(&mut all.resume(EventId { stream: id, place: LIVE_MAX as u64 }).unwrap());
    assert_eq!(rest.len(), 10);
}

#[test]
fn f33_a_slow_reader_misses_what_it_may_before_it_is_cut_off() {
    let mut all = streams(1000, 1 << 30);
    let (id, mut reader) = all.open(false);
    for n in 0..10_000 {
        all.offer(id, format!("note {n}").into());
    }
    all.push(id, "answer".into());
    let seen = read(&mut reader);
    assert!(seen.len() <= LIVE_MAX && seen.last().unwrap().ends_with(":answer"));
    // Large events count by their bytes.
    let large = Bytes::from(vec![b'x'; LIVE_BYTES_MAX / 2]);
    (0..3).for_each(|_| all.push(id, large.clone()));
    assert_eq!(read(&mut reader).len(), 2);
    assert_eq!(reader.recv().now_or_never(), Some(None), "cut off");
    let (id, mut reader) = all.open(false);
    all.push(id, Bytes::from(vec![b'x'; LIVE_BYTES_MAX * 2]));
    assert_eq!(read(&mut reader).len(), 1, "one event may have any size");
}
