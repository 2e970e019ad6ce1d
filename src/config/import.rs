//! What other clients are configured with, as upstreams of `hub.toml`. Pure: a text comes in, upstreams and notes go out.
//!
//! Nothing is executed, and nothing is lost in silence: what cannot be said in `hub.toml` becomes a note. A note names
//! keys and variables, and never a value.

mod auth;
mod bridge;
mod client;
mod entry;
mod places;
mod reference;
mod registry;
mod secret;
mod settle;
mod shape;
mod tree;

use std::path::Path;

pub use client::Client;
pub use places::{Spot, spots};
pub use settle::{Place, Ready, SecretFile, Settled, settle};
pub use tree::{Syntax, SyntaxError, TEXT_BYTES_MAX};

use super::edit::NewUpstream;

/// More servers than anybody has.
const SERVERS_MAX: usize = 500;

/// Where a text comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Absolute; or a word for what is no file.
    pub path: &'a Path,
    pub home: Option<&'a Path>,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    pub client: Client,
    pub servers: Vec<Server>,
    /// What concerns no one server.
    pub notes: Vec<String>,
}

/// One server, its texts as `hub.toml` has them.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// As the client calls it.
    pub name: String,
    pub new: NewUpstream,
    pub notes: Vec<String>,
}

/// Reads a client's file.
pub fn read(text: &str, origin: &Origin<'_>) -> Result<Imported, SyntaxError> {
    let name = origin.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let root = tree::read(text, Syntax::guess(&name, text))?;
    let mut found = shape::read(&root, origin);
    if found.servers.len() > SERVERS_MAX {
        found.notes.push(format!("only the first {SERVERS_MAX} servers were read"));
        found.servers.truncate(SERVERS_MAX);
    }
    Ok(found)
}
