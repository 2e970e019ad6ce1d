//! The device flow (RFC 8628): a code that is typed on another machine, for those without a browser.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    discovery::Issuer,
    http::{Fault, Http, shown},
    token::{self, Granted, Identity},
};

/// How often is asked where the server does not say.
const INTERVAL: Duration = Duration::from_secs(5);
/// What `slow_down` adds.
const SLOWER: Duration = Duration::from_secs(5);
/// The least and the longest wait between two questions.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// A login that waits for a person with a browser elsewhere.
#[derive(Debug)]
pub struct Waiting {
    device_code: String,
    /// What has to be typed.
    pub code: String,
    /// Where.
    pub url: String,
    interval: Duration,
    /// When the code ends.
    pub end: Instant,
}

/// Asks for a code.
pub async fn begin(
    http: &Http,
    issuer: &Issuer,
    identity: &Identity,
    scopes: &[String],
    resource: &str,
) -> Result<Waiting, Fault> {
    let Some(endpoint) = &issuer.device else {
        return Err(Fault::wrong(format!("{} does not offer logins by a code", shown(&issuer.name))));
    };
    let mut form = vec![("resource", resource.to_owned())];
    if !scopes.is_empty() {
        form.push(("scope", scopes.join(" ")));
    }
    let answer = token::post(http, endpoint, &issuer.name, identity, form).await?;
    let text = |key: &str| answer[key].as_str().filter(|text| !text.is_empty());
    let (Some(device_code), Some(code)) = (text("device_code"), text("user_code")) else {
        return Err(Fault::wrong(format!("{} gives no code to log in with", shown(&issuer.name))));
    };
    let url =
        text("verification_uri_complete").or_else(|| text("verification_uri")).or_else(|| text("verification_url"));
    let url = http.checked(url.unwrap_or_default()).await?;
    let seconds = |key: &str| answer[key].as_u64().map(Duration::from_secs);
    let life = seconds("expires_in").unwrap_or(Duration::from_secs(600)).min(Duration::from_secs(3600));
    Ok(Waiting {
        device_code: device_code.to_owned(),
        code: shown(code),
        url: url.to_string(),
        interval: seconds("interval").unwrap_or(INTERVAL).min(INTERVAL_MAX),
        end: Instant::now() + life,
    })
}

/// Asks until the person has typed the code.
pub async fn wait(
    http: &Http,
    issuer: &Issuer,
    identity: &Identity,
    waiting: &Waiting,
    resource: &str,
) -> Result<Granted, Fault> {
    let endpoint = token::endpoint(issuer)?;
    let mut interval = waiting.interval;
    loop {
        if Instant::now() + interval >= waiting.end {
            return Err(Fault::wrong("the code was not entered in time: ask again"));
        }
        tokio::time::sleep(interval).await;
        let form = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code".to_owned()),
            ("device_code", waiting.device_code.clone()),
            ("resource", resource.to_owned()),
        ];
        match token::ask(http, endpoint, &issuer.name, identity, form).await {
            Ok(granted) => return Ok(granted),
            Err(fault) if fault.is("authorization_pending") => {}
            Err(fault) if fault.is("slow_down") => interval = (interval + SLOWER).min(INTERVAL_MAX),
            Err(fault) if fault.is("expired_token") => return Err(Fault::wrong("the code has expired: ask again")),
            // The network is gone for a moment: less often (RFC 8628, 3.5).
            Err(Fault::Unreachable(_)) => interval = (interval * 2).clamp(SLOWER, INTERVAL_MAX),
            Err(fault) => return Err(fault),
        }
    }
}
