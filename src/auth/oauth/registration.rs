//! Which client we are to an authorization server: registered by hand, by a document of ours, or on the spot (RFC 7591);
//! and how a registration of ours is read, changed and deleted (RFC 7592).

use reqwest::{StatusCode, Url, header::AUTHORIZATION};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::{
    discovery::Issuer,
    http::{Answer, Fault, Http, shown},
    now,
    settings::Settings,
    token::{Identity, method},
};
use crate::auth::{
    password::secret_header,
    store::{Method, Registration, Secret},
};

/// Which client to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one that the configuration names.
    ByHand,
    /// The one whose id is the URL of its metadata.
    Document(String),
    /// One that is registered now, or was before.
    OnTheSpot,
}

/// By the order of the specification.
pub fn choose(settings: &Settings, issuer: &Issuer) -> Result<Choice, Fault> {
    let on_the_spot = || issuer.registration.as_ref().map(|_| Choice::OnTheSpot);
    let document = || settings.client_metadata_url.clone().filter(|_| issuer.documents).map(Choice::Document);
    let by_hand = settings.client.as_ref().map(|_| Choice::ByHand);
    by_hand.or_else(document).or_else(on_the_spot).ok_or_else(|| {
        Fault::wrong(format!(
            "{} registers nobody by itself: register a client there, and configure its id",
            issuer.name
        ))
    })
}

/// The configured client.
pub fn by_hand(settings: &Settings, issuer: &Issuer) -> Option<Identity> {
    let client = settings.client.as_ref()?;
    Some(Identity {
        id: client.id.clone(),
        method: method(client.key.is_some(), client.secret.is_some(), issuer.methods.as_deref()),
        secret: client.secret.clone(),
        key: client.key.clone(),
    })
}

/// A client that is only an id.
#[must_use]
pub fn public(id: String) -> Identity {
    Identity { id, secret: None, key: None, method: Method::None }
}

/// A client that was registered on the spot.
#[must_use]
pub fn registered(registration: &Registration) -> Identity {
    Identity {
        id: registration.client_id.clone(),
        secret: registration.client_secret.as_ref().map(|secret| secret.expose().into()),
        key: None,
        method: registration.method,
    }
}

/// Can it be used for a login that comes back there?
#[must_use]
pub fn is_usable(registration: &Registration, redirect: Option<&str>) -> bool {
    let alive = registration.secret_expires_at.is_none_or(|end| end == 0 || now() < end);
    // Some servers compare the address with its port, whatever RFC 8252 says.
    alive && redirect.is_none_or(|redirect| registration.redirect_uri == redirect)
}

/// Registers a client (RFC 7591).
pub async fn register(
    http: &Http,
    settings: &Settings,
    issuer: &Issuer,
    redirect: &str,
) -> Result<Registration, Fault> {
    let Some(endpoint) = &issuer.registration else { return Err(Fault::wrong("nobody registers clients there")) };
    let takes = |name: &str| issuer.methods.as_ref().is_none_or(|all| all.iter().any(|one| one == name));
    let asked = match () {
        () if takes("none") => Method::None,
        () if takes("client_secret_basic") => Method::ClientSecretBasic,
        () if takes("client_secret_post") => Method::ClientSecretPost,
        () => Method::None,
    };
    let mut grants = vec!["authorization_code", "refresh_token"];
    if issuer.device.is_some() {
        grants.push("urn:ietf:params:oauth:grant-type:device_code");
    }
    let mut body = json!({
        "client_name": settings.client_name,
        "redirect_uris": [redirect],
        "grant_types": grants,
        "response_types": ["code"],
        "token_endpoint_auth_method": asked,
        // Omitted it would mean "web", which may not come back to this machine.
        "application_type": "native",
    });
    if let Some(scopes) = &settings.scopes {
        body["scope"] = scopes.join(" ").into();
    }
    let answer = http.ask(endpoint, |client| client.post(endpoint.clone()).json(&body)).await?;
    if !answer.status.is_success() {
        return Err(match answer.refusal(endpoint) {
            Fault::Unreachable(why) => Fault::Unreachable(why),
            fault => Fault::wrong(format!(
                "the client cannot be registered with {}: {fault}. Register one by hand, and configure its id",
                issuer.name
            )),
        });
    }
    let body: Value = answer.json().unwrap_or_default();
    read_registration(&body, None, asked, redirect)
        .ok_or_else(|| Fault::wrong(format!("{} registers clients without an id", issuer.name)))
}

