//! File events, settled, become "read it again".
//!
//! A watch on the file itself goes deaf at the first save that renames. So folders are watched: that of the path as it
//! is written, and that of every link met on the way to the file. Whatever stirs there means "read it again", whatever
//! its name: a swapped `..data` never names the file. Only `Access` does not count, for our own reading is one. Where
//! no events come from (network file systems, overlays, a folder that was away) a look every two seconds finds what
//! changed.
//!
//! Invariant: nothing here opens the file, so nothing here can block on a FIFO; and the folders are watched again
//! *before* the callback, so that no change falls between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::ModifyKind};

/// An editor's save is over after this much silence.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// Where there is no silence, what changed so far is told after this.
const RESTLESS_MAX: Duration = Duration::from_secs(1);

/// Events that may wait; what comes on top of them says nothing new.
const STIRS_MAX: usize = 1024;

/// How late a change is noticed that brings no event.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    over: Arc<AtomicBool>,
    wake: SyncSender<Stir>,
    thread: Option<JoinHandle<()>>,
}

/// Why nothing can be watched. Missing events alone are no reason: then the two seconds do.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("cannot watch {}: {source}", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("cannot start the thread that watches files: {0}")]
    Thread(io::Error),
}

/// Calls `changed`, on a thread of its own, after every settled change that may concern the file. The content may be
/// the same: the callback compares.
pub fn watch(path: &Path, changed: impl Fn() + Send + 'static) -> Result<Watch, WatchError> {
    let path = std::path::absolute(path).map_err(|source| WatchError::Path { path: path.to_owned(), source })?;
    watch_all(move || vec![path.clone()], changed)
}

/// The same for many files, by their absolute paths. Which ones may change: that they are others is a change.
pub fn watch_all(
    paths: impl Fn() -> Vec<PathBuf> + Send + 'static,
    changed: impl Fn() + Send + 'static,
) -> Result<Watch, WatchError> {
    let (wake, stirs) = mpsc::sync_channel(STIRS_MAX);
    let (over, events) = (Arc::<AtomicBool>::default(), wake.clone());
    let hear = move |event| {
        if let Some(stir) = sift(event) {
            let _ = events.try_send(stir);
        }
    };
    // The chain of links is followed here; a watched folder that is a link is meant as where it leads.
    let system = RecommendedWatcher::new(hear, notify::Config::default());
    let system = system
        .inspect_err(|error| tracing::warn!(%error, "no file events; the files are looked at every two seconds"))
        .ok();
    let (paths, armed) = (Box::new(paths), BTreeMap::new());
    let mut watcher = Watcher { paths, system, armed, seen: Vec::new(), over: over.clone() };
    // Armed before we return: what changes from now on is noticed.
    watcher.arm();
    watcher.seen = watcher.look();
    let thread = std::thread::Builder::new()
        .name("config-watch".into())
        .spawn(move || watcher.run(&stirs, changed))
        .map_err(WatchError::Thread)?;
    Ok(Watch { over, wake, thread: Some(thread) })
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Where there is no room, there is something to wake up for.
        let _ = self.wake.try_send(Stir::default());
        if let Some(thread) = self.thread.take() {
            // The callback may be the one who lets go of us.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// Something happened.
#[derive(Debug, Default)]
struct Stir {
    /// The paths that were moved or removed, for one of them may be a watched folder.
    gone: Vec<PathBuf>,
}

/// What of an event is to be told.
fn sift(event: notify::Result<Event>) -> Option<Stir> {
    // An overflow, say: something was lost, so something may have changed.
    let Ok(event) = event else { return Some(Stir::default()) };
    let moves = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
    let read = matches!(event.kind, EventKind::Access(_));
    // What has no path is about all of them.
    let logged = !event.paths.is_empty() && event.paths.iter().all(|path| is_log(path));
    (!read && !logged).then(|| Stir { gone: if moves { event.paths } else { Vec::new() } })
}

/// What is written to all day: in the folder of the file it would have it read all day.
pub(super) fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log" || extension == "jsonl")
}

struct Watcher {
    paths: Box<dyn Fn() -> Vec<PathBuf> + Send>,
    system: Option<RecommendedWatcher>,
    /// The watched folders, and who they were when the watch was set.
    armed: BTreeMap<PathBuf, Option<Stamp>>,
    /// The files when they were last told about.
    seen: Vec<(PathBuf, Option<Stamp>)>,
    /// Nobody wants to know any more.
    over: Arc<AtomicBool>,
}

impl Watcher {
    fn run(mut self, stirs: &Receiver<Stir>, changed: impl Fn()) {
        loop {
            let stirred = match stirs.recv_timeout(LOOK_EVERY) {
                Ok(stir) => {
                    self.settle(stir, stirs);
                    true
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let moved = self.arm();
            let now = self.look();
            if stirred || moved || now != self.seen {
                self.seen = now;
                changed();
            }
        }
    }

    /// Waits until it is quiet. Nothing ticks meanwhile, nor while nothing happens.
    fn settle(&mut self, first: Stir, stirs: &Receiver<Stir>) {
        let began = Instant::now();
        let mut next = Some(first);
        while let Some(stir) = next {
            self.forget(&stir.gone);
            let tired = began.elapsed() >= RESTLESS_MAX || self.over.load(Ordering::Relaxed);
            next = if tired { None } else { stirs.recv_timeout(SETTLED_AFTER).ok() };
        }
    }

    fn look(&self) -> Vec<(PathBuf, Option<Stamp>)> {
        let stamped = |path: PathBuf| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        };
        (self.paths)().into_iter().map(stamped).collect()
    }

    /// A folder that was moved or removed may come back as another one with the same number.
    fn forget(&mut self, gone: &[PathBuf]) {
        for path in gone {
            if let Some(stamp) = self.armed.get_mut(path) {
                *stamp = None;
            }
        }
    }

    /// Watches the folders that matter now. Tells whether that were others than before.
    fn arm(&mut self) -> bool {
        let Some(system) = &mut self.system else {
            return false;
        };
        let wanted: BTreeSet<PathBuf> = (self.paths)().iter().flat_map(|path| folders(path)).collect();
        let mut moved = false;
        self.armed.retain(|folder, _| {
            let keep = wanted.contains(folder);
            if !keep {
                let _ = system.unwatch(folder);
                moved = true;
            }
            keep
        });
        for folder in wanted {
            let stamp = Stamp::of(&folder).map(Stamp::identity);
            if stamp.is_some() && self.armed.get(&folder) == Some(&stamp) {
                continue;
            }
            // The old watch hangs on the old folder, or on nothing.
            let _ = system.unwatch(&folder);
            match system.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.armed.insert(folder, stamp);
                    moved = true;
                }
                // Away for now, or the system is out of watches: the next look tries again.
                Err(error) => {
                    tracing::debug!(folder = %folder.display(), %error, "cannot watch a folder");
                    self.armed.remove(&folder);
                }
            }
        }
        moved
    }
}

