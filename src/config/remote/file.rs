//! How the keys of a remote server are read, and what is complained of.

use std::collections::BTreeMap;

use toml::{Spanned, de::DeTable};
use url::Url;

use super::{Auth, ClientCredentials, OAuthConfig, RemoteConfig, TlsConfig, Transport};
use crate::config::{
    expand::Text,
    keys::Section,
    value::{Field, Reader},
};

/// As written.
#[derive(Default, Clone)]
pub(in crate::config) struct RemoteFile {
    url: Option<Spanned<String>>,
    transport: Option<Transport>,
    headers: BTreeMap<String, Spanned<String>>,
    forward_headers: Option<Vec<String>>,
    auth: Option<Auth>,
    tls: Option<TlsConfig>,
    proxy: Option<Spanned<String>>,
}

/// The keys that only a remote upstream has.
pub(in crate::config) const REMOTE_KEYS: [&str; 7] =
    ["url", "transport", "headers", "forward_headers", "auth", "tls", "proxy"];
/// Those that only a command has.
pub(in crate::config) const COMMAND_KEYS: [&str; 8] =
    ["command", "args", "env", "inherit_env", "cwd", "strict_stdout", "sandbox", "stderr_file"];

/// Headers that are never passed on: credentials of one leg, and what the wire or the protocol sets itself.
const OWN_HEADERS: [&str; 16] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "accept",
    "origin",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "last-event-id",
];

impl<'a> Reader<'a> {
    /// One of [`REMOTE_KEYS`].
    pub(in crate::config) fn remote_key(&mut self, field: &Field<'a>, section: Section, file: &mut RemoteFile) {
        match field.key {
            "url" if section == Section::Defaults => {
                let finding = self.found.error(field.key_span.clone(), "`url` cannot be in [defaults]");
                finding.help("each upstream has its own URL");
            }
            "url" => file.url = self.written(field),
            "transport" => file.transport = self.word(field, &TRANSPORT),
            "headers" => file.headers = self.headers(field),
            "forward_headers" => file.forward_headers = self.forward_headers(field),
            "auth" => file.auth = self.auth(field),
            "tls" => file.tls = self.tls(field),
            _ => file.proxy = self.written(field),
        }
    }

    fn headers(&mut self, field: &Field<'a>) -> BTreeMap<String, Spanned<String>> {
        let mut headers = BTreeMap::new();
        for (key, value) in self.table(field).into_iter().flat_map(DeTable::iter) {
            let entry = Field::new(&field.path, key, value);
            let name = entry.key.to_ascii_lowercase();
            if !is_token(&name) {
                self.found.error(entry.key_span, "this cannot be the name of a header");
            } else if matches!(name.as_str(), "host" | "content-length" | "transfer-encoding" | "connection") {
                self.found.error(entry.key_span, format!("the header `{name}` is set by the connection itself"));
            } else if let Some(written) = self.written(&entry) {
                headers.insert(name, written);
            }
        }
        headers
    }

