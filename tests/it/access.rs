//! Who may knock: static tokens, and what belongs to whom.

use std::process::Output;

use hubward::{
    config,
    server::path::{For, PAGES},
};
use serde_json::{Value, json};

use super::{
    fixture::{Answer, Hub, LATEST, Stream, answer, echo, http, hubward, initialize, request, rogue},
    raw::Raw,
    request::Request,
};

const SHARED: &str = "isolation = 'shared'";
pub const ADA: &str = "adas-token-of-some-length";
pub const CI: &str = "the-token-of-ci-and-more";

/// An entry of `tokens`.
pub fn entry(name: &str, token: &str, more: &str) -> String {
    let sha256: String = config::hash(token).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{{ name = '{name}', sha256 = '{sha256}'{more} }}")
}

/// Two upstreams; `ada` may use both, `ci` the first.
pub fn guarded() -> String {
    let tokens = [entry("ada", ADA, ""), entry("ci", CI, ", upstreams = ['a']")].join(", ");
    format!("[hub]\nauth = {{ tokens = [{tokens}] }}\n{}{}", echo("a", SHARED), echo("b", SHARED))
}

/// Opens a session; the answer, and the session's id where there is one.
async fn open(hub: &Hub, path: &str, headers: &[(&str, &str)]) -> (Answer, String) {
    let answer = answer(request(&http(), &hub.url(path), headers, &initialize(LATEST, json!({})))).await;
    let session = answer.headers.get("mcp-session-id").cloned().unwrap_or_default();
    (answer, session)
}

pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn ping(hub: &Hub, path: &str, token: &str, session: &str) -> Answer {
    let token = bearer(token);
    let headers = [("authorization", token.as_str()), ("mcp-session-id", session)];
    answer(request(&http(), &hub.url(path), &headers, &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }))).await
}

async fn status(hub: &Hub, token: &str) -> Value {
    let answer = answer(http().get(hub.url("/api/v1/status")).header("authorization", bearer(token))).await;
    serde_json::from_str(&answer.text).unwrap()
}

#[tokio::test]
async fn f67_without_a_credential_only_health_answers() {
    let hub = Hub::start(&guarded());
    let mounts = ["/a/mcp", "/a/mcp/", "/a/sse", "/a/message", "/mcp", "/sse", "/nobody/mcp", "/", "/metrics", "/x"];
    let pages = PAGES.iter().map(|(page, who)| (page.replace("readyz/", "readyz/a"), *who));
    let all = pages.chain(mounts.map(|path| (path.to_owned(), For::Known)));
    let mut let_in = Vec::new();
    for (path, who) in all {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X-ANY"] {
            let request = http().request(method.parse().unwrap(), hub.url(&path)).header("accept", "*/*");
            let request = request.header("content-type", "application/json").body("{}");
            let answer = answer(request).await;
            match who {
                For::Known => {
                    assert_eq!(answer.status, 401, "{method} {path}");
                    // Static tokens only: nothing that a client could take for a place to log in.
                    assert_eq!(answer.headers["www-authenticate"], "Bearer", "{method} {path}");
                }
                For::Anybody if answer.status < 300 => let_in.push(format!("{method} {path}: {}", answer.text)),
                For::Anybody => assert!(matches!(answer.status, 404 | 405), "{method} {path}: {}", answer.status),
            }
        }
    }
    let words = ["/ping: pong", "/healthz: ok", "/readyz: ready"];
    let expected = words.iter().flat_map(|word| {
        let path = word.split(':').next().unwrap_or_default();
        [format!("GET {word}"), format!("HEAD {path}: ")]
    });
    assert_eq!(let_in, expected.collect::<Vec<_>>());
    assert_eq!(status(&hub, ADA).await["sessions"], 0);
}

