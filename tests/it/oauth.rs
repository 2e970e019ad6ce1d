//! OAuth as a client: what is asked of whom, what is refused, and that nothing goes round in circles.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hubward::auth::{
    AuthError, Credentials, OAuth, OAuthSpec, Password, Settings, Store,
    oauth::{Client, Device, Grant, Mode},
};
use reqwest::{Method, Request, StatusCode};
use serde_json::json;

use super::{
    fixture::{PATIENCE, hubward},
    issuer::Issuer,
};

/// Follows a login as a browser does.
fn browse(url: String) {
    tokio::spawn(async move { reqwest::get(url).await.map(drop) });
}

fn spec(issuer: &Issuer, folder: &Path, mode: Mode) -> OAuthSpec {
    let mut spec = OAuthSpec::new(issuer.url().parse().unwrap(), mode);
    spec.store = Store::at(folder);
    spec.settings.browser = false;
    spec.settings.device = Device::Never;
    spec.show = Arc::new(|prompt| browse(prompt.url.clone()));
    spec
}

fn person(issuer: &Issuer, folder: &Path) -> Arc<OAuth> {
    OAuth::new(spec(issuer, folder, Mode::Interactive))
}

fn with(issuer: &Issuer, folder: &Path, change: impl FnOnce(&mut Settings)) -> Arc<OAuth> {
    let mut spec = spec(issuer, folder, Mode::Interactive);
    change(&mut spec.settings);
    OAuth::new(spec)
}

/// One request as a link makes it.
async fn ask(oauth: &Arc<OAuth>, issuer: &Issuer) -> Result<StatusCode, AuthError> {
    ask_with(&Credentials::OAuth(oauth.clone()), &issuer.url()).await
}

async fn ask_with(credentials: &Credentials, url: &str) -> Result<StatusCode, AuthError> {
    let client = reqwest::Client::new();
    let mut status = StatusCode::OK;
    for _ in 0..4 {
        let mut request = Request::new(Method::POST, url.parse().unwrap());
        credentials.apply(&mut request).await?;
        let sent = request.headers().clone();
        let answer = client.execute(request).await.unwrap();
        status = answer.status();
        if !matches!(status.as_u16(), 401 | 403) || !credentials.refused(&sent, status, answer.headers()).await? {
            return Ok(status);
        }
    }
    Ok(status)
}

fn why(result: Result<StatusCode, AuthError>) -> String {
    match result {
        Err(AuthError::Needed { why, visit: None }) => why,
        other => panic!("{other:?}"),
    }
}

/// The token of a store is at its end.
fn expire(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|kind| kind == "json") {
            let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&entry).unwrap()).unwrap();
            record["token"]["expires_at"] = json!(1);
            std::fs::write(entry, record.to_string()).unwrap();
        }
    }
}

#[tokio::test]
async fn p65_p68_a_login_from_a_refusal_to_an_answer() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    let oauth = person(&issuer, folder.path());
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    let registered = issuer.last("/register");
    assert_eq!(registered["application_type"], "native");
    assert!(registered["grant_types"].contains("refresh_token"));
    let visited = issuer.last("/authorize");
    let told = issuer.last("/token");
    assert_eq!((&visited["resource"], &told["resource"]), (&issuer.url(), &issuer.url()));
    assert_eq!((visited["code_challenge_method"].as_str(), visited["scope"].as_str()), ("S256", "basic"));
    assert_eq!(visited["redirect_uri"], told["redirect_uri"]);
    // Once is enough, for other processes too.
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    assert_eq!(ask(&person(&issuer, folder.path()), &issuer).await, Ok(StatusCode::OK));
    assert_eq!((issuer.count("/authorize"), issuer.count("/register")), (1, 1));

    // A token that is not taken any more is refreshed, with its resource; the login is not needed again.
    issuer.state().access.clear();
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    assert_eq!((issuer.grants("refresh_token"), issuer.count("/authorize")), (1, 1));
    assert_eq!(issuer.last("/token")["resource"], issuer.url());

    // A bigger scope is asked for together with what was there.
    issuer.state().scope = Some("write".to_owned());
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    assert_eq!(issuer.last("/authorize")["scope"], "write basic");
    assert_eq!(issuer.count("/register"), 1);
}

