//! Every shell block of the documentation, typed as a reader would type it.
//!
//! The blocks of a page run in order, in one shell and one fresh home, each as it stands. A block of another language
//! whose line above ends with a file's name in backticks and a colon is that file. A text block that follows is what has
//! to be printed, where numbers among words may differ and `…` stands for anything. What a page cannot say to its readers
//! stands in comments right above a block, which nobody sees:
//!
//! | comment | means |
//! |---|---|
//! | `<!-- run: in a terminal of its own -->` | it goes on while others run; it is ready when it has printed a URL |
//! | `<!-- run: as COMMAND -->` | this in its place |
//! | `<!-- before: COMMAND -->` | what its readers have done before, or have at home |
//! | `<!-- run: ci -->` | it is a step of `.ci/run` |
//! | `<!-- run: external -->` | it needs a registry: `tests/external/shell-blocks.sh` |
//! | `<!-- exit: N -->` | it has to end with N |
//! | `<!-- not run: REASON -->` | nothing here can run it. These are counted |
//!
//! `PAGE=docs/laptop.md cargo test --test shell_blocks -- --nocapture` runs one page, and shows what it prints.

#![cfg(unix)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Blocks that nothing here can run. The number may only fall.
const NOT_RUN_MAX: usize = 14;

/// A block that takes longer hangs; some start servers, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// A hub gives a handshake and a head 5 s each. Where a block took longer than that and failed, the machine may have stood
/// still: the page is begun once more.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// What stands for a terminal, in the order of a page.
const SHELLS: [&str; 3] = ["sh", "bash", "console"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md, all of docs/, and what stands beside the packages and the external tests.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> =
        ["README.md", "packaging/README.md", "tests/external/README.md"].map(str::to_owned).to_vec();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".md"));
    pages.extend(docs.map(|name| format!("docs/{name}")));
    pages.sort();
    pages.retain(|page| env::var("PAGE").is_ok_and(|only| only == *page) || env::var("PAGE").is_err());
    pages
}

#[derive(Debug, Clone, PartialEq)]
enum Way {
    Here,
    Beside,
    Ci,
    External,
    Not(String),
}

#[derive(Debug)]
struct Block {
    line: usize,
    language: String,
    text: String,
    way: Way,
    before: Option<String>,
    instead: Option<String>,
    exit: i32,
    /// The file that it is.
    file: Option<String>,
    /// What it has to print.
    printed: Option<String>,
}

impl Block {
    fn is_shell(&self) -> bool {
        SHELLS.contains(&self.language.as_str())
    }

    /// What is typed: of a console only what stands behind its `$`, if there is one.
    fn typed(&self) -> String {
        if let Some(command) = &self.instead {
            return command.clone();
        }
        if self.text.lines().any(|line| line.starts_with("$ ")) {
            return self.text.lines().filter_map(|line| line.strip_prefix("$ ")).collect::<Vec<_>>().join("\n");
        }
        self.text.clone()
    }
}

/// The blocks of a page; those that show what is printed are part of the one before.
fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let (mut blocks, mut marks, mut before, mut titled): (Vec<Block>, Vec<String>, &str, bool) =
        (Vec::new(), Vec::new(), "", true);
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            let mark = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            marks.extend(mark.map(str::to_owned));
            titled |= line.starts_with('#');
            if mark.is_none() && !line.is_empty() {
                (before, marks) = (line, Vec::new());
            }
            continue;
        };
        let inner: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim_start() != "```").collect();
        let text = inner.join("\n");
        let file = before.strip_suffix("`:").and_then(|rest| rest.rsplit('`').next()).map(str::to_owned);
        let last = blocks.last_mut().filter(|last| last.is_shell() && last.printed.is_none() && !titled);
        match last {
            Some(last) if language == "text" && file.is_none() => last.printed = Some(text),
            _ => {
                let mut block = Block {
                    line: at + 1,
                    language: language.into(),
                    text,
                    way: Way::Here,
                    before: None,
                    instead: None,
                    exit: 0,
                    file,
                    printed: None,
                };
                marks.iter().for_each(|mark| obey(mark, &mut block, page));
                blocks.push(block);
            }
        }
        (marks, before, titled) = (Vec::new(), "", false);
    }
    blocks
}

