//! Whom the hub believes to be the server that it was told of, and what it shows of itself.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

use super::*;
use crate::peer::{modern, newer};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server's side of TLS, with a certificate for this name.
fn acceptor(authority: &Authority, name: &str, expired: bool, clients: Option<&Authority>) -> TlsAcceptor {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()))
}

async fn served(acceptor: TlsAcceptor) -> Peer {
    Peer::tls(acceptor, newer).await
}

#[tokio::test]
async fn f117_a_server_that_cannot_prove_who_it_is_is_not_asked() {
    let (ours, other) = (authority(), authority());
    let cases = [
        ("unknown authority", acceptor(&other, "localhost", false, None), "certificate"),
        ("expired", acceptor(&ours, "localhost", true, None), "expired"),
        ("another name", acceptor(&ours, "elsewhere.example", false, None), "not valid for name"),
    ];
    for (what, acceptor, reason) in cases {
        let peer = served(acceptor).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
        let hub = Hub::start_in(folder, &peer.upstream("a", "tls = { ca = 'ca.pem' }\nheaders = { X-Key = 'SECRET' }"));
        let greeted = greet(&hub, "/a/mcp").await;
        assert_eq!(greeted.status, 503, "{what}: {greeted:?}");
        let state = hub.upstream("a").await;
        let told = format!("{} {}", greeted.error().1, state["reason"]);
        assert!(told.contains(reason), "{what}: {told}");
        assert_eq!(peer.seen().len(), 0, "{what}");
    }
}

#[tokio::test]
async fn f117_an_authority_of_ones_own_is_believed_and_a_new_file_at_the_next_connection() {
    let (one, two) = (authority(), authority());
    let peer = served(acceptor(&one, "localhost", false, None)).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), one.pem()).unwrap();
    let hub = Hub::start_in(folder, &peer.upstream("a", "tls = { ca = 'ca.pem' }\nidle_timeout = '200ms'\nrestart = { backoff_min = '20ms', backoff_max = '50ms', max = 100 }"));
    let client = Client::open(&hub, "/a/mcp").await;
    assert_eq!(echo(&client, "x").await.tool_text(), "x");
    peer.stop().await;
    peer.certify(acceptor(&two, "localhost", false, None));
    std::fs::write(hub.folder.path().join("ca.pem"), two.pem()).unwrap();
    peer.restart().await;
    let began = std::time::Instant::now();
    while echo(&client, "y").await.last()["result"].is_null() {
        assert!(began.elapsed() < crate::fixture::PATIENCE, "the new file is not read");
    }
}

#[tokio::test]
async fn f117_a_server_that_wants_a_certificate_gets_ours() {
    let (ours, clients) = (authority(), authority());
    let peer = served(acceptor(&ours, "localhost", false, Some(&clients))).await;
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["hub".to_owned()]).unwrap().signed_by(&key, &clients).unwrap();
    for (name, text) in [("ca.pem", ours.pem()), ("hub.crt", certificate.pem()), ("hub.key", key.serialize_pem())] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let shown = "tls = { ca = 'ca.pem', cert = 'hub.crt', key = 'hub.key' }";
    let toml = format!("{}{}", peer.upstream("a", shown), peer.upstream("b", "tls = { ca = 'ca.pem' }"));
    let hub = Hub::start_in(folder, &toml);
    assert_eq!(echo(&Client::open(&hub, "/a/mcp").await, "x").await.tool_text(), "x");
    assert_eq!(greet(&hub, "/b/mcp").await.status, 503);
}

#[tokio::test]
async fn f117_without_verification_any_certificate_will_do() {
    let peer = served(acceptor(&authority(), "elsewhere.example", true, None)).await;
    let hub = Hub::start(&peer.upstream("a", "tls = { verify = false }"));
    assert_eq!(echo(&Client::open(&hub, "/a/mcp").await, "x").await.tool_text(), "x");
}

#[tokio::test]
async fn f116_no_redirect_leads_from_tls_to_plain_text() {
    let (ours, plain) = (authority(), modern(|_| None).await);
    let target = plain.url("/mcp");
    let peer = Peer::tls(acceptor(&ours, "localhost", false, None), move |seen| match wish(seen) {
        "away" => Reply::status(307).header("location", &target),
        _ => newer(seen),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
    let hub = Hub::start_in(folder, &peer.upstream("a", "tls = { ca = 'ca.pem' }"));
    let client = Client::open(&hub, "/a/mcp").await;
    assert!(echo(&client, "away").await.error().1.contains(&plain.origin));
    assert_eq!(plain.connections(), 0);
}
