//! File rules: a Landlock ruleset that lets through what was named, and what every program needs to start.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};

use super::{Sandbox, Unenforced};
use crate::link::process::ProcessSpec;

/// The oldest that can forbid to empty a file, of Linux 6.2. An older one would be weaker than what is said.
const NEEDED: ABI = ABI::V3;
/// The newest that we know; what the kernel has of it is used.
const BEST: ABI = ABI::V9;

/// What a dynamically linked program, and Node.js, read before their first line. None of it is anybody's secret.
const READABLE: [&str; 22] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
    "/etc/crypto-policies",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
];
const WRITABLE: [&str; 1] = ["/dev/null"];

const READ: &str = "`sandbox.read`";
const WRITE: &str = "`sandbox.write`";

/// A script of a script of a script is enough.
const PROGRAMS_MAX: usize = 8;
/// As much of a script's first line as the kernel looks at.
const SHEBANG_MAX: u64 = 256;

/// The ruleset, and whether it bounds reading.
pub(super) fn ruleset(spec: &ProcessSpec) -> Result<Option<(OwnedFd, bool)>, Unenforced> {
    let Sandbox { read, write, .. } = &spec.sandbox;
    let part = match (read, write) {
        (None, None) => return Ok(None),
        (Some(_), _) => READ,
        (None, Some(_)) => WRITE,
    };
    let reading = AccessFs::from_read(BEST);
    let all = AccessFs::from_all(BEST);
    let handled = |abi| if read.is_some() { AccessFs::from_all(abi) } else { AccessFs::from_write(abi) };
    let created = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(handled(NEEDED))
        .map(|ruleset| ruleset.set_compatibility(CompatLevel::BestEffort))
        .and_then(|ruleset| ruleset.handle_access(handled(BEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(BEST)))
        .and_then(Ruleset::create);
    let created = created.map_err(|error| {
        let need = "this needs Linux 6.2 or newer with `landlock` among its security modules (lsm=)";
        Unenforced::new(part, format!("{need}: {error}"))
    })?;
    let mut rules = Rules { created: Some(created), handled: handled(BEST) };
    let programs = programs(spec);
    let ours = READABLE.iter().map(Path::new).chain(programs.iter().map(PathBuf::as_path));
    for (path, access) in ours.map(|path| (path, reading)).chain(WRITABLE.iter().map(|path| (Path::new(path), all))) {
        // Not every system has all of them, and what is not there needs no rule.
        if let Ok(fd) = PathFd::new(path) {
            rules.add(fd, access).map_err(|why| Unenforced::new(part, why))?;
        }
    }
    for (part, list, access) in [(READ, read, reading), (WRITE, write, all)] {
        for path in list.iter().flatten() {
            let why = |why: String| Unenforced::new(part, format!("{}: {why}", path.display()));
            let fd = PathFd::new(path).map_err(|error| why(format!("{error}; create it, or take it from the list")))?;
            rules.add(fd, access).map_err(why)?;
        }
    }
    let fd: Option<OwnedFd> = rules.created.and_then(Into::into);
    match fd {
        Some(fd) => Ok(Some((fd, read.is_some()))),
        None => Err(Unenforced::new(part, "the kernel made no ruleset")),
    }
}

struct Rules {
    created: Option<RulesetCreated>,
    handled: BitFlags<AccessFs>,
}

impl Rules {
    fn add(&mut self, fd: PathFd, access: BitFlags<AccessFs>) -> Result<(), String> {
        let access = access & self.handled;
        if access.is_empty() {
            return Ok(());
        }
        let Some(created) = self.created.take() else { return Ok(()) };
        self.created = Some(created.add_rule(PathBeneath::new(fd, access)).map_err(|error| error.to_string())?);
        Ok(())
    }
}

/// The program, and whoever interprets it: a script says so in its first line.
fn programs(spec: &ProcessSpec) -> Vec<PathBuf> {
    let (mut found, mut wanted) = (Vec::new(), VecDeque::from([spec.command.clone()]));
    while let Some(path) = wanted.pop_front().and_then(|name| located(spec, &name))
        && found.len() < PROGRAMS_MAX
    {
        wanted.extend(interpreters(&path));
        found.push(path);
    }
    found
}

/// Where a command is, as exec will find it.
fn located(spec: &ProcessSpec, command: &OsStr) -> Option<PathBuf> {
    if command.as_bytes().contains(&b'/') {
        return Some(spec.cwd.join(command));
    }
    let path = spec.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let folders = std::env::split_paths(path.unwrap_or(OsStr::new("/bin:/usr/bin")));
    folders.map(|folder| spec.cwd.join(folder).join(command)).find(|path| path.is_file())
}

/// `#!/usr/bin/env node` names two of them.
fn interpreters(script: &Path) -> Vec<OsString> {
    let mut line = Vec::new();
    let read = File::open(script).and_then(|file| file.take(SHEBANG_MAX).read_to_end(&mut line));
    let Some(rest) = read.ok().and_then(|_| line.strip_prefix(b"#!")) else { return Vec::new() };
    let first = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = first.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let name = |word: &[u8]| OsString::from_vec(word.to_vec());
    let Some(interpreter) = words.next() else { return Vec::new() };
    let is_env = interpreter.ends_with(b"/env");
    let named = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')).filter(|_| is_env);
    std::iter::once(interpreter).chain(named).map(name).collect()
}