fn obey(mark: &str, block: &mut Block, page: &str) {
    let (word, rest) = mark.split_once(": ").unwrap_or((mark, ""));
    match (word, rest) {
        ("run", "in a terminal of its own") => block.way = Way::Beside,
        ("run", "ci") => block.way = Way::Ci,
        ("run", "external") => block.way = Way::External,
        ("run", other) if other.starts_with("as ") => block.instead = Some(other[3..].into()),
        ("before", command) => block.before = Some(command.into()),
        ("not run", reason) if !reason.is_empty() => block.way = Way::Not(reason.into()),
        ("exit", code) => block.exit = code.parse().unwrap(),
        _ => panic!("{page}:{}: nobody knows what `{mark}` means", block.line),
    }
}

/// A network of their own, where every port is free and the names of the pages lead to this machine.
const ALONE: &str = "printf '127.0.0.1 localhost mcp.example.com\\n' > .run/hosts && ip link set lo up && \
                     mount --bind .run/hosts /etc/hosts && exec bash";

/// Whether this machine gives one.
static MAY_BE_ALONE: LazyLock<bool> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(".run")).unwrap();
    let tried = alone().current_dir(&folder).stdin(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
});

/// Without it, a page at a time has the ports of this machine, and nothing by those names.
static PORTS: Mutex<()> = Mutex::new(());

fn alone() -> Command {
    let mut command = Command::new("unshare");
    command.args(["-rnm", "bash", "-c", ALONE]);
    command
}

/// The reader of one page: a shell, and a home.
struct Reader {
    home: tempfile::TempDir,
    shell: Child,
    codes: mpsc::Receiver<i32>,
    typed: usize,
}

impl Reader {
    fn new(online: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        for folder in [".bin", ".run"] {
            fs::create_dir(path(folder)).unwrap();
        }
        fs::set_permissions(path(".run"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hubward"), path(".bin/hubward")).unwrap();
        let mut command = if online || !*MAY_BE_ALONE { Command::new("bash") } else { alone() };
        for (name, _) in env::vars() {
            if ["HUBWARD", "MCP_", "XDG_", "OTEL_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        if online {
            // How the registries are reached is this machine's affair: its authorities, its npmrc.
            fs::create_dir_all(path(".config/uv")).unwrap();
            fs::write(path(".config/uv/uv.toml"), "system-certs = true\n").unwrap();
            let npmrc = env::home_dir().and_then(|real| fs::read(real.join(".npmrc")).ok());
            fs::write(path(".npmrc"), npmrc.unwrap_or_default()).unwrap();
        }
        let paths =
            [path(".bin")].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())).collect::<Vec<_>>();
        let mut shell = command
            .env("PATH", env::join_paths(paths).unwrap())
            .envs([("HOME", home.path().to_owned()), ("TMPDIR", path(".run")), ("XDG_RUNTIME_DIR", path(".run"))])
            .envs([("NO_COLOR", "1"), ("LC_ALL", "C.UTF-8")])
            .current_dir(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let (codes_in, codes) = mpsc::channel();
        thread::spawn(move || {
            let found = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("@ ")?.parse().ok());
            found.for_each(|code| {
                let _ = codes_in.send(code);
            });
        });
        let mut reader = Self { home, shell, codes, typed: 0 };
        reader.tell("set -e");
        reader
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.shell.stdin.as_ref().unwrap(), "{line}").unwrap();
    }

