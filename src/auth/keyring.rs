//! Credentials in the keyring of the desktop, with the feature `keyring`: Secret Service, Keychain, Credential Manager.
//!
//! A machine without one keeps them in files, as without the feature. A file that is there is newer than what the keyring
//! holds, because what is written into the keyring takes its file away.

use std::path::Path;

use keyring::{Entry, Error};

/// What programs that show a keyring call our entries.
const SERVICE: &str = "hubward";

/// What is kept in place of a file.
pub(super) fn read(path: &Path) -> Option<String> {
    match entry(path)?.get_password() {
        Ok(text) => Some(text),
        Err(Error::NoEntry) => None,
        Err(error) => {
            tracing::warn!("the keyring cannot be read: {error}");
            None
        }
    }
}

/// Keeps a text in place of a file. Answers whether it could.
pub(super) fn write(path: &Path, text: &str) -> bool {
    let Some(entry) = entry(path) else { return false };
    let written = entry.set_password(text);
    if let Err(error) = &written {
        tracing::warn!("the keyring takes nothing, so credentials go into a file: {error}");
    }
    written.is_ok()
}

/// Keeps it no more.
pub(super) fn erase(path: &Path) {
    match entry(path).map(|entry| entry.delete_credential()) {
        None | Some(Ok(()) | Err(Error::NoEntry)) => {}
        Some(Err(error)) => tracing::warn!("credentials cannot be deleted from the keyring: {error}"),
    }
}

/// The entry that stands for a file; none where there is no keyring.
fn entry(path: &Path) -> Option<Entry> {
    match Entry::new(SERVICE, &path.to_string_lossy()) {
        Ok(entry) => Some(entry),
        Err(error) => {
            tracing::debug!("there is no keyring here: {error}");
            None
        }
    }
}
