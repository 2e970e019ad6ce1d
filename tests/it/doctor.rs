//! `hubward doctor`: each thing that can be in the way of a client, seen and named, with what to type next.

use std::{net::SocketAddr, path::Path};

use rcgen::SanType;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    fixture::{Hub, echo, hubward, modern, rogue, told},
    tls::{self, Authority, secure},
};

/// What is found: the exit code, and each step with its verdict, what was seen and what is next.
struct Found(i32, Vec<Value>);

impl Found {
    /// The verdict of a step, and all that is said there.
    fn at(&self, step: &str) -> (&str, String) {
        let found = self.1.iter().find(|finding| finding["step"] == step);
        let found = found.unwrap_or_else(|| panic!("no step {step} in {:#?}", self.1));
        let text = |key: &str| found[key].as_str().unwrap_or_default();
        (text("verdict"), format!("{} → {}", text("seen"), text("next")))
    }

    /// The step has this verdict, and says these words.
    fn check(&self, step: &str, verdict: &str, words: &[&str]) {
        let (is, said) = self.at(step);
        assert_eq!(is, verdict, "{step}: {said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {step}: {said}");
        }
    }

    /// Nothing else is wrong.
    fn only(&self, failed: &[&str]) {
        let wrong: Vec<&str> =
            self.1.iter().filter(|one| one["verdict"] == "fail").filter_map(|one| one["step"].as_str()).collect();
        assert_eq!(wrong, failed, "{:#?}", self.1);
        assert_eq!(self.0, i32::from(!failed.is_empty()));
    }
}

