//! `--tunnel` before a tunnel server that does as each test says: well, ill, or not at all.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    fixture::{Hub, PATIENCE, echo, hubward, initialize, rogue, told},
    raw::Raw,
};

const OPEN: &str = "[hub.auth]\nallow_unauthenticated = true\n";

/// A tunnel server: what it was asked, and the data connections that came.
struct Server {
    url: String,
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    lanes: mpsc::Receiver<TcpStream>,
    /// Whether data connections are taken, or closed at once.
    takes: watch::Sender<bool>,
}

impl Server {
    async fn start() -> Server {
        let [front, data] =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let port = data.local_addr().unwrap().port();
        let url = format!("http://{}", front.local_addr().unwrap());
        let (asked, answers) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<VecDeque<(u16, String)>>>::default());
        let (kept, script) = (asked.clone(), answers.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = front.accept().await {
                let path = path_of(&mut socket).await;
                kept.lock().unwrap().push(path.clone());
                let usual = (200, reply(path.trim_start_matches(['/', '?']), port, json!({})));
                let (status, body) = script.lock().unwrap().pop_front().unwrap_or(usual);
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
            }
        });
        let ((to, lanes), takes) = (mpsc::channel(100), watch::Sender::new(true));
        let taken = takes.subscribe();
        tokio::spawn(async move {
            while let Ok((socket, _)) = data.accept().await {
                if *taken.borrow() {
                    let _ = to.send(socket).await;
                }
            }
        });
        Server { url, port, asked, answers, lanes, takes }
    }

    /// It answers the next registration like this.
    fn answers(self, status: u16, body: impl Into<String>) -> Server {
        self.answers.lock().unwrap().push_back((status, body.into()));
        self
    }

    fn promises(self, id: &str, more: Value) -> Server {
        let body = reply(id, self.port, more);
        self.answers(200, body)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The next data connection.
    async fn lane(&mut self) -> Raw {
        Raw::of(timeout(PATIENCE, self.lanes.recv()).await.expect("no data connection").unwrap())
    }

    /// The connection that takes the place of another one, which the server has closed.
    async fn lane_after(&mut self, lane: Raw) -> Raw {
        drop(lane);
        self.lane().await
    }

    /// A hub with a tunnel here.
    fn hub(&self, flags: &[&str], toml: &str) -> Hub {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hub.toml"), toml).unwrap();
        let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "--log-level", "debug", "--tunnel"]);
        command.args(["--tunnel-host", &self.url]).args(flags).arg("-c").arg(folder.path().join("hub.toml"));
        command.env("NO_PROXY", "127.0.0.1");
        Hub::run(folder, command)
    }
}

fn reply(id: &str, port: u16, more: Value) -> String {
    let id = if id == "new" { "calm-fish-32" } else { id };
    let mut reply =
        json!({ "id": id, "url": format!("http://{id}.localhost:3000"), "domain": "localhost", "port": port });
    reply.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    reply.to_string()
}

async fn path_of(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && socket.read_buf(&mut head).await.unwrap_or(0) > 0 {}
    String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned()
}

fn get(path: &str, host: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")
}

