//! What is written in `[hub.auth]`.

use std::collections::BTreeMap;
use std::ops::Range;

use jsonwebtoken::Algorithm;
use toml::de::DeTable;
use url::{Host, Url};

use super::access::{AccessConfig, ForwardConfig, JwtConfig, TokenConfig, hash, token_name};
use super::keys::{Section, listed};
use super::value::{Field, Reader, set};
use super::{HubConfig, Name, UpstreamConfig};

const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// A shorter secret could be guessed by somebody who has its hash.
const SECRET_BYTES_MIN: usize = 16;

impl<'a> Reader<'a> {
    pub(super) fn access(&mut self, field: &Field<'a>, access: &mut AccessConfig) {
        for (key, value) in self.table(field).into_iter().flat_map(DeTable::iter) {
            let field = Field::new("hub.auth", key, value);
            match field.key {
                "allow_unauthenticated" => set(&mut access.allow_unauthenticated, self.switch(&field)),
                "tokens" => access.tokens = self.tokens(&field),
                "jwt" => access.jwt = self.jwt(&field),
                "forward" => access.forward = self.forward(&field),
                _ => self.unknown(&field, Section::Access),
            }
        }
    }

    fn tokens(&mut self, field: &Field<'a>) -> Vec<TokenConfig> {
        let Some(array) = field.value.as_array() else {
            let finding = self.wrong(field, "a list of tables");
            finding.help("`hubward token new NAME` writes the first one");
            return Vec::new();
        };
        let mut tokens: Vec<TokenConfig> = Vec::new();
        for entry in array.iter() {
            let entry = Field {
                key: field.key,
                key_span: entry.span(),
                path: field.path.clone(),
                span: entry.span(),
                value: entry.get_ref(),
            };
            let Some(token) = self.token(&entry) else { continue };
            if tokens.iter().any(|other| other.name == token.name) {
                self.bad(&entry, &format!("there is a token `{}` already", token.name));
            } else if tokens.iter().any(|other| other.sha256 == token.sha256) {
                self.bad(&entry, "this is the same token as another one").help("each name has a token of its own");
            } else {
                tokens.push(token);
            }
        }
        tokens
    }

    fn token(&mut self, entry: &Field<'a>) -> Option<TokenConfig> {
        let (mut name, mut hash, mut upstreams) = (None, None, None);
        let errors = self.found.len();
        for (key, value) in self.table(entry)?.iter() {
            let field = Field::new(&entry.path, key, value);
            match field.key {
                "name" => name = self.parsed(&field, token_name),
                "sha256" => hash = self.parsed(&field, hex_digest),
                "secret" => hash = self.secret(&field),
                "upstreams" => upstreams = self.all(&field, |name| Ok(name.to_owned())),
                _ => self.unknown(&field, Section::Token),
            }
        }
        if self.found.len() == errors && (name.is_none() || hash.is_none()) {
            let missing = if name.is_none() { "`name` is missing" } else { "`sha256` or `secret` is missing" };
            self.bad(entry, missing).help("`hubward token new NAME` writes a whole entry");
        }
        Some(TokenConfig { name: name?, sha256: hash?, upstreams })
    }

    /// A secret is hashed where it is read, and not kept.
    fn secret(&mut self, field: &Field<'a>) -> Option<[u8; 32]> {
        let text = self.text(field)?;
        if text.expose().len() < SECRET_BYTES_MIN {
            self.bad(field, &format!("a token has at least {SECRET_BYTES_MIN} characters"));
            return None;
        }
        if !text.is_secret() {
            let finding = self.found.warning(field.span.clone(), "a token stands in the file itself");
            finding.help("write `sha256` in its place, or a reference such as \"${env:CI_TOKEN}\"");
        }
        Some(hash(text.expose()))
    }

    fn jwt(&mut self, field: &Field<'a>) -> Option<JwtConfig> {
        let mut issuer = None;
        let mut jwt = JwtConfig {
            issuer: String::new(),
            audience: None,
            jwks_url: None,
            scopes: Vec::new(),
            algorithms: ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
        };
        for (key, value) in self.table(field)?.iter() {
            let field = Field::new(&field.path, key, value);
            match field.key {
                "issuer" => issuer = self.parsed(&field, |text| safe_url(text).map(|_| text.to_owned())),
                "audience" => {
                    let text = self.text(&field).map(|text| text.expose().to_owned());
                    jwt.audience = text.filter(|text| text != "auto");
                }
                "jwks_url" => jwt.jwks_url = self.parsed(&field, safe_url),
                "scopes" => set(&mut jwt.scopes, self.all(&field, scope)),
                "algorithms" => set(&mut jwt.algorithms, self.algorithms(&field)),
                _ => self.unknown(&field, Section::Jwt),
            }
        }
        if issuer.is_none() && !field.value.as_table().is_some_and(|table| table.contains_key("issuer")) {
            self.bad(field, "`issuer` is missing").help("it is what tokens hold as `iss`");
        }
        Some(JwtConfig { issuer: issuer?, ..jwt })
    }

