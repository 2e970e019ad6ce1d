//! A name and a password: HTTP Basic, and Digest (RFC 7616).

use std::sync::{Mutex, PoisonError};

use base64::{Engine, engine::general_purpose::STANDARD};
use digest_auth::{AuthContext, Charset, HttpMethod, Qop, WwwAuthenticateHeader};
use reqwest::{
    Request,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    AuthError,
    challenge::{self, Challenge},
};

/// A name and a password.
#[derive(Clone, Debug)]
pub struct Password {
    pub username: String,
    pub password: SecretString,
}

impl Password {
    /// The header of HTTP Basic.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let plain = format!("{}:{}", self.username, self.password.expose_secret());
        secret_header(&format!("Basic {}", STANDARD.encode(plain)))
    }
}

/// A header that no log shows.
pub(super) fn secret_header(text: &str) -> Option<HeaderValue> {
    // Not `from_str`, which takes ASCII only: a realm may be in any language.
    let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// HTTP Digest: what the server challenged with last answers for the requests that follow.
#[derive(Debug)]
pub struct Digest {
    password: Password,
    challenge: Mutex<Option<WwwAuthenticateHeader>>,
}

impl Digest {
    #[must_use]
    pub fn new(password: Password) -> Digest {
        Digest { password, challenge: Mutex::new(None) }
    }

    pub(super) fn apply(&self, request: &mut Request) -> Result<(), AuthError> {
        let mut held = self.challenge.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(challenge) = held.as_mut() else { return Ok(()) };
        let uri = match request.url().query() {
            Some(query) => format!("{}?{query}", request.url().path()),
            None => request.url().path().to_owned(),
        };
        let method = HttpMethod::from(request.method().as_str().to_owned());
        let Password { username, password } = &self.password;
        // No body: a stream has none that could be hashed, and `auth` is what servers offer.
        let context = AuthContext::new_with_method(username, password.expose_secret(), &uri, None::<&[u8]>, method);
        let answer = challenge.respond(&context).map_err(|error| AuthError::needed(format!("HTTP Digest: {error}")))?;
        if let Some(value) = secret_header(&answer.to_string()) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(())
    }

    /// A new challenge is worth another try, unless it is that the password is wrong.
    pub(super) fn refused(&self, sent: &HeaderMap, answer: &HeaderMap) -> Result<bool, AuthError> {
        let mut offers: Vec<WwwAuthenticateHeader> = challenge::of(answer).iter().filter_map(offer).collect();
        // The strongest that we know: MD5 is the one everybody offers.
        offers.sort_by_key(|offer| offer.algorithm.to_string().starts_with("MD5"));
        let Some(offer) = offers.into_iter().next() else {
            return Err(AuthError::needed("the server does not take HTTP Digest".to_owned()));
        };
        let mut held = self.challenge.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = sent.get(AUTHORIZATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        // The answer to a nonce that is still good was wrong: so is the password. Any other nonce may be a newer one
        // than that of the request.
        let wrong = !offer.stale && answered.is_some_and(|sent| sent.starts_with("Digest ") && held.is_some());
        let known = held.as_ref().is_some_and(|known| answered.is_some_and(|sent| sent.contains(&known.nonce)));
        *held = Some(offer);
        match wrong && known {
            true => Err(AuthError::needed("the server refuses the name or the password".to_owned())),
            false => Ok(true),
        }
    }
}

/// What a challenge wants hashed; none where it is not Digest, or wants what we do not know. Not read by the parser of
/// `digest_auth`, which takes the place of a character for that of a byte, and panics where the two differ.
fn offer(challenge: &Challenge) -> Option<WwwAuthenticateHeader> {
    if challenge.scheme != "digest" {
        return None;
    }
    let text = |name: &str| challenge.get(name).map(str::to_owned);
    let is_true = |name: &str| challenge.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let qop = match challenge.get("qop") {
        Some(all) if all.split(',').any(|one| one.trim() == "auth") => Some(vec![Qop::AUTH]),
        Some(_) => return None,
        None => None,
    };
    Some(WwwAuthenticateHeader {
        domain: None,
        realm: text("realm")?,
        nonce: text("nonce")?,
        opaque: text("opaque"),
        stale: is_true("stale"),
        algorithm: challenge.get("algorithm").map_or(Ok(Default::default()), str::parse).ok()?,
        qop,
        userhash: is_true("userhash"),
        charset: challenge.get("charset").map_or(Ok(Charset::ASCII), str::parse).ok()?,
        nc: 0,
    })
}

#[cfg(test)]
mod tests {
    use reqwest::{Method, Url, header::WWW_AUTHENTICATE};

    use super::*;

    fn password() -> Password {
        Password { username: "Mufasa".into(), password: "Circle Of Life".into() }
    }

    #[test]
    fn basic_is_one_header_that_no_log_shows() {
        let value = password().basic().unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic TXVmYXNhOkNpcmNsZSBPZiBMaWZl");
        assert!(value.is_sensitive());
        assert!(!format!("{:?}", password()).contains("Circle"));
    }

    fn challenged(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(WWW_AUTHENTICATE, text.parse().unwrap())])
    }

    #[test]
    fn digest_answers_what_it_is_asked() {
        let digest = Digest::new(password());
        let url: Url = "http://a.example/dir/index.html?x=1".parse().unwrap();
        let mut request = Request::new(Method::POST, url);
        digest.apply(&mut request).unwrap();
        assert!(request.headers().is_empty());

        let first = challenged(
            r#"Basic realm="r", Digest realm="r", nonce="n1", qop="auth", algorithm=MD5, Digest realm="r", nonce="n2", qop="auth, auth-int", algorithm=SHA-256"#,
        );
        assert_eq!(digest.refused(request.headers(), &first), Ok(true));
        digest.apply(&mut request).unwrap();
        let sent = request.headers()[AUTHORIZATION].to_str().unwrap().to_owned();
        assert!(sent.starts_with("Digest ") && sent.contains("nonce=\"n2\"") && sent.contains("SHA-256"), "{sent}");
        assert!(sent.contains("uri=\"/dir/index.html?x=1\"") && sent.contains("nc=00000001"), "{sent}");

        // A stale nonce is asked again with the new one; the same password refused twice is wrong.
        let stale = challenged(r#"Digest realm="r", nonce="n3", qop="auth", stale=true"#);
        assert_eq!(digest.refused(request.headers(), &stale), Ok(true));
        digest.apply(&mut request).unwrap();
        let again = challenged(r#"Digest realm="r", nonce="n4", qop="auth""#);
        assert!(digest.refused(request.headers(), &again).is_err());
        assert!(digest.refused(request.headers(), &challenged("Bearer")).is_err());
    }

    #[test]
    fn t14_a_challenge_beyond_ascii_is_read_and_answered_as_it_was_written() {
        for (realm, nonce) in [("é", "n"), ("€€€€€", "n"), ("r", "né"), ("日本語, \\\"x\\\"", "n")] {
            let text = format!(r#"Digest realm="{realm}", nonce="{nonce}", qop="auth, x-unknown", opaque=o"#);
            let challenge =
                HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_bytes(text.as_bytes()).unwrap())]);
            let digest = Digest::new(password());
            let mut request = Request::new(Method::POST, "http://a.example/".parse().unwrap());
            assert_eq!(digest.refused(request.headers(), &challenge), Ok(true), "{text}");
            digest.apply(&mut request).unwrap();
            let sent = String::from_utf8_lossy(request.headers()[AUTHORIZATION].as_bytes()).into_owned();
            assert!(sent.contains(&format!("realm=\"{realm}\"")), "{sent}");
            // The same nonce again: the password is wrong.
            assert!(digest.refused(request.headers(), &challenge).is_err(), "{text}");
        }
    }
}
