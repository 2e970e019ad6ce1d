//! What is under way on a Connection: calls by our id, and the questions that came back.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::connection::{OURSELVES, queue::Room};
use crate::wire::{
    Id, Message,
    message::{self, INTERNAL_ERROR},
};

/// How long an id that was cancelled still counts as busy when messages are attributed.
const TOMBSTONE_AGE_MAX: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Table {
    pub last_id: u64,
    pub pending: HashMap<u64, Pending>,
    pub asks: HashMap<u64, PendingAsk>,
    pub ended: bool,
    /// After it has read that a call is cancelled the server sends nothing more for it (2026-07-28, basic/transports/stdio).
    pub heeds_cancels: bool,
    /// Cancelled calls that such a server may not have read of, each with the newest id when it was told: an answer to
    /// a newer one tells that it has.
    unheeded: Vec<(u64, u64)>,
    /// When the oldest call was cancelled that may still be kept.
    oldest: Option<Instant>,
}

pub(super) struct Pending {
    pub original: Id,
    pub token: Option<Id>,
    /// May the server ask the client something on behalf of this call?
    pub askable: bool,
    /// May a log message without an address concern it?
    pub logs: bool,
    /// A subscription: it lasts as long as it is wanted, and is no work that is under way.
    pub standing: bool,
    pub caller: u64,
    pub state: PendingState,
}

pub(super) enum PendingState {
    Waiting {
        room: Room,
    },
    /// Cancelled; kept so that a late answer is known for what it is.
    Cancelled {
        at: Instant,
        /// The server has read of it, and is one that says nothing more then.
        silent: bool,
    },
}

pub(super) struct PendingAsk {
    /// The id the upstream gave it.
    pub id: Id,
    pub token: Option<Id>,
    /// The call it belongs to; 0 where it is ours.
    pub call: u64,
    pub method: Box<str>,
    /// Where its answer goes, if not to the upstream.
    pub to: Option<mpsc::Sender<Answer>>,
}

impl Pending {
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, PendingState::Waiting { .. })
    }

    /// Is it a call that the upstream has yet to answer?
    pub fn is_under_way(&self) -> bool {
        self.is_waiting() && !self.standing
    }
}

impl Table {
    /// Calls that are not answered yet, those included that wait for their client.
    pub fn under_way(&self) -> usize {
        let posed = self.asks.values().filter(|ask| ask.to.is_some()).count();
        posed + self.pending.values().filter(|pending| pending.is_under_way()).count()
    }

    /// The only one of these calls the upstream can be working on, if there is just one.
    pub fn alone(&self, among: impl Fn(u64, &Pending) -> bool) -> Option<u64> {
        let recent = |pending: &Pending| match pending.state {
            PendingState::Waiting { .. } => !pending.standing,
            PendingState::Cancelled { at, silent } => !pending.standing && !silent && at.elapsed() < TOMBSTONE_AGE_MAX,
        };
        let counts = |(id, pending): &(&u64, &Pending)| among(**id, pending) && recent(pending);
        let mut busy = self.pending.iter().filter(counts).map(|(id, _)| *id);
        match (busy.next(), busy.next()) {
            (Some(id), None) => Some(id),
            _ => None,
        }
    }

    /// The server was told that a call is cancelled.
    pub fn told_of(&mut self, id: u64) {
        if self.heeds_cancels {
            self.unheeded.push((id, self.last_id));
        }
    }

    /// An answer came: what was cancelled before its call was sent has been read of by now.
    pub fn answered(&mut self, id: u64) {
        let pending = &mut self.pending;
        self.unheeded.retain(|(cancelled, newest)| {
            let heeded = *newest < id;
            if heeded
                && let Some(PendingState::Cancelled { silent, .. }) =
                    pending.get_mut(cancelled).map(|pending| &mut pending.state)
            {
                *silent = true;
            }
            !heeded
        });
    }

