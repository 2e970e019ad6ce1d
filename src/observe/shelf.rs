//! The files of `stderr_file`: one thread writes them all, and begins a new one where one is full.
//!
//! A line that finds no room in the queue is lost, and counted; a file that cannot be written is told once, in the log
//! and beside the upstream's state, and tried again. Whoever prints waits for neither.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwapOption;

use super::{
    append::Append,
    journal::{Kind, Line},
    queue::{Items, Queue},
};

/// Lines that may wait for the disk, of all upstreams.
const QUEUE_MAX: usize = 4096;
/// A file that would grow beyond this becomes `name.1.log`,
const BYTES_MAX: u64 = 10 << 20;
/// and so many there are at most, with the one that is written.
const FILES_MAX: u32 = 5;
/// How soon a file is tried again that could not be written.
const PAUSE: Duration = Duration::from_secs(1);
/// A file that nothing was written to for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// All files. The thread starts with the first.
#[derive(Default)]
pub struct Shelf {
    queue: OnceLock<Option<Queue<Entry>>>,
}

/// The file of one upstream.
pub struct Volume {
    upstream: String,
    path: PathBuf,
    queue: Option<Queue<Entry>>,
    /// Lines that were lost since the last that was written.
    lost: AtomicU64,
    trouble: ArcSwapOption<String>,
}

struct Entry {
    volume: Arc<Volume>,
    line: Line,
}

impl Shelf {
    /// The file of an upstream.
    pub fn volume(&self, upstream: &str, path: &Path) -> Arc<Volume> {
        let queue = self.queue.get_or_init(|| {
            Queue::start("stderr-files", QUEUE_MAX, |items| Writer::default().run(&items))
                .inspect_err(|error| tracing::error!("no stderr_file is written: {error}"))
                .ok()
        });
        Arc::new(Volume {
            upstream: upstream.to_owned(),
            path: path.to_owned(),
            queue: queue.clone(),
            lost: AtomicU64::new(0),
            trouble: ArcSwapOption::empty(),
        })
    }

    /// Gives the last lines a moment to be written.
    pub fn flush(&self) {
        if let Some(Some(queue)) = self.queue.get() {
            queue.flush();
        }
    }
}

impl Volume {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it is not written, if it is not.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    pub(super) fn put(self: &Arc<Self>, line: Line) {
        let entry = Entry { volume: self.clone(), line };
        if !self.queue.as_ref().is_some_and(|queue| queue.offer(entry)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn failed(&self, error: &io::Error) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let why = format!("cannot write stderr_file {}: {error}", self.path.display());
        if self.trouble.swap(Some(Arc::new(why.clone()))).is_none() {
            tracing::warn!(upstream = %self.upstream, "{why}; its last lines are in `hubward logs` only");
        }
    }

    fn written(&self) {
        if self.trouble.load().is_some() {
            self.trouble.store(None);
            tracing::info!(upstream = %self.upstream, "stderr_file {} is written again", self.path.display());
        }
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Volume").field(&self.path).finish()
    }
}

/// A moment, as it is written.
pub fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| format!("{time:.3}")).unwrap_or_default()
}

/// `2026-01-01T00:00:00.000Z time 4242 text`; `-` where there is no process, `hubward: ` before what the hub says.
fn write(line: &Line, upstream: &str) -> String {
    let pid = line.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let who = if line.kind == Kind::Hub { "hubward: " } else { "" };
    format!("{} {upstream} {pid} {who}{}\n", timestamp(line.time), line.text)
}

/// What the thread knows. Several upstreams may write to one file.
#[derive(Default)]
struct Writer {
    open: HashMap<PathBuf, Open>,
    looked: Option<Instant>,
}

struct Open {
    /// None where it could not be written.
    file: Option<Append>,
    bytes: u64,
    used: Instant,
}

impl Writer {
    fn run(mut self, items: &Items<Entry>) {
        items.each(PAUSE, |entry| {
            if let Some(Entry { volume, line }) = entry {
                self.take(&volume, &line);
            }
            if self.looked.is_none_or(|looked| looked.elapsed() > PAUSE) {
                self.looked = Some(Instant::now());
                self.open.retain(|_, open| open.used.elapsed() < IDLE_MAX);
            }
        });
    }

    fn take(&mut self, volume: &Volume, line: &Line) {
        let lost = volume.lost.swap(0, Ordering::Relaxed);
        let mut text = write(line, &volume.upstream);
        if lost > 0 {
            let gap = format!("{lost} lines were lost before this one");
            text.insert_str(0, &write(&Line { kind: Kind::Hub, text: gap.into(), ..line.clone() }, &volume.upstream));
        }
        match self.append(&volume.path, text.as_bytes()) {
            Ok(()) => volume.written(),
            Err(None) => drop(volume.lost.fetch_add(lost + 1, Ordering::Relaxed)),
            Err(Some(error)) => {
                volume.lost.fetch_add(lost, Ordering::Relaxed);
                volume.failed(&error);
            }
        }
    }

