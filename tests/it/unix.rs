//! Sockets in the file system: who may use them, what lies there already, and what is left.

use std::{
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::Path,
    process::Command,
};

use serde_json::json;

use super::fixture::{Client, Hub, LATEST, hubward, initialize, post, rogue};

fn command(folder: &Path) -> Command {
    std::fs::write(folder.join("hub.toml"), rogue("r", &[], "")).unwrap();
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "--bind"]);
    command.arg(format!("unix:{}", folder.join("s").display())).arg("-c").arg(folder.join("hub.toml"));
    command
}

fn over(socket: &Path) -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).unix_socket(socket).build().unwrap()
}

#[tokio::test]
async fn a_hub_is_served_over_a_socket_in_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let mut hub = Hub::run(folder, command(socket.parent().unwrap()));
    assert!(hub.urls.contains(&format!("http://unix:{}:/r/mcp", socket.display())), "{:?}", hub.urls);
    let http = over(&socket);
    let answer = post(&http, "http://localhost/r/mcp", &[], &initialize(LATEST, json!({}))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let session = answer.headers["mcp-session-id"].clone();
    let tcp = Client::open(&hub, "/r/mcp").await;
    let client = Client { http: http.clone(), url: "http://localhost/r/mcp".into(), session, ..tcp };
    assert_eq!(client.call("echo", json!({ "text": "x" })).await.tool_text(), "x");
    let mut stream = client.get(None).await;
    assert_eq!(stream.status, 200);
    // The rule for names is the same as everywhere.
    let foreign = http.get("http://evil.example/ping").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    hub.signal("TERM");
    while stream.next().await.is_some() {}
    assert!(hub.ended().success());
    assert!(!socket.exists(), "the file is left behind");
}

#[test]
fn its_mode_does_not_depend_on_the_umask() {
    for umask in ["000", "022", "077"] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let served = command(folder.path());
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"])
            .arg(served.get_program())
            .args(served.get_args());
        let _hub = Hub::run(folder, shell);
        assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o660, "umask {umask}");
    }
}

#[tokio::test]
async fn a_stale_socket_is_removed_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "nobody answers there");
    let mut hub = Hub::run(folder, command(socket.parent().unwrap()));
    assert_eq!(over(&socket).get("http://localhost/ping").send().await.unwrap().status(), 200);
    // Another hub does not take it away.
    let second = command(socket.parent().unwrap()).output().unwrap();
    let told = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot listen on unix:") && told.contains("another"), "{told}");
    assert_eq!(over(&socket).get("http://localhost/ping").send().await.unwrap().status(), 200);
    // One that was put in its place meanwhile is not removed at the end.
    std::fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    hub.signal("TERM");
    assert!(hub.ended().success());
    assert!(socket.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    std::fs::write(&socket, "precious").unwrap();
    let served = command(folder.path()).output().unwrap();
    let told = String::from_utf8(served.stderr).unwrap();
    assert_eq!(served.status.code(), Some(1), "{told}");
    assert!(told.contains("something that is no socket is there already"), "{told}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
    std::fs::remove_file(&socket).unwrap();
    let missing = command(folder.path()).args(["--bind", "unix:/nowhere/s"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(!socket.exists(), "what was made before the failure is removed");
}