#[tokio::test]
async fn p64_f127_documents_that_are_not_believed() {
    let refused = async |change: fn(&Issuer), expected: &str| {
        let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
        change(&issuer);
        let why = why(ask(&person(&issuer, folder.path()), &issuer).await);
        assert!(why.contains(expected), "{why}");
        assert_eq!((issuer.count("/token"), issuer.count("/authorize")), (0, 0), "{expected}");
    };
    refused(|issuer| issuer.state().metadata = json!({"issuer": "https://honest.example"}), "calls itself").await;
    refused(|issuer| issuer.state().metadata = json!({"code_challenge_methods_supported": null}), "PKCE").await;
    refused(|issuer| issuer.state().metadata = json!({"code_challenge_methods_supported": ["plain"]}), "PKCE").await;
    refused(|issuer| issuer.state().metadata = json!({"authorization_endpoint": "javascript:alert(1)"}), "refused")
        .await;
    refused(|issuer| issuer.state().metadata = json!({"token_endpoint": "http://169.254.169.254/"}), "refused").await;
    refused(|issuer| issuer.state().metadata = json!({"token_endpoint": "http://as.example/"}), "not https").await;
    refused(
        |issuer| {
            let big = format!("{{\"x\": \"{}\"}}", "x".repeat(10 << 20));
            issuer.state().answers.insert("/.well-known/oauth-authorization-server".into(), (200, String::new(), big));
        },
        "too large",
    )
    .await;
    refused(
        |issuer| {
            let there = "Location: http://127.0.0.1:1/\r\n".to_owned();
            issuer
                .state()
                .answers
                .insert("/.well-known/oauth-authorization-server".into(), (302, there, String::new()));
        },
        "redirects",
    )
    .await;
    refused(
        |issuer| {
            let other =
                json!({"resource": "https://evil.example/mcp", "authorization_servers": [issuer.base]}).to_string();
            let path = "/.well-known/oauth-protected-resource/mcp";
            issuer.state().answers.insert(path.into(), (200, String::new(), other));
        },
        "another resource",
    )
    .await;
}

#[tokio::test]
async fn p64_t10_answers_of_strangers() {
    for (advertised, reply, expected) in [
        (true, "code=c", "does not name"),
        (true, "code=c&iss=https://evil.example", "another authorization server"),
        (false, "code=c&iss=https://evil.example", "another authorization server"),
        (true, "error=visit-evil&iss=https://evil.example", "another authorization server"),
    ] {
        let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
        issuer.state().metadata = json!({"authorization_response_iss_parameter_supported": advertised});
        issuer.state().reply = Some(reply.to_owned());
        let why = why(ask(&person(&issuer, folder.path()), &issuer).await);
        assert!(why.contains(expected) && !why.contains("visit-evil"), "{why}");
        assert_eq!(issuer.count("/token"), 0);
    }
}

#[tokio::test]
async fn p66_another_authorization_server_is_a_stranger() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    issuer.state().tenant = "/one";
    let oauth = person(&issuer, folder.path());
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    let first = issuer.last("/authorize")["client_id"].clone();
    {
        let mut state = issuer.state();
        state.tenant = "/two";
        state.access.clear();
    }
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    assert_ne!(issuer.last("/authorize")["client_id"], first);
    assert_eq!((issuer.count("/register"), issuer.grants("refresh_token")), (2, 0));

    // A client that was registered by hand belongs to one.
    let by_hand = with(&issuer, folder.path(), |settings| {
        let issuer = Some("https://other.example".to_owned());
        settings.client = Some(Client { id: "mine".into(), secret: None, key: None, issuer });
    });
    assert!(why(ask(&by_hand, &issuer).await).contains("registered with"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p67_f102_twenty_refreshers_make_one_refresh() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    assert_eq!(ask(&person(&issuer, folder.path()), &issuer).await, Ok(StatusCode::OK));
    // Each has a handle of its own to the store and its locks, as processes have.
    for (round, ahead) in [(1, true), (2, false)] {
        issuer.state().access.clear();
        if ahead {
            expire(folder.path());
        }
        let all: Vec<_> = (0..20).map(|_| person(&issuer, folder.path())).collect();
        let asked = all.iter().map(|oauth| ask(oauth, &issuer));
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer, Ok(StatusCode::OK));
        }
        assert_eq!(issuer.grants("refresh_token"), round);
    }
    assert_eq!(issuer.count("/authorize"), 1);
}

