//! The way for commands to the running hub: a unix socket of its owner's.
//!
//! A connection is one command: a line of JSON that asks, such as `{"command":"accept","upstream":"time"}`, and lines
//! that answer, the last of them `{"done":true,"exit":0}`, with an `error` where it failed; `{"alive":true}` says that
//! the hub is still there. Only processes of the same
//! user are heard. Where the socket is, both sides find by the name of the hub.toml ([`place`]); who holds it, by a lock
//! that ends with the process ([`socket`]).

#![cfg_attr(docsrs, doc(hidden))]

pub mod place;

#[cfg(unix)]
pub mod ask;
#[cfg(unix)]
mod command;
#[cfg(unix)]
mod logs;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
pub mod socket;

#[cfg(unix)]
pub use serve::Admin;

/// Longest line of a question.
#[cfg(unix)]
const LINE_BYTES_MAX: usize = 64 << 10;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("the admin socket {} cannot be opened: {why}", path.display())]
pub struct SocketError {
    pub path: std::path::PathBuf,
    pub why: String,
}

/// Is it this user at the other end?
#[cfg(unix)]
fn is_own(stream: &tokio::net::UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw())
}
