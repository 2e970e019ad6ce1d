//! The sessions of one mount, and what they together want of an upstream that they share.
//!
//! A shared upstream has one log level and one set of subscriptions. It gets the most verbose level anybody
//! wants, and each session is filtered by its own; it gets a subscription with the first subscriber, and the end
//! of it with the last (protocol revision independent; P55, P56). One that keeps clients apart by what is said of them
//! gets it with the first and the last of each name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::session::{Session, Transport};
use crate::{
    bridge::{
        Profile,
        feed::{KINDS, Whose, missed},
    },
    wire::{Message, members},
};

/// A log level of RFC 5424, as MCP spells it; greater is more severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    const ALL: [(Level, &str); 8] = [
        (Level::Debug, "debug"),
        (Level::Info, "info"),
        (Level::Notice, "notice"),
        (Level::Warning, "warning"),
        (Level::Error, "error"),
        (Level::Critical, "critical"),
        (Level::Alert, "alert"),
        (Level::Emergency, "emergency"),
    ];
    /// What a session gets that never asked for a level, where another may have asked for more.
    pub const UNASKED: Level = Level::Warning;

    pub fn read(text: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|(_, name)| *name == text).map(|(level, _)| level)
    }

    pub fn as_str(self) -> &'static str {
        Level::ALL.into_iter().find(|(level, _)| *level == self).map_or("debug", |(_, name)| name)
    }
}

/// The level of a log message, or of `logging/setLevel`.
pub fn level_of(message: &Message) -> Option<Level> {
    let [level] = message.param(["level"]).ok()?;
    Level::read(&members::string(level?)?)
}

/// The `uri` of a message about a resource.
pub fn uri_of(message: &Message) -> Option<String> {
    let [uri] = message.param(["uri"]).ok()?;
    members::string(uri?).map(std::borrow::Cow::into_owned)
}

/// Does this say that a list changed? Only these are held back and brought together: each kind costs a place.
pub fn is_list_change(method: &str) -> bool {
    KINDS.iter().any(|(.., change)| *change == method)
}

/// Is this that resource, or a part of it?
pub fn is_within(whole: &str, uri: &str) -> bool {
    uri == whole || is_below(whole, uri)
}

/// Is this a part of that resource? A server may report a part of what was subscribed to.
fn is_below(whole: &str, uri: &str) -> bool {
    let rest = uri.strip_prefix(whole.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.starts_with(['/', '#', '?']))
}

/// The sessions of one mount. It stays while the upstream behind it is replaced.
#[derive(Default)]
pub struct Audience {
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    sessions: HashMap<Box<str>, Arc<Session>>,
    /// Subscribers by resource, of a shared upstream; and in whose name each is.
    subscribers: BTreeMap<String, HashMap<u64, Whose>>,
}

/// What a shared upstream has to be told after the wishes of a session changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: others want the same.
    Settled,
    /// The first one came, or the last one left.
    Tell,
}

impl Audience {
    pub fn insert(&self, session: Arc<Session>) {
        self.members().sessions.insert(session.id.clone(), session);
    }