    /// Types a block, and waits until it ends, or is ready; says what it printed.
    fn types(&mut self, block: &Block) -> Result<String, String> {
        self.typed += 1;
        let [file, out] = ["sh", "out"].map(|end| self.home.path().join(format!(".run/{}.{end}", self.typed)));
        let before = block.before.as_deref().unwrap_or_default();
        fs::write(&file, format!("{before}\n{}\n", block.typed())).unwrap();
        let printed = || fs::read_to_string(&out).unwrap_or_default();
        let (file, to) = (file.display(), format!("> {} 2>&1 < /dev/null", out.display()));
        if block.way == Way::Beside {
            self.tell(&format!("( set -e; . {file} ) {to} &"));
            let until = Instant::now() + PATIENCE;
            while !["http://", "https://"].iter().any(|url| printed().contains(url)) {
                if Instant::now() > until {
                    return Err(format!("it is not ready:\n{}", printed()));
                }
                thread::sleep(Duration::from_millis(20));
            }
            return Ok(printed());
        }
        match block.exit {
            // What it sets, the next one sees; and what fails in it ends the shell.
            0 => self.tell(&format!(". {file} {to}; echo \"@ $?\"")),
            _ => self.tell(&format!("( . {file} ) {to} && echo '@ 0' || echo \"@ $?\"")),
        }
        match self.codes.recv_timeout(PATIENCE) {
            Ok(code) if code == block.exit => Ok(printed()),
            Ok(code) => Err(format!("ended with {code}, not {}:\n{}", block.exit, printed())),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(format!("failed:\n{}", printed())),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("no end in sight:\n{}", printed())),
        }
    }

    /// Saves a file of the page where the shell is. What has an absolute path is for another machine.
    fn saves(&mut self, block: &Block) {
        let Some(name) = block.file.as_deref().filter(|name| !name.starts_with('/') && !name.contains(' ')) else {
            return;
        };
        self.typed += 1;
        let kept = self.home.path().join(format!(".run/{}.file", self.typed));
        fs::write(&kept, format!("{}\n", block.text)).unwrap();
        self.tell(&format!("mkdir -p $(dirname {name}); cp {} {name}", kept.display()));
    }
}

impl Drop for Reader {
    /// All that the page began ends with it: asked first, then made to.
    fn drop(&mut self) {
        let group = format!("-{}", self.shell.id());
        let signal = |name: &str| {
            let told = Command::new("kill").args([name, "--", &group]).stderr(Stdio::null()).status();
            told.is_ok_and(|status| status.success())
        };
        signal("-TERM");
        drop(self.shell.stdin.take());
        let until = Instant::now() + Duration::from_secs(20);
        while signal("-0") && Instant::now() < until {
            let _ = self.shell.try_wait();
            thread::sleep(Duration::from_millis(20));
        }
        signal("-KILL");
        let _ = self.shell.wait();
    }
}

/// Whether each line that was promised is there, in its order.
fn shows(printed: &str, promised: &str) -> Result<(), String> {
    let mut lines = printed.lines();
    for wanted in promised.lines().filter(|line| !line.trim().is_empty()) {
        if wanted.trim() != "…" && !lines.any(|line| alike(line.trim_end(), wanted.trim_end())) {
            return Err(format!("`{wanted}` is not in what it printed, or not in that place:\n{printed}"));
        }
    }
    Ok(())
}

