//! `hubward init`: writes a `hub.toml` to begin with.
//!
//! Invariant: the path holds the whole file or what was there before, and without `--force` nothing is ever replaced.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::schema;

/// The file at the top of the repository: it is tested there, so it works here.
pub const STARTER: &str = include_str!("../../hub.toml");

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write
    #[arg(default_value = "hub.toml")]
    file: PathBuf,

    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
}

/// 0, or 1 if nothing was written.
pub fn run(args: Args) -> u8 {
    let file = args.file.display();
    match create(&args.file, STARTER, args.force) {
        Ok(()) => {
            let _ = writeln!(io::stdout(), "{file}: written; next: hubward serve --config {file}");
            describe(&args.file, args.force);
            0
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let _ = writeln!(io::stderr(), "{file} is there already; name another file, or replace it with --force");
            1
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot write {file}: {error}");
            1
        }
    }
}

/// Puts the schema beside it, to which its first line leads editors. The hub does well without.
fn describe(file: &Path, force: bool) {
    let path = file.with_file_name("hub.schema.json");
    match create(&path, &schema::text(), force) {
        // Somebody's own, or that of another version.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => drop(writeln!(io::stderr(), "cannot write {}: {error}", path.display())),
        Ok(()) => {}
    }
}

/// Writes a file whole, or not at all.
pub(super) fn create(path: &Path, text: &str, force: bool) -> io::Result<()> {
    let exists = path.symlink_metadata().is_ok();
    if exists && !force {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let aside = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = fill(&aside, text).and_then(|()| if force { fs::rename(&aside, path) } else { place(&aside, path) });
    // After a rename it is gone; after a link, or a failure, it is litter.
    let _ = fs::remove_file(&aside);
    written
}

fn fill(aside: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    // Whatever the umask: a file that others may write to would be refused by `serve`.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    let mut file = options.open(aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A rename would replace a file that appeared meanwhile; a link does not.
fn place(aside: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(aside, path) {
        // Not every file system has links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && path.symlink_metadata().is_err() => {
            fs::rename(aside, path)
        }
        linked => linked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, parse};

    /// The starter with every commented example switched on.
    fn everything() -> String {
        let key = |line: &str| {
            let (word, value) = line.split_once(" = ")?;
            let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            (plain && !value.is_empty()).then_some(())
        };
        let lines = STARTER.lines().map(|line| match line.strip_prefix("# ") {
            Some(inner) if key(inner).is_some() || inner.starts_with('[') => inner,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The files that the examples name.
    fn certificates(folder: &Path) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["mcp.example.com".to_owned()]).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        for (name, content) in [("hub.crt", &pem), ("clients.pem", &pem), ("hub.key", &key.serialize_pem())] {
            fs::write(folder.join(name), content).unwrap();
            #[cfg(unix)]
            fs::set_permissions(folder.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
    }

    #[test]
    fn the_starter_is_valid_and_so_is_each_of_its_examples() {
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let folder = folder.path();
        let (config, warnings) = parse(STARTER, folder, &|_| None).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(config.upstreams.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["demo"]);
        assert_eq!(config.hub, config::HubConfig::default());

        let (full, warnings) = parse(&everything(), folder, &|_| None).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(full.upstreams.len(), 5);
        // Nothing bounds what comes, unless it is said.
        let limits = config::Limits { rate: None, ..full.hub.limits.clone() };
        assert_eq!(limits, config.hub.limits, "the examples show the defaults");
        let shown = &full.upstreams["demo"];
        let plain = &config.upstreams["demo"];
        let shown = config::UpstreamConfig {
            env: plain.env.clone(),
            inherit_env: plain.inherit_env.clone(),
            sandbox: plain.sandbox.clone(),
            cwd: plain.cwd.clone(),
            // Unset, they follow the hub.
            log_level: plain.log_level,
            stderr_file: plain.stderr_file.clone(),
            ..shown.clone()
        };
        assert_eq!(&shown, plain, "the examples show the defaults");
    }

    #[test]
    fn written_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        let args = |force| Args { file: path.clone(), force };
        assert_eq!(run(args(false)), 0);
        assert_eq!(fs::read_to_string(&path).unwrap(), STARTER);
        fs::write(&path, "mine").unwrap();
        assert_eq!(run(args(false)), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(run(args(true)), 0);
        assert_eq!(fs::read_to_string(&path).unwrap(), STARTER);
        assert_eq!(fs::read_to_string(folder.path().join("hub.schema.json")).unwrap(), schema::text());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left aside");
        assert_eq!(run(Args { file: folder.path().join("no/hub.toml"), force: false }), 1);
    }
}