async fn doctor(folder: &Path, args: &[&str]) -> Found {
    let mut command = hubward(&["doctor", "--json"]);
    command.args(args).env("XDG_RUNTIME_DIR", folder).env("XDG_STATE_HOME", folder.join("state"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (code, stdout, stderr) = told(&output);
    let json: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    Found(code, json["findings"].as_array().unwrap().clone())
}

#[tokio::test]
async fn a_server_that_is_well_passes_every_step_in_both_eras() {
    let hub = Hub::start(&format!("{}{}", echo("old", ""), modern("new", &[], "")));
    // The hub speaks every revision, whatever the server behind it does.
    for name in ["old", "new"] {
        let found = doctor(hub.folder.path(), &[&hub.url(&format!("/{name}/mcp"))]).await;
        found.only(&[]);
        found.check("name", "ok", &["127.0.0.1"]);
        found.check("tcp", "ok", &[]);
        found.check("http", "ok", &["HTTP/1.1 200"]);
        found.check("host", "ok", &["a foreign Host is refused (403)"]);
        found.check("origin", "ok", &["strangers are refused"]);
        found.check("cors", "ok", &["may ask and read"]);
        found.check("metadata", "ok", &["none needed"]);
        found.check("auth", "ok", &["nobody is asked"]);
        found.check("stream", "ok", &["the first byte of a stream came after"]);
        found.check("era", "ok", &["initialize: 2025-11-25; server/discover: ", "2026-07-28"]);
        found.check("tools", "ok", &["in revision 2026-07-28"]);
    }
    // The older transport has its own way.
    let found = doctor(hub.folder.path(), &[&hub.url("/old/sse")]).await;
    found.only(&[]);
    found.check("http", "ok", &["HTTP+SSE"]);
    found.check("tools", "ok", &[]);
    // For people: a line a step, and the sum.
    let told = told(&hubward(&["doctor", &hub.url("/old/mcp")]).output().unwrap());
    assert!(told.0 == 0 && told.1.contains("ok    tcp  ") && told.1.ends_with("a client can connect\n"), "{}", told.1);
}

#[tokio::test]
async fn an_upstream_of_the_local_hub_is_found_by_its_name() {
    let toml = format!(
        "[hub]\nallowed_origins = ['https://app.example.com']\n{}",
        rogue("r", &["--exit-at-start", "3"], "start = 'eager'\nrestart = { max = 0 }")
    );
    let hub = Hub::start(&format!("{toml}{}", echo("e", "")));
    let file = hub.path().display().to_string();
    let found = doctor(hub.folder.path(), &["e", "-c", &file]).await;
    found.only(&[]);
    found.check("hub", "ok", &["it runs"]);
    found.check("upstream", "ok", &["e is "]);
    found.check("origin", "ok", &["https://app.example.com"]);
    found.check("cors", "ok", &["https://app.example.com"]);
    hub.until_upstream("r", |r| r["state"] == "failed").await;
    let found = doctor(hub.folder.path(), &["r", "-c", &file]).await;
    found.check("upstream", "fail", &["r is failed"]);
    let found = doctor(hub.folder.path(), &["nobody", "-c", &file]).await;
    found.check("hub", "fail", &["there is no upstream `nobody`", "hubward list"]);
    let folder = hub.leave();
    let found = doctor(folder.path(), &["e", "-c", &file]).await;
    found.only(&["hub"]);
    found.check("hub", "fail", &["no hub answers", "hubward serve -c"]);
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing_where_it_is() {
    let hub = Hub::start(&echo("e", ""));
    let here = hub.folder.path();
    let found = doctor(here, &[&hub.url("/wrong/mcp")]).await;
    found.only(&["http"]);
    found.check("http", "fail", &["404", "no upstream is mounted at /wrong/mcp", "/NAME/mcp"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = doctor(here, &[&format!("http://{free}/e/mcp")]).await;
    found.only(&["tcp"]);
    found.check("tcp", "fail", &["nobody listens", "hubward serve"]);
    let found = doctor(here, &["http://doctor-test.invalid/mcp"]).await;
    found.only(&["name"]);
    let found = doctor(here, &[&hub.url("/e/mcp").replace("http://", "https://")]).await;
    found.only(&["tls"]);
    found.check("tls", "fail", &["speaks no TLS", "try http://127.0.0.1:"]);
    // A page that the hub does not know.
    let found = doctor(here, &[&hub.url("/e/mcp"), "--origin", "https://app.example.com"]).await;
    found.only(&["origin"]);
    found.check("origin", "fail", &["https://app.example.com", "allowed_origins = ["]);
    // A name that is none of the hub's.
    let proxy = Proxy::begin(&hub, Between { host: Some("mcp.example.com"), ..Between::default() }).await;
    let found = doctor(here, &[&format!("http://{}/e/mcp", proxy.0)]).await;
    found.check("host", "fail", &["allowed_hosts"]);
    let bad = hubward(&["doctor", "ftp://x"]).output().unwrap();
    assert_eq!(bad.status.code(), Some(2));
}

#[tokio::test]
async fn certificates_that_nobody_believes_are_told_apart() {
    let authority = Authority::new();
    let start = |change: fn(&mut rcgen::CertificateParams), days: i64| {
        let folder = tempfile::tempdir().unwrap();
        authority.pair_with(days, change).write(folder.path());
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        tls::start_in(folder, &format!("{}{}", tls::HUB, echo("e", "")))
    };
    let hub = start(|_| (), 90);
    let ca = hub.folder.path().join("ca.pem").display().to_string();
    let url = format!("{}/e/mcp", secure(&hub));
    let found = doctor(hub.folder.path(), &[&url]).await;
    found.only(&["tls"]);
    found.check("tls", "fail", &["is not believed", "the authority", "--ca FILE", "NODE_EXTRA_CA_CERTS"]);
    // What else there is, is seen all the same.
    found.check("auth", "ok", &[]);
    found.check("stream", "ok", &[]);
    let found = doctor(hub.folder.path(), &[&url, "--ca", &ca]).await;
    found.only(&[]);
    found.check("tls", "ok", &["TLS 1.3, h2", "localhost"]);
    found.check("http", "ok", &["HTTP/2"]);
    let hub = start(|_| (), 5);
    let found = doctor(hub.folder.path(), &[&format!("{}/e/mcp", secure(&hub)), "--ca", &ca]).await;
    found.check("tls", "warn", &["5 days from now", "renew"]);
    let hub = start(|params| params.not_before = rcgen::date_time_ymd(2020, 1, 1), -3);
    let found = doctor(hub.folder.path(), &[&format!("{}/e/mcp", secure(&hub)), "--ca", &ca]).await;
    found.check("tls", "fail", &["ended", "days ago", "renew"]);
    let other = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("mcp.example.com".try_into().unwrap())];
    };
    let hub = start(other, 90);
    let found = doctor(hub.folder.path(), &[&format!("{}/e/mcp", secure(&hub)), "--ca", &ca]).await;
    found.check("tls", "fail", &["is for mcp.example.com, not for 127.0.0.1"]);
}

#[tokio::test]
async fn a_token_that_is_missing_or_wrong_is_told_from_a_good_one() {
    let token = "a-token-that-is-long-enough-to-be-one-0123456789";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), token).unwrap();
    let auth = "[hub.auth]\ntokens = [{ name = 'ci', secret = '${file:token}' }]\n";
    let hub = Hub::start_in(folder, &format!("{auth}{}", echo("e", "")));
    let url = hub.url("/e/mcp");
    let found = doctor(hub.folder.path(), &[&url]).await;
    found.only(&["auth"]);
    found.check("auth", "fail", &["a token is asked for", "-H 'Authorization: Bearer TOKEN'", "hubward token new"]);
    let found = doctor(hub.folder.path(), &[&url, "-H", "Authorization: Bearer nonsense"]).await;
    found.only(&["auth"]);
    found.check("auth", "fail", &["the credentials are refused"]);
    let found = doctor(hub.folder.path(), &[&url, "-H", &format!("Authorization: Bearer {token}")]).await;
    found.only(&[]);
    found.check("auth", "ok", &["the credentials are taken"]);
    found.check("tools", "ok", &[]);
}

#[tokio::test]
async fn a_login_is_named_by_the_command_that_does_it_and_its_issuer_is_asked() {
    // Its port is held, and nobody answers there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let auth = format!("[hub.auth]\njwt = {{ issuer = 'http://{dead}', jwks_url = 'http://{dead}/keys' }}\n");
    let hub = Hub::start(&format!("{auth}{}", echo("e", "")));
    let url = hub.url("/e/mcp");
    let found = doctor(hub.folder.path(), &[&url]).await;
    found.only(&["metadata", "auth"]);
    found.check("metadata", "fail", &["cannot be asked", &dead.to_string()]);
    found.check("auth", "fail", &["OAuth", &format!("hubward auth login {url}")]);
    // Through another name it is about somebody else's URL.
    let proxy = Proxy::begin(&hub, Between::default()).await;
    let found = doctor(hub.folder.path(), &[&format!("http://{}/e/mcp", proxy.0)]).await;
    found.check("metadata", "fail", &["they are about", "public_url"]);
}

#[tokio::test]
async fn a_proxy_that_holds_streams_back_is_noticed() {
    let hub = Hub::start(&echo("e", ""));
    let good = Proxy::begin(&hub, Between::default()).await;
    let found = doctor(hub.folder.path(), &[&format!("http://{}/e/mcp", good.0)]).await;
    found.only(&[]);
    let holding = Proxy::begin(&hub, Between { holds_streams: true, ..Between::default() }).await;
    let found = doctor(hub.folder.path(), &[&format!("http://{}/e/mcp", holding.0)]).await;
    found.only(&["stream"]);
    found.check("stream", "fail", &["holds event streams back", "proxy_buffering off"]);
}

/// What stands between, and does to what passes.
#[derive(Clone, Copy, Default)]
struct Between {
    /// Nothing of an event stream goes on before its end.
    holds_streams: bool,
    /// The Host that goes on.
    host: Option<&'static str>,
}

/// A proxy that makes one connection to the hub for each that it takes.
struct Proxy(SocketAddr, tokio::task::JoinHandle<()>);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.1.abort();
    }
}

