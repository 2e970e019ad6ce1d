//! What the connections to one remote upstream have in common: the HTTP client, and the credentials.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use crate::{
    auth::{
        Credentials, Digest, OAuth, OAuthSpec, Password,
        oauth::{Client, Grant, Mode, Prompt, SigningKey, settings::tenant},
    },
    config::{Auth, Name, RemoteConfig, Text, Transport},
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
            secrets: self.config.secrets(),
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
        let spec = http_spec(&self.config);
        let pair = spec.identity.iter().flat_map(|(cert, key)| [cert, key]);
        let written = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let files: HttpFiles = spec.ca.iter().chain(pair).map(|path| (path.clone(), written(path))).collect();
        let mut http = lock(&self.http);
        if let Some((_, client)) = http.as_ref().filter(|(made_of, _)| *made_of == files) {
            return Ok(client.clone());
        }
        let client = remote::client(&spec)?;
        *http = Some((files, client.clone()));
        Ok(client)
    }
}

/// Trust, certificates and the proxy of a remote server.
pub fn http_spec(config: &RemoteConfig) -> HttpSpec {
    HttpSpec {
        ca: config.tls.ca.clone(),
        identity: config.tls.identity.clone(),
        unverified: !config.tls.verify,
        proxy: config.proxy.as_ref().map(|proxy| proxy.expose().to_owned()),
    }
}

/// With what a remote upstream is asked. A login is shown in the log.
pub fn credentials(name: &Name, config: &RemoteConfig) -> Credentials {
    let name = name.clone();
    credentials_for(config, Mode::Daemon, move |prompt| {
        let code = prompt.code.as_ref().map(|code| format!(" and enter the code {code}")).unwrap_or_default();
        tracing::warn!(upstream = %name, "somebody has to log in: visit {}{code}", prompt.url);
    })
}

/// With what a remote server is asked by one for whom a login is shown so.
pub fn credentials_for(
    config: &RemoteConfig,
    mode: Mode,
    show: impl Fn(&Prompt) + Send + Sync + 'static,
) -> Credentials {
    let password = |username: &Text, password: &Text| Password {
        username: username.expose().to_owned(),
        password: password.expose().to_owned().into(),
    };
    match &config.auth {
        Auth::Basic { username, password: secret } => Credentials::Basic(password(username, secret)),
        Auth::Digest { username, password: secret } => Credentials::Digest(Digest::new(password(username, secret))),
        // What is written down is meant.
        Auth::Auto if config.headers.contains_key("authorization") => Credentials::None,
        Auth::Auto | Auth::OAuth(_) | Auth::ClientCredentials(_) => match oauth_spec(config, mode) {
            Some(spec) => Credentials::OAuth(OAuth::new(OAuthSpec { show: Arc::new(show), ..spec })),
            None => Credentials::None,
        },
    }
}

/// How a token for a remote server is come by, as its configuration says. None where its URL is none.
pub fn oauth_spec(config: &RemoteConfig, mode: Mode) -> Option<OAuthSpec> {
    let mut spec = OAuthSpec::new(config.url.expose().parse().ok()?, mode);
    let settings = &mut spec.settings;
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.expose().to_owned());
    match &config.auth {
        Auth::OAuth(oauth) => {
            settings.client = oauth.client_id.as_ref().map(|id| Client {
                id: id.expose().to_owned(),
                secret: text(&oauth.client_secret).map(Into::into),
                key: None,
                issuer: None,
            });
            settings.client_metadata_url = text(&oauth.client_metadata_url);
            settings.scopes = oauth.scopes.clone();
        }
        Auth::ClientCredentials(own) => {
            settings.grant = Grant::ClientCredentials;
            settings.client = Some(Client {
                id: own.client_id.expose().to_owned(),
                secret: text(&own.client_secret).map(Into::into),
                key: text(&own.private_key).map(|pem| SigningKey { pem: pem.into(), algorithm: None }),
                issuer: None,
            });
            settings.endpoints.token = text(&own.token_url);
            settings.scopes = own.scopes.clone();
        }
        _ => {}
    }
    // The same server may be another tenant's by another header.
    settings.tenant = tenant(config.headers.iter().map(|(name, value)| (name.as_str(), value.expose())));
    let http = http_spec(config);
    let proxy = http.proxy.as_ref().and_then(|proxy| proxy.parse::<url::Url>().ok());
    settings.proxy_host = proxy.and_then(|proxy| proxy.host_str().map(str::to_owned));
    // A file that cannot be read was told where the server itself was asked.
    spec.base = Arc::new(move || remote::builder(&http).unwrap_or_default());
    Some(spec)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
