//! What comes from the peer, and whose it is.

use super::*;
use crate::link::{home::Lease, tap::Passed};

impl Inner {
    pub(super) fn handle(self: &Arc<Self>, inbound: Inbound) {
        self.show(Passed::From(&inbound));
        let silence = CallError::is_silence;
        if !matches!(&inbound, Inbound::Doubt) && !matches!(&inbound, Inbound::Failed(_, error) if silence(error)) {
            self.heard.store(self.now(), Ordering::Relaxed);
        }
        match inbound {
            Inbound::Message(message) => self.route(message, None),
            Inbound::About(id, message) => self.route(message, Some(id)),
            Inbound::Failed(id, error) => self.fail(id, error),
            Inbound::Unreadable(_) => self.drop_one("what is no message"),
            Inbound::Doubt => self.suspected.notify_one(),
            Inbound::Batch(messages) if self.batches.load(Ordering::Relaxed) => {
                messages.into_iter().for_each(|message| self.route(message, None));
            }
            Inbound::Batch(messages) => {
                self.drop_one("a batch its revision does not have");
                let owned = messages.iter().filter(|message| message.kind() == Kind::Response);
                for id in owned.filter_map(|message| message.id()?.as_u64()) {
                    self.fail(id, CallError::Batched { name: self.name.clone() });
                }
            }
            Inbound::TooLong { id, bytes } => match id.and_then(|id| id.as_u64()) {
                Some(id) => self.fail(id, CallError::TooLong { name: self.name.clone(), bytes }),
                None => self.drop_one("a message above message_bytes_max"),
            },
        }
    }

    /// `about`: the call on whose stream it came.
    pub(super) fn route(self: &Arc<Self>, message: Message, about: Option<u64>) {
        match (message.kind(), message.method()) {
            (Kind::Response, _) => self.respond(message),
            (Kind::Request, "ping") => {
                let Some(id) = message.id() else { return };
                self.post(message::response(id, "{}"));
            }
            (Kind::Request, "sampling/createMessage" | "elicitation/create" | "roots/list") => {
                self.ask(message, about);
            }
            (Kind::Request, method) => {
                let why = format!("the client does not know the method {method}");
                self.post(message::error_response(message.id(), METHOD_NOT_FOUND, &why, None));
            }
            (Kind::Notification, "notifications/progress") => self.progress(&message),
            (Kind::Notification, "notifications/message") => match self.logger(about) {
                Some(events) => drop(events.try_send(Event::Log(message))),
                None => (self.unsolicited)(message),
            },
            (Kind::Notification, "notifications/cancelled") => self.withdraw(&message),
            (Kind::Notification, _) => match envelope::subscription(&message) {
                Some(id) => self.notice(id, message),
                None => (self.unsolicited)(message),
            },
        }
    }

    pub(super) fn respond(self: &Arc<Self>, message: Message) {
        let (pending, asks) = match message.id().and_then(Id::as_u64) {
            Some(id) => {
                let mut table = self.table();
                let pending = table.pending.remove(&id);
                table.answered(id);
                // A question of one client's process may have been another call's: then it stays open.
                let heir = (self.attribution == Attribution::OneClient).then(|| table.latest_askable()).flatten();
                (pending, table.disown(id, heir))
            }
            None => (None, Vec::new()),
        };
        asks.iter().for_each(|ask| self.post(leftover(ask)));
        if pending.as_ref().is_some_and(|pending| pending.caller != OURSELVES) {
            self.used.store(self.now(), Ordering::Relaxed);
        }
        match pending {
            Some(Pending { original, state: PendingState::Waiting { room }, .. }) => {
                room.send(Event::Response(message.under(&original)));
            }
            // Cancelled before the server knew: dropped quietly (F21).
            Some(_) => {}
            None => self.drop_one("an answer to a call that is not there"),
        }
    }

    pub(super) fn progress(&self, message: &Message) {
        let Ok([Some(raw)]) = message.param(["progressToken"]) else { return };
        let span = message.span(raw);
        let table = self.table();
        let pending = Id::read(raw).and_then(|token| token.as_u64()).and_then(|id| table.pending.get(&id));
        match pending {
            Some(Pending { token: Some(token), state: PendingState::Waiting { room }, .. }) => {
                let _ = room.queue().try_send(Event::Progress(message.with(span, token.as_json())));
            }
            // Late progress of a call that was cancelled.
            Some(_) => {}
            None => {
                drop(table);
                self.drop_one("progress of a call that is not there");
            }
        }
    }

    /// Finds the call a question belongs to, or refuses it. Guessing would show one client's data to another.
    pub(super) fn ask(self: &Arc<Self>, message: Message, about: Option<u64>) {
        let Some(id) = message.id().cloned() else { return };
        let token = message.progress_token().ok().flatten();
        let asked = {
            let mut table = self.table();
            let call = match (about, self.attribution) {
                (Some(id), _) => Some(id).filter(|id| table.pending.get(id).is_some_and(|pending| pending.askable)),
                (None, Attribution::OneClient) => table.latest_askable(),
                (None, Attribution::Strangers) => table.alone(|_, _| true).filter(|id| table.pending[id].askable),
                (None, Attribution::Streams) => None,
            };
            let events = call.and_then(|call| match &table.pending.get(&call)?.state {
                PendingState::Waiting { room } => Some((call, room.queue().clone())),
                PendingState::Cancelled { .. } => None,
            });
            events.and_then(|(call, events)| {
                table.last_id += 1;
                let number = table.last_id;
                let method = message.method().into();
                let text = match &token {
                    // The client answers progress with the number, which it cannot use to reach another's ask.
                    Some((_, span)) => message.with(span.clone(), Id::from(number).as_json()),
                    None => message.bytes().clone(),
                };
                let message = message::one(text)?;
                let token = token.map(|(token, _)| token);
                table.asks.insert(number, PendingAsk { id: id.clone(), token, call, method, to: None });
                if events.try_send(Event::Ask(Ask { number, message })).is_err() {
                    table.asks.remove(&number);
                    return None;
                }
                Some(())
            })
        };
        if asked.is_none() {
            let why = "this request cannot be attributed to a request of one client (SEP-2260)";
            self.post(message::error_response(Some(&id), INVALID_PARAMS, why, None));
        }
    }

