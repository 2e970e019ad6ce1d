//! Which era an upstream is of: found out by asking, on stdio (P31, P37, P49), and the clients of both before each.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    fixture::{Answer, Client, Hub, file_until, http, initialize, modern, post},
    request::{Request, VERSION, code, no_complaints},
};

/// A hub with one upstream `m`, whose flags begin with `--log` and `--counter` at these places.
struct Watched {
    hub: Hub,
    log: String,
    counter: String,
}

impl Watched {
    fn start(flags: &[&str]) -> Watched {
        Watched::keyed(flags, "")
    }

    fn keyed(flags: &[&str], keys: &str) -> Watched {
        let folder = tempfile::tempdir().unwrap();
        let [log, counter] = ["log", "counter"].map(|name| folder.path().join(name).display().to_string());
        let flags = [&["--log", &log, "--counter", &counter], flags].concat();
        let hub = Hub::start_in(folder, &modern("m", &flags, keys));
        Watched { hub, log, counter }
    }

    /// How often a method was asked for so far.
    fn asked(&self, method: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(&format!(r#""{method}""#))).count()
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(&self.counter).unwrap_or_default().lines().count()
    }
}

async fn greet(hub: &Hub) -> Answer {
    post(&http(), &hub.url("/m/mcp"), &[], &initialize("2025-06-18", json!({}))).await
}

async fn discover(hub: &Hub, path: &str) -> Answer {
    Request::new(hub, path, "server/discover", json!({})).send().await
}

async fn modern_pid(hub: &Hub) -> String {
    Request::call(hub, "/m/mcp", "pid", json!({})).send().await.tool_text()
}

#[tokio::test]
async fn p49_a_server_that_can_be_discovered_is_never_initialized() {
    let watched = Watched::start(&[]);
    let hub = &watched.hub;
    let client = Client::open(hub, "/m/mcp").await;
    assert_eq!(client.call("pid", json!({})).await.tool_text(), modern_pid(hub).await);
    no_complaints(hub, "/m/mcp").await;
    let found = (watched.starts(), watched.asked("server/discover"), watched.asked("initialize"));
    assert_eq!(found, (1, 1, 0), "starts, probes, handshakes: the process that was asked is the one that serves");
}

#[tokio::test]
async fn p49_whatever_else_a_server_makes_of_the_question_it_is_of_the_older_era() {
    for kind in ["exit", "silent", "error", "legacy-only", "legacy-refusal"] {
        let watched = Watched::start(&["--probe", kind]);
        let hub = &watched.hub;
        let client = Client::open(hub, "/m/mcp").await;
        assert_eq!(client.greeting["serverInfo"]["name"], "not so modern", "{kind}");
        assert!(!client.call("pid", json!({})).await.tool_text().is_empty(), "{kind}: a process that was not spoilt");
        assert!(!modern_pid(hub).await.is_empty(), "{kind}: before a client of the newer era, too");
        let again = Client::open(hub, "/m/mcp").await;
        assert_ne!(again.call("pid", json!({})).await.tool_text(), client.call("pid", json!({})).await.tool_text());
        assert_eq!(watched.asked("server/discover"), 1, "{kind}: the verdict is remembered");
        assert_eq!(hub.upstream("m").await["restarts"], 0, "{kind}: to be asked is no failure");
    }
}

#[tokio::test]
async fn p49_a_server_of_the_future_is_told_apart_and_not_initialized() {
    let watched = Watched::start(&["--probe", "future-only"]);
    let answer = greet(&watched.hub).await;
    assert!(answer.status >= 500, "{answer:?}");
    watched.hub.logged("2099-01-01").await;
    assert_eq!(watched.asked("initialize"), 0);
    assert!(discover(&watched.hub, "/m/mcp").await.status >= 500, "P37");
}

#[tokio::test]
async fn p49_a_refusal_that_names_our_version_is_asked_once_more() {
    let watched = Watched::start(&["--probe", "once"]);
    assert_eq!(greet(&watched.hub).await.status, 200);
    assert_eq!((watched.asked("server/discover"), watched.asked("initialize")), (2, 0));
    no_complaints(&watched.hub, "/m/mcp").await;
}

#[tokio::test]
async fn p49_a_handshake_that_is_refused_by_version_is_a_probe_as_well() {
    let watched = Watched::start(&["--probe", "late", "--initialize-code", "-32022"]);
    let client = Client::open(&watched.hub, "/m/mcp").await;
    assert_eq!(client.greeting["serverInfo"]["name"], "modern", "its silence was taken for age, and that was wrong");
    assert_eq!(client.call("pid", json!({})).await.tool_text(), modern_pid(&watched.hub).await);
    no_complaints(&watched.hub, "/m/mcp").await;
}

#[tokio::test]
async fn an_era_that_was_named_is_not_asked_for() {
    let older = Watched::keyed(&["--probe", "exit"], "era = 'legacy'");
    assert_eq!(greet(&older.hub).await.status, 200);
    assert_eq!((older.starts(), older.asked("server/discover")), (1, 0));
    let newer = Watched::keyed(&[], "era = 'modern'");
    assert_eq!(greet(&newer.hub).await.status, 200);
    assert_eq!((newer.starts(), newer.asked("initialize")), (1, 0));
    no_complaints(&newer.hub, "/m/mcp").await;
    // Named wrongly, it fails loudly and is not tried otherwise.
    let wrong = Watched::keyed(&[], "era = 'legacy'");
    assert!(greet(&wrong.hub).await.status >= 500);
    assert_eq!(wrong.asked("server/discover"), 0);
    let wrong = Watched::keyed(&["--probe", "error"], "era = 'modern'");
    assert!(greet(&wrong.hub).await.status >= 500);
    assert_eq!(wrong.asked("initialize"), 0);
}

#[tokio::test]
async fn p31_discover_works_before_either_era() {
    let both = [modern("new", &[], ""), modern("old", &["--probe", "error"], "")].concat();
    let hub = Hub::start(&both);
    for (path, name, families) in [("/new/mcp", "modern", 5), ("/old/mcp", "not so modern", 1)] {
        let answer = discover(&hub, path).await;
        let result = &answer.last()["result"];
        assert_eq!((answer.status, &result["supportedVersions"]), (200, &json!([VERSION])), "{path}");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], name);
        let capabilities = result["capabilities"].as_object().unwrap();
        assert_eq!(capabilities.len(), families, "{path}: {capabilities:?}");
        for (family, method) in [("tools", "tools/list"), ("prompts", "prompts/list"), ("resources", "resources/list")]
        {
            let answer = Request::new(&hub, path, method, json!({})).send().await;
            match capabilities.contains_key(family) {
                true => assert_eq!(answer.status, 200, "{path} {method}"),
                false => assert_eq!(code(&answer), (404, -32601), "{path} {method}"),
            }
        }
    }
    no_complaints(&hub, "/new/mcp").await;
}

