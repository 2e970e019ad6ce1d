//! What `connect` does in place of connecting.

use super::*;
use crate::{fixture::Hub, issuer::Issuer};

/// Runs to the end: the code, stdout, stderr.
async fn run(args: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::from(hubward(&[&["connect"], args].concat()));
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn s3_9_s3_11_to_s3_15_the_flags_that_ask_one_thing() {
    let hub = Hub::start("[upstreams.demo]\ncommand = \"hubward\"\nargs = [\"demo\"]\n");
    let url = hub.url("/demo/mcp");
    let cases: [(&[&str], &str); 8] = [
        (&["--test-auth"], "hubward-demo"),
        (&["--list-tools"], "echo"),
        (&["--list-resources"], "demo://readme"),
        (&["--list-prompts"], "introduce"),
        (&["-c", "add a=2 b=3"], "5"),
        (&["-c", r#"add {"a": 20, "b": 3}"#], "23"),
        (&["-c", r#"echo text="two words""#], "two words"),
        (&["--raw", r#"{"method":"tools/list"}"#], "\"result\""),
    ];
    for (args, expected) in cases {
        let (code, told, said) = run(&[&[url.as_str()], args].concat(), &[]).await;
        assert!(code == 0 && told.contains(expected), "{args:?}: {code} {told} {said}");
    }
    let (code, _, said) = run(&[&url, "-c", "nosuch"], &[]).await;
    assert!(code == 1 && said.contains("echo"), "the tools that there are: {code} {said}");
    assert_eq!(run(&[&url, "--raw", "{"], &[]).await.0, 2);
}

#[tokio::test]
async fn s3_6_s3_7_s3_10_s3_16_to_s3_19_a_login_is_shown_printed_managed_and_forgotten() {
    let issuer = Issuer::start().await;
    let home = tempfile::tempdir().expect("a folder");
    let state = home.path().to_str().expect("text");
    let variables = [("XDG_STATE_HOME", state), ("STATE_DIRECTORY", ""), ("BROWSER", "true")];
    let url = issuer.url();
    let (code, told, said) = visited(&[&url, "--no-browser", "--token"], &variables).await;
    assert_eq!(code, 0, "{told} {said}");
    assert!(told.contains("export MCP_CLIENT_ACCESS_TOKEN='"), "{told}");
    assert!(said.contains("not logged in"), "{said}");
    // There is one now: nobody is asked again.
    let (code, again, said) = run(&[&url, "--token"], &variables).await;
    assert!(code == 0 && again.contains("export MCP_CLIENT_ID='"), "{again} {said}");
    let (code, told, said) = run(&[&url, "--get-client-info"], &variables).await;
    assert!(code == 0 && told.contains("client_id"), "{told} {said}");
    let (code, _, said) = run(&[&url, "--update-client", "client_name=Other", "--yes"], &variables).await;
    assert_eq!(code, 0, "{said}");
    let (code, _, said) = run(&[&url, "--update-client", "client_id=x", "--yes"], &variables).await;
    assert!(code == 2 && said.contains("cannot be changed"), "{said}");
    let (code, _, said) = run(&[&url, "--delete-client"], &variables).await;
    assert!(code == 2 && said.contains("nothing is deleted"), "{said}");
    let (code, _, said) = run(&[&url, "--reset-auth", "--get-client-info"], &variables).await;
    assert!(code == 1 && said.contains("forgotten"), "it goes on with what else was asked: {code} {said}");
}

/// Runs to the end, and visits the first address of a login that is told, as a browser would.
async fn visited(args: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::from(hubward(&[&["connect"], args].concat()));
    command.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut said = String::new();
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("text") {
        if let Some(at) = line.find("http").filter(|_| line.contains("response_type=")) {
            reqwest::get(&line[at..]).await.expect("the browser arrives");
        }
        said.push_str(&line);
        said.push('\n');
    }
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("a status");
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).expect("text"), said)
}
