//! A Connection becomes a [`Profile`]: `initialize`, then `notifications/initialized`.
//!
//! Both are ours. A client's own `notifications/initialized` is consumed, because requests may overtake it.

use std::time::Duration;

use serde_json::{Value, json};

use super::Profile;
use crate::{
    link::connection::{CallError, Connection},
    wire::{Revision, message},
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
    Ok(Profile { revision, result })
}
