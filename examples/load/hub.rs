//! A hub of the load's own, and what Linux tells of its processes.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::client::http;

/// Longest wait for a state.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The folder of the profile that this program was built with.
fn profile() -> PathBuf {
    let this = env::current_exe().expect("a program knows its own path");
    this.ancestors().nth(2).expect("target/PROFILE/examples/load").to_owned()
}

/// Builds the hub and the upstreams, where cargo started us.
pub fn build() -> Result<(), String> {
    let (Some(cargo), None) = (env::var_os("CARGO"), env::var_os("HUBWARD")) else { return Ok(()) };
    let profile = profile();
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--bins", "--example", "echo", "--example", "rogue"]);
    build.args(profile.ends_with("release").then_some("--release"));
    build.arg("--target-dir").arg(profile.parent().ok_or("no target folder")?);
    match build.current_dir(env!("CARGO_MANIFEST_DIR")).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo build ended with {status}")),
        Err(error) => Err(format!("cargo build: {error}")),
    }
}

/// The table of an upstream that is one of our examples.
pub fn upstream(name: &str, program: &str, keys: &str) -> String {
    let beside = |folder: &Path| folder.join(format!("examples/{program}{}", env::consts::EXE_SUFFIX));
    format!("[upstreams.{name}]\ncommand = {:?}\n{keys}\n", beside(&profile()).display().to_string())
}

/// Killed when dropped.
pub struct Hub {
    pub base: String,
    /// From the start of the process until it listened.
    pub listening: Duration,
    pub process: Child,
    folder: tempfile::TempDir,
}

impl Hub {
    pub fn start(toml: &str) -> Hub {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("hub.toml");
        fs::write(&path, toml).expect("hub.toml is written");
        let program = env::var_os("HUBWARD").map_or_else(|| profile().join("hubward"), PathBuf::from);
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let began = Instant::now();
        let mut process = Command::new(&program)
            .args(["serve", "--bind", "127.0.0.1:0", "--log-level", "warn", "-c"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; `cargo build` makes it", program.display()));
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let first = lines.next().and_then(Result::ok);
        let listening = began.elapsed();
        let first = first.unwrap_or_else(|| panic!("{}", fs::read_to_string(folder.path().join("log")).unwrap()));
        let authority = first.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect("a URL");
        let base = format!("http://{authority}");
        // The other URLs; nobody needs them, but the pipe has to be read.
        std::thread::spawn(move || lines.for_each(drop));
        Hub { base, listening, process, folder }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Writes hub.toml as editors do: aside, and renamed over.
    pub fn edit(&self, toml: &str) {
        let aside = self.folder.path().join("hub.toml.new");
        fs::write(&aside, toml).expect("hub.toml is written");
        fs::rename(aside, self.folder.path().join("hub.toml")).expect("hub.toml is renamed");
    }

    pub async fn status(&self) -> Value {
        let url = format!("{}/api/v1/status", self.base);
        http().get(url).send().await.expect("a status").json().await.expect("a status in JSON")
    }

    /// Waits until the status is as wished.
    pub async fn until(&self, wished: impl Fn(&Value) -> bool) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if wished(&self.status().await) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let errors: Vec<&str> =
            log.lines().filter(|line| line.contains("ERROR") || line.contains("panicked")).collect();
        errors.iter().take(10).for_each(|line| println!("   the hub said: {line}"));
    }
}

/// Sends a signal by its name.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Does it run, and is no zombie?
pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// The children of a process, zombies too.
pub fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// Its open descriptors.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Its own memory in KiB, without the pages of the program, which come and go.
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// The processor's time it has used; Linux counts in hundredths of a second.
pub fn processor(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
