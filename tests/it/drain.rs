//! The end of the hub, wished for or not, and what it lives through (faults F100-F110).

use std::{
    fs,
    io::{PipeWriter, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::fixture::{
    Answer, Client, Hub, PATIENCE, SseClient, alive, eventually, file_until, http, hubward, initialize, post, rogue,
};

async fn pid(client: &Client) -> u32 {
    client.call("pid", json!({})).await.tool_text().parse().unwrap()
}

fn calling(client: &Client, tool: &'static str, arguments: Value) -> tokio::task::JoinHandle<Answer> {
    let client = client.clone();
    tokio::spawn(async move { client.call(tool, arguments).await })
}

#[tokio::test]
async fn f104_calls_in_flight_are_answered_streams_end_and_new_work_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log").display().to_string();
    let mut hub = Hub::start_in(folder, &rogue("a", &["--log", &log], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut older = SseClient::greeted(&hub, "/a/sse", json!({})).await;
    let (process, stream) = (pid(&client).await, client.get(None).await);
    let short = calling(&client, "sleep", json!({ "ms": 800 }));
    let long = calling(&client, "sleep", json!({ "ms": 2500 }));
    let call = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call",
                       "params": { "name": "sleep", "arguments": { "ms": 2000 } } });
    assert_eq!(older.send(&call).await, 202);
    file_until(log.as_ref(), |text| text.matches("\"sleep\"").count() == 3).await;
    hub.signal("TERM");
    stream.rest().await;
    let status = hub.until("it drains", |status| status["draining"] == true).await;
    assert_eq!(status["upstreams"][0]["pids"].as_array().unwrap().len(), 2);
    assert_eq!(http().get(hub.url("/readyz")).send().await.unwrap().status(), 503);
    let refused = client.call("pid", json!({})).await;
    assert_eq!((refused.status, &refused.last()["error"]["data"]["retryable"]), (503, &json!(true)));
    assert!(refused.headers.contains_key("retry-after"));
    let refused = post(&http(), &hub.url("/a/mcp"), &[], &initialize("2025-06-18", json!({}))).await;
    assert_eq!(refused.status, 503);
    assert_eq!(short.await.unwrap().tool_text(), "slept");
    assert_eq!(older.stream.message().await.unwrap()["result"]["content"][0]["text"], "slept");
    assert_eq!(older.stream.next().await, None);
    assert_eq!(long.await.unwrap().tool_text(), "slept");
    assert!(hub.ended().success());
    assert!(!alive(process));
}

#[tokio::test]
async fn f104_a_question_that_is_open_at_shutdown_can_still_be_answered() {
    let mut hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open_as(&hub, "/a/mcp", "2025-06-18", json!({ "elicitation": {} })).await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                       "params": { "name": "ask_elicitation", "arguments": { "message": "who?" } } });
    let mut stream = client.stream(&call).await;
    let question = stream.message().await.unwrap();
    hub.signal("TERM");
    hub.until("it drains", |status| status["draining"] == true).await;
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } });
    assert_eq!(client.send(&answer).await.status, 202);
    let text = stream.message().await.unwrap()["result"]["content"][0]["text"].to_string();
    assert!(text.contains("decline"), "{text}");
    assert!(hub.ended().success());
}

#[tokio::test]
async fn f104_what_does_not_finish_in_time_is_told() {
    let mut hub = Hub::start(&format!("[hub]\ndrain_timeout = '500ms'\n{}", rogue("a", &[], "")));
    let client = Client::open(&hub, "/a/mcp").await;
    let (process, hanging) = (pid(&client).await, calling(&client, "hang", json!({})));
    hub.until("it hangs", |status| status["upstreams"][0]["calls"] == 2).await;
    hub.signal("INT");
    let (code, why) = hanging.await.unwrap().error();
    assert_eq!(code, -32603);
    assert!(why.contains("shutting down"), "{why}");
    assert!(hub.ended().success());
    assert!(!alive(process));
}

