//! `hubward import FILE… | --scan`: the servers of other clients become upstreams of hub.toml. Nothing is executed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use similar::TextDiff;

use super::upstreams::judge;
use super::{ConfigFlag, FAILED, Globals, OK, USAGE, complain, fail, init, say};
use crate::config::{
    self, NewUpstream,
    import::{self, Imported, Origin, Place, Ready, SecretFile, Settled, TEXT_BYTES_MAX},
};
use crate::wire::printable::printable;

#[derive(clap::Args)]
#[command(override_usage = "hubward import [OPTIONS] FILE...\n       hubward import --scan")]
pub struct Args {
    /// Files of clients: JSON, YAML or TOML; `-` reads stdin
    #[arg(value_name = "FILE", required_unless_present = "scan", conflicts_with = "scan")]
    files: Vec<PathBuf>,
    /// List the files of well-known clients, and the servers in them; change nothing
    #[arg(long)]
    scan: bool,
    /// Print what would be added, and the difference; change nothing
    #[arg(long, conflicts_with = "scan")]
    dry_run: bool,
    /// Leave secrets in hub.toml, in place of files of their own
    #[arg(long, conflicts_with = "scan")]
    keep_secrets: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFlag,
}

/// The first line of a file that was not there before.
const HEAD: &str = "# hub.toml, made by `hubward import`. `hubward init FILE` writes one that shows every key.\n\n";

pub fn run(args: Args, globals: &Globals) -> u8 {
    if args.scan {
        return scan(args.json);
    }
    let mut files = Vec::new();
    for path in &args.files {
        match read(path) {
            Ok(found) if found.servers.is_empty() && found.notes.is_empty() => {
                return fail(FAILED, format!("{}: there are no MCP servers in it", path.display()));
            }
            Ok(found) => files.push(found),
            Err(why) => return fail(FAILED, format!("{}: {why}; nothing was changed", path.display())),
        }
    }
    let target = match Target::find(globals.file(&args.config)) {
        Ok(target) => target,
        Err(why) => return fail(FAILED, why),
    };
    let settled = match target.settle(files, args.keep_secrets) {
        Ok(settled) => settled,
        Err(error) => return fail(USAGE, format!("{}: {error}", target.path.display())),
    };
    let all = |shown: bool| {
        settled.upstreams.iter().map(move |one| (one.name.as_str(), if shown { &one.shown } else { &one.new }))
    };
    let after = match target.with(all(false)).and_then(|after| Ok((after, target.with(all(true))?))) {
        Ok(after) => after,
        Err(error) => return fail(FAILED, format!("{}: {error}", target.path.display())),
    };
    if args.dry_run && !args.json {
        say(config::add_upstreams("", all(true)).unwrap_or_default().trim_end());
        tell(&settled, complain);
        complain(difference(&target, &after.1).trim_end());
        return OK;
    }
    if !args.dry_run
        && !settled.upstreams.is_empty()
        && let Err(code) = target.put(&after.0, &settled.files, globals)
    {
        return code;
    }
    if args.json {
        say(described(&target, &settled, args.dry_run));
    } else {
        tell(&settled, say);
    }
    let (count, plural) = (settled.upstreams.len(), if settled.upstreams.len() == 1 { "" } else { "s" });
    match (count, args.dry_run) {
        (_, true) => {}
        (0, _) => complain(format_args!("{}: nothing to change", target.path.display())),
        _ => complain(format_args!(
            "{}: {count} upstream{plural} added; a running hub sees it by itself",
            target.path.display()
        )),
    }
    OK
}

/// Reads a client's file, as far as a file may be read.
fn read(path: &Path) -> Result<Imported, String> {
    let text = text(path).map_err(|error| error.to_string())?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let home = home();
    import::read(&text, &Origin { path: &absolute, home: home.as_deref() }).map_err(|error| error.to_string())
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = TEXT_BYTES_MAX as u64 + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_string(&mut text)?;
        return Ok(text);
    }
    // The opening of a FIFO waits for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// The hub.toml that is added to.
struct Target {
    path: PathBuf,
    /// Where its relative paths begin.
    folder: PathBuf,
    /// `None`: it is not there yet.
    text: Option<String>,
}

