//! The admin socket: whose it is, who holds it, what it takes; and `hubward reload` through it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::{Value, json};

use super::fixture::{Client, Hub, echo, eventually, hubward, rogue, told};

/// The socket of a hub.
fn socket(hub: &Hub) -> PathBuf {
    sockets(hub.folder.path()).pop().expect("a socket")
}

fn sockets(runtime: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(runtime.join("hubward")).into_iter().flatten().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|end| end == "sock")).collect()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn reload(hub: &Hub) -> (i32, String, String) {
    told(&hub.command(&["reload"]))
}

/// Says something to the socket, and reads all that it answers.
fn say(path: &Path, text: &[u8]) -> Vec<Value> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(super::fixture::PATIENCE)).unwrap();
    let _ = stream.write_all(text);
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
}

#[tokio::test]
async fn t6_the_socket_is_its_owners_alone_and_goes_with_the_hub() {
    let mut hub = Hub::start(&echo("a", ""));
    let path = socket(&hub);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    hub.signal("TERM");
    hub.ended();
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn t6_a_process_of_another_user_is_turned_away() {
    let hub = Hub::start(&echo("a", ""));
    let path = socket(&hub);
    if fs::metadata(&path).unwrap().uid() != 0 {
        // Nobody but root can be somebody else.
        return;
    }
    // Even where the files would let it in.
    fs::set_permissions(hub.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let program = hub.folder.path().join("hubward-copy");
    fs::copy(env!("CARGO_BIN_EXE_hubward"), &program).unwrap();
    let mut stranger = std::process::Command::new(&program);
    stranger.arg("reload").arg("--socket").arg(&path).current_dir("/").uid(65534).gid(65534);
    let (code, _, err) = told(&stranger.output().unwrap());
    assert!(code == 4 && err.contains("belongs to another user"), "{code} {err}");
    hub.logged("a process of another user was turned away").await;
    assert_eq!(hub.status().await["reload"]["generation"], 1);
}

#[tokio::test]
async fn a_socket_that_a_killed_hub_left_is_replaced() {
    let hub = Hub::start(&echo("a", ""));
    let path = socket(&hub);
    let before = fs::symlink_metadata(&path).unwrap().ino();
    let folder = hub.leave();
    assert!(path.exists(), "it was killed");
    let hub = Hub::start_in(folder, &echo("a", ""));
    assert_eq!(socket(&hub), path);
    assert_eq!(reload(&hub).0, 0, "{before}");
}

#[tokio::test]
async fn a_second_hub_of_the_same_file_runs_without_and_the_first_keeps_it() {
    let first = Hub::start(&echo("a", ""));
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "-c"]);
    command.arg(first.path()).env("XDG_RUNTIME_DIR", first.folder.path());
    let second = Hub::run(tempfile::tempdir().unwrap(), command);
    second.logged("another hub holds it").await;
    assert_eq!(second.status().await["reload"]["generation"], 1);
    first.edit(&format!("{}{}", echo("a", ""), echo("b", "")));
    first.generation(2).await;
    drop(second);
    let (code, out, err) = reload(&first);
    assert_eq!((code, out.as_str()), (0, "generation 2: nothing changed\n"), "{err}");
    assert_eq!(sockets(first.folder.path()).len(), 1);
}

#[tokio::test]
async fn each_file_has_a_hub_of_its_own() {
    let one = Hub::start(&echo("a", ""));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hub.toml"), rogue("b", &[], "")).unwrap();
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "-c"]);
    command.arg(folder.path().join("hub.toml")).env("XDG_RUNTIME_DIR", one.folder.path());
    let two = Hub::run(folder, command);
    assert_eq!(sockets(one.folder.path()).len(), 2);
    let ask = |hub: &Hub, name: &str| -> Output {
        let mut command = hubward(&["accept", name, "-c"]);
        command.arg(hub.path()).env("XDG_RUNTIME_DIR", one.folder.path()).output().unwrap()
    };
    assert!(told(&ask(&one, "x")).2.contains("there is a\n"));
    assert!(told(&ask(&two, "x")).2.contains("there is b\n"));
}