#[tokio::test]
async fn f104_ten_stubborn_children_are_stopped_at_the_same_time() {
    let stubborn = |number| {
        let keys = "isolation = 'shared'\nstart = 'eager'\nstop_timeout = '2s'";
        rogue(&format!("u{number}"), &["--ignore-sigterm", "--ignore-eof"], keys)
    };
    let mut hub = Hub::start(&(0..10).map(stubborn).collect::<String>());
    let all = |status: &Value| -> Vec<u32> {
        let upstreams = status["upstreams"].as_array().unwrap().iter();
        upstreams.filter_map(|upstream| upstream["pids"][0].as_u64()).map(|pid| pid as u32).collect()
    };
    let pids = all(&hub.until("all run", |status| all(status).len() == 10).await);
    let began = Instant::now();
    hub.signal("TERM");
    assert!(hub.ended().success());
    let took = began.elapsed();
    assert!(took > Duration::from_secs(1), "they did not even resist: {took:?}");
    assert!(took < Duration::from_secs(8), "one after the other: {took:?}");
    assert!(pids.iter().all(|pid| !alive(*pid)));
}

#[tokio::test]
async fn f104_a_start_that_nobody_waits_for_holds_nothing_up() {
    let keys = "isolation = 'shared'\nstart = 'eager'\nstart_timeout = '60s'";
    let mut hub = Hub::start(&rogue("a", &["--never-initialize"], keys));
    hub.logged("starting upstream=a").await;
    let began = Instant::now();
    hub.signal("TERM");
    assert!(hub.ended().success());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn f105_a_second_signal_ends_at_once() {
    let mut hub = Hub::start(&rogue("a", &["--ignore-sigterm", "--ignore-eof"], "stop_timeout = '30s'"));
    let client = Client::open(&hub, "/a/mcp").await;
    let (process, _hanging) = (pid(&client).await, calling(&client, "hang", json!({})));
    hub.until("it hangs", |status| status["upstreams"][0]["calls"] == 2).await;
    hub.signal("TERM");
    hub.until("it drains", |status| status["draining"] == true).await;
    let began = Instant::now();
    hub.signal("INT");
    hub.ended();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(!alive(process));
}

#[tokio::test]
async fn f97_a_reload_during_the_drain_does_nothing() {
    let mut hub = Hub::start(&rogue("a", &[], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let slow = calling(&client, "sleep", json!({ "ms": 1500 }));
    hub.until("it sleeps", |status| status["upstreams"][0]["calls"] == 1).await;
    hub.signal("TERM");
    hub.until("it drains", |status| status["draining"] == true).await;
    let folder = tempfile::tempdir().unwrap();
    let counter = folder.path().join("counter");
    hub.edit(&rogue("a", &["--counter", &counter.display().to_string()], "start = 'eager'"));
    hub.signal("HUP");
    assert_eq!(slow.await.unwrap().tool_text(), "slept");
    assert!(hub.ended().success());
    assert!(!counter.exists(), "nothing was started");
}

#[tokio::test]
async fn f106_after_a_kill_nothing_is_left_and_clients_begin_anew() {
    let mut hub = Hub::start(&rogue("a", &["--ignore-eof", "--ignore-sigterm"], ""));
    let client = Client::open(&hub, "/a/mcp").await;
    let mut pids = vec![pid(&client).await];
    for tool in ["grandchild", "daemon"] {
        pids.push(client.call(tool, json!({})).await.tool_text().parse().unwrap());
    }
    assert!(pids.iter().all(|pid| alive(*pid)));
    hub.signal("KILL");
    hub.ended();
    eventually("child, grandchild and daemon end", || pids.iter().all(|pid| !alive(*pid))).await;
    let mut again = hubward(&["serve", "--bind", hub.base.strip_prefix("http://").unwrap(), "-c"]);
    let folder = std::mem::replace(&mut hub.folder, tempfile::tempdir().unwrap());
    again.arg(folder.path().join("hub.toml"));
    let hub = Hub::run(folder, again);
    let began = Instant::now();
    let unknown = client.call("pid", json!({})).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.error().1.contains("initialize"), "{unknown:?}");
    pid(&Client::open(&hub, "/a/mcp").await).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// User and system time of a process, in hundredths of a second.
fn cpu(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn f100_without_descriptors_it_serves_on_and_recovers() {
    const MAX: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    let restart = "restart = { max = 50, period = '60s', backoff_min = '100ms', backoff_max = '200ms' }";
    fs::write(&path, format!("{}{}", rogue("a", &[], ""), rogue("b", &[], restart))).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {MAX}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_hubward")]);
    shell.args(["serve", "--bind", "127.0.0.1:0", "-c"]).arg(&path);
    let hub = Hub::run(folder, shell);
    let client = Client::open(&hub, "/a/mcp").await;
    let process = pid(&client).await;
    let open = || fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap().count();
    let authority = hub.base.strip_prefix("http://").unwrap();
    let crowd: Vec<TcpStream> = (0..2 * MAX).map(|_| TcpStream::connect(authority).unwrap()).collect();
    eventually("no descriptor is left", || open() >= MAX).await;
    // Who is connected is served, and the wait for the others costs nothing.
    let before = cpu(hub.pid());
    assert_eq!(client.call("sleep", json!({ "ms": 900 })).await.tool_text(), "slept");
    assert!(cpu(hub.pid()) - before < 45, "it spins");
    assert_eq!(pid(&client).await, process);
    // No pipe can be made: that is an error with a time to come back.
    let refused = post(&client.http, &hub.url("/b/mcp"), &[], &initialize("2025-06-18", json!({}))).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    drop(crowd);
    let began = Instant::now();
    loop {
        let answer = post(&http(), &hub.url("/b/mcp"), &[], &initialize("2025-06-18", json!({}))).await;
        if answer.status == 200 {
            break;
        }
        assert!(answer.status == 503 && began.elapsed() < PATIENCE, "{answer:?}");
    }
    assert_eq!(pid(&client).await, process);
}

/// A pipe that is full: nobody reads it, and the next write waits for ever.
fn full() -> (std::io::PipeReader, PipeWriter) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'.'; 512]).is_ok() {}
    while writer.write(b".").is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// Where a process listens, as it cannot say it itself.
fn port(pid: u32) -> Option<u16> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|fd| {
            fs::read_link(fd.ok()?.path())
                .ok()?
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')
                .map(str::to_owned)
        })
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let ours = fields[3] == "0A" && sockets.iter().any(|socket| socket == fields[9]);
        ours.then(|| u16::from_str_radix(fields[1].split_once(':')?.1, 16).ok())?
    })
}

