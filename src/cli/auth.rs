//! `hubward auth`: log in to a remote server, see what is there, log out; and the registration of our client.

use std::io::{BufRead, IsTerminal, Write};

use secrecy::SecretString;
use serde_json::Value;

use super::{FAILED, Globals, LOGIN_NEEDED, OK, UNREACHABLE, USAGE, complain, fail, say};
use crate::{
    auth::{
        AuthError, OAuth, OAuthSpec,
        oauth::{Client, Device, Grant, Mode, SigningKey, registration, settings},
    },
    config::Format,
    link::remote::header_map,
    run,
};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Log in to a server, whatever is there already
    Login(Login),
    /// Show what is there for a server; exit code 3: nothing that is any good
    Status(Status),
    /// Forget the tokens for a server, revoke them, and delete our client where that is possible
    Logout(Which),
    /// The registration of our client with the server's authorization server (RFC 7592)
    #[command(subcommand)]
    Client(ClientVerb),
}

#[derive(clap::Subcommand)]
enum ClientVerb {
    /// Show what the authorization server knows of our client
    Show(Which),
    /// Change fields of it
    Update(Update),
    /// Delete it for good
    Delete(Delete),
}

/// Which credentials: what tells them apart has to be the same as at the login.
#[derive(clap::Args)]
struct Which {
    /// The server
    #[arg(value_name = "URL", env = "MCP_SERVER_URL")]
    url: String,
    /// Of a client that was registered by hand
    #[arg(long, value_name = "ID", env = "MCP_CLIENT_ID")]
    client_id: Option<String>,
    #[arg(long, value_name = "SECRET", env = "MCP_CLIENT_SECRET", hide_env_values = true, requires = "client_id")]
    client_secret: Option<String>,
    /// What tokens are for [default: what the server says]
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// A header that the server wants besides, `Name: value` (repeatable)
    #[arg(long = "header", value_name = "NAME: VALUE")]
    header: Vec<String>,
}

#[derive(clap::Args)]
struct Login {
    #[command(flatten)]
    which: Which,
    /// What to ask for, with blanks between [default: what the server says]
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// Log in by a code that is typed on another machine, where the server offers it
    #[arg(long)]
    device: bool,
    /// Print the URL only
    #[arg(long)]
    no_browser: bool,
    /// Where the browser comes back to on this machine [default: any free port]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    callback_port: u16,
    /// Where a document describes this client
    #[arg(long, value_name = "URL")]
    client_metadata_url: Option<String>,
    /// The client logs in itself, without a person
    #[arg(long, requires = "client_id")]
    client_credentials: bool,
    /// A private key to sign with in place of a secret, a PEM file
    #[arg(long, value_name = "FILE", requires = "client_id")]
    private_key: Option<std::path::PathBuf>,
}

