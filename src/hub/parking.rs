//! Calls that wait for their client's answer (2026-07-28, basic/patterns/mrtr).
//!
//! An older server asks in mid call, and waits. A client of this era gets the question as the *end* of its request,
//! and answers with a retry. In between the call is parked here: a task owns it, and each retry is a watcher of that
//! task. A retry that is sent twice joins the same wait; one that belongs to an earlier round is refused; a call
//! whose client does not come back, or leaves in mid wait, is cancelled.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::dispatch::Calls;
use crate::{
    bridge::{Abilities, ask::judge, content, seal::Sealer},
    link::connection::{Ask, Event},
    wire::{Id, message},
};

/// How long sibling questions are waited for, so that they make one round.
const GATHER: Duration = Duration::from_millis(50);
/// Parked calls of the whole hub.
const PARKED_MAX: usize = 20_000;

/// All parked calls.
pub struct Parking {
    pub sealer: Option<Sealer>,
    calls: Mutex<HashMap<u64, mpsc::Sender<Retry>>>,
    last: AtomicU64,
}

/// A client came back with answers.
pub struct Retry {
    pub round: u32,
    /// Key and result, as JSON.
    pub answers: Vec<(String, String)>,
    pub watcher: mpsc::Sender<Outcome>,
}

/// What a watcher sees.
#[derive(Debug)]
pub enum Outcome {
    /// Progress or a log message, with the first request's token.
    Event(Event),
    /// The client is asked; this ends its request. Key and `{method, params}` of each question.
    Asked { call: u64, round: u32, questions: Vec<(String, String)> },
    /// The state belongs to an earlier round.
    Stale,
}

struct Parked {
    number: u64,
    calls: Calls,
    abilities: Abilities,
    round: u32,
    /// Key, the connection's number of the ask, and the question.
    open: Vec<(String, u64, String)>,
    watchers: Vec<mpsc::Sender<Outcome>>,
    /// The latest progress that nobody was there to see.
    unseen: Option<Bytes>,
    /// How the call ended, while nobody was there to see.
    end: Option<Event>,
    /// Until when an answer may come.
    deadline: Instant,
}

impl Parking {
    pub fn new() -> Arc<Parking> {
        Arc::new(Parking { sealer: Sealer::new(), calls: Mutex::default(), last: AtomicU64::new(0) })
    }

    /// Is there room for one more?
    pub fn has_room(&self) -> bool {
        self.len() < PARKED_MAX
    }