#[tokio::test]
async fn f68_a_token_is_sent_as_bearer_or_as_an_api_key_and_nowhere_else() {
    let hub = Hub::start(&guarded());
    let long = "x".repeat(20_000);
    let right = bearer(ADA);
    for headers in
        [[("authorization", right.as_str())], [("authorization", &format!("bearer {ADA}"))], [("x-api-key", ADA)]]
    {
        let (answer, session) = open(&hub, "/a/mcp", &headers).await;
        assert_eq!((answer.status, session.is_empty()), (200, false), "{headers:?}");
    }
    let wrong = ["x", CI.trim_end_matches('e'), &format!("{ADA}x"), "null", &long, "eyJhbGciOiJub25lIn0.e30.", "ada"];
    for token in wrong {
        let (answer, _) = open(&hub, "/a/mcp", &[("authorization", &bearer(token))]).await;
        assert!(matches!(answer.status, 401 | 400 | 431), "{}", answer.status);
        if answer.status == 401 {
            assert_eq!(answer.headers["www-authenticate"], r#"Bearer error="invalid_token""#);
            assert!(!answer.text.contains(token) || token == "x" || token == "ada", "{}", answer.text);
        }
    }
    for header in ["authorization", "x-user", "x-auth-token", "cookie"] {
        assert_eq!(open(&hub, "/a/mcp", &[(header, ADA)]).await.0.status, 401, "{header}");
    }
    for query in ["access_token", "token", "api_key", "key"] {
        assert_eq!(open(&hub, &format!("/a/mcp?{query}={ADA}"), &[]).await.0.status, 401, "{query}");
    }
    let two = [("authorization", right.as_str()), ("x-api-key", CI)];
    assert_eq!(open(&hub, "/a/mcp", &two).await.0.status, 401);
}

#[tokio::test]
async fn f58_p62_a_token_for_one_mount_is_refused_on_another() {
    let hub = Hub::start(&guarded());
    let ci = bearer(CI);
    assert_eq!(open(&hub, "/a/mcp", &[("authorization", &ci)]).await.0.status, 200);
    for path in ["/b/mcp", "/b/sse", "/b/message?sessionId=x"] {
        let (answer, _) = open(&hub, path, &[("authorization", &ci)]).await;
        assert_eq!((answer.status, answer.headers.contains_key("www-authenticate")), (403, false), "{path}");
        assert!(answer.text.contains("`ci` may not use this upstream"), "{}", answer.text);
    }
    // What it may not use it does not see either.
    let names = |status: &Value| -> Vec<String> {
        let all = status["upstreams"].as_array().unwrap().iter();
        all.map(|upstream| upstream["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&status(&hub, CI).await), ["a"]);
    assert_eq!(names(&status(&hub, ADA).await), ["a", "b"]);
    for (path, expected) in [("/readyz/a", 200), ("/readyz/b", 404)] {
        let ready = answer(http().get(hub.url(path)).header("authorization", &ci)).await;
        assert_eq!(ready.status, expected, "{path}");
    }
    assert_eq!(open(&hub, "/nobody/mcp", &[("authorization", &ci)]).await.0.status, 404);
}

#[tokio::test]
async fn an_upstream_says_who_may_use_it() {
    let tokens = [entry("ada", ADA, ""), entry("ci", CI, "")].join(", ");
    let toml = |allow: &str| {
        format!("[hub]\nauth = {{ tokens = [{tokens}] }}\n{}", echo("a", &format!("{SHARED}\nallow = [{allow}]")))
    };
    let hub = Hub::start(&toml("'ada'"));
    let (ada, ci) = (bearer(ADA), bearer(CI));
    let (_, session) = open(&hub, "/a/mcp", &[("authorization", &ada)]).await;
    assert_eq!(open(&hub, "/a/mcp", &[("authorization", &ci)]).await.0.status, 403);
    let process = status(&hub, ADA).await["upstreams"][0]["pids"].clone();
    // A change is a matter of the hub alone: the process stays, who is shut out loses the session.
    hub.edit(&toml("'token:ci', 'sub:ada'"));
    hub.logged("it may not be here any more").await;
    assert_eq!(ping(&hub, "/a/mcp", ADA, &session).await.status, 403);
    assert_eq!(open(&hub, "/a/mcp", &[("authorization", &ci)]).await.0.status, 200);
    let after = status(&hub, CI).await;
    assert_eq!((&after["upstreams"][0]["pids"], &after["sessions"]), (&process, &json!(1)));
}

#[tokio::test]
async fn f51_f50_a_session_of_another_principal_is_as_unknown_as_none() {
    let hub = Hub::start(&guarded());
    let (ada, ci) = (bearer(ADA), bearer(CI));
    let (_, session) = open(&hub, "/a/mcp", &[("authorization", &ada)]).await;
    let foreign = ping(&hub, "/a/mcp", CI, &session).await;
    let unknown = ping(&hub, "/a/mcp", CI, "AAAAAAAAAAAAAAAAAAAAAA").await;
    assert_eq!((foreign.status, &foreign.text), (404, &unknown.text));
    for method in ["GET", "DELETE"] {
        let request = http().request(method.parse().unwrap(), hub.url("/a/mcp")).header("mcp-session-id", &session);
        let refused = answer(request.header("authorization", &ci).header("accept", "text/event-stream")).await;
        assert_eq!(refused.status, 404, "{method}");
    }
    hub.logged("a foreign session was asked for").await;
    assert_eq!(ping(&hub, "/a/mcp", ADA, &session).await.status, 200, "nothing happened to it");
    // The same over HTTP+SSE, where the id stands in a query.
    let stream = http().get(hub.url("/a/sse")).header("accept", "text/event-stream").header("authorization", &ada);
    let mut stream = Stream::of(stream.send().await.unwrap());
    let endpoint = stream.next().await.unwrap().data;
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    for (token, expected) in [(&ci, 404), (&ada, 202)] {
        let posted = answer(request(&http(), &hub.url(&endpoint), &[("authorization", token)], &ping)).await;
        assert_eq!(posted.status, expected);
    }
}

#[tokio::test]
async fn f54_nobody_is_named_by_a_path_a_query_or_a_header_of_ones_own() {
    let hub = Hub::start(&guarded());
    let (_, session) = open(&hub, "/a/mcp", &[("authorization", &bearer(ADA))]).await;
    let ci = bearer(CI);
    let claims = [("x-user", "ada"), ("x-forwarded-user", "ada"), ("remote-user", "ada"), ("x-remote-user", "ada")];
    for claim in claims {
        let headers = [("authorization", ci.as_str()), ("mcp-session-id", &session), claim];
        for path in ["/a/mcp", "/a/mcp?user=ada", "/a/mcp?principal=ada"] {
            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
            let refused = answer(request(&http(), &hub.url(path), &headers, &body)).await;
            assert_eq!(refused.status, 404, "{claim:?} {path}");
        }
        assert_eq!(answer(request(&http(), &hub.url("/b/mcp"), &headers, &json!({}))).await.status, 403);
    }
    assert_eq!(open(&hub, "/ada/a/mcp", &[("authorization", &ci)]).await.0.status, 404);
}

#[tokio::test]
async fn clients_without_sessions_share_nothing_across_principals() {
    let tokens = [entry("ada", ADA, ""), entry("ci", CI, "")].join(", ");
    let hub = Hub::start(&format!("[hub]\nauth = {{ tokens = [{tokens}] }}\n{}", echo("a", "isolation = 'session'")));
    for token in [ADA, ADA, CI] {
        let call =
            Request::call(&hub, "/a/mcp", "echo", json!({ "text": "x" })).header("authorization", Some(&bearer(token)));
        assert_eq!(call.send().await.tool_text(), "x");
    }
    // The same name, version and capabilities: a process for each of the two, not for each of the three.
    assert_eq!(status(&hub, ADA).await["upstreams"][0]["pids"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn f69_guesses_have_to_wait_and_the_right_token_has_not() {
    let hub = Hub::start(&guarded());
    let mut seen = Vec::new();
    for guess in 0..30 {
        let (answer, _) = open(&hub, "/a/mcp", &[("x-api-key", &format!("guess-{guess}"))]).await;
        if answer.status == 429 {
            assert!(answer.headers["retry-after"].parse::<u32>().unwrap() >= 1);
        }
        seen.push(answer.status);
    }
    assert!(seen[..20].iter().all(|status| *status == 401) && seen[25..].contains(&429), "{seen:?}");
    assert_eq!(open(&hub, "/a/mcp", &[("x-api-key", ADA)]).await.0.status, 200);
}

#[tokio::test]
async fn f77_who_asks_too_fast_waits_alone() {
    let tokens = [entry("ada", ADA, ""), entry("ci", CI, "")].join(", ");
    let hub = Hub::start(&format!(
        "[hub]\nauth = {{ tokens = [{tokens}] }}\nlimits = {{ rate = {{ per_second = 1, burst = 5 }} }}\n{}",
        echo("a", SHARED)
    ));
    let (_, session) = open(&hub, "/a/mcp", &[("x-api-key", CI)]).await;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        let answer = ping(&hub, "/a/mcp", CI, &session).await;
        if answer.status == 429 {
            assert!(answer.headers.contains_key("retry-after"));
            assert_eq!(answer.last()["error"]["data"]["retryable"], true);
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses[..4], [200; 4]);
    assert!(statuses[4..].iter().filter(|status| **status == 429).count() >= 4, "{statuses:?}");
    assert_eq!(open(&hub, "/a/mcp", &[("x-api-key", ADA)]).await.0.status, 200);
}

#[tokio::test]
async fn f77_one_principal_cannot_take_the_places_of_all() {
    let tokens = [entry("ada", ADA, ""), entry("ci", CI, "")].join(", ");
    let limits = "principal_sessions_max = 3, principal_streams_max = 1, principal_calls_max = 2";
    let hub = Hub::start(&format!(
        "[hub]\nauth = {{ tokens = [{tokens}] }}\nlimits = {{ {limits} }}\n{}",
        rogue("a", &[], SHARED)
    ));
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(open(&hub, "/a/mcp", &[("x-api-key", CI)]).await.1);
    }
    let (full, _) = open(&hub, "/a/mcp", &[("x-api-key", CI)]).await;
    assert_eq!((full.status, full.headers["retry-after"].as_str()), (429, "1"));
    let stream = |session: &str, token: &str| {
        let get = http().get(hub.url("/a/mcp")).header("accept", "text/event-stream");
        get.header("x-api-key", token.to_owned()).header("mcp-session-id", session.to_owned()).send()
    };
    let open_stream = stream(&sessions[0], CI).await.unwrap();
    assert_eq!(open_stream.status(), 200);
    assert_eq!(stream(&sessions[1], CI).await.unwrap().status(), 429);
    let (greeted, other) = open(&hub, "/a/mcp", &[("x-api-key", ADA)]).await;
    assert_eq!((greeted.status, stream(&other, ADA).await.unwrap().status().as_u16()), (200, 200));
    // What ends makes room.
    let ended = http().delete(hub.url("/a/mcp")).header("x-api-key", CI).header("mcp-session-id", &sessions[2]);
    assert_eq!(ended.send().await.unwrap().status(), 204);
    assert_eq!(open(&hub, "/a/mcp", &[("x-api-key", CI)]).await.0.status, 200);
    // Three slow calls at once, of which two have a place.
    let slow = |id: u64| {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": "sleep", "arguments": { "ms": 1500 } } });
        let headers = [("x-api-key", CI), ("mcp-session-id", sessions[0].as_str())];
        answer(request(&http(), &hub.url("/a/mcp"), &headers, &call))
    };
    let (one, two, three) = tokio::join!(slow(1), slow(2), slow(3));
    let mut statuses = [one.status, two.status, three.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 429]);
}

#[tokio::test]
async fn a_token_is_made_shown_once_listed_and_revoked() {
    let hub = Hub::start(&echo("a", SHARED));
    let path = hub.path();
    let run = |args: &[&str]| -> Output { hubward(args).arg("-c").arg(&path).output().unwrap() };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let before = std::fs::read_to_string(&path).unwrap();
    let made = run(&["token", "new", "ci", "--upstream", "a"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let token = text(&made.stdout).trim().to_owned();
    let after = std::fs::read_to_string(&path).unwrap();
    assert!(token.starts_with("hubward_") && !after.contains(&token) && after.starts_with(&before));
    // The running hub asks from now on; whoever was in without showing anything is out.
    hub.logged("configuration applied generation=2").await;
    assert_eq!(open(&hub, "/a/mcp", &[]).await.0.status, 401);
    let (answer, session) = open(&hub, "/a/mcp", &[("x-api-key", &token)]).await;
    assert_eq!(answer.status, 200);
    let again = run(&["token", "new", "ci"]);
    assert_eq!((again.status.code(), text(&again.stderr).contains("already")), (Some(1), true));
    assert_eq!(text(&run(&["token", "list"]).stdout).trim(), "ci  a");
    let listed: Value = serde_json::from_slice(&run(&["token", "list", "--json"]).stdout).unwrap();
    assert_eq!(listed, json!([{ "name": "ci", "upstreams": ["a"] }]));
    assert!(run(&["token", "new", "ada"]).status.success());
    assert!(run(&["token", "revoke", "ci"]).status.success());
    hub.logged("it may not be here any more").await;
    assert_eq!(ping(&hub, "/a/mcp", &token, &session).await.status, 401);
    assert_eq!(run(&["token", "revoke", "ci"]).status.code(), Some(1));
    assert_eq!(run(&["token", "new", "a b"]).status.code(), Some(2));
}

#[tokio::test]
async fn what_others_reach_wants_authentication_or_a_clear_word() {
    let start = |auth: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        std::fs::write(&path, format!("[hub]\nbind = ['0.0.0.0:0']\n{auth}\n{}", echo("a", SHARED))).unwrap();
        let mut command = hubward(&["serve", "-c"]);
        command.arg(&path);
        (folder, command)
    };
    let (_folder, mut command) = start("");
    let refused = command.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("hubward token new NAME") && said.contains("allow_unauthenticated = true"), "{said}");
    // By a flag as well.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hub.toml"), echo("a", SHARED)).unwrap();
    let flag = hubward(&["serve", "--bind", "0.0.0.0:0", "-c"]).arg(folder.path().join("hub.toml")).output().unwrap();
    assert_eq!(flag.status.code(), Some(2));
    for (auth, expected) in [
        (format!("auth = {{ tokens = [{}] }}", entry("ada", ADA, "")), 401),
        ("auth = { allow_unauthenticated = true }".into(), 200),
    ] {
        let (folder, command) = start(&auth);
        let mut hub = Hub::run(folder, command);
        hub.base = hub.base.replace("0.0.0.0", "127.0.0.1");
        assert_eq!(open(&hub, "/a/mcp", &[]).await.0.status, expected);
    }
}

#[tokio::test]
async fn another_service_decides_and_names_the_caller() {
    // Whoever shows the cookie or the password is who it says; the service sees how the hub was asked, and no body.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    let asked = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    let mut chunk = [0; 4096];
                    let count = stream.read(&mut chunk).await.unwrap_or(0);
                    assert!(count > 0);
                    head.extend_from_slice(&chunk[..count]);
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                let answer = match () {
                    () if head.contains("cookie: id=ada") => "200 OK\r\nRemote-User: ada",
                    () if head.contains("authorization: basic ym9i") => "204 No Content\r\nRemote-User: bob",
                    () if head.contains("x-api-key: slow") => "500 Oops",
                    () if head.contains("x-api-key: none") => "403 Forbidden",
                    () => "302 Found\r\nLocation: /login\r\nWWW-Authenticate: Bearer realm=\"theirs\"",
                };
                asked.lock().unwrap().push(head);
                let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    let tokens = entry("ci", CI, "");
    let auth = format!("auth = {{ tokens = [{tokens}], forward = {{ url = 'http://{address}/verify' }} }}");
    let allow = format!("{SHARED}\nallow = ['user:ada', 'token:ci']");
    let hub = Hub::start(&format!("[hub]\n{auth}\n{}", echo("a", &allow)));
    let knock = async |header: (&str, &str)| open(&hub, "/a/mcp?x=1", &[header]).await;
    let (ada, session) = knock(("cookie", "id=ada")).await;
    assert_eq!(ada.status, 200, "{ada:?}");
    assert_eq!(knock(("authorization", "Basic Ym9iOmI=")).await.0.status, 403, "bob is somebody, and not let in here");
    assert_eq!(knock(("x-api-key", "none")).await.0.status, 403);
    let (unknown, _) = knock(("authorization", "Bearer nobody")).await;
    assert_eq!((unknown.status, unknown.headers["www-authenticate"].as_str()), (401, "Bearer realm=\"theirs\""));
    let (unsure, _) = knock(("x-api-key", "slow")).await;
    assert_eq!((unsure.status, unsure.headers.contains_key("retry-after")), (503, true));
    let before = seen.lock().unwrap().len();
    assert_eq!(knock(("x-api-key", CI)).await.0.status, 200, "the hub's own tokens are its own business");
    assert_eq!(seen.lock().unwrap().len(), before);
    // Its sessions are its own.
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    for (header, expected) in [(("cookie", "id=ada"), 200), (("x-api-key", CI), 404)] {
        let headers = [header, ("mcp-session-id", session.as_str())];
        assert_eq!(answer(request(&http(), &hub.url("/a/mcp"), &headers, &ping)).await.status, expected);
    }
    let first = seen.lock().unwrap()[0].clone();
    for part in [
        "get /verify ",
        "x-forwarded-method: post",
        "x-forwarded-uri: /a/mcp?x=1",
        "x-forwarded-proto: http",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(!first.contains("content-type") && !first.contains("jsonrpc"), "{first}");
}

#[tokio::test]
async fn a_refusal_before_the_door_does_not_read_the_body() {
    let hub = Hub::start(&guarded());
    let mut raw = Raw::connect(&hub).await;
    raw.send(
        "POST /a/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{",
    )
    .await;
    assert_eq!(raw.response().await.status, 401);
}
