//! `hubward import`: what other clients are configured with becomes upstreams, and nothing of it is lost, shown or run.
//!
//! Each folder of `tests/golden/import` is a client's file where that client has it, below `home` or `project`, beside
//! what has to come of it: `hub.toml` and `told.txt`. `UPDATE_GOLDEN=1` writes these two anew.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hubward::config::{self, import};
use serde_json::Value;

use super::fixture::{hubward, told};

/// Every secret of the corpus holds this word.
const MARK: &str = "S3CRET";

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/import");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|case| case.unwrap().path()).collect();
    cases.sort();
    cases
}

/// A home, a project and a place for the hub, all of them empty.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        ["home", "project", "hub"].iter().for_each(|name| fs::create_dir(world.path(name)).unwrap());
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = hubward(args);
        command.env_clear().env("HOME", self.path("home")).current_dir(self.path("project"));
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        told(&self.command(args).output().unwrap())
    }

    /// `hubward import`, into the hub's file.
    fn import(&self, files: &[&Path], more: &[&str]) -> (i32, String, String) {
        let hub = self.path("hub/hub.toml").display().to_string();
        let files = files.iter().map(|file| file.to_str().unwrap());
        let args: Vec<&str> = ["import", "-c", &hub].into_iter().chain(more.iter().copied()).chain(files).collect();
        self.run(&args)
    }

    fn hub(&self) -> String {
        fs::read_to_string(self.path("hub/hub.toml")).unwrap_or_default()
    }

    /// All files of the hub's folder, by their path there.
    fn files(&self) -> Vec<(String, PathBuf)> {
        let hub = self.path("hub");
        let mut found: Vec<(String, PathBuf)> = below(&hub)
            .into_iter()
            .map(|path| (path.strip_prefix(&hub).unwrap().to_str().unwrap().to_owned(), path))
            .collect();
        found.sort();
        found
    }

    /// A text without where this world is.
    fn placeless(&self, text: &str) -> String {
        text.replace(self.0.path().canonicalize().unwrap().to_str().unwrap(), "/world")
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

/// The client's file of a case, put where it belongs.
fn place(case: &Path, world: &World) -> PathBuf {
    let inputs: Vec<PathBuf> = ["home", "project"].iter().flat_map(|top| below(&case.join(top))).collect();
    assert_eq!(inputs.len(), 1, "{}", case.display());
    let name = inputs[0].strip_prefix(case).unwrap().to_str().unwrap().to_owned();
    if let Ok(before) = fs::read_to_string(case.join("before.toml")) {
        world.write("hub/hub.toml", &before);
    }
    world.write(&name, &fs::read_to_string(&inputs[0]).unwrap())
}

#[test]
fn each_file_of_the_corpus_becomes_what_it_became_before() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let (mut clients, mut wrong) = (std::collections::BTreeSet::new(), Vec::new());
    for case in corpus() {
        let world = World::new();
        let input = place(&case, &world);
        let (code, out, err) = world.import(&[&input], &[]);
        assert_eq!(code, 0, "{}: {out}{err}", case.display());
        for (name, got) in [("hub.toml", world.hub()), ("told.txt", format!("{out}{err}"))] {
            let golden = case.join(name);
            let got = world.placeless(&got);
            assert!(!got.contains(MARK), "{}: a secret shows itself in {name}:\n{got}", case.display());
            match (update, got.is_empty()) {
                (true, true) => drop(fs::remove_file(&golden)),
                (true, false) => fs::write(&golden, &got).unwrap(),
                (false, _) if fs::read_to_string(&golden).unwrap_or_default() != got => {
                    wrong.push(format!("{}:\n{got}", golden.display()));
                }
                _ => {}
            }
        }
        let text = fs::read_to_string(&input).unwrap();
        let origin = import::Origin { path: &input, home: Some(&world.path("home")) };
        clients.insert(import::read(&text, &origin).unwrap().client.label());
    }
    assert!(wrong.is_empty(), "{}\n(UPDATE_GOLDEN=1 accepts it)", wrong.join("\n"));
    assert!(corpus().len() >= 40 && clients.len() >= 15, "{clients:?}");
}

