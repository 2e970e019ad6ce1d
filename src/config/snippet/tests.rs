//! What each client is given, compared with what its manual has.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

const URL: &str = "https://hub.example.com/github/mcp";

fn of(id: &str, token: bool) -> Snippet {
    snippets("github", URL, token).into_iter().find(|snippet| snippet.id == id).unwrap()
}

fn parsed(snippet: &Snippet) -> Value {
    match snippet.language {
        "json" => serde_json::from_str(&snippet.text).unwrap(),
        "toml" => toml::from_str(&snippet.text).unwrap(),
        _ => Value::Null,
    }
}

/// What stands where in each file, as the clients' manuals have it: without a token, and with one.
#[test]
fn each_client_gets_its_own_shape() {
    let bearer = |token: &str| json!({ "Authorization": token });
    let input = json!([{ "type": "promptString", "id": "hub-token", "description": "Hub token", "password": true }]);
    let args = json!(["connect", URL, "--header", "X-API-Key:${HUB_TOKEN}"]);
    let bridge = json!({ "command": "hubward", "args": args, "env": { "HUB_TOKEN": "HUB_TOKEN" } });
    let table = [
        (
            "claude-desktop",
            json!({ "mcpServers": { "github": { "command": "hubward", "args": ["connect", URL] } } }),
            json!({ "mcpServers": { "github": bridge } }),
        ),
        (
            "vscode",
            json!({ "servers": { "github": { "type": "http", "url": URL } } }),
            json!({ "inputs": input, "servers": { "github": { "type": "http", "url": URL, "headers": bearer("Bearer ${input:hub-token}") } } }),
        ),
        (
            "cursor",
            json!({ "mcpServers": { "github": { "url": URL } } }),
            json!({ "mcpServers": { "github": { "url": URL, "headers": bearer("Bearer ${env:HUB_TOKEN}") } } }),
        ),
        (
            "windsurf",
            json!({ "mcpServers": { "github": { "serverUrl": URL } } }),
            json!({ "mcpServers": { "github": { "serverUrl": URL, "headers": bearer("Bearer ${env:HUB_TOKEN}") } } }),
        ),
        (
            "zed",
            json!({ "context_servers": { "github": { "url": URL, "headers": { "X-Client": "zed" } } } }),
            json!({ "context_servers": { "github": { "url": URL, "headers": bearer("Bearer HUB_TOKEN") } } }),
        ),
        (
            "jetbrains",
            json!({ "mcpServers": { "github": { "url": URL } } }),
            json!({ "mcpServers": { "github": bridge } }),
        ),
        (
            "gemini",
            json!({ "mcpServers": { "github": { "httpUrl": URL } } }),
            json!({ "mcpServers": { "github": { "httpUrl": URL, "headers": bearer("Bearer $HUB_TOKEN") } } }),
        ),
        (
            "codex",
            json!({ "mcp_servers": { "github": { "url": URL } } }),
            json!({ "mcp_servers": { "github": { "url": URL, "bearer_token_env_var": "HUB_TOKEN" } } }),
        ),
    ];
    for (id, open, guarded) in table {
        assert_eq!(parsed(&of(id, false)), open, "{id}");
        assert_eq!(parsed(&of(id, true)), guarded, "{id}");
    }
    let texts = [
        ("claude-code", false, format!("claude mcp add --transport http github {URL}")),
        (
            "claude-code",
            true,
            format!("claude mcp add --transport http github {URL} --header \"Authorization: Bearer $HUB_TOKEN\""),
        ),
        (
            "inspector",
            false,
            format!(
                "npx @modelcontextprotocol/inspector --cli --transport http \\\n  --server-url {URL} \\\n  --method tools/list\n"
            ),
        ),
        (
            "inspector",
            true,
            format!(
                "npx @modelcontextprotocol/inspector --cli --transport http \\\n  --server-url {URL} \\\n  --header \"Authorization: Bearer $HUB_TOKEN\" \\\n  --method tools/list\n"
            ),
        ),
        (
            "chatgpt",
            false,
            format!(
                "1. Create a connector (Add custom MCP server).\n2. Name: github\n3. URL: {URL}\n4. Authentication: No authentication\n"
            ),
        ),
    ];
    for (id, token, text) in texts {
        assert_eq!(of(id, token).text, text, "{id}");
    }
}

#[test]
fn all_clients_are_there_once_and_show_the_url() {
    for token in [false, true] {
        let all = snippets("github", URL, token);
        assert_eq!(all.len(), 11);
        assert_eq!(all.iter().map(|snippet| snippet.id).collect::<BTreeSet<_>>().len(), 11);
        for snippet in &all {
            assert!(snippet.text.contains(URL) && snippet.text.contains("github"), "{}", snippet.id);
            assert!(matches!(snippet.language, "bash" | "json" | "toml" | "text"), "{}", snippet.id);
            // ChatGPT can send none.
            assert_eq!(
                snippet.text.contains("HUB_TOKEN") || snippet.id == "vscode",
                token && snippet.id != "chatgpt" || snippet.id == "vscode",
                "{}",
                snippet.id
            );
        }
    }
}

#[test]
fn links_carry_the_same_as_the_files() {
    for token in [false, true] {
        let file = parsed(&of("vscode", token));
        let link = of("vscode", token).link.unwrap();
        let (start, carried) = link.split_once('?').unwrap();
        assert!(!carried.contains(['+', '{', ' ', '"', '&']), "{carried}");
        let mut carried: Value = serde_json::from_str(&decoded(carried)).unwrap();
        assert_eq!((start, carried["name"].take()), ("vscode:mcp/install", json!("github")));
        assert_eq!(carried["inputs"].take(), file["inputs"]);
        carried.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        assert_eq!(carried, file["servers"]["github"]);

        let link = url::Url::parse(&of("cursor", token).link.unwrap()).unwrap();
        let query: Vec<(String, String)> = link.query_pairs().into_owned().collect();
        assert_eq!(
            (link.scheme(), link.host_str(), link.path()),
            ("cursor", Some("anysphere.cursor-deeplink"), "/mcp/install")
        );
        assert_eq!(query[0], ("name".to_owned(), "github".to_owned()));
        let config: Value = serde_json::from_slice(&BASE64_STANDARD.decode(&query[1].1).unwrap()).unwrap();
        assert_eq!(config, parsed(&of("cursor", token))["mcpServers"]["github"]);
    }
}

fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("x={text}").as_bytes()).next().unwrap().1.into_owned()
}

#[test]
fn odd_urls_and_names_stay_what_they_are() {
    let url = "https://hub.example.com/a'b;c/x/mcp?\"q\"&$(id)";
    for snippet in snippets("a.b", url, true) {
        let file = parsed(&snippet);
        assert_eq!(file.is_null(), !matches!(snippet.language, "json" | "toml"), "{}", snippet.id);
        assert!(file.is_null() || file.to_string().contains("\"a-b\""), "{}", snippet.id);
        if snippet.language == "bash" {
            assert!(snippet.text.contains(r#"'https://hub.example.com/a'\''b;c/x/mcp?"q"&$(id)'"#), "{}", snippet.text);
        }
    }
}