/// Ends with the test.
struct Silent(Child);

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn serves_although_nobody_listens(mut command: Command, folder: &Path) {
    fs::write(folder.join("hub.toml"), rogue("a", &[], "")).unwrap();
    let mut hub = Silent(command.stdin(Stdio::null()).spawn().unwrap());
    let pid = hub.0.id();
    eventually("it listens", || port(pid).is_some()).await;
    let url = format!("http://127.0.0.1:{}/a/mcp", port(pid).unwrap());
    let http = http();
    // Each session starts a process and makes lines of log, far more than fit.
    for _ in 0..30 {
        let answer = post(&http, &url, &[], &initialize("2025-06-18", json!({}))).await;
        assert_eq!(answer.status, 200);
        let session = [("mcp-session-id", answer.headers["mcp-session-id"].as_str())];
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                           "params": { "name": "stderr", "arguments": { "bytes": 20_000 } } });
        assert_eq!(post(&http, &url, &session, &call).await.tool_text(), "ok");
    }
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    let began = Instant::now();
    let status = loop {
        if let Some(status) = hub.0.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(status.success(), "{status}");
}

fn serve(folder: &Path) -> Command {
    let mut command = hubward(&["serve", "--bind", "127.0.0.1:0", "--log-level", "trace", "-c"]);
    command.arg(folder.join("hub.toml"));
    command
}

#[tokio::test]
async fn f110_full_pipes_at_stdout_and_stderr_hold_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let ((_out, stdout), (_err, stderr)) = (full(), full());
    let mut command = serve(folder.path());
    command.stdout(stdout).stderr(stderr);
    serves_although_nobody_listens(command, folder.path()).await;
}

#[tokio::test]
async fn f110_broken_pipes_at_stdout_and_stderr_end_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broken = || std::io::pipe().unwrap().1;
    let mut command = serve(folder.path());
    command.stdout(broken()).stderr(broken());
    serves_although_nobody_listens(command, folder.path()).await;
}

#[tokio::test]
async fn f110_closed_stdout_and_stderr_end_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let serve = serve(folder.path());
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" >&- 2>&-", "sh"]).arg(serve.get_program()).args(serve.get_args());
    serves_although_nobody_listens(command, folder.path()).await;
}