    /// Adds a session unless one of its name is there; answers the one that is there now, and whether it is new.
    pub fn get_or_insert(&self, session: Arc<Session>) -> (Arc<Session>, bool) {
        match self.members().sessions.entry(session.id.clone()) {
            Entry::Occupied(there) => (there.get().clone(), false),
            Entry::Vacant(empty) => (empty.insert(session).clone(), true),
        }
    }

    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.members().sessions.get(id).cloned()
    }

    pub fn len(&self) -> usize {
        self.members().sessions.len()
    }

    /// How many there are: with sessions, and without.
    pub fn eras(&self) -> (usize, usize) {
        let members = self.members();
        let modern = members.sessions.values().filter(|session| session.transport == Transport::Stateless).count();
        (members.sessions.len() - modern, modern)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn all(&self) -> Vec<Arc<Session>> {
        self.members().sessions.values().cloned().collect()
    }

    /// Takes a session out and ends it. Answers the resources that nobody subscribes to any more, or nobody in its name
    /// (`apart`); None where it was taken out before.
    pub fn remove(&self, session: &Arc<Session>, why: &str, apart: bool) -> Option<Vec<String>> {
        let orphans = {
            let mut members = self.members();
            let known = members.sessions.remove(&session.id);
            let mut orphans = Vec::new();
            members.subscribers.retain(|uri, keys| {
                if keys.remove(&session.key).is_some() && !is_wanted(keys, session, apart) {
                    orphans.push(uri.clone());
                }
                !keys.is_empty()
            });
            known.map(|_| orphans)
        };
        session.end(why);
        orphans
    }

    /// Sessions that were idle for longer than this.
    pub fn idle(&self, longer_than: Duration) -> Vec<Arc<Session>> {
        let members = self.members();
        members.sessions.values().filter(|session| session.idle_for() > longer_than).cloned().collect()
    }

    /// Adds or removes a subscriber of a shared upstream. `apart`: it is told in each name.
    pub fn subscribe(&self, session: &Session, uri: &str, on: bool, apart: bool) -> Wish {
        let mut members = self.members();
        let keys = members.subscribers.entry(uri.to_owned()).or_default();
        let wanted = is_wanted(keys, session, apart);
        let changed = match on {
            true => keys.insert(session.key, session.whose()).is_none() && !wanted,
            false => keys.remove(&session.key).is_some() && !is_wanted(keys, session, apart),
        };
        if keys.is_empty() {
            members.subscribers.remove(uri);
        }
        if changed { Wish::Tell } else { Wish::Settled }
    }

    /// Resources with subscribers, by the name they are subscribed to in.
    pub fn subscribed(&self) -> BTreeMap<Whose, BTreeSet<String>> {
        let mut all: BTreeMap<Whose, BTreeSet<String>> = BTreeMap::new();
        for (uri, keys) in &self.members().subscribers {
            for whose in keys.values() {
                all.entry(whose.clone()).or_default().insert(uri.clone());
            }
        }
        all
    }

    /// Tells all who can hear it to list the tools again.
    pub fn announce_tools(&self, promised: &Profile) {
        let tools = KINDS.iter().filter(|(_, path, _)| path[0] == "tools" && promised.can(path));
        let (nothing, all) = (BTreeSet::new(), self.all());
        missed(tools.map(|(.., method)| *method), &nothing)
            .for_each(|notice| all.iter().for_each(|session| session.say_coalesced(&notice)));
    }

    /// Tells the clients to list again, as [`Session::announce_new_lists`] does. Those without sessions find out by
    /// themselves that another process answers.
    pub fn announce_new_lists(&self, promised: &Profile) {
        let sessions = self.all().into_iter().filter(|session| session.transport != Transport::Stateless);
        sessions.for_each(|session| session.announce_new_lists(promised));
    }

    /// The most verbose level that any session asked for.
    pub fn level(&self) -> Option<Level> {
        let members = self.members();
        let asked: Vec<Level> = members.sessions.values().filter_map(|session| session.level()).collect();
        let least = asked.iter().min().copied()?;
        // Those who never asked are content with their default, which must still reach them.
        Some(match asked.len() < members.sessions.len() {
            true => least.min(Level::UNASKED),
            false => least,
        })
    }

    /// Passes on what a shared upstream says to no call in particular, and to these.
    pub fn hear(&self, message: &Message, whose: &Whose) {
        match message.method() {
            "notifications/resources/updated" => {
                let Some(uri) = uri_of(message) else { return };
                let keys = self.subscribers_of(&uri, whose);
                let concerned = self.all().into_iter().filter(|session| keys.contains(&session.key));
                concerned.for_each(|session| session.say_message(message));
            }
            method if is_list_change(method) => {
                self.all().iter().for_each(|session| session.say_coalesced(message));
            }
            // A log message or anything else that may concern one client only: nobody can say whom.
            method => tracing::debug!(method, "a message of a shared upstream belongs to nobody"),
        }
    }

    /// Those who subscribed to exactly this at a shared upstream, or to what it is a part of.
    pub fn subscribers(&self, uri: &str) -> HashSet<u64> {
        self.members().subscribers_to(&None, |whole| is_within(whole, uri))
    }

    /// Subscribers of a resource, or of what it is a part of; those of this name, or all.
    fn subscribers_of(&self, uri: &str, whose: &Whose) -> HashSet<u64> {
        let members = self.members();
        let ways: [&dyn Fn(&str) -> bool; 3] = [&|known| known == uri, &|whole| is_below(whole, uri), &|_| true];
        ways.into_iter()
            .map(|wanted| members.subscribers_to(whose, wanted))
            .find(|keys| !keys.is_empty())
            .unwrap_or_default()
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Members {
    /// Subscribers of resources that are wanted; those of this name, or all.
    fn subscribers_to(&self, whose: &Whose, wanted: impl Fn(&str) -> bool) -> HashSet<u64> {
        let resources = self.subscribers.iter().filter(|(known, _)| wanted(known));
        let keys = resources.flat_map(|(_, keys)| keys);
        keys.filter(|(_, own)| whose.is_none() || *own == whose).map(|(key, _)| *key).collect()
    }
}

/// Does anybody else subscribe to this, or anybody of its name?
fn is_wanted(keys: &HashMap<u64, Whose>, session: &Session, apart: bool) -> bool {
    let own = session.whose();
    keys.iter().any(|(key, whose)| *key != session.key && (!apart || *whose == own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::session::Transport;

    fn session(audience: &Audience) -> Arc<Session> {
        let session = Session::new(Transport::Streamable, Default::default(), 10, 1000).unwrap();
        audience.insert(session.clone());
        session
    }

    #[test]
    fn p55_a_resource_is_subscribed_with_the_first_and_released_with_the_last() {
        let audience = Audience::default();
        let (one, two) = (session(&audience), session(&audience));
        assert_eq!(audience.subscribe(&one, "a:/x", true, false), Wish::Tell);
        assert_eq!(audience.subscribe(&one, "a:/x", true, false), Wish::Settled);
        assert_eq!(audience.subscribe(&two, "a:/x", true, false), Wish::Settled);
        assert_eq!(audience.subscribe(&one, "a:/x", false, false), Wish::Settled);
        assert_eq!(
            audience.subscribe(&one, "a:/x", false, false),
            Wish::Settled,
            "one client cannot leave for another"
        );
        assert_eq!(audience.subscribe(&two, "a:/x", false, false), Wish::Tell);
        audience.subscribe(&one, "a:/x", true, false);
        audience.subscribe(&one, "a:/y", true, false);
        audience.subscribe(&two, "a:/y", true, false);
        assert_eq!(audience.remove(&one, "bye", false), Some(vec!["a:/x".to_owned()]));
        assert_eq!(audience.remove(&one, "bye", false), None);
        assert_eq!(audience.subscribed(), [(None, ["a:/y".to_owned()].into())].into());
    }

    #[test]
    fn p55_who_is_kept_apart_is_counted_apart() {
        let audience = Audience::default();
        let named = |name: &str| {
            let session = session(&audience);
            session.greet(serde_json::json!({ "capabilities": {}, "clientInfo": { "name": name, "version": "1" } }));
            session
        };
        let (ada, bob, twin) = (named("ada"), named("bob"), named("bob"));
        let told = [(&ada, Wish::Tell), (&bob, Wish::Tell), (&twin, Wish::Settled)];
        for (session, wish) in told {
            assert_eq!(audience.subscribe(session, "a:/x", true, true), wish);
        }
        assert_eq!(audience.subscribed().len(), 2);
        assert_eq!(audience.subscribers_of("a:/x", &bob.whose()), [bob.key, twin.key].into());
        assert_eq!(audience.subscribers_of("a:/x/y", &ada.whose()), [ada.key].into());
        assert_eq!(audience.subscribe(&bob, "a:/x", false, true), Wish::Settled);
        assert_eq!(audience.remove(&twin, "bye", true), Some(vec!["a:/x".to_owned()]), "the last of its name");
        assert_eq!(audience.subscribe(&ada, "a:/x", false, true), Wish::Tell);
    }

    #[test]
    fn p55_updates_of_a_part_reach_those_who_subscribed_to_the_whole() {
        let audience = Audience::default();
        let (one, two) = (session(&audience), session(&audience));
        audience.subscribe(&one, "file:///a", true, false);
        audience.subscribe(&two, "file:///ab", true, false);
        assert_eq!(audience.subscribers_of("file:///a", &None), [one.key].into());
        assert_eq!(audience.subscribers_of("file:///a/b", &None), [one.key].into());
        assert_eq!(audience.subscribers_of("file:///ab/c#d", &None), [two.key].into());
        assert_eq!(audience.subscribers_of("file:///z", &None), [one.key, two.key].into());
    }

    #[test]
    fn p56_the_upstream_gets_the_most_verbose_level_anybody_wants() {
        let audience = Audience::default();
        let (one, two) = (session(&audience), session(&audience));
        assert_eq!(audience.level(), None);
        one.set_level(Level::Error);
        assert_eq!(audience.level(), Some(Level::Warning), "the other one never asked and gets warnings");
        two.set_level(Level::Critical);
        assert_eq!(audience.level(), Some(Level::Error));
        two.set_level(Level::Debug);
        assert_eq!(audience.level(), Some(Level::Debug));
        audience.remove(&two, "bye", false);
        assert_eq!(audience.level(), Some(Level::Error));
    }
}