/// The folder of every link on the way to the file, and that of the file at its end. The folder of the path as it is
/// written is one of them. Each goes by its real path: under two names it would have one watch, and letting go of one
/// name would end it for both.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut ahead: VecDeque<PathBuf> = path.components().map(|part| PathBuf::from(part.as_os_str())).collect();
    let mut here = PathBuf::new();
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part.as_os_str() == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                found.insert(here.clone());
                let parts = target.components().filter(|part| *part != Component::CurDir);
                for (at, part) in parts.map(|part| PathBuf::from(part.as_os_str())).enumerate() {
                    ahead.insert(at, part);
                }
                // An absolute target begins with the root, and joining that starts anew by itself.
            }
            _ => here = next,
        }
    }
    found.extend(here.parent().map(Path::to_owned));
    found
}

/// Enough of a file's inode to see that it is another one or was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// `None` if there is nothing, or nothing we may see.
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let (device, inode) = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let (device, inode) = (0, 0);
        Some(Self { device, inode, len: metadata.len(), modified: metadata.modified().ok() })
    }

    /// A folder changes with each entry, and stays the same folder.
    fn identity(self) -> Self {
        Self { len: 0, modified: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F87: a file system that brings no events.
    #[test]
    fn f87_without_events_the_look_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        let paths = vec![path.clone()];
        let watcher = Watcher {
            paths: Box::new(move || paths.clone()),
            system: None,
            armed: BTreeMap::new(),
            seen: vec![(path.clone(), None)],
            over: Arc::default(),
        };
        let over = watcher.over.clone();
        let (wake, stirs) = mpsc::sync_channel(1);
        let (call, called) = mpsc::channel();
        let changed = move || {
            let _ = call.send(());
        };
        let thread = std::thread::spawn(move || watcher.run(&stirs, changed));
        std::fs::write(&path, "x").unwrap();
        called.recv_timeout(Duration::from_secs(20)).unwrap();
        std::fs::remove_file(&path).unwrap();
        called.recv_timeout(Duration::from_secs(20)).unwrap();
        over.store(true, Ordering::Relaxed);
        wake.send(Stir::default()).unwrap();
        thread.join().unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn every_link_on_the_way_counts() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["a", "b/c", "d"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::write(root.join("d/real.toml"), "").unwrap();
        symlink("../../d", root.join("b/c/d")).unwrap();
        symlink(root.join("b/c/d/real.toml"), root.join("a/hub.toml")).unwrap();
        symlink("round", root.join("round")).unwrap();
        let check = |path: &str, expected: &[&str]| {
            let expected: BTreeSet<PathBuf> = expected.iter().map(|part| root.join(part)).collect();
            let found = folders(&root.join(path));
            assert_eq!(found, expected, "{path}");
        };
        check("d/real.toml", &["d"]);
        check("a/hub.toml", &["a", "b/c", "d"]);
        check("b/c/d/real.toml", &["b/c", "d"]);
        check("none/hub.toml", &["none"]);
        check("round/hub.toml", &["", "round"]);
    }
}