#[tokio::test]
async fn f112_a_server_that_refuses_everything_is_not_asked_for_ever() {
    for no_refresh in [true, false] {
        let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
        issuer.state().refuses_all = true;
        issuer.state().no_refresh = no_refresh;
        let oauth = person(&issuer, folder.path());
        for _ in 0..3 {
            let _ = ask(&oauth, &issuer).await;
        }
        assert_eq!(issuer.count("/authorize"), 1, "{no_refresh}");
        assert!(issuer.grants("refresh_token") <= 3);
    }
    // A scope that is never granted.
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    let oauth = person(&issuer, folder.path());
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    issuer.state().answers.insert(
        "/mcp".into(),
        (403, "WWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"admin\"\r\n".into(), String::new()),
    );
    assert!(why(ask(&oauth, &issuer).await).contains("admin"));
    assert!(issuer.count("/authorize") <= 3);
}

#[tokio::test]
async fn f136_f138_a_daemon_tells_the_url_and_waits_for_nobody() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    let mut spec = spec(&issuer, folder.path(), Mode::Daemon);
    let shown: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = shown.clone();
    spec.show = Arc::new(move |prompt| seen.lock().unwrap().push(prompt.url.clone()));
    let oauth = OAuth::new(spec);
    let mut visit = None;
    for _ in 0..3 {
        let Err(AuthError::Needed { visit: Some(url), .. }) = ask(&oauth, &issuer).await else { panic!("no URL") };
        assert_eq!(*visit.get_or_insert_with(|| url.clone()), url);
    }
    assert_eq!(shown.lock().unwrap().len(), 1, "one login is waited for");
    assert_eq!(oauth.visit(), visit);
    let ready = tokio::spawn({
        let oauth = oauth.clone();
        async move { oauth.wait_ready().await }
    });
    // Whoever does not know the state changes nothing.
    let visit = visit.unwrap();
    let redirect = url::Url::parse(&visit).unwrap();
    let redirect = redirect.query_pairs().find(|(key, _)| key == "redirect_uri").unwrap().1.into_owned();
    assert_eq!(reqwest::get(format!("{redirect}?code=x&state=y")).await.unwrap().status(), 400);
    assert_eq!(reqwest::get(redirect.replace("callback", "other")).await.unwrap().status(), 404);
    assert_eq!(reqwest::get(&visit).await.unwrap().status(), 200);
    tokio::time::timeout(PATIENCE, ready).await.unwrap().unwrap();
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    assert_eq!(oauth.visit(), None);
    assert!(reqwest::get(&redirect).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn f138_one_who_denies_or_does_not_come() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    issuer.state().reply = Some(format!("error=access_denied&iss={}", issuer.base));
    assert!(why(ask(&person(&issuer, folder.path()), &issuer).await).contains("access_denied"));
    let mut spec = spec(&issuer, folder.path(), Mode::Interactive);
    spec.settings.login_timeout = Some(Duration::from_millis(50));
    spec.show = Arc::new(|_| ());
    assert!(why(ask(&OAuth::new(spec), &issuer).await).contains("nobody has logged in"));
}

#[tokio::test]
async fn f137_a_login_in_another_process_is_enough() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    let all: Vec<_> = (0..3).map(|_| person(&issuer, folder.path())).collect();
    for answer in futures_util::future::join_all(all.iter().map(|oauth| ask(oauth, &issuer))).await {
        assert_eq!(answer, Ok(StatusCode::OK));
    }
    assert_eq!(issuer.count("/authorize"), 1, "one window");
}