/// A registration out of an answer; what the answer leaves out is as it was.
fn read_registration(
    body: &Value,
    before: Option<&Registration>,
    asked: Method,
    redirect: &str,
) -> Option<Registration> {
    let text = |key: &str| body[key].as_str().filter(|text| !text.is_empty());
    let secret = |key: &str| text(key).map(Secret::from);
    let client_secret = secret("client_secret").or_else(|| before?.client_secret.clone());
    let told = serde_json::from_value(body["token_endpoint_auth_method"].clone()).ok();
    Some(Registration {
        client_id: text("client_id")?.to_owned(),
        method: match told.unwrap_or(asked) {
            // What needs a secret and got none is public.
            Method::ClientSecretBasic | Method::ClientSecretPost if client_secret.is_none() => Method::None,
            told => told,
        },
        client_secret,
        secret_expires_at: body["client_secret_expires_at"].as_u64().or_else(|| before?.secret_expires_at),
        issued_at: before.map_or_else(now, |before| before.issued_at),
        redirect_uri: redirect.to_owned(),
        access_token: secret("registration_access_token").or_else(|| before?.access_token.clone()),
        uri: text("registration_client_uri").map(str::to_owned).or_else(|| before?.uri.clone()),
    })
}

/// The fields of a registration that may be changed.
pub const FIELDS: [&str; 10] = [
    "redirect_uris",
    "client_name",
    "client_uri",
    "logo_uri",
    "contacts",
    "tos_uri",
    "policy_uri",
    "scope",
    "grant_types",
    "response_types",
];
/// Those of them that are lists.
const LISTS: [&str; 4] = ["redirect_uris", "grant_types", "response_types", "contacts"];

/// A change of a registration, from `field=value` with `;` between the entries of a list.
pub fn parse_change(text: &str) -> Result<(String, Value), String> {
    let (field, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has to be FIELD=VALUE"))?;
    let (field, value) = (field.trim(), value.trim());
    if !FIELDS.contains(&field) {
        return Err(format!("`{field}` cannot be changed; these can: {}", FIELDS.join(", ")));
    }
    let list = || value.split(';').map(str::trim).filter(|one| !one.is_empty()).collect::<Vec<_>>();
    let value = if LISTS.contains(&field) { json!(list()) } else { json!(value) };
    Ok((field.to_owned(), value))
}

/// Where a registration is managed, and by which token.
fn management(registration: &Registration) -> Result<(&str, &Secret), Fault> {
    match (&registration.uri, &registration.access_token) {
        (Some(uri), Some(token)) => Ok((uri, token)),
        _ => Err(Fault::wrong("the authorization server gave nothing to manage the registration with (RFC 7592)")),
    }
}

async fn manage(
    http: &Http,
    registration: &Registration,
    build: impl FnOnce(&reqwest::Client, Url) -> reqwest::RequestBuilder,
) -> Result<Answer, Fault> {
    let (uri, token) = management(registration)?;
    let url = http.checked(uri).await?;
    let header = secret_header(&format!("Bearer {}", token.expose()));
    let header = header.ok_or_else(|| Fault::wrong("the registration's token is no text"))?;
    http.ask(&url, |client| build(client, url.clone()).header(AUTHORIZATION, header)).await
}

/// What a refusal of the management means.
fn refused(answer: &Answer) -> Fault {
    match answer.status {
        StatusCode::UNAUTHORIZED => {
            Fault::wrong("the registration's token is refused (HTTP 401): it is expired, or the client is gone")
        }
        StatusCode::FORBIDDEN => Fault::wrong("the authorization server does not allow that (HTTP 403)"),
        StatusCode::NOT_FOUND => Fault::wrong("the authorization server does not know the client (HTTP 404)"),
        StatusCode::METHOD_NOT_ALLOWED => Fault::wrong("the authorization server does not offer that (HTTP 405)"),
        status if status.is_server_error() => {
            Fault::Unreachable(format!("the authorization server answers HTTP {}", status.as_u16()))
        }
        status => {
            let body: Value = answer.json().unwrap_or_default();
            let why = body["error_description"].as_str().or(body["error"].as_str()).map(shown).unwrap_or_default();
            Fault::wrong(format!("the authorization server answers HTTP {} {why}", status.as_u16()))
        }
    }
}

/// What the server knows of the client, and the registration with whatever was rotated.
pub async fn read(http: &Http, registration: &Registration) -> Result<(Value, Registration), Fault> {
    let answer = manage(http, registration, |client, url| client.get(url)).await?;
    told(&answer, registration)
}

/// What an answer of the management says.
fn told(answer: &Answer, registration: &Registration) -> Result<(Value, Registration), Fault> {
    if !answer.status.is_success() {
        return Err(refused(answer));
    }
    let known: Value = answer.json().ok_or_else(|| Fault::wrong("the authorization server answers no JSON"))?;
    let mut renewed = read_registration(&known, Some(registration), registration.method, &registration.redirect_uri)
        .unwrap_or_else(|| registration.clone());
    // The address to come back to may have been changed.
    if let Some(addresses) = known["redirect_uris"].as_array().filter(|all| !all.contains(&json!(renewed.redirect_uri)))
    {
        renewed.redirect_uri = addresses.first().and_then(Value::as_str).unwrap_or_default().to_owned();
    }
    Ok((known, renewed))
}

/// Changes fields. Gives what the server then knows, and the registration with whatever was rotated.
pub async fn update(
    http: &Http,
    registration: &Registration,
    change: &[(String, Value)],
) -> Result<(Value, Registration), Fault> {
    // A change replaces everything: what is not said again is gone.
    let (known, registration) = read(http, registration).await?;
    let mut body: Map<String, Value> = match known {
        Value::Object(known) => known,
        _ => Map::new(),
    };
    for ours in
        ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"]
    {
        body.remove(ours);
    }
    body.insert("client_id".to_owned(), registration.client_id.clone().into());
    if let Some(secret) = &registration.client_secret {
        body.insert("client_secret".to_owned(), secret.expose().into());
    }
    body.extend(change.iter().cloned());
    let answer = manage(http, &registration, |client, url| client.put(url).json(&body)).await?;
    told(&answer, &registration)
}

/// Deletes the client for good. One that is not there is deleted.
pub async fn delete(http: &Http, registration: &Registration) -> Result<(), Fault> {
    let answer = manage(http, registration, |client, url| client.delete(url)).await?;
    match answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
        true => Ok(()),
        false => Err(refused(&answer)),
    }
}

