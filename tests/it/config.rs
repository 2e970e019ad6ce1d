//! hub.toml: what is read, what is refused and how that is drawn, and how a change is noticed.
//!
//! The drawings are in `tests/golden`: each `.toml` beside the `.txt` it must bring. `UPDATE_GOLDEN=1` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use hubward::config::{self, Config, InheritEnv, Isolation, Level, Severity, Start, report};

/// No variable but these.
fn env(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("s3cret".into()),
        "WRONG" => Some("s3cret".into()),
        "N" => Some("7".into()),
        "YES" => Some("true".into()),
        _ => None,
    }
}

fn parse(text: &str) -> Config {
    match config::parse(text, Path::new("/etc/hub"), &env) {
        Ok((config, _)) => config,
        Err(found) => panic!("{}", report::draw(&found, text, Path::new("hub.toml"), false)),
    }
}

fn titles(text: &str) -> Vec<String> {
    let found = match config::parse(text, Path::new("/etc/hub"), &env) {
        Ok((_, found)) | Err(found) => found,
    };
    found.into_iter().map(|found| format!("{}: {}", found.severity.as_str(), found.title)).collect()
}

#[test]
fn f83_each_mistake_is_drawn_where_it_stands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let toml = entry.unwrap().path();
        if toml.extension().is_none_or(|ext| ext != "toml") {
            continue;
        }
        count += 1;
        let text = fs::read_to_string(&toml).unwrap();
        let found = match config::parse(&text, Path::new("/etc/hub"), &env) {
            Ok((_, found)) | Err(found) => found,
        };
        let name = toml.file_name().unwrap();
        let drawn = report::draw(&found, &text, Path::new(name), false);
        assert!(!drawn.contains("s3cret"), "a value shows itself: {drawn}");
        let golden = toml.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &drawn).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(drawn, expected, "{} (UPDATE_GOLDEN=1 accepts it)", golden.display());
    }
    assert!(count > 10, "the drawings are somewhere else");
}

