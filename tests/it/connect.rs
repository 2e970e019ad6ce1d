//! `hubward connect`: a remote server on stdin and stdout.
//!
//! Names that begin with `s2_`, `s3_` and `s4_` are rows of the lists of features of the bridges that it replaces.

mod deeds;
mod flags;
mod wire;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::fixture::hubward;

const PATIENCE: Duration = Duration::from_secs(20);

/// A bridge that runs, and our end of it.
pub struct Bridge {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
    next: i64,
}

impl Bridge {
    pub fn start(args: &[&str]) -> Bridge {
        Bridge::with(args, &[])
    }

    pub fn with(args: &[&str], variables: &[(&str, &str)]) -> Bridge {
        Bridge::verb(&[&["connect"], args].concat(), variables)
    }

    pub fn verb(args: &[&str], variables: &[(&str, &str)]) -> Bridge {
        let mut command = hubward(args);
        for name in ["MCP_SERVER_URL", "SSE_URL", "API_ACCESS_TOKEN", "MCP_CLIENT_ID", "MCP_CLIENT_SECRET", "LOG_LEVEL"]
        {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        let mut command = Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("hubward runs");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        Bridge { child, stdin, stdout: BufReader::new(stdout).lines(), next: 1 }
    }

    pub async fn line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    }

    pub async fn say(&mut self, message: &Value) {
        self.line(&message.to_string()).await;
    }

    /// The next line, which has to be a message.
    pub async fn hear(&mut self) -> Value {
        let line =
            timeout(PATIENCE, self.stdout.next_line()).await.expect("an answer in time").expect("it can be read");
        let line = line.expect("stdout is open");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    pub fn request(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params })
    }

    /// A request's answer; nothing else may come before.
    pub async fn ask(&mut self, method: &str, params: Value) -> Value {
        let request = self.request(method, params);
        self.say(&request).await;
        let answer = self.hear().await;
        assert_eq!(answer["id"], request["id"], "{answer}");
        answer
    }

    pub async fn open(&mut self) -> Value {
        let answer = self.ask("initialize", initialize("2025-06-18")).await;
        self.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        answer
    }

    pub async fn echo(&mut self, text: &str) -> String {
        let answer = self.ask("tools/call", json!({ "name": "echo", "arguments": { "text": text } })).await;
        answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Closes stdin: what came after that, the exit code, what was said on stderr, and how long it took.
    pub async fn close(mut self) -> (Vec<Value>, i32, String, Duration) {
        drop(self.stdin.take());
        let began = Instant::now();
        let mut rest = Vec::new();
        while let Some(line) = timeout(PATIENCE, self.stdout.next_line()).await.expect("it ends").expect("text") {
            rest.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")));
        }
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("a status");
        let took = began.elapsed();
        let mut said = String::new();
        let stderr = self.child.stderr.as_mut().expect("a pipe");
        stderr.read_to_string(&mut said).await.expect("text");
        (rest, status.code().unwrap_or(-1), said, took)
    }
}

pub fn initialize(revision: &str) -> Value {
    json!({ "protocolVersion": revision, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } })
}
