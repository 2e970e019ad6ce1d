//! The HTTP client of one upstream: trust, certificates, proxy, patience.

use std::{path::PathBuf, time::Duration};

use reqwest::{Certificate, Client, ClientBuilder, Identity, Proxy, redirect::Policy};

use crate::auth::cause;

const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A peer that vanished without a word is noticed after a minute or so.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// What an HTTP client is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSpec {
    /// Certificates to trust beside the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Any certificate will do. Never without a warning.
    pub unverified: bool,
    /// In place of what the environment says.
    pub proxy: Option<String>,
}

/// Makes the client. Reads the files it names.
pub fn client(spec: &HttpSpec) -> Result<Client, String> {
    let builder = builder(spec)?
        .redirect(Policy::none())
        .connect_timeout(CONNECT_MAX)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE / 2)
        .tcp_keepalive_retries(3)
        .http2_keep_alive_interval(KEEPALIVE)
        .http2_keep_alive_while_idle(true);
    builder.build().map_err(|error| format!("the HTTP client cannot be made: {}", cause(&error)))
}

/// Trust, our own certificate and the proxy: what each client that has to do with the upstream begins with.
pub fn builder(spec: &HttpSpec) -> Result<ClientBuilder, String> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let mut builder = Client::builder().referer(false).user_agent(concat!("hubward/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &spec.ca {
        let all = Certificate::from_pem_bundle(&read(path)?);
        let all = all.map_err(|error| format!("{} holds no certificates: {}", path.display(), cause(&error)))?;
        if all.is_empty() {
            return Err(format!("{} holds no certificates", path.display()));
        }
        builder = builder.tls_certs_merge(all);
    }
    if let Some((cert, key)) = &spec.identity {
        let pem = [read(cert)?, b"\n".to_vec(), read(key)?].concat();
        let identity = Identity::from_pem(&pem);
        builder = builder.identity(identity.map_err(|error| {
            format!("{} and {} are no pair of certificate and key: {}", cert.display(), key.display(), cause(&error))
        })?);
    }
    if spec.unverified {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(proxy) = &spec.proxy {
        let proxy = Proxy::all(proxy).map_err(|error| format!("the proxy cannot be used: {}", cause(&error)))?;
        builder = builder.proxy(proxy);
    }
    Ok(builder)
}
