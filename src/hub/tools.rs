//! The tools of one upstream: what callers may see and call of them, and whether they are still the ones they were.
//!
//! Each complete list that passes is learned; where another one follows, that is told (F126, T21). With `pin_tools`
//! nothing is listed or called whose definition is not the accepted one, and before a call the list is read again
//! where it has not been for a while. It outlives processes and definitions, as the audience does.

pub mod definition;
pub mod pins;
pub mod policy;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::digest::{Digest, SHA256, digest};
use tokio::sync::OnceCell;

use self::{
    definition::{Definitions, Difference},
    pins::{Accepted, PinFile},
};
use crate::{
    bridge::{Bridged, next_cursor},
    config::{self, Name, UpstreamConfig},
    wire::{Message, object::Object},
};

/// Pages of a tool list that are read.
const PAGES_MAX: usize = 50;
const PAGE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a list before a call.
const READ_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a pinned upstream's list is believed, unless it says that it changed.
const FRESH: Duration = Duration::from_secs(60);
/// Lists that clients have read in part; the next page of a forgotten one teaches nothing.
const PARTS_MAX: usize = 16;
/// Hashes of lists that were there before: an upstream that goes to and fro is told of once.
const RECENT_MAX: usize = 16;
/// Names that stand in one line of the log.
const NAMES_MAX: usize = 20;

/// What is known of an upstream's tools.
pub struct Tools {
    name: Name,
    /// The hub.toml that the upstream stands in; none: nothing is kept on disk.
    config: Option<PathBuf>,
    known: Mutex<Known>,
    accepted: ArcSwap<Accepted>,
    /// Where the accepted ones are kept, once they were looked for.
    opened: OnceCell<Option<PinFile>>,
    /// One acceptance at a time.
    accepting: tokio::sync::Mutex<()>,
    /// Raised when the upstream says that its list changed: what was read before is stale.
    epoch: AtomicU64,
}

#[derive(Default)]
struct Known {
    /// The last complete list.
    tools: Option<Arc<Definitions>>,
    hash: String,
    since: Option<SystemTime>,
    /// What became of it at the last change.
    changed: Difference,
    changes: u64,
    recent: VecDeque<String>,
    /// The bytes that were learned last: mostly the same come again.
    bytes: Option<Digest>,
    /// Lists that clients are reading: by the session, and the cursor that comes next.
    parts: HashMap<(u64, String), Definitions>,
    /// What each connection of a pinned upstream was last seen to offer.
    checked: HashMap<usize, Arc<Checked>>,
    /// Why nothing can be accepted.
    trouble: Option<String>,
}

struct Checked {
    whose: Weak<Bridged>,
    reading: tokio::sync::Mutex<()>,
    offered: ArcSwapOption<Offered>,
}

/// A complete list of one connection.
struct Offered {
    read: Instant,
    epoch: u64,
    tools: Arc<Definitions>,
}

/// What the status tells.
pub struct ToolsStatus {
    pub count: Option<usize>,
    pub hash: Option<String>,
    pub since: Option<SystemTime>,
    pub changed: Vec<(String, &'static str)>,
    pub changes: u64,
    /// With `pin_tools`: what is there and not accepted.
    pub withheld: Vec<String>,
    /// With `pin_tools`: why nothing is accepted.
    pub trouble: Option<String>,
}

/// A list as it was read from an upstream.
pub struct Pages {
    pub pages: Vec<Message>,
    /// None of it is missing.
    pub whole: bool,
}

impl Tools {
    pub fn new(name: &Name, config: Option<PathBuf>) -> Arc<Tools> {
        Arc::new(Tools {
            name: name.clone(),
            config,
            known: Mutex::default(),
            accepted: ArcSwap::from_pointee(Accepted::Nothing),
            opened: OnceCell::new(),
            accepting: tokio::sync::Mutex::default(),
            epoch: AtomicU64::new(0),
        })
    }

    /// The upstream says that its list changed.
    pub fn doubt(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.known().parts.clear();
    }

    /// Looks for the accepted tools on disk, once.
    pub async fn open(&self) -> Option<&PinFile> {
        let open = || async {
            let (config, name) = (self.config.clone()?, self.name.clone());
            let read = move || {
                let file = PinFile::of(&config::identity(&config), &name);
                let accepted = match &file {
                    Some(file) => file.read(),
                    None => Accepted::Unreadable(
                        "there is no folder for state: neither STATE_DIRECTORY, XDG_STATE_HOME nor a home".into(),
                    ),
                };
                (file, accepted)
            };
            let (file, accepted) = tokio::task::spawn_blocking(read).await.ok()?;
            if let Accepted::Unreadable(why) = &accepted {
                tracing::error!(upstream = %self.name, "{why}; all tools are withheld until `hubward accept {}`", self.name);
            }
            self.accepted.store(Arc::new(accepted));
            file
        };
        self.opened.get_or_init(open).await.as_ref()
    }

