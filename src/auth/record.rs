//! What is kept for a server: a token, and the clients that authorization servers registered for us.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Something that no log shows, and that is written to the file.
#[derive(Clone, Debug)]
pub struct Secret(SecretString);

impl Secret {
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Secret {
        Secret(SecretString::from(text.into()))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.expose() == other.expose()
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::from)
    }
}

/// How a client proves to an authorization server who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A public client: its id alone.
    None,
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
}

/// How a token was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A person logged in.
    Login,
    Refresh,
    ClientCredentials,
    /// The configuration or the environment named it.
    Given,
}

/// An access token, and what is needed to renew it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Who issued it. It is never shown to another.
    pub issuer: String,
    pub access: Secret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Secret>,
    /// Seconds since 1970; `None`: the server did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Seconds since 1970.
    pub obtained_at: u64,
    pub origin: Origin,
    /// What was granted, or asked for where the answer did not say.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// What it is good for.
    pub resource: String,
    pub client_id: String,
    pub method: Method,
    pub token_endpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
}

/// The longest time before its end at which a token is renewed.
const AHEAD_SECS_MAX: u64 = 300;

impl Token {
    /// Can it be used for a while yet? A tenth of its life before its end it is renewed.
    #[must_use]
    pub fn is_fresh(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|end| {
            let ahead = (end.saturating_sub(self.obtained_at) / 10).clamp(1, AHEAD_SECS_MAX);
            now.saturating_add(ahead) < end
        })
    }

    /// Is it still good?
    #[must_use]
    pub fn is_alive(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// A client that an authorization server registered for us (RFC 7591).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    pub client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Seconds since 1970; 0 and `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_expires_at: Option<u64>,
    /// Seconds since 1970.
    #[serde(default)]
    pub issued_at: u64,
    pub method: Method,
    #[serde(default)]
    pub redirect_uri: String,
    /// What manages the registration (RFC 7592).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// All that is kept for one server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    pub server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// By issuer.
    #[serde(default)]
    pub registrations: BTreeMap<String, Registration>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn token(access: &str) -> Token {
        Token {
            issuer: "https://as".into(),
            access: access.into(),
            refresh: Some("r".into()),
            expires_at: Some(2000),
            obtained_at: 1000,
            origin: Origin::Login,
            scopes: vec!["a".into()],
            resource: "https://mcp/".into(),
            client_id: "c".into(),
            method: Method::None,
            token_endpoint: "https://as/token".into(),
            revocation_endpoint: None,
        }
    }

    #[test]
    fn a_token_is_renewed_a_tenth_of_its_life_before_its_end() {
        let token = token("a");
        for (now, fresh, alive) in
            [(1000, true, true), (1899, true, true), (1900, false, true), (2000, false, false), (3000, false, false)]
        {
            assert_eq!((token.is_fresh(now), token.is_alive(now)), (fresh, alive), "{now}");
        }
        let endless = Token { expires_at: None, ..token.clone() };
        assert!(endless.is_fresh(u64::MAX));
        let long = Token { expires_at: Some(101_000), ..token };
        assert!(long.is_fresh(100_699) && !long.is_fresh(100_700));
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        assert!(!format!("{:?}", token("top-secret")).contains("top-secret"));
    }
}
