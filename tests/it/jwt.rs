//! Signed tokens: an identity provider whose keys come and go, and tokens that are wrong in every way.

use std::sync::{Arc, Mutex};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::fixture::{Answer, Hub, LATEST, answer, echo, http, initialize, post};

const SHARED: &str = "isolation = 'shared'";

/// A key of the provider: to sign with, and as it publishes it.
struct Key {
    kid: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
    public: Value,
}

impl Key {
    fn p256(kid: &'static str) -> Key {
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        let public = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256" });
        Key { kid, algorithm: Algorithm::ES256, private: EncodingKey::from_ec_der(der.as_ref()), public }
    }

    fn rsa(kid: &'static str) -> Key {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) = (
            part(public.modulus().big_endian_without_leading_zero()),
            part(public.exponent().big_endian_without_leading_zero()),
        );
        let der: Pkcs8V1Der = pair.as_der().unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(der.as_ref())
        );
        let private = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        Key { kid, algorithm: Algorithm::RS256, private, public: json!({ "kty": "RSA", "n": n, "e": e, "kid": kid }) }
    }

    /// A token with these claims; `change` may spoil the header.
    fn sign(&self, claims: &Value, change: impl FnOnce(&mut Header)) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.to_owned());
        change(&mut header);
        encode(&header, claims, &self.private).unwrap()
    }
}

/// An identity provider: its metadata and its keys.
#[derive(Clone)]
struct Provider {
    base: String,
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    async fn start(keys: &[&Key]) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let keys = keys.iter().map(|key| key.public.clone()).collect();
        let provider = Provider { base, keys: Arc::new(Mutex::new(keys)), asked: Arc::default() };
        let serving = provider.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move {
                    let mut head = vec![0; 4096];
                    let count = stream.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..count]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let body = serving.answer(&path).map(|body| body.to_string());
                    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
                    let body = body.unwrap_or_default();
                    let head =
                        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                });
            }
        });
        provider
    }

    fn answer(&self, path: &str) -> Option<Value> {
        self.asked.lock().unwrap().push(path.to_owned());
        match path {
            "/.well-known/openid-configuration" => {
                Some(json!({ "issuer": self.base, "jwks_uri": format!("{}/keys", self.base) }))
            }
            "/keys" => Some(json!({ "keys": *self.keys.lock().unwrap() })),
            _ => None,
        }
    }

    fn publish(&self, keys: &[&Key]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.public.clone()).collect();
    }

    fn asked_for_keys(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| *path == "/keys").count()
    }

    /// What a good token says; members that are null are left out.
    fn claims(&self, audience: &str, change: Value) -> Value {
        let now = jsonwebtoken::get_current_timestamp();
        let mut claims = json!({ "iss": self.base, "sub": "ada", "client_id": "ide", "aud": audience,
            "exp": now + 300, "iat": now, "scope": "mcp other" });
        for (name, value) in change.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }

    fn hub(&self, more: &str) -> Hub {
        let jwt = format!("{{ issuer = '{}', scopes = ['mcp']{more} }}", self.base);
        let toml = format!("[hub]\nauth = {{ jwt = {jwt} }}\n{}{}", echo("a", SHARED), echo("b", SHARED));
        Hub::start(&toml)
    }
}

async fn knock(hub: &Hub, path: &str, token: &str) -> Answer {
    let token = format!("Bearer {token}");
    post(&http(), &hub.url(path), &[("authorization", &token)], &initialize(LATEST, json!({}))).await
}

/// The parts of a challenge.
fn challenge(answer: &Answer) -> String {
    answer.headers.get("www-authenticate").cloned().unwrap_or_default()
}

