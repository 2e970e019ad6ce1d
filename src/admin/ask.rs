//! The other end of the socket: a command that asks the hub, and prints what it answers.

use std::{io, ops::ControlFlow, path::Path, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use super::is_own;

/// Longest line of an answer: a list of ten thousand names.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How long a hub may take for the next line.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no hub answers at {path}: {why}")]
    NoHub { path: String, why: io::Error },
    #[error("{0} belongs to another user; ask as the user who runs the hub")]
    Stranger(String),
    #[error("the hub ended before it had answered")]
    Cut,
}

/// How a command ended.
pub struct Done {
    pub exit: u8,
    pub error: Option<String>,
}

/// Asks the hub one thing; `line` gets each line of the answer but the last, and may have enough.
pub async fn ask(
    path: &Path,
    question: &Value,
    mut line: impl FnMut(Value) -> ControlFlow<()>,
) -> Result<Done, AskError> {
    let shown = || path.display().to_string();
    let stream = UnixStream::connect(path).await.map_err(|why| AskError::NoHub { path: shown(), why })?;
    if !is_own(&stream) {
        return Err(AskError::Stranger(shown()));
    }
    let (from, mut to) = stream.into_split();
    to.write_all(format!("{question}\n").as_bytes()).await.map_err(|_| AskError::Cut)?;
    let mut from = BufReader::new(from);
    loop {
        let mut text = Vec::new();
        let mut bounded = (&mut from).take(ANSWER_BYTES_MAX);
        let read = tokio::time::timeout(PATIENCE, bounded.read_until(b'\n', &mut text)).await;
        let Ok(Ok(1..)) = read else { return Err(AskError::Cut) };
        let answer: Value = serde_json::from_slice(&text).map_err(|_| AskError::Cut)?;
        if answer["done"] == true {
            let exit = answer["exit"].as_u64().and_then(|exit| u8::try_from(exit).ok()).unwrap_or(1);
            return Ok(Done { exit, error: answer["error"].as_str().map(str::to_owned) });
        }
        // A sign of life, while there is nothing to say.
        if answer["alive"] != true && line(answer).is_break() {
            return Ok(Done { exit: 0, error: None });
        }
    }
}
