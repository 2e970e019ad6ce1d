//! The stream of a session that belongs to no request: what the peer says unasked (2025-11-25, basic/transports).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Method, StatusCode, header::ACCEPT};
use tokio::task::JoinSet;

use super::{
    Endpoint, Inbound,
    events::Position,
    exchange::{EVENTS, kind_of},
    value,
};
use crate::wire::{
    Id, Kind,
    message::{self, Body},
};

/// The longest pause before the stream is asked for again.
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Endpoint {
    /// Opens the stream, where there is a session that has one.
    pub(super) fn stand_by(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        if self.mailbox.get().is_some() {
            self.control.hears.send_replace(Some(true));
            return;
        }
        let endpoint = self.clone();
        tasks.spawn(async move { endpoint.listen().await });
    }

    async fn listen(&self) {
        let mut position = Position::default();
        let mut pause = position.retry;
        loop {
            let epoch = self.session().epoch;
            let renewed = self.control.renewed.notified();
            let mut headers = self.session_headers();
            headers.insert(ACCEPT, EVENTS);
            if let Some(id) = position.last_id.as_deref().and_then(value) {
                headers.insert("last-event-id", id);
            }
            let was_open = *self.control.hears.borrow() == Some(true);
            match self.send(Method::GET, None, headers, None).await {
                Ok(response)
                    if response.status().is_success() && kind_of(response.headers()) == Some("text/event-stream") =>
                {
                    self.control.hears.send_replace(Some(true));
                    let mut events = self.events(response);
                    let heard = async {
                        while let Ok(event) = events.next(&mut position).await {
                            pause = position.retry;
                            self.hear_unasked(event.data.into()).await;
                        }
                    };
                    tokio::select! {
                        () = heard => {}
                        () = renewed => {}
                    }
                    if self.session().epoch != epoch {
                        // Another session has other events.
                        position.last_id = None;
                    }
                }
                Ok(response)
                    if response.status() == StatusCode::NOT_FOUND && was_open && self.session().id.is_some() =>
                {
                    position.last_id = None;
                    let _ = self.renew(epoch).await;
                }
                // It offers none, or the one it has is somebody's already.
                Ok(response) if response.status().is_client_error() && !was_open => {
                    self.control.hears.send_replace(Some(false));
                    return;
                }
                Ok(_) | Err(_) => {
                    position.last_id = position.last_id.take().filter(|_| was_open);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) async fn hear_unasked(&self, data: Bytes) {
        match message::read_upstream(data) {
            Ok(Body::One(message)) => {
                // An answer that came another way: nobody has to come back for it.
                let astray = message.kind() == Kind::Response && self.mailbox.get().is_none();
                let answered = message.id().filter(|_| astray).and_then(Id::as_u64);
                self.hear(Inbound::Message(message)).await;
                if let Some(task) = answered.and_then(|id| self.under_way().remove(&id)) {
                    task.abort();
                }
            }
            Ok(Body::Batch(messages)) => self.hear(Inbound::Batch(messages)).await,
            Err(error) => {
                tracing::warn!(upstream = %self.spec.name, "an event that is no message was skipped: {error}");
            }
        }
    }
}
