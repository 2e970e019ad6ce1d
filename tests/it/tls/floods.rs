//! Floods of HTTP/2 frames (F75): the hub ends the connection, or stays responsive; its memory stays what it was.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{wire::ask, *};

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `GET /ping` of localhost, by the static table and plain literals.
const GET_PING: &[u8] = b"\x82\x87\x04\x05/ping\x01\x09localhost";
/// "Enhance your calm".
const CALM: u32 = 11;
/// How much more memory it may have during a flood, in KiB.
const MORE_MAX: u64 = 96 << 10;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection that has said hello, its windows of a size.
async fn opened(hub: &Hub, authority: &Authority, window: u32) -> TlsStream<TcpStream> {
    let mut stream = connect(hub, Arc::new(authority.config(&["h2"], None))).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let [a, b, c, d] = window.to_be_bytes();
    stream.write_all(&frame(SETTINGS, 0, 0, &[0, 4, a, b, c, d])).await.unwrap();
    stream
}

/// Reads frames to the end of the connection; the code of the GOAWAY, if one came.
async fn farewell(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<u32> {
    let mut code = None;
    let read = async {
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            if head[3] == GOAWAY {
                code = Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the connection stays");
    code
}

/// What it keeps in memory, in KiB.
fn memory(hub: &Hub) -> u64 {
    hub.kib("RssAnon")
}

/// Writes the same bytes again and again, as far as they are taken within some seconds; tells how often.
async fn pour(
    stream: &mut (impl AsyncWriteExt + Unpin),
    times: usize,
    mut bytes: impl FnMut(usize) -> Vec<u8>,
) -> usize {
    for at in 0..times {
        let bytes = bytes(at);
        let written = tokio::time::timeout(Duration::from_secs(3), stream.write_all(&bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            return at;
        }
    }
    times
}

/// The hub as others see it meanwhile.
async fn is_well(hub: &Hub, authority: &Authority, before: u64) {
    let began = Instant::now();
    let mut other = connect(hub, Arc::new(authority.config(&["http/1.1"], None))).await.unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&mut other, "/ping").await, "pong");
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?} for a handshake and 20 requests", began.elapsed());
    let now = memory(hub);
    assert!(now < before + MORE_MAX, "{before} KiB became {now}");
}

#[tokio::test]
async fn f75_rapid_resets_end_the_connection() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let before = memory(&hub);
    let mut stream = opened(&hub, &authority, 65_535).await;
    let burst = |burst: usize| {
        let pair = |at: usize| {
            let id = ((burst * 100 + at) * 2 + 1) as u32;
            let head = frame(HEADERS, END_STREAM | END_HEADERS, id, GET_PING);
            [head, frame(RESET, 0, id, &8u32.to_be_bytes())].concat()
        };
        (0..100).flat_map(pair).collect()
    };
    pour(&mut stream, 100, burst).await;
    assert_eq!(farewell(&mut stream).await, Some(CALM));
    is_well(&hub, &authority, before).await;
}

#[tokio::test]
async fn f75_a_head_without_end_ends_the_connection() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let before = memory(&hub);
    // Empty parts, small ones, and as large as they may be: one header that is never whole.
    let endless = [b"\x00\x01x".as_slice(), &[0x7f, 0xff, 0xff, 0xff, 0x07]].concat();
    for size in [0, 1, 16_384] {
        let mut stream = opened(&hub, &authority, 65_535).await;
        stream.write_all(&frame(HEADERS, END_STREAM, 1, &endless)).await.unwrap();
        let part = frame(CONTINUATION, 0, 1, &vec![b'a'; size]);
        let poured = pour(&mut stream, 100_000, |_| part.clone()).await;
        assert!(poured < 100_000, "{size}: all of it was taken");
        farewell(&mut stream).await;
        is_well(&hub, &authority, before).await;
    }
}

#[tokio::test]
async fn f75_what_has_to_be_answered_is_not_taken_for_ever() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let before = memory(&hub);
    // None of the answers is read: the hub stops to read, and keeps no queue of them.
    for part in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut stream = opened(&hub, &authority, 65_535).await;
        let many: Vec<u8> = part.repeat(1000);
        let poured = pour(&mut stream, 100_000, |_| many.clone()).await;
        assert!(poured < 100_000, "a hundred million were taken");
        is_well(&hub, &authority, before).await;
    }
}

#[tokio::test]
async fn f75_requests_that_never_read_are_cut_off() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let before = memory(&hub);
    // With a window of nothing no answer can be sent, and the socket is not read either.
    for window in [0, 65_535] {
        let mut stream = opened(&hub, &authority, window).await;
        let burst = |burst: usize| {
            let id = |at: usize| ((burst * 100 + at) * 2 + 1) as u32;
            (0..100).flat_map(|at| frame(HEADERS, END_STREAM | END_HEADERS, id(at), GET_PING)).collect()
        };
        let poured = pour(&mut stream, 10_000, burst).await;
        assert!(poured < 10_000, "a million requests were taken");
        is_well(&hub, &authority, before).await;
        hub.logged("an HTTP/2 connection was cut off").await;
    }
}

#[tokio::test]
async fn f75_a_few_bytes_that_stand_for_a_large_head_are_refused() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let before = memory(&hub);
    let mut stream = opened(&hub, &authority, 65_535).await;
    // A header of 4,000 bytes goes into the table; then each byte names it once more.
    let first = [GET_PING, b"\x40\x01x\x7f\xa1\x1e", &vec![b'a'; 4000]].concat();
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &first)).await.unwrap();
    let head = [GET_PING, &[0xbe; 100]].concat();
    let bomb = |at: usize| frame(HEADERS, END_STREAM | END_HEADERS, (at * 2 + 3) as u32, &head);
    assert_eq!(pour(&mut stream, 60, bomb).await, 60);
    // The status 431, as it is written the first time.
    let (mut answers, refused) = (Vec::<u8>::new(), b"\x69\x90\xff");
    while !answers.windows(3).any(|part| part == refused) {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer)).await;
        let Ok(Ok(read @ 1..)) = read else { panic!("{}", answers.escape_ascii()) };
        answers.extend(&buffer[..read]);
    }
    is_well(&hub, &authority, before).await;
}
