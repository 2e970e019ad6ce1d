//! Logs: what servers print and who sees it, how much is logged of whom, and that no line steers a terminal.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
};

use serde_json::{Value, json};

use super::fixture::{Client, Hub, PATIENCE, echo, eventually, example, file_until, hubward, rogue, told};

const MIB: usize = 1 << 20;

/// An upstream that says this on stderr at its start, and what `printf` makes of it.
fn talker(name: &str, says: &str, keys: &str) -> String {
    let script = format!("printf '{says}\\n' >&2; exec {}", example("rogue").display());
    format!("[upstreams.{name}]\ncommand = 'sh'\nargs = ['-c', {script:?}]\nera = 'legacy'\n{keys}\n")
}

/// A hub that nobody told on the command line how much to log, unless these flags do.
fn hub(toml: &str, flags: &[&str]) -> Hub {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hub.toml"), toml).unwrap();
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "-c"]);
    command.arg(folder.path().join("hub.toml")).args(flags);
    Hub::run(folder, command)
}

fn logs(hub: &Hub, args: &[&str]) -> (i32, String, String) {
    told(&hub.command(&[&["logs"], args].concat()))
}

/// A `hubward logs` that goes on. Killed when dropped.
struct Following {
    process: Child,
    lines: Receiver<String>,
}

