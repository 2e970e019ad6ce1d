//! How hub.toml comes to change on disk, through the running hub (faults F85-F91).

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::{Value, json};

use super::fixture::{Client, Hub, echo, file_until, hubward, rogue};

/// Which upstreams are mounted.
async fn names(hub: &Hub) -> Vec<String> {
    let status = hub.status().await;
    let all = status["upstreams"].as_array().unwrap().iter();
    all.map(|upstream| upstream["name"].as_str().unwrap().to_owned()).collect()
}

fn rejected(status: &Value) -> &str {
    status["reload"]["rejected"].as_str().unwrap_or_default()
}

/// A hub whose configuration is at this path of the folder, which exists.
fn start_at(folder: tempfile::TempDir, path: &Path) -> Hub {
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "--log-level", "debug", "-c"]);
    command.arg(path);
    Hub::run(folder, command)
}

#[tokio::test]
async fn f86_every_way_to_save_is_noticed_and_a_touch_is_no_change() {
    let hub = Hub::start(&echo("a", ""));
    // Renamed over.
    hub.edit(&echo("b", ""));
    hub.generation(2).await;
    // Written in place.
    fs::write(hub.path(), echo("c", "")).unwrap();
    hub.until("c is mounted", |status| status["upstreams"][0]["name"] == "c").await;
    let generation = hub.status().await["reload"]["generation"].as_u64().unwrap();
    // Moved to a backup, then written anew.
    fs::rename(hub.path(), hub.folder.path().join("hub.toml~")).unwrap();
    fs::write(hub.path(), echo("d", "")).unwrap();
    hub.until("d is mounted", |status| status["upstreams"][0]["name"] == "d").await;
    assert_eq!(hub.status().await["reload"]["generation"], generation + 1);
    // Touched.
    let seen = hub.log().matches("read again and is the same").count();
    fs::File::options().append(true).open(hub.path()).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    super::fixture::eventually("the touch is noticed", || {
        hub.log().matches("read again and is the same").count() > seen
    })
    .await;
    assert_eq!(hub.status().await["reload"]["generation"], generation + 1);
}

#[tokio::test]
async fn f85_a_half_written_file_is_never_half_applied() {
    let hub = Hub::start(&format!("{}{}", echo("a", ""), echo("b", "")));
    fs::write(hub.path(), "").unwrap();
    hub.until("the empty file is refused", |status| rejected(status).contains("empty")).await;
    assert_eq!(names(&hub).await, ["a", "b"]);
    let whole = format!("{}{}", echo("a", ""), echo("c", ""));
    let half = &whole[..whole.len() - 5];
    fs::write(hub.path(), half).unwrap();
    hub.until("the half file is refused", |status| rejected(status).contains("hub.toml:")).await;
    assert_eq!(names(&hub).await, ["a", "b"]);
    fs::write(hub.path(), &whole).unwrap();
    hub.generation(2).await;
    assert_eq!(names(&hub).await, ["a", "c"]);
}

#[tokio::test]
async fn f87_a_swapped_link_in_the_manner_of_kubernetes_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, name) in [("..1", "a"), ("..2", "b"), ("..3", "c")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("hub.toml"), echo(name, "")).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/hub.toml", at("hub.toml")).unwrap();
    let swap = |version: &str, folder: &Path| {
        symlink(version, folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    };
    let path = at("hub.toml");
    let hub = start_at(folder, &path);
    for (generation, version, name) in [(2, "..2", "b"), (3, "..3", "c"), (4, "..1", "a")] {
        swap(version, hub.folder.path());
        hub.generation(generation).await;
        assert_eq!(names(&hub).await, [name]);
    }
}

#[tokio::test]
async fn f88_a_deleted_file_changes_nothing_and_its_return_is_noticed() {
    let hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let before = client.call("pid", json!({})).await.tool_text();
    fs::remove_file(hub.path()).unwrap();
    hub.until("its absence is told", |status| rejected(status).contains("does not exist")).await;
    assert_eq!(client.call("pid", json!({})).await.tool_text(), before);
    fs::write(hub.path(), format!("{}{}", rogue("a", &[], ""), echo("b", ""))).unwrap();
    hub.until("b is mounted", |status| status["upstreams"][1]["name"] == "b").await;
    assert_eq!(client.call("pid", json!({})).await.tool_text(), before);
}