impl Proxy {
    async fn begin(hub: &Hub, between: Between) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (own, to) = (listener.local_addr().unwrap(), hub.base.strip_prefix("http://").unwrap().to_owned());
        let accept = async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, to.clone(), between));
            }
        };
        Proxy(own, tokio::spawn(accept))
    }
}

async fn pass(client: TcpStream, to: String, between: Between) {
    let Ok(server) = TcpStream::connect(&to).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let there = async move {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
            let mut text = String::from_utf8_lossy(&bytes[..read]).into_owned();
            if let Some(host) = between.host {
                let line = |line: &str| match line.to_ascii_lowercase().starts_with("host:") {
                    true => format!("host: {host}"),
                    false => line.to_owned(),
                };
                text = text.split("\r\n").map(line).collect::<Vec<_>>().join("\r\n");
            }
            if to_server.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let back = async move {
        let (mut bytes, mut held) = (vec![0; 64 << 10], Vec::new());
        while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
            held.extend_from_slice(&bytes[..read]);
            let stream = held.windows(17).any(|window| window.eq_ignore_ascii_case(b"text/event-stream"));
            if between.holds_streams && stream {
                continue;
            }
            if to_client.write_all(&held).await.is_err() {
                return;
            }
            held.clear();
        }
        let _ = to_client.write_all(&held).await;
    };
    tokio::join!(there, back);
}
