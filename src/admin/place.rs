//! Where the socket is: in a folder that nobody else can write, under a name that follows from the hub.toml.
//!
//! So one user can run several hubs, and each command finds the hub of its file.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::{self, hex};

/// The socket of the hub that serves this hub.toml, if no key names another.
pub fn default(config: &Path) -> PathBuf {
    folder().join(file_name(config))
}

fn file_name(config: &Path) -> String {
    let identity = config::identity(config);
    let hash = digest(&SHA256, identity.as_os_str().as_encoded_bytes());
    let hash = hex(&hash.as_ref()[..8]);
    format!("hubward-{hash}.sock")
}

/// The first folder that is ours, or can be.
fn folder() -> PathBuf {
    let absolute = |path: &PathBuf| path.is_absolute();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(absolute);
    match runtime.filter(|runtime| guarded(runtime).is_ok()) {
        Some(runtime) => runtime.join("hubward"),
        // Made by systemd (RuntimeDirectory=), or by root.
        None if own(Path::new(SYSTEM)).is_ok() || is_root() => SYSTEM.into(),
        None => std::env::temp_dir().join(format!("hubward-{}", user())),
    }
}

const SYSTEM: &str = "/run/hubward";

/// Makes the folder of a socket, where it is missing, and sees to it that nobody else can put anything there.
pub fn make(socket: &Path) -> Result<(), String> {
    let Some(folder) = socket.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| format!("its folder cannot be made: {error}"))?;
    guarded(folder)
}

/// A folder of ours that only we can write.
fn own(folder: &Path) -> Result<(), String> {
    guarded(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let known = folder.symlink_metadata().map_err(|error| error.to_string())?;
        if known.uid() != user() {
            return Err(format!("{} belongs to another user", folder.display()));
        }
    }
    Ok(())
}

/// A folder in which nobody but us and root can put one thing in place of another.
fn guarded(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let known = folder.symlink_metadata().map_err(|error| format!("{shown}: {error}"))?;
    if !known.is_dir() {
        return Err(format!("{shown} is no folder (a link to one is not followed)"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if known.uid() != user() && known.uid() != 0 {
            return Err(format!("{shown} belongs to another user"));
        }
        // With the sticky bit others can only add what is new.
        let (others, sticky) = (known.mode() & 0o022 != 0, known.mode() & 0o1000 != 0);
        if others && !sticky {
            return Err(format!("others can write {shown}; `chmod go-w {shown}` ends that"));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn user() -> u32 {
    0
}

fn is_root() -> bool {
    cfg!(unix) && user() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_a_socket_of_its_own_however_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("hub.toml"), folder.path().join("other.toml"));
        assert_ne!(file_name(&one), file_name(&two));
        assert_eq!(file_name(&one), file_name(&folder.path().join("./hub.toml")));
        std::fs::create_dir(folder.path().join("x")).unwrap();
        assert_eq!(file_name(&one), file_name(&folder.path().join("x/../hub.toml")));
        #[cfg(unix)]
        {
            // The file is a link that leads elsewhere after each change: Kubernetes.
            std::os::unix::fs::symlink("generation1", &one).unwrap();
            let before = file_name(&one);
            std::fs::remove_file(&one).unwrap();
            std::os::unix::fs::symlink("generation2", &one).unwrap();
            assert_eq!(file_name(&one), before);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_write_or_that_is_a_link_is_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("run");
        make(&folder.join("s.sock")).unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(make(&folder.join("s.sock")).unwrap_err().contains("others can write"));
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(make(&folder.join("s.sock")), Ok(()));
        symlink(&folder, top.path().join("link")).unwrap();
        assert!(make(&top.path().join("link/s.sock")).unwrap_err().contains("no folder"));
    }
}
