//! The commands: what they print where, and how they end.

use std::{fs, net::TcpListener, path::Path, process::Command};

use serde_json::{Value, json};

use super::fixture::{Client, Hub, SseClient, example, hubward, rogue};

/// Exit code, stdout and stderr of a command, in a folder without any configuration around.
fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = alone(folder, args);
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn alone(folder: &Path, args: &[&str]) -> Command {
    let mut command = hubward(args);
    command.current_dir(folder).env("HOME", folder).env_remove("XDG_CONFIG_HOME");
    command
}

#[test]
fn serve_without_a_file_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(folder.path(), &["serve"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("hubward init") && stderr.contains("--config"), "{stderr}");
    let (code, stdout, stderr) = run(folder.path(), &["serve", "-c", "elsewhere.toml"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("elsewhere.toml") && stderr.contains("hubward init"), "{stderr}");
}

#[test]
fn serve_shows_all_that_is_wrong_with_a_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hub.toml"), "[upstreams.a]\ncomand = 'x'\nstart = 'soon'\n").unwrap();
    let (code, stdout, stderr) = run(folder.path(), &["serve"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("hub.toml:2:1") && stderr.contains("hub.toml:3:9"), "{stderr}");
}

#[test]
fn check_tells_everything_at_once_to_whomever() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.toml");
    fs::write(&file, "[upstreams.a]\ncommand = 'x'\n").unwrap();
    let (code, stdout, stderr) = run(folder.path(), &["check"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("ok, 1 upstream"), "{stdout}");
    fs::write(&file, "[upstreams.a]\ncomand = 'x'\nstart = 'soon'\nprocess_max = 0\n").unwrap();
    let (code, stdout, stderr) = run(folder.path(), &["check"]);
    assert_eq!((code, stderr.as_str()), (2, ""), "the report is what was asked for");
    for place in ["hub.toml:2:1", "hub.toml:3:9", "hub.toml:4:15"] {
        assert!(stdout.contains(place), "{place} is not in\n{stdout}");
    }
    let (code, stdout, _) = run(folder.path(), &["check", "--format", "json"]);
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let places = found.to_string();
    assert_eq!(code, 2);
    assert!(places.contains(r#""line":2"#) && places.contains(r#""line":4"#), "{found:#}");
    let (code, stdout, _) = run(folder.path(), &["check", "hub.toml", "--format", "github"]);
    assert_eq!(code, 2);
    assert!(stdout.lines().count() >= 3 && stdout.lines().all(|line| line.starts_with("::error ")), "{stdout}");
    let (code, stdout, _) = run(folder.path(), &["check", "missing.toml"]);
    assert_eq!(code, 2);
    assert!(stdout.contains("missing.toml"), "{stdout}");
}

#[tokio::test]
async fn init_and_serve_work_in_an_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(folder.path(), &["init"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("hubward serve"), "{stdout}");
    let (code, _, stderr) = run(folder.path(), &["init"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("--force"), "{stderr}");
    // Not even in the PATH.
    let mut serve = alone(folder.path(), &["serve", "--bind", "127.0.0.1:0"]);
    serve.env("PATH", "/usr/bin:/bin");
    let hub = Hub::run(folder, serve);
    assert_eq!(hub.urls, [hub.url("/demo/mcp"), hub.url("/demo/sse")]);
    let client = Client::open(&hub, "/demo/mcp").await;
    assert_eq!(client.call("echo", json!({ "text": "hi" })).await.tool_text(), "hi");
    SseClient::greeted(&hub, "/demo/sse", json!({})).await;
}

#[tokio::test]
async fn proxy_serves_one_command_without_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let rogue = example("rogue").display().to_string();
    let flags = ["proxy", "--bind", "127.0.0.1:0", "--isolation", "shared", "-e", "CANARY=a=b", "--cwd", "elsewhere"];
    let command = ["--", &rogue, "--instructions", "hi"];
    let proxy = alone(folder.path(), &[flags.as_slice(), command.as_slice()].concat());
    let mut hub = Hub::run(folder, proxy);
    assert_eq!(hub.urls, [hub.url("/mcp"), hub.url("/sse")]);
    let client = Client::open(&hub, "/mcp").await;
    assert_eq!(client.greeting["instructions"], "hi", "flags behind -- are the command's");
    let env: Value = serde_json::from_str(&client.call("env", json!({})).await.tool_text()).unwrap();
    assert_eq!(env["CANARY"], "a=b");
    assert!(env["PWD"].as_str().is_none_or(|pwd| pwd.ends_with("elsewhere")));
    let pid = client.call("pid", json!({})).await.tool_text();
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert!(cwd.ends_with("elsewhere"), "{}", cwd.display());
    let other = Client::open(&hub, "/mcp").await;
    assert_eq!(other.call("pid", json!({})).await.tool_text(), pid, "it is shared");
    SseClient::greeted(&hub, "/sse", json!({})).await;
    hub.signal("TERM");
    assert!(hub.ended().success());
}

#[tokio::test]
async fn proxy_gives_each_client_a_process_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let rogue = example("rogue").display().to_string();
    let hub = Hub::run(tempfile::tempdir().unwrap(), alone(folder.path(), &["proxy", "--port", "0", &rogue]));
    let (one, two) = (Client::open(&hub, "/mcp").await, Client::open(&hub, "/mcp").await);
    assert_ne!(one.call("pid", json!({})).await.tool_text(), two.call("pid", json!({})).await.tool_text());
}

#[test]
fn demo_speaks_mcp_on_stdout_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    let lines = [
        super::fixture::initialize("2025-11-25", json!({})),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }),
    ];
    fs::write(&input, lines.map(|line| format!("{line}\n")).concat()).unwrap();
    let output = hubward(&["demo"]).stdin(fs::File::open(input).unwrap()).output().unwrap();
    assert!(output.status.success());
    let said: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(said.len(), 2);
    assert_eq!(said[0]["result"]["protocolVersion"], "2025-11-25");
    assert!(said[1]["result"]["tools"].as_array().unwrap().len() > 3);
}

