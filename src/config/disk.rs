//! The one door to the disk: finding `hub.toml`, reading it, and reading the secret files it names.
//!
//! Opening never blocks and never reads more than it should: the path may be a FIFO, a device, a folder, or a file of a
//! gigabyte. What is read is what one open descriptor gives, and it is read again when it changed meanwhile.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;

use super::expand::{ExpandError, Text, expand};
use super::report::{self, Diagnostic};
use super::{Config, HubConfig, hex, parse};

/// The largest `hub.toml`: room for some ten thousand upstreams.
const FILE_BYTES_MAX: usize = 4 << 20;

/// The largest secret: a chain of certificates is far smaller.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// The largest file of certificates: room for all authorities that a browser knows.
const PEM_BYTES_MAX: usize = 1 << 20;

/// An editor that streams a file is done after a few of these; one that is not done brings another event.
const READS_MAX: usize = 5;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A file that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub text: String,
    /// The first 16 hex digits of the text's SHA-256. A secret file that changed changes `config`, and not this.
    pub hash: String,
    pub warnings: Vec<Diagnostic>,
}

/// A file that cannot be used; shows itself as the drawn report.
#[derive(Debug, Clone)]
pub struct Rejected {
    pub path: PathBuf,
    /// `None` if it could not even be read.
    pub text: Option<String>,
    pub diagnostics: Vec<Diagnostic>,
}

impl Rejected {
    fn unread(path: &Path, title: impl Into<String>, help: Option<String>) -> Self {
        let mut diagnostic = Diagnostic::of_file(title);
        diagnostic.help = help;
        Self { path: path.to_owned(), text: None, diagnostics: vec![diagnostic] }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_deref().unwrap_or_default();
        f.write_str(report::draw(&self.diagnostics, text, &self.path, false).trim_end())
    }
}

impl std::error::Error for Rejected {}

/// Reads the text of the file, whatever it says.
pub fn text(path: &Path) -> Result<String, Rejected> {
    let bytes = contents(path, FILE_BYTES_MAX).map_err(|error| {
        let begin = error.is_absence().then(|| "check the path; `hubward init` writes a file to begin with".to_owned());
        Rejected::unread(path, format!("cannot read the file: {error}"), error.cure(path).or(begin))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = memchr::memchr_iter(b'\n', good).count() + 1;
        let start = memchr::memrchr(b'\n', good).map_or(0, |at| at + 1);
        let mut rejected = Rejected::unread(path, "the file is not UTF-8", Some("save it as UTF-8".into()));
        for diagnostic in &mut rejected.diagnostics {
            diagnostic.line = line;
            diagnostic.column = String::from_utf8_lossy(&good[start..]).chars().count() + 1;
        }
        rejected
    })
}

/// A variable of this process. One that is not UTF-8 counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

/// Reads the file with the environment of this process.
pub fn read(path: &Path) -> Result<Loaded, Rejected> {
    let text = text(path)?;
    // Relative to the file as it is called, not to what it links to: a link moves the file, not its surroundings.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    match parse(&text, folder, &variable) {
        Ok((config, warnings)) => Ok(Loaded { config, hash: hash(&text), text, warnings }),
        Err(diagnostics) => Err(Rejected { path: path.to_owned(), text: Some(text), diagnostics }),
    }
}

/// Reads the text of a hub.toml that is in no file: relative paths are relative to the current directory, variables are
/// those of this process. Warnings are not told; all errors are, drawn under their lines.
impl std::str::FromStr for Config {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Config, Rejected> {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let rejected = |diagnostics| Rejected { path: "hub.toml".into(), text: Some(text.to_owned()), diagnostics };
        parse(text, &here, &variable).map(|(config, _)| config).map_err(rejected)
    }
}

/// What a file is known by to whatever is kept beside it: the folder without links, and its own name. The file itself
/// may be a link that leads elsewhere after each change.
pub fn identity(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = absolute.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, absolute.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => absolute,
    }
}

/// The admin socket that a file names, whatever is wrong with the rest of it.
pub fn admin_socket(path: &Path) -> Option<PathBuf> {
    hub_alone(path)?.admin_socket
}

/// What a file says of the hub itself, as far as that can be read; for commands that serve a file while it is edited.
pub fn hub_alone(path: &Path) -> Option<HubConfig> {
    let text = String::from_utf8(contents(path, FILE_BYTES_MAX).ok()?).ok()?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    super::file::hub_alone(&text, absolute.parent().unwrap_or(Path::new("/")), &variable)
}

/// Follows the references of a value that stands in no file: a flag's. Paths are relative to the current directory.
pub fn resolve(raw: &str) -> Result<Text, String> {
    let told = |error: &ExpandError| match error.help() {
        Some(help) => format!("{error}: {help}"),
        None => error.to_string(),
    };
    expand(raw, &variable, &|path| secret(Path::new(""), path))
        .map_err(|errors| errors.iter().map(told).collect::<Vec<_>>().join("; "))
}

fn hash(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    hex(&digest.as_ref()[..8])
}