    /// A page of the list has passed on its way to a client.
    pub fn passed(&self, session: u64, request: &Message, result: &Object<'_>) {
        let cursor = match request.param(["cursor"]) {
            Ok([cursor]) => cursor.filter(|cursor| *cursor != "null").map(str::to_owned),
            Err(_) => return,
        };
        let Some(tools) = result.get("tools") else { return };
        let next = next_cursor(result);
        let alone = cursor.is_none() && next.is_none();
        let bytes = alone.then(|| digest(&SHA256, tools.get().as_bytes()));
        let mut known = self.known();
        let same = |old: &Digest, new: &Digest| old.as_ref() == new.as_ref();
        if bytes.as_ref().zip(known.bytes.as_ref()).is_some_and(|(new, old)| same(old, new)) {
            return;
        }
        let mut all = match cursor {
            None => Definitions::default(),
            Some(cursor) => match known.parts.remove(&(session, cursor)) {
                Some(before) => before,
                None => return,
            },
        };
        drop(known);
        if !all.add(tools.get()) {
            return;
        }
        match next {
            None => {
                self.learn(Arc::new(all));
                self.known().bytes = bytes;
            }
            Some(next) => {
                let mut known = self.known();
                if known.parts.len() >= PARTS_MAX
                    && let Some(any) = known.parts.keys().next().cloned()
                {
                    known.parts.remove(&any);
                }
                known.parts.insert((session, next), all);
            }
        }
    }

    /// Reads the whole list from a connection, and learns it. None where there is no answer.
    pub async fn read(&self, bridged: &Bridged) -> Option<Pages> {
        let pages = pages(bridged).await?;
        if let Some(all) = pages.definitions() {
            self.learn(Arc::new(all));
        }
        Some(pages)
    }

    /// A complete list was seen. Answers whether it is another than the last one, and so makes stale what was read.
    fn learn(&self, tools: Arc<Definitions>) -> bool {
        let hash = tools.hash();
        let mut known = self.known();
        if known.hash == hash {
            return false;
        }
        known.bytes = None;
        known.since = Some(SystemTime::now());
        let before = known.tools.replace(tools.clone());
        let changed = before.is_some();
        if let Some(before) = before {
            self.epoch.fetch_add(1, Ordering::SeqCst);
            known.changed = before.difference_to(&tools);
            known.changes += 1;
            let names: Vec<String> =
                known.changed.names().take(NAMES_MAX).map(|(name, what)| format!("{name:?} {what}")).collect();
            let (names, count) = (names.join(", "), known.changed.names().count());
            match known.recent.contains(&hash) {
                true => {
                    tracing::debug!(upstream = %self.name, hash, count, "its tools are again as they were: {names}")
                }
                false => tracing::warn!(upstream = %self.name, hash, count, "its tools changed: {names}"),
            }
        }
        let old = std::mem::replace(&mut known.hash, hash);
        if !known.recent.contains(&old) {
            known.recent.push_back(old);
        }
        if known.recent.len() > RECENT_MAX {
            known.recent.pop_front();
        }
        changed
    }

    /// What this connection offers, as it was a while ago at most.
    async fn offered(&self, bridged: &Arc<Bridged>) -> Option<Arc<Definitions>> {
        let checked = self.checked(bridged);
        let fresh = || {
            let offered = checked.offered.load_full()?;
            let stale = offered.epoch != self.epoch.load(Ordering::SeqCst) || offered.read.elapsed() > FRESH;
            (!stale).then(|| offered.tools.clone())
        };
        if let Some(tools) = fresh() {
            return Some(tools);
        }
        let _reading = checked.reading.lock().await;
        if let Some(tools) = fresh() {
            return Some(tools);
        }
        let (read, epoch) = (Instant::now(), self.epoch.load(Ordering::SeqCst));
        let pages = tokio::time::timeout(READ_WAIT_MAX, pages(bridged)).await.ok()??;
        let tools = Arc::new(pages.definitions()?);
        // Its own step is none that came in between.
        let epoch = epoch + u64::from(self.learn(tools.clone()));
        checked.offered.store(Some(Arc::new(Offered { read, epoch, tools: tools.clone() })));
        Some(tools)
    }

    fn checked(&self, bridged: &Arc<Bridged>) -> Arc<Checked> {
        let mut known = self.known();
        let place = Arc::as_ptr(bridged) as usize;
        // While there is a weak one to it, no other can be in its place.
        if let Some(checked) = known.checked.get(&place) {
            return checked.clone();
        }
        known.checked.retain(|_, checked| checked.whose.strong_count() > 0);
        let new = Arc::new(Checked {
            whose: Arc::downgrade(bridged),
            reading: tokio::sync::Mutex::default(),
            offered: ArcSwapOption::empty(),
        });
        known.checked.insert(place, new.clone());
        new
    }