    fn algorithms(&mut self, field: &Field<'a>) -> Option<Vec<Algorithm>> {
        let entries = self.list(field)?;
        if entries.is_empty() {
            self.bad(field, "no token could be signed").help("remove the key to take all that are safe");
        }
        let found: Vec<Algorithm> = entries.iter().filter_map(|entry| self.word(entry, &ALGORITHMS)).collect();
        Some(found).filter(|found| !found.is_empty())
    }

    fn forward(&mut self, field: &Field<'a>) -> Option<ForwardConfig> {
        let (mut url, mut user_header) = (None, "remote-user".to_owned());
        for (key, value) in self.table(field)?.iter() {
            let field = Field::new(&field.path, key, value);
            match field.key {
                "url" => url = self.parsed(&field, plain_url),
                "user_header" => set(&mut user_header, self.parsed(&field, header_name)),
                _ => self.unknown(&field, Section::Forward),
            }
        }
        if url.is_none() && !field.value.as_table().is_some_and(|table| table.contains_key("url")) {
            self.bad(field, "`url` is missing").help("such as \"http://127.0.0.1:8000/verify\"");
        }
        Some(ForwardConfig { url: url?, user_header })
    }

    /// What can only be judged when all of `[hub]` is known. `span`: of a key, by its name.
    pub(super) fn doors(&mut self, hub: &HubConfig, upstreams: &BTreeMap<Name, UpstreamConfig>, root: &DeTable<'_>) {
        let written = root.get("hub").map(|hub| hub.get_ref());
        let span = |key| written.and_then(|hub| hub.get(key)).map_or(0..0, |value| value.span());
        self.token_upstreams(hub, upstreams, span("auth"));
        if let Some(open) = hub.exposed() {
            let port = open.port;
            let finding = self.found.error(span("bind"), format!("{open} can be reached from other machines"));
            finding.label("and nobody would have to show who they are").help(format!(
                "`hubward token new NAME` makes a token to ask for; or bind \"127.0.0.1:{port}\"; or say `allow_unauthenticated = true` in [hub.auth]"
            ));
        }
        let asks = hub.access.is_set();
        if asks && hub.allowed_origins.iter().any(|origin| origin == "any") {
            let finding = self.found.error(span("allowed_origins"), "\"any\" is for a hub without authentication");
            finding.help("name the origins, such as \"https://app.example.com\"");
        }
        if hub.access.jwt.as_ref().is_some_and(|jwt| jwt.audience.is_none()) && !hub.knows_its_url() {
            let finding =
                self.found.error(span("auth"), "tokens are issued for URLs, and those of this hub are unknown");
            finding.help("set `public_url` to what clients type, or `audience` in `jwt`");
        }
    }

    /// Tokens for upstreams that are not there are probably misspelt.
    fn token_upstreams(&mut self, hub: &HubConfig, upstreams: &BTreeMap<Name, UpstreamConfig>, span: Range<usize>) {
        for token in &hub.access.tokens {
            for wanted in token.upstreams.iter().flatten().filter(|name| !upstreams.contains_key(name.as_str())) {
                let title = format!("the token `{}` is for the upstream `{wanted}`, which is not there", token.name);
                let all: Vec<&str> = upstreams.keys().map(Name::as_str).take(10).collect();
                self.found.warning(span.clone(), title).help(format!("there are {}", listed(&all)));
            }
        }
    }
}

fn hex_digest(written: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    let form = "a SHA-256 is 64 hexadecimal digits; `hubward token new` prints token and hash".to_owned();
    if written.len() != 64 || !written.is_ascii() {
        return Err(form);
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&written[2 * at..2 * at + 2], 16).map_err(|_| form.clone())?;
    }
    Ok(bytes)
}

fn plain_url(written: &str) -> Result<Url, String> {
    match Url::parse(written) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.username().is_empty() => Ok(url),
        _ => Err("a URL that begins with http:// or https://, without a user".into()),
    }
}

/// Keys that came over an open line could be anybody's.
fn safe_url(written: &str) -> Result<Url, String> {
    let url = plain_url(written)?;
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || here { Ok(url) } else { Err("it begins with https://".into()) }
}

/// A scope token (RFC 6749, section 3.3).
fn scope(written: &str) -> Result<String, String> {
    let plain = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    match !written.is_empty() && written.bytes().all(plain) {
        true => Ok(written.to_owned()),
        false => Err("a scope has no spaces, quotes or backslashes".into()),
    }
}

fn header_name(written: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !written.is_empty() && written.bytes().all(plain) {
        true => Ok(written.to_ascii_lowercase()),
        false => Err("a header's name has letters, digits and `-`".into()),
    }
}