    /// Parks a call that was asked something. What becomes of it is told to the watcher.
    pub fn park(self: &Arc<Self>, calls: Calls, ask: Ask, abilities: Abilities) -> mpsc::Receiver<Outcome> {
        let (watcher, outcomes) = mpsc::channel(64);
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (to, retries) = mpsc::channel(16);
        self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(number, to);
        let parked = Parked {
            number,
            calls,
            abilities,
            round: 0,
            open: Vec::new(),
            watchers: vec![watcher],
            unseen: None,
            end: None,
            deadline: Instant::now(),
        };
        let parking = self.clone();
        tokio::task::spawn_local(async move {
            parked.run(ask, retries).await;
            parking.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&number);
        });
        outcomes
    }

    /// Brings a retry to its call. False: there is none.
    pub async fn join(&self, call: u64, retry: Retry) -> bool {
        let to = self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&call).cloned();
        match to {
            Some(to) => to.send(retry).await.is_ok(),
            None => false,
        }
    }

    pub fn len(&self) -> usize {
        self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Parked {
    async fn run(mut self, first: Ask, mut retries: mpsc::Receiver<Retry>) {
        let mut asks = vec![first];
        loop {
            if !asks.is_empty() && !self.ask(std::mem::take(&mut asks)).await {
                return;
            }
            let waited_for = !self.watchers.is_empty();
            // All who waited have left, and that is a cancellation.
            let abandoned = async {
                for watcher in &self.watchers {
                    watcher.closed().await;
                }
            };
            tokio::select! {
                biased;
                Some(retry) = retries.recv() => if self.retry(retry).await {
                    return;
                },
                event = self.calls.next(), if self.end.is_none() => match event {
                    Some(Event::Ask(ask)) => asks.push(ask),
                    Some(event) => if self.happens(event).await {
                        return;
                    },
                    None => return,
                },
                () = abandoned, if waited_for => return,
                () = tokio::time::sleep_until(self.deadline.into()), if !waited_for => return,
            }
        }
    }

    /// Something other than a question. Answers whether all is over.
    async fn happens(&mut self, event: Event) -> bool {
        if let Event::Withdrawn { ask } = event {
            self.open.retain(|(_, number, _)| *number != ask);
            return false;
        }
        let last = matches!(event, Event::Response(_) | Event::Failed { .. });
        if last && self.watchers.iter().all(|watcher| watcher.is_closed()) {
            // The client still thinks, and hears of it when it comes back.
            self.calls.release();
            self.end = Some(event);
            return false;
        }
        self.tell(event).await;
        last
    }

    /// Asks the client, with all questions that come within a moment. False: the call has ended meanwhile.
    async fn ask(&mut self, asks: Vec<Ask>) -> bool {
        asks.into_iter().for_each(|ask| self.add(ask));
        let gathered = tokio::time::sleep(GATHER);
        tokio::pin!(gathered);
        while self.end.is_none() {
            tokio::select! {
                () = &mut gathered => break,
                event = self.calls.next() => match event {
                    Some(Event::Ask(ask)) => self.add(ask),
                    Some(event) => if self.happens(event).await {
                        return false;
                    },
                    None => return false,
                },
            }
        }
        // Nobody waits who could be asked. One that comes back is asked what is open then.
        if self.open.is_empty() || self.watchers.is_empty() {
            return true;
        }
        if self.watchers.iter().all(|watcher| watcher.is_closed()) {
            return false;
        }
        self.round += 1;
        self.deadline = Instant::now() + self.calls.answer_timeout();
        for watcher in std::mem::take(&mut self.watchers) {
            let _ = watcher.send(self.asked()).await;
        }
        true
    }

    fn asked(&self) -> Outcome {
        let questions = self.open.iter().map(|(key, _, question)| (key.clone(), question.clone())).collect();
        Outcome::Asked { call: self.number, round: self.round, questions }
    }

    /// Takes a question in, or refuses it.
    fn add(&mut self, ask: Ask) {
        let Some(bridged) = self.calls.bridged().cloned() else { return };
        if let Err((code, why)) = judge(&ask.message, self.abilities) {
            bridged.connection.refuse(ask.number, code, why);
            return;
        }
        let mut secret = [0; 9];
        let _ = getrandom::fill(&mut secret);
        let question = crate::bridge::shape::question(ask.message.method(), ask.message.params());
        self.open.push((URL_SAFE_NO_PAD.encode(secret), ask.number, question));
    }

    /// The client is back. Answers whether all is over.
    async fn retry(&mut self, retry: Retry) -> bool {
        if retry.round != self.round {
            let _ = retry.watcher.send(Outcome::Stale).await;
            return false;
        }
        if let Some(end) = self.end.take() {
            let _ = retry.watcher.send(Outcome::Event(end)).await;
            return true;
        }
        let Some(bridged) = self.calls.bridged().cloned() else { return true };
        for (key, text) in &retry.answers {
            let Some(at) = self.open.iter().position(|(open, ..)| open == key) else { continue };
            let (_, number, _) = self.open.swap_remove(at);
            let result = content::answer(text, bridged.profile.speaks);
            let result = result.as_deref().unwrap_or(text);
            // A bare result as the response the server waits for.
            if let Some(response) = message::one(message::response(&Id::from(0), result)) {
                bridged.connection.answer(number, &response).await;
            }
        }
        match self.open.is_empty() {
            true => {
                self.calls.renew();
                if let Some(progress) = self.unseen.take() {
                    let _ = retry.watcher.send(Outcome::Event(Event::Progress(progress))).await;
                }
                self.watchers.push(retry.watcher);
            }
            // Missing answers are asked for again (2026-07-28, basic/patterns/mrtr).
            false => drop(retry.watcher.send(self.asked()).await),
        }
        false
    }

    async fn tell(&mut self, event: Event) {
        self.watchers.retain(|watcher| !watcher.is_closed());
        if self.watchers.is_empty()
            && let Event::Progress(bytes) = &event
        {
            self.unseen = Some(bytes.clone());
        }
        let copy = |event: &Event| match event {
            Event::Progress(bytes) => Some(Event::Progress(bytes.clone())),
            Event::Log(message) => Some(Event::Log(message.clone())),
            Event::Response(bytes) => Some(Event::Response(bytes.clone())),
            Event::Failed { id, error } => Some(Event::Failed { id: id.clone(), error: error.clone() }),
            Event::Ask(_) | Event::Withdrawn { .. } | Event::Notice(_) => None,
        };
        for watcher in &self.watchers {
            if let Some(event) = copy(&event) {
                let _ = watcher.send(Outcome::Event(event)).await;
            }
        }
    }
}
