//! Another service decides, as with Traefik's ForwardAuth: it is asked about each request.

use std::{sync::Arc, time::Duration};

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use tokio::sync::Semaphore;

use super::{Denied, Principal, share::Shares};
use crate::config::{ForwardConfig, hash, hex};

/// It answers within this time, or nobody comes in.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// Questions at once.
const QUESTIONS_MAX: usize = 256;
/// The longest challenge that is passed on.
const CHALLENGE_BYTES_MAX: usize = 2048;

/// What the service is told of a request: its head, never its body.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    pub method: String,
    pub uri: String,
    pub host: String,
    pub proto: &'static str,
    pub address: String,
    /// `Authorization`, `Cookie` and `X-API-Key`, as they came.
    pub credentials: Vec<(&'static str, Vec<u8>)>,
}

pub(super) struct Forward {
    config: ForwardConfig,
    http: Option<reqwest::Client>,
    room: Semaphore,
    shares: Arc<Shares>,
}

impl Forward {
    pub(super) fn new(config: ForwardConfig, shares: Arc<Shares>) -> Forward {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(ANSWER_WAIT_MAX);
        let http = client.build().inspect_err(|error| tracing::error!("cannot ask {}: {error}", config.url)).ok();
        Forward { config, http, room: Semaphore::new(QUESTIONS_MAX), shares }
    }

    pub(super) async fn ask(&self, outline: Outline) -> Result<Principal, Denied> {
        let unsure = || Denied::Unsure("the service that decides about access does not answer");
        let http = self.http.as_ref().ok_or_else(unsure)?;
        let _room = self.room.try_acquire().map_err(|_| unsure())?;
        let mut request = http.get(self.config.url.clone());
        let forwarded = [
            ("x-forwarded-method", outline.method.as_str()),
            ("x-forwarded-uri", &outline.uri),
            ("x-forwarded-host", &outline.host),
            ("x-forwarded-proto", outline.proto),
            ("x-forwarded-for", &outline.address),
        ];
        for (name, value) in forwarded {
            request = request.header(name, value);
        }
        for (name, value) in &outline.credentials {
            request = request.header(*name, value.as_slice());
        }
        let answer = request.send().await.map_err(|error| {
            tracing::warn!("{} was asked about a caller: {}", self.config.url, crate::auth::cause(&error));
            unsure()
        })?;
        match answer.status().as_u16() {
            200..=299 => Ok(self.named(answer.headers(), &outline)),
            // A page to log in at is of no use to a program.
            status @ (300..=399 | 401 | 403) => Err(Denied::Refused {
                status: if status == 403 { 403 } else { 401 },
                challenge: text(answer.headers(), WWW_AUTHENTICATE.as_str(), CHALLENGE_BYTES_MAX),
            }),
            status => {
                tracing::warn!("{} was asked about a caller and answers HTTP {status}", self.config.url);
                Err(unsure())
            }
        }
    }

    /// Whom the service names; without a name callers are told apart by what they showed.
    fn named(&self, headers: &HeaderMap, outline: &Outline) -> Principal {
        if let Some(name) = text(headers, &self.config.user_header, 256) {
            return Principal::of_user(&name, &name, &self.shares);
        }
        let shown: Vec<u8> =
            outline.credentials.iter().flat_map(|(name, value)| [name.as_bytes(), value].concat()).collect();
        let mark = hex(&hash(&String::from_utf8_lossy(&shown)));
        Principal::of_user(&format!("unnamed {mark}"), "unnamed", &self.shares)
    }
}

fn text(headers: &HeaderMap, name: &str, bytes_max: usize) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= bytes_max).then(|| text.to_owned())
}