    /// Accepts the first list that was ever seen.
    async fn trust(&self, tools: &Arc<Definitions>) -> Result<(), String> {
        let _one = self.accepting.lock().await;
        match **self.accepted.load() {
            Accepted::Nothing => {
                self.keep(tools).await?;
                tracing::info!(upstream = %self.name, hash = tools.hash(), count = tools.count(), "its tools are accepted, as the first that were seen");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Accepts a list, and says what that changed.
    pub async fn accept(&self, tools: &Arc<Definitions>) -> Result<Difference, String> {
        let _one = self.accepting.lock().await;
        self.open().await;
        let difference = match &**self.accepted.load() {
            Accepted::These(before) => before.difference_to(tools),
            Accepted::Nothing | Accepted::Unreadable(_) => Definitions::default().difference_to(tools),
        };
        self.keep(tools).await?;
        tracing::info!(upstream = %self.name, hash = tools.hash(), count = tools.count(), "its tools were accepted");
        Ok(difference)
    }

    /// Plan, then publish: what cannot be written is not accepted.
    async fn keep(&self, tools: &Arc<Definitions>) -> Result<(), String> {
        let written = match self.open().await.cloned() {
            Some(file) => {
                let tools = tools.clone();
                let write = tokio::task::spawn_blocking(move || file.write(&tools)).await;
                write.unwrap_or_else(|_| Err("the accepted tools cannot be written: the hub is ending".to_owned()))
            }
            None if self.config.is_some() => Err("there is no folder for state to keep accepted tools in".to_owned()),
            // Without a file there is nothing to come back to.
            None => Ok(()),
        };
        self.known().trouble = written.as_ref().err().cloned();
        if let Err(why) = &written {
            tracing::error!(upstream = %self.name, "{why}; nothing new is accepted");
            return written;
        }
        self.accepted.store(Arc::new(Accepted::These(Definitions::clone(tools))));
        Ok(())
    }

    /// The last complete list.
    pub fn last(&self) -> Option<Arc<Definitions>> {
        self.known().tools.clone()
    }

    /// The names that callers see under a configuration; none where the list was never seen whole.
    pub fn visible(&self, config: &UpstreamConfig) -> Option<BTreeSet<String>> {
        let tools = self.last()?;
        let admitted = tools.iter().filter(|(name, definition)| {
            let filter = config.tools.as_ref().is_none_or(|filter| filter.admits(name));
            filter && (!config.pin_tools || policy::is_accepted(&self.accepted.load(), name, &definition.hash, true))
        });
        Some(admitted.map(|(name, _)| name.clone()).collect())
    }

    pub fn status(&self, config: &UpstreamConfig) -> ToolsStatus {
        let accepted = self.accepted.load();
        let known = self.known();
        let withheld = known.tools.iter().flat_map(|tools| tools.iter()).filter(|(name, definition)| {
            config.pin_tools && !policy::is_accepted(&accepted, name, &definition.hash, true)
        });
        let unreadable = match &**accepted {
            Accepted::Unreadable(why) => Some(why.clone()),
            _ => None,
        };
        ToolsStatus {
            count: known.tools.as_ref().map(|tools| tools.count()),
            hash: known.tools.as_ref().map(|_| known.hash.clone()),
            since: known.since,
            changed: known.changed.names().map(|(name, what)| (name.clone(), what)).collect(),
            changes: known.changes,
            withheld: withheld.map(|(name, _)| name.clone()).collect(),
            trouble: unreadable.or_else(|| known.trouble.clone()).filter(|_| config.pin_tools),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Pages {
    /// None where something is missing, or cannot be told apart.
    fn definitions(&self) -> Option<Definitions> {
        let mut all = Definitions::default();
        let added = self.pages.iter().all(|page| {
            let tools = page.result().and_then(Object::read).and_then(|page| page.get("tools"));
            tools.is_some_and(|tools| all.add(tools.get()))
        });
        (self.whole && added).then_some(all)
    }
}

/// The whole list of a connection; none where a page cannot be had.
async fn pages(bridged: &Bridged) -> Option<Pages> {
    let (mut pages, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..PAGES_MAX {
        let (answer, next) = bridged.page("tools/list", cursor.as_deref(), PAGE_WAIT_MAX).await?;
        pages.push(answer);
        cursor = next;
        if cursor.is_none() {
            return Some(Pages { pages, whole: true });
        }
    }
    Some(Pages { pages, whole: false })
}