fn post(path: &str, host: &str, body: &Value) -> String {
    let (body, accept) = (body.to_string(), "application/json, text/event-stream");
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nContent-Type: application/json\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The status of a request on a data connection.
async fn asks(lane: &mut Raw, request: String) -> u16 {
    lane.send(request).await.response().await.status
}

async fn open(hub: &Hub) -> Value {
    hub.until("an open tunnel", |status| status["tunnel"]["state"] == "open").await["tunnel"].clone()
}

#[tokio::test]
async fn s4_26_s4_t1_s4_t4_s4_t6_a_hub_is_reached_by_its_tunnel() {
    let mut server = Server::start().await.promises("my-hub", json!({ "maxConnCount": 3 }));
    let hub = server.hub(&["--tunnel-subdomain", "my-hub"], &format!("{OPEN}{}", echo("a", "")));
    let mut lanes = vec![server.lane().await, server.lane().await, server.lane().await];
    assert_eq!(server.asked(), ["/my-hub"]);
    assert_eq!(open(&hub).await, json!({ "state": "open", "url": "http://my-hub.localhost:3000", "error": null }));
    // One request after the other, on each connection.
    for lane in &mut lanes {
        assert_eq!(asks(lane, get("/ping", "my-hub.localhost:3000", "")).await, 200);
        let greeted =
            lane.send(post("/a/mcp", "my-hub.localhost", &initialize("2025-11-25", json!({})))).await.response().await;
        assert!(greeted.status == 200 && greeted.body.contains("serverInfo"), "{greeted:?}");
    }
    let mounts = hub.upstream("a").await["mounts"].to_string();
    assert!(mounts.contains("http://my-hub.localhost:3000/a/mcp") && mounts.contains(&hub.url("/a/sse")), "{mounts}");
    let (code, stdout, _) = hub.commanded(&["status"]).await;
    assert!(code == 0 && stdout.contains("tunnel http://my-hub.localhost:3000"), "{stdout}");
    // What the server sees is said.
    hub.logged("tokens too").await;
}

#[tokio::test]
async fn s4_t5_on_a_shared_port_each_connection_says_whose_it_is() {
    let mut server = Server::start().await.promises("calm-fish-32", json!({ "maxConnCount": 2, "sharedTunnel": true }));
    let hub = server.hub(&[], &format!("{OPEN}{}", echo("a", "")));
    assert_eq!(open(&hub).await["url"], "http://calm-fish-32.localhost:3000");
    assert_eq!(server.asked(), ["/?new"]);
    for _ in 0..2 {
        let mut lane = server.lane().await;
        let mut said = [0; 13];
        lane.socket.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"calm-fish-32\n");
        assert_eq!(asks(&mut lane, get("/ping", "calm-fish-32.localhost", "")).await, 200);
    }
}

#[tokio::test]
async fn s4_t3_where_the_name_is_taken_the_truth_is_told() {
    let mut server = Server::start().await.promises("hot-cat-5", json!({ "url": "http://wanted.localhost:3000" }));
    let hub = server.hub(&["--tunnel-subdomain", "wanted"], &format!("{OPEN}{}", echo("a", "")));
    let mut lane = server.lane().await;
    assert_eq!(open(&hub).await["url"], "http://hot-cat-5.localhost:3000");
    hub.logged("this one is taken").await;
    assert_eq!(asks(&mut lane, get("/ping", "wanted.localhost:3000", "")).await, 403);
    assert_eq!(asks(&mut lane, get("/ping", "hot-cat-5.localhost:3000", "")).await, 200);
}

#[tokio::test]
async fn s4_t7_no_host_is_rewritten_and_each_way_in_has_its_own_names() {
    let mut server = Server::start().await;
    let toml = format!("[hub]\nallowed_hosts = ['named.example']\n{OPEN}{}", echo("a", ""));
    let hub = server.hub(&["--tunnel-subdomain", "name"], &toml);
    let (mut lane, mut own) = (server.lane().await, Raw::connect(&hub).await);
    open(&hub).await;
    for (host, by_tunnel, by_socket) in [
        ("name.localhost", 200, 403),
        ("NAME.localhost:80", 200, 403),
        ("named.example", 200, 200),
        ("localhost", 403, 200),
        ("127.0.0.1", 403, 200),
        ("other.localhost", 403, 403),
        ("evil.example", 403, 403),
        ("name.localhost.evil.example", 403, 403),
    ] {
        assert_eq!(asks(&mut lane, get("/ping", host, "")).await, by_tunnel, "{host}");
        assert_eq!(asks(&mut own, get("/ping", host, "")).await, by_socket, "{host}");
    }
    for (origin, by_tunnel, by_socket) in [
        ("http://name.localhost:3000", 200, 403),
        ("http://name.localhost", 403, 403),
        ("https://evil.example", 403, 403),
    ] {
        let origin = format!("Origin: {origin}\r\n");
        assert_eq!(asks(&mut lane, get("/ping", "name.localhost", &origin)).await, by_tunnel, "{origin}");
        assert_eq!(asks(&mut own, get("/ping", "localhost", &origin)).await, by_socket, "{origin}");
    }
}