#[test]
fn every_key_arrives() {
    let config = parse(
        r#"
        [hub]
        bind = ["http://localhost:0", "[::1]:9"]
        public_url = "https://mcp.example.com/hub"
        prefixes = ["/", "/servers/"]
        default = "time"
        allowed_hosts = ["Example.com:80"]
        allowed_origins = ["https://App.example.com:443"]
        admin_socket = "run/../own.sock"
        drain_delay = "5s"
        drain_timeout = "1h"
        workers = "${env:N}"
        [hub.limits]
        body_bytes_max = 4096
        message_bytes_max = "10 MB"
        sessions_max = 1
        session_idle_timeout = "1h 30m"
        replay_events_max = 0
        replay_bytes_max = 0
        calls_in_flight_max = 2
        connections_max = 3
        streams_max = 4
        queue_max = 5
        answer_timeout = "90s"
        starts_max = 6
        rate = { per_second = "${env:N}" }
        principal_calls_max = 8
        principal_sessions_max = 9
        principal_streams_max = 10
        [hub.log]
        level = "debug"
        format = "json"
        [defaults]
        request_timeout = "7m"
        idle_timeout = "1h"
        env = { A = "default", B = "default" }
        restart = { max = 1, period = "2m" }
        tools = { deny = ["delete_*"] }
        pin_tools = true
        sandbox = { memory_max = "2 GiB", processes_max = 64 }
        [upstreams.time]
        enabled = false
        required = false
        command = "./bin/server"
        args = ["a", "Bearer ${env:TOKEN}", "$$HOME"]
        env = { B = "own" }
        inherit_env = true
        cwd = "data/./x"
        isolation = "call"
        start = "eager"
        process_max = 7
        start_timeout = "1s"
        idle_timeout = 0
        stop_timeout = "2s"
        overlap = false
        era = "modern"
        strict_stdout = "${env:YES}"
        expose_errors = true
        restart = { max = 2 }
        tools = { allow = ["get_*", "delete_it"] }
        sandbox = { read = ["/usr"], write = ["./data"], memory_max = "1 GiB", network = false }
        [upstreams.fetch]
        command = "uvx"
        inherit_env = ["PATH"]
        tools = { deny = [] }
        pin_tools = false
        "#,
    );
    let hub = &config.hub;
    let binds: Vec<String> = hub.bind.iter().map(|bind| bind.to_string()).collect();
    assert_eq!(binds, ["localhost:0", "[::1]:9"]);
    assert_eq!(hub.public_url.as_ref().unwrap().as_str(), "https://mcp.example.com/hub");
    assert_eq!(hub.prefixes, ["", "/servers"]);
    assert_eq!(hub.default.as_ref().unwrap().as_str(), "time");
    assert_eq!(hub.allowed_hosts, ["example.com:80"]);
    assert_eq!(hub.allowed_origins, ["https://app.example.com"]);
    assert_eq!((hub.drain_delay, hub.drain_timeout), (Duration::from_secs(5), Duration::from_secs(3600)));
    assert_eq!(hub.admin_socket.as_deref(), Some(Path::new("/etc/hub/run/../own.sock")));
    assert_eq!(hub.workers, Some(7));
    assert_eq!(hub.log.level, Level::Debug);
    assert_eq!(hub.log.format, config::Format::Json);
    let limits = config::Limits {
        body_bytes_max: 4096,
        message_bytes_max: 10_000_000,
        sessions_max: 1,
        session_idle_timeout: Duration::from_secs(5400),
        replay_events_max: 0,
        replay_bytes_max: 0,
        calls_in_flight_max: 2,
        connections_max: 3,
        streams_max: 4,
        queue_max: 5,
        answer_timeout: Duration::from_secs(90),
        starts_max: 6,
        rate: Some(config::Rate { per_second: 7, burst: 14 }),
        principal_calls_max: 8,
        principal_sessions_max: 9,
        principal_streams_max: 10,
    };
    assert_eq!(hub.limits, limits);

    let time = &config.upstreams["time"];
    assert!(!time.enabled && !time.required && !time.overlap && time.strict_stdout && time.expose_errors);
    assert_eq!(Path::new(time.command.expose()), Path::new("/etc/hub/./bin/server"));
    let args: Vec<&str> = time.args.iter().map(|arg| arg.expose()).collect();
    assert_eq!(args, ["a", "Bearer s3cret", "$HOME"]);
    assert!(!format!("{config:?}").contains("s3cret"), "a value shows itself");
    let env: Vec<(&str, &str)> = time.env.iter().map(|(k, v)| (k.as_str(), v.expose())).collect();
    assert_eq!(env, [("A", "default"), ("B", "own")]);
    assert_eq!(time.inherit_env, InheritEnv::All);
    assert_eq!(time.cwd, Path::new("/etc/hub/data/x"));
    assert_eq!((time.isolation, time.start, time.process_max), (Isolation::Call, Start::Eager, 7));
    assert_eq!(time.era, config::Era::Modern);
    assert_eq!(time.start_timeout, Duration::from_secs(1));
    assert_eq!(time.request_timeout, Duration::from_secs(420));
    assert_eq!(time.idle_timeout, Duration::ZERO);
    assert_eq!(time.stop_timeout, Duration::from_secs(2));
    assert_eq!((time.restart.max, time.restart.period), (2, Duration::from_secs(120)));
    assert_eq!(time.unavailable, None);
    let tools = time.tools.as_ref().unwrap();
    let admitted = ["get_time", "delete_it", "add"].map(|tool| tools.admits(tool));
    assert_eq!((admitted, time.pin_tools), ([true, false, false], true), "joined with [defaults] key by key");
    let sandbox = config::SandboxConfig {
        read: Some(vec!["/usr".into()]),
        write: Some(vec!["/etc/hub/data".into()]),
        memory_max: Some(1 << 30),
        processes_max: Some(64),
        network: false,
    };
    assert_eq!(time.sandbox, sandbox);

    let fetch = &config.upstreams["fetch"];
    assert_eq!((fetch.command.expose(), fetch.cwd.as_path()), ("uvx", Path::new("/etc/hub")));
    assert_eq!(fetch.inherit_env, InheritEnv::Names(vec!["PATH".into()]));
    assert_eq!(fetch.idle_timeout, Duration::from_secs(3600));
    assert_eq!(fetch.restart.max, 1);
    assert_eq!((&fetch.tools, fetch.pin_tools), (&None, false), "a filter that admits all is none");
    assert_eq!((fetch.sandbox.memory_max, &fetch.sandbox.read, fetch.sandbox.network), (Some(2 << 30), &None, true));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_mistake() {
    let config = parse("\u{feff}[hub]\r\n[upstreams.a]\r\ncommand = \"x\"\r\n");
    assert_eq!(config.upstreams.len(), 1);
}

#[test]
fn f84_bad_syntax_is_an_error_with_its_place() {
    let text = "[upstreams.a]\ncommand = \"x\nargs = []\n";
    let found = config::parse(text, Path::new("/"), &env).unwrap_err();
    assert_eq!((found[0].line, found[0].severity), (2, Severity::Error));
}

proptest::proptest! {
    /// Whatever an editor leaves behind is told and drawn, in each format.
    #[test]
    fn f85_no_half_written_text_breaks_the_reader(
        from in 0usize..6000,
        len in 0usize..400,
        put in "[\\PC\n\t]{0,12}|\\[[a-z.\"]{0,9}\\]|\"\"\"|\\$\\{|upstreams|command = ",
    ) {
        let whole = concat!(include_str!("../../hub.toml"), include_str!("../golden/wrong_types.toml"));
        let mut text: Vec<char> = whole.chars().collect();
        let from = from.min(text.len());
        let to = (from + len).min(text.len());
        text.splice(from..to, put.chars());
        let text: String = text.into_iter().collect();
        let found = match config::parse(&text, Path::new("/etc/hub"), &env) {
            Ok((_, found)) | Err(found) => found,
        };
        let path = Path::new("hub.toml");
        report::draw(&found, &text, path, true);
        report::json(&found, &text, path);
        report::github(&found, path);
    }
}

#[test]
fn f85_empty_file_is_an_error() {
    for text in ["", " \n\t\n", "# nothing but words\n"] {
        assert_eq!(titles(text), ["error: the file is empty"], "{text:?}");
    }
    assert_eq!(titles("[hub]\n"), ["warning: there are no upstreams"]);
}

#[test]
fn f90_ten_thousand_servers_load() {
    let mut text = String::from("[defaults]\nenv = { A = \"${env:TOKEN}\" }\n");
    for n in 0..10_000 {
        text += &format!("[upstreams.u{n}]\ncommand = \"uvx\"\nargs = [\"server-{n}\"]\n");
    }
    assert_eq!(parse(&text).upstreams.len(), 10_000);

    // And ten thousand mistakes are told without being drawn ten thousand times.
    let text = text.replace("args", "arg");
    let found = config::parse(&text, Path::new("/"), &env).unwrap_err();
    assert_eq!(found.len(), 10_000);
    let drawn = report::draw(&found, &text, Path::new("hub.toml"), false);
    assert!(drawn.contains("and 9960 more") && drawn.ends_with("hub.toml: 10000 errors\n"));
}

#[test]
fn f90_duplicates_name_both_places() {
    let text = "[upstreams.time]\ncommand = \"a\"\n[upstreams.x]\ncommand = \"b\"\nenv = { time = \"\" }\n\
                [ upstreams . \"time\" ]\ncommand = \"c\"\n";
    let found = config::parse(text, Path::new("/"), &env).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].line, 6);
    assert_eq!(found[0].other, [(0..16, "first here".to_owned())]);
}

