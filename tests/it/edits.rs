//! The commands that change hub.toml, or are made from it: add, remove, enable, disable, list, snippet.

use serde_json::{Value, json};

use super::fixture::{Client, Hub, echo, hubward, told};

fn run(folder: &std::path::Path, args: &[&str]) -> (i32, String, String) {
    told(&hubward(args).current_dir(folder).output().unwrap())
}

#[tokio::test]
async fn a_running_hub_takes_over_what_the_commands_write() {
    let hub = Hub::start(&format!("# mine\n{}", echo("a", "isolation = 'shared'\n")));
    let program = super::demo::example("echo").display().to_string();
    let add = ["add", "b", "-e", "X=1", "-c", &hub.path().display().to_string(), "--", &program, "--flag"];
    let (code, out, err) = told(&hubward(&add).output().unwrap());
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    hub.generation(2).await;
    let client = Client::open(&hub, "/b/mcp").await;
    assert_eq!(client.call("echo", json!({ "text": "x" })).await.tool_text(), "x");
    assert_eq!(told(&hub.command(&["disable", "b"])).0, 0);
    hub.until_upstream("b", |upstream| upstream["state"] == "disabled").await;
    let (_, list, _) = told(&hub.command(&["list"]));
    assert!(list.contains("b  stdio   disabled") && list.contains("a  stdio   enabled"), "{list}");
    let (_, list, _) = told(&hub.command(&["list", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&list).unwrap()[1]["enabled"], false);
    assert_eq!(told(&hub.command(&["enable", "b"])).0, 0);
    hub.until_upstream("b", |upstream| upstream["state"] == "idle").await;
    assert_eq!(told(&hub.command(&["remove", "b"])).0, 0);
    hub.until("gone", |status| status["upstreams"].as_array().unwrap().len() == 1).await;
    assert!(std::fs::read_to_string(hub.path()).unwrap().starts_with("# mine\n"));
}

#[test]
fn what_would_be_a_mistake_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.toml");
    let text = "[upstreams.a]\ncommand = \"x\"\n";
    std::fs::write(&file, text).unwrap();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["add", "Bad", "--", "x"], 2, "cannot stand in a name"),
        (&["add", "metrics", "--", "x"], 2, "reserved"),
        (&["add", "a", "--", "x"], 1, "there is an upstream `a` already"),
        (&["add", "b", "not a url"], 2, "nothing was changed"),
        (&["add", "b", "-e", "novalue", "--", "x"], 2, "`novalue` has no `=`"),
        (&["remove", "b"], 1, "there is no upstream `b`"),
        (&["add", "b"], 2, "required"),
    ];
    for (args, wanted, says) in cases {
        let (code, out, err) = run(folder.path(), args);
        assert!(code == wanted && out.is_empty() && err.contains(says), "{args:?}: {code} {err}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "{args:?}");
    }
    // A mistake that is there already keeps nobody from mending another.
    std::fs::write(&file, format!("{text}comand = 1\n")).unwrap();
    assert_eq!(run(folder.path(), &["disable", "a"]).0, 0);
}

#[test]
fn a_snippet_has_the_url_that_clients_type_and_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let write =
        |hub: &str| std::fs::write(folder.path().join("hub.toml"), format!("{hub}[upstreams.a]\ncommand = 'x'\n"));
    write("[hub]\nbind = ['127.0.0.1:9000']\n").unwrap();
    let (code, out, err) = run(folder.path(), &["snippet", "a", "--for", "cursor"]);
    let file: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out} {err}"));
    assert_eq!(file["mcpServers"]["a"]["url"], "http://127.0.0.1:9000/a/mcp");
    write("[hub]\npublic_url = 'https://mcp.example.com'\nauth = { tokens = [{ name = 'n', secret = 'a-secret-of-some-length' }] }\n").unwrap();
    let (_, out, _) = run(folder.path(), &["snippet", "a", "--for", "claude-code"]);
    assert!(
        out.contains("https://mcp.example.com/a/mcp") && out.contains("HUB_TOKEN") && !out.contains("a-secret"),
        "{out}"
    );
    let (_, out, _) = run(folder.path(), &["snippet", "a", "--for", "vscode", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["id"], "vscode");
    let (code, _, err) = run(folder.path(), &["snippet", "a", "--for", "emacs"]);
    assert!(code == 2 && err.contains("claude-code"), "{err}");
    assert_eq!(run(folder.path(), &["snippet", "b", "--for", "zed"]).0, 1);
}

#[test]
fn completions_and_pages_name_each_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, script, _) = run(folder.path(), &["completions", shell]);
        assert!(code == 0 && script.contains("restart"), "{shell}");
    }
    assert!(run(folder.path(), &["man"]).1.starts_with(".ie"));
    assert_eq!(run(folder.path(), &["man", "--out", "pages"]).0, 0);
    assert!(std::fs::read_to_string(folder.path().join("pages/hubward-tap.1")).unwrap().contains("bodies"));
}

#[tokio::test]
async fn check_diff_tells_what_a_reload_would_do_and_does_nothing() {
    let hub = Hub::start(&format!("{}{}{}", echo("a", ""), echo("b", ""), echo("c", "")));
    let before = std::fs::read_to_string(hub.path()).unwrap();
    let next = hub.path().with_file_name("next.toml");
    let changed = before
        .replace("[upstreams.b]", "[upstreams.d]")
        .replace("[upstreams.c]", "[upstreams.c]\nrequest_timeout = '7s'");
    let diff = |text: &str, more: &[&str]| {
        std::fs::write(&next, text).unwrap();
        let next = next.display().to_string();
        let args: Vec<&str> = ["check", &next, "--diff"].into_iter().chain(more.iter().copied()).collect();
        told(&hub.command(&args))
    };
    let (code, out, err) = diff(&changed, &[]);
    assert_eq!(
        (code, out.as_str()),
        (0, "1 changed, 1 added, 1 removed, 1 untouched\n+ d\n- b\n~ c: in place\n"),
        "{err}"
    );
    let (_, json, _) =
        diff(&changed.replace("[upstreams.a]", "[upstreams.a]\nenv = { X = '1' }"), &["--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["replaced"], json!(["a"]));
    let (code, out, _) = diff(&format!("{before}\n[hub.limits]\nconnections_max = 7\n"), &[]);
    assert!(code == 1 && out.contains("hub.limits.connections_max cannot change without a restart"), "{out}");
    assert_eq!(diff(&before, &[]).1, "nothing changed\n");
    let (code, out, _) = diff("[upstreams.a]\ncomand = 'x'\n", &[]);
    assert!(code == 2 && out.contains("comand"), "{out}");
    assert_eq!(hub.status().await["reload"]["generation"], 1);
    // Without a hub there is nothing to compare with.
    let alone = tempfile::tempdir().unwrap();
    std::fs::write(alone.path().join("hub.toml"), "[upstreams.a]\ncommand = 'x'\n").unwrap();
    assert_eq!(run(alone.path(), &["check", "--diff"]).0, 4);
}
