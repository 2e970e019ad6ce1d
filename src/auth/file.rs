//! Files that only their owner can read, written whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// The largest file that is read.
pub(crate) const BYTES_MAX: u64 = 1 << 20;

/// The folder of a file, for its owner only.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Files that only their owner may read.
pub(crate) fn private(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Reads a file; where others could, they no longer can.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let known = file.metadata()?;
    if known.len() > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too large"));
    }
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&known.permissions()) & 0o077 != 0 {
        tracing::warn!("others could read {}; now only its owner can", path.display());
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    io::read_to_string(file)
}

/// Writes a file aside and puts it into its place, so that nobody ever reads half of it.
pub(crate) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    make_folder(path)?;
    let mut random = [0; 8];
    let _ = getrandom::fill(&mut random);
    let aside = path.with_extension(format!("{:016x}.new", u64::from_ne_bytes(random)));
    let written = (|| {
        let mut file = private(File::options().write(true).create_new(true)).open(&aside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&aside);
        return written;
    }
    // The rename itself outlives a power cut only once the folder is on the disk; a folder that cannot be synced is no
    // reason to say that nothing was written.
    if let Some(Ok(folder)) = path.parent().map(File::open) {
        let _ = folder.sync_all();
    }
    Ok(())
}