    /// Fails without an error where that was told a moment ago.
    fn append(&mut self, path: &Path, text: &[u8]) -> Result<(), Option<io::Error>> {
        let known = self.open.get(path).is_some_and(|open| open.file.is_some() || open.used.elapsed() < PAUSE);
        if !known {
            let file = begin(path);
            let bytes = file.as_ref().map_or(0, Append::len);
            let (file, error) = file.map_or_else(|error| (None, Some(error)), |file| (Some(file), None));
            self.open.insert(path.to_owned(), Open { file, bytes, used: Instant::now() });
            if error.is_some() {
                return Err(error);
            }
        }
        let Some(open) = self.open.get_mut(path) else { return Err(None) };
        let Some(file) = &mut open.file else { return Err(None) };
        open.used = Instant::now();
        let written = add(path, file, &mut open.bytes, text);
        if written.is_err() {
            open.file = None;
        }
        written.map_err(Some)
    }
}

/// Opens the file, and makes the folder that it is to be in.
fn begin(path: &Path) -> io::Result<Append> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    Append::open(path)
}

fn add(path: &Path, file: &mut Append, bytes: &mut u64, text: &[u8]) -> io::Result<()> {
    if file.look()? {
        *bytes = file.len();
    }
    if *bytes > 0 && *bytes + text.len() as u64 > BYTES_MAX {
        rotate(path)?;
        *file = Append::open(path)?;
        *bytes = 0;
    }
    file.write_all(text)?;
    *bytes += text.len() as u64;
    Ok(())
}

/// Makes room for a new file: each older one goes up by one, and the oldest goes.
fn rotate(path: &Path) -> io::Result<()> {
    for number in (1..FILES_MAX - 1).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(path, 1))
}

/// `time.log` becomes `time.1.log`: the end stays, by which everybody knows what it is.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    if let Some(end) = path.extension() {
        name.push(".");
        name.push(end);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { time: SystemTime::UNIX_EPOCH, pid: Some(7), kind: Kind::Stderr, text: text.into() }
    }

    fn volume(path: &Path) -> Volume {
        let (path, upstream) = (path.to_owned(), "time".to_owned());
        Volume { upstream, path, queue: None, lost: AtomicU64::new(0), trouble: ArcSwapOption::empty() }
    }

    #[test]
    fn a_line_says_when_who_and_which_process() {
        assert_eq!(write(&line("x"), "time"), "1970-01-01T00:00:00.000Z time 7 x\n");
        let hub = Line { kind: Kind::Hub, pid: None, ..line("ready") };
        assert_eq!(write(&hub, "time"), "1970-01-01T00:00:00.000Z time - hubward: ready\n");
    }

    #[test]
    fn a_full_file_is_put_aside_and_five_are_kept_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/time.log");
        let (volume, mut writer) = (volume(&path), Writer::default());
        let long = "x".repeat(1 << 20);
        // Eight files of nine lines, and each begins with its number.
        for number in 0..8 * 9 {
            writer.take(&volume, &line(&format!("{} {long}", number / 9)));
        }
        let mut names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["time.1.log", "time.2.log", "time.3.log", "time.4.log", "time.log"]);
        for (name, content) in [("time.4.log", " 7 3 x"), ("time.1.log", " 7 6 x"), ("time.log", " 7 7 x")] {
            let file = path.with_file_name(name);
            assert!(fs::metadata(&file).unwrap().len() <= BYTES_MAX);
            assert!(fs::read_to_string(&file).unwrap()[24..].starts_with(&format!(" time{content}")), "{name}");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
        assert_eq!(numbered(Path::new("/a/b"), 2), Path::new("/a/b.2"));
    }

    #[test]
    fn f101_a_file_that_cannot_be_written_is_told_and_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time.log");
        fs::create_dir(&path).unwrap();
        let (volume, mut writer) = (volume(&path), Writer::default());
        writer.take(&volume, &line("a"));
        let trouble = volume.trouble().unwrap();
        assert!(trouble.contains("cannot write stderr_file") && trouble.contains("time.log"), "{trouble}");
        writer.take(&volume, &line("b"));
        fs::remove_dir(&path).unwrap();
        while volume.trouble().is_some() {
            writer.take(&volume, &line("c"));
        }
        let text = fs::read_to_string(&path).unwrap();
        let (gap, rest) = text.split_once('\n').unwrap();
        let lost: u64 = gap.split(' ').nth(4).unwrap().parse().unwrap();
        assert!(lost >= 2 && gap.ends_with("lines were lost before this one"), "{gap}");
        assert!(rest.ends_with(" time 7 c\n"));
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time.log");
        let (volume, mut writer) = (volume(&path), Writer::default());
        writer.take(&volume, &line("a"));
        fs::rename(&path, folder.path().join("away")).unwrap();
        while !path.exists() {
            writer.take(&volume, &line("b"));
        }
        assert!(fs::read_to_string(folder.path().join("away")).unwrap().contains(" 7 a\n"));
    }
}
