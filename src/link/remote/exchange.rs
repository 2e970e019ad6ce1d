//! A message on its way to a peer, and what comes back for it.

use std::borrow::Cow;

use bytes::Bytes;
use reqwest::{
    Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue},
};

use super::{
    Endpoint, Inbound, Transport,
    answer::{Answered, cut},
    events::{Events, Position},
    http::{self, Failure},
    marks,
    session::{PROTOCOL_VERSION, SESSION_ID, is_lost},
    sse, value,
};
use crate::wire::{
    Id, Kind, Message,
    envelope::{self, HEADER_MISMATCH},
    members, message,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EITHER: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
pub(super) const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

impl Endpoint {
    /// Sends a request and passes on all that comes back for it.
    pub(super) async fn exchange(&self, id: u64, request: &Message) {
        if self.mailbox.get().is_some() {
            return self.put_in(id, request).await;
        }
        let Err(failure) = self.converse(id, request).await else { return };
        if !self.falls_back(request, &failure) {
            return self.fail(id, failure).await;
        }
        match sse::open(self).await {
            // From here on this task is the reader of the stream.
            Ok(events) => {
                // The answer, which this very task reads, must not end it.
                self.under_way().remove(&id);
                tokio::join!(self.put_in(id, request), sse::read(self, events));
            }
            Err(also) => {
                tracing::debug!(upstream = %self.spec.name, ?also, "no HTTP+SSE either");
                self.fail(id, failure).await;
            }
        }
    }

    /// HTTP+SSE: a request whose answer comes by the one stream.
    async fn put_in(&self, id: u64, request: &Message) {
        match self.post(self.mailbox.get(), self.session_headers(), request).await {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => {
                let (status, head) = (response.status(), response.headers().clone());
                let page = self.body(response).await.unwrap_or_default();
                self.fail(id, Endpoint::refusal(status, &head, &page)).await;
            }
            Err(failure) => self.fail(id, failure).await,
        }
    }

    /// Is this what a server of 2024-11-05 says to a request (2026-07-28, basic/transports/streamable-http,
    /// backward compatibility)?
    fn falls_back(&self, request: &Message, failure: &Failure) -> bool {
        let refused = matches!(failure, Failure::Status { status, .. } if matches!(status.as_u16(), 400 | 404 | 405));
        refused && self.spec.transport == Transport::Auto && request.method() == "initialize"
    }

    async fn converse(&self, id: u64, request: &Message) -> Result<(), Failure> {
        let (mut renewed, mut refreshed) = (false, false);
        if request.method() == "tools/call" && version_of(request).is_some() && !self.marks().is_known() {
            // What it wants repeated in headers stands in its list only.
            marks::refresh(self, request).await;
        }
        loop {
            let (epoch, mut headers) = (self.session().epoch, HeaderMap::new());
            self.introduce(request, &mut headers);
            let in_session = headers.contains_key(SESSION_ID);
            let response = self.post(None, headers, request).await?;
            let (status, head) = (response.status(), response.headers().clone());
            if status.is_success() {
                let _ = self.control.transport.set(Transport::StreamableHttp);
                let answered = match kind_of(&head) {
                    Some("text/event-stream") => self.stream(id, request, response).await?,
                    _ => self.document(id, request, response).await?,
                };
                let Answered::Refused(error) = answered else { return Ok(()) };
                if refreshed || !self.is_stale(request, &error).await {
                    return self.pass_on(id, request, *error, &head).await;
                }
                refreshed = true;
                continue;
            }
            let body = self.body(response).await?;
            if in_session && !renewed && is_lost(status, &body) {
                self.renew(epoch).await?;
                renewed = true;
                continue;
            }
            let refusal = Endpoint::refusal(status, &head, &body);
            let Some(error) = answer_in(&body) else { return Err(refusal) };
            // What answers no request in particular may come from something that takes no requests here.
            let of_protocol = marks::code(&error).is_some_and(|code| (-32099..=-32020).contains(&code));
            let opens = matches!(request.method(), "initialize" | "server/discover");
            if error.id().is_none() && opens && !of_protocol {
                return Err(refusal);
            }
            let _ = self.control.transport.set(Transport::StreamableHttp);
            if refreshed || !self.is_stale(request, &error).await {
                return self.pass_on(id, request, error, &head).await;
            }
            refreshed = true;
        }
    }

    /// The headers that say what a request is.
    fn introduce(&self, request: &Message, headers: &mut HeaderMap) {
        let Some(version) = version_of(request) else {
            if request.method() != "initialize" {
                self.session().put_on(headers);
            }
            return;
        };
        // A request that stands alone (2026-07-28, basic/transports/streamable-http).
        let name = envelope::name_of(request);
        let own = [
            (PROTOCOL_VERSION, Some(version)),
            ("mcp-method", Some(request.method().to_owned())),
            ("mcp-name", name.map(Cow::into_owned)),
        ];
        for (header, text) in own {
            if let Some(value) = text.and_then(|text| value(&envelope::encode(&text))) {
                headers.insert(header, value);
            }
        }
        self.marks().put_on(request, headers);
    }

    /// Is an argument missing in the headers because the tool has changed (SEP-2243)? Then its marks are read again.
    async fn is_stale(&self, request: &Message, error: &Message) -> bool {
        let mismatch = marks::code(error) == Some(HEADER_MISMATCH.into());
        mismatch && request.method() == "tools/call" && marks::refresh(self, request).await
    }

    /// Sends one message.
    async fn post(
        &self,
        to: Option<&url::Url>,
        mut headers: HeaderMap,
        message: &Message,
    ) -> Result<Response, Failure> {
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, EITHER);
        if let Some(more) = message.headers() {
            http::adopt(&mut headers, more);
        }
        self.send(Method::POST, to, headers, Some(message.bytes().clone())).await
    }

    /// A notification, or an answer of ours: nothing comes back.
    pub(super) async fn tell(&self, message: &Message) {
        let epoch = self.session().epoch;
        let Some(failure) = self.tell_once(message).await else { return };
        // An answer is of no use to another session: whose question that was is forgotten as well.
        let lost = matches!(&failure, Failure::Status { status: StatusCode::NOT_FOUND, .. });
        let in_session = message.kind() == Kind::Notification && self.session().id.is_some();
        if lost && in_session && self.renew(epoch).await.is_ok() {
            self.tell_once(message).await;
        }
    }

    /// Tells a peer something, and answers why it does not take it.
    pub(super) async fn tell_once(&self, message: &Message) -> Option<Failure> {
        let failure = match self.post(self.mailbox.get(), self.session_headers(), message).await {
            Ok(response) if response.status().is_success() => return None,
            Ok(response) => {
                let (status, head) = (response.status(), response.headers().clone());
                let page = self.body(response).await.unwrap_or_default();
                Endpoint::refusal(status, &head, &page)
            }
            Err(failure) => failure,
        };
        tracing::debug!(upstream = %self.spec.name, method = message.method(), ?failure, "did not take a message");
        Some(failure)
    }

    /// A request of the link's own: its answer, and the head of the response.
    pub(super) async fn ask(&self, request: &Message, mut headers: HeaderMap) -> Result<(Message, HeaderMap), Failure> {
        let own = message::one(request.with_id(&own_id(), None));
        let request = own.ok_or_else(|| Failure::Odd("was asked nothing".into()))?;
        if version_of(&request).is_some() {
            self.introduce(&request, &mut headers);
        }
        let response = self.post(None, headers, &request).await?;
        let (status, head) = (response.status(), response.headers().clone());
        if status.is_success() && kind_of(&head) == Some("text/event-stream") {
            let (mut events, mut position) = (self.events(response), Position::default());
            loop {
                let event = events.next(&mut position).await.map_err(cut)?;
                match message::one(event.data.into()) {
                    Some(answer) if answer.kind() == Kind::Response => return Ok((answer, head)),
                    Some(other) => self.hear(Inbound::Message(other)).await,
                    None => {}
                }
            }
        }
        let body = self.body(response).await?;
        match answer_in(&body) {
            Some(answer) => Ok((answer, head)),
            None => Err(Endpoint::refusal(status, &head, &body)),
        }
    }

    pub(super) fn events(&self, response: Response) -> Events {
        Events::of(response, self.spec.message_bytes_max)
    }
}

/// An id that the Connection, which counts, does not use.
fn own_id() -> Id {
    Id::read(r#""hubward""#).unwrap_or(Id::BLANK)
}

/// The revision that a request names for itself.
pub(super) fn version_of(request: &Message) -> Option<String> {
    let [version] = request.meta([envelope::PROTOCOL_VERSION]).ok()?;
    members::string(version?).map(Cow::into_owned)
}

/// The content type, without its parameters.
pub(super) fn kind_of(head: &HeaderMap) -> Option<&str> {
    let kind = head.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next().unwrap_or(kind).trim())
}

/// The response in a body, if it is one.
pub(super) fn answer_in(body: &Bytes) -> Option<Message> {
    message::one(body.clone()).filter(|message| message.kind() == Kind::Response)
}
