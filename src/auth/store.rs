//! Tokens and registrations at rest: one file for each server, which only its owner can read.
//!
//! A file is written aside, synced and renamed over, so that it is whole at any instant. Several processes share it:
//! whoever exchanges a token that can be used once only holds the lock, and reads the file again before.
//! A disk that is full, or a file that is broken, never stops the serving: what cannot be written is kept in memory,
//! and written as soon as that works again.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::file;
#[cfg(feature = "keyring")]
use super::keyring;

pub use super::record::{Method, Origin, Record, Registration, Secret, Token};

/// How long to wait for a process that exchanges a token. Longer than an exchange may take.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How often to look whether a lock is free.
const LOCK_POLL: Duration = Duration::from_millis(40);

/// A folder of credentials, or the memory of this process.
#[derive(Clone, Debug)]
pub struct Store {
    folder: Option<PathBuf>,
}

/// What a lock is for.
#[derive(Clone, Copy, Debug)]
pub enum Lock {
    /// Exchanging a token.
    Exchange,
    /// Opening a browser window.
    Login,
}

/// Held until dropped.
#[derive(Debug)]
pub struct Locked {
    _file: Option<File>,
}

impl Store {
    /// In a folder, which is made when something has to be written.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Store {
        Store { folder: Some(folder.into()) }
    }

    /// Where the daemon and the commands keep credentials: under `$STATE_DIRECTORY`, `$XDG_STATE_HOME/hubward` or
    /// `~/.local/state/hubward`.
    #[must_use]
    pub fn usual() -> Store {
        Store { folder: state_folder().map(|folder| folder.join("credentials")) }
    }

    /// What is kept for a server. `parts` tell apart what must not be mixed: the URL, the resource, the client, the
    /// tenant.
    #[must_use]
    pub fn entry(&self, server: &str, host: &str, parts: &[&str]) -> Entry {
        let mut text = String::new();
        for part in parts {
            // The length in front: no two lists of parts read the same.
            text.push_str(&format!("{}:{part}", part.len()));
        }
        let hash: String =
            digest(&SHA256, text.as_bytes()).as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let readable = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
        let host: String = host.chars().take(80).map(readable).collect();
        let path = self.folder.as_ref().map(|folder| folder.join(format!("{host}-{hash}.json")));
        Entry { path, server: server.to_owned(), held: Arc::default() }
    }
}

/// Where this user's hub keeps what it has to find again: `$STATE_DIRECTORY`, `$XDG_STATE_HOME/hubward` or
/// `~/.local/state/hubward`.
#[must_use]
pub fn state_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd may name several, with colons between.
    let given = variable("STATE_DIRECTORY")
        .and_then(|value| value.to_str().and_then(|all| all.split(':').next()).map(PathBuf::from));
    given
        .or_else(|| variable("XDG_STATE_HOME").map(|folder| folder.join("hubward")))
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state/hubward")))
}

/// What is kept for one server.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `None`: nowhere but in memory.
    path: Option<PathBuf>,
    server: String,
    /// What could not be written, or everything where there is no file.
    held: Arc<Mutex<Option<Record>>>,
}

impl Entry {
    /// Where it is kept.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What is kept, as another process may have left it. Never fails: what cannot be read counts as nothing.
    pub async fn read(&self) -> Record {
        let entry = self.clone();
        tokio::task::spawn_blocking(move || entry.read_now()).await.unwrap_or_default()
    }

    /// Keeps it, in memory at least.
    pub async fn write(&self, record: Record) {
        let entry = self.clone();
        let _ = tokio::task::spawn_blocking(move || entry.write_now(record)).await;
    }

