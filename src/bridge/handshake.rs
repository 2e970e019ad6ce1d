//! A Connection becomes a [`Profile`]: `initialize`, then `notifications/initialized`.
//!
//! Both are ours. A client's own `notifications/initialized` is consumed, because requests may overtake it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Profile, Speaks,
    era::{self, Verdict},
    older::{hub_info, own_params},
};
use crate::{
    link::connection::{CallError, Connection},
    wire::{Revision, envelope::VERSION, message},
};

/// What an upstream is told of the client, in `initialize`; JSON, which is smaller than its tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello(Box<str>);

impl Hello {
    /// The greeting of a client whose own process this is: what it said, minus what cannot be bridged.
    pub fn of_client(mut params: Value, revision: Revision) -> Hello {
        params["protocolVersion"] = revision.as_str().into();
        if let Some(capabilities) = params.get_mut("capabilities").and_then(Value::as_object_mut) {
            capabilities.remove("tasks");
        }
        if let Some(params) = params.as_object_mut() {
            params.remove("_meta");
        }
        Hello(params.to_string().into())
    }

    /// The hub's own greeting to a process that strangers share: nothing may be asked of them,
    /// because nobody could say whom.
    pub fn shared() -> Hello {
        Hello::of_hub(json!({}))
    }

    /// The hub's own greeting to a process that serves one call at a time: all may be asked,
    /// and each caller is checked when it is.
    pub fn single_calls() -> Hello {
        Hello::of_hub(json!({ "roots": {}, "sampling": {}, "elicitation": {} }))
    }

    /// The hub's own greeting to a server that strangers share and that answers each on a stream of its own: a question
    /// on it is certain. Roots are not: servers keep the first answer for everybody.
    pub fn streams() -> Hello {
        Hello::of_hub(json!({ "sampling": {}, "elicitation": { "form": {}, "url": {} } }))
    }

    fn of_hub(capabilities: Value) -> Hello {
        let params = json!({
            "protocolVersion": Revision::LATEST.as_str(),
            "capabilities": capabilities,
            "clientInfo": hub_info(),
        });
        Hello(params.to_string().into())
    }
}

/// Why an upstream could not be greeted.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("it refused `initialize`: {0}")]
    Refused(String),
    #[error("its answer to `initialize` names the unknown protocol revision `{0}`")]
    Revision(String),
    #[error("it speaks none of the protocol revisions known here, but {0}")]
    Neither(String),
    #[error("it did not answer `server/discover` as a server of {VERSION} does")]
    NotModern,
    #[error("it refused `initialize` in favour of revision {VERSION}; is `era` right?")]
    NotLegacy,
}

/// A probe that is answered with silence is followed by `initialize` after this.
const SILENCE: Duration = Duration::from_secs(1);

/// One that refuses `initialize` then may still answer the probe for so long.
const REFUSED: Duration = Duration::from_secs(5);

/// How a process is to be greeted.
#[derive(Clone, Debug)]
pub enum Greeting {
    Legacy(Hello),
    Modern,
    /// It is not known what it speaks. An older one is of no use after the question: some end, some are confused.
    Ask,
}

/// What came of a greeting.
#[derive(Debug)]
pub enum Met {
    Ready(Profile),
    /// It was asked, and is to be started again and greeted with `initialize`, or as a newer one.
    Again {
        modern: bool,
    },
}

/// Greets an upstream, or finds out how to.
pub async fn meet(
    connection: &Connection,
    greeting: &Greeting,
    name: &str,
    limit: Duration,
    remote: bool,
) -> Result<Met, HandshakeError> {
    let verdict = match greeting {
        Greeting::Legacy(hello) => return greet(connection, hello, limit).await.map(Met::Ready),
        Greeting::Modern => discover(connection, name, limit).await?,
        Greeting::Ask if remote => probe_remote(connection, name, limit).await?,
        Greeting::Ask => probe(connection, name, limit).await?,
    };
    let asked = matches!(greeting, Greeting::Ask);
    match verdict {
        Verdict::Modern(profile) => {
            connection.heeds_cancels();
            Ok(Met::Ready(profile))
        }
        Verdict::Legacy if asked => Ok(Met::Again { modern: false }),
        Verdict::Newer if asked => Ok(Met::Again { modern: true }),
        Verdict::Legacy | Verdict::Newer => Err(HandshakeError::NotModern),
        Verdict::Neither(versions) => Err(HandshakeError::Neither(versions)),
    }
}