#[test]
fn f91_missing_variable_is_named_and_its_neighbour_is_not_shown() {
    let text = "[upstreams.a]\ncommand = \"x\"\nargs = [\"${env:TOKEN} ${env:GONE}\"]\n";
    let found = config::parse(text, Path::new("/"), &env).unwrap_err();
    assert_eq!(found.len(), 1);
    assert!(found[0].title.contains("`GONE` is not set"));
    assert!(!format!("{found:?}").contains("s3cret"));
}

#[test]
fn f91_missing_variable_of_what_is_not_required_fails_only_that() {
    let check = |line: &str| {
        let refers = "command = \"x\"\nargs = [\"${env:GONE}\"]\nprocess_max = \"${env:LOST}\"";
        let config = parse(&format!("[upstreams.a]\n{line}\n{refers}\n[upstreams.b]\ncommand = \"y\"\n"));
        let reason = config.upstreams["a"].unavailable.as_deref().unwrap();
        assert!(reason.contains("`GONE`") && reason.contains("`LOST`"), "{reason}");
        assert_eq!(config.upstreams["b"].unavailable, None);
    };
    check("required = false");
    check("enabled = false");
    parse("[defaults]\nrequired = false\n[upstreams.a]\ncommand = \"${env:GONE}\"\n");
}

