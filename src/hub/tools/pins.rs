//! The definitions that an operator accepted, on disk: one file for each upstream of each hub.toml.
//!
//! The first complete list that is ever seen is taken as accepted: trust on first use. A file that cannot be read
//! accepts nothing: it may be the one that said no.

use std::{
    io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::definition::Definitions;
use crate::{
    auth::file,
    config::{Name, hex},
};

const VERSION: u32 = 1;

/// What is accepted.
#[derive(Debug)]
pub enum Accepted {
    /// Nothing was ever seen.
    Nothing,
    These(Definitions),
    /// The file cannot be read, for this reason.
    Unreadable(String),
}

/// The file of one upstream.
#[derive(Clone, Debug)]
pub struct PinFile {
    path: PathBuf,
    config: String,
    upstream: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Whose they are, for people.
    config: String,
    upstream: String,
    tools: Definitions,
}

impl PinFile {
    /// The file of an upstream of this hub.toml; none where this user has no place for state.
    pub fn of(config: &Path, upstream: &Name) -> Option<PinFile> {
        Some(PinFile::in_folder(&crate::auth::store::state_folder()?.join("pins"), config, upstream))
    }

    fn in_folder(folder: &Path, config: &Path, upstream: &Name) -> PinFile {
        let config = config.to_string_lossy().into_owned();
        let hash = digest(&SHA256, config.as_bytes());
        let hash = hex(&hash.as_ref()[..12]);
        let path = folder.join(format!("{upstream}-{hash}.json"));
        PinFile { path, config, upstream: upstream.as_str().to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn read(&self) -> Accepted {
        let shown = self.path.display();
        let text = match file::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Accepted::Nothing,
            Err(error) => {
                return Accepted::Unreadable(format!("the accepted tools cannot be read from {shown}: {error}"));
            }
        };
        match serde_json::from_str::<Record>(&text) {
            Ok(record) if record.version == VERSION && record.upstream == self.upstream => {
                Accepted::These(record.tools)
            }
            _ => Accepted::Unreadable(format!("the accepted tools cannot be read from {shown}: the file is broken")),
        }
    }

    pub fn write(&self, tools: &Definitions) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("the accepted tools cannot be written to {}: {error}", self.path.display())
        };
        let (config, upstream) = (self.config.clone(), self.upstream.clone());
        let record = Record { version: VERSION, config, upstream, tools: tools.clone() };
        let text = serde_json::to_vec(&record).map_err(|error| failed(&error))?;
        if text.len() as u64 > file::BYTES_MAX {
            return Err(failed(&"there are too many"));
        }
        file::write(&self.path, &text).map_err(|error| failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn f126_what_is_accepted_comes_back_and_a_broken_file_accepts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let name = Name::new("a").unwrap();
        let file = PinFile::in_folder(&folder.path().join("pins"), Path::new("/etc/hub.toml"), &name);
        assert!(matches!(file.read(), Accepted::Nothing));
        let mut tools = Definitions::default();
        assert!(tools.add(r#"[{"name":"x","title":"1"}]"#));
        file.write(&tools).unwrap();
        assert!(matches!(file.read(), Accepted::These(read) if read == tools));
        let whole = fs::read_to_string(file.path()).unwrap();
        for broken in ["", "{}", &whole[..whole.len() / 2], &whole.replace("\"version\":1", "\"version\":2")] {
            fs::write(file.path(), broken).unwrap();
            assert!(matches!(file.read(), Accepted::Unreadable(why) if why.contains("pins/a-")), "{broken}");
        }
        let other = PinFile::in_folder(&folder.path().join("pins"), Path::new("/home/hub.toml"), &name);
        assert!(matches!(other.read(), Accepted::Nothing), "another file has pins of its own");
    }

    #[cfg(unix)]
    #[test]
    fn f126_pins_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = PinFile::in_folder(&folder.path().join("pins"), Path::new("/x"), &Name::new("a").unwrap());
        file.write(&Definitions::default()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file.path()), mode(file.path().parent().unwrap())), (0o600, 0o700));
    }
}