/// The registration that came from outside.
#[must_use]
pub fn given(settings: &Settings) -> Option<Registration> {
    let client = settings.client.as_ref()?;
    Some(Registration {
        client_id: client.id.clone(),
        client_secret: client.secret.as_ref().map(|secret| secret.expose_secret().into()),
        secret_expires_at: None,
        issued_at: 0,
        method: method(client.key.is_some(), client.secret.is_some(), None),
        redirect_uri: String::new(),
        access_token: Some(settings.given.registration_token.as_ref()?.expose_secret().into()),
        uri: Some(settings.given.registration_uri.clone()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::oauth::settings::Client;

    #[test]
    fn f139_which_client_to_be() {
        let client = Client { id: "a".into(), secret: None, key: None, issuer: None };
        let url = "https://x/y.json".to_owned();
        let check = |by_hand: bool, document: bool, documents: bool, dynamic: bool, expected: Option<Choice>| {
            let settings = Settings {
                client: by_hand.then(|| client.clone()),
                client_metadata_url: document.then(|| url.clone()),
                ..Settings::default()
            };
            let registration = dynamic.then(|| "https://as/register".parse().unwrap());
            let issuer = Issuer { documents, registration, ..Issuer::default() };
            assert_eq!(choose(&settings, &issuer).ok(), expected);
        };
        check(true, true, true, true, Some(Choice::ByHand));
        check(false, true, true, true, Some(Choice::Document(url.clone())));
        check(false, true, false, true, Some(Choice::OnTheSpot));
        check(false, false, true, true, Some(Choice::OnTheSpot));
        check(false, true, false, false, None);
    }

    #[test]
    fn s3_17_changes_are_read_from_flags() {
        assert_eq!(parse_change("client_name=a b").unwrap(), ("client_name".into(), json!("a b")));
        assert_eq!(parse_change("contacts = a; b;").unwrap(), ("contacts".into(), json!(["a", "b"])));
        assert_eq!(parse_change("logo_uri=https://a/?b=c").unwrap().1, json!("https://a/?b=c"));
        for wrong in ["", "client_name", "client_id=x", "client_secret=x", "jwks=x"] {
            assert!(parse_change(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_registration_keeps_what_an_answer_leaves_out() {
        let body = json!({"client_id": "a", "client_secret": "s", "token_endpoint_auth_method": "client_secret_post",
            "registration_access_token": "t", "registration_client_uri": "https://as/c"});
        let first = read_registration(&body, None, Method::None, "http://127.0.0.1:1/callback").unwrap();
        assert_eq!(first.method, Method::ClientSecretPost);
        assert!(
            is_usable(&first, Some("http://127.0.0.1:1/callback"))
                && !is_usable(&first, Some("http://127.0.0.1:2/callback"))
        );
        let rotated = json!({"client_id": "a", "client_secret": "s2"});
        let second = read_registration(&rotated, Some(&first), first.method, "r").unwrap();
        assert_eq!(second.client_secret.as_ref().unwrap().expose(), "s2");
        assert_eq!((second.access_token, second.uri), (first.access_token.clone(), first.uri.clone()));
        let expired = Registration { secret_expires_at: Some(1), ..first };
        assert!(!is_usable(&expired, None));
        let public = read_registration(&json!({"client_id": "a"}), None, Method::ClientSecretBasic, "r").unwrap();
        assert_eq!(public.method, Method::None);
    }
}
