//! What a session hears that belongs to none of its calls, and where.

use super::*;
use crate::{
    bridge::feed::{KINDS, missed},
    hub::audience::is_within,
};

impl Session {
    /// Puts a message that belongs to no call where the client reads such messages.
    pub fn say(&self, bytes: Bytes) {
        self.state().streams.push(STANDALONE, bytes);
    }

    /// Adds a listener of a client without sessions.
    pub fn listen(&self, listen: Listen) {
        self.state().listens.push(listen);
    }

    /// The resources that an upstream took for a listener.
    pub fn listens_to(&self, number: u64, uris: &BTreeSet<String>) {
        if let Some(listen) = self.state().listens.iter_mut().find(|listen| listen.number == number) {
            listen.uris.clone_from(uris);
        }
    }

    /// Takes a listener out. Answers the resources that no other listener of this client wants.
    pub fn unlisten(&self, number: u64) -> Vec<String> {
        let mut state = self.state();
        let Some(at) = state.listens.iter().position(|listen| listen.number == number) else { return Vec::new() };
        let gone = state.listens.swap_remove(at);
        gone.uris.into_iter().filter(|uri| !state.listens.iter().any(|other| other.uris.contains(uri))).collect()
    }

    /// Does the client want to hear of this resource, or of what it is a part of?
    pub fn wants(&self, uri: &str) -> bool {
        let state = self.state();
        state.subscriptions.iter().any(|whole| is_within(whole, uri))
            || state.listens.iter().any(|listen| listen.wants(uri))
    }

    /// Does the client hear of changes of a list? One without sessions says so.
    pub fn hears_of(&self, method: &str) -> bool {
        let named = |listen: &Listen| listen.methods.iter().any(|own| own == method);
        self.transport != Transport::Stateless || self.state().listens.iter().any(named)
    }

    pub fn is_listening(&self) -> bool {
        !self.state().listens.is_empty()
    }

    /// Puts a message that belongs to no call onto what the client reads.
    fn pass_on(&self, state: &mut State, message: &Message) {
        if self.transport != Transport::Stateless {
            return state.streams.push(STANDALONE, message.bytes().clone());
        }
        let uri = crate::hub::audience::uri_of(message);
        for listen in &state.listens {
            let wanted = match &uri {
                Some(uri) => listen.wants(uri),
                None => listen.methods.iter().any(|method| method == message.method()),
            };
            if wanted {
                // A listener that does not keep up loses a notice, never the hub its time.
                let _ = listen.to.try_send(message.clone());
            }
        }
    }

    /// Passes on what the session's own process says to no call in particular.
    pub fn hear(self: &Arc<Self>, message: &Message) {
        match is_list_change(message.method()) {
            true => self.say_coalesced(message),
            false => self.say_message(message),
        }
    }

    pub fn say_message(&self, message: &Message) {
        self.pass_on(&mut self.state(), message);
    }

    /// Puts a notification that is repeated in storms at the client's disposal, at most once per `COALESCE`.
    pub fn say_coalesced(self: &Arc<Self>, message: &Message) {
        let (method, message) = (message.method().to_owned(), message.clone());
        let mut state = self.state();
        match state.coalesced.get_mut(&method) {
            Some((_, true)) => {}
            Some((last, waits)) if last.elapsed() < COALESCE => {
                *waits = true;
                let (session, due) = (Arc::downgrade(self), *last + COALESCE);
                tokio::spawn(async move {
                    tokio::time::sleep_until(due.into()).await;
                    let Some(session) = session.upgrade() else { return };
                    let mut state = session.state();
                    state.coalesced.insert(method, (Instant::now(), false));
                    session.pass_on(&mut state, &message);
                });
            }
            _ => {
                state.coalesced.insert(method, (Instant::now(), false));
                self.pass_on(&mut state, &message);
            }
        }
    }

    /// Tells the client to list again, because another process answers from now on. Only what `initialize` promised
    /// it would be told (2025-11-25, server/tools).
    pub fn announce_new_lists(self: &Arc<Self>, promised: &Profile) {
        let kinds = KINDS.iter().filter(|(_, path, _)| promised.can(path));
        missed(kinds.map(|(.., method)| *method), &BTreeSet::new()).for_each(|notice| self.say_coalesced(&notice));
    }
}

/// What a `subscriptions/listen` wants to hear, and where.
pub struct Listen {
    pub number: u64,
    /// Methods such as `notifications/tools/list_changed`.
    pub methods: Vec<String>,
    pub uris: BTreeSet<String>,
    pub to: tokio::sync::mpsc::Sender<Message>,
}

impl Listen {
    fn wants(&self, uri: &str) -> bool {
        self.uris.iter().any(|whole| is_within(whole, uri))
    }
}
