//! The token endpoint: how a client proves itself there, and what it answers.

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Url, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{
    code::random,
    discovery::Issuer,
    http::{Fault, Http},
    now,
    scope::split,
    settings::SigningKey,
};
use crate::auth::{
    password::secret_header,
    store::{Method, Secret},
};

/// How long an assertion of ours is good.
const ASSERTION_SECS: u64 = 120;

/// A client as the authorization server knows it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub id: String,
    pub secret: Option<SecretString>,
    pub key: Option<SigningKey>,
    pub method: Method,
}

/// Which method a client uses, by what it has and what the server takes.
#[must_use]
pub fn method(has_key: bool, has_secret: bool, taken: Option<&[String]>) -> Method {
    let takes = |name: &str| taken.is_some_and(|all| all.iter().any(|one| one == name));
    match (has_key, has_secret) {
        (true, _) => Method::PrivateKeyJwt,
        (false, false) => Method::None,
        _ if takes("client_secret_basic") => Method::ClientSecretBasic,
        _ if takes("client_secret_post") => Method::ClientSecretPost,
        _ if takes("none") => Method::None,
        // What counts where the server says nothing (RFC 8414).
        _ => Method::ClientSecretBasic,
    }
}

/// The endpoint where an issuer gives tokens.
pub fn endpoint(issuer: &Issuer) -> Result<&Url, Fault> {
    issuer.token.as_ref().ok_or_else(|| Fault::wrong(format!("{} names no token endpoint", issuer.name)))
}

/// What the token endpoint gave.
#[derive(Debug)]
pub struct Granted {
    pub access: Secret,
    pub refresh: Option<Secret>,
    pub expires_in: Option<u64>,
    /// `None`: what was asked for.
    pub scopes: Option<Vec<String>>,
}

/// Asks an endpoint for a token, as this client. `issuer` is whom an assertion is addressed to.
pub async fn ask(
    http: &Http,
    endpoint: &Url,
    issuer: &str,
    identity: &Identity,
    form: Vec<(&str, String)>,
) -> Result<Granted, Fault> {
    let answer = post(http, endpoint, issuer, identity, form).await?;
    granted(&answer)
        .ok_or_else(|| Fault::wrong(format!("{} gives no bearer token", endpoint.host_str().unwrap_or_default())))
}

/// Sends a form to an endpoint of the authorization server, as this client.
pub async fn post(
    http: &Http,
    endpoint: &Url,
    issuer: &str,
    identity: &Identity,
    mut form: Vec<(&str, String)>,
) -> Result<Value, Fault> {
    let mut header = None;
    let secret = identity.secret.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
    match identity.method {
        Method::ClientSecretBasic => {
            // Both are encoded as a form before they are joined (RFC 6749, 2.3.1).
            let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let joined = format!("{}:{}", encode(&identity.id), encode(secret));
            header = secret_header(&format!("Basic {}", STANDARD.encode(joined)));
        }
        Method::None => form.push(("client_id", identity.id.clone())),
        Method::ClientSecretPost => {
            form.push(("client_id", identity.id.clone()));
            form.push(("client_secret", secret.to_owned()));
        }
        Method::PrivateKeyJwt => {
            let key = identity.key.as_ref().ok_or_else(|| Fault::wrong("no private key is configured"))?;
            form.push(("client_id", identity.id.clone()));
            form.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()));
            form.push(("client_assertion", assertion(key, &identity.id, issuer)?));
        }
    }
    let answer = http
        .ask(endpoint, |client| {
            let request = client.post(endpoint.clone()).form(&form);
            match header {
                Some(header) => request.header(AUTHORIZATION, header),
                None => request,
            }
        })
        .await?;
    match answer.status.is_success() {
        // Some answer 200 and say in the document that it went wrong.
        true if answer.json::<Value>().is_none_or(|body| body["error"].is_null()) => {
            Ok(answer.json().unwrap_or_default())
        }
        _ => Err(answer.refusal(endpoint)),
    }
}