impl Target {
    fn find(flag: Option<PathBuf>) -> Result<Self, String> {
        let path = config::find(flag.as_deref()).unwrap_or_else(|_| PathBuf::from("hub.toml"));
        let absolute = std::path::absolute(&path).map_err(|error| error.to_string())?;
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let text = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            _ => Some(config::text(&path).map_err(|rejected| rejected.to_string())?),
        };
        Ok(Self { path, folder, text })
    }

    fn settle(&self, files: Vec<Imported>, keep_secrets: bool) -> Result<Settled, config::EditError> {
        let free = |path: &str, value: &str| match fs::read_to_string(self.folder.join(path)) {
            Ok(there) => there == value,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let text = self.text.as_deref().unwrap_or_default();
        let env = |name: &str| std::env::var(name).ok();
        import::settle(files, &Place { text, folder: &self.folder, env: &env, free: &free, keep_secrets })
    }

    /// The text with these upstreams.
    fn with<'a>(&self, all: impl Iterator<Item = (&'a str, &'a NewUpstream)>) -> Result<String, config::EditError> {
        match &self.text {
            Some(text) => config::add_upstreams(text, all),
            None => Ok(format!("{HEAD}{}", config::add_upstreams("", all)?)),
        }
    }

    /// Writes the secrets, then the file that refers to them; or nothing of both.
    fn put(&self, after: &str, secrets: &[SecretFile], globals: &Globals) -> Result<(), u8> {
        let mut written = Vec::new();
        let outcome = self.put_all(after, secrets, globals, &mut written);
        if outcome.is_err() {
            written.iter().for_each(|path| drop(fs::remove_file(path)));
        }
        outcome
    }

    fn put_all(
        &self,
        after: &str,
        secrets: &[SecretFile],
        globals: &Globals,
        written: &mut Vec<PathBuf>,
    ) -> Result<(), u8> {
        for secret in secrets {
            let path = self.folder.join(&secret.path);
            match hide(&path, &secret.value) {
                Ok(true) => written.push(path),
                Ok(false) => {}
                Err(error) => {
                    return Err(fail(FAILED, format!("cannot write {}: {error}; nothing was changed", path.display())));
                }
            }
        }
        let before = self.text.as_deref().unwrap_or_default();
        judge(&self.path, before, after, globals).map_err(|drawn| {
            complain(drawn);
            fail(USAGE, format!("{}: nothing was changed", self.path.display()))
        })?;
        match &self.text {
            Some(before) => config::replace(&self.path, before, after).map_err(|error| fail(FAILED, error)),
            None => init::create(&self.path, after, false)
                .map_err(|error| fail(FAILED, format!("cannot write {}: {error}", self.path.display()))),
        }
    }
}

/// Writes a file that nobody else can read, in a folder that nobody else can list. `false`: it was there, with the same.
fn hide(path: &Path, value: &str) -> io::Result<bool> {
    let mut folder = fs::DirBuilder::new();
    let mut options = File::options();
    folder.recursive(true);
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        folder.mode(0o700);
        options.mode(0o600);
    }
    path.parent().map_or(Ok(()), |parent| folder.create(parent))?;
    let mut file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::read_to_string(path)? == value => {
            return Ok(false);
        }
        opened => opened?,
    };
    let filled = file.write_all(value.as_bytes()).and_then(|()| file.sync_all());
    if filled.is_err() {
        let _ = fs::remove_file(path);
    }
    filled.map(|()| true)
}

/// Each server with its whole command line, and what was changed of it.
fn tell(settled: &Settled, line: impl Fn(String)) {
    for one in &settled.upstreams {
        line(format!("{} ({})", one.name, one.client));
        for text in lines(&one.shown) {
            line(format!("    {}", plain(&text)));
        }
        one.notes.iter().for_each(|note| line(format!("    note: {}", plain(note))));
    }
    settled.files.iter().for_each(|file| line(format!("secret: {} (mode 0600)", file.path)));
    settled.notes.iter().for_each(|note| line(format!("note: {}", plain(note))));
}

