//! HTTPS with the hub's own certificate: which one serves, who gets in, and what a client over HTTP/2 can do.

mod clients;
mod floods;
mod leave;
mod pairs;
mod renewal;
mod wire;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    },
};

use super::fixture::{Hub, hubward, rogue};

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Pair {
    pub chain: String,
    pub key: KeyPair,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Authority {
        Authority::called("the authority")
    }

    pub fn called(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `localhost` that ends after so many days.
    pub fn pair(&self, days: i64) -> Pair {
        self.pair_with(days, |_| ())
    }

    pub fn pair_with(&self, days: i64, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        change(&mut params);
        let (now, span) = (SystemTime::now() + HOUR, DAY * days.unsigned_abs() as u32);
        params.not_after = if days < 0 { now - span } else { now + span }.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { chain: certificate.pem(), der: certificate.der().to_vec(), key }
    }

    /// A client that believes this authority, and nobody else.
    pub fn client(&self) -> reqwest::ClientBuilder {
        let root = reqwest::Certificate::from_pem(self.pem().as_bytes()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([root])
    }

    /// The same for those who speak TLS themselves.
    pub fn config(&self, alpn: &[&str], shows: Option<&Pair>) -> ClientConfig {
        self.config_of(tokio_rustls::rustls::DEFAULT_VERSIONS, alpn, shows)
    }

    pub fn config_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
        shows: Option<&Pair>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.key.serialize_der()));
                builder.with_client_auth_cert(vec![pair.der.clone().into()], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Pair {
    /// Writes both files as they are named in [`HUB`], in place.
    pub fn write(&self, folder: &Path) {
        std::fs::write(folder.join("hub.crt"), &self.chain).unwrap();
        write_key(&folder.join("hub.key"), &self.key.serialize_pem());
    }
}

/// A key file as it should be: its owner's alone.
pub fn write_key(path: &Path, pem: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, pem).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

pub const HUB: &str = "[hub]\ntls = { cert = 'hub.crt', key = 'hub.key' }\n";

/// A hub that speaks plain HTTP for the tests' own questions, and https beside it.
pub fn start(authority: &Authority, toml: &str) -> Hub {
    let folder = tempfile::tempdir().unwrap();
    authority.pair(90).write(folder.path());
    start_in(folder, toml)
}

pub fn start_in(folder: tempfile::TempDir, toml: &str) -> Hub {
    std::fs::write(folder.path().join("hub.toml"), toml).unwrap();
    let binds = ["--bind", "http://127.0.0.1:0", "--bind", "https://127.0.0.1:0"];
    let mut command = hubward(&["serve", "--log-level", "info", "-c"]);
    command.arg(folder.path().join("hub.toml")).args(binds);
    Hub::run(folder, command)
}

pub fn start_with_rogue(authority: &Authority, flags: &[&str]) -> Hub {
    start(authority, &format!("{HUB}{}", rogue("r", flags, "")))
}

/// Where it speaks https, without a path.
pub fn secure(hub: &Hub) -> String {
    let url = hub.urls.iter().find(|url| url.starts_with("https://")).expect("an https URL");
    url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

/// A TLS connection to it.
pub async fn connect(hub: &Hub, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let address = secure(hub).strip_prefix("https://").unwrap().to_owned();
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

/// The certificate that it shows to a new client.
pub async fn shown(hub: &Hub, authority: &Authority) -> Vec<u8> {
    let stream = connect(hub, Arc::new(authority.config(&["http/1.1"], None))).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// What the status says of the certificate.
pub fn certificate(status: &Value) -> &Value {
    &status["certificates"][0]
}
