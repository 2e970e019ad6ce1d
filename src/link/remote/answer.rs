//! What a peer answers to a request: one document, or a stream of messages up to the response.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    Method, Response,
    header::{ACCEPT, HeaderMap},
};

use super::{
    Endpoint, Inbound,
    events::{End, Events, Position},
    exchange::{EVENTS, kind_of, version_of},
    http::Failure,
    marks,
    session::SESSION_ID,
    value,
};
use crate::wire::{
    Id, Kind, Message,
    message::{self, Body},
};

/// Attempts to come back to a stream that broke off, one after the other without success.
const RESUMES_MAX: u32 = 5;

/// What became of a request.
pub(super) enum Answered {
    /// Its response was passed on.
    Done,
    /// The peer refused it with this, which is a response.
    Refused(Box<Message>),
}

impl Endpoint {
    /// A response that is one document.
    pub(super) async fn document(&self, id: u64, request: &Message, response: Response) -> Result<Answered, Failure> {
        let (status, head) = (response.status(), response.headers().clone());
        let body = self.body(response).await?;
        let messages = match message::read_upstream(body.clone()) {
            Ok(Body::One(message)) => vec![message],
            Ok(Body::Batch(messages)) => messages,
            Err(_) => {
                let kind = kind_of(&head).unwrap_or("no content type").to_owned();
                let length = body.len();
                let failure = Endpoint::refusal(status, &head, &body);
                tracing::debug!(upstream = %self.spec.name, ?failure, "answered a request with no message");
                return Err(Failure::Odd(format!(
                    "answered a request with HTTP {} and no message ({kind}, {length} bytes)",
                    status.as_u16()
                )));
            }
        };
        let mut answered = false;
        for message in messages {
            if is_answer(&message, id) {
                if marks::code(&message).is_some() {
                    return Ok(Answered::Refused(message.into()));
                }
                answered = true;
                self.pass_on(id, request, message, &head).await?;
            } else {
                self.hear(Inbound::About(id, message)).await;
            }
        }
        match answered {
            true => Ok(Answered::Done),
            false => Err(Failure::Odd("answered a request with messages that are no answer to it".into())),
        }
    }

    /// A response that is a stream: up to the answer, over as many connections as the peer wants.
    pub(super) async fn stream(&self, id: u64, request: &Message, response: Response) -> Result<Answered, Failure> {
        let head = response.headers().clone();
        let resumable = version_of(request).is_none();
        let (mut events, mut position) = (self.events(response), Position::default());
        loop {
            let event = match events.next(&mut position).await {
                Ok(event) if event.kind == "message" => event,
                Ok(_) => continue,
                Err(End::TooLong(bytes)) => return Err(Failure::TooLong(bytes as u64)),
                Err(_) if resumable && position.last_id.is_some() => {
                    events = self.resume(&position).await?;
                    continue;
                }
                Err(end) => return Err(cut(end)),
            };
            let message = match message::read_upstream(Bytes::from(event.data)) {
                Ok(Body::One(message)) => message,
                Ok(Body::Batch(messages)) => {
                    // An answer among several is the last word all the same.
                    let (answers, others): (Vec<_>, Vec<_>) =
                        messages.into_iter().partition(|message| is_answer(message, id));
                    for other in others {
                        self.hear(Inbound::About(id, other)).await;
                    }
                    match answers.into_iter().next() {
                        Some(answer) => answer,
                        None => continue,
                    }
                }
                Err(error) => {
                    tracing::warn!(upstream = %self.spec.name, "an event that is no message was skipped: {error}");
                    continue;
                }
            };
            if !is_answer(&message, id) {
                self.hear(Inbound::About(id, message)).await;
                continue;
            }
            if marks::code(&message).is_some() {
                return Ok(Answered::Refused(message.into()));
            }
            self.pass_on(id, request, message, &head).await?;
            return Ok(Answered::Done);
        }
    }

    /// Comes back to a stream that broke off (2025-11-25, basic/transports, resumability).
    async fn resume(&self, position: &Position) -> Result<Events, Failure> {
        let mut pause = position.retry;
        let mut failed = 0;
        loop {
            tokio::time::sleep(pause).await;
            let mut headers = self.session_headers();
            headers.insert(ACCEPT, EVENTS);
            if let Some(id) = position.last_id.as_deref().and_then(value) {
                headers.insert("last-event-id", id);
            }
            let failure = match self.send(Method::GET, None, headers, None).await {
                Ok(response)
                    if response.status().is_success() && kind_of(response.headers()) == Some("text/event-stream") =>
                {
                    return Ok(self.events(response));
                }
                Ok(response) => {
                    let (status, head) = (response.status(), response.headers().clone());
                    let failure = Endpoint::refusal(status, &head, b"");
                    if !status.is_server_error() {
                        return Err(failure);
                    }
                    failure
                }
                Err(failure) if failure.is_network() => failure,
                Err(failure) => return Err(failure),
            };
            failed += 1;
            if failed == RESUMES_MAX {
                return Err(failure);
            }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    /// Hands an answer to whoever waits for it, and keeps in mind what it says of the session and of tools.
    pub(super) async fn pass_on(
        &self,
        id: u64,
        request: &Message,
        answer: Message,
        head: &HeaderMap,
    ) -> Result<(), Failure> {
        self.session().learn(request, &answer, head.get(SESSION_ID));
        // Some servers answer a number with a string, or a request they could not read without any id.
        let own = Id::from(id);
        let answer = match answer.id() {
            Some(other) if *other != own => message::one(answer.with_id(&own, None)).unwrap_or(answer),
            Some(_) => answer,
            None => message::one(message::failure(&own, answer.error().unwrap_or("{}"))).unwrap_or(answer),
        };
        let listed = request.method() == "tools/list" && version_of(request).is_some();
        let answer = if listed { self.marks().learn(&self.spec.name, answer) } else { answer };
        self.hear(Inbound::About(id, answer)).await;
        Ok(())
    }
}

pub(super) fn cut(end: End) -> Failure {
    match end {
        End::Closed => Failure::Cut("its stream ended without one".into()),
        End::Broken(why) => Failure::Cut(why),
        End::TooLong(bytes) => Failure::TooLong(bytes as u64),
    }
}

/// Is this the answer to our request? One without an id, on a response of its own, can be nobody else's.
fn is_answer(message: &Message, id: u64) -> bool {
    message.kind() == Kind::Response
        && message.id().is_none_or(|found| found.as_json().trim_matches('"').parse() == Ok(id))
}
