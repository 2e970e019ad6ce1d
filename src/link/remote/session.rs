//! The session that a peer of the older era keeps for us, and how a lost one is opened again.

use std::collections::BTreeSet;

use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderValue},
};
use serde_json::{Value, json};

use super::{Endpoint, Inbound, http::Failure, value};
use crate::wire::{Id, Message, members, message};

pub(super) const SESSION_ID: &str = "mcp-session-id";
pub(super) const PROTOCOL_VERSION: &str = "mcp-protocol-version";

/// What the peer knows of us, and what it has to be told again when it has forgotten.
#[derive(Default)]
pub(super) struct Session {
    /// As the peer named it. Some name none.
    pub id: Option<HeaderValue>,
    /// The revision that was agreed on; none before that, and where requests stand alone.
    pub revision: Option<String>,
    /// How often it was opened.
    pub epoch: u64,
    initialize: Option<Message>,
    /// The lists whose changes it promised to tell.
    promised: Vec<&'static str>,
    level: Option<Message>,
    subscriptions: BTreeSet<String>,
}

/// Lists that a peer may promise to tell changes of, and how it does.
const LISTS: [(&str, &str); 3] = [
    ("tools", "notifications/tools/list_changed"),
    ("prompts", "notifications/prompts/list_changed"),
    ("resources", "notifications/resources/list_changed"),
];

impl Session {
    /// What names the session on a request. A request that opens one, or stands alone, has none.
    pub fn put_on(&self, headers: &mut HeaderMap) {
        if let Some(id) = &self.id {
            headers.insert(SESSION_ID, id.clone());
        }
        if let Some(revision) = self.revision.as_deref().and_then(value) {
            headers.insert(PROTOCOL_VERSION, revision);
        }
    }

    /// The peer has answered `initialize`.
    fn open(&mut self, initialize: &Message, result: &Value, id: Option<HeaderValue>) {
        let promised = |(name, _): &&(&str, &str)| result["capabilities"][*name]["listChanged"] == true;
        self.id = id;
        self.revision = result["protocolVersion"].as_str().map(str::to_owned);
        self.promised = LISTS.iter().filter(promised).map(|(_, method)| *method).collect();
        self.initialize = Some(initialize.clone());
        self.epoch += 1;
    }

    /// Keeps in mind what a new session would have to be told.
    pub fn learn(&mut self, request: &Message, answer: &Message, id: Option<&HeaderValue>) {
        let Some(result) = answer.result() else { return };
        let uri = || {
            let [uri] = request.param(["uri"]).ok()?;
            members::string(uri?).map(std::borrow::Cow::into_owned)
        };
        match request.method() {
            "initialize" => self.open(request, &serde_json::from_str(result).unwrap_or_default(), id.cloned()),
            "logging/setLevel" => self.level = Some(request.clone()),
            "resources/subscribe" => self.subscriptions.extend(uri()),
            "resources/unsubscribe" => drop(uri().map(|uri| self.subscriptions.remove(&uri))),
            _ => {}
        }
    }
}

/// Does a refusal say that the peer does not know the session? The revisions want 404; a good part of the servers
/// say 400 and so in words, as an example of the TypeScript SDK does.
pub(super) fn is_lost(status: StatusCode, body: &[u8]) -> bool {
    match status {
        StatusCode::NOT_FOUND => true,
        StatusCode::BAD_REQUEST => {
            let error = serde_json::from_slice::<Value>(body).unwrap_or_default();
            let text = error["error"]["message"].as_str().unwrap_or_default().to_ascii_lowercase();
            error["id"].is_null() && text.contains("session")
        }
        _ => false,
    }
}

impl Endpoint {
    /// Opens another session in place of a lost one, once for all who found it lost.
    pub(super) async fn renew(&self, epoch: u64) -> Result<(), Failure> {
        let _turn = self.renewing.lock().await;
        let (initialize, revision) = {
            let session = self.session();
            if session.epoch != epoch {
                return Ok(());
            }
            (session.initialize.clone(), session.revision.clone())
        };
        let Some(initialize) = initialize else { return Err(Failure::Odd("does not know a session it named".into())) };
        tracing::info!(upstream = %self.spec.name, "the peer lost its session; opening another");
        let renewed = async {
            let (answer, head) = self.ask(&initialize, HeaderMap::new()).await?;
            let result: Value = serde_json::from_str(answer.result().unwrap_or("null")).unwrap_or_default();
            if result["protocolVersion"].as_str() != revision.as_deref() {
                return Err(Failure::Odd("lost its session and opens no other of the same revision".into()));
            }
            self.session().open(&initialize, &result, head.get(SESSION_ID).cloned());
            Ok(())
        };
        if let Err(failure) = renewed.await {
            if !failure.is_network() {
                self.end("lost its session, and opens no other".into());
            }
            return Err(failure);
        }
        if let Some(initialized) = message::one(message::notification("notifications/initialized", None)) {
            self.tell_once(&initialized).await;
        }
        self.tell_again().await;
        self.control.renewed.notify_waiters();
        Ok(())
    }

    /// Tells a new session what the last one was told, and our side what it may have missed.
    async fn tell_again(&self) {
        let (level, uris, promised) = {
            let session = self.session();
            (session.level.clone(), session.subscriptions.clone(), session.promised.clone())
        };
        let subscribe = |uri: &String| {
            let params = json!({ "uri": uri }).to_string();
            message::one(message::request(&Id::from(0), "resources/subscribe", Some(&params)))
        };
        for request in level.into_iter().chain(uris.iter().filter_map(subscribe)) {
            let taken =
                self.ask(&request, self.session_headers()).await.is_ok_and(|(answer, _)| answer.result().is_some());
            if !taken {
                tracing::warn!(upstream = %self.spec.name, method = request.method(), "the new session did not take over all settings");
            }
        }
        let updated = |uri: &String| {
            let params = json!({ "uri": uri }).to_string();
            message::notification("notifications/resources/updated", Some(&params))
        };
        let missed = promised.iter().map(|method| message::notification(method, None)).chain(uris.iter().map(updated));
        for notice in missed.filter_map(message::one) {
            self.hear(Inbound::Message(notice)).await;
        }
    }

    pub(super) fn session_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.session().put_on(&mut headers);
        headers
    }

    /// Tells the peer that its session is over.
    pub(super) async fn take_leave(&self) {
        let has_session = self.session().id.is_some() && self.mailbox.get().is_none();
        if has_session {
            let _ = self.send(Method::DELETE, None, self.session_headers(), None).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p51_what_says_that_a_session_is_lost() {
        let check = |status: u16, body: &str, expected| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(is_lost(status, body.as_bytes()), expected, "{status} {body}");
        };
        check(404, "", true);
        check(404, r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}"#, true);
        check(
            400,
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"},"id":null}"#,
            true,
        );
        check(400, r#"{"jsonrpc":"2.0","error":{"code":-32602,"message":"session is no argument"},"id":7}"#, false);
        check(400, "Session", false);
        check(200, "", false);
    }
}
