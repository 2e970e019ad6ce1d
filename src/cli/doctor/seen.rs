//! What was seen of a server from outside. Plain data: the probes fill it in, and the judge looks at nothing else.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

/// All of it. What is `None` was not looked at, because something before it failed.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// As it was asked for.
    pub url: String,
    pub secure: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub addresses: Option<Result<Vec<IpAddr>, String>>,
    pub connected: Option<Result<Duration, String>>,
    /// The handshake, whoever answers.
    pub shown: Option<Result<Shown, String>>,
    /// Is who answers believed?
    pub trusted: Option<Result<(), String>>,
    /// A credential was sent along.
    pub credentialed: bool,
    /// To `initialize`, with all that we were given.
    pub answer: Option<Result<Answer, String>>,
    /// Where `answer` is none of Streamable HTTP: does a GET open the stream of HTTP+SSE?
    pub older: bool,
    /// It answers `/ping` as a hub does.
    pub hub: bool,
    /// The status for a Host that nobody has.
    pub foreign_host: Option<u16>,
    /// The status for an Origin that nobody has.
    pub foreign_origin: Option<u16>,
    /// Of each origin that is meant to call.
    pub pages: Vec<Page>,
    pub metadata: Option<Metadata>,
    pub stream: Option<Stream>,
    /// The revision that `initialize` settled on, and those of `server/discover`.
    pub legacy: Option<String>,
    pub modern: Option<Vec<String>>,
    /// As a client does it: who answers, in which revision, and how many tools it has.
    pub greeted: Option<Result<Greeted, String>>,
    pub now: Option<SystemTime>,
}

/// A certificate, and the handshake that it came in.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub version: String,
    pub names: Vec<String>,
    pub issuer: String,
    pub self_signed: bool,
    /// Certificates in all.
    pub chain: usize,
    /// Seconds of the epoch.
    pub not_before: i64,
    pub not_after: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub version: &'static str,
    pub after: Duration,
    /// Of the body, in one line.
    pub text: String,
    /// Where it leads, if it does.
    pub location: Option<String>,
    pub challenges: Vec<Challenge>,
    /// Of `initialize`: it is an answer as the protocol has it.
    pub is_mcp: bool,
}

/// What a 401 asks for.
#[derive(Clone, Debug, Default)]
pub struct Challenge {
    pub scheme: String,
    pub metadata: Option<String>,
    pub error: Option<String>,
}

/// A web page's way to the server.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub origin: String,
    /// Of a request with that Origin.
    pub status: u16,
    /// Of the preflight before it, and what it allows.
    pub preflight: u16,
    pub allows: Option<String>,
}

/// What RFC 9728 has at a well-known place.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pub status: u16,
    pub resource: Option<String>,
    pub issuers: Vec<String>,
    /// Why the first of them could not be asked.
    pub issuer_error: Option<String>,
}

/// An event stream that was opened, and watched for a while.
#[derive(Clone, Debug)]
pub enum Stream {
    /// It is not offered.
    None(u16),
    /// No head came.
    Nothing(Duration),
    /// The head came, and the first byte after it, if one did.
    Open { head: Duration, first: Option<Duration>, watched: Duration },
}

#[derive(Clone, Debug, Default)]
pub struct Greeted {
    pub name: String,
    pub revision: String,
    pub tools: Option<usize>,
}
