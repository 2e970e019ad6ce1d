//! Flags, variables and files that say how a server is asked.

use serde_json::json;

use super::*;
use crate::peer::{Reply, Seen, legacy};

/// What the server sees of a bridge with these flags, at a call.
async fn seen(args: &[&str], variables: &[(&str, &str)]) -> Seen {
    let peer = legacy(|_| None).await;
    let url = peer.url("/mcp");
    let mut bridge = Bridge::with(&[args, &[url.as_str()]].concat(), variables);
    bridge.open().await;
    bridge.echo("x").await;
    peer.of("tools/call").remove(0)
}

/// What is said where the flags are wrong.
async fn refused(args: &[&str]) -> String {
    let (rest, code, said, _) = Bridge::start(args).close().await;
    assert_eq!((rest.len(), code), (0, 2), "{args:?}: {said}");
    said
}

#[tokio::test]
async fn s2_8_headers_by_either_spelling() {
    let variables = [("KEY", "two words"), ("API_ACCESS_TOKEN", "")];
    let seen = seen(&["-H", "X-One", "1", "-H", "X-Two", "2", "--header", "X-Key: ${KEY}"], &variables).await;
    let found = ["x-one", "x-two", "x-key"].map(|name| seen.header(name));
    assert_eq!(found, [Some("1"), Some("2"), Some("two words")]);
    assert!(refused(&["--header", "no colon", "http://localhost/mcp"]).await.contains("needs a colon"));
    assert!(refused(&["--header", "A: ${NOT_SET_HERE}", "http://localhost/mcp"]).await.contains("NOT_SET_HERE"));
}

#[tokio::test]
async fn s2_9_the_words_of_other_bridges_for_transports() {
    for word in ["auto", "streamablehttp", "streamable-http", "http-only", "http-first", "sse-first"] {
        seen(&["--transport", word], &[]).await;
    }
    let peer = legacy(|_| None).await;
    let mut bridge = Bridge::start(&["--transport", "sse-only", &peer.url("/mcp")]);
    let answer = bridge.ask("initialize", initialize("2025-06-18")).await;
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("405")), "{answer}");
    assert_eq!(peer.methods(), ["GET"]);
}

#[tokio::test]
async fn s2_10_a_token_of_the_environment_where_no_header_is_named() {
    let variables = [("API_ACCESS_TOKEN", "abc")];
    assert_eq!(seen(&[], &variables).await.header("authorization"), Some("Bearer abc"));
    // Theirs overwrites what was named; ours does not.
    let named = seen(&["-H", "Authorization", "Bearer mine"], &variables).await;
    assert_eq!(named.header("authorization"), Some("Bearer mine"));
}

#[tokio::test]
async fn s2_12_name_and_password() {
    let basic = seen(&["--username", "ada", "--password", "pw"], &[]).await;
    assert_eq!(basic.header("authorization"), Some("Basic YWRhOnB3"));
    assert!(refused(&["--username", "ada", "http://localhost/mcp"]).await.contains("belong together"));
    let peer = legacy(|seen| match seen.header("authorization") {
        Some(digest) if digest.starts_with("Digest ") => None,
        _ => Some(
            Reply::status(401)
                .header("www-authenticate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256"),
        ),
    })
    .await;
    let url = peer.url("/mcp");
    let mut bridge = Bridge::start(&["--username", "ada", "--password", "pw", "--digest", &url]);
    bridge.open().await;
    assert_eq!(bridge.echo("x").await, "x");
    let sent = peer.of("tools/call").remove(0);
    let sent = sent.header("authorization").unwrap_or_default();
    assert!(sent.contains("username=\"ada\"") && sent.contains("SHA-256") && !sent.contains("pw"), "{sent}");
}

#[tokio::test]
async fn s2_13_certificates_are_checked_unless_told_otherwise() {
    seen(&["--verify-ssl", "true"], &[]).await;
    let peer = legacy(|_| None).await;
    let mut bridge = Bridge::start(&[&peer.url("/mcp"), "--no-verify-ssl"]);
    bridge.open().await;
    let (.., said, _) = bridge.close().await;
    assert!(said.contains("any certificate will be believed"), "{said}");
    assert!(refused(&["--verify-ssl", "/nowhere/ca.pem", "http://localhost/mcp"]).await.contains("no such file"));
}

#[tokio::test]
async fn s2_16_flags_of_the_other_direction_are_ignored_with_a_word() {
    let peer = legacy(|_| None).await;
    let mut bridge = Bridge::start(&["--named-server", "a", "b", &peer.url("/mcp")]);
    bridge.open().await;
    assert!(bridge.close().await.2.contains("other direction"));
}

#[tokio::test]
async fn s3_2_s3_3_s3_29_the_url_comes_from_a_file_from_a_variable_or_from_a_flag() {
    let peer = legacy(|_| None).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("server.env");
    std::fs::write(&file, format!("MCP_SERVER_URL={}\nAPI_ACCESS_TOKEN=of-the-file\n", peer.url("/mcp")))
        .expect("a file");
    let named = ["--env-file", file.to_str().expect("text")];
    let other = peer.url("/other");
    let url = peer.url("/mcp");
    #[expect(clippy::type_complexity, reason = "a table")]
    let cases: [(Vec<&str>, Vec<(&str, &str)>, &str, Option<&str>); 4] = [
        (named.to_vec(), vec![], "/mcp", Some("Bearer of-the-file")),
        (named.to_vec(), vec![("API_ACCESS_TOKEN", "own")], "/mcp", Some("Bearer own")),
        ([named.as_slice(), &["--server-url", &other]].concat(), vec![], "/other", Some("Bearer of-the-file")),
        (vec![], vec![("MCP_SERVER_URL", &url)], "/mcp", None),
    ];
    for (args, variables, path, token) in cases {
        let before = peer.count("initialize");
        let mut bridge = Bridge::with(&args, &variables);
        bridge.open().await;
        let seen = peer.of("initialize").remove(before);
        assert_eq!((seen.path.as_str(), seen.header("authorization")), (path, token), "{args:?}");
    }
    assert!(refused(&["--env-file", "/nowhere/.env"]).await.contains("there is no file"));
    assert!(refused(&["not a url"]).await.contains("is not a URL"));
    assert!(refused(&["ftp://localhost/x"]).await.contains("http"));
}

