//! Who issues tokens for a server: its metadata (RFC 9728), and that of its authorization server (RFC 8414, OpenID).
//!
//! A document is believed only where it says of itself what it was asked for: the resource is the server, the issuer is
//! the one that the resource named, letter by letter.

use reqwest::Url;
use serde_json::Value;

use super::{
    OAuthSpec,
    guard::{self, Reach},
    http::{Fault, Http, shown},
};
use crate::auth::challenge::Challenge;

/// The most authorization servers of one resource that are asked.
const ISSUERS_MAX: usize = 3;
/// The most entries of a list in a document.
const ENTRIES_MAX: usize = 256;

/// What is known before a login.
#[derive(Clone, Debug)]
pub struct Found {
    /// What tokens are asked for.
    pub resource: String,
    /// What the resource says one needs.
    pub scopes: Option<Vec<String>>,
    pub issuer: Issuer,
}

/// An authorization server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuer {
    /// As the resource wrote it. It is compared letter by letter.
    pub name: String,
    pub authorization: Option<Url>,
    pub token: Option<Url>,
    pub registration: Option<Url>,
    pub device: Option<Url>,
    pub revocation: Option<Url>,
    /// PKCE with S256.
    pub s256: bool,
    /// Its answers name it (RFC 9207).
    pub names_itself: bool,
    /// It takes URLs of metadata documents for client ids.
    pub documents: bool,
    pub scopes: Vec<String>,
    /// How clients prove themselves; `None`: it does not say.
    pub methods: Option<Vec<String>>,
}

/// What the metadata of a resource says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub name: String,
    /// Who issues tokens for it, in its order.
    pub issuers: Vec<String>,
    pub scopes: Option<Vec<String>>,
}

impl Resource {
    /// Reads a document. Whether it is about the right resource is another question: [`covers`].
    #[must_use]
    pub fn read(document: &Value) -> Resource {
        Resource {
            name: document["resource"].as_str().unwrap_or_default().to_owned(),
            issuers: texts(&document["authorization_servers"]).unwrap_or_default(),
            scopes: texts(&document["scopes_supported"]),
        }
    }
}

impl Issuer {
    /// Reads the metadata of the issuer that was asked for as `asked`; `names` are what it may call itself, and `reach`
    /// is how far inside its endpoints may be.
    pub fn read(document: &Value, asked: &str, names: &[String], reach: Reach) -> Result<Issuer, Fault> {
        let claimed = document["issuer"].as_str().unwrap_or_default();
        if !names.iter().any(|name| name == claimed) {
            let (claimed, asked) = (shown(claimed), shown(asked));
            return Err(Fault::wrong(format!("the metadata of {asked} calls itself `{claimed}`: refused")));
        }
        let endpoint = |key: &str| match document[key].as_str() {
            Some(text) => guard::checked(text, reach).map(Some).map_err(Fault::Wrong),
            None => Ok(None),
        };
        Ok(Issuer {
            name: claimed.to_owned(),
            authorization: endpoint("authorization_endpoint")?,
            token: endpoint("token_endpoint")?,
            registration: endpoint("registration_endpoint")?,
            device: endpoint("device_authorization_endpoint")?,
            revocation: endpoint("revocation_endpoint")?,
            s256: texts(&document["code_challenge_methods_supported"])
                .unwrap_or_default()
                .iter()
                .any(|one| one == "S256"),
            names_itself: document["authorization_response_iss_parameter_supported"] == true,
            documents: document["client_id_metadata_document_supported"] == true,
            scopes: texts(&document["scopes_supported"]).unwrap_or_default(),
            methods: texts(&document["token_endpoint_auth_methods_supported"]),
        })
    }
}

/// Where the metadata of a resource may be, in order.
#[must_use]
pub fn resource_urls(server: &Url) -> Vec<Url> {
    let at = |path: &str| {
        let mut url = server.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.set_path(&format!("/.well-known/oauth-protected-resource{path}"));
        url
    };
    let path = server.path().trim_end_matches('/');
    let mut urls = vec![at(path)];
    if !path.is_empty() {
        urls.push(at(""));
    }
    urls
}

/// Where the metadata of an issuer may be, in order.
#[must_use]
pub fn issuer_urls(issuer: &Url) -> Vec<Url> {
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_query(None);
        url.set_path(&path);
        url
    };
    let path = issuer.path().trim_end_matches('/');
    let mut urls = vec![
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("/.well-known/openid-configuration{path}")),
    ];
    if !path.is_empty() {
        urls.push(at(format!("{path}/.well-known/openid-configuration")));
    }
    urls
}

/// A server's URL as the name of a resource: no fragment, and no lone slash at its end.
#[must_use]
pub fn canonical(server: &Url) -> String {
    let mut url = server.clone();
    url.set_fragment(None);
    let text = url.as_str();
    match url.path() == "/" && url.query().is_none() {
        true => text.trim_end_matches('/').to_owned(),
        false => text.to_owned(),
    }
}

