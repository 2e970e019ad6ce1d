//! Sessions by their ids, and what of their streams is replayed.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::FutureExt;
use hubward::hub::{
    audience::Audience,
    replay::{EventId, Reader, ReplayLimits, Streams},
    session::{Session, Transport},
};

use super::chosen;

/// What comes after the event that is named, of that stream, in order, and nothing else; a forged id opens nothing.
pub fn replay(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        named(text);
    }
    let Some(([events_max, bytes_max, resumable], mut orders)) = chosen(data) else { return };
    let limits = ReplayLimits { events_max, bytes_max: bytes_max * 4, resumable: resumable % 4 != 0 };
    let mut streams = Streams::new(limits);
    // All that was ever put onto each stream.
    let mut all: BTreeMap<u64, Vec<Bytes>> = BTreeMap::from([(0, Vec::new())]);
    let mut readers: Vec<(u64, Reader)> = Vec::new();
    while let Some(([order, which, value], rest)) = chosen(orders) {
        orders = rest;
        let stream = *all.keys().nth(which % all.len()).expect("one at least");
        match order % 8 {
            0 if all.len() < 40 => {
                let (id, reader) = streams.open(value % 2 == 0);
                all.insert(id, if value % 2 == 0 { vec![Bytes::new()] } else { Vec::new() });
                readers.push((id, reader));
            }
            1..=3 => {
                let data = Bytes::from(vec![b'x'; value]);
                streams.push(stream, data.clone());
                all.get_mut(&stream).expect("known").push(data);
            }
            4 => streams.finish(stream),
            5 => {
                let after = EventId { stream: which as u64, place: value as u64 };
                if let Ok(reader) = streams.resume(after) {
                    let known = all.get(&after.stream).expect("a stream that exists");
                    assert!(limits.resumable && after.place > 0 && after.place <= known.len() as u64);
                    readers.retain(|(id, _)| *id != after.stream);
                    let replayed = drain(after.stream, reader, known, &mut readers);
                    let expected: Vec<u64> = (after.place + 1..=known.len() as u64).collect();
                    assert_eq!(replayed, expected, "all of it and in order");
                }
            }
            6 => {
                if let Ok(reader) = streams.attach(value % 2 == 0) {
                    if value % 2 == 0 {
                        all.get_mut(&0).expect("stream 0").push(Bytes::new());
                    }
                    readers.retain(|(id, _)| *id != 0);
                    readers.push((0, reader));
                }
            }
            _ => {
                if let Some(at) = (!readers.is_empty()).then(|| which % readers.len()) {
                    let (id, reader) = readers.swap_remove(at);
                    drain(id, reader, &all[&id], &mut readers);
                }
            }
        }
    }
}

/// Reads what there is: places that rise, each with the data that was put there.
fn drain(stream: u64, mut reader: Reader, known: &[Bytes], readers: &mut Vec<(u64, Reader)>) -> Vec<u64> {
    let mut places = Vec::new();
    let open = loop {
        let Some(sent) = reader.recv().now_or_never() else { break true };
        let Some(sent) = sent else { break false };
        let Some(id) = sent.id else { continue };
        assert_eq!(id.stream, stream, "a replay never crosses streams");
        assert_eq!(known.get(id.place as usize - 1), Some(&sent.data));
        assert!(places.last().is_none_or(|last| *last + 1 == id.place), "{places:?} {id}");
        places.push(id.place);
    };
    if open {
        readers.push((stream, reader));
    }
    places
}

/// Event ids and session ids are read to the letter.
fn named(text: &str) {
    if let Some(id) = EventId::read(text) {
        assert_eq!(EventId::read(&id.to_string()), Some(id));
        assert!(text.bytes().all(|b| b.is_ascii_digit() || b == b'-'), "{text:?}");
    }
    let audience = Audience::default();
    let session = Session::new(Transport::Streamable, Default::default(), 1, 1).expect("random numbers");
    audience.insert(session.clone());
    assert!(audience.get(text).is_none_or(|found| *found.id == *text), "{text:?}");
    assert!(audience.get(&session.id).is_some() && session.id.bytes().all(|b| b.is_ascii_graphic()));
}
