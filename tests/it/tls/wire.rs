//! The handshake and what goes through it: deadlines, floods of handshakes, early data, and no way around TLS.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::fixture::PATIENCE;

/// One exchange of HTTP/1.1 on a connection that stays; the answer's body.
pub async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "cut off after {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= length.parse::<usize>().unwrap() {
            return body.to_owned();
        }
    }
}

#[tokio::test]
async fn f82_a_session_is_resumed_and_no_early_data_is_taken() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let mut config = authority.config(&["http/1.1"], None);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let address = secure(&hub).strip_prefix("https://").unwrap().to_owned();
        let socket = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut offered = true;
        let connecting = TlsConnector::from(config.clone()).connect_with(name, socket, |client| {
            offered = client.early_data().is_some();
        });
        let mut stream = connecting.await.unwrap();
        assert!(!offered, "the hub offered to take data before the handshake is done");
        assert_eq!(ask(&mut stream, "/ping").await, "pong");
        assert!(!stream.get_ref().1.is_early_data_accepted());
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
    }
    use tokio_rustls::rustls::HandshakeKind::{Full, Resumed};
    assert!(matches!(kinds[..], [Full, Resumed]), "{kinds:?}");
}

#[tokio::test]
async fn f74_a_client_that_does_not_shake_hands_is_cut_off() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let address = secure(&hub).strip_prefix("https://").unwrap().to_owned();
    let began = Instant::now();
    let mut silent = TcpStream::connect(&address).await.unwrap();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    // The begin of a handshake, and no more of it.
    slow.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    for socket in [&mut silent, &mut slow] {
        let read = tokio::time::timeout(Duration::from_secs(15), socket.read(&mut [0; 100])).await.expect("it stays");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    assert!(began.elapsed() >= Duration::from_secs(4), "it was cut off too soon to be the deadline");
    // Nor is plain HTTP spoken there.
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.windows(4).any(|part| part == b"HTTP"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f74_silent_handshakes_do_not_hold_up_those_who_are_connected() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let mut established = connect(&hub, Arc::new(authority.config(&["http/1.1"], None))).await.unwrap();
    assert_eq!(ask(&mut established, "/ping").await, "pong");
    let address = secure(&hub).strip_prefix("https://").unwrap().to_owned();
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(ask(&mut established, "/ping").await, "pong");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?} for 50 requests", began.elapsed());
    // Nor do they keep newcomers out for longer than their deadline.
    let connecting = connect(&hub, Arc::new(authority.config(&["http/1.1"], None)));
    let mut newcomer = tokio::time::timeout(Duration::from_secs(15), connecting).await.unwrap().unwrap();
    assert_eq!(ask(&mut newcomer, "/ping").await, "pong");
}

#[tokio::test]
async fn f65_nothing_else_is_spoken_over_tls_than_was_agreed_on() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let plain = Arc::new(authority.config(&["http/1.1"], None));
    let upgrades = [
        "upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    ];
    for upgrade in upgrades {
        let mut stream = connect(&hub, plain.clone()).await.unwrap();
        let request = format!("GET /r/mcp HTTP/1.1\r\nhost: localhost\r\n{upgrade}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert!(start.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&start));
    }
    // HTTP/2 without having agreed on it.
    let mut stream = connect(&hub, plain).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await.expect("it stays").ok();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn f34_a_peer_that_vanished_is_looked_for_under_tls_too() {
    let authority = Authority::new();
    let hub = start_with_rogue(&authority, &[]);
    let mut stream = connect(&hub, Arc::new(authority.config(&["http/1.1"], None))).await.unwrap();
    assert_eq!(ask(&mut stream, "/ping").await, "pong");
    // By both ports: a connection of somebody else that is over may have had the one.
    let (socket, _) = stream.get_ref();
    let ends = [socket.peer_addr(), socket.local_addr()].map(|end| format!(":{:04X}", end.unwrap().port()));
    // The hub's end of the connection: its timer is that of keepalive (2), due within 15 s. Before that it may still be
    // the one for what the client has not acknowledged (1).
    let timer = || {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", hub.pid())).unwrap();
        let is_ours = |line: &&str| line.split_whitespace().skip(1).zip(&ends).all(|(end, port)| end.ends_with(port));
        let timer = table.lines().find(is_ours).and_then(|line| line.split_whitespace().nth(5));
        timer.unwrap_or_else(|| panic!("{table}")).to_owned()
    };
    let began = Instant::now();
    while timer().starts_with("01") && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let timer = timer();
    let (kind, ticks) = timer.split_once(':').unwrap();
    assert_eq!(kind, "02", "{timer}");
    assert!(u64::from_str_radix(ticks, 16).unwrap() <= 1500, "{timer}");
}