#[tokio::test]
async fn f89_what_is_no_regular_file_is_refused_and_blocks_nothing() {
    let hub = Hub::start(&echo("a", ""));
    fs::remove_file(hub.path()).unwrap();
    fs::create_dir(hub.path()).unwrap();
    hub.until("a folder is refused", |status| rejected(status).contains("a directory")).await;
    fs::remove_dir(hub.path()).unwrap();
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(hub.path()).status().unwrap();
    assert!(made.success());
    hub.until("a FIFO is refused", |status| rejected(status).contains("a FIFO")).await;
    hub.edit(&echo("b", ""));
    hub.generation(2).await;
    assert_eq!(names(&hub).await, ["b"]);
}

#[tokio::test]
async fn f91_a_missing_variable_rejects_the_file_or_fails_what_is_not_required() {
    let kept = rogue("kept", &[], "");
    let hub = Hub::start(&kept);
    let client = Client::open(&hub, "/kept/mcp").await;
    let before = client.call("pid", json!({})).await.tool_text();
    let missing = |keys: &str| {
        format!("{kept}{}", rogue("b", &[], &format!("env = {{ TOKEN = '${{env:HUBWARD_TEST_NOT_SET}}' }}\n{keys}")))
    };
    hub.edit(&missing(""));
    let status = hub.until("a rejection", |status| rejected(status).contains("HUBWARD_TEST_NOT_SET")).await;
    assert_eq!((names(&hub).await, &status["reload"]["generation"]), (vec!["kept".to_owned()], &json!(1)));
    hub.edit(&missing("required = false"));
    hub.generation(2).await;
    let failed = hub.until_upstream("b", |upstream| upstream["state"] == "failed").await;
    assert!(failed["reason"].as_str().unwrap().contains("HUBWARD_TEST_NOT_SET"), "{failed}");
    let initialize = super::fixture::initialize("2025-06-18", json!({}));
    let refused = super::fixture::post(&super::fixture::http(), &hub.url("/b/mcp"), &[], &initialize).await;
    assert_eq!(refused.status, 503);
    assert!(!refused.error().1.contains("HUBWARD_TEST_NOT_SET"), "clients are not told: {refused:?}");
    assert_eq!(client.call("pid", json!({})).await.tool_text(), before);
}

#[tokio::test]
async fn a_changed_secret_is_taken_over_with_sighup() {
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("token");
    fs::write(&secret, "canary-one\n").unwrap();
    let toml = format!(
        "[hub]\ndrain_timeout = '200ms'\n{}{}",
        rogue("a", &[], &format!("env = {{ TOKEN = '${{file:{}}}' }}", secret.display())),
        rogue("b", &[], "")
    );
    let hub = Hub::start(&toml);
    let (a, b) = (Client::open(&hub, "/a/mcp").await, Client::open(&hub, "/b/mcp").await);
    let env = async |client: &Client| client.call("env", json!({})).await.tool_text();
    let untouched = b.call("pid", json!({})).await.tool_text();
    assert!(env(&a).await.contains("canary-one"));
    // Nothing has changed: nothing happens.
    hub.signal("HUP");
    hub.logged("read again and is the same").await;
    assert_eq!(hub.status().await["reload"]["generation"], 1);
    fs::write(&secret, "canary-two\n").unwrap();
    hub.signal("HUP");
    let status = hub.generation(2).await;
    assert_eq!(status["reload"]["plan"], "1 changed, 1 untouched");
    hub.logged("the new definition serves").await;
    assert!(env(&Client::open(&hub, "/a/mcp").await).await.contains("canary-two"));
    assert_eq!(b.call("pid", json!({})).await.tool_text(), untouched);
    assert!(!hub.log().contains("canary") && !hub.status().await.to_string().contains("canary"));
    // One that is gone rejects, and everything runs on.
    fs::remove_file(&secret).unwrap();
    hub.signal("HUP");
    hub.until("a rejection", |status| rejected(status).contains("token")).await;
    assert_eq!(b.call("pid", json!({})).await.tool_text(), untouched);
}

#[tokio::test]
async fn f86_comments_alone_restart_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    let toml = rogue("a", &["--counter", &counter.display().to_string()], "isolation = 'shared'\nstart = 'eager'");
    let hub = Hub::start_in(folder, &toml);
    hub.until_upstream("a", |upstream| upstream["state"] == "ready").await;
    hub.edit(&format!("# a comment\n{toml}"));
    let status = hub.generation(2).await;
    assert_eq!(status["reload"]["plan"], "1 untouched");
    assert_eq!(file_until(&counter, |text| !text.is_empty()).await.lines().count(), 1);
}
