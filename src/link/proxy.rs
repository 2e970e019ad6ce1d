//! Two links, one before the other: what a client says goes to a server, and what the server says comes back.
//!
//! Messages pass as they are, whatever they mean; only the ids of the client's requests are replaced by numbers, which
//! every kind of link understands, and put back. Who is here and who may do what is not asked: that is a hub's business.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Inbound, Link, Outbound};
use crate::wire::{
    Id, Kind, Message,
    message::{self, INTERNAL_ERROR, INVALID_REQUEST},
};

/// Requests of the client that may be under way; one more is answered with an error.
const UNDER_WAY_MAX: usize = 1024;

/// What the two directions know together.
#[derive(Default)]
struct Numbers {
    last: u64,
    /// The client's ids.
    under_way: HashMap<u64, Id>,
}

/// Passes messages on until either side ends; then what is under way is answered with an error, as far as there is
/// anybody to hear it. `client`: the link whose peer asks, such as our own stdin and stdout. `server`: the one whose peer
/// answers.
pub async fn proxy(client: Link, server: Link) {
    let numbers = Mutex::<Numbers>::default();
    let (to_client, to_server) = (client.to, server.to);
    tokio::select! {
        () = ask(client.from, &to_client, &to_server, &numbers) => {}
        () = answer(server.from, &to_client, &numbers) => {}
        () = to_client.closed() => {}
    }
    let left: Vec<Id> = lock(&numbers).under_way.drain().map(|(_, id)| id).collect();
    for id in left {
        let why = "the server has ended while the request was under way";
        let _ = to_client.try_send(message::error_response(Some(&id), INTERNAL_ERROR, why, None).into());
    }
}