    /// Keeps nothing any more.
    pub async fn erase(&self) {
        let entry = self.clone();
        let erase = move || {
            *entry.held() = None;
            #[cfg(feature = "keyring")]
            entry.path.iter().for_each(|path| keyring::erase(path));
            match entry.path.as_ref().map(fs::remove_file) {
                Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("the credentials of {} cannot be deleted: {error}", entry.server);
                }
                _ => {}
            }
        };
        let _ = tokio::task::spawn_blocking(erase).await;
    }

    /// Waits for the lock. None is given when the folder takes none, or when its holder takes too long: what the lock
    /// guards is then worth the risk.
    pub async fn lock(&self, what: Lock) -> Locked {
        let began = Instant::now();
        loop {
            match self.try_lock(what) {
                Some(locked) => return locked,
                None if began.elapsed() > LOCK_WAIT => {
                    tracing::warn!("another process holds the credentials of {} for too long", self.server);
                    return Locked { _file: None };
                }
                None => tokio::time::sleep(LOCK_POLL).await,
            }
        }
    }

    /// The lock, unless another holds it.
    #[must_use]
    pub fn try_lock(&self, what: Lock) -> Option<Locked> {
        let Some(path) = &self.path else { return Some(Locked { _file: None }) };
        let path = path.with_extension(match what {
            Lock::Exchange => "lock",
            Lock::Login => "login",
        });
        let file = file::make_folder(&path)
            .and_then(|()| file::private(File::options().create(true).append(true)).open(&path));
        match file.map(|file| (file.try_lock(), file)) {
            Ok((Ok(()), file)) => Some(Locked { _file: Some(file) }),
            Ok((Err(TryLockError::WouldBlock), _)) => None,
            Ok((Err(TryLockError::Error(error)), _)) | Err(error) => {
                tracing::warn!("{} cannot be locked: {error}", path.display());
                Some(Locked { _file: None })
            }
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<Record>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_now(&self) -> Record {
        let empty = || Record { server: self.server.clone(), ..Record::default() };
        let Some(path) = &self.path else { return self.held().clone().unwrap_or_else(empty) };
        let mut held = self.held();
        if let Some(unwritten) = held.clone() {
            // Another process may have written while this one could not.
            let there = load(path).ok().and_then(|text| serde_json::from_str::<Record>(&text).ok());
            let obtained = |record: &Record| record.token.as_ref().map_or(0, |token| token.obtained_at);
            if let Some(newer) = there.filter(|there| obtained(there) > obtained(&unwritten)) {
                *held = None;
                return newer;
            }
            if keep(path, &unwritten).is_ok() {
                *held = None;
            }
            return unwritten;
        }
        let text = match load(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return empty(),
            Err(error) => {
                tracing::warn!("credentials cannot be read from {}: {error}", path.display());
                return empty();
            }
        };
        match serde_json::from_str(&text) {
            Ok(record) => record,
            Err(_) => {
                // Not the error's text: it may quote what it could not read.
                let aside = path.with_extension("broken");
                let moved = fs::rename(path, &aside).is_ok();
                let aside = if moved { format!("; it is now {}", aside.display()) } else { String::new() };
                tracing::warn!("{} is broken, and its credentials are lost{aside}", path.display());
                empty()
            }
        }
    }

    fn write_now(&self, mut record: Record) {
        record.server.clone_from(&self.server);
        let mut held = self.held();
        let Some(path) = &self.path else {
            *held = Some(record);
            return;
        };
        *held = match keep(path, &record) {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!("credentials cannot be written to {}, and live in memory: {error}", path.display());
                Some(record)
            }
        };
    }
}

/// What is kept under the name of a file: in it, or in the keyring.
fn load(path: &Path) -> io::Result<String> {
    let file = file::read(path);
    #[cfg(feature = "keyring")]
    if file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        && let Some(text) = keyring::read(path)
    {
        return Ok(text);
    }
    file
}