/// A signed statement of who we are (RFC 7523).
fn assertion(key: &SigningKey, id: &str, audience: &str) -> Result<String, Fault> {
    let pem = key.pem.expose_secret().as_bytes();
    let wrong = || Fault::wrong("the private key cannot be used: it has to be a PEM of RSA, EC or Ed25519");
    let read = |algorithm: Algorithm| match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem).ok(),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem).ok(),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        _ => EncodingKey::from_rsa_pem(pem).ok(),
    };
    let tried: Vec<Algorithm> = match &key.algorithm {
        Some(named) => {
            vec![named.parse().map_err(|_| Fault::wrong(format!("`{named}` is no algorithm to sign with")))?]
        }
        None => vec![Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256],
    };
    let time = now();
    let claims = json!({
        "iss": id, "sub": id, "aud": audience, "jti": random(16), "iat": time, "exp": time + ASSERTION_SECS,
    });
    tried
        .into_iter()
        .filter_map(|algorithm| Some((algorithm, read(algorithm)?)))
        .find_map(|(algorithm, key)| jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).ok())
        .ok_or_else(wrong)
}

/// The token of an answer, if it is one that goes into a header as it is.
fn granted(answer: &Value) -> Option<Granted> {
    let bearer = answer["token_type"].as_str().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    let access = answer["access_token"].as_str().filter(|token| bearer && !token.is_empty())?;
    // Nothing that could not stand in a header.
    secret_header(access)?;
    let seconds = &answer["expires_in"];
    let whole = |seconds: f64| seconds.max(0.0) as u64;
    Some(Granted {
        access: access.into(),
        refresh: answer["refresh_token"].as_str().filter(|token| !token.is_empty()).map(Secret::from),
        expires_in: seconds.as_f64().map(whole).or_else(|| seconds.as_str()?.parse().ok()),
        scopes: answer["scope"].as_str().map(split),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_proves_itself_as_the_server_takes_it() {
        use Method::{ClientSecretBasic, ClientSecretPost, None as Public, PrivateKeyJwt};
        let taken = |text: &str| split(text);
        for (key, secret, methods, expected) in [
            (false, false, Some("client_secret_basic"), Public),
            (false, true, None, ClientSecretBasic),
            (false, true, Some("none"), Public),
            (false, true, Some("client_secret_post"), ClientSecretPost),
            (false, true, Some("client_secret_post client_secret_basic"), ClientSecretBasic),
            (false, true, Some("tls_client_auth"), ClientSecretBasic),
            (true, true, Some("client_secret_basic"), PrivateKeyJwt),
        ] {
            assert_eq!(method(key, secret, methods.map(taken).as_deref()), expected, "{key} {secret} {methods:?}");
        }
    }

    #[test]
    fn tokens_are_read_and_others_refused() {
        let read = |answer: Value| granted(&answer);
        let full =
            read(json!({"access_token": "a", "token_type": "bEARER", "expires_in": 60, "scope": "x y"})).unwrap();
        assert_eq!((full.access.expose(), full.expires_in), ("a", Some(60)));
        assert_eq!(full.scopes.unwrap(), ["x", "y"]);
        assert_eq!(read(json!({"access_token": "a", "expires_in": "60"})).unwrap().expires_in, Some(60));
        assert_eq!(read(json!({"access_token": "a", "expires_in": -5})).unwrap().expires_in, Some(0));
        for wrong in [
            json!({}),
            json!({"access_token": ""}),
            json!({"access_token": "a", "token_type": "DPoP"}),
            json!({"access_token": "a\r\nX: y"}),
        ] {
            assert!(read(wrong.clone()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn assertions_are_signed_with_what_fits_the_key() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
        let pem = |der: &[u8]| {
            let text = STANDARD.encode(der);
            SecretString::from(format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"))
        };
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = SigningKey { pem: pem(ec.to_pkcs8v1().unwrap().as_ref()), algorithm: None };
        let token = assertion(&key, "me", "https://as").unwrap();
        assert_eq!(jsonwebtoken::decode_header(&token).unwrap().alg, Algorithm::ES256);
        let wrong = SigningKey { algorithm: Some("RS256".into()), ..key.clone() };
        assert!(assertion(&wrong, "me", "https://as").is_err());
        assert!(assertion(&SigningKey { algorithm: Some("none".into()), ..key }, "me", "x").is_err());
        let ed = Ed25519KeyPair::generate().unwrap();
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        let der: Pkcs8V1Der<'_> = ed.as_der().unwrap();
        let key = SigningKey { pem: pem(der.as_ref()), algorithm: None };
        assert_eq!(jsonwebtoken::decode_header(assertion(&key, "me", "x").unwrap()).unwrap().alg, Algorithm::EdDSA);
    }
}
