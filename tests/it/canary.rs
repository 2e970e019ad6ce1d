//! A secret in every input, and it sings nowhere.

use serde_json::{Value, json};

use super::{
    fixture::{Hub, LATEST, answer, echo, http, hubward, initialize, post, request},
    raw::Raw,
};

/// Secrets that nobody could have by chance.
fn secret(place: &str) -> String {
    let mut random = [0; 12];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("canary-{place}-{random}")
}

#[tokio::test]
async fn f93_t22_a_secret_in_any_input_is_in_no_output() {
    let places = ["env", "header", "token", "file", "key", "guess", "cookie", "body", "query", "secret", "basic"];
    let secrets = places.map(secret);
    let of = |place: &str| secrets[places.iter().position(|known| *known == place).unwrap()].as_str();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), of("file")).unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let toml = format!(
        "[hub]\nauth = {{ tokens = [{{ name = 'ada', secret = '${{env:TOKEN}}' }}] }}\nlog = {{ audit = {{ path = 'audit.jsonl' }} }}\n\
         {}\n\
         [upstreams.far]\nurl = 'http://{gone}/mcp?key=${{env:KEY}}'\nheaders = {{ X-Secret = '${{env:HEADER}}' }}\n\
         auth = {{ basic = {{ username = 'u', password = '${{env:BASIC}}' }} }}\n\
         [upstreams.login]\nurl = 'http://{gone}/mcp'\nauth = {{ client_credentials = {{ client_id = 'x', client_secret = '${{env:SECRET}}', token_url = 'http://{gone}/t' }} }}\n\
         [upstreams.bad]\ncommand = 'no-such-program-at-all'\nenv = {{ A = '${{env:ENV}}', B = '${{file:secret}}' }}\nargs = ['--key', '${{env:ENV}}']\n",
        echo("a", "isolation = 'shared'\nenv = { A = '${env:ENV}', B = '${file:secret}' }")
    );
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, &toml).unwrap();
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "--log-level", "trace", "-c"]);
    command.arg(&path);
    for (name, place) in [
        ("ENV", "env"),
        ("HEADER", "header"),
        ("TOKEN", "token"),
        ("KEY", "key"),
        ("SECRET", "secret"),
        ("BASIC", "basic"),
    ] {
        command.env(name, of(place));
    }
    let hub = Hub::run(folder, command);

    let mut said = Vec::new();
    let mut knock = async |path: &str, token: &str, body: &Value| {
        let cookie = format!("session={}", of("cookie"));
        let headers = [("authorization", token), ("cookie", cookie.as_str()), ("x-custom", of("cookie"))];
        let answer = post(&http(), &hub.url(path), &headers, body).await;
        let session = answer.headers.get("mcp-session-id").cloned();
        said.push(format!("{answer:?}"));
        session
    };
    let right = format!("Bearer {}", of("token"));
    let hello = initialize(LATEST, json!({}));
    let session = knock("/a/mcp", &right, &hello).await.unwrap();
    for path in ["/far/mcp", "/login/mcp", "/bad/mcp", "/nobody/mcp"] {
        knock(path, &right, &hello).await;
    }
    for token in [format!("Bearer {}", of("guess")), format!("Basic {}", of("guess")), of("guess").to_owned()] {
        knock("/a/mcp", &token, &hello).await;
    }
    knock(&format!("/a/mcp?token={}", of("query")), &right, &hello).await;
    knock(&format!("/a/mcp?token={}", of("query")), "Bearer x", &hello).await;
    // What a caller says of itself comes back to that caller, and goes nowhere else.
    let call = |name: &str| json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name, "arguments": { "text": of("body") } } });
    for body in [
        call("echo"),
        call("nothing"),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "x/y", "params": { "a": of("body") } }),
    ] {
        let headers = [("authorization", right.as_str()), ("mcp-session-id", session.as_str())];
        answer(request(&http(), &hub.url("/a/mcp"), &headers, &body)).await;
    }
    let mut raw = Raw::connect(&hub).await;
    let broken = format!("{{\"a\": {} ", of("body"));
    raw.send(format!(
        "POST /a/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: {right}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{broken}",
        broken.len()
    ))
    .await;
    said.push(format!("{:?}", raw.response().await));
    // An edit that is refused is drawn.
    hub.edit(&toml.replace("[upstreams.far]", "[upstreams.far]\nnonsense = '${env:KEY}'"));
    let status = async || {
        let status = http().get(hub.url("/api/v1/status")).header("authorization", &right);
        answer(status).await.text
    };
    let began = std::time::Instant::now();
    while !status().await.contains("nonsense") {
        assert!(began.elapsed() < super::fixture::PATIENCE, "{}", hub.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let audit = hub.folder.path().join("audit.jsonl");
    super::fixture::file_until(&audit, |text| text.contains("x/y")).await;
    let title = std::fs::read_to_string(format!("/proc/{}/cmdline", hub.pid())).unwrap();
    let outputs = [
        ("an answer", said.join("\n")),
        ("the status", status().await),
        ("the log", hub.log()),
        ("the audit", std::fs::read_to_string(audit).unwrap()),
        ("the process title", title),
    ];
    for (place, secret) in places.iter().zip(&secrets) {
        for (name, output) in &outputs {
            let at = output.find(secret.as_str());
            let around = at.map(|at| output[output.floor_char_boundary(at.saturating_sub(200))..at].to_owned());
            assert_eq!(around, None, "the secret of {place} is in {name}");
        }
    }
}
