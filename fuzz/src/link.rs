//! Event streams of a peer, against a slow reading by the letter of WHATWG; and what a tunnel server promises.

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use hubward::link::{
    remote::events::{End, Event, Events, Position},
    tunnel::registration::{Verdict, judge},
};
use url::{Host, Url};

use super::{chosen, pieces};

/// However a stream is cut, its events are the same, and those of the standard; none within the limit is refused.
pub fn events(data: &[u8]) {
    let Some(([way], text)) = chosen(data) else { return };
    let whole = read(text, 0, usize::MAX);
    for way in [1, way] {
        assert_eq!(read(text, way, usize::MAX), whole);
        let (events, end, _) = read(text, way, longest(text));
        assert_eq!((&events, &end), (&whole.0, &whole.1), "within the limit");
    }
    if let Ok(text) = std::str::from_utf8(text) {
        assert_eq!(whole, slowly(text));
    } else {
        assert!(!matches!(whole.1, End::TooLong(_)));
    }
}

type Read = (Vec<(String, String)>, End, Option<String>);

fn read(text: &[u8], way: usize, max: usize) -> Read {
    let pieces: Vec<_> = pieces(text, way).into_iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let mut events = Events::read(stream::iter(pieces), max);
    let (mut found, mut position) = (Vec::new(), Position::default());
    loop {
        match events.next(&mut position).now_or_never().expect("all of it is there") {
            Ok(Event { kind, data }) => found.push((kind, data)),
            Err(end) => return (found, end, position.last_id),
        }
    }
}

/// The lines of a stream with their ends; the last one may have none.
fn lines(text: &str) -> Vec<&str> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = match rest.find(['\r', '\n']) {
            Some(at) if rest[at..].starts_with("\r\n") => at + 2,
            Some(at) => at + 1,
            None => rest.len(),
        };
        lines.push(&rest[..end]);
        rest = &rest[end..];
    }
    lines
}

/// The most bytes between two blank lines.
fn longest(text: &[u8]) -> usize {
    // Each byte a character, so that lengths stay.
    let text: String = text.iter().map(|b| if b.is_ascii() { char::from(*b) } else { 'x' }).collect();
    let (mut longest, mut sum) = (0, 0);
    for line in lines(&text) {
        sum += line.len();
        longest = longest.max(sum);
        if line.trim_matches(['\r', '\n']).is_empty() {
            sum = 0;
        }
    }
    longest
}

/// By the letter of the standard, but for what we do on purpose: an event without data says nothing.
fn slowly(text: &str) -> Read {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut found, mut last_id) = (Vec::new(), None);
    let (mut kind, mut data, mut id): (String, Option<String>, Option<String>) = Default::default();
    for line in lines(text) {
        let Some(line) = line.strip_suffix("\r\n").or_else(|| line.strip_suffix(['\r', '\n'])) else { break };
        if line.is_empty() {
            if let Some(id) = id.take() {
                last_id = Some(id).filter(|id| !id.is_empty());
            }
            let kind = Some(std::mem::take(&mut kind)).filter(|kind| !kind.is_empty()).unwrap_or("message".into());
            if let Some(data) = data.take().filter(|data| !data.is_empty()) {
                found.push((kind, data));
            }
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => kind = value.to_owned(),
            "data" => {
                data = Some(match data {
                    Some(data) => format!("{data}\n{value}"),
                    None => value.to_owned(),
                });
            }
            "id" if !value.contains('\0') => id = Some(value.to_owned()),
            _ => {}
        }
    }
    (found, End::Closed, last_id)
}

/// A tunnel server's reply: it leads to nothing near this machine, unless the server is itself here; what it names stays
/// within bounds; and what is shown of it steers no terminal.
pub fn tunnel(data: &[u8]) {
    let Some(([way, status], body)) = chosen(data) else { return };
    let (server, near) = match way % 3 {
        0 => ("https://t.example", false),
        1 => ("https://[2001:db8::1]:8443/folder", false),
        _ => ("http://localhost:3000", true),
    };
    let server = Url::parse(server).expect("a good URL");
    let wanted = (way >= 128).then_some("wanted");
    let status = [200, 201, 204, 302, 400, 403, 429, 500][status % 8];
    let read = || judge(&server, wanted, status, body);
    let verdict = read();
    assert_eq!(read(), verdict);
    match verdict {
        Verdict::Open(lease) => {
            assert!((200..300).contains(&status) && lease.port > 0 && (1..=10).contains(&lease.lanes), "{lease:?}");
            assert!((1..=63).contains(&lease.id.len()) && lease.id.is_ascii(), "{lease:?}");
            assert!(lease.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{lease:?}");
            assert!(["http", "https"].contains(&lease.url.scheme()) && lease.hosts().count() > 0, "{lease:?}");
            let own = server.host_str().unwrap_or_default().trim_matches(['[', ']']);
            let loopback = match Host::parse(&lease.host) {
                Ok(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
                Ok(Host::Domain(name)) => name == "localhost",
                _ => lease.host == "::1",
            };
            assert!(near || !loopback, "{lease:?}");
            assert!(lease.host == own || lease.host.parse::<std::net::IpAddr>().is_ok(), "{lease:?}");
        }
        Verdict::Refused(why) | Verdict::Again(why) => {
            assert!(why.chars().count() < 300 && !why.chars().any(char::is_control), "{why:?}");
        }
    }
}
