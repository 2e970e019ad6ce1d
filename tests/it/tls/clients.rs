//! Clients that show certificates: who gets in, who does not any more, and by what name they are known.

use actix_web::{App, HttpRequest, HttpServer, web};
use hubward::{
    config,
    hub::House,
    server::{socket, tls},
};

use super::{wire::ask, *};

const HUB_WITH_CLIENTS: &str = "[hub]\ntls = { cert = 'hub.crt', key = 'hub.key', client_ca = 'clients.pem' }\n";

fn start_asking(authority: &Authority, clients: &Authority) -> Hub {
    let folder = tempfile::tempdir().unwrap();
    authority.pair(90).write(folder.path());
    std::fs::write(folder.path().join("clients.pem"), clients.pem()).unwrap();
    start_in(folder, &format!("{HUB_WITH_CLIENTS}{}", rogue("r", &[], "")))
}

/// Tries to get in and ask something. The refusal of a certificate comes after the client thinks it is in.
async fn gets_in(hub: &Hub, config: &Arc<ClientConfig>) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = connect(hub, config.clone()).await else { return false };
    let asked = stream.write_all(b"GET /ping HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).await.is_ok() && answer.ends_with("pong")
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_judged() {
    let [authority, ours, others] = [Authority::new(), Authority::new(), Authority::new()];
    let hub = start_asking(&authority, &ours);
    let shows = |pair: Option<&Pair>| Arc::new(authority.config(&["http/1.1"], pair));
    assert!(gets_in(&hub, &shows(Some(&ours.pair(1)))).await);
    assert!(!gets_in(&hub, &shows(None)).await, "no certificate");
    assert!(!gets_in(&hub, &shows(Some(&others.pair(1)))).await, "somebody else's");
    assert!(!gets_in(&hub, &shows(Some(&ours.pair(-1)))).await, "an expired one");
    assert!(!gets_in(&hub, &shows(Some(&authority.pair(1)))).await, "the authority of servers is not that of clients");
}

#[tokio::test]
async fn an_old_client_certificate_does_not_get_in_by_resumption() {
    let [authority, ours, next] = [Authority::new(), Authority::new(), Authority::new()];
    let hub = start_asking(&authority, &ours);
    // Both versions keep what they could resume with in their configuration.
    let [old, new] = [ours.pair(1), next.pair(1)];
    let versions = [&tokio_rustls::rustls::version::TLS12, &tokio_rustls::rustls::version::TLS13];
    let configs = versions.map(|version| Arc::new(authority.config_of(&[version], &["http/1.1"], Some(&old))));
    let mut established = connect(&hub, configs[1].clone()).await.unwrap();
    assert_eq!(ask(&mut established, "/ping").await, "pong");
    for config in &configs {
        assert!(gets_in(&hub, config).await && gets_in(&hub, config).await);
    }
    std::fs::write(hub.folder.path().join("clients.pem"), next.pem()).unwrap();
    hub.logged("the certificate was renewed").await;
    for config in &configs {
        assert!(!gets_in(&hub, config).await, "the old certificate is trusted no more");
    }
    assert!(gets_in(&hub, &Arc::new(authority.config(&["http/1.1"], Some(&new)))).await);
    // As everywhere: who was let in stays until it leaves.
    assert_eq!(ask(&mut established, "/ping").await, "pong");
}

#[test]
fn a_client_authority_that_cannot_be_read_is_refused_by_name() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    authority.pair(90).write(folder.path());
    std::fs::write(folder.path().join("hub.toml"), HUB_WITH_CLIENTS).unwrap();
    for (content, why) in [("hello", "it holds no certificate"), ("-----BEGIN CERTIFICATE-----\nAAAA\n", "PEM")] {
        std::fs::write(folder.path().join("clients.pem"), content).unwrap();
        let checked = hubward(&["check"]).arg(folder.path().join("hub.toml")).output().unwrap();
        let told = String::from_utf8(checked.stdout).unwrap();
        assert_eq!(checked.status.code(), Some(2), "{told}");
        assert!(told.contains("clients.pem") && told.contains(why), "{told}");
    }
}

/// What a handler learns of the client: over both versions of HTTP.
#[test]
fn a_request_knows_whose_certificate_was_shown() {
    let [authority, ours] = [Authority::new(), Authority::new()];
    let folder = tempfile::tempdir().unwrap();
    authority.pair(90).write(folder.path());
    std::fs::write(folder.path().join("clients.pem"), ours.pem()).unwrap();
    std::fs::write(folder.path().join("hub.toml"), HUB_WITH_CLIENTS).unwrap();
    let house = House::new(&config::read(&folder.path().join("hub.toml")).unwrap().config);
    let server_config = tls::server_config(&house).unwrap().unwrap();
    hubward::run::on_system(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let who = |request: HttpRequest| async move {
            tls::Peer::of(&request).and_then(|peer| peer.name.clone()).unwrap_or_else(|| "nobody".into())
        };
        let server = HttpServer::new(move || App::new().default_service(web::to(who)))
            .workers(1)
            .disable_signals()
            .on_connect(socket::accepted)
            .listen_rustls_0_23(listener, server_config)
            .unwrap()
            .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let names = |params: &mut CertificateParams| {
            params.subject_alt_names.push(SanType::Rfc822Name("ann@team.example".try_into().unwrap()));
        };
        let pair = ours.pair_with(1, names);
        let identity = reqwest::Identity::from_pem((pair.chain + &pair.key.serialize_pem()).as_bytes()).unwrap();
        for builder in [authority.client(), authority.client().http1_only()] {
            let client = builder.identity(identity.clone()).build().unwrap();
            let answer = client.get(format!("https://localhost:{port}/")).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), "ann@team.example");
        }
        handle.stop(false).await;
    });
}
