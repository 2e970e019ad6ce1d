//! `hubward healthcheck`, as a container asks.

use std::path::Path;

use rcgen::SanType;
use serde_json::json;

use super::{
    fixture::{Client, Hub, eventually, hubward, rogue, told},
    tls::{Authority, HUB},
};

/// A hub whose file says where it listens, and nothing on the command line.
fn of_file(folder: tempfile::TempDir, toml: &str) -> Hub {
    std::fs::write(folder.path().join("hub.toml"), toml).unwrap();
    let mut command = hubward(&["serve", "-c"]);
    command.arg(folder.path().join("hub.toml"));
    Hub::run(folder, command)
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn check(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = hubward(&["healthcheck"]);
    command.args(args).arg("-c").arg(folder.join("hub.toml")).env("XDG_RUNTIME_DIR", folder);
    told(&command.output().unwrap())
}

fn good(word: &str) -> (i32, String, String) {
    (0, format!("{word}\n"), String::new())
}

#[test]
fn the_hub_is_asked_at_the_address_of_its_file() {
    let port = free_port();
    let bind = format!("[hub]\nbind = ['127.0.0.1:{port}']\nadmin_socket = 'other.sock'\n");
    let hub = of_file(tempfile::tempdir().unwrap(), &format!("{bind}{}", rogue("r", &[], "")));
    let folder = hub.folder.path().to_owned();
    assert_eq!(check(&folder, &[]), good("ok"));
    assert_eq!(check(&folder, &["--ready"]), good("ready"));
    // Another address than that of the file, where nobody is.
    let (code, _, error) = check(&folder, &["--bind", &format!("127.0.0.1:{}", free_port())]);
    assert!(code == 1 && error.contains("refused"), "{error}");
    drop(hub.leave());
    let (code, stdout, error) = check(&folder, &[]);
    assert!((code, stdout.as_str()) == (1, "") && error.starts_with("hubward: "), "{error}");
}

#[test]
fn it_works_over_https_whatever_the_name_and_over_a_unix_socket() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let other = SanType::DnsName("mcp.example.com".try_into().unwrap());
    authority.pair_with(30, |params| params.subject_alt_names = vec![other]).write(folder.path());
    let port = free_port();
    let bind = format!("bind = ['unix:s', 'https://127.0.0.1:{port}']\n");
    let hub = of_file(folder, &format!("{HUB}{bind}{}", rogue("r", &[], "")));
    let folder = hub.folder.path();
    assert_eq!(check(folder, &["--bind", &format!("https://127.0.0.1:{port}")]), good("ok"));
    assert_eq!(check(folder, &["--bind", &format!("unix:{}", folder.join("s").display())]), good("ok"));
    assert_eq!(check(folder, &[]), good("ok"));
}

#[test]
fn certificates_of_clients_and_a_broken_edit_do_not_make_a_hub_sick() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.pair(30).write(folder.path());
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let bind = format!("bind = ['127.0.0.1:{}']\n", free_port());
    let tls = HUB.replace(" }", ", client_ca = 'ca.pem' }");
    let hub = of_file(folder, &format!("{tls}{bind}{}", rogue("r", &[], "")));
    assert_eq!(check(hub.folder.path(), &["--ready"]), good("ready"));
    hub.edit("[[[");
    assert_eq!(check(hub.folder.path(), &[]), good("ok"));
}

#[tokio::test]
async fn a_hub_that_finishes_is_alive_and_not_ready() {
    let bind = format!("[hub]\nbind = ['127.0.0.1:{}']\n", free_port());
    let hub = of_file(tempfile::tempdir().unwrap(), &format!("{bind}{}", rogue("r", &[], "")));
    let client = Client::open(&hub, "/r/mcp").await;
    let call = tokio::spawn(async move { client.call("sleep", json!({ "ms": 3000 })).await });
    hub.until_upstream("r", |r| r["in_flight"] == 1).await;
    hub.signal("TERM");
    let folder = hub.folder.path();
    eventually("it finishes", || check(folder, &["--ready"]).0 == 1).await;
    assert_eq!(check(folder, &[]), good("ok"));
    assert_eq!(call.await.unwrap().tool_text(), "slept");
}