#[tokio::test]
async fn s4_t6_what_comes_by_the_tunnel_is_believed_in_nothing() {
    let mut server = Server::start().await;
    let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let toml = format!(
        "[hub]\ntrusted_proxies = ['0.0.0.0/0']\n[hub.auth]\ntokens = [{{ name = 'ci', sha256 = '{hash}' }}]\n\
         jwt = {{ issuer = 'https://idp.example' }}\n{}",
        echo("a", "")
    );
    let hub = server.hub(&["--tunnel-subdomain", "name"], &toml);
    let mut lane = server.lane().await;
    let said = "Forwarded: for=9.9.9.9\r\nX-Forwarded-For: 9.9.9.9\r\nX-Api-Key: secret-of-a-caller\r\n";
    let refused = lane.send(get("/a/mcp", "name.localhost", said)).await.until("resource_metadata").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    hub.logged("not let in").await;
    hub.logged("127.0.0.1").await;
    assert!(!hub.log().contains("9.9.9.9"), "{}", hub.log());
    assert!(!hub.log().contains("secret-of-a-caller"));
    // Who logs in is sent to where they came from.
    let place = "http://name.localhost:3000/.well-known/oauth-protected-resource/a/mcp";
    assert!(lane.until(place).await.contains(place));
    let mut lane = server.lane_after(lane).await;
    let page =
        lane.send(get("/.well-known/oauth-protected-resource/a/mcp", "name.localhost", "")).await.response().await;
    assert!(page.body.contains("\"http://name.localhost:3000/a/mcp\""), "{page:?}");
}

#[tokio::test]
async fn s4_t8_another_connection_takes_the_place_of_one_that_ends() {
    let mut server = Server::start().await.promises("name", json!({ "maxConnCount": 2 }));
    let hub = server.hub(&["--tunnel-subdomain", "name"], &format!("{OPEN}{}", echo("a", "")));
    let (mut used, mut kept) = (server.lane().await, server.lane().await);
    for _ in 0..5 {
        assert_eq!(asks(&mut used, get("/ping", "name.localhost", "")).await, 200);
        used = server.lane_after(used).await;
    }
    assert_eq!(asks(&mut kept, get("/ping", "name.localhost", "")).await, 200);
    assert_eq!(server.asked(), ["/name"], "nobody registered again");
    assert_eq!(hub.status().await["tunnel"]["state"], "open");
}

#[tokio::test]
async fn s4_t10_a_server_that_forgot_the_hub_is_asked_for_the_same_name() {
    let mut server = Server::start().await;
    let hub = server.hub(&[], &format!("{OPEN}{}", echo("a", "")));
    let mut lane = server.lane().await;
    assert_eq!(asks(&mut lane, get("/ping", "calm-fish-32.localhost", "")).await, 200);
    // It is down: what was promised leads nowhere, and it answers with an error at first.
    server.takes.send_replace(false);
    server.answers.lock().unwrap().extend([(502, String::new()), (503, "down".into())]);
    drop(lane);
    let lost = hub.until("a tunnel that is opened again", |status| status["tunnel"]["state"] == "opening").await;
    assert_eq!(lost["tunnel"]["url"], Value::Null);
    server.takes.send_replace(true);
    let mut lane = server.lane().await;
    assert_eq!(open(&hub).await["url"], "http://calm-fish-32.localhost:3000");
    assert_eq!(asks(&mut lane, get("/ping", "calm-fish-32.localhost", "")).await, 200);
    assert_eq!(server.asked(), ["/?new", "/calm-fish-32", "/calm-fish-32", "/calm-fish-32"]);
}

#[tokio::test]
async fn s4_t1_a_refusal_is_final_and_the_hub_goes_on() {
    let server = Server::start().await.answers(403, json!({ "message": "not you" }).to_string());
    let hub = server.hub(&["--tunnel-subdomain", "name"], &format!("{OPEN}{}", echo("a", "")));
    let refused = hub.until("a refusal", |status| status["tunnel"]["state"] == "refused").await;
    let why = refused["tunnel"]["error"].as_str().unwrap();
    assert!(why.contains(&server.url) && why.contains("HTTP 403, not you"), "{why}");
    hub.logged("goes on without it").await;
    let (_, stdout, _) = hub.commanded(&["status"]).await;
    assert!(stdout.contains("not you"), "{stdout}");
    assert_eq!(server.asked(), ["/name"]);
}

