//! `[hub] tls`: the hub's own certificate and whose certificates it asks for, judged where they are read.
//!
//! A pair in hand is one that rustls can serve with: the key belongs to the first certificate, and each certificate
//! was issued by the one behind it.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use toml::de::DeTable;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::keys::Section;
use super::value::{Field, Reader};
use super::{HubConfig, Scheme, disk};

/// With what the hub speaks TLS.
#[derive(Debug, Clone)]
pub struct HubTls {
    /// The hub's certificate and those that lead to its authority.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Those who sign the certificates that clients have to show; none: clients show none.
    pub client_ca: Option<PathBuf>,
    /// What the first two hold.
    pub identity: Arc<Identity>,
    /// What the third holds.
    pub clients: Option<Arc<Clients>>,
}

/// The same files are the same configuration, whatever they hold today: a renewal is no edit.
impl PartialEq for HubTls {
    fn eq(&self, other: &Self) -> bool {
        (&self.cert, &self.key, &self.client_ca) == (&other.cert, &other.key, &other.client_ca)
    }
}

/// A certificate with its key.
pub struct Identity {
    pub certified: Arc<CertifiedKey>,
    /// DNS names and addresses that it is for.
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    key: PrivateKeyDer<'static>,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert && self.key == other.key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("names", &self.names).field("not_after", &self.not_after).finish()
    }
}

impl Identity {
    /// Whether a client that typed this name would believe it.
    fn covers(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| {
            name.eq_ignore_ascii_case(host)
                || name.strip_prefix("*.").is_some_and(|rest| parent.is_some_and(|up| up.eq_ignore_ascii_case(rest)))
        })
    }
}

/// Who signs the certificates of clients.
#[derive(Clone)]
pub struct Clients {
    pub verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl PartialEq for Clients {
    fn eq(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("authorities", &self.authorities.len()).finish()
    }
}

/// What is wrong with one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The key that names the file.
    pub of: &'static str,
    pub path: PathBuf,
    pub why: String,
    pub help: Option<String>,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hub.tls.{}, {}: {}", self.of, self.path.display(), self.why)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl HubTls {
    /// Reads the files and judges them.
    pub fn load(cert: PathBuf, key: PathBuf, client_ca: Option<PathBuf>) -> Result<HubTls, Flaw> {
        let identity = Arc::new(identity(&cert, &key)?);
        let clients = client_ca.as_deref().map(clients).transpose()?.map(Arc::new);
        Ok(HubTls { cert, key, client_ca, identity, clients })
    }

    /// The same files, as they are now.
    pub fn again(&self) -> Result<HubTls, Flaw> {
        HubTls::load(self.cert.clone(), self.key.clone(), self.client_ca.clone())
    }

    /// Whether the files held the same.
    pub fn holds_what(&self, other: &HubTls) -> bool {
        self.identity == other.identity && self.clients == other.clients
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        [&self.cert, &self.key].into_iter().chain(&self.client_ca).cloned().collect()
    }
}

/// How TLS is computed, here and in the server.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn flaw(of: &'static str, path: &Path) -> impl Fn(String, Option<String>) -> Flaw {
    move |why, help| Flaw { of, path: path.to_owned(), why, help }
}