#[test]
fn f91_secret_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[upstreams.a]\ncommand = \"x\"\nenv = { T = \"${file:token}\" }\n";
    fs::write(folder.path().join("token"), "s3cret\r\n\n").unwrap();
    let (config, _) = config::parse(text, folder.path(), &env).unwrap();
    let token = &config.upstreams["a"].env["T"];
    assert_eq!((token.expose(), token.is_secret()), ("s3cret", true));

    fs::write(folder.path().join("token"), "x".repeat(64 * 1024 + 1)).unwrap();
    let found = config::parse(text, folder.path(), &env).unwrap_err();
    assert!(found[0].title.contains("larger than 64 KiB"), "{}", found[0].title);
}

#[test]
fn f56_reserved_names() {
    for word in ["healthz", "metrics", "admin", "api", "sse", "mcp", "servers", "hub"] {
        let found = titles(&format!("[upstreams.{word}]\ncommand = \"x\"\n"));
        assert!(found[0].contains("reserved") && found[0].starts_with("error"), "{found:?}");
    }
    let found = titles("[upstreams.\".well-known\"]\ncommand = \"x\"\n");
    assert!(found[0].starts_with("error: bad name"), "{found:?}");
}

// The disk.

const GOOD: &str = "[upstreams.a]\ncommand = \"x\"\n";

fn refused(path: &Path) -> String {
    config::read(path).unwrap_err().to_string()
}

#[test]
fn a_file_is_read_with_its_hash_and_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    fs::write(&path, GOOD).unwrap();
    let loaded = config::read(&path).unwrap();
    assert_eq!((loaded.text.as_str(), loaded.hash.len()), (GOOD, 16));
    assert_eq!(loaded.config.upstreams["a"].cwd, folder.path());
    fs::write(&path, format!("{GOOD}\n")).unwrap();
    assert_ne!(config::read(&path).unwrap().hash, loaded.hash);
}

#[cfg(unix)]
fn mkfifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg("-m").arg("600").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
#[cfg(unix)]
fn f89_fifo_directory_huge_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    assert!(refused(&path).contains("hubward init"));

    assert!(refused(folder.path()).contains("it is a directory"));
    assert!(refused(Path::new("/dev/zero")).contains("a device"));

    let fifo = folder.path().join("fifo");
    mkfifo(&fifo);
    assert!(refused(&fifo).contains("FIFO"));

    let file = fs::File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap();
    assert!(refused(&path).contains("larger than 4096 KiB"));

    fs::write(&path, b"[hub]\n# \xc3\xa4 \xff\n").unwrap();
    let drawn = refused(&path);
    assert!(drawn.contains("not UTF-8") && drawn.contains(":2:5"), "{drawn}");
}

#[test]
#[cfg(unix)]
fn f92_what_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::write(&path, GOOD).unwrap();
    mode(&path, 0o646);
    let drawn = refused(&path);
    assert!(drawn.contains("chmod o-w") && drawn.contains("hub.toml"), "{drawn}");
    mode(&path, 0o644);
    assert!(config::read(&path).is_ok());

    let token = folder.path().join("token");
    fs::write(&path, "[upstreams.a]\ncommand = \"x\"\nargs = [\"${file:token}\"]\n").unwrap();
    fs::write(&token, "s3cret").unwrap();
    mode(&token, 0o602);
    assert!(refused(&path).contains("chmod o-w"));
}