/// Keeps a record in the keyring, where there is one; else in its file.
fn keep(path: &Path, record: &Record) -> io::Result<()> {
    #[cfg(feature = "keyring")]
    if keyring::write(path, &serde_json::to_string(record)?) {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    file::write(path, &serde_json::to_vec_pretty(record)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs a keyring that is open: `tests/external/keyring.sh` brings one.
    #[cfg(feature = "keyring")]
    #[test]
    #[ignore = "needs a keyring"]
    fn a_keyring_keeps_what_else_would_be_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Store::at(folder.path()).entry("s", "h", &["x"]);
        let path = entry.path().unwrap().to_owned();
        file::write(&path, &serde_json::to_vec(&record("of the file")).unwrap()).unwrap();
        assert_eq!(entry.read_now().token.unwrap().access.expose(), "of the file");
        entry.write_now(record("of the keyring"));
        assert!(!path.exists(), "the file has gone");
        assert!(keyring::read(&path).is_some_and(|text| text.contains("of the keyring")));
        assert_eq!(entry.read_now().token.unwrap().access.expose(), "of the keyring");
        keyring::erase(&path);
        assert!(entry.read_now().token.is_none());
    }
    use crate::auth::record::tests::token;

    fn record(access: &str) -> Record {
        Record { token: Some(token(access)), ..Record::default() }
    }

    #[test]
    fn servers_clients_and_tenants_have_files_of_their_own() {
        let store = Store::at("/x");
        let path = |parts: &[&str]| store.entry("s", "a.example", parts).path().unwrap().to_owned();
        assert_eq!(path(&["a", "b"]), path(&["a", "b"]));
        assert_ne!(path(&["a", "b"]), path(&["ab", ""]));
        assert_ne!(path(&["a1:b"]), path(&["a", "b"]));
        let odd = store.entry("s", "../[::1]", &[]);
        assert_eq!(odd.path().unwrap().parent(), Some(Path::new("/x")));
    }

    #[cfg(unix)]
    #[test]
    fn s3_7_what_is_written_is_private_and_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let entry = Store::at(folder.path().join("deep/credentials")).entry("s", "h", &["x"]);
        assert!(entry.read_now().token.is_none());
        entry.write_now(record("secret"));
        let path = entry.path().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(entry.read_now().token.unwrap().access.expose(), "secret");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");

        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(entry.read_now().token.is_some());
        assert_eq!(mode(path), 0o600);
    }

    #[test]
    fn f102_a_broken_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Store::at(folder.path()).entry("s", "h", &["x"]);
        for broken in ["", "{\"token\": ", "[]", "\u{0}\u{0}"] {
            fs::write(entry.path().unwrap(), broken).unwrap();
            assert!(entry.read_now().token.is_none());
            assert!(!entry.path().unwrap().exists());
            entry.write_now(record("a"));
            assert!(entry.read_now().token.is_some(), "{broken}");
        }
    }

    #[test]
    fn f101_what_cannot_be_written_lives_in_memory_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        fs::write(&blocked, "").unwrap();
        let entry = Store::at(&blocked).entry("s", "h", &["x"]);
        entry.write_now(record("a"));
        assert_eq!(entry.read_now().token.unwrap().access.expose(), "a");
        assert!(entry.try_lock(Lock::Exchange).is_some());
        fs::remove_file(&blocked).unwrap();
        assert_eq!(entry.read_now().token.unwrap().access.expose(), "a");
        assert!(entry.path().unwrap().exists());
    }

    #[test]
    fn f133_one_that_was_cut_off_from_the_store_undoes_nothing_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let (place, away) = (folder.path().join("store"), folder.path().join("away"));
        let (cut_off, other) = (Store::at(&place).entry("s", "h", &["x"]), Store::at(&place).entry("s", "h", &["x"]));
        let at = |access: &str, obtained_at| Record {
            token: Some(crate::auth::record::Token { obtained_at, ..token(access) }),
            ..Record::default()
        };
        other.write_now(at("first", 1));
        fs::rename(&place, &away).unwrap();
        fs::write(&place, "").unwrap();
        cut_off.write_now(at("second", 2));
        assert_eq!(cut_off.read_now().token.unwrap().access.expose(), "second", "it serves from memory");
        fs::remove_file(&place).unwrap();
        fs::rename(&away, &place).unwrap();
        other.write_now(at("third", 3));
        assert_eq!(cut_off.read_now().token.unwrap().access.expose(), "third");
        assert_eq!(other.read_now().token.unwrap().access.expose(), "third");
    }

    #[test]
    fn f131_one_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Store::at(folder.path()).entry("s", "h", &["x"]);
        let held = entry.try_lock(Lock::Exchange);
        assert!(held.is_some() && entry.try_lock(Lock::Exchange).is_none());
        assert!(entry.try_lock(Lock::Login).is_some(), "the other lock is another one");
        drop(held);
        assert!(entry.try_lock(Lock::Exchange).is_some());
    }
}