#[test]
fn version_tells_the_revisions() {
    let folder = tempfile::tempdir().unwrap();
    let first = format!("hubward {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(folder.path(), &["version"]), (0, first.clone(), String::new()));
    assert_eq!(run(folder.path(), &["--version"]), (0, first.clone(), String::new()));
    let (code, stdout, stderr) = run(folder.path(), &["version", "--verbose"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for word in [first.trim(), "platform: ", "features: ", "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        assert!(stdout.contains(word), "{word} is not in {stdout}");
    }
}

#[test]
fn wrong_usage_is_told_on_stderr_with_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        &[][..],
        &["unknown"],
        &["serve", "--unknown"],
        &["serve", "--bind", "nonsense"],
        &["check", "--format", "yaml"],
        &["proxy"],
        &["proxy", "--isolation", "none", "--", "cat"],
        &["proxy", "-e", "NOVALUE", "--bind", "127.0.0.1:0", "--", "cat"],
        &["--color", "sometimes", "version"],
    ] {
        let (code, stdout, stderr) = run(folder.path(), args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(!stderr.is_empty(), "{args:?}");
    }
    let (code, stdout, stderr) = run(folder.path(), &["--help"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("serve") && stdout.contains("proxy"), "{stdout}");
}

#[test]
fn f94_a_port_in_use_is_named_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let counter = folder.path().join("counter");
    let toml = rogue("a", &["--counter", &counter.display().to_string()], "start = 'eager'\nisolation = 'shared'");
    fs::write(folder.path().join("hub.toml"), toml).unwrap();
    let rogue = example("rogue").display().to_string();
    for args in [&["serve", "--bind", &address][..], &["proxy", "--bind", &address, "--", &rogue]] {
        let (code, stdout, stderr) = run(folder.path(), args);
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains(&address) && stderr.contains("another program"), "{stderr}");
    }
    assert!(!counter.exists(), "no child was started");
}

#[test]
fn an_address_that_others_can_reach_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hub.toml"), rogue("a", &[], "")).unwrap();
    for args in [
        &["serve", "--bind", "0.0.0.0:0"][..],
        &["serve", "--bind", "127.0.0.1:0", "--bind", "[::]:0"],
        &["proxy", "--host", "0.0.0.0", "--port", "0", "--", "cat"],
    ] {
        let (code, stdout, stderr) = run(folder.path(), args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains("show who they are") && stderr.contains("loopback"), "{stderr}");
    }
    fs::write(folder.path().join("hub.toml"), format!("[hub]\nbind = ['0.0.0.0:8808']\n{}", rogue("a", &[], "")))
        .unwrap();
    let (code, _, stderr) = run(folder.path(), &["serve"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("127.0.0.1:8808"), "{stderr}");
}

#[test]
fn a_reader_of_stdout_that_has_left_is_no_reason_to_panic() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["version", "--verbose"][..], &["--help"], &["check"]] {
        let broken = std::io::pipe().unwrap().1;
        let output = alone(folder.path(), args).stdout(broken).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    }
}