/// Numbers among words and blanks may differ, and `…` stands for anything.
fn alike(line: &str, wanted: &str) -> bool {
    if !wanted.contains(char::is_alphabetic) && !wanted.contains('…') {
        return line == wanted;
    }
    fn plain(text: &str) -> String {
        let mut plain = String::new();
        for c in text.chars() {
            let c = if c.is_ascii_digit() {
                '0'
            } else if c.is_whitespace() {
                ' '
            } else {
                c
            };
            if !(matches!(c, '0' | ' ') && plain.ends_with(c)) {
                plain.push(c);
            }
        }
        plain
    }
    let (line, wanted) = (plain(line), plain(wanted));
    let parts: Vec<&str> = wanted.split('…').collect();
    let [first, middle @ .., last] = &parts[..] else { return line == wanted };
    let Some(mut rest) = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
    middle.iter().all(|part| match rest.split_once(part) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

/// Runs a page; `online` with what needs a registry. Says how many blocks ran.
fn run(page: &str, online: bool) -> usize {
    let tried = attempt(page, online).or_else(|(why, took)| match took > STOOD_STILL {
        true => attempt(page, online),
        false => Err((why, took)),
    });
    tried.unwrap_or_else(|(why, _)| panic!("{why}"))
}

/// Where a block does not do what the page says: what it did, and how long that took.
fn attempt(page: &str, online: bool) -> Result<usize, (String, Duration)> {
    let blocks = blocks(page);
    let runs = |block: &&Block| match block.way {
        _ if block.typed().contains("//mcp.example.com") && (online || !*MAY_BE_ALONE) => false,
        Way::Here | Way::Beside => block.is_shell(),
        Way::External => block.is_shell() && online,
        Way::Ci | Way::Not(_) => false,
    };
    if blocks.iter().filter(runs).count() == 0 {
        return Ok(0);
    }
    let _ports = (online || !*MAY_BE_ALONE).then(|| PORTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let mut reader = Reader::new(online);
    let mut ran = 0;
    for block in &blocks {
        if !runs(&block) {
            reader.saves(block);
            continue;
        }
        let began = Instant::now();
        let told = reader.types(block);
        if let (Ok(printed), Ok(_)) = (&told, env::var("PAGE")) {
            println!("{page}:{}\n{}\n---\n{printed}", block.line, block.typed());
        }
        told.and_then(|printed| shows(&printed, block.printed.as_deref().unwrap_or_default()))
            .map_err(|why| (format!("{page}:{}: {why}\nThe block:\n{}", block.line, block.typed()), began.elapsed()))?;
        ran += 1;
    }
    Ok(ran)
}

#[test]
fn the_readme_can_be_followed() {
    assert!(run("README.md", false) > 3);
}

#[test]
fn every_page_of_docs_can_be_followed() {
    let ran: usize = pages().iter().filter(|page| page.starts_with("docs/")).map(|page| run(page, false)).sum();
    assert!(ran > 20 || env::var("PAGE").is_ok(), "only {ran} blocks ran");
}

#[test]
fn what_stands_beside_packages_and_tests_can_be_followed() {
    run("packaging/README.md", false);
    run("tests/external/README.md", false);
}

#[test]
fn what_nothing_runs_grows_less() {
    let mut not = Vec::new();
    for page in pages() {
        for block in blocks(&page).into_iter().filter(Block::is_shell) {
            match block.way {
                Way::Not(reason) => not.push(format!("{page}:{}: {reason}", block.line)),
                // Word for word a step of CI, or the script that it runs.
                Way::Ci => {
                    let steps = fs::read_to_string(root().join(".ci/run")).unwrap();
                    let known = block.typed().lines().filter(|line| !line.is_empty()).all(|line| steps.contains(line));
                    assert!(known, "{page}:{}: not in .ci/run: {}", block.line, block.typed());
                }
                _ => {}
            }
        }
    }
    assert_eq!(not.len(), NOT_RUN_MAX, "\n  {}", not.join("\n  "));
}

/// What registries have to give: run by tests/external/shell-blocks.sh.
#[test]
#[ignore = "needs registries and the ports of the pages"]
fn what_needs_a_registry_can_be_followed() {
    let mut ran = 0;
    for page in pages() {
        if blocks(&page).iter().any(|block| block.way == Way::External) {
            println!("ok {page} - {} blocks", run(&page, true));
            ran += 1;
        }
    }
    assert!(ran > 0);
}

#[test]
fn what_is_alike() {
    let check = |line, wanted, expected: bool| assert_eq!(alike(line, wanted), expected, "{line} {wanted}");
    check("ok    tcp 127.0.0.1:41234 (12 ms)", "ok tcp 127.0.0.1:8808 (0 ms)", true);
    check("hubward_J53orL19", "hubward_…", true);
    check("a b c", "a … c", true);
    check("a b c", "a … d", false);
    check("a b", "a c", false);
    check("none", "", false);
    check("6", "5", false);
    assert!(shows("1\na\nb\n", "a\n…\nb").is_ok());
    assert!(shows("b\na\n", "a\nb").is_err());
}
