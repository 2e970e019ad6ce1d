//! The changes that a newer server tells of: one `subscriptions/listen`, on behalf of everybody behind the hub.
//!
//! A server elsewhere may keep clients apart by what is said of them with each request, as this hub does. There the
//! resources of a client have a listen in its name, from its first one to its last; what such a listen says is for those
//! of this name only.
//!
//! Lists that may change are always asked for, resources by whoever subscribes. The filter of a listen is fixed, so
//! another wish means another listen: the new one is acknowledged before the old one is dropped, and nothing falls
//! between (2026-07-28, basic/patterns/subscriptions). Where the server ends it, it is opened again, and because
//! changes may have been missed, one notice of each kind follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::older::Introduction;
use crate::{
    link::connection::{ConnectionWatch, EVENTS_MAX, Event, Reply, queue},
    wire::{Message, envelope::SUBSCRIPTION_ID, message, object::Object},
};

/// Longest wait for the acknowledgement.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(10);
/// Wishes that may wait for their turn.
const WISHES_MAX: usize = 64;
/// A listen may end with its last resource in the instant of a wish, which then goes to the next.
const TRIES: u32 = 3;
/// Pause before a listen that the server ended is opened again; it doubles each time, up to the latter.
const REOPEN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The kinds of change a listen can ask for: the filter's member, the capability, the notification.
pub const KINDS: [(&str, [&str; 2], &str); 3] = [
    ("toolsListChanged", ["tools", "listChanged"], "notifications/tools/list_changed"),
    ("promptsListChanged", ["prompts", "listChanged"], "notifications/prompts/list_changed"),
    ("resourcesListChanged", ["resources", "listChanged"], "notifications/resources/list_changed"),
];

/// One notice of each kind, for changes that nobody heard of.
pub fn missed<'a>(methods: impl Iterator<Item = &'a str>, uris: &'a BTreeSet<String>) -> impl Iterator<Item = Message> {
    let lists = methods.map(|method| message::notification(method, None));
    let updates = uris
        .iter()
        .map(|uri| message::notification("notifications/resources/updated", Some(&json!({ "uri": uri }).to_string())));
    lists.chain(updates).filter_map(message::one)
}

/// In whose name something is asked; none: in the hub's own, for everybody.
pub type Whose = Option<Arc<Introduction>>;

/// Where the news goes, and for whom it is.
pub type Hear = Arc<Ear>;
type Ear = dyn Fn(Message, &Whose) + Send + Sync;

/// The way to the tasks that keep the listens open. They end with the last handle, and with the connection.
pub struct Feed {
    /// Has the server to know whose a listen is?
    pub apart: bool,
    watch: ConnectionWatch,
    /// The hub's own task holds it: it may lead back to whoever holds this.
    hear: Weak<Ear>,
    io: Handle,
    own: mpsc::Sender<Wish>,
    others: Mutex<BTreeMap<Arc<Introduction>, mpsc::Sender<Wish>>>,
}

struct Wish {
    uris: Vec<String>,
    on: bool,
    taken: oneshot::Sender<bool>,
}

struct Task {
    watch: ConnectionWatch,
    hear: Hear,
    whose: Whose,
    kinds: Vec<&'static (&'static str, [&'static str; 2], &'static str)>,
    uris: BTreeSet<String>,
    open: Option<Open>,
}

struct Open {
    events: queue::Receiver,
    /// Dropped, it ends the listen.
    _reply: Reply,
}

impl Feed {
    /// Starts to listen to what a server with these capabilities can tell. `apart`: it may keep clients apart.
    pub fn start(watch: ConnectionWatch, capabilities: &Value, hear: Hear, io: &Handle, apart: bool) -> Feed {
        let can = |path: &[&str; 2]| capabilities[path[0]][path[1]].as_bool() == Some(true);
        let kinds = KINDS.iter().filter(|(_, path, _)| can(path)).collect();
        let (watching, ear) = (watch.clone(), Arc::downgrade(&hear));
        let own = Task::start(watching, hear, io, None, kinds);
        Feed { apart, watch, hear: ear, io: io.clone(), own, others: Mutex::default() }
    }

    /// Adds resources, or takes them out. Answers whether the server honours them all.
    pub async fn subscribe(&self, whose: &Whose, uris: Vec<String>, on: bool) -> bool {
        for _ in 0..TRIES {
            let (taken, outcome) = oneshot::channel();
            let sent = self.listen_of(whose).send(Wish { uris: uris.clone(), on, taken }).await;
            if sent.is_ok()
                && let Ok(taken) = outcome.await
            {
                return taken;
            }
        }
        false
    }

    /// The way to the listen in this name.
    fn listen_of(&self, whose: &Whose) -> mpsc::Sender<Wish> {
        let name = whose.as_ref().filter(|_| self.apart);
        let (Some(name), Some(hear)) = (name, self.hear.upgrade()) else { return self.own.clone() };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|_, wishes| !wishes.is_closed());
        let start = || Task::start(self.watch.clone(), hear, &self.io, whose.clone(), Vec::new());
        others.entry(name.clone()).or_insert_with(start).clone()
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("apart", &self.apart).finish_non_exhaustive()
    }
}

