//! Hears those who connect: one command each, in bounded time.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    LINE_BYTES_MAX,
    command::{self, Command},
    is_own,
    socket::{Held, Socket},
};
use crate::hub::{House, HubAddress};

/// Clients at once; the next one waits in the socket's own queue.
const CLIENTS_MAX: usize = 32;
/// A question must have come within this time, and each line of an answer must be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after an error to accept: mostly the descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What commands need.
#[derive(Clone)]
pub struct Desk {
    pub house: Arc<House>,
    pub hub: HubAddress,
}

/// The socket, as long as it is served.
pub struct Admin {
    _ends: DropGuard,
    _held: Held,
}

impl Admin {
    /// Serves the socket on the current runtime, until dropped.
    pub fn serve(socket: Socket, house: Arc<House>, hub: HubAddress) -> Admin {
        let ends = CancellationToken::new();
        let (over, desk) = (ends.clone(), Desk { house, hub });
        let Socket { listener, held } = socket;
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = accept(&listener, desk, &over) => {}
                () = over.cancelled() => {}
            }
        });
        Admin { _ends: ends.drop_guard(), _held: held }
    }
}

async fn accept(listener: &UnixListener, desk: Desk, over: &CancellationToken) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("the admin socket takes nobody: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !is_own(&stream) {
            tracing::warn!("a process of another user was turned away at the admin socket");
            continue;
        }
        let (desk, over) = (desk.clone(), over.clone());
        tokio::task::spawn_local(async move {
            let _place = place;
            tokio::select! {
                () = hear(stream, &desk) => {}
                () = over.cancelled() => {}
            }
        });
    }
}

/// One client, from its question to the last line of the answer.
async fn hear(stream: UnixStream, desk: &Desk) {
    let (from, to) = stream.into_split();
    let (mut from, mut answer) = (BufReader::new(from), Answer { to, gone: false });
    let (exit, error) = match question(&mut from).await {
        Err(why) => (2, Some(why)),
        Ok(command) => tokio::select! {
            done = command::run(command, desk, &mut answer) => match done {
                Ok(()) => (0, None),
                Err(why) => (1, Some(why)),
            },
            // What it asked for goes on where that cannot be stopped half way.
            () = left(&mut from) => return,
        },
    };
    let mut last = json!({ "done": true, "exit": exit });
    if let Some(error) = error {
        last["error"] = error.into();
    }
    answer.say(&last).await;
}

async fn question(from: &mut BufReader<OwnedReadHalf>) -> Result<Command, String> {
    let mut line = Vec::new();
    let mut bounded = from.take(LINE_BYTES_MAX as u64);
    match tokio::time::timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await {
        Err(_) => return Err(format!("no line within {PATIENCE:?}")),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(_)) if line.last() != Some(&b'\n') => {
            return Err(format!("a question is a line of at most {LINE_BYTES_MAX} bytes"));
        }
        Ok(Ok(_)) => {}
    }
    serde_json::from_slice(&line).map_err(|error| format!("this hub knows no such command: {error}"))
}

/// Resolves when the client has left. What it says beyond its question is not heard.
async fn left(from: &mut BufReader<OwnedReadHalf>) {
    let mut unheard = [0; 512];
    while from.read(&mut unheard).await.is_ok_and(|count| count > 0) {}
}

/// The way back to a client.
pub struct Answer {
    to: OwnedWriteHalf,
    gone: bool,
}

impl Answer {
    /// One line. A client that does not take it gets no more.
    pub async fn say(&mut self, line: &Value) {
        if self.gone {
            return;
        }
        let text = format!("{line}\n");
        let said = tokio::time::timeout(PATIENCE, self.to.write_all(text.as_bytes())).await;
        self.gone = !matches!(said, Ok(Ok(())));
    }
}
