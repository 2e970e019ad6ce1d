//! What callers and owners hold of a connection: the receiving end of a call, and a watch that keeps nothing open.

use super::*;

/// What the owner of a peer may know of the connection to it.
#[derive(Clone)]
pub struct ConnectionWatch(pub(super) Arc<Inner>);

impl ConnectionWatch {
    /// Resolves when nobody wants the connection any more.
    pub async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// Resolves when nothing more comes from the peer.
    pub async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// Resolves when no call is accepted any more.
    pub async fn over(&self) {
        tokio::select! {
            () = self.closing() => {}
            () = self.ended() => {}
        }
    }

    /// Resolves when a call has timed out.
    pub async fn suspected(&self) {
        self.0.suspected.notified().await;
    }

    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Did the peer end it, unasked? Callers that let go of it afterwards change nothing.
    pub fn died(&self) -> bool {
        self.0.died.load(Ordering::Relaxed)
    }

    /// Calls under way; cancelled ones do not count.
    pub fn in_flight(&self) -> usize {
        self.0.table().under_way()
    }

    /// Time since anything came from the peer.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(self.0.now().saturating_sub(self.0.heard.load(Ordering::Relaxed)))
    }

    /// Time since the last call was sent or ended.
    pub fn unused_for(&self) -> Duration {
        Duration::from_millis(self.0.now().saturating_sub(self.0.used.load(Ordering::Relaxed)))
    }

    /// Why it ended or is ending.
    pub fn why(&self) -> Arc<str> {
        self.0.why()
    }

    /// Lets the peer go; `why` is what calls in flight are told.
    pub fn close(&self, why: &str) {
        self.0.shut(why, true);
    }

    /// Lets a peer go that is of no use any more.
    pub fn give_up(&self, why: &str) {
        self.0.shut(why, false);
    }

    /// Lets the peer go if no call is under way. A call that comes now is told so before anything is sent.
    pub fn close_unused(&self, why: &str) {
        let table = self.0.table();
        if table.under_way() == 0 {
            self.close(why);
        }
    }

    /// Sends a `subscriptions/listen` (2026-07-28). It is open until its reply is dropped, or a final event comes.
    pub async fn listen(&self, message: &Message, events: &queue::Sender) -> Result<Reply, CallError> {
        let nobody = Caller { key: OURSELVES, askable: false, logs: false };
        self.0.send(message, nobody, true, events).await
    }

    /// Asks the peer for a sign of life, with a request that it has to answer.
    pub async fn answers(&self, method: &str, params: Option<&str>, limit: Duration) -> bool {
        self.0.request(method, params, limit).await.is_ok()
    }
}

/// The receiving end of one call. Dropping it before the final event cancels the call.
#[derive(Debug)]
pub struct Reply {
    pub(super) connection: Arc<Inner>,
    pub(super) id: u64,
    /// `initialize` may not be cancelled (2025-11-25, basic/utilities/cancellation).
    pub(super) cancellable: bool,
    pub(super) sent: bool,
}

impl Reply {
    /// The id that the peer knows the call by.
    pub fn number(&self) -> u64 {
        self.id
    }

    /// Cancels the call with a reason other than "the client left".
    pub fn cancel(self, reason: &str) {
        self.connection.abandon(self.id, reason, self.sent && self.cancellable);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.connection.abandon(self.id, "the client is gone", self.sent && self.cancellable);
    }
}