#[tokio::test]
async fn f139_no_registration_and_a_client_that_is_gone() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    issuer.state().metadata = json!({"registration_endpoint": null});
    assert!(why(ask(&person(&issuer, folder.path()), &issuer).await).contains("configure its id"));
    let by_hand = with(&issuer, folder.path(), |settings| {
        settings.client = Some(Client { id: "mine".into(), secret: Some("s".into()), key: None, issuer: None });
    });
    assert_eq!(ask(&by_hand, &issuer).await, Ok(StatusCode::OK));
    assert_eq!(issuer.state().proofs.last().unwrap(), "Basic bWluZTpz");
    issuer.state().metadata = json!({"client_id_metadata_document_supported": true});
    let document = "https://hub.example/client.json";
    let by_document = with(&issuer, &folder.path().join("x"), |settings| {
        settings.client_metadata_url = Some(document.to_owned());
    });
    assert_eq!(ask(&by_document, &issuer).await, Ok(StatusCode::OK));
    assert_eq!(issuer.last("/authorize")["client_id"], document);

    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    let refusal = json!({"error": "invalid_redirect_uri", "error_description": "https only"}).to_string();
    issuer.state().answers.insert("/register".into(), (400, String::new(), refusal));
    assert!(why(ask(&person(&issuer, folder.path()), &issuer).await).contains("invalid_redirect_uri (https only)"));
    issuer.state().answers.clear();
    let oauth = person(&issuer, folder.path());
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    issuer.state().clients.clear();
    issuer.state().access.clear();
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    assert_eq!((issuer.count("/register"), issuer.count("/authorize")), (3, 2));
}

#[tokio::test]
async fn f140_a_blip_loses_nothing_and_a_sibling_is_believed() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    assert_eq!(ask(&person(&issuer, folder.path()), &issuer).await, Ok(StatusCode::OK));
    expire(folder.path());
    issuer.state().answers.insert("/token".into(), (503, String::new(), String::new()));
    let oauth = person(&issuer, folder.path());
    for _ in 0..2 {
        assert!(matches!(ask(&oauth, &issuer).await, Err(AuthError::Unreachable(_))));
    }
    issuer.state().answers.clear();
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    assert_eq!(issuer.count("/authorize"), 1);
    // Somebody else rotated it, and took no lock.
    let stale = oauth.token().await.unwrap().unwrap();
    expire(folder.path());
    assert_eq!(ask(&person(&issuer, folder.path()), &issuer).await, Ok(StatusCode::OK));
    issuer.state().access.remove(stale.access.expose());
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    assert_eq!(issuer.count("/authorize"), 1);
    // Used up for good: one logs in again, and the registration stays.
    issuer.state().refresh.clear();
    issuer.state().access.clear();
    assert_eq!(ask(&oauth, &issuer).await, Ok(StatusCode::OK));
    assert_eq!((issuer.count("/authorize"), issuer.count("/register")), (2, 1));
}

#[tokio::test]
async fn s3_38_a_server_that_announces_nobody() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    issuer.state().unannounced = true;
    assert_eq!(ask(&person(&issuer, folder.path()), &issuer).await, Ok(StatusCode::OK));
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    issuer.state().unannounced = true;
    let metadata = "/.well-known/oauth-authorization-server".to_owned();
    issuer.state().answers.insert(metadata, (404, String::new(), String::new()));
    assert_eq!(ask(&person(&issuer, folder.path()), &issuer).await, Ok(StatusCode::OK));
}

#[tokio::test]
async fn s3_41_a_code_for_another_device() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    issuer.state().metadata = json!({"device_authorization_endpoint": format!("{}/device", issuer.base)});
    let mut spec = spec(&issuer, folder.path(), Mode::Interactive);
    spec.settings.device = Device::Prefer;
    let shown: Arc<Mutex<Option<String>>> = Arc::default();
    let seen = shown.clone();
    spec.show = Arc::new(move |prompt| *seen.lock().unwrap() = prompt.code.clone());
    assert_eq!(ask(&OAuth::new(spec), &issuer).await, Ok(StatusCode::OK));
    assert_eq!(shown.lock().unwrap().as_deref(), Some("ABCD"));
    assert_eq!(issuer.last("/device")["resource"], issuer.url());
    assert!(issuer.count("/token") >= 3, "it was pending");
}

#[tokio::test]
async fn s2_11_the_client_itself() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    let client = |settings: &mut Settings| {
        settings.grant = Grant::ClientCredentials;
        settings.client = Some(Client { id: "robot".into(), secret: Some("s".into()), key: None, issuer: None });
    };
    let found = with(&issuer, folder.path(), client);
    assert_eq!(ask(&found, &issuer).await, Ok(StatusCode::OK));
    assert_eq!(issuer.last("/token")["resource"], issuer.url());
    let named = with(&issuer, &folder.path().join("x"), |settings| {
        client(settings);
        settings.endpoints.token = Some(format!("{}/token", issuer.base));
    });
    let before = issuer.count("/mcp");
    assert_eq!(ask(&named, &issuer).await, Ok(StatusCode::OK));
    assert_eq!(issuer.count("/mcp"), before + 1, "it is got ahead of the first request");
    assert_eq!((issuer.grants("client_credentials"), issuer.count("/authorize")), (2, 0));
}

