//! TLS: which certificate is shown, whose is asked for, and who showed it.
//!
//! One `ServerConfig` lives as long as the listener; what it answers with is looked up at each handshake. So a renewed
//! certificate serves the next client, and those that are connected notice nothing.

use std::{fmt, sync::Arc};

use actix_web::HttpRequest;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::{config, hub::House};

/// Marks a connection that is encrypted.
pub(super) struct Encrypted;

impl Encrypted {
    /// Is this request's? Where a program serves us by its own server, that one knows.
    pub fn is(request: &HttpRequest) -> bool {
        request.conn_data::<Encrypted>().is_some() || request.app_config().secure()
    }
}

/// Who is at the other end of a connection, by the certificate that was shown and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The first of its URIs, its mail addresses, its DNS names; else the common name of its subject.
    pub name: Option<String>,
}

impl Peer {
    /// None where no certificate is asked for.
    pub fn of(request: &HttpRequest) -> Option<&Peer> {
        request.conn_data()
    }

    pub(super) fn from_certificate(der: &CertificateDer<'_>) -> Peer {
        let parsed = X509Certificate::from_der(der).ok();
        Peer { name: parsed.and_then(|(_, certificate)| name(&certificate)).filter(|name| !name.is_empty()) }
    }
}

fn name(certificate: &X509Certificate<'_>) -> Option<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<_> = alternatives.iter().flat_map(|all| &all.value.general_names).collect();
    let first = |pick: fn(&GeneralName<'_>) -> Option<String>| names.iter().find_map(|name| pick(name));
    let uri = first(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None });
    let mail = || first(|name| if let GeneralName::RFC822Name(mail) = name { Some((*mail).to_owned()) } else { None });
    let dns = || first(|name| if let GeneralName::DNSName(dns) = name { Some((*dns).to_owned()) } else { None });
    let common = || certificate.subject().iter_common_name().find_map(|name| name.as_str().ok().map(str::to_owned));
    uri.or_else(mail).or_else(dns).or_else(common)
}

/// How listeners speak TLS 1.2 and 1.3; none where the hub has no certificate.
///
/// No data is taken before the handshake is done: `max_early_data_size` stays 0, for what came so early could be sent
/// again by anybody (F82).
pub fn server_config(house: &Arc<House>) -> Result<Option<ServerConfig>, Error> {
    let Some(tls) = house.config.load().tls.clone() else { return Ok(None) };
    let provider = config::provider();
    let current = Arc::new(Current { house: house.clone(), provider: provider.clone() });
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match tls.clients {
        Some(_) => builder.with_client_cert_verifier(current.clone()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(current);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if tls.clients.is_some() {
        // A session that is resumed shows no certificate, and so would outlive the trust in it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Some(config))
}

/// What the hub's configuration says at this moment.
struct Current {
    house: Arc<House>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.house.config.load().tls.as_ref().map(|tls| tls.identity.certified.clone())
    }
}

impl ClientCertVerifier for Current {
    /// They would have to live as long as we do.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let config = self.house.config.load();
        let clients = config.tls.as_ref().and_then(|tls| tls.clients.as_ref());
        let clients = clients.ok_or_else(|| Error::General("nobody is trusted".into()))?;
        clients.verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn the_most_telling_name_of_a_certificate_is_its_owner() {
        let check = |sans: &[SanType], common: &str, expected: Option<&str>| {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            params.subject_alt_names = sans.to_vec();
            params.distinguished_name.remove(DnType::CommonName);
            if !common.is_empty() {
                params.distinguished_name.push(DnType::CommonName, common);
            }
            let certificate = params.self_signed(&key).expect("a certificate");
            assert_eq!(Peer::from_certificate(certificate.der()).name.as_deref(), expected);
        };
        let uri = SanType::URI("spiffe://team/ci".try_into().expect("ASCII"));
        let mail = SanType::Rfc822Name("ann@team.example".try_into().expect("ASCII"));
        let dns = SanType::DnsName("ci.team.example".try_into().expect("ASCII"));
        check(&[dns.clone(), mail.clone(), uri], "x", Some("spiffe://team/ci"));
        check(&[dns.clone(), mail], "x", Some("ann@team.example"));
        check(&[dns], "x", Some("ci.team.example"));
        check(&[], "Ann", Some("Ann"));
        check(&[], "", None);
        assert_eq!(Peer::from_certificate(&CertificateDer::from(&b"x"[..])), Peer { name: None });
    }
}