/// Asks for what the newer revision has in place of a handshake. A refusal that names this very revision is worth
/// another try (2026-07-28, basic/versioning).
async fn discover(connection: &Connection, name: &str, limit: Duration) -> Result<Verdict, CallError> {
    let params = own_params(None);
    let ask = async || connection.request("server/discover", params.as_deref(), limit).await;
    match era::judge(&ask().await?, name) {
        Verdict::Newer => Ok(era::judge(&ask().await?, name)),
        verdict => Ok(verdict),
    }
}

/// Finds out what a process speaks. Silence alone says nothing, because a start may be slow: so `initialize` follows,
/// and whichever is answered decides. An end says "older" too.
async fn probe(connection: &Connection, name: &str, limit: Duration) -> Result<Verdict, CallError> {
    let greeted = async {
        tokio::time::sleep(SILENCE).await;
        let answer = connection.request("initialize", Some(&Hello::shared().0), limit).await;
        match answer.map(|answer| (era::judge(&answer, name), answer.result().is_none())) {
            // A newer server refuses it in many ways, and may be slow with the first question.
            Ok((Verdict::Legacy, true)) => {
                tokio::time::sleep(REFUSED).await;
                Ok(Verdict::Legacy)
            }
            verdict => verdict.map(|(verdict, _)| verdict),
        }
    };
    let verdict = tokio::select! {
        biased;
        verdict = discover(connection, name, limit) => verdict,
        verdict = greeted => verdict,
    };
    match verdict {
        Err(CallError::Lost { .. }) => Ok(Verdict::Legacy),
        verdict => verdict,
    }
}

/// Finds out what a remote server speaks. Silence is an outage there, and so are refusals that say "later" or "who are
/// you?"; any other refusal without a word of the protocol is an older server's (2026-07-28,
/// basic/transports/streamable-http, backward compatibility).
async fn probe_remote(connection: &Connection, name: &str, limit: Duration) -> Result<Verdict, CallError> {
    match discover(connection, name, limit).await {
        // Not allowed, too slow, too early, too often: whatever it speaks, it would say so.
        Err(error @ CallError::Status { status: 401 | 403 | 408 | 425 | 429, .. }) => Err(error),
        Err(CallError::Status { status: 400..=499, ref retry_after, .. }) if retry_after.is_none() => {
            Ok(Verdict::Legacy)
        }
        Err(CallError::Odd { .. }) => Ok(Verdict::Legacy),
        verdict => verdict,
    }
}

/// Greets an upstream.
pub async fn greet(connection: &Connection, hello: &Hello, limit: Duration) -> Result<Profile, HandshakeError> {
    let answer = connection.request("initialize", Some(&hello.0), limit).await?;
    let Some(result) = answer.result() else {
        if era::judge(&answer, "") == Verdict::Newer {
            return Err(HandshakeError::NotLegacy);
        }
        let error: Value = serde_json::from_str(answer.error().unwrap_or("null")).unwrap_or_default();
        let text = error["message"].as_str().unwrap_or("without a message");
        return Err(HandshakeError::Refused(text.chars().take(300).collect()));
    };
    let result: Value = serde_json::from_str(result).unwrap_or_default();
    let version = result["protocolVersion"].as_str().unwrap_or_default();
    let revision =
        Revision::read(version).ok_or_else(|| HandshakeError::Revision(version.chars().take(40).collect()))?;
    connection.allow_batches(revision.batches());
    connection.notify(message::notification("notifications/initialized", None)).await?;
    Ok(Profile::new(Speaks::Legacy(revision), result))
}
