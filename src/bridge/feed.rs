//! The changes that a newer server tells of: one `subscriptions/listen`, on behalf of everybody behind the hub.
//!
//! Lists that may change are always asked for, resources by whoever subscribes. The filter of a listen is fixed, so
//! another wish means another listen: the new one is acknowledged before the old one is dropped, and nothing falls
//! between (2026-07-28, basic/patterns/subscriptions). Where the server ends it, it is opened again, and because
//! changes may have been missed, one notice of each kind follows.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::older::own_params;
use crate::{
    link::connection::{ConnectionWatch, EVENTS_MAX, Event, Reply},
    wire::{Message, envelope::SUBSCRIPTION_ID, message, object::Object},
};

/// Longest wait for the acknowledgement.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(10);
/// Wishes that may wait for their turn.
const WISHES_MAX: usize = 64;
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

/// Where the news goes.
pub type Hear = Arc<dyn Fn(Message) + Send + Sync>;

/// The way to the task that keeps the listen open. It ends with the last handle, and with the connection.
#[derive(Debug)]
pub struct Feed {
    wishes: mpsc::Sender<Wish>,
}

struct Wish {
    uris: Vec<String>,
    on: bool,
    taken: oneshot::Sender<bool>,
}

struct Task {
    watch: ConnectionWatch,
    hear: Hear,
    kinds: Vec<&'static (&'static str, [&'static str; 2], &'static str)>,
    uris: BTreeSet<String>,
    open: Option<Open>,
}

struct Open {
    events: mpsc::Receiver<Event>,
    /// Dropped, it ends the listen.
    _reply: Reply,
}

impl Feed {
    /// Starts to listen to what a server with these capabilities can tell.
    pub fn start(watch: ConnectionWatch, capabilities: &Value, hear: Hear, io: &Handle) -> Feed {
        let can = |path: &[&str; 2]| capabilities[path[0]][path[1]].as_bool() == Some(true);
        let kinds = KINDS.iter().filter(|(_, path, _)| can(path)).collect();
        let (wishes, inbox) = mpsc::channel(WISHES_MAX);
        io.spawn(Task { watch, hear, kinds, uris: BTreeSet::new(), open: None }.run(inbox));
        Feed { wishes }
    }

    /// Adds resources, or takes them out. Answers whether the server honours them all.
    pub async fn subscribe(&self, uris: Vec<String>, on: bool) -> bool {
        let (taken, outcome) = oneshot::channel();
        self.wishes.send(Wish { uris, on, taken }).await.is_ok() && outcome.await.unwrap_or(false)
    }
}

impl Task {
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
        let params = own_params(Some(&params))?;
        let request = message::one(message::request(&0.into(), "subscriptions/listen", Some(&params)))?;
        let (to, mut events) = mpsc::channel(EVENTS_MAX);
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
        while let Some(Ok(event)) = last.as_mut().map(|open| open.events.try_recv()) {
            if let Event::Notice(notice) = event {
                self.tell(notice);
            }
        }
        let params: Value = serde_json::from_str(acknowledged.params().unwrap_or("null")).unwrap_or_default();
        let honoured = params["notifications"]["resourceSubscriptions"].as_array().into_iter().flatten();
        Some(honoured.filter_map(|uri| uri.as_str().map(str::to_owned)).collect())
    }

    fn make_up_for_what_was_missed(&self) {
        missed(self.kinds.iter().map(|(.., method)| *method), &self.uris).for_each(|notice| (self.hear)(notice));
    }

    /// Passes news on, without the name of our own subscription.
    fn tell(&self, notice: Message) {
        if notice.method() == "notifications/subscriptions/acknowledged" {
            return;
        }
        let plain = || {
            let params = Object::read(notice.params()?)?;
            message::one(notice.with_params(&params.edit().remove_meta(&[SUBSCRIPTION_ID]).apply()))
        };
        (self.hear)(plain().unwrap_or_else(|| notice.clone()));
    }
}
