//! What the connections to one remote upstream have in common: the HTTP client, and the credentials.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use crate::{
    auth::Credentials,
    config::{Name, RemoteConfig, Transport},
    link::remote::{self, HttpSpec, RemoteSpec, header_map},
};

/// One remote upstream, as all its connections see it.
pub struct Far {
    config: RemoteConfig,
    credentials: Arc<Credentials>,
    http: Mutex<Option<(HttpFiles, remote::Client)>>,
    /// How it turned out to speak.
    transport: Mutex<remote::Transport>,
}

/// The files that an HTTP client was made of, and when they were written.
type HttpFiles = Vec<(PathBuf, Option<SystemTime>)>;

impl Far {
    pub fn new(config: RemoteConfig, credentials: Arc<Credentials>) -> Arc<Far> {
        let transport = match config.transport {
            Transport::Auto => remote::Transport::Auto,
            Transport::StreamableHttp => remote::Transport::StreamableHttp,
            Transport::Sse => remote::Transport::Sse,
        };
        Arc::new(Far { config, credentials, http: Mutex::default(), transport: Mutex::new(transport) })
    }

    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// How to reach it now. Fails where a file it needs cannot be used.
    pub fn spec(&self, name: &Name, message_bytes_max: usize, expose_errors: bool) -> Result<RemoteSpec, String> {
        let url = self.config.url.expose().parse().map_err(|error| format!("its URL cannot be used: {error}"))?;
        let headers = self.config.headers.iter().map(|(name, text)| (name.as_str(), text.expose()));
        Ok(RemoteSpec {
            name: name.as_str().into(),
            url,
            transport: self.transport(),
            headers: header_map(headers)?,
            http: self.http()?,
            credentials: self.credentials.clone(),
            message_bytes_max,
            expose_errors,
        })
    }

    /// How it is spoken to, as far as that is known.
    pub fn transport(&self) -> remote::Transport {
        *lock(&self.transport)
    }

    /// Keeps in mind how it turned out to speak.
    pub fn learn(&self, transport: Option<remote::Transport>) {
        if let (Transport::Auto, Some(transport)) = (self.config.transport, transport) {
            *lock(&self.transport) = transport;
        }
    }

    /// It may be another server by now.
    pub fn forget(&self) {
        self.learn(Some(remote::Transport::Auto));
    }

    /// The HTTP client; made anew where a file it was made of has changed.
    fn http(&self) -> Result<remote::Client, String> {
        let tls = &self.config.tls;
        let pair = tls.identity.iter().flat_map(|(cert, key)| [cert, key]);
        let written = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let files: HttpFiles = tls.ca.iter().chain(pair).map(|path| (path.clone(), written(path))).collect();
        let mut http = lock(&self.http);
        if let Some((_, client)) = http.as_ref().filter(|(made_of, _)| *made_of == files) {
            return Ok(client.clone());
        }
        let client = remote::client(&HttpSpec {
            ca: tls.ca.clone(),
            identity: tls.identity.clone(),
            unverified: !tls.verify,
            proxy: self.config.proxy.as_ref().map(|proxy| proxy.expose().to_owned()),
        })?;
        *http = Some((files, client.clone()));
        Ok(client)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