// The watch. A channel and a long patience; nothing sleeps for a state.

struct Watched {
    folder: tempfile::TempDir,
    path: PathBuf,
    told: mpsc::Receiver<()>,
    _watch: config::Watch,
}

impl Watched {
    /// Prepares a folder, then watches what `path` names in it.
    fn new(path: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let path = folder.path().join(path);
        let (tell, told) = mpsc::channel();
        let watch = config::watch(&path, move || {
            let _ = tell.send(());
        })
        .unwrap();
        Self { folder, path, told, _watch: watch }
    }

    /// A plain file, watched.
    fn file() -> Self {
        Self::new("hub.toml", |folder| fs::write(folder.join("hub.toml"), GOOD).unwrap())
    }

    /// Waits until the path holds `expected`, looking only when told to.
    #[track_caller]
    fn until(&self, expected: &str) {
        loop {
            self.told.recv_timeout(Duration::from_secs(20)).expect("nobody told of the change");
            if fs::read_to_string(&self.path).is_ok_and(|text| text == expected) {
                return;
            }
        }
    }

    /// Waits to be told anything.
    #[track_caller]
    fn stirred(&self) {
        self.told.recv_timeout(Duration::from_secs(20)).expect("nobody told of the change");
    }

    /// Until it has been quiet for longer than an event needs.
    fn quiet(&self) {
        while self.told.recv_timeout(Duration::from_millis(500)).is_ok() {}
    }
}

#[test]
fn f86_written_in_place() {
    let watched = Watched::file();
    for text in ["one", "two", "three"] {
        fs::write(&watched.path, text).unwrap();
        watched.until(text);
    }
}

#[test]
fn f86_rename_save() {
    let watched = Watched::file();
    for text in ["one", "two", "three"] {
        let aside = watched.folder.path().join("hub.toml~");
        fs::write(&aside, text).unwrap();
        fs::rename(&aside, &watched.path).unwrap();
        watched.until(text);
    }
}

#[test]
fn f86_backup_and_write() {
    let watched = Watched::file();
    for text in ["one", "two"] {
        fs::rename(&watched.path, watched.folder.path().join("hub.toml.bak")).unwrap();
        fs::write(&watched.path, text).unwrap();
        watched.until(text);
    }
}

#[test]
fn f86_sed_in_place() {
    let watched = Watched::file();
    for (from, to) in [("x", "y"), ("y", "z")] {
        let script = format!("s/\"{from}\"/\"{to}\"/");
        let done = std::process::Command::new("sed").arg("-i").arg(&script).arg(&watched.path).status().unwrap();
        assert!(done.success());
        watched.until(&GOOD.replace('x', to));
    }
}