async fn ask(
    mut from: mpsc::Receiver<Inbound>,
    to_client: &mpsc::Sender<Outbound>,
    to_server: &mpsc::Sender<Outbound>,
    numbers: &Mutex<Numbers>,
) {
    while let Some(inbound) = from.recv().await {
        let refused = |id: Option<&Id>, code, why: &str| message::error_response(id, code, why, None);
        let messages = match inbound {
            Inbound::Message(message) | Inbound::About(_, message) => vec![message],
            Inbound::Batch(messages) => messages,
            Inbound::Unreadable(error) => {
                let _ = to_client.send(refused(error.id.as_ref(), error.code, &error.why).into()).await;
                continue;
            }
            Inbound::TooLong { id, .. } => {
                let answer = refused(id.as_ref(), INVALID_REQUEST, "the message is too large");
                let _ = to_client.send(answer.into()).await;
                continue;
            }
            Inbound::Failed(..) | Inbound::Doubt => continue,
        };
        for message in messages {
            let id = message.id().filter(|_| message.kind() == Kind::Request).cloned();
            let passed = match (&id, message.method()) {
                (Some(id), _) => numbered(&message, id, numbers),
                (None, "notifications/cancelled") => cancelled(&message, numbers),
                _ => Some(message.bytes().clone()),
            };
            let sent = match passed {
                Some(bytes) => to_server.send(Outbound { bytes, headers: message.headers().cloned() }).await,
                None if id.is_some() => {
                    let answer = refused(id.as_ref(), INTERNAL_ERROR, "too many requests are under way");
                    to_client.send(answer.into()).await
                }
                // What it cancels is over.
                None => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

/// A request with a number for its id.
fn numbered(request: &Message, id: &Id, numbers: &Mutex<Numbers>) -> Option<Bytes> {
    let mut numbers = lock(numbers);
    if numbers.under_way.len() >= UNDER_WAY_MAX {
        return None;
    }
    numbers.last += 1;
    let number = numbers.last;
    numbers.under_way.insert(number, id.clone());
    Some(request.with_id(&Id::from(number), None))
}

/// A cancellation, by the number that the server knows the request by.
fn cancelled(message: &Message, numbers: &Mutex<Numbers>) -> Option<Bytes> {
    let [raw] = message.param(["requestId"]).ok()?;
    let raw = raw?;
    let id = Id::read(raw)?;
    let numbers = lock(numbers);
    let number = numbers.under_way.iter().find(|(_, own)| **own == id).map(|(number, _)| *number)?;
    Some(message.with(message.span(raw), Id::from(number).as_json()))
}

async fn answer(mut from: mpsc::Receiver<Inbound>, to_client: &mpsc::Sender<Outbound>, numbers: &Mutex<Numbers>) {
    let known = |id: Option<&Id>| lock(numbers).under_way.remove(&id?.as_u64()?);
    while let Some(inbound) = from.recv().await {
        let messages = match inbound {
            Inbound::Message(message) | Inbound::About(_, message) => vec![message],
            Inbound::Batch(messages) => messages,
            Inbound::Failed(number, error) => {
                let Some(id) = known(Some(&Id::from(number))) else { continue };
                let answer = message::error_response(Some(&id), INTERNAL_ERROR, &error.to_string(), None);
                let _ = to_client.send(answer.into()).await;
                continue;
            }
            Inbound::TooLong { id, bytes } => {
                let Some(id) = known(id.as_ref()) else { continue };
                let why = format!("the answer has {bytes} bytes, which is too many");
                let _ = to_client.send(message::error_response(Some(&id), INTERNAL_ERROR, &why, None).into()).await;
                continue;
            }
            Inbound::Unreadable(_) | Inbound::Doubt => continue,
        };
        for message in messages {
            let bytes = match message.kind() {
                Kind::Response => match known(message.id()) {
                    Some(id) => message.with_id(&id, None),
                    None if message.id().is_none() => message.bytes().clone(),
                    None => {
                        tracing::debug!("an answer belongs to no request, or to one that was cancelled");
                        continue;
                    }
                },
                _ => message.bytes().clone(),
            };
            if to_client.send(bytes.into()).await.is_err() {
                return;
            }
        }
    }
}

fn lock(numbers: &Mutex<Numbers>) -> MutexGuard<'_, Numbers> {
    numbers.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Peer, connection::CallError, pair};

    fn said(text: &'static str) -> Inbound {
        Inbound::Message(message::one(Bytes::from_static(text.as_bytes())).expect("a message"))
    }

    async fn heard(peer: &mut Peer) -> String {
        String::from_utf8_lossy(&peer.from.recv().await.expect("a message").bytes).into_owned()
    }

    #[tokio::test]
    async fn s4_76_what_passes_a_proxy_passes_as_it_is_and_ids_come_back() {
        let ((client, mut asks), (server, mut answers)) = (pair(), pair());
        let proxy = tokio::spawn(proxy(client, server));
        asks.to.send(said(r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"x":1}}"#)).await.expect("room");
        assert_eq!(heard(&mut answers).await, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"x":1}}"#);
        answers.to.send(said(r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage"}"#)).await.expect("room");
        assert_eq!(heard(&mut asks).await, r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage"}"#);
        asks.to.send(said(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#)).await.expect("room");
        assert_eq!(heard(&mut answers).await, r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
        answers.to.send(said(r#"{"jsonrpc":"2.0","id":1,"result":{ "y" : 2 }}"#)).await.expect("room");
        assert_eq!(heard(&mut asks).await, r#"{"jsonrpc":"2.0","id":"a","result":{ "y" : 2 }}"#);
        asks.to.send(said(r#"{"jsonrpc":"2.0","id":3,"method":"tools/call"}"#)).await.expect("room");
        assert!(heard(&mut answers).await.contains(r#""id":2"#));
        let cancel =
            said(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3,"reason":"r"}}"#);
        asks.to.send(cancel).await.expect("room");
        assert!(heard(&mut answers).await.contains(r#"{"requestId":2,"reason":"r"}"#));
        let gone = CallError::Odd { name: "s".into(), why: "is odd".into() };
        answers.to.send(Inbound::Failed(2, gone)).await.expect("room");
        assert!(heard(&mut asks).await.contains(r#""id":3,"error""#));
        asks.to.send(said(r#"{"jsonrpc":"2.0","id":"last","method":"ping"}"#)).await.expect("room");
        heard(&mut answers).await;
        drop(answers);
        assert!(heard(&mut asks).await.contains(r#""id":"last","error""#), "the end is an answer too");
        proxy.await.expect("an end");
    }

    #[tokio::test]
    async fn s4_76_requests_under_way_have_a_maximum() {
        let ((client, mut asks), (server, mut answers)) = (pair(), pair());
        tokio::spawn(proxy(client, server));
        for _ in 0..UNDER_WAY_MAX {
            asks.to.send(said(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)).await.expect("room");
            heard(&mut answers).await;
        }
        asks.to.send(said(r#"{"jsonrpc":"2.0","id":"more","method":"ping"}"#)).await.expect("room");
        assert!(heard(&mut asks).await.contains("too many requests"));
    }
}