#[test]
fn what_was_imported_passes_check_and_its_secrets_are_for_nobody_else() {
    let mut secrets = 0;
    for case in corpus() {
        let world = World::new();
        let input = place(&case, &world);
        let marks = fs::read_to_string(&input).unwrap().matches(MARK).count();
        let (_, out, _) = world.import(&[&input], &["--json"]);
        let told: Value = serde_json::from_str(&out).unwrap();
        if told["upstreams"].as_array().unwrap().is_empty() {
            assert!(told["notes"].as_array().is_some_and(|notes| !notes.is_empty()), "{}", case.display());
            continue;
        }
        let hub = world.path("hub/hub.toml").display().to_string();
        let (code, out, err) = world.run(&["check", &hub]);
        assert_eq!(code, 0, "{}: {out}{err}", case.display());
        assert!(!out.contains(MARK) && !world.hub().contains(MARK), "{}", case.display());
        let mut held = 0;
        for (name, path) in world.files().into_iter().filter(|(name, _)| name != "hub.toml") {
            let text = fs::read_to_string(&path).unwrap();
            held += text.matches(MARK).count();
            assert!(
                name.starts_with("secrets/") && told["secrets"].as_array().unwrap().contains(&name.as_str().into())
            );
            #[cfg(unix)]
            {
                let mode = |path: &Path| std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap()) & 0o777;
                assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700), "{name}");
            }
        }
        // What belongs to a server that is there is there too; what belongs to the client is left alone.
        assert!(held <= marks, "{}", case.display());
        secrets += held;
    }
    assert!(secrets > 30, "{secrets}");
}