#[test]
#[cfg(unix)]
fn f86_touch_and_chmod_only() {
    use std::os::unix::fs::PermissionsExt;
    let watched = Watched::file();
    let file = fs::File::options().append(true).open(&watched.path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    watched.stirred();
    watched.quiet();
    fs::set_permissions(&watched.path, fs::Permissions::from_mode(0o600)).unwrap();
    watched.stirred();
}

#[test]
fn our_own_reading_is_no_change() {
    let watched = Watched::file();
    watched.quiet();
    for _ in 0..3 {
        config::read(&watched.path).unwrap();
    }
    // Longer than the look every two seconds.
    assert!(watched.told.recv_timeout(Duration::from_millis(2600)).is_err(), "reading tells of a change");
}

#[test]
#[cfg(unix)]
fn f87_symlink_swap() {
    use std::os::unix::fs::symlink;
    // As a ConfigMap is mounted: hub.toml -> ..data/hub.toml, ..data -> ..v0, swapped by a rename.
    let version = |folder: &Path, n: usize| {
        let inner = folder.join(format!("..v{n}"));
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("hub.toml"), format!("v{n}")).unwrap();
    };
    let watched = Watched::new("hub.toml", |folder| {
        version(folder, 0);
        symlink("..v0", folder.join("..data")).unwrap();
        symlink("..data/hub.toml", folder.join("hub.toml")).unwrap();
    });
    for n in 1..4 {
        let folder = watched.folder.path();
        version(folder, n);
        symlink(format!("..v{n}"), folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        fs::remove_dir_all(folder.join(format!("..v{}", n - 1))).unwrap();
        watched.until(&format!("v{n}"));
    }
}

#[test]
#[cfg(unix)]
fn f87_link_into_another_folder() {
    use std::os::unix::fs::symlink;
    // Two links away: a/hub.toml -> b/hub.toml -> c/real.toml, and the way to c is itself a link.
    let watched = Watched::new("a/hub.toml", |folder| {
        for name in ["a", "b", "c1", "c2"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        fs::write(folder.join("c1/real.toml"), "c1").unwrap();
        fs::write(folder.join("c2/real.toml"), "c2").unwrap();
        symlink("c1", folder.join("c")).unwrap();
        symlink(folder.join("c/real.toml"), folder.join("b/hub.toml")).unwrap();
        symlink("../b/hub.toml", folder.join("a/hub.toml")).unwrap();
    });
    let folder = watched.folder.path();
    fs::write(folder.join("c1/real.toml"), "edited").unwrap();
    watched.until("edited");
    symlink("c2", folder.join("c_tmp")).unwrap();
    fs::rename(folder.join("c_tmp"), folder.join("c")).unwrap();
    watched.until("c2");
    fs::write(folder.join("c2/real.toml"), "edited again").unwrap();
    watched.until("edited again");
    fs::remove_file(folder.join("b/hub.toml")).unwrap();
    fs::write(folder.join("b/hub.toml"), "no link").unwrap();
    watched.until("no link");
}

#[test]
fn f87_folder_replaced() {
    let watched = Watched::new("in/hub.toml", |folder| {
        fs::create_dir(folder.join("in")).unwrap();
        fs::write(folder.join("in/hub.toml"), GOOD).unwrap();
    });
    let (now, before) = (watched.folder.path().join("in"), watched.folder.path().join("before"));
    fs::rename(&now, &before).unwrap();
    fs::create_dir(&now).unwrap();
    fs::write(now.join("hub.toml"), "another").unwrap();
    watched.until("another");
    // And the new folder is watched as the old one was.
    fs::write(now.join("hub.toml"), "edited").unwrap();
    watched.until("edited");
    fs::remove_dir_all(&now).unwrap();
    watched.stirred();
    fs::create_dir(&now).unwrap();
    fs::write(now.join("hub.toml"), "third").unwrap();
    watched.until("third");
}

#[test]
fn f88_delete_and_recreate() {
    let watched = Watched::file();
    for text in ["one", "two"] {
        fs::remove_file(&watched.path).unwrap();
        watched.stirred();
        assert!(refused(&watched.path).contains("cannot read the file"));
        fs::write(&watched.path, text).unwrap();
        watched.until(text);
    }
}

#[test]
#[cfg(unix)]
fn f89_a_fifo_in_its_place_does_not_stop_the_watch() {
    let watched = Watched::file();
    fs::remove_file(&watched.path).unwrap();
    mkfifo(&watched.path);
    watched.stirred();
    assert!(refused(&watched.path).contains("FIFO"));
    fs::remove_file(&watched.path).unwrap();
    watched.quiet();
    fs::write(&watched.path, "back").unwrap();
    watched.until("back");
}

#[test]
fn a_dropped_watch_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    let (tell, told) = mpsc::channel();
    drop(
        config::watch(&path, move || {
            let _ = tell.send(());
        })
        .unwrap(),
    );
    fs::write(&path, GOOD).unwrap();
    assert!(matches!(told.recv(), Err(mpsc::RecvError)), "the callback is gone with the watch");
}