#[derive(clap::Args)]
struct Status {
    #[command(flatten)]
    which: Which,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Update {
    #[command(flatten)]
    which: Which,
    /// FIELD=VALUE, with `;` between the entries of a list (repeatable)
    #[arg(required = true, value_name = "FIELD=VALUE")]
    change: Vec<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
struct Delete {
    #[command(flatten)]
    which: Which,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let log = match globals.log("warn", Format::Human) {
        Ok(log) => log,
        Err(error) => return fail(USAGE, error),
    };
    let code = run::on_system(async move {
        match args.verb {
            Verb::Login(args) => login(args).await,
            Verb::Status(args) => status(args).await,
            Verb::Logout(which) => logout(&which).await,
            Verb::Client(verb) => client(verb).await,
        }
    });
    log.flush();
    code
}

async fn login(args: Login) -> u8 {
    let mut spec = match spec(&args.which) {
        Ok(spec) => spec,
        Err(error) => return fail(USAGE, error),
    };
    let settings = &mut spec.settings;
    settings.scopes = args.scope.as_deref().map(crate::auth::oauth::scope::split);
    settings.device = if args.device { Device::Prefer } else { Device::Auto };
    settings.browser = !args.no_browser;
    settings.callback_port = args.callback_port;
    settings.client_metadata_url = args.client_metadata_url;
    if args.client_credentials {
        settings.grant = Grant::ClientCredentials;
    }
    if let (Some(file), Some(client)) = (&args.private_key, &mut settings.client) {
        match std::fs::read_to_string(file) {
            Ok(pem) => client.key = Some(SigningKey { pem: pem.into(), algorithm: None }),
            Err(error) => return fail(USAGE, format!("{} cannot be read: {error}", file.display())),
        }
    }
    let headers = match headers(&args.which) {
        Ok(headers) => headers,
        Err(error) => return fail(USAGE, error),
    };
    let headers = match header_map(headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        Ok(headers) => headers,
        Err(error) => return fail(USAGE, error),
    };
    let server = spec.server.clone();
    match OAuth::new(spec).login(&headers).await {
        Ok(()) => {
            complain(format_args!("logged in to {server}"));
            OK
        }
        Err(error) => failed(error, LOGIN_NEEDED),
    }
}

async fn status(args: Status) -> u8 {
    let oauth = match spec(&args.which) {
        Ok(spec) => OAuth::new(spec),
        Err(error) => return fail(USAGE, error),
    };
    let status = oauth.status().await;
    if args.json {
        say(format_args!("{status:#}"));
    } else {
        say(told(&status));
    }
    let good = matches!(status["state"].as_str(), Some("valid" | "refreshable"));
    if good { OK } else { LOGIN_NEEDED }
}

/// A status in words.
fn told(status: &Value) -> String {
    let mut out = status["server"].as_str().unwrap_or_default().to_owned();
    let mut line = |name: &str, value: String| out.push_str(&format!("\n  {name:<14}{value}"));
    line(
        "state",
        match status["state"].as_str() {
            Some("valid") => "logged in".to_owned(),
            Some("refreshable") => "logged in; the token is renewed at its next use".to_owned(),
            Some("expired") => "the token has expired: log in again".to_owned(),
            _ => "not logged in".to_owned(),
        },
    );
    let token = &status["token"];
    if token.is_object() {
        let text = |key: &str| token[key].as_str().unwrap_or_default().to_owned();
        line("issuer", text("issuer"));
        line("client", text("client_id"));
        let scopes: Vec<&str> = token["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        line("scopes", if scopes.is_empty() { "those of the server's choice".to_owned() } else { scopes.join(" ") });
        let end = token["expires_at"].as_i64().and_then(|end| jiff::Timestamp::from_second(end).ok());
        line("expires", end.map_or_else(|| "the server does not say".to_owned(), |end| end.to_string()));
        line("refresh token", if token["refresh_token"] == true { "yes" } else { "no" }.to_owned());
    }
    for known in status["clients"].as_array().into_iter().flatten() {
        let managed = if known["managed"] == true { ", can be managed" } else { "" };
        let text = |key: &str| known[key].as_str().unwrap_or_default();
        line("registered", format!("{} with {}{managed}", text("client_id"), text("issuer")));
    }
    if let Some(file) = status["file"].as_str() {
        line("file", file.to_owned());
    }
    out
}

async fn logout(which: &Which) -> u8 {
    let oauth = match spec(which) {
        Ok(spec) => OAuth::new(spec),
        Err(error) => return fail(USAGE, error),
    };
    for undone in oauth.logout().await {
        complain(format_args!("hubward: {undone}"));
    }
    complain(format_args!("logged out of {}", which.url));
    OK
}

async fn client(verb: ClientVerb) -> u8 {
    let (ClientVerb::Show(which) | ClientVerb::Update(Update { which, .. }) | ClientVerb::Delete(Delete { which, .. })) =
        &verb;
    let oauth = match spec(which) {
        Ok(spec) => OAuth::new(spec),
        Err(error) => return fail(USAGE, error),
    };
    let known = match &verb {
        ClientVerb::Show(_) => oauth.client_show().await,
        ClientVerb::Update(args) => {
            let change: Result<Vec<_>, _> = args.change.iter().map(|text| registration::parse_change(text)).collect();
            let change = match change {
                Ok(change) => change,
                Err(error) => return fail(USAGE, error),
            };
            if !args.yes && !confirmed(&format!("change {}? [y/N] ", args.change.join(", ")), &["y", "yes"]) {
                return fail(USAGE, "nothing is changed; --yes does not ask");
            }
            oauth.client_update(&change).await
        }
        ClientVerb::Delete(args) => {
            let question = "The client is deleted for good, and its tokens with it. Type DELETE to do so: ";
            if !args.yes && !confirmed(question, &["DELETE"]) {
                return fail(USAGE, "nothing is deleted; --yes does not ask");
            }
            oauth.client_delete().await.map(|()| Value::Null)
        }
    };
    match known {
        Ok(Value::Null) => complain("the client is deleted"),
        Ok(known) => say(format_args!("{known:#}")),
        Err(error) => return failed(error, FAILED),
    }
    OK
}

/// Asks on a terminal. Without one the answer is no.
fn confirmed(question: &str, good: &[&str]) -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    good.contains(&answer.trim())
}

fn failed(error: AuthError, needed: u8) -> u8 {
    let code = if matches!(error, AuthError::Unreachable(_)) { UNREACHABLE } else { needed };
    fail(code, error)
}

/// The headers of the flags.
fn headers(which: &Which) -> Result<Vec<(String, String)>, String> {
    let pair = |line: &String| {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("--header {line:?} needs a colon"))?;
        Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    which.header.iter().map(pair).collect()
}

/// The flags as a specification. What is not secret in the environment comes by flags.
fn spec(which: &Which) -> Result<OAuthSpec, String> {
    let url = url::Url::parse(&which.url).map_err(|error| format!("{:?} is not a URL: {error}", which.url))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{:?} does not begin with http:// or https://", which.url));
    }
    let mut spec = OAuthSpec::new(url, Mode::Interactive);
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    spec.settings.client = which.client_id.clone().map(|id| Client {
        id,
        secret: which.client_secret.clone().map(SecretString::from),
        key: None,
        issuer: None,
    });
    spec.settings.resource.clone_from(&which.resource);
    let headers = headers(which)?;
    spec.settings.tenant = settings::tenant(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    spec.settings.given.registration_token = variable("MCP_CLIENT_REGISTRATION_TOKEN").map(SecretString::from);
    spec.settings.given.registration_uri = variable("MCP_CLIENT_REGISTRATION_URI");
    Ok(spec)
}