/// What `${file:…}` stands for: the contents without the line breaks at the end, as in a shell's `$(<file)`.
pub(super) fn secret(folder: &Path, path: &Path) -> Result<String, ExpandError> {
    let full = folder.join(path);
    let refused = |why: String, help| ExpandError::File { path: path.display().to_string(), why, help };
    let bytes = contents(&full, SECRET_BYTES_MAX).map_err(|error| refused(error.to_string(), error.cure(&full)))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(_) => Err(refused("it is not UTF-8".into(), None)),
    }
}

/// The bytes of a file that a key names; else why not, and the cure.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, (String, Option<String>)> {
    contents(path, PEM_BYTES_MAX).map_err(|error| (error.to_string(), error.cure(path)))
}

/// Why a file gave nothing.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{}", words(.0))]
    Io(io::Error),
    #[error("it is {0}, not a regular file")]
    Kind(&'static str),
    #[error("it is larger than {} KiB", .0 >> 10)]
    Large(usize),
    #[error("{who} may write to it, and so decide what runs here")]
    Open { who: &'static str, cure: &'static str },
    #[error("it keeps changing while it is read")]
    Restless,
}

/// The two everyday ones without their number.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

impl ReadError {
    fn is_absence(&self) -> bool {
        matches!(self, ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    fn cure(&self, path: &Path) -> Option<String> {
        match self {
            ReadError::Open { cure, .. } => Some(format!("chmod {cure} {}", path.display())),
            _ => None,
        }
    }
}

fn contents(path: &Path, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
    for attempt in 0..READS_MAX {
        if attempt > 0 {
            std::thread::sleep(READ_AGAIN_AFTER);
        }
        let file = open(path).map_err(ReadError::Io)?;
        let before = file.metadata().map_err(ReadError::Io)?;
        admit(&before, bytes_max)?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells a file that has grown since.
        (&file).take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
        if bytes.len() > bytes_max {
            return Err(ReadError::Large(bytes_max));
        }
        let after = file.metadata().map_err(ReadError::Io)?;
        if same(&before, &after) && before.len() == bytes.len() as u64 {
            return Ok(bytes);
        }
    }
    Err(ReadError::Restless)
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Without NONBLOCK the opening of a FIFO waits for its writer; NOCTTY keeps a terminal from adopting us.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

fn admit(metadata: &Metadata, bytes_max: usize) -> Result<(), ReadError> {
    if metadata.is_dir() {
        return Err(ReadError::Kind("a directory"));
    }
    if !metadata.is_file() {
        return Err(ReadError::Kind("a FIFO, a socket or a device"));
    }
    if metadata.len() > bytes_max as u64 {
        return Err(ReadError::Large(bytes_max));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if metadata.mode() & 0o002 != 0 {
            return Err(ReadError::Open { who: "anybody", cure: "o-w" });
        }
        // Under umask 002 every file is writable by a group of which its owner is the only member; by custom that
        // group bears the owner's number.
        if metadata.mode() & 0o020 != 0 && metadata.gid() != metadata.uid() {
            return Err(ReadError::Open { who: "a group", cure: "g-w" });
        }
    }
    Ok(())
}

fn same(before: &Metadata, after: &Metadata) -> bool {
    before.len() == after.len() && before.modified().ok() == after.modified().ok()
}

/// No `hub.toml` anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    pub searched: Vec<PathBuf>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.searched.iter().map(|path| path.display().to_string()).collect();
        write!(f, "no hub.toml: looked for {}; `hubward init` writes one here, --config names one", places.join(", "))
    }
}

impl std::error::Error for NotFound {}

/// Which file to read: the one that was named, even if it is not there; else the first that is.
pub fn find(flag: Option<&Path>) -> Result<PathBuf, NotFound> {
    if let Some(path) = flag {
        return Ok(path.to_owned());
    }
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let searched = places(variable("XDG_CONFIG_HOME"), variable("HOME"));
    match searched.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Ok(path.clone()),
        None => Err(NotFound { searched }),
    }
}

fn places(config_home: Option<PathBuf>, home: Option<PathBuf>) -> Vec<PathBuf> {
    let user = config_home.or_else(|| home.map(|home| home.join(".config")));
    let user = user.map(|folder| folder.join("hubward").join("hub.toml"));
    let system = cfg!(unix).then(|| PathBuf::from("/etc/hubward/hub.toml"));
    [Some(PathBuf::from("hub.toml")), user, system].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_order() {
        let check = |config_home: Option<&str>, home: Option<&str>, expected: &[&str]| {
            let found = places(config_home.map(PathBuf::from), home.map(PathBuf::from));
            assert_eq!(found, expected.iter().map(PathBuf::from).collect::<Vec<_>>());
        };
        let system = "/etc/hubward/hub.toml";
        check(Some("/c"), Some("/h"), &["hub.toml", "/c/hubward/hub.toml", system]);
        check(None, Some("/h"), &["hub.toml", "/h/.config/hubward/hub.toml", system]);
        check(None, None, &["hub.toml", system]);
    }

    #[test]
    fn what_is_named_is_taken_even_if_it_is_not_there() {
        let named = Path::new("/nowhere/hub.toml");
        assert_eq!(find(Some(named)).as_deref(), Ok(named));
        let nothing = NotFound { searched: vec!["hub.toml".into()] };
        assert!(nothing.to_string().contains("`hubward init`"));
    }
}