impl Task {
    fn start(
        watch: ConnectionWatch,
        hear: Hear,
        io: &Handle,
        whose: Whose,
        kinds: Vec<&'static (&'static str, [&'static str; 2], &'static str)>,
    ) -> mpsc::Sender<Wish> {
        let (wishes, inbox) = mpsc::channel(WISHES_MAX);
        io.spawn(Task { watch, hear, whose, kinds, uris: BTreeSet::new(), open: None }.run(inbox));
        wishes
    }

    async fn run(mut self, mut wishes: mpsc::Receiver<Wish>) {
        let mut pause = REOPEN.0;
        self.reopen().await;
        loop {
            let missing = self.open.is_none() && !(self.kinds.is_empty() && self.uris.is_empty());
            let event = async {
                match &mut self.open {
                    Some(open) => open.events.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.watch.over() => return,
                wish = wishes.recv() => {
                    let Some(wish) = wish else { return };
                    // All that wait need one listen, not one each.
                    let mut all = vec![wish];
                    while let Ok(wish) = wishes.try_recv() {
                        all.push(wish);
                    }
                    self.grant(all).await;
                    if self.whose.is_some() && self.uris.is_empty() {
                        return;
                    }
                }
                event = event => match event {
                    Some(Event::Notice(notice)) => {
                        pause = REOPEN.0;
                        self.tell(notice);
                    }
                    Some(Event::Response(_) | Event::Failed { .. }) | None => self.open = None,
                    Some(_) => {}
                },
                () = tokio::time::sleep(pause), if missing => {
                    pause = (pause * 2).min(REOPEN.1);
                    if self.reopen().await.is_some() {
                        self.make_up_for_what_was_missed();
                    }
                }
            }
        }
    }

    async fn grant(&mut self, wishes: Vec<Wish>) {
        let before = self.uris.clone();
        for wish in &wishes {
            match wish.on {
                true => self.uris.extend(wish.uris.iter().cloned()),
                false => self.uris.retain(|uri| !wish.uris.contains(uri)),
            }
        }
        if self.uris != before {
            let honoured = self.reopen().await.unwrap_or_default();
            // What it does not honour is not asked for again. What it did before stays wished for.
            self.uris.retain(|uri| honoured.contains(uri) || before.contains(uri));
        }
        for wish in wishes {
            let taken = !wish.on || wish.uris.iter().all(|uri| self.uris.contains(uri));
            let _ = wish.taken.send(taken);
        }
    }

    /// Opens a listen for what is wanted now, and then lets go of the last one. Answers the resources it honours.
    async fn reopen(&mut self) -> Option<BTreeSet<String>> {
        if self.kinds.is_empty() && self.uris.is_empty() {
            self.open = None;
            return Some(BTreeSet::new());
        }
        let mut filter: serde_json::Map<String, Value> =
            self.kinds.iter().map(|(name, ..)| ((*name).to_owned(), true.into())).collect();
        if !self.uris.is_empty() {
            filter.insert("resourceSubscriptions".into(), json!(self.uris));
        }
        let params = json!({ "notifications": filter }).to_string();
        let hub = Introduction::of_hub();
        let params = self.whose.as_deref().unwrap_or(&hub).put_on(Some(&params), None)?;
        let request = message::one(message::request(&0.into(), "subscriptions/listen", Some(&params)))?;
        let (to, mut events) = queue::channel(EVENTS_MAX);
        let reply = self.watch.listen(&request, &to).await.ok()?;
        drop(to);
        let acknowledged = async {
            loop {
                match events.recv().await? {
                    Event::Notice(notice) if notice.method() == "notifications/subscriptions/acknowledged" => {
                        return Some(notice);
                    }
                    Event::Response(_) | Event::Failed { .. } => return None,
                    _ => {}
                }
            }
        };
        let acknowledged = tokio::time::timeout(ACKNOWLEDGE_MAX, acknowledged).await.ok().flatten()?;
        // What the last one still said was said before.
        let mut last = self.open.replace(Open { events, _reply: reply });
        while let Some(event) = last.as_mut().and_then(|open| open.events.try_recv()) {
            if let Event::Notice(notice) = event {
                self.tell(notice);
            }
        }
        let params: Value = serde_json::from_str(acknowledged.params().unwrap_or("null")).unwrap_or_default();
        let honoured = params["notifications"]["resourceSubscriptions"].as_array().into_iter().flatten();
        Some(honoured.filter_map(|uri| uri.as_str().map(str::to_owned)).collect())
    }

    fn make_up_for_what_was_missed(&self) {
        missed(self.kinds.iter().map(|(.., method)| *method), &self.uris)
            .for_each(|notice| (self.hear)(notice, &self.whose));
    }

    /// Passes news on, without the name of our own subscription.
    fn tell(&self, notice: Message) {
        if notice.method() == "notifications/subscriptions/acknowledged" {
            return;
        }
        let plain = || {
            let params = Object::read(notice.params()?)?;
            Some(notice.with_params(&params.edit().remove_meta(&[SUBSCRIPTION_ID]).apply()))
        };
        (self.hear)(plain().unwrap_or_else(|| notice.clone()), &self.whose);
    }
}