    /// The server takes a question of its own back.
    pub(super) fn withdraw(&self, message: &Message) {
        let Ok([Some(raw)]) = message.param(["requestId"]) else { return };
        let Some(id) = Id::read(raw) else { return };
        let mut table = self.table();
        let asked = |(_, ask): &(&u64, &PendingAsk)| ask.to.is_none() && ask.id == id;
        let Some(number) = table.asks.iter().find(asked).map(|(number, _)| *number) else {
            let ended = id.as_u64().filter(|id| table.pending.get(id).is_some_and(|pending| pending.standing));
            drop(table);
            let why = "it ended the subscription".into();
            return ended
                .into_iter()
                .for_each(|id| self.fail(id, CallError::Ended { name: self.name.clone(), why: Arc::clone(&why) }));
        };
        let Some(ask) = table.asks.remove(&number) else { return };
        if let Some(Pending { state: PendingState::Waiting { room }, .. }) = table.pending.get(&ask.call) {
            let _ = room.queue().try_send(Event::Withdrawn { ask: number });
        }
    }

    /// The queue of the one call that a log message can be about.
    pub(super) fn logger(&self, about: Option<u64>) -> Option<queue::Sender> {
        let table = self.table();
        let call = match (about, self.attribution) {
            (Some(id), _) => Some(id).filter(|id| table.pending.get(id).is_some_and(|pending| pending.logs)),
            (None, Attribution::Strangers) => table.alone(|_, pending| pending.logs),
            (None, Attribution::Streams) => None,
            (None, Attribution::OneClient) => {
                // What a cancelled call of the same client still says is no secret from it, and one that waits for its
                // client's answer has little to say.
                let asks = |id| table.asks.values().any(|ask| ask.call == id);
                let works = |id, pending: &Pending| pending.logs && pending.is_waiting() && !asks(id);
                table.alone(works).or_else(|| table.alone(|_, pending| pending.logs && pending.is_waiting()))
            }
        };
        match &table.pending.get(&call?)?.state {
            PendingState::Waiting { room } => Some(room.queue().clone()),
            PendingState::Cancelled { .. } => None,
        }
    }

    /// A notification that bears the id of the subscription it belongs to.
    pub(super) fn notice(&self, id: Id, message: Message) {
        let table = self.table();
        match id.as_u64().and_then(|id| table.pending.get(&id)).filter(|pending| pending.standing) {
            Some(Pending { state: PendingState::Waiting { room }, .. }) => {
                // A listener that does not keep up loses a notice, never the others their time.
                let _ = room.queue().try_send(Event::Notice(message));
            }
            // Late news of a subscription that was ended.
            Some(_) => {}
            None => {
                drop(table);
                self.drop_one("a notice of a subscription that is not there");
            }
        }
    }

    /// The end: each call in flight hears of it once.
    pub(super) fn end(&self, why: &str) {
        let _ = self.why.set((why.into(), false));
        self.died.store(!self.closing.is_cancelled(), Ordering::Relaxed);
        let pending = {
            let mut table = self.table();
            table.ended = true;
            // What we ask in its name is asked again of the next one.
            table.asks.retain(|_, ask| ask.to.is_some());
            std::mem::take(&mut table.pending)
        };
        self.over.store(true, Ordering::Release);
        self.ended.cancel();
        for pending in pending.into_values() {
            if let PendingState::Waiting { room } = pending.state {
                room.send(Event::Failed { id: pending.original, error: self.lost() });
            }
        }
    }

    pub(super) fn drop_one(&self, what: &str) {
        let count = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        // The first few, then each power of two: a flood must not become a flood of log lines.
        if count <= 5 || count.is_power_of_two() {
            tracing::warn!(upstream = %self.name, count, "dropped {what}");
        }
    }
}

/// Hears the peer until its end. Or until its lease is over: then it is to go on elsewhere with what it answers.
pub(super) async fn read<O: Future<Output = String>>(
    inner: Arc<Inner>,
    (mut from, obituary): (mpsc::Receiver<Inbound>, O),
    lease: Lease,
) -> Option<(mpsc::Receiver<Inbound>, O)> {
    while let Some(inbound) = from.recv().await {
        inner.handle(inbound);
        if lease.is_over() {
            return Some((from, obituary));
        }
    }
    let why = match inner.why.get() {
        Some((why, _)) => why.to_string(),
        None => {
            let known = tokio::time::timeout(OBITUARY_WAIT_MAX, obituary).await;
            known.unwrap_or_else(|_| "closed its output".to_owned())
        }
    };
    inner.end(&why);
    None
}