    fn forward_headers(&mut self, field: &Field<'a>) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.list(field)? {
            let Some(text) = self.text(&entry) else { continue };
            let name = text.expose().to_ascii_lowercase();
            if !is_token(&name) {
                self.bad(&entry, "this cannot be the name of a header");
            } else if OWN_HEADERS.contains(&name.as_str()) {
                let finding = self.bad(&entry, "this header is never passed on");
                finding.help(
                    "a caller's credentials and the protocol's own headers end at the hub; use `headers` or `auth`",
                );
            } else {
                names.push(name);
            }
        }
        Some(names)
    }

    fn auth(&mut self, field: &Field<'a>) -> Option<Auth> {
        let table = self.table(field)?;
        let mut found = None;
        for (key, value) in table.iter() {
            let field = Field::new(&field.path, key, value);
            let auth = match field.key {
                "oauth" => self.oauth(&field).map(Auth::OAuth),
                "client_credentials" => self.client_credentials(&field).map(Auth::ClientCredentials),
                "basic" => self.user(&field).map(|(username, password)| Auth::Basic { username, password }),
                "digest" => self.user(&field).map(|(username, password)| Auth::Digest { username, password }),
                _ => {
                    self.unknown(&field, Section::Auth);
                    continue;
                }
            };
            if found.is_some() {
                self.found.error(field.key_span.clone(), format!("`{}` has two kinds of credentials", field.path));
            }
            found = auth.or(found);
        }
        if table.is_empty() {
            self.bad(field, "is empty").help("write `auth = { oauth = {} }`, or leave it out");
        }
        found
    }

    fn oauth(&mut self, field: &Field<'a>) -> Option<OAuthConfig> {
        let mut config = OAuthConfig::default();
        for (key, value) in self.table(field)?.iter() {
            let field = Field::new(&field.path, key, value);
            match field.key {
                "client_id" => config.client_id = self.text(&field),
                "client_secret" => config.client_secret = self.text(&field),
                "client_metadata_url" => config.client_metadata_url = self.text(&field),
                "scopes" => config.scopes = self.scopes(&field),
                _ => self.unknown(&field, Section::OAuth),
            }
        }
        if config.client_secret.is_some() && config.client_id.is_none() {
            self.bad(field, "a client_secret needs its client_id");
        }
        Some(config)
    }

    fn client_credentials(&mut self, field: &Field<'a>) -> Option<ClientCredentials> {
        let (mut id, mut secret, mut key_pem, mut token_url, mut scopes) = (None, None, None, None, None);
        for (key, value) in self.table(field)?.iter() {
            let field = Field::new(&field.path, key, value);
            match field.key {
                "client_id" => id = self.text(&field),
                "client_secret" => secret = self.text(&field),
                "private_key" => key_pem = self.text(&field),
                "token_url" => token_url = self.text(&field),
                "scopes" => scopes = self.scopes(&field),
                _ => self.unknown(&field, Section::ClientCredentials),
            }
        }
        // What refers to something that is missing was told, or is excused.
        let has = |name: &str| field.value.as_table().is_some_and(|table| table.contains_key(name));
        if !has("client_id") || has("client_secret") == has("private_key") {
            self.bad(field, "needs client_id, and either client_secret or private_key");
            return None;
        }
        let client_id = id.unwrap_or_else(|| Text::secret(""));
        Some(ClientCredentials { token_url, client_id, client_secret: secret, private_key: key_pem, scopes })
    }

    fn scopes(&mut self, field: &Field<'a>) -> Option<Vec<String>> {
        let mut scopes = Vec::new();
        for entry in self.list(field)? {
            if let Some(text) = self.text(&entry) {
                scopes.push(text.expose().to_owned());
            }
        }
        Some(scopes)
    }

    fn user(&mut self, field: &Field<'a>) -> Option<(Text, Text)> {
        let (mut username, mut password) = (None, None);
        for (key, value) in self.table(field)?.iter() {
            let field = Field::new(&field.path, key, value);
            match field.key {
                "username" => username = self.text(&field),
                "password" => password = self.text(&field),
                _ => self.unknown(&field, Section::User),
            }
        }
        let has = |name: &str| field.value.as_table().is_some_and(|table| table.contains_key(name));
        if !has("username") || !has("password") {
            self.bad(field, "needs username and password");
            return None;
        }
        Some((username.unwrap_or_else(|| Text::secret("")), password.unwrap_or_else(|| Text::secret(""))))
    }

    fn tls(&mut self, field: &Field<'a>) -> Option<TlsConfig> {
        let (mut config, mut cert, mut key_file) = (TlsConfig::default(), None, None);
        for (key, value) in self.table(field)?.iter() {
            let field = Field::new(&field.path, key, value);
            let folder = self.folder;
            let path = |reader: &mut Self| reader.text(&field).map(|text| folder.join(text.expose()));
            match field.key {
                "ca" => config.ca = path(self),
                "cert" => cert = path(self),
                "key" => key_file = path(self),
                "verify" => {
                    if let Some(verify) = self.switch(&field) {
                        config.verify = verify;
                        if !verify {
                            let finding = self.found.warning(field.span.clone(), "any certificate will be believed");
                            finding.help("name the authority that signed it: tls = { ca = \"….pem\" }");
                        }
                    }
                }
                _ => self.unknown(&field, Section::UpstreamTls),
            }
        }
        config.identity = match (cert, key_file) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                self.bad(field, "needs both cert and key, or neither");
                None
            }
        };
        Some(config)
    }

    /// Follows the references and checks what they lead to. `None` only if something was found.
    pub(in crate::config) fn remote_complete(&mut self, file: RemoteFile) -> Option<RemoteConfig> {
        let written = file.url?;
        let url = self.expand(&written);
        if let Some(url) = &url {
            self.check_url(url, &written)?;
        }
        let mut config = RemoteConfig::new(url.unwrap_or_else(|| Text::secret("")));
        for (name, written) in file.headers {
            let Some(text) = self.expand(&written) else { continue };
            if text.expose().bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
                self.found.error(written.span(), format!("the header `{name}` holds a control character"));
                continue;
            }
            config.headers.insert(name, text);
        }
        config.transport = file.transport.unwrap_or_default();
        config.forward_headers = file.forward_headers.unwrap_or_default();
        config.auth = file.auth.unwrap_or_default();
        config.tls = file.tls.unwrap_or_default();
        config.proxy = file.proxy.and_then(|proxy| self.expand(&proxy));
        Some(config)
    }

    fn check_url(&mut self, url: &Text, written: &Spanned<String>) -> Option<()> {
        let problem = match Url::parse(url.expose()) {
            Err(error) => format!("this is not a URL: {error}"),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                "the URL must begin with http:// or https://".into()
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                "a password does not belong into the URL".into()
            }
            Ok(url) if url.fragment().is_some() => "a URL of a server has no #fragment".into(),
            Ok(_) => return Some(()),
        };
        let finding = self.found.error(written.span(), problem);
        finding.help(
            "such as url = \"https://api.example.com/mcp\", with auth = { basic = { … } } where it needs a password",
        );
        None
    }
}

impl RemoteFile {
    /// This, with `defaults` where it says nothing.
    pub(in crate::config) fn over(self, defaults: &RemoteFile) -> Self {
        let mut headers = defaults.headers.clone();
        headers.extend(self.headers);
        Self {
            url: self.url,
            transport: self.transport.or(defaults.transport),
            headers,
            forward_headers: self.forward_headers.or_else(|| defaults.forward_headers.clone()),
            auth: self.auth.or_else(|| defaults.auth.clone()),
            tls: self.tls.or_else(|| defaults.tls.clone()),
            proxy: self.proxy.or_else(|| defaults.proxy.clone()),
        }
    }

    pub(in crate::config) fn has_url(&self) -> bool {
        self.url.is_some()
    }
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

const TRANSPORT: [(&str, Transport); 3] =
    [("auto", Transport::Auto), ("streamable-http", Transport::StreamableHttp), ("sse", Transport::Sse)];