/// Is this resource the server, or a part of the same origin that the server lies in?
#[must_use]
pub fn covers(resource: &str, server: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else { return false };
    if resource.fragment().is_some() || resource.origin() != server.origin() || !resource.origin().is_tuple() {
        return false;
    }
    if resource.query().is_some() && resource.query() != server.query() {
        return false;
    }
    let (outer, inner) = (resource.path().trim_end_matches('/'), server.path());
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The texts of a list, or of a lone text.
fn texts(value: &Value) -> Option<Vec<String>> {
    let all = value.as_array()?;
    Some(all.iter().take(ENTRIES_MAX).filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Asks until it is known who issues tokens for the server. `known` is who did before, and is preferred.
pub async fn discover(
    http: &Http,
    spec: &OAuthSpec,
    challenge: Option<&Challenge>,
    known: Option<&str>,
) -> Result<Found, Fault> {
    let settings = &spec.settings;
    let canonical = settings.resource.clone().unwrap_or_else(|| canonical(&spec.server));
    let bound = settings.client.as_ref().and_then(|client| client.issuer.as_deref());
    if let (Some(token), None) = (&settings.endpoints.token, &settings.endpoints.issuer)
        && (settings.endpoints.authorization.is_some() || settings.grant == super::Grant::ClientCredentials)
    {
        // All that is needed is named by hand: nothing is asked.
        let name = bound.unwrap_or(token).to_owned();
        let issuer = Issuer { name, s256: true, ..Issuer::default() };
        return Ok(Found { resource: canonical, scopes: None, issuer: by_hand(http, spec, issuer).await? });
    }
    let document = match resource_document(http, spec, challenge).await? {
        Some(document) => document,
        None => {
            let issuer = unannounced(http, spec).await?;
            check_bound(bound, &issuer.name)?;
            return Ok(Found { resource: canonical, scopes: None, issuer: by_hand(http, spec, issuer).await? });
        }
    };
    let told = Resource::read(&document);
    if settings.resource.is_none() && !covers(&told.name, &spec.server) {
        let named = shown(&told.name);
        return Err(Fault::wrong(format!("the server's metadata is about another resource, `{named}`: refused")));
    }
    let resource = settings.resource.clone().unwrap_or(told.name);
    let mut names = told.issuers;
    if let Some(chosen) = settings.endpoints.issuer.as_deref().or(bound) {
        if !names.iter().any(|name| name == chosen) {
            let names = shown(&names.join(", "));
            return Err(Fault::wrong(format!(
                "the client is registered with {chosen}, and the server now trusts {names}: register one there"
            )));
        }
        names = vec![chosen.to_owned()];
    }
    // Who was asked before is asked first; the order of the others is the server's.
    names.sort_by_key(|name| Some(name.as_str()) != known);
    let mut fault = Fault::wrong("the server's metadata names no authorization server");
    for name in names.iter().take(ISSUERS_MAX) {
        match issuer(http, name, std::slice::from_ref(name)).await {
            Ok(Some(issuer)) => {
                let issuer = by_hand(http, spec, issuer).await?;
                return Ok(Found { resource, scopes: told.scopes, issuer });
            }
            Ok(None) => fault = Fault::wrong(format!("{} publishes no metadata", shown(name))),
            Err(error) => fault = error,
        }
    }
    Err(fault)
}

fn check_bound(bound: Option<&str>, name: &str) -> Result<(), Fault> {
    match bound.is_some_and(|bound| bound.trim_end_matches('/') != name.trim_end_matches('/')) {
        true => Err(Fault::wrong(format!("the client is registered with another authorization server than {name}"))),
        false => Ok(()),
    }
}

/// What is named by hand goes before what was found.
async fn by_hand(http: &Http, spec: &OAuthSpec, mut issuer: Issuer) -> Result<Issuer, Fault> {
    let named = &spec.settings.endpoints;
    for (text, place) in [
        (&named.authorization, &mut issuer.authorization),
        (&named.token, &mut issuer.token),
        (&named.device, &mut issuer.device),
        (&named.registration, &mut issuer.registration),
    ] {
        if let Some(text) = text {
            *place = Some(http.checked(text).await?);
        }
    }
    Ok(issuer)
}

/// The metadata of the server itself, where the challenge says or where it is by convention.
async fn resource_document(
    http: &Http,
    spec: &OAuthSpec,
    challenge: Option<&Challenge>,
) -> Result<Option<Value>, Fault> {
    if let Some(named) = challenge.and_then(|challenge| challenge.get("resource_metadata")) {
        let url = http.checked(named).await?;
        if let Some(document) = http.document(&url).await? {
            return Ok(Some(document));
        }
    }
    for url in resource_urls(&spec.server) {
        // A page that leads elsewhere is that of a web site, and no metadata.
        match http.document(&url).await {
            Ok(Some(document)) if document.get("authorization_servers").is_some() => return Ok(Some(document)),
            Ok(_) | Err(Fault::Wrong(_)) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(None)
}

/// Does the server name anybody who issues tokens for it?
pub async fn is_announced(http: &Http, spec: &OAuthSpec) -> Result<bool, Fault> {
    Ok(resource_document(http, spec, None).await?.is_some())
}

/// The metadata of an issuer; `names` are what it may call itself.
async fn issuer(http: &Http, name: &str, names: &[String]) -> Result<Option<Issuer>, Fault> {
    let url = http.checked(name).await?;
    for url in issuer_urls(&url) {
        let Some(document) = http.document(&url).await? else { continue };
        return Issuer::read(&document, name, names, http.reach().await?).map(Some);
    }
    Ok(None)
}

/// The server announces nobody: then whoever is configured, or its own origin, as the first revision with
/// authorization had it, with endpoints at their usual places where there is no metadata either.
async fn unannounced(http: &Http, spec: &OAuthSpec) -> Result<Issuer, Fault> {
    if let Some(name) = &spec.settings.endpoints.issuer {
        let found = issuer(http, name, std::slice::from_ref(name)).await?;
        return Ok(found.unwrap_or_else(|| Issuer { name: name.clone(), s256: true, ..Issuer::default() }));
    }
    let origin = spec.server.origin().ascii_serialization();
    // What the origin is called is our own choice here, so both spellings are right.
    let found = issuer(http, &origin, &[origin.clone(), format!("{origin}/")]).await?;
    if let Some(found) = found {
        return Ok(found);
    }
    let at = async |path: &str| http.checked(&format!("{origin}{path}")).await;
    Ok(Issuer {
        authorization: Some(at("/authorize").await?),
        token: Some(at("/token").await?),
        registration: Some(at("/register").await?),
        s256: true,
        name: origin,
        ..Issuer::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_in_order() {
        let check = |urls: fn(&Url) -> Vec<Url>, of: &str, expected: &[&str]| {
            let found: Vec<String> = urls(&of.parse().unwrap()).iter().map(Url::to_string).collect();
            assert_eq!(found, expected, "{of}");
        };
        check(
            resource_urls,
            "https://a.example/public/mcp?x=1",
            &[
                "https://a.example/.well-known/oauth-protected-resource/public/mcp",
                "https://a.example/.well-known/oauth-protected-resource",
            ],
        );
        check(resource_urls, "https://a.example/", &["https://a.example/.well-known/oauth-protected-resource"]);
        check(
            issuer_urls,
            "https://a.example/tenant1",
            &[
                "https://a.example/.well-known/oauth-authorization-server/tenant1",
                "https://a.example/.well-known/openid-configuration/tenant1",
                "https://a.example/tenant1/.well-known/openid-configuration",
            ],
        );
        check(
            issuer_urls,
            "https://a.example",
            &[
                "https://a.example/.well-known/oauth-authorization-server",
                "https://a.example/.well-known/openid-configuration",
            ],
        );
    }

    #[test]
    fn a_resource_covers_its_server() {
        for (resource, server, expected) in [
            ("https://a.example/mcp", "https://a.example/mcp", true),
            ("https://a.example", "https://a.example/mcp", true),
            ("https://a.example/", "https://a.example/mcp", true),
            ("https://A.example:443/mcp/", "https://a.example/mcp", true),
            ("https://a.example/mcp", "https://a.example/mcp?x=1", true),
            ("https://a.example/mc", "https://a.example/mcp", false),
            ("https://a.example/mcp/x", "https://a.example/mcp", false),
            ("https://a.example/mcp?x=2", "https://a.example/mcp?x=1", false),
            ("https://a.example/mcp#f", "https://a.example/mcp", false),
            ("https://evil.example/mcp", "https://a.example/mcp", false),
            ("http://a.example/mcp", "https://a.example/mcp", false),
            ("https://a.example:444/mcp", "https://a.example/mcp", false),
            ("", "https://a.example/mcp", false),
            ("urn:x", "https://a.example/mcp", false),
        ] {
            assert_eq!(covers(resource, &server.parse().unwrap()), expected, "{resource} {server}");
        }
        for (server, expected) in [
            ("https://A.example:443", "https://a.example"),
            ("https://a.example/mcp/", "https://a.example/mcp/"),
            ("https://a.example/mcp#x", "https://a.example/mcp"),
            ("https://a.example/?t=1", "https://a.example/?t=1"),
        ] {
            assert_eq!(canonical(&server.parse().unwrap()), expected);
        }
    }
}
