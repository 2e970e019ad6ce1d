//! A Connection becomes a [`Profile`]: `initialize`, then `notifications/initialized`.
//!
//! Both are ours. A client's own `notifications/initialized` is consumed, because requests may overtake it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Profile, Speaks,
    era::{self, Verdict},
    older::Introduction,
};
use crate::{
    link::connection::{CallError, Connection},
    wire::{Message, Revision, envelope::VERSION, message},
};

/// What an upstream is told of the client, in `initialize`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello(Value);

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
        Hello(params)
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

    fn of_hub(capabilities: Value) -> Hello {
        Hello(json!({
            "protocolVersion": Revision::LATEST.as_str(),
            "capabilities": capabilities,
            "clientInfo": { "name": "hubward", "version": env!("CARGO_PKG_VERSION") },
        }))
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
    #[error("it did not answer `server/discover` as a server of {VERSION} does (era = \"modern\")")]
    NotModern,
}

/// A probe that is answered with silence is followed by `initialize` after this.
const SILENCE: Duration = Duration::from_secs(1);

/// How a process is to be greeted.
#[derive(Clone, Debug)]
pub enum Greeting {
    Legacy(Hello),
    Modern,
    /// It is not known what it speaks. An older one is of no use after the question: some end, some are confused.
    Ask,
}

/// Greets an upstream; none where it was asked, and turned out to be older.
pub async fn meet(
    connection: &Connection,
    greeting: &Greeting,
    name: &str,
    limit: Duration,
) -> Result<Option<Profile>, HandshakeError> {
    let profile = match greeting {
        Greeting::Legacy(hello) => greet(connection, hello, limit).await.map(Some),
        Greeting::Modern => match era::judge(&discover(connection, limit).await?, name) {
            Verdict::Modern(profile) => Ok(Some(profile)),
            Verdict::Neither(versions) => Err(HandshakeError::Neither(versions)),
            Verdict::Legacy => Err(HandshakeError::NotModern),
        },
        Greeting::Ask => match probe(connection, name, limit).await? {
            Verdict::Modern(profile) => Ok(Some(profile)),
            Verdict::Legacy => Ok(None),
            Verdict::Neither(versions) => Err(HandshakeError::Neither(versions)),
        },
    }?;
    if profile.as_ref().is_some_and(Profile::is_modern) {
        connection.heeds_cancels();
    }
    Ok(profile)
}

async fn discover(connection: &Connection, limit: Duration) -> Result<Message, CallError> {
    let params = Introduction::of_hub().put_on(None, None);
    connection.request("server/discover", params.as_deref(), limit).await
}

/// Finds out what a process speaks. Silence alone says nothing, because a start may be slow: so `initialize` follows,
/// and whichever is answered decides. An end says "older" too.
async fn probe(connection: &Connection, name: &str, limit: Duration) -> Result<Verdict, CallError> {
    let discovered = discover(connection, limit);
    let greeted = async {
        tokio::time::sleep(SILENCE).await;
        connection.request("initialize", Some(&Hello::shared().0.to_string()), limit).await
    };
    let answer = tokio::select! {
        biased;
        answer = discovered => answer,
        answer = greeted => answer,
    };
    match answer {
        Ok(answer) => Ok(era::judge(&answer, name)),
        Err(CallError::Lost { .. }) => Ok(Verdict::Legacy),
        Err(error) => Err(error),
    }
}

/// Greets an upstream.
pub async fn greet(connection: &Connection, hello: &Hello, limit: Duration) -> Result<Profile, HandshakeError> {
    let answer = connection.request("initialize", Some(&hello.0.to_string()), limit).await?;
    let Some(result) = answer.result() else {
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
    Ok(Profile { speaks: Speaks::Legacy(revision), result })
}