#[tokio::test]
async fn p60_p61_a_client_finds_out_where_to_log_in() {
    let key = Key::p256("one");
    let provider = Provider::start(&[&key]).await;
    let hub = provider.hub("");
    for leaf in ["mcp", "sse"] {
        let url = hub.url(&format!("/a/{leaf}"));
        let refused = answer(http().get(&url).header("accept", "text/event-stream")).await;
        let document = format!("{}/.well-known/oauth-protected-resource/a/{leaf}", hub.base);
        assert_eq!(refused.status, 401);
        assert_eq!(challenge(&refused), format!(r#"Bearer scope="mcp", resource_metadata="{document}""#));
        let found: Value = serde_json::from_str(&answer(http().get(&document)).await.text).unwrap();
        assert_eq!(found["resource"], url);
        assert_eq!(found["authorization_servers"], json!([provider.base]));
        assert_eq!(found["scopes_supported"], json!(["mcp"]));
        assert_eq!(found["bearer_methods_supported"], json!(["header"]));
    }
    for missing in ["", "/nobody/mcp", "/a", "/a/mcp/x"] {
        let url = hub.url(&format!("/.well-known/oauth-protected-resource{missing}"));
        assert_eq!(http().get(url).send().await.unwrap().status(), 404, "{missing}");
    }
    let expired = provider.claims(&hub.url("/a/mcp"), json!({ "exp": 1000 }));
    let refused = knock(&hub, "/a/mcp", &key.sign(&expired, |_| ())).await;
    assert!(challenge(&refused).contains(r#"error="invalid_token""#) && refused.status == 401);
    let poor = provider.claims(&hub.url("/a/mcp"), json!({ "scope": "other" }));
    let refused = knock(&hub, "/a/mcp", &key.sign(&poor, |_| ())).await;
    assert_eq!(refused.status, 403);
    assert!(challenge(&refused).starts_with(r#"Bearer error="insufficient_scope", scope="mcp", resource_metadata=""#));
}

#[tokio::test]
async fn p62_f58_a_token_is_good_for_the_mount_it_was_issued_for() {
    let key = Key::p256("one");
    let provider = Provider::start(&[&key]).await;
    let hub = provider.hub("");
    let token = key.sign(&provider.claims(&hub.url("/a/mcp"), json!({})), |_| ());
    assert_eq!(knock(&hub, "/a/mcp", &token).await.status, 200);
    let refused = knock(&hub, "/b/mcp", &token).await;
    assert_eq!(refused.status, 401);
    assert!(challenge(&refused).contains("/oauth-protected-resource/b/mcp"), "{}", challenge(&refused));
    let seen = answer(http().get(hub.url("/api/v1/status")).header("authorization", format!("Bearer {token}"))).await;
    let status: Value = serde_json::from_str(&seen.text).unwrap();
    assert_eq!(status["upstreams"].as_array().unwrap().len(), 1);
    for audience in
        [json!("https://other.example/a/mcp"), json!(hub.base), json!([]), json!(null), json!(hub.url("/a"))]
    {
        let token = key.sign(&provider.claims("", json!({ "aud": audience })), |_| ());
        assert_eq!(knock(&hub, "/a/mcp", &token).await.status, 401, "{audience}");
        let status = http().get(hub.url("/api/v1/status")).header("authorization", format!("Bearer {token}"));
        assert_eq!(status.send().await.unwrap().status(), 401, "{audience}");
    }
    let several = key.sign(&provider.claims("", json!({ "aud": ["x", hub.url("/a/mcp")] })), |_| ());
    assert_eq!(knock(&hub, "/a/mcp", &several).await.status, 200);
    // One audience for all, where that is configured.
    let hub = provider.hub(", audience = 'the-hub'");
    let token = key.sign(&provider.claims("the-hub", json!({})), |_| ());
    for path in ["/a/mcp", "/b/mcp"] {
        assert_eq!(knock(&hub, path, &token).await.status, 200);
    }
    let own = key.sign(&provider.claims(&hub.url("/a/mcp"), json!({})), |_| ());
    assert_eq!(knock(&hub, "/a/mcp", &own).await.status, 401);
}

#[tokio::test]
async fn f68_a_token_that_is_wrong_in_any_way_is_refused() {
    let (key, rsa, stranger) = (Key::p256("one"), Key::rsa("two"), Key::p256("one"));
    let provider = Provider::start(&[&key, &rsa]).await;
    let hub = provider.hub("");
    let good = |change: Value| provider.claims(&hub.url("/a/mcp"), change);
    assert_eq!(knock(&hub, "/a/mcp", &key.sign(&good(json!({})), |_| ())).await.status, 200);
    assert_eq!(knock(&hub, "/a/mcp", &rsa.sign(&good(json!({})), |_| ())).await.status, 200);
    let now = jsonwebtoken::get_current_timestamp();
    let claims = [
        json!({ "exp": now - 300 }),
        json!({ "exp": null }),
        json!({ "exp": "never" }),
        json!({ "nbf": now + 300 }),
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": null }),
        json!({ "iss": format!("{}/", provider.base) }),
        json!({ "sub": null }),
    ];
    let mut tokens: Vec<(String, String)> =
        claims.into_iter().map(|change| (change.to_string(), key.sign(&good(change), |_| ()))).collect();
    let body = |token: &str| token.split('.').nth(1).unwrap().to_owned();
    let right = key.sign(&good(json!({})), |_| ());
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // The public key of the provider taken for a shared secret: everybody knows it.
    let confused = |secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("two".into());
        encode(&header, &good(json!({})), &EncodingKey::from_secret(secret)).unwrap()
    };
    let (head, signature) = (right.split('.').next().unwrap(), right.rsplit('.').next().unwrap());
    let other = key.sign(&good(json!({ "sub": "eve" })), |_| ());
    tokens.extend([
        ("another's key of the same name".into(), stranger.sign(&good(json!({})), |_| ())),
        ("a key that is not there".into(), key.sign(&good(json!({})), |header| header.kid = Some("three".into()))),
        ("a key of another kind".into(), key.sign(&good(json!({})), |header| header.kid = Some("two".into()))),
        ("no signature".into(), format!("{}.{}.", part(json!({ "alg": "none" })), body(&right))),
        (
            "no signature, and a key".into(),
            format!("{}.{}.", part(json!({ "alg": "none", "kid": "one" })), body(&right)),
        ),
        ("NONE".into(), format!("{}.{}.{signature}", part(json!({ "alg": "NoNe", "kid": "one" })), body(&right))),
        ("the modulus as a secret".into(), confused(rsa.public["n"].as_str().unwrap().as_bytes())),
        ("the key as a secret".into(), confused(rsa.public.to_string().as_bytes())),
        ("other claims under the signature".into(), format!("{head}.{}.{signature}", body(&other))),
        (
            "a key that it brings itself".into(),
            stranger.sign(&good(json!({})), |header| {
                header.kid = None;
                header.jku = Some(format!("{}/keys", provider.base));
            }),
        ),
        ("no end".into(), right.trim_end_matches(|c: char| c != '.').to_owned()),
        ("a fourth part".into(), format!("{right}.x")),
        ("no parts".into(), "...".into()),
    ]);
    // So many wrong ones from one address would have to wait: a hub for each handful.
    for some in tokens.chunks(15) {
        let hub = provider.hub(&format!(", audience = '{}'", hub.url("/a/mcp")));
        for (what, token) in some {
            assert_eq!(knock(&hub, "/a/mcp", token).await.status, 401, "{what}");
            assert!(!hub.log().contains(token.as_str()), "{what} is in the log");
        }
        assert_eq!(knock(&hub, "/a/mcp", &right).await.status, 200);
    }
}

#[tokio::test]
async fn a_new_key_is_found_and_a_stranger_cannot_make_us_ask_for_keys_at_will() {
    let (one, two) = (Key::p256("one"), Key::p256("two"));
    let provider = Provider::start(&[&one]).await;
    let hub = provider.hub("");
    let claims = provider.claims(&hub.url("/a/mcp"), json!({}));
    assert_eq!(knock(&hub, "/a/mcp", &one.sign(&claims, |_| ())).await.status, 200);
    assert_eq!(provider.asked_for_keys(), 1);
    for guess in 0..10 {
        let token = two.sign(&claims, |header| header.kid = Some(format!("guess {guess}")));
        assert_eq!(knock(&hub, "/a/mcp", &token).await.status, 401);
    }
    assert!(provider.asked_for_keys() <= 2, "{}", provider.asked_for_keys());
    // The provider turns to another key and withdraws the first.
    provider.publish(&[&two]);
    let began = std::time::Instant::now();
    while knock(&hub, "/a/mcp", &two.sign(&claims, |_| ())).await.status != 200 {
        assert!(began.elapsed() < super::fixture::PATIENCE, "the new key is not found");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    // The keys were fetched anew, so the old one is known no more, nor what it had signed.
    assert_eq!(knock(&hub, "/a/mcp", &one.sign(&claims, |_| ())).await.status, 401);
}

#[tokio::test]
async fn where_the_provider_cannot_be_reached_nobody_comes_in_and_everybody_may_come_again() {
    let key = Key::p256("one");
    let provider = Provider::start(&[&key]).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let jwt = format!("{{ issuer = '{}', jwks_url = 'http://{closed}/keys' }}", provider.base);
    let hub = Hub::start(&format!("[hub]\nauth = {{ jwt = {jwt} }}\n{}", echo("a", SHARED)));
    let refused = knock(&hub, "/a/mcp", &key.sign(&provider.claims(&hub.url("/a/mcp"), json!({})), |_| ())).await;
    assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{}", refused.text);
    assert_eq!(refused.last()["error"]["data"]["retryable"], true);
}

#[tokio::test]
async fn f51_two_clients_of_one_person_are_two_and_a_renewed_token_is_the_same() {
    let key = Key::p256("one");
    let provider = Provider::start(&[&key]).await;
    let hub = provider.hub("");
    let token = |change: Value| key.sign(&provider.claims(&hub.url("/a/mcp"), change), |_| ());
    let opened = knock(&hub, "/a/mcp", &token(json!({}))).await;
    let session = &opened.headers["mcp-session-id"];
    let ping = async |change: Value| {
        let token = format!("Bearer {}", token(change));
        let headers = [("authorization", token.as_str()), ("mcp-session-id", session.as_str())];
        post(&http(), &hub.url("/a/mcp"), &headers, &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))
            .await
            .status
    };
    assert_eq!(ping(json!({ "jti": "renewed" })).await, 200);
    assert_eq!(ping(json!({ "client_id": "another" })).await, 404);
    assert_eq!(ping(json!({ "sub": "eve" })).await, 404);
    assert_eq!(ping(json!({ "exp": 1000 })).await, 401, "each request shows a token that is good now");
}