fn lines(new: &NewUpstream) -> Vec<String> {
    let words = new.command.iter().map(|word| shlex::try_quote(word).unwrap_or_default());
    let command = words.collect::<Vec<_>>().join(" ");
    let mut lines = vec![new.url.clone().unwrap_or(command)];
    lines.extend(new.env.iter().map(|(name, value)| format!("{name}={value}")));
    lines.extend(new.headers.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.extend(new.disabled.then(|| "enabled = false".to_owned()));
    lines
}

fn difference(target: &Target, after: &str) -> String {
    let before = target.text.as_deref().unwrap_or_default();
    let name = target.path.display().to_string();
    // Lines around it would show what is secret in them.
    TextDiff::from_lines(before, after).unified_diff().context_radius(0).header(&name, &name).to_string()
}

fn described(target: &Target, settled: &Settled, dry_run: bool) -> Value {
    let pairs = |pairs: &[(String, String)]| {
        pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>()
    };
    let upstream = |one: &Ready| {
        json!({
            "name": one.name.as_str(), "origin": one.origin, "client": one.client,
            "command": one.shown.command, "url": one.shown.url,
            "env": pairs(&one.shown.env), "headers": pairs(&one.shown.headers),
            "enabled": !one.shown.disabled, "notes": one.notes,
        })
    };
    json!({
        "file": target.path.display().to_string(),
        "changed": !dry_run && !settled.upstreams.is_empty(),
        "upstreams": settled.upstreams.iter().map(upstream).collect::<Vec<_>>(),
        "secrets": settled.files.iter().map(|file| &file.path).collect::<Vec<_>>(),
        "notes": settled.notes,
    })
}

/// What there is to import: files, and names in them. Of a server only its program or its host is shown.
fn scan(as_json: bool) -> u8 {
    let project = std::env::current_dir().unwrap_or_default();
    let there = import::spots(home().as_deref(), &project).into_iter().filter(|spot| spot.path.is_file());
    let found: Vec<_> = there.map(|spot| (read(&spot.path), spot)).collect();
    let listed = |imported: &Imported| -> Vec<(String, &'static str, String)> {
        imported.servers.iter().map(|server| (server.name.clone(), kind(&server.new), what(&server.new))).collect()
    };
    // A settings file without servers is none of those that were looked for.
    let found = found.into_iter().filter(|(read, _)| read.as_ref().map_or(true, |file| !file.servers.is_empty()));
    let found: Vec<_> = found.collect();
    if as_json {
        let all = found.iter().map(|(read, spot)| {
            let servers = read.as_ref().map(listed).unwrap_or_default();
            let servers = servers.iter().map(|(name, kind, what)| json!({ "name": name, "kind": kind, "what": what }));
            let path = spot.path.display().to_string();
            json!({ "client": spot.client, "path": path, "servers": servers.collect::<Vec<_>>(), "error": read.as_ref().err() })
        });
        say(json!(all.collect::<Vec<_>>()));
        return OK;
    }
    for (read, spot) in &found {
        say(format_args!("{}: {}", spot.client, spot.path.display()));
        match read {
            Ok(imported) => listed(imported)
                .iter()
                .for_each(|(name, kind, what)| say(format_args!("    {}  {kind}  {}", plain(name), plain(what)))),
            Err(why) => say(format_args!("    cannot be read: {why}")),
        }
    }
    match found.is_empty() {
        true => complain("no client with MCP servers was found in your home and in this folder"),
        false => complain("`hubward import FILE --dry-run` shows what would be added to hub.toml"),
    }
    OK
}

/// What a stranger wrote, for a terminal.
fn plain(text: &str) -> String {
    printable(text.as_bytes())
}

fn kind(new: &NewUpstream) -> &'static str {
    if new.url.is_some() { "remote" } else { "stdio" }
}

/// The program without its arguments, or the host without its path.
fn what(new: &NewUpstream) -> String {
    let host = new.url.as_deref().and_then(|url| url.split("://").nth(1)).map(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit('@').next().unwrap_or_default().to_owned()
    });
    host.or_else(|| new.command.first().cloned()).unwrap_or_default()
}