#[tokio::test]
async fn s4_t1_s4_t2_anything_else_is_tried_again() {
    let huge = format!("{{\"id\":\"{}\"", "x".repeat(1 << 20));
    let mut server = Server::start().await.answers(200, huge).answers(200, "<html>hello</html>");
    let hub = server.hub(&["--tunnel-subdomain", "name"], &format!("{OPEN}{}", echo("a", "")));
    hub.logged("larger than 65536 bytes").await;
    hub.logged("check --tunnel-host").await;
    let mut lane = server.lane().await;
    assert_eq!(asks(&mut lane, get("/ping", "name.localhost", "")).await, 200);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn s4_t4_a_server_whose_connections_fail_is_asked_again_and_none_is_shown() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut server = Server::start().await.promises("name", json!({ "port": closed, "maxConnCount": 4 }));
    let hub = server.hub(&["--tunnel-subdomain", "name"], &format!("{OPEN}{}", echo("a", "")));
    hub.logged(&format!("no data connection to 127.0.0.1:{closed} lasts")).await;
    assert!(!hub.log().contains("the tunnel is open"), "{}", hub.log());
    let _lane = server.lane().await;
    assert_eq!((open(&hub).await["error"].clone(), server.asked().len()), (Value::Null, 2));
}

#[tokio::test]
async fn s4_t4_no_more_connections_are_opened_than_servers_take() {
    let mut server = Server::start().await.promises("name", json!({ "maxConnCount": 100_000 }));
    let _hub = server.hub(&["--tunnel-subdomain", "name"], &format!("{OPEN}{}", echo("a", "")));
    let mut lanes = Vec::new();
    for _ in 0..10 {
        lanes.push(server.lane().await);
    }
    for lane in &mut lanes {
        assert_eq!(asks(lane, get("/ping", "name.localhost", "")).await, 200);
    }
    assert!(server.lanes.try_recv().is_err());
}

#[tokio::test]
async fn s4_t4_streams_leave_connections_to_calls() {
    let mut server = Server::start().await.promises("name", json!({ "maxConnCount": 4 }));
    let _hub = server.hub(&["--tunnel-subdomain", "name"], &format!("{OPEN}{}", echo("a", "")));
    let stream = || get("/a/sse", "name.localhost", "Accept: text/event-stream\r\n");
    let mut lanes = Vec::new();
    for _ in 0..3 {
        let mut lane = server.lane().await;
        lane.send(stream()).await.until("event: endpoint").await;
        lanes.push(lane);
    }
    let mut last = server.lane().await;
    for _ in 0..2 {
        assert_eq!(asks(&mut last, stream()).await, 503);
        assert_eq!(asks(&mut last, get("/ping", "name.localhost", "")).await, 200);
    }
    // The end of one makes room for another.
    let mut next = server.lane_after(lanes.remove(0)).await;
    next.send(stream()).await.until("event: endpoint").await;
    assert_eq!(asks(&mut last, stream()).await, 503);
}

#[tokio::test]
async fn s4_t9_an_idle_connection_is_the_servers_to_close() {
    let mut server = Server::start().await.promises("name", json!({ "maxConnCount": 2 }));
    let toml = format!("[hub]\nkeep_alive = '1s'\n{OPEN}{}", echo("a", ""));
    let hub = server.hub(&["--tunnel-subdomain", "name"], &toml);
    let (mut used, mut fresh, mut own) = (server.lane().await, server.lane().await, Raw::connect(&hub).await);
    assert_eq!(asks(&mut used, get("/ping", "name.localhost", "")).await, 200);
    assert_eq!(asks(&mut own, get("/ping", "localhost", "")).await, 200);
    let [mut silent, _] = [Raw::connect(&hub).await, Raw::connect(&hub).await];
    own.closed().await;
    // A socket that says nothing at all is cut off after 5 s.
    silent.closed().await;
    for lane in [&mut used, &mut fresh] {
        assert_eq!(asks(lane, get("/ping", "name.localhost", "")).await, 200);
    }
}