fn identity(cert: &Path, key_file: &Path) -> Result<Identity, Flaw> {
    let chain = certificates("cert", cert)?;
    let key = private_key(key_file)?;
    let (bad_cert, bad_key) = (flaw("cert", cert), flaw("key", key_file));
    let signing = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| bad_key(format!("the key cannot be used: {error}"), None))?;
    let fits = |at: &CertificateDer<'static>| {
        let pair = CertifiedKey::new(vec![at.clone()], signing.clone()).keys_match();
        !matches!(pair, Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)))
    };
    match chain.iter().position(fits) {
        Some(0) => {}
        Some(at) => {
            let help = Some("the hub's own certificate comes first, then the one that issued it".into());
            return Err(bad_cert(format!("wrong order: the key belongs to certificate {} in it", at + 1), help));
        }
        None => {
            let help = Some("name the two that were issued together".into());
            return Err(bad_key(format!("the key does not belong to the certificate in {}", cert.display()), help));
        }
    }
    let mut issuer: Option<Vec<u8>> = None;
    for (at, der) in chain.iter().enumerate() {
        let parsed = parsed(der).map_err(|why| bad_cert(format!("certificate {} in it: {why}", at + 1), None))?;
        let before = issuer.replace(parsed.issuer().as_raw().to_vec());
        if before.is_some_and(|issuer| issuer != parsed.subject().as_raw()) {
            let why = format!("wrong order: certificate {} in it did not issue the one before it", at + 1);
            return Err(bad_cert(why, Some("each certificate is followed by the one that issued it".into())));
        }
    }
    let leaf = parsed(&chain[0]).map_err(|why| bad_cert(why, None))?;
    let validity = leaf.validity();
    let (names, [not_before, not_after]) = (names(&leaf), [validity.not_before, validity.not_after]);
    let [not_before, not_after] = [not_before, not_after].map(|at| moment(at.timestamp()));
    let certified = Arc::new(CertifiedKey::new(chain.clone(), signing));
    Ok(Identity { certified, names, not_before, not_after, key })
}

fn clients(path: &Path) -> Result<Clients, Flaw> {
    let bad = flaw("client_ca", path);
    let authorities = certificates("client_ca", path)?;
    let mut roots = RootCertStore::empty();
    for (at, der) in authorities.iter().enumerate() {
        let added = roots.add(der.clone());
        added.map_err(|error| bad(format!("certificate {} in it cannot be used: {error}", at + 1), None))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let verifier = verifier.map_err(|error| bad(format!("it cannot be used: {error}"), None))?;
    Ok(Clients { verifier, authorities })
}

fn certificates(of: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let bad = flaw(of, path);
    let pem = disk::bytes(path).map_err(|(why, help)| bad(format!("cannot be read: {why}"), help))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| bad(format!("it is no PEM file: {error}"), None))?;
    if all.is_empty() {
        let help = format!("`openssl x509 -inform der -in {} -out cert.pem` makes one of a DER file", path.display());
        return Err(bad("it holds no certificate in PEM".into(), Some(help)));
    }
    Ok(all)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Flaw> {
    let bad = flaw("key", path);
    let pem = disk::bytes(path).map_err(|(why, help)| bad(format!("cannot be read: {why}"), help))?;
    let holds = |words: &[u8]| memchr::memmem::find(&pem, words).is_some();
    if holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED") {
        let help = format!("`openssl pkey -in {} -out plain.key` takes the password off", path.display());
        return Err(bad("the key is encrypted, and nobody is there to type its password".into(), Some(help)));
    }
    // The parser's error could show what the file holds.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| bad("it holds no private key in PEM".into(), None))
}

fn parsed<'a>(der: &'a CertificateDer<'static>) -> Result<X509Certificate<'a>, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| format!("it cannot be read: {error}"))?;
    Ok(certificate)
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let sans = leaf.subject_alternative_name().ok().flatten();
    let sans = sans.iter().flat_map(|sans| &sans.value.general_names);
    sans.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    })
    .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn moment(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0))
}

impl<'a> Reader<'a> {
    pub(super) fn hub_tls(&mut self, field: &Field<'a>) -> Option<HubTls> {
        let (mut cert, mut key_file, mut client_ca) = (None, None, None);
        let table = self.table(field)?;
        for (key, value) in table.iter() {
            let field = Field::new(&field.path, key, value);
            let folder = self.folder;
            let path = |reader: &mut Self| reader.text(&field).map(|text| folder.join(text.expose()));
            match field.key {
                "cert" => cert = path(self),
                "key" => key_file = path(self),
                "client_ca" => client_ca = path(self),
                _ => self.unknown(&field, Section::HubTls),
            }
        }
        if !table.contains_key("cert") || !table.contains_key("key") {
            self.bad(field, "needs cert and key").help("tls = { cert = \"hub.crt\", key = \"hub.key\" }");
        }
        // What could not be read was told already; so is the rest when it can.
        let asked = table.contains_key("client_ca");
        let (cert, key_file) = (cert?, key_file?);
        if asked && client_ca.is_none() {
            return None;
        }
        match HubTls::load(cert, key_file, client_ca) {
            Ok(tls) => {
                self.worries(&tls, table, field);
                Some(tls)
            }
            Err(Flaw { of, path, why, help }) => {
                let span = self.span_of(table, of, field);
                let finding = self.found.error(span, format!("`hub.tls.{of}`, {}: {why}", path.display()));
                finding.help = help;
                None
            }
        }
    }