#[test]
fn the_same_twice_changes_nothing_and_another_by_the_same_name_gets_one_of_its_own() {
    let world = World::new();
    let one = r#"{ "mcpServers": { "a": { "command": "x", "env": { "API_KEY": "S3CRET-1" } } } }"#;
    let file = world.write("project/one.json", one);
    let other = world.write("project/other.json", &one.replace("S3CRET-1", "S3CRET-2"));
    assert_eq!(world.import(&[&file], &[]).0, 0);
    let first = world.hub();
    let (code, out, err) = world.import(&[&file, &file], &[]);
    assert!(code == 0 && out.contains("in hub.toml already") && err.contains("nothing to change"), "{out}{err}");
    assert_eq!(world.hub(), first);
    let (_, out, _) = world.import(&[&other], &[]);
    assert!(out.contains("it is called `a-2` here, for that name is taken"), "{out}");
    assert!(world.hub().starts_with(&first), "{}", world.hub());
    let names: Vec<String> = world.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["hub.toml", "secrets/a-2.API_KEY", "secrets/a.API_KEY"]);
    // The same server in two clients is one.
    let (_, out, _) = world.import(
        &[
            &world.write("project/b.json", r#"{"b":{"command":"y"}}"#),
            &world.write("home/.cursor/mcp.json", r#"{"b":{"command":"y"}}"#),
        ],
        &[],
    );
    assert!(out.contains("the same as another client's"), "{out}");
}

#[test]
fn of_a_header_that_is_given_twice_the_last_counts_and_the_other_leaves_no_secret() {
    let world = World::new();
    let args = r#"["mcp-remote", "https://a.example/mcp", "--header", "authorization: Bearer S3CRET-1", "--header", "Authorization: Bearer S3CRET-2"]"#;
    let file = world.write(
        "project/one.json",
        &format!(r#"{{ "mcpServers": {{ "a": {{ "command": "npx", "args": {args} }} }} }}"#),
    );
    let (code, out, err) = world.import(&[&file], &[]);
    assert!(code == 0 && out.contains("`authorization` stands there more than once"), "{out}{err}");
    let secrets: Vec<_> = world.files().into_iter().filter(|(name, _)| name.starts_with("secrets/")).collect();
    assert_eq!(secrets.len(), 1, "{secrets:?}");
    assert!(fs::read_to_string(&secrets[0].1).unwrap().contains("S3CRET-2"), "{secrets:?}");
}

#[test]
fn a_dry_run_shows_all_and_writes_nothing() {
    let world = World::new();
    let hub = "# mine\n[upstreams.old]\ncommand = \"x\"\nenv = { KEY = \"S3CRET-of-mine\" } # here\n";
    world.write("hub/hub.toml", hub);
    let file = world
        .write("project/m.json", r#"{ "mcpServers": { "a": { "command": "x", "env": { "API_KEY": "S3CRET-1" } } } }"#);
    for more in [&["--dry-run"][..], &["--dry-run", "--keep-secrets"], &["--dry-run", "--json"]] {
        let (code, out, err) = world.import(&[&file], more);
        assert!(code == 0 && out.contains("API_KEY") && !format!("{out}{err}").contains(MARK), "{out}{err}");
        assert_eq!((world.hub().as_str(), world.files().len()), (hub, 1));
    }
    let (_, out, err) = world.import(&[&file], &["--dry-run"]);
    assert_eq!(out, "[upstreams.a]\ncommand = \"x\"\nenv = { API_KEY = \"${file:secrets/a.API_KEY}\" }\n");
    assert!(err.contains("+[upstreams.a]") && err.contains("@@"), "{err}");
}

#[test]
fn with_keep_secrets_they_stay_in_the_file_and_are_not_shown() {
    let world = World::new();
    let text = r#"{ "mcpServers": { "a": { "command": "x", "args": ["--token", "S3CRET$1"], "env": { "API_KEY": "S3CRET${" } } } }"#;
    let (code, out, err) = world.import(&[&world.write("project/m.json", text)], &["--keep-secrets"]);
    assert!(code == 0 && !format!("{out}{err}").contains(MARK) && out.contains("***"), "{out}{err}");
    assert_eq!(world.files().len(), 1);
    let (config, _) = config::parse(&world.hub(), Path::new("/"), &|_| None).unwrap();
    let upstream = &config.upstreams["a"];
    assert_eq!((upstream.args[1].expose(), upstream.env["API_KEY"].expose()), ("S3CRET$1", "S3CRET${"));
}

#[test]
fn what_cannot_be_done_leaves_everything_as_it_was() {
    let world = World::new();
    let good = world
        .write("project/good.json", r#"{ "mcpServers": { "a": { "command": "x", "env": { "API_KEY": "S3CRET" } } } }"#);
    let bad = world.write("project/bad.json", "{ \"mcpServers\": { \"a\": S3CRET } }");
    let none = world.write("project/none.json", "{ \"theme\": \"dark\" }");
    let missing = world.path("project/missing.json");
    for (file, says) in [(&bad, "line 1, column 24"), (&none, "no MCP servers"), (&missing, "No such file")] {
        let (code, out, err) = world.import(&[&good, file], &[]);
        assert!(code == 1 && out.is_empty() && err.contains(says) && !err.contains(MARK), "{out}{err}");
        assert!(world.files().is_empty());
    }
    // A file of the hub that is no TOML is not added to.
    world.write("hub/hub.toml", "[hub\n");
    assert_eq!(world.import(&[&good], &[]).0, 2);
    assert_eq!((world.hub().as_str(), world.files().len()), ("[hub\n", 1));
    // A file in place of the folder for secrets: nothing is half done.
    world.write("hub/hub.toml", "");
    world.write("hub/secrets", "");
    let (code, _, err) = world.import(&[&good], &[]);
    assert!(code == 1 && err.contains("nothing was changed"), "{err}");
    assert_eq!(world.hub(), "");
    assert_eq!(world.run(&["import"]).0, 2);
}

#[test]
fn a_scan_lists_what_is_there_reads_no_secret_aloud_and_writes_nothing() {
    let world = World::new();
    for case in ["claude-desktop-remote", "claude-code-settings-headers", "codex", "cursor"] {
        place(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/import").join(case), &world);
    }
    world.write("home/.gemini/settings.json", "{ \"theme\": \"S3CRET\" }");
    world.write("home/.kiro/settings/mcp.json", "{ S3CRET");
    let (code, out, err) = world.run(&["import", "--scan"]);
    assert!(code == 0 && !format!("{out}{err}").contains(MARK), "{out}{err}");
    for line in [
        "linear  remote  mcp.linear.app",
        "postgres  stdio  npx",
        "plain  remote  intranet.example.com",
        "context7  stdio  npx",
        "cannot be read: line 1",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!out.contains(".gemini"), "{out}");
    let (_, out, _) = world.run(&["import", "--scan", "--json"]);
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 5);
    assert!(world.files().is_empty() && !world.path("project/hub.toml").exists());
    let (code, out, err) = World::new().run(&["import", "--scan"]);
    assert!(code == 0 && out.is_empty() && err.contains("no client"), "{out}{err}");
}

#[test]
fn nothing_of_a_file_is_executed() {
    let world = World::new();
    let trace = world.path("trace");
    let touch = format!("touch {}", trace.display());
    let text = serde_json::json!({ "mcpServers": { "a": {
        "command": "sh", "args": ["-c", touch], "env": { "X": format!("$({touch})"), "Y": format!("${{cmd:{touch}}}") },
        "headersHelper": touch,
    }, "b": { "type": "http", "url": "http://127.0.0.1:9/mcp", "headers": { "A": format!("`{touch}`") } } } });
    let file = world.write("project/m.json", &text.to_string());
    let (code, out, err) = world.import(&[&file], &[]);
    assert!(code == 0 && out.contains("sh -c 'touch ") && out.contains("means nothing here"), "{out}{err}");
    let hub = world.path("hub/hub.toml").display().to_string();
    assert_eq!(world.run(&["check", &hub]).0, 0);
    assert!(!trace.exists());
}

#[test]
fn stdin_is_read_as_a_file_and_the_hub_file_is_made_where_there_is_none() {
    let world = World::new();
    let output: Output = {
        use std::io::Write;
        let mut command = world.command(&["import", "-"]);
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"[mcp_servers.a]\ncommand = 'x'\n").unwrap();
        child.wait_with_output().unwrap()
    };
    let (code, out, err) = told(&output);
    assert!(code == 0 && out.starts_with("a (Codex)\n    x\n"), "{out}{err}");
    let made = fs::read_to_string(world.path("project/hub.toml")).unwrap();
    assert!(made.ends_with("\n\n[upstreams.a]\ncommand = \"x\"\n"), "{made}");
    assert_eq!(world.run(&["check"]).0, 0);
}