    /// Is there no room for another call? One that was cancelled frees its place, but as long as its answer may
    /// still come it must be remembered, and that is bounded too.
    pub fn is_full(&self, calls_max: usize) -> bool {
        let counts = |pending: &&Pending| pending.is_waiting() && pending.caller != OURSELVES;
        let waiting = || self.pending.values().filter(counts).count();
        self.pending.len() >= calls_max && (self.pending.len() >= calls_max * 2 + 64 || waiting() >= calls_max)
    }

    /// The call that a question of one client's process most likely belongs to.
    pub fn latest_askable(&self) -> Option<u64> {
        let eligible = self.pending.iter().filter(|(_, pending)| pending.askable && pending.is_waiting());
        eligible.map(|(id, _)| *id).max()
    }

    /// Takes the questions of a call away from it: they go to another, or are returned, for somebody has to answer.
    pub fn disown(&mut self, call: u64, heir: Option<u64>) -> Vec<PendingAsk> {
        match heir {
            Some(heir) => {
                self.asks.values_mut().filter(|ask| ask.call == call).for_each(|ask| ask.call = heir);
                Vec::new()
            }
            None => self.asks.extract_if(|_, ask| ask.call == call).map(|(_, ask)| ask).collect(),
        }
    }

    /// Forgets cancelled calls whose answer will not come any more.
    pub fn bury(&mut self) {
        // Each call comes by here, and mostly nobody has cancelled any.
        if self.oldest.is_none_or(|oldest| oldest.elapsed() < TOMBSTONE_AGE_MAX) {
            return;
        }
        self.oldest = None;
        self.pending.retain(|_, pending| match pending.state {
            PendingState::Waiting { .. } => true,
            PendingState::Cancelled { at, .. } => {
                let stays = at.elapsed() < TOMBSTONE_AGE_MAX;
                if stays {
                    self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
                }
                stays
            }
        });
        let pending = &self.pending;
        self.unheeded.retain(|(id, _)| pending.contains_key(id));
    }

    /// A call was cancelled now, and is kept for a while.
    pub fn cancelled(&mut self, at: Instant) {
        self.oldest.get_or_insert(at);
    }
}

/// Calls that a server may interrupt with a question (2026-07-28, basic/patterns/mrtr, and SEP-2260).
pub(super) fn askable(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read" | "tasks/result")
}

/// What a server hears whose question outlived its call so that it does not wait for ever.
pub(super) fn leftover(ask: &PendingAsk) -> Bytes {
    match &*ask.method {
        "elicitation/create" => message::response(&ask.id, r#"{"action":"cancel"}"#),
        "sampling/createMessage" => {
            message::error_response(Some(&ask.id), -1, "the call this was asked for is over", None)
        }
        _ => message::error_response(Some(&ask.id), INTERNAL_ERROR, "the call this was asked for is over", None),
    }
}

/// The answer to a question of ours, by its number.
pub type Answer = (u64, Message);

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with a call 1 that was cancelled when 2 was the newest, and a call 2 like it that nobody was told of.
    fn table(heeds_cancels: bool) -> Table {
        let cancelled = || Pending {
            original: Id::from(7),
            token: None,
            askable: true,
            logs: true,
            standing: false,
            caller: 1,
            state: PendingState::Cancelled { at: Instant::now(), silent: false },
        };
        let mut table = Table { last_id: 2, heeds_cancels, ..Table::default() };
        table.pending.extend([(1, cancelled()), (2, cancelled())]);
        table.told_of(1);
        table
    }

    fn busy(table: &Table, id: u64) -> bool {
        table.alone(|other, _| other == id).is_some()
    }

    #[test]
    fn a_cancelled_call_is_silent_once_a_later_one_was_answered() {
        let mut table = table(true);
        table.answered(2);
        assert!(busy(&table, 1), "call 2 may have been answered before");
        table.answered(3);
        assert!(!busy(&table, 1) && busy(&table, 2));
    }

    #[test]
    fn an_older_server_may_say_more_of_a_cancelled_call() {
        let mut table = table(false);
        table.answered(3);
        assert!(busy(&table, 1) && busy(&table, 2));
    }
}