#[tokio::test]
async fn a_socket_that_is_named_has_to_open() {
    let folder = tempfile::tempdir().unwrap();
    let toml = format!("[hub]\nadmin_socket = 'run/own.sock'\n{}", echo("a", ""));
    fs::create_dir(folder.path().join("run")).unwrap();
    fs::write(folder.path().join("run/own.sock"), "precious").unwrap();
    fs::write(folder.path().join("hub.toml"), &toml).unwrap();
    let serve = || {
        let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "-c"]);
        command.arg(folder.path().join("hub.toml"));
        told(&command.output().unwrap())
    };
    let (code, _, err) = serve();
    assert!(code == 1 && err.contains("run/own.sock") && err.contains("no socket"), "{code} {err}");
    assert_eq!(fs::read_to_string(folder.path().join("run/own.sock")).unwrap(), "precious");
    fs::remove_file(folder.path().join("run/own.sock")).unwrap();
    // Where others could put another in its place.
    fs::set_permissions(folder.path().join("run"), fs::Permissions::from_mode(0o777)).unwrap();
    let (code, _, err) = serve();
    assert!(code == 1 && err.contains("others can write"), "{code} {err}");
    fs::set_permissions(folder.path().join("run"), fs::Permissions::from_mode(0o700)).unwrap();
    let hub = Hub::start_in(folder, &toml);
    assert_eq!(mode(&hub.folder.path().join("run/own.sock")), 0o600);
    assert_eq!(reload(&hub), (0, "generation 1: nothing changed\n".into(), String::new()));
    // The file is broken, which is what the command is asked for.
    hub.edit(&format!("{toml}\n[upstreams.b]\ncommand = [\n"));
    let (code, out, err) = reload(&hub);
    assert!(code == 1 && out.is_empty() && err.contains("error"), "{code} {out} {err}");
}

#[tokio::test]
async fn reload_waits_for_the_outcome_and_prints_the_plan() {
    let hub = Hub::start(&format!("{}{}", rogue("a", &[], ""), echo("b", "")));
    // Also where the watcher was faster, the second word is the same.
    hub.edit(&format!("{}{}", rogue("a", &[], "request_timeout = '1m'"), echo("b", "")));
    let (code, out, err) = reload(&hub);
    assert_eq!(code, 0, "{err}");
    assert!(
        ["generation 2: 1 changed, 1 untouched\n", "generation 2: nothing changed\n"].contains(&out.as_str()),
        "{out}"
    );
    assert_eq!(hub.status().await["reload"]["generation"], 2, "it waited");
    hub.edit("[upstreams.a]\ncomand = 'x'\n");
    let (code, out, err) = reload(&hub);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("unknown key `comand`") && err.contains("hub.toml:2"), "{err}");
    hub.edit(&format!("[hub]\nworkers = 7\n{}", echo("b", "")));
    let (code, _, err) = reload(&hub);
    assert!(code == 1 && err.contains("hub.workers needs a restart"), "{err}");
    assert_eq!(hub.status().await["reload"]["generation"], 2);
    let client = Client::open(&hub, "/a/mcp").await;
    assert!(client.call("pid", json!({})).await.last()["result"].is_object(), "everything runs on as it was");
}

#[tokio::test]
async fn where_no_hub_answers_the_next_step_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.toml");
    let ask = || {
        let mut command = hubward(&["reload", "-c"]);
        told(&command.arg(&file).env("XDG_RUNTIME_DIR", folder.path()).output().unwrap())
    };
    let mut nowhere = hubward(&["reload"]);
    nowhere.current_dir(folder.path()).env("XDG_CONFIG_HOME", folder.path());
    let (code, _, err) = told(&nowhere.output().unwrap());
    assert!(code == 2 && err.contains("hub.toml"), "there is no file to know the hub by: {err}");
    fs::write(&file, echo("a", "")).unwrap();
    let (code, out, err) = ask();
    assert_eq!((code, out.as_str()), (4, ""));
    assert!(err.contains("no hub answers at") && err.contains("hubward serve -c"), "{err}");
}

#[tokio::test]
async fn what_is_no_question_is_refused_in_bounded_time_and_space() {
    let hub = Hub::start(&echo("a", ""));
    let path = socket(&hub);
    let long = [b"{\"command\":\"".as_slice(), &[b'x'; 100_000], b"\"}\n"].concat();
    for wrong in [b"\n".as_slice(), b"{}\n", b"{\"command\":\"drop\"}\n", b"\xff\xfe\n", b"[]\n", &long] {
        let answer = say(&path, wrong);
        // One that is cut off while it still writes may not get to read why.
        if wrong.len() < 1000 {
            assert_eq!(
                (answer.len(), &answer[0]["done"], &answer[0]["exit"]),
                (1, &json!(true), &json!(2)),
                "{answer:?}"
            );
        }
    }
    // Those who say nothing are sent away, and do not keep others out for good.
    let silent: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert_eq!(say(&path, b"{\"command\":\"reload\"}\n")[0]["generation"], 1);
    let mut first = &silent[0];
    first.set_read_timeout(Some(super::fixture::PATIENCE)).unwrap();
    let mut text = String::new();
    first.read_to_string(&mut text).unwrap();
    assert!(text.contains("no line within"), "{text}");
    // A client that leaves at once costs nothing.
    for _ in 0..50 {
        UnixStream::connect(&path).unwrap().write_all(b"{\"command\":\"reload\"}\n").unwrap();
    }
    assert_eq!(reload(&hub).0, 0);
    eventually("the hub lives", || fs::symlink_metadata(&path).is_ok()).await;
}
