//! With what `connect` asks: flags and variables become credentials.

use std::sync::Arc;

use serde_json::Value;

use super::{Args, variables::Variables};
use crate::{
    auth::{
        Credentials, OAuth, OAuthSpec,
        oauth::{Client, Device, Given, Grant, Mode, SigningKey},
    },
    cli::complain,
    config::{Auth, Name, RemoteConfig, Text},
    hub::remote,
};

/// Makes the credentials for a server.
pub fn make(
    args: &Args,
    variables: &Variables,
    name: &Name,
    remote: &RemoteConfig,
) -> Result<Arc<Credentials>, String> {
    if !matches!(remote.auth, Auth::Auto) || remote.headers.contains_key("authorization") {
        return Ok(Arc::new(remote::credentials(name, remote)));
    }
    let spec = spec(args, variables, remote)?.ok_or("the URL cannot be used")?;
    Ok(Arc::new(Credentials::OAuth(OAuth::new(spec))))
}

/// Name and password, where flags give them.
pub fn password(args: &Args) -> Result<Auth, String> {
    let secret = |text: &String| Text::secret(text.clone());
    match (&args.username, &args.password, args.digest) {
        (Some(username), Some(password), true) => {
            Ok(Auth::Digest { username: Text::from(username.clone()), password: secret(password) })
        }
        (Some(username), Some(password), false) => {
            Ok(Auth::Basic { username: Text::from(username.clone()), password: secret(password) })
        }
        (None, None, _) => Ok(Auth::Auto),
        _ => Err("--username and --password belong together".into()),
    }
}

/// How a token is come by. A person is there: logins are waited for, and shown on stderr.
pub fn spec(args: &Args, variables: &Variables, remote: &RemoteConfig) -> Result<Option<OAuthSpec>, String> {
    let Some(mut spec) = remote::oauth_spec(remote, Mode::Interactive) else { return Ok(None) };
    spec.show = Arc::new(|prompt| complain(prompt));
    let settings = &mut spec.settings;
    let flag = |flag: &Option<String>, name: &str| flag.clone().or_else(|| variables.get(name));
    let mut id = flag(&args.client_id, "MCP_CLIENT_ID");
    let mut secret = flag(&args.client_secret, "MCP_CLIENT_SECRET");
    if let Some(info) = &args.static_oauth_client_info {
        let info = json(info, "--static-oauth-client-info")?;
        id = info["client_id"].as_str().map(str::to_owned);
        secret = info["client_secret"].as_str().map(str::to_owned);
        if id.is_none() {
            return Err("--static-oauth-client-info needs a client_id".into());
        }
    }
    let key = args.private_key.as_ref().map(|path| {
        let pem = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok::<_, String>(SigningKey { pem: pem.into(), algorithm: None })
    });
    let key = key.transpose()?;
    settings.endpoints.token = flag(&args.token_url, "OAUTH_TOKEN_URL");
    if args.client_credentials || args.token_url.is_some() {
        if id.is_none() || (secret.is_none() && key.is_none()) {
            return Err("client credentials are --client-id with --client-secret or --private-key".into());
        }
        settings.grant = Grant::ClientCredentials;
    }
    settings.client = id.map(|id| Client { id, secret: secret.map(Into::into), key, issuer: None });
    settings.client_metadata_url = args.client_metadata_url.clone();
    settings.scopes = (!args.scope.is_empty()).then(|| words(&args.scope));
    if let Some(metadata) = &args.static_oauth_client_metadata {
        let metadata = json(metadata, "--static-oauth-client-metadata")?;
        for (key, value) in metadata.as_object().into_iter().flatten() {
            match (key.as_str(), value.as_str()) {
                ("scope", Some(scope)) => settings.scopes = Some(words(&[scope.to_owned()])),
                ("client_name", Some(name)) => settings.client_name = name.to_owned(),
                _ => {
                    return Err(format!(
                        "--static-oauth-client-metadata: `{key}` cannot be set; scope and client_name can"
                    ));
                }
            }
        }
    }
    if let Some(name) = variables.get("CLIENT_NAME") {
        settings.client_name = name;
    }
    settings.resource = args.resource.clone();
    settings.browser = !args.no_browser;
    settings.device = match (args.device, args.no_browser) {
        (true, _) => Device::Prefer,
        (false, true) => Device::Auto,
        (false, false) => settings.device,
    };
    if let Some(port) = args.callback_port.or(args.port) {
        settings.callback_port = port;
    }
    if let Some(host) = &args.host {
        settings.callback_host = host.clone();
    }
    settings.login_timeout = args.auth_timeout.map(std::time::Duration::from_secs);
    settings.endpoints.issuer = variables.get("OAUTH_ISSUER");
    settings.endpoints.authorization = variables.get("OAUTH_AUTHORIZATION_URL");
    settings.endpoints.device = variables.get("OAUTH_DEVICE_AUTH_URL");
    settings.endpoints.registration = variables.get("OAUTH_REGISTRATION_URL");
    let given = |name: &str| variables.get(name).map(Into::into);
    settings.given = Given {
        access_token: given("MCP_CLIENT_ACCESS_TOKEN"),
        refresh_token: given("MCP_CLIENT_REFRESH_TOKEN"),
        expires_at: variables.get("OAUTH_TOKEN_EXPIRES_AT").and_then(|text| text.parse().ok()),
        registration_token: given("MCP_CLIENT_REGISTRATION_TOKEN"),
        registration_uri: variables.get("MCP_CLIENT_REGISTRATION_URI"),
    };
    Ok(Some(spec))
}

fn words(texts: &[String]) -> Vec<String> {
    texts.iter().flat_map(|text| text.split([' ', ','])).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// JSON on the command line, or in a file behind an `@`.
fn json(text: &str, flag: &str) -> Result<Value, String> {
    let text = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|error| format!("{flag}: cannot read {path}: {error}"))?,
        None => text.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| format!("{flag} is not JSON: {error}"))
}