    fn span_of(&self, table: &DeTable<'_>, key: &str, field: &Field<'_>) -> Range<usize> {
        table.get(key).map_or_else(|| field.span.clone(), |value| value.span())
    }

    /// What is served all the same.
    fn worries(&mut self, tls: &HubTls, table: &DeTable<'_>, field: &Field<'_>) {
        let now = SystemTime::now();
        let (cert, key) = (self.span_of(table, "cert", field), self.span_of(table, "key", field));
        if tls.identity.not_after < now {
            let finding =
                self.found.warning(cert, format!("the certificate expired on {}", day(tls.identity.not_after)));
            finding.help("it is served all the same, and clients will refuse it: renew it");
        } else if tls.identity.not_before > now {
            let title = format!("the certificate is not valid before {}", day(tls.identity.not_before));
            self.found.warning(cert, title).help("is the clock right? it is served all the same");
        }
        if readable_by_others(&tls.key) {
            let finding = self.found.warning(key, "others on this machine can read the private key");
            finding.help(format!("chmod 600 {}", tls.key.display()));
        }
    }

    /// What can only be judged when all of `[hub]` was read.
    pub(super) fn names_and_schemes(&mut self, field: &Field<'a>, hub: &HubConfig) {
        let Some(table) = field.value.as_table() else { return };
        let span = |key: &str| table.get(key).map_or_else(|| field.span.clone(), |value| value.span());
        if let Some(bind) = hub.bind.iter().find(|bind| bind.scheme == Scheme::Https)
            && !table.contains_key("tls")
        {
            let binds = table.get("bind").and_then(|value| value.get_ref().as_array());
            let entry = binds.into_iter().flat_map(|binds| binds.iter());
            let mut entry = entry.filter(|entry| entry.get_ref().as_str().is_some_and(|it| it.starts_with("https://")));
            let span = entry.next().map_or_else(|| span("bind"), |entry| entry.span());
            let finding = self.found.error(span, format!("{bind} needs a certificate"));
            finding.help("add tls = { cert = \"hub.crt\", key = \"hub.key\" } to [hub]");
        }
        let (Some(tls), Some(url)) = (&hub.tls, &hub.public_url) else { return };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        if url.scheme() == "https" && !tls.identity.covers(host) {
            let names = tls.identity.names.join(", ");
            let title = format!("the certificate is not for {host}, which public_url names");
            self.found.warning(span("public_url"), title).help(format!("it is for {names}"));
        }
    }
}

/// The day, for people.
pub fn day(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or_default();
    at.strftime("%F").to_string()
}

/// A group whose only member is the owner is no other; by custom it bears the owner's number.
fn readable_by_others(path: &Path) -> bool {
    #[cfg(unix)]
    if let Ok(metadata) = std::fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        let group = metadata.mode() & 0o040 != 0 && metadata.gid() != metadata.uid();
        return group || metadata.mode() & 0o004 != 0;
    }
    let _ = path;
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_certificate_covers() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = vec!["hub.example".to_owned(), "*.team.example".to_owned(), "10.0.0.7".to_owned()];
        let cert = rcgen::CertificateParams::new(names).expect("names").self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        let [cert_file, key_file] = ["a.crt", "a.key"].map(|name| folder.path().join(name));
        std::fs::write(&cert_file, cert.pem()).expect("written");
        std::fs::write(&key_file, key.serialize_pem()).expect("written");
        let tls = HubTls::load(cert_file, key_file, None).expect("a pair");
        let check = |host: &str, expected| assert_eq!(tls.identity.covers(host), expected, "{host}");
        check("hub.example", true);
        check("HUB.example", true);
        check("a.team.example", true);
        check("10.0.0.7", true);
        check("team.example", false);
        check("a.b.team.example", false);
        check("other.example", false);
        let again = tls.again().expect("still a pair");
        assert!(tls == again && tls.holds_what(&again));
        assert!(!format!("{tls:?}").contains("PRIVATE"));
    }
}
