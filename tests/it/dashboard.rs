//! The status page: what is served to whom, and that its files say nothing about the hub.

use hubward::config;
use serde_json::{Value, json};

use super::fixture::{Answer, Hub, answer, echo, http};

/// What a browser sends when somebody types an address.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const TOKEN: &str = "adas-token-of-some-length";

fn guarded() -> String {
    let sha256: String = config::hash(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[hub]\nauth = {{ tokens = [{{ name = 'ada', sha256 = '{sha256}' }}] }}\n{}", echo("hidden-name", ""))
}

async fn get(hub: &Hub, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = http().request(method.parse().unwrap(), hub.url(path));
    answer(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

/// The files that the page names, and those that these import.
async fn files(hub: &Hub) -> Vec<(String, Answer)> {
    let mut found: Vec<(String, Answer)> = Vec::new();
    let mut wanted = vec!["/".to_owned()];
    while let Some(path) = wanted.pop() {
        if found.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let answer = get(hub, "GET", &path, &[("accept", if path == "/" { BROWSER } else { "*/*" })]).await;
        let quotes = answer.text.split(['"', '\'']);
        let named = quotes.filter_map(|word| word.strip_prefix("assets/").or_else(|| word.strip_prefix("./")));
        wanted.extend(named.map(|name| format!("/assets/{name}")));
        found.push((path, answer));
    }
    found
}

#[tokio::test]
async fn f67_the_page_is_for_any_browser_and_reveals_nothing() {
    let (asked, open) = (Hub::start(&guarded()), Hub::start(&echo("another", "")));
    let (files, same) = (files(&asked).await, files(&open).await);
    assert!(files.len() >= 8, "{:?}", files.iter().map(|(path, _)| path).collect::<Vec<_>>());
    for (path, file) in &files {
        assert_eq!(file.status, 200, "{path}");
        for secret in ["hidden-name", TOKEN, "ada", env!("CARGO_PKG_VERSION")] {
            assert!(!file.text.contains(secret) || secret == "ada", "{path} names {secret}");
        }
        // Every hub gives the same: nothing of this one can be in it.
        let other = same.iter().find(|(other, _)| other == path).unwrap();
        assert_eq!(file.text, other.1.text, "{path}");
    }
}

#[tokio::test]
async fn the_pages_files_allow_nothing_from_elsewhere() {
    let hub = Hub::start(&guarded());
    for (path, file) in files(&hub).await {
        let header = |name: &str| file.headers.get(name).cloned().unwrap_or_default();
        let policy = header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|part| part == rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        let others = ["x-content-type-options", "referrer-policy", "cache-control"].map(header);
        assert_eq!(others, ["nosniff", "no-referrer", "no-cache"], "{path}");
        let kind = match path.rsplit('.').next().unwrap() {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(header("content-type"), kind, "{path}");
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " onclick=",
            "<style",
            "https://",
        ] {
            assert!(!file.text.contains(word), "{path}: {word}");
        }
        // Who has it gets no second copy.
        let accept = if path == "/" { BROWSER } else { "*/*" };
        let again = get(&hub, "GET", &path, &[("accept", accept), ("if-none-match", &header("etag"))]).await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
        let other = get(&hub, "GET", &path, &[("accept", accept), ("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status, 200, "{path}");
        let head = get(&hub, "HEAD", &path, &[("accept", accept)]).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
    }
}

#[tokio::test]
async fn f67_what_is_no_browser_is_asked_who_it_is() {
    let hub = Hub::start(&guarded());
    let bearer = format!("Bearer {TOKEN}");
    for accept in ["*/*", "application/json", "text/plain", "text/html;q=0", "application/xhtml+xml"] {
        assert_eq!(get(&hub, "GET", "/", &[("accept", accept)]).await.status, 401, "{accept}");
        let told = get(&hub, "GET", "/", &[("accept", accept), ("authorization", &bearer)]).await;
        assert_eq!(told.status, 200, "{accept}");
        assert!(told.text.contains("/api/v1/status"), "{}", told.text);
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let page = get(&hub, method, "/", &[("accept", BROWSER)]).await;
        assert_eq!(page.status, 401, "{method}");
        let page = get(&hub, method, "/", &[("accept", BROWSER), ("authorization", &bearer)]).await;
        assert_eq!((page.status, page.headers["allow"].as_str()), (405, "GET, HEAD"), "{method}");
        let file = get(&hub, method, "/assets/page.js", &[]).await;
        assert_eq!((file.status, file.headers["allow"].as_str()), (405, "GET, HEAD"), "{method}");
    }
    for path in ["/assets/", "/assets/nothing.js", "/assets/..%2fpage.js", "/assets/%70age.js", "/assets/page.js/"] {
        assert_eq!(get(&hub, "GET", path, &[("accept", BROWSER)]).await.status, 404, "{path}");
    }
    let elsewhere = get(&hub, "GET", "/", &[("accept", BROWSER), ("host", "evil.example")]).await;
    assert_eq!(elsewhere.status, 403);
}

#[tokio::test]
async fn the_connect_panel_gives_the_url_and_never_a_token() {
    let bearer = format!("Bearer {TOKEN}");
    for (toml, name, asks) in [(guarded(), "hidden-name", true), (echo("another", ""), "another", false)] {
        let hub = Hub::start(&toml);
        let detail = get(&hub, "GET", &format!("/api/v1/upstreams/{name}"), &[("authorization", &bearer)]).await;
        let connect: Value = serde_json::from_str::<Value>(&detail.text).unwrap()["connect"].take();
        let url = hub.url(&format!("/{name}/mcp"));
        assert_eq!((&connect["url"], &connect["needs_token"]), (&json!(url), &json!(asks)));
        let clients = connect["clients"].as_array().unwrap();
        assert_eq!(clients.len(), 11);
        for client in clients {
            let text = client["text"].as_str().unwrap();
            assert!(text.contains(&url) && !client.to_string().contains(TOKEN), "{client}");
            for member in ["id", "label", "language", "where"] {
                assert!(client[member].is_string(), "{member} of {client}");
            }
        }
        let codex = clients.iter().find(|client| client["id"] == "codex").unwrap();
        assert_eq!(codex["text"].as_str().unwrap().contains("HUB_TOKEN"), asks);
    }
}