#[tokio::test]
async fn s4_26_nobody_is_exposed_who_did_not_say_so() {
    let server = Server::start().await;
    let refused = |words: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hub.toml"), echo("a", "")).unwrap();
        let (code, stdout, stderr) = told(&hubward(words).current_dir(folder.path()).output().unwrap());
        assert!(code == 2 && stdout.is_empty(), "{words:?}: {code} {stdout} {stderr}");
        stderr
    };
    let said = refused(&["serve", "--bind", "127.0.0.1:0", "--tunnel", "--tunnel-host", &server.url]);
    assert!(said.contains("hubward token new") && said.contains("allow_unauthenticated = true"), "{said}");
    let said = refused(&["proxy", "--bind", "127.0.0.1:0", "--tunnel", "--tunnel-host", &server.url, "--", "true"]);
    assert!(said.contains("--api-key KEY") && said.contains("--allow-unauthenticated"), "{said}");
    for name in ["No", "a b", "-abcdef"] {
        let said = refused(&["serve", "--tunnel", &format!("--tunnel-subdomain={name}")]);
        assert!(said.contains("4 to 63"), "{said}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn s4_26_an_edit_that_would_expose_the_hub_is_rejected() {
    let mut server = Server::start().await;
    let hub = server.hub(&["--tunnel-subdomain", "name"], &format!("{OPEN}{}", echo("a", "")));
    let mut lane = server.lane().await;
    hub.generation(1).await;
    hub.edit(&echo("a", "start = 'eager'\n"));
    let rejected =
        |status: &Value| status["reload"]["rejected"].as_str().is_some_and(|why| why.contains("show who they are"));
    hub.until("a rejected edit", rejected).await;
    assert_eq!(asks(&mut lane, get("/ping", "name.localhost", "")).await, 200);
}

#[tokio::test]
async fn s4_26_a_proxy_has_a_tunnel_as_mcp_proxy_does() {
    let mut server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut command =
        hubward(&["proxy", "--bind", "127.0.0.1:0", "--tunnel", "--tunnelSubdomain", "name", "--apiKey", "key"]);
    command
        .args(["--tunnel-host", &server.url, "--"])
        .arg(super::fixture::example("echo"))
        .env("NO_PROXY", "127.0.0.1");
    let _hub = Hub::run(folder, command);
    let mut lane = server.lane().await;
    assert_eq!(server.asked(), ["/name"]);
    assert_eq!(asks(&mut lane, get("/mcp", "name.localhost", "")).await, 401);
    let greeting = post("/mcp", "name.localhost", &initialize("2025-11-25", json!({})));
    let greeting = greeting.replacen("\r\n", "\r\nX-Api-Key: key\r\n", 1);
    assert_eq!(asks(&mut lane, greeting).await, 200);
}

#[tokio::test]
async fn s4_47_sessions_end_first_and_then_the_tunnel() {
    let mut server = Server::start().await.promises("name", json!({ "maxConnCount": 3 }));
    let mut hub = server.hub(&["--tunnel-subdomain", "name"], &format!("{OPEN}{}", rogue("r", &[], "")));
    let (mut stream, mut calls, mut idle) = (server.lane().await, server.lane().await, server.lane().await);
    stream.send(get("/r/sse", "name.localhost", "Accept: text/event-stream\r\n")).await.until("event: endpoint").await;
    let greeting = calls.send(post("/r/mcp", "name.localhost", &initialize("2025-11-25", json!({})))).await;
    let greeting = greeting.until("serverInfo").await;
    let mut headers = greeting.lines().filter_map(|line| line.split_once(": "));
    let (_, session) = headers.find(|(name, _)| name.eq_ignore_ascii_case("mcp-session-id")).unwrap();
    let call = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": { "name": "sleep", "arguments": { "ms": 700 } } });
    let call =
        post("/r/mcp", "name.localhost", &call).replacen("\r\n", &format!("\r\nMcp-Session-Id: {session}\r\n"), 1);
    calls.send(call).await;
    hub.until_upstream("r", |upstream| upstream["in_flight"] == 1).await;
    hub.signal("TERM");
    // The stream ends as streams do, what was asked is answered, and newcomers are still told.
    stream.until("0\r\n\r\n").await;
    assert_eq!(asks(&mut idle, get("/readyz", "name.localhost", "")).await, 503);
    calls.until("\"id\":9").await;
    for lane in [&mut stream, &mut calls] {
        lane.closed().await;
    }
    assert!(hub.ended().success());
    // Those too that took the place of the first.
    while let Ok(socket) = server.lanes.try_recv() {
        Raw::of(socket).closed().await;
    }
}