#[tokio::test]
async fn s3_33_the_longest_call() {
    let peer = legacy(|seen| (seen.method() == "tools/call").then(|| Reply::nothing().hold())).await;
    let url = peer.url("/mcp");
    for (args, variables) in
        [(vec!["--request-timeout", "1", url.as_str()], vec![]), (vec![url.as_str()], vec![("REQUEST_TIMEOUT", "1")])]
    {
        let mut bridge = Bridge::with(&args, &variables);
        bridge.open().await;
        let answer = bridge.ask("tools/call", json!({ "name": "echo" })).await;
        assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("within 1s")), "{answer}");
    }
}

#[tokio::test]
async fn tools_that_are_ignored_are_neither_listed_nor_called() {
    let hub = crate::fixture::Hub::start("[upstreams.demo]\ncommand = \"hubward\"\nargs = [\"demo\"]\n");
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {} });
    let mut bridge = Bridge::start(&[&hub.url("/demo/mcp"), "--ignore-tool", "ask_*", "--ignore-tool", "slow"]);
    bridge.open().await;
    for meta in [json!({}), meta] {
        let list = bridge.ask("tools/list", json!({ "_meta": meta })).await;
        let names: Vec<&str> = list["result"]["tools"]
            .as_array()
            .expect("tools")
            .iter()
            .filter_map(|tool| tool["name"].as_str())
            .collect();
        assert!(
            names.contains(&"echo") && !names.iter().any(|name| name.starts_with("ask_") || *name == "slow"),
            "{names:?}"
        );
        let call = bridge.ask("tools/call", json!({ "name": "slow", "_meta": meta })).await;
        assert_eq!(call["error"]["message"], "there is no such tool");
        let call =
            bridge.ask("tools/call", json!({ "name": "echo", "arguments": { "text": "x" }, "_meta": meta })).await;
        assert_eq!(call["result"]["content"][0]["text"], "x");
    }
    assert!(refused(&["--ignore-tool", "[", "http://localhost/mcp"]).await.contains("--ignore-tool"));
}

#[tokio::test]
async fn plain_text_to_another_machine_is_warned_of_unless_it_is_meant() {
    let gone = "http://192.0.2.1:9/mcp";
    let (.., said, _) = Bridge::start(&[gone]).close().await;
    assert!(said.contains("plain text"), "{said}");
    let (.., said, _) = Bridge::start(&[gone, "--allow-http"]).close().await;
    assert!(!said.contains("plain text"), "{said}");
}

#[tokio::test]
async fn s2_1_s2_3_s2_4_a_url_in_place_of_a_command_is_the_other_direction() {
    let peer = legacy(|_| None).await;
    let url = peer.url("/mcp");
    let early = vec!["--log-level", "warn", "proxy", url.as_str()];
    for args in
        [early, vec!["proxy", url.as_str()], vec!["proxy", "-H", "X-One", "1", "--transport", "streamablehttp", &url]]
    {
        let before = peer.count("initialize");
        let mut bridge = Bridge::verb(&args, &[]);
        bridge.open().await;
        assert_eq!(bridge.echo("x").await, "x");
        let header = peer.of("initialize")[before].header("x-one").map(str::to_owned);
        assert_eq!(header.as_deref(), args.contains(&"-H").then_some("1"));
    }
    let mut bridge = Bridge::with(&[], &[("SSE_URL", &url)]);
    bridge.open().await;
    for args in [["proxy", "--transport", "nosuch", &url], ["proxy", "--port", "0", &url]] {
        let (_, code, said, _) = Bridge::verb(&args, &[]).close().await;
        assert_eq!(code, 2, "what the other direction does not know is told: {said}");
    }
    // S2.7: neither a command nor a URL.
    let (rest, code, said, _) = Bridge::verb(&["proxy"], &[]).close().await;
    assert!(rest.is_empty() && code == 2 && said.contains("Usage"), "{said}");
}

#[tokio::test]
async fn s3_4_s3_34_log_levels_and_certificates_by_variables_of_others() {
    let peer = legacy(|_| None).await;
    let url = peer.url("/mcp");
    for (level, heard) in [("DEBUG", true), ("WARNING", false), ("CRITICAL", false)] {
        let mut bridge = Bridge::with(&[&url], &[("LOG_LEVEL", level)]);
        bridge.open().await;
        assert_eq!(bridge.close().await.2.contains("DEBUG"), heard, "{level}");
    }
    for (args, believed) in [(vec![url.as_str()], true), (vec!["--verify-ssl", "true", &url], false)] {
        let mut bridge = Bridge::with(&args, &[("VERIFY_SSL", "false")]);
        bridge.open().await;
        assert_eq!(bridge.close().await.2.contains("any certificate"), believed, "a flag wins: {args:?}");
    }
    let (_, code, said, _) = Bridge::with(&[&url], &[("VERIFY_SSL", "/nowhere/ca.pem")]).close().await;
    assert!(code == 2 && said.contains("no such file"), "{said}");
}