#[tokio::test]
async fn s2_12_a_password() {
    let issuer = Issuer::start().await;
    let password = Password { username: "a".into(), password: "b".into() };
    assert!(matches!(ask_with(&Credentials::Basic(password), &issuer.url()).await, Err(AuthError::Needed { .. })));
    assert!(matches!(ask_with(&Credentials::None, &issuer.url()).await, Err(AuthError::Needed { .. })));
}

/// Runs `hubward auth …`; a login is seen through at the URL that it prints.
async fn command(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = hubward(arguments);
    command.env("XDG_STATE_HOME", folder).env_remove("STATE_DIRECTORY").env("BROWSER", "true");
    command.stdin(std::process::Stdio::null());
    let log = folder.join("stderr");
    command.stderr(std::fs::File::create(&log).unwrap()).stdout(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let done = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let (began, mut visited) = (Instant::now(), false);
    loop {
        assert!(began.elapsed() < PATIENCE, "{arguments:?} does not end");
        let text = std::fs::read_to_string(&log).unwrap();
        if let Some(url) = text.split_whitespace().find(|word| word.contains("/authorize?")).filter(|_| !visited) {
            visited = true;
            reqwest::get(url).await.unwrap();
        }
        if done.is_finished() {
            let output = done.await.unwrap();
            let text = std::fs::read_to_string(&log).unwrap();
            return (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), text);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_16_to_20_the_commands() {
    let (issuer, folder) = (Issuer::start().await, tempfile::tempdir().unwrap());
    let url = issuer.url();
    let run = async |arguments: &[&str]| command(folder.path(), &[&["auth"], arguments].concat()).await;
    let (code, out, _) = run(&["status", &url]).await;
    assert!(code == 3 && out.contains("not logged in"), "{out}");
    assert_eq!(run(&["client", "show", &url]).await.0, 1);
    let (code, _, log) = run(&["login", &url]).await;
    assert!(code == 0 && log.contains("logged in"), "{log}");
    let (code, out, _) = run(&["status", &url, "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &status["state"], &status["token"]["refresh_token"]), (0, &json!("valid"), &json!(true)));
    assert!(!out.contains("access2") && !out.contains("refresh2"), "{out}");

    let (code, out, _) = run(&["client", "show", &url]).await;
    assert!(code == 0 && out.contains("client1") && !out.contains("manage-"), "{out}");
    assert_eq!(run(&["client", "update", &url, "client_id=x", "--yes"]).await.0, 2);
    assert_eq!(run(&["client", "update", &url, "client_name=x"]).await.0, 2, "nobody says yes");
    let (code, out, _) = run(&["client", "update", &url, "client_name=renamed", "contacts=a@b; c@d", "--yes"]).await;
    assert!(code == 0 && out.contains("renamed") && out.contains("c@d"), "{out}");
    let (code, out, _) = run(&["client", "show", &url]).await;
    assert!(code == 0 && out.contains("renamed") && out.contains("redirect_uris"), "with the rotated token: {out}");
    assert_eq!(run(&["client", "delete", &url]).await.0, 2);
    assert_eq!(run(&["client", "delete", &url, "--yes"]).await.0, 0);
    assert!(issuer.state().clients.is_empty());
    assert_eq!(run(&["status", &url]).await.0, 3);

    assert_eq!(run(&["login", &url]).await.0, 0);
    assert_eq!(run(&["logout", &url]).await.0, 0);
    assert_eq!(issuer.count("/revoke"), 2);
    assert!(issuer.state().clients.is_empty());
    assert_eq!(run(&["status", &url]).await.0, 3);
    assert_eq!(run(&["login", "not a url"]).await.0, 2);
    let (code, _, log) = run(&["login", "http://127.0.0.1:1/mcp"]).await;
    assert_eq!(code, 4, "{log}");
}
