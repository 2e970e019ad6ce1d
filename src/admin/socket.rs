//! One socket, one hub: who holds the lock beside it owns it, and what a dead hub left there is replaced.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

use super::{SocketError, place};

/// A hub that ends takes its lock away; more than a few cannot end in one instant.
const TRIES: u32 = 5;

/// A socket that is ours, and who comes to it.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    pub(super) held: Held,
}

/// What is ours in the file system until it is dropped.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    /// What stands at the path as long as nobody else put anything there.
    node: (u64, u64),
    lock: PathBuf,
    /// Held as long as the process lives, however it ends.
    _file: File,
}

impl Socket {
    /// Opens the socket. Another hub that lives keeps its own.
    pub fn open(path: &Path) -> Result<Socket, SocketError> {
        open(path).map_err(|why| SocketError { path: path.to_owned(), why })
    }
}

fn open(path: &Path) -> Result<Socket, String> {
    place::make(path)?;
    let (lock, file) = lock(path)?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.to_string()),
        // Whoever left it has ended, or it would hold the lock.
        Ok(there) if there.file_type().is_socket() => {
            fs::remove_file(path)
                .map_err(|error| format!("a socket that was left there cannot be removed: {error}"))?;
        }
        Ok(_) => return Err("something that is no socket is in its place; move it away".into()),
    }
    let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => {
            "the path is too long for a socket; name a shorter one (admin_socket)".to_owned()
        }
        _ => error.to_string(),
    })?;
    // Who came in before this is turned away by its user.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|error| error.to_string())?;
    let node = node(path).map_err(|error| error.to_string())?;
    Ok(Socket { listener, held: Held { path: path.to_owned(), node, lock, _file: file } })
}

fn lock(path: &Path) -> Result<(PathBuf, File), String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    for _ in 0..TRIES {
        let file = File::options().create(true).append(true).mode(0o600).custom_flags(no_follow).open(&name);
        let file = file.map_err(|error| format!("its lock {} cannot be opened: {error}", name.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err("another hub holds it, and keeps it".into()),
            Err(TryLockError::Error(error)) => return Err(format!("its lock cannot be taken: {error}")),
        }
        // The last hub may have taken it away in this instant: then it locks nobody out.
        let own = file.metadata().map(|known| (known.dev(), known.ino()));
        if own.is_ok_and(|own| node(&name).is_ok_and(|there| there == own)) {
            return Ok((name, file));
        }
    }
    Err("its lock is taken away again and again".into())
}

fn node(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|known| (known.dev(), known.ino()))
}

impl Drop for Held {
    fn drop(&mut self) {
        if node(&self.path).is_ok_and(|there| there == self.node) {
            let _ = fs::remove_file(&self.path);
        }
        // Last, and while it is still held.
        let _ = fs::remove_file(&self.lock);
    }
}