impl Following {
    fn start(hub: &Hub, args: &[&str]) -> Following {
        let mut command = hubward(&[&["logs", "-f"], args].concat());
        command.arg("-c").arg(hub.path()).env("XDG_RUNTIME_DIR", hub.folder.path());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (read, lines) = channel();
        let out = BufReader::new(process.stdout.take().unwrap());
        // Closes its end when nobody wants more.
        std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| read.send(line).is_ok()));
        Following { process, lines }
    }

    /// Reads on until a line has this.
    fn until(&self, part: &str) -> String {
        let mut all = String::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no {part:?} ({error}) in\n{all}"));
            if line.contains(part) {
                return line;
            }
            all = all + &line + "\n";
        }
    }

    /// How it ends, and what it says on stderr.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.process.wait().unwrap().code(), said)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_last_lines_say_when_which_process_and_whether_the_hub_says_so() {
    let hub = Hub::start(&talker("a", r"one\033[31m\ntwo", ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let pid = client.call("pid", json!({})).await.tool_text();
    let (code, out, err) = logs(&hub, &["a"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<(&str, &str)> = out.lines().map(|line| line.split_at(24)).collect();
    assert!(lines.iter().all(|(time, _)| time.starts_with("20") && time.ends_with('Z')), "{out}");
    let texts: Vec<&str> = lines.iter().map(|(_, text)| *text).collect();
    let (first, printed) = (" - hubward: starting", [format!(" {pid} one\\u{{1b}}[31m"), format!(" {pid} two")]);
    assert_eq!(texts, [first, &printed[0], &printed[1], &format!(" {pid} hubward: ready")]);
    assert_eq!(logs(&hub, &["a", "-n", "1"]).1, format!("{}{}\n", lines[3].0, lines[3].1));
    client.delete().await;
    eventually("its end", || {
        logs(&hub, &["a", "-n", "1"]).1.contains(&format!(" {pid} hubward: "))
            && !logs(&hub, &["a", "-n", "1"]).1.contains("ready")
    })
    .await;
}

#[tokio::test]
async fn without_a_name_each_line_says_whose_it_is_and_json_has_all_of_it() {
    let hub = Hub::start(&format!("{}{}", talker("a", "from a", ""), talker("b", "from b", "")));
    Client::open(&hub, "/a/mcp").await;
    Client::open(&hub, "/b/mcp").await;
    let (code, out, _) = logs(&hub, &["--json"]);
    assert_eq!(code, 0);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |upstream: &str, kind: &str| -> Vec<&str> {
        let own = lines.iter().filter(|line| line["upstream"] == upstream && line["kind"] == kind);
        own.map(|line| line["text"].as_str().unwrap()).collect()
    };
    assert_eq!((said("a", "stderr"), said("b", "stderr")), (vec!["from a"], vec!["from b"]));
    assert_eq!(said("b", "hub"), ["starting", "ready"]);
    assert!(lines.windows(2).all(|pair| pair[0]["time"].as_str() <= pair[1]["time"].as_str()), "{out}");
    let (_, out, _) = logs(&hub, &[]);
    assert!(out.lines().any(|line| line[24..].starts_with(" b ") && line.ends_with(" from b")), "{out}");
}

#[tokio::test]
async fn an_unknown_name_lists_the_known_ones_and_no_hub_is_unreachable() {
    let mut hub = Hub::start(&format!("{}{}", echo("a", ""), echo("b", "")));
    let (code, out, err) = logs(&hub, &["c"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no upstream `c`") && err.contains("a, b"), "{err}");
    hub.signal("TERM");
    hub.ended();
    assert_eq!(logs(&hub, &["a"]).0, 4);
}

#[tokio::test]
async fn who_follows_hears_of_deaths_and_reloads_to_the_end_of_the_hub() {
    let mut hub = Hub::start(&talker("a", "first", "isolation = 'shared'"));
    let following = Following::start(&hub, &["a"]);
    let client = Client::open(&hub, "/a/mcp").await;
    following.until("hubward: ready");
    let pid = client.call("pid", json!({})).await.tool_text();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let death = following.until("signal 9");
    assert!(death.contains(&format!(" {pid} hubward: ")), "{death}");
    let client = Client::open(&hub, "/a/mcp").await;
    assert!(!following.until("first").contains(&format!(" {pid} ")), "another process");
    hub.edit(&talker("a", "second", "isolation = 'shared'"));
    following.until(" second");
    following.until("hubward: the new definition serves");
    // Gone from the file, and back again.
    hub.edit("[hub]\n");
    hub.generation(3).await;
    hub.edit(&talker("a", "third", "start = 'eager'\nisolation = 'shared'"));
    following.until(" third");
    drop(client);
    hub.signal("TERM");
    hub.ended();
    let (code, said) = following.ended();
    assert_eq!((code, said.as_str()), (Some(0), "the hub has ended\n"));
}

#[tokio::test]
async fn who_follows_all_hears_new_names_too() {
    let hub = Hub::start(&echo("a", ""));
    let following = Following::start(&hub, &[]);
    hub.edit(&format!("{}{}", echo("a", ""), talker("new", "hello", "start = 'eager'")));
    assert!(following.until("hello").contains(" new "));
}

#[tokio::test]
async fn a_reader_that_has_enough_is_no_error() {
    let hub = Hub::start(&talker("a", "hello", ""));
    let mut following = Following::start(&hub, &["a"]);
    let client = Client::open(&hub, "/a/mcp").await;
    following.until("hello");
    // Nobody reads any more. Each line may be the one that finds that out.
    following.lines = channel().1;
    while following.process.try_wait().unwrap().is_none() {
        client.call("stderr", json!({ "bytes": 1000 })).await;
    }
    assert_eq!(following.ended(), (Some(0), String::new()));
}

/// The admin socket of a hub.
fn socket(hub: &Hub) -> PathBuf {
    let all = fs::read_dir(hub.folder.path().join("hubward")).unwrap().map(|entry| entry.unwrap().path());
    all.into_iter().find(|path| path.extension().is_some_and(|end| end == "sock")).unwrap()
}

fn follow(hub: &Hub) -> UnixStream {
    let mut stream = UnixStream::connect(socket(hub)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"{\"command\":\"logs\",\"lines\":10,\"follow\":true}\n").unwrap();
    stream
}

#[tokio::test]
async fn f11_a_follower_that_does_not_read_delays_nobody_and_is_cut_off() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let deaf = follow(&hub);
    // Enough to fill what the socket holds, many times.
    for _ in 0..8 {
        assert_eq!(client.call("stderr", json!({ "bytes": 8 * MIB })).await.tool_text(), "ok");
    }
    // It is not read from: that would be listening.
    eventually("the end of the deaf", || (&deaf).write_all(b"x").is_err()).await;
    let (code, out, _) = logs(&hub, &["a"]);
    assert!(code == 0 && out.lines().count() == 100, "{out}");
}

#[tokio::test]
async fn followers_leave_room_for_other_commands() {
    let hub = Hub::start(&talker("a", "hello", "start = 'eager'"));
    let mut places: Vec<BufReader<UnixStream>> = Vec::new();
    loop {
        let mut stream = BufReader::new(follow(&hub));
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["done"] == true {
            assert!(line["error"].as_str().unwrap().contains("too many follow"), "{line}");
            break;
        }
        places.push(stream);
    }
    assert_eq!(places.len(), 16);
    assert_eq!(told(&hub.command(&["reload"])).0, 0);
    places.pop();
    eventually("room again", || {
        let mut line = String::new();
        BufReader::new(follow(&hub)).read_line(&mut line).unwrap();
        line.contains("\"text\"")
    })
    .await;
}

#[tokio::test]
async fn a_remote_upstream_has_the_hubs_own_lines() {
    let hub = Hub::start("[upstreams.far]\nurl = 'http://127.0.0.1:1/mcp'\nstart = 'eager'\n");
    let following = Following::start(&hub, &["far"]);
    assert!(following.until("hubward: starting").contains("Z - "));
    following.until(" - hubward: did not start: ");
}

#[tokio::test]
async fn stderr_file_has_the_lines_for_the_owner_alone_and_changes_in_place() {
    let toml = |file: &str| talker("a", "hello", &format!("stderr_file = '{file}'"));
    let hub = Hub::start(&toml("logs/a.log"));
    let client = Client::open(&hub, "/a/mcp").await;
    let pid = client.call("pid", json!({})).await.tool_text();
    let path = hub.folder.path().join("logs/a.log");
    let text = file_until(&path, |text| text.contains(" hubward: ready\n")).await;
    assert!(text.contains(&format!(" a {pid} hello\n")) && text.contains(" a - hubward: starting\n"), "{text}");
    assert_eq!(mode(&path), 0o600);
    hub.edit(&toml("other.log"));
    hub.generation(2).await;
    assert_eq!(client.call("stderr", json!({ "bytes": 1000 })).await.tool_text(), "ok");
    let other = hub.folder.path().join("other.log");
    file_until(&other, |text| text.contains(&format!(" a {pid} "))).await;
    assert_eq!(client.call("pid", json!({})).await.tool_text(), pid, "the process need not know");
    hub.edit(&talker("a", "hello", ""));
    hub.generation(3).await;
    let before = fs::read_to_string(&other).unwrap();
    assert_eq!(client.call("stderr", json!({ "bytes": 1000 })).await.tool_text(), "ok");
    eventually("the lines", || logs(&hub, &["a", "-n", "1000"]).1.lines().count() > before.lines().count() + 3).await;
    assert_eq!(fs::read_to_string(&other).unwrap(), before);
}

#[tokio::test]
async fn f101_a_stderr_file_that_cannot_be_written_is_told_and_holds_nobody_up() {
    let hub = Hub::start(&talker("a", "hello", "stderr_file = 'hub.toml/a.log'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let told = hub.until_upstream("a", |a| a["notice"].is_string()).await;
    let notice = told["notice"].as_str().unwrap();
    assert!(notice.contains("cannot write stderr_file") && notice.contains("hub.toml/a.log"), "{notice}");
    for _ in 0..20 {
        assert_eq!(client.call("stderr", json!({ "bytes": MIB })).await.tool_text(), "ok");
    }
    let count = hub.log().matches("cannot write stderr_file").count();
    assert_eq!(count, 1, "it is said once");
    assert!(logs(&hub, &["a", "-n", "1000"]).1.lines().count() > 100, "what is kept in memory stays");
}

#[tokio::test]
async fn log_level_of_an_upstream_changes_at_a_reload_for_it_alone() {
    let toml = |level: &str| format!("{}{}", talker("a", "I am a", level), talker("b", "I am b", ""));
    let hub = hub(&toml(""), &[]);
    Client::open(&hub, "/a/mcp").await.delete().await;
    hub.edit(&toml("log_level = 'debug'"));
    hub.generation(2).await;
    Client::open(&hub, "/b/mcp").await;
    Client::open(&hub, "/a/mcp").await;
    hub.logged("stderr: I am a").await;
    assert_eq!(hub.log().matches("stderr: I am").count(), 1, "neither b nor what was before: {}", hub.log());
    hub.edit(&toml("log_level = 'error'"));
    hub.generation(3).await;
    let before = hub.log().matches("upstream=a").count();
    Client::open(&hub, "/a/mcp").await;
    Client::open(&hub, "/b/mcp").await;
    eventually("b is told of", || hub.log().matches("ready upstream=b").count() == 2).await;
    assert_eq!(hub.log().matches("upstream=a").count(), before, "{}", hub.log());
}

#[tokio::test]
async fn the_hubs_level_and_format_change_at_a_reload() {
    let toml = |log: &str| format!("[hub.log]\n{log}\n{}", echo("a", ""));
    let hub = hub(&toml("level = 'warn'"), &[]);
    Client::open(&hub, "/a/mcp").await;
    hub.edit(&toml("level = 'info'\nformat = 'json'"));
    hub.logged("configuration applied").await;
    assert!(!hub.log().contains("ready"), "that was below `warn`: {}", hub.log());
    let line = hub.log().lines().last().unwrap().to_owned();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["message"], &line["generation"]), (&json!("configuration applied"), &json!(2)));
    Client::open(&hub, "/a/mcp").await;
    hub.logged(r#""message":"ready","upstream":"a""#).await;
}

#[tokio::test]
async fn the_command_line_wins_over_level_and_format_at_a_reload_too() {
    let toml = |log: &str| format!("[hub.log]\n{log}\n{}", echo("a", ""));
    let hub = hub(&toml(""), &["--log-level", "info", "--log-format", "human"]);
    hub.edit(&toml("level = 'error'\nformat = 'json'"));
    hub.generation(2).await;
    Client::open(&hub, "/a/mcp").await;
    hub.logged("ready upstream=a").await;
}

#[tokio::test]
async fn log_file_takes_the_log_in_place_of_stderr_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hubward.log");
    fs::write(&file, "before\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let mut hub = hub(&echo("a", ""), &["--log-file", file.to_str().unwrap()]);
    Client::open(&hub, "/a/mcp").await;
    let text = file_until(&file, |text| text.contains("ready upstream=a")).await;
    assert!(text.starts_with("before\n") && !text.contains('\x1b'), "{text}");
    // Whoever rotates logs moves them away.
    fs::rename(&file, folder.path().join("old")).unwrap();
    let mut seconds = 1;
    while !file.exists() {
        // Each is an edit, and so a line.
        hub.edit(&echo("a", &format!("request_timeout = '{seconds}s'")));
        assert_eq!(told(&hub.command(&["reload"])).0, 0);
        seconds += 1;
    }
    assert_eq!(mode(&file), 0o600);
    hub.signal("TERM");
    hub.ended();
    file_until(&file, |text| text.contains(" done")).await;
    assert_eq!(hub.log(), "");
    let nowhere = folder.path().join("none/hubward.log");
    let mut command = hubward(&["serve", "-c"]);
    command.arg(hub.path()).arg("--log-file").arg(&nowhere);
    let (code, _, err) = told(&command.output().unwrap());
    assert!(code == 2 && err.contains("cannot write --log-file") && err.contains("none/hubward.log"), "{err}");
}

#[tokio::test]
async fn a_rejected_edit_is_one_event_of_several_lines() {
    let hub = hub(&echo("a", ""), &[]);
    hub.edit("[upstreams.a]\ncomand = 'x'\n");
    hub.logged("  error").await;
    let log = hub.log();
    let at = log.lines().position(|line| line.ends_with("everything runs on as it was")).unwrap();
    assert!(log.lines().nth(at + 1).unwrap().starts_with("  error: unknown key `comand`"), "{log}");
}
