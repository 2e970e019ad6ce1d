//! Ways to reach a peer: each file turns something into a [`Link`].
//!
//! A link is two bounded queues of messages. It ends when its `from` queue closes; what it stood for is
//! asked to end by dropping every sender of its `to` queue.

#![cfg_attr(docsrs, doc(hidden))]

pub mod connection;
pub mod home;
pub mod inside;
pub mod keepalive;
pub mod keeper;
mod ladder;
pub mod orphans;
pub mod pending;
pub mod process;
pub mod proxy;
mod pump;
pub mod remote;
pub mod sandbox;
mod stderr;
pub mod stdio;
pub mod streams;
pub mod tap;
pub mod tunnel;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::wire::{
    Id, Message,
    lines::Line,
    message::{Body, Headers, NotAMessage},
};
use connection::CallError;

/// Messages that may wait in one direction of a link.
pub const QUEUE_MAX: usize = 64;

/// Two bounded queues of messages to one peer.
#[derive(Debug)]
pub struct Link {
    /// What goes to the server.
    pub to: mpsc::Sender<Outbound>,
    /// What comes from it; its end is the end of the link.
    pub from: mpsc::Receiver<Inbound>,
    /// Where the tasks at its other end live, if they move: who reads `from` should live there too.
    home: Option<home::Home>,
}

/// What a peer is sent: one JSON-RPC object, or for 2025-03-26 one array.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// The message, without the end of line.
    pub bytes: Bytes,
    /// What came with it, and goes on where the peer is remote.
    pub headers: Option<Headers>,
}

impl From<Bytes> for Outbound {
    fn from(bytes: Bytes) -> Outbound {
        Outbound { bytes, headers: None }
    }
}

/// What a peer sent.
#[derive(Clone, Debug)]
pub enum Inbound {
    Message(Message),
    /// A message that came on the stream of a request of ours, by its id: it is about that one.
    About(u64, Message),
    /// Several messages in one array, as 2025-03-26 allows.
    Batch(Vec<Message>),
    /// A message above the limit: it was thrown away unread but for its id.
    TooLong {
        id: Option<Id>,
        bytes: u64,
    },
    /// What a client sent that is no message.
    Unreadable(NotAMessage),
    /// There will be no answer to a request of ours.
    Failed(u64, CallError),
    /// The peer could not be reached: is it still there?
    Doubt,
}

impl Inbound {
    /// What a line brings, read as what such a peer says.
    fn read(line: Line, read: impl Fn(Bytes) -> Result<Body, NotAMessage>) -> Inbound {
        match line {
            Line::TooLong { id, bytes } => Inbound::TooLong { id, bytes },
            Line::Whole(line) => match read(line) {
                Ok(Body::One(message)) => Inbound::Message(message),
                Ok(Body::Batch(messages)) => Inbound::Batch(messages),
                Err(error) => Inbound::Unreadable(error),
            },
        }
    }
}

/// The other end of a [`Link`]: what a peer sees of us.
#[derive(Debug)]
pub struct Peer {
    /// What goes to the server.
    pub from: mpsc::Receiver<Outbound>,
    /// What comes from it.
    pub to: mpsc::Sender<Inbound>,
}

/// A link and the peer at its end.
pub fn pair() -> (Link, Peer) {
    let (to, from_us) = mpsc::channel(QUEUE_MAX);
    let (to_us, from) = mpsc::channel(QUEUE_MAX);
    (Link { to, from, home: None }, Peer { from: from_us, to: to_us })
}
