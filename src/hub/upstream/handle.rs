//! The way to an upstream, for those who know no actors.

use super::*;
use crate::wire::{
    message::INTERNAL_ERROR,
    trouble::{Reason, Retry, Trouble},
};

/// An upstream cannot be called now.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("upstream `{name}` is not available: {reason}")]
pub struct Unavailable {
    pub name: Name,
    pub reason: String,
    /// The reason in one word.
    pub why: Reason,
    /// When to come back; none where only a changed configuration helps.
    pub retry_after: Option<Duration>,
    /// Its last lines on stderr, where callers may see them.
    pub stderr: Vec<String>,
}

impl Unavailable {
    pub fn new(name: &Name, reason: &str, retry_after: Option<Duration>) -> Unavailable {
        let why = Reason::Failed;
        Unavailable { name: name.clone(), reason: reason.to_owned(), why, retry_after, stderr: Vec::new() }
    }

    /// The same for another reason than a failure.
    pub fn because(self, why: Reason) -> Unavailable {
        Unavailable { why, ..self }
    }

    /// What the caller is told.
    pub fn trouble(&self) -> Trouble {
        let (mut text, retry) = (self.to_string(), Retry::from(self.retry_after));
        if let Some(last) = self.stderr.last() {
            text += &last_words(last);
        }
        let trouble = Trouble::new(INTERNAL_ERROR, self.why, retry, text).of(self.name.as_str());
        Trouble { stderr: self.stderr.clone(), ..trouble }.advised()
    }
}

pub(super) type Outcome = Result<Arc<Bridged>, Unavailable>;

/// A caller found no live connection.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Connect {
    /// Isolation `session`: whose own process it shall be.
    pub session: Option<Arc<Session>>,
    /// Closed when the caller has left.
    pub waiter: oneshot::Sender<Outcome>,
}

/// The way to an Upstream, for those who know no actors.
#[derive(Clone)]
pub struct UpstreamHandle {
    name: Name,
    address: Option<Addr<Upstream>>,
    patience: Duration,
    /// Why there is no actor.
    absent: (Reason, &'static str),
}

impl UpstreamHandle {
    pub fn to(name: &Name, address: Addr<Upstream>, config: &UpstreamConfig) -> UpstreamHandle {
        // A start has its own deadline; this one covers the wait for the permit to start.
        let patience = config.start_timeout * 2;
        UpstreamHandle { name: name.clone(), address: Some(address), patience, absent: (Reason::Failed, "") }
    }

    /// The handle of an upstream that is switched off.
    pub fn absent(name: &Name, why: Reason, text: &'static str) -> UpstreamHandle {
        UpstreamHandle { name: name.clone(), address: None, patience: Duration::ZERO, absent: (why, text) }
    }

    #[cfg(test)]
    pub fn poison(&self) {
        self.address.as_ref().expect("an actor").try_send(Poison).expect("room in its mailbox");
    }

    /// The same way with changed timeouts.
    pub fn with(self, config: &UpstreamConfig) -> UpstreamHandle {
        UpstreamHandle { patience: config.start_timeout * 2, ..self }
    }

    /// Asks for a connection, and waits for it.
    pub async fn connect(&self, session: Option<&Arc<Session>>) -> Outcome {
        let Some(address) = &self.address else {
            return Err(Unavailable::new(&self.name, self.absent.1, None).because(self.absent.0));
        };
        let soon = Some(Duration::from_secs(1));
        // The actor keeps one end only, so that it sees a caller leave.
        let (waiter, outcome) = oneshot::channel();
        let connected = async {
            address.send(Connect { session: session.cloned(), waiter }).await.ok()?;
            outcome.await.ok()
        };
        match tokio::time::timeout(self.patience, connected).await {
            Ok(Some(outcome)) => outcome,
            // The actor is being rebuilt, or was retired this instant.
            Ok(None) => Err(Unavailable::new(&self.name, "it is being replaced", soon).because(Reason::Draining)),
            Err(_) => Err(Unavailable::new(&self.name, "it is still starting", soon).because(Reason::Starting)),
        }
    }
}
