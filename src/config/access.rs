//! Who may knock, and who may come in where: what `[hub.auth]`, `allow` and `trusted_proxies` mean.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::Algorithm;
use url::Url;

/// `[hub.auth]`: with what callers show who they are. Nothing of it: whoever reaches the hub is one and the same.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccessConfig {
    /// `true`: who shows nothing comes in all the same, on any address.
    pub allow_unauthenticated: bool,
    /// `[[hub.auth.tokens]]`.
    pub tokens: Vec<TokenConfig>,
    /// `[hub.auth.jwt]`.
    pub jwt: Option<JwtConfig>,
    /// `[hub.auth.forward]`.
    pub forward: Option<ForwardConfig>,
}

impl AccessConfig {
    /// Whether callers can show who they are by a header.
    pub fn is_set(&self) -> bool {
        !self.tokens.is_empty() || self.jwt.is_some() || self.forward.is_some()
    }

    /// Whether nobody comes in who does not.
    pub fn is_asked_for(&self) -> bool {
        self.is_set() && !self.allow_unauthenticated
    }
}

/// A static token. The token itself is known to its owner alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// Who comes with it; unique.
    pub name: String,
    /// Of the token; the token itself is nowhere.
    pub sha256: [u8; 32],
    /// Where it is good for; `None`: wherever `allow` lets it in.
    pub upstreams: Option<Vec<String>>,
}

/// Tokens that an identity provider signs (RFC 9068).
#[derive(Debug, Clone, PartialEq)]
pub struct JwtConfig {
    /// As tokens name it; compared letter by letter.
    pub issuer: String,
    /// For whom tokens must be issued; `None`: for the very mount, by its public URL (RFC 8707).
    pub audience: Option<String>,
    /// Where the keys are; `None`: the issuer's metadata say.
    pub jwks_url: Option<Url>,
    /// What every token must permit.
    pub scopes: Vec<String>,
    /// How tokens may be signed. What a token says of itself decides nothing.
    pub algorithms: Vec<Algorithm>,
}

/// Another service is asked about each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardConfig {
    /// Asked about each request.
    pub url: Url,
    /// The header of its answer that names the caller, in lower case.
    pub user_header: String,
}

/// One entry of an upstream's `allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Whoever is in the hub.
    All,
    /// A static token or a scope: names that the operator gives.
    Name(String),
    /// A static token by its name.
    Token(String),
    /// A scope of a JWT.
    Scope(String),
    /// The subject of a JWT.
    Subject(String),
    /// The name of a client certificate.
    Certificate(String),
    /// Whom the service of `forward` names.
    User(String),
}

/// As it is written.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::All => f.write_str("*"),
            Grant::Name(name) => f.write_str(name),
            Grant::Token(name) => write!(f, "token:{name}"),
            Grant::Scope(name) => write!(f, "scope:{name}"),
            Grant::Subject(name) => write!(f, "sub:{name}"),
            Grant::Certificate(name) => write!(f, "cert:{name}"),
            Grant::User(name) => write!(f, "user:{name}"),
        }
    }
}

impl Grant {
    pub(super) fn parse(written: &str) -> Result<Grant, String> {
        if written == "*" {
            return Ok(Grant::All);
        }
        let (kind, name) = written.split_once(':').unwrap_or(("", written));
        let named = |name: &str| match name {
            "" => Err("a name is missing".to_owned()),
            name if name.contains(char::is_control) => Err("a name holds no control characters".into()),
            name => Ok(name.to_owned()),
        };
        match kind {
            "token" => named(name).map(Grant::Token),
            "scope" => named(name).map(Grant::Scope),
            "sub" => named(name).map(Grant::Subject),
            "cert" => named(name).map(Grant::Certificate),
            "user" => named(name).map(Grant::User),
            // Scopes may hold colons.
            _ => named(written).map(Grant::Name),
        }
    }
}

/// Addresses whose word about their own callers is taken: one, or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let octets = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let (ours, theirs) = (octets(self.address), octets(address));
        let same = |bit: usize| (ours[bit / 8] ^ theirs[bit / 8]) >> (7 - bit % 8) & 1 == 0;
        ours.len() == theirs.len() && (0..usize::from(self.bits)).all(same)
    }

    pub(super) fn parse(written: &str) -> Result<Network, String> {
        let (address, bits) = written.split_once('/').map_or((written, None), |(a, bits)| (a, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| "an address or a network, such as \"10.0.0.0/8\"")?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).ok().filter(|bits| *bits <= most);
        Ok(Network { address, bits: bits.ok_or(format!("a network has 0 to {most} bits"))? })
    }
}

/// What is kept of a token.
pub fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The name of a token: it stands in logs and in `allow`.
pub fn token_name(written: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    match !written.is_empty() && written.len() <= 64 && written.chars().all(plain) {
        true => Ok(written.to_owned()),
        false => Err("a name has 1 to 64 letters, digits, `.`, `_`, `-` or `@`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_two_digits() {
        assert_eq!(hex(&[0, 9, 10, 0x5f, 255]), "00090a5fff");
    }

    #[test]
    fn networks() {
        let check = |network: &str, address: &str, expected: bool| {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{network:?} {address}");
        };
        check("10.0.0.0/8", "10.255.1.2", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.7", "10.0.0.7", true);
        check("10.0.0.7", "10.0.0.6", false);
        check("10.0.0.0/8", "::ffff:10.1.1.1", true);
        check("10.0.0.0/8", "::1", false);
        check("fd00::/9", "fd7f::1", true);
        check("fd00::/9", "fd80::1", false);
        check("0.0.0.0/0", "1.2.3.4", true);
        for bad in ["", "x", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "::/129", "10.0.0.0/"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn grants() {
        assert_eq!(Grant::parse("*"), Ok(Grant::All));
        assert_eq!(Grant::parse("ci"), Ok(Grant::Name("ci".into())));
        assert_eq!(Grant::parse("sub:a|b:c"), Ok(Grant::Subject("a|b:c".into())));
        assert_eq!(Grant::parse("scope:mcp"), Ok(Grant::Scope("mcp".into())));
        assert!(Grant::parse("").is_err() && Grant::parse("token:").is_err() && Grant::parse("a\nb").is_err());
    }
}