#[tokio::test]
async fn p37_what_fails_in_the_hub_is_no_verdict_about_it() {
    let upstream =
        |name: &str, command: &str| format!("[upstreams.{name}]\ncommand = 'sh'\nargs = ['-c', '{command}']\n");
    let missing = "[upstreams.missing]\ncommand = '/no/such/program'\n";
    let toml = [upstream("dies", "exit 1"), upstream("leaves", "read line; exit 1"), missing.to_owned()].concat();
    let hub = Hub::start(&toml);
    for name in ["dies", "leaves", "missing"] {
        for _ in 0..3 {
            let answer = discover(&hub, &format!("/{name}/mcp")).await;
            let why = format!("{name}: a client would take a 4xx for an older server: {answer:?}");
            assert!(answer.status == 200 || answer.status >= 500, "{why}");
        }
    }
}

#[tokio::test]
async fn p52_calls_of_a_process_that_died_fail_once_and_are_not_made_again() {
    let watched = Watched::start(&[]);
    let hub = &watched.hub;
    let client = Client::open(hub, "/m/mcp").await;
    let hanging = |client: Client| tokio::spawn(async move { client.call("hang", json!({ "n": "legacy" })).await });
    let older = hanging(client.clone());
    let newer =
        tokio::spawn(super::fixture::answer(Request::call(hub, "/m/mcp", "hang", json!({ "n": "new" })).build()));
    super::request::until_seen(hub, "/m/mcp", |told| told["inFlight"] == 2).await;
    let before = modern_pid(hub).await;
    let crashed = Request::call(hub, "/m/mcp", "crash", json!({ "code": 3 })).send().await;
    for answer in [crashed, older.await.unwrap(), newer.await.unwrap()] {
        assert_eq!((answer.error().0, answer.messages().len()), (-32603, 1), "{answer:?}");
    }
    assert_ne!(modern_pid(hub).await, before);
    assert!(!client.call("pid", json!({})).await.tool_text().is_empty(), "its session lives on");
    let log = file_until(Path::new(&watched.log), |text| text.contains("crash")).await;
    assert_eq!(log.matches(r#""name":"crash""#).count(), 1);
    assert_eq!(log.matches(r#""name":"hang""#).count(), 2);
    no_complaints(hub, "/m/mcp").await;
}

#[tokio::test]
async fn f47_f48_what_clients_with_sessions_do_wrong_is_told_in_their_way() {
    let hub = Hub::start(&modern("m", &[], ""));
    let client = Client::open(&hub, "/m/mcp").await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let headers =
        |version: &'static str| [("mcp-session-id", client.session.as_str()), ("mcp-protocol-version", version)];
    let unknown = post(&client.http, &client.url, &headers("2099-01-01"), &body).await;
    assert_eq!(unknown.status, 400);
    let listed = post(&client.http, &client.url, &headers("2025-11-25"), &body).await;
    assert!(listed.last()["result"]["tools"].is_array(), "{listed:?}");
    // A request of the newer era where only the oldest transport is.
    let mut request = Request::new(&hub, "/m/sse", "tools/list", json!({}));
    let stream = super::fixture::SseClient::open(&hub, "/m/sse").await;
    request.url = stream.endpoint.clone();
    let refused = request.send().await;
    let told: Value = refused.last();
    assert!(refused.status != 404, "{refused:?}");
    assert!(told["error"]["code"] != -32601, "{told}");
    for verb in ["PUT", "PATCH"] {
        let verb = reqwest::Method::from_bytes(verb.as_bytes()).unwrap();
        let answer = super::fixture::answer(http().request(verb, hub.url("/m/mcp"))).await;
        assert!(answer.status == 405 && answer.headers.contains_key("allow"), "{answer:?}");
    }
    no_complaints(&hub, "/m/mcp").await;
}
