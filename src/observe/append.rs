//! A file that lines are added to: for its owner's eyes only, and opened anew where somebody has moved it away.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often it is looked whether the file is still there.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The file, under its name.
#[derive(Debug)]
pub(super) struct Append {
    path: PathBuf,
    file: File,
    looked: Instant,
}

impl Append {
    pub(super) fn open(path: &Path) -> io::Result<Append> {
        Ok(Append { path: path.to_owned(), file: open(path)?, looked: Instant::now() })
    }

    pub(super) fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |known| known.len())
    }

    /// Whoever rotates files moves them away. Answers whether it is another one now.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(false);
        }
        self.looked = Instant::now();
        let moved = !is_same(&self.file, &self.path);
        if moved {
            self.file = open(&self.path)?;
        }
        Ok(moved)
    }
}

impl Write for Append {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Where it cannot be opened again, the old one is better than none.
        let _ = self.look();
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Opens a file to add to it. A pipe that nobody reads is an error and not a wait.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    options.open(path)
}

/// Is the open file the one under that name?
pub(super) fn is_same(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (Ok(own), Ok(there)) = (file.metadata(), path.metadata()) else { return false };
        (own.dev(), own.ino()) == (there.dev(), there.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}
