//! Two links put together, and one looked on at (S4.76, S4.79).

use std::{ffi::OsString, time::Duration};

use hubward::{
    Passed, ProcessSpec,
    link::{Inbound, pair, process, sandbox::Sandbox},
    proxy, tap,
    wire::message,
};
use tokio::sync::mpsc;

use super::{Outcome, server};

pub async fn run() -> Outcome {
    // A link to a server; whoever watches it must not block.
    let (saw, mut seen) = mpsc::channel(16);
    let watched = tap(server::start(), move |passed| {
        let _ = saw.try_send(match passed {
            Passed::To(outbound) => format!("> {}", String::from_utf8_lossy(&outbound.bytes)),
            Passed::From(Inbound::Message(message)) => format!("< {}", String::from_utf8_lossy(message.bytes())),
            Passed::From(other) => format!("< {other:?}"),
            Passed::Close => "we have ended".into(),
            Passed::Closed => "the server has ended".into(),
        });
    });
    // A link to a client, and between the two nothing but a proxy.
    let (link, mut client) = pair();
    let between = tokio::spawn(proxy(link, watched));
    let ping = message::one(r#"{"jsonrpc":"2.0","id":"mine","method":"ping"}"#.into()).ok_or("no message")?;
    client.to.send(Inbound::Message(ping)).await?;
    let answer = client.from.recv().await.ok_or("no answer")?.bytes;
    println!("the client got {}", String::from_utf8_lossy(&answer));
    drop(client);
    between.await?;
    while let Some(line) = seen.recv().await {
        println!("{line}");
    }

    // A child process is a link as well; what it must not see it is not given.
    let spec = ProcessSpec {
        name: "cat".into(),
        command: "cat".into(),
        args: Vec::<OsString>::new(),
        env: vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())],
        cwd: std::env::temp_dir(),
        stop_timeout: Duration::from_secs(5),
        message_bytes_max: 1 << 20,
        strict_stdout: false,
        sandbox: Sandbox::default(),
        hears: None,
    };
    let (child, mut link) = process::spawn(&spec, &tokio::runtime::Handle::current())?;
    link.to.send(bytes::Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/x"}"#).into()).await?;
    if let Some(Inbound::Message(message)) = link.from.recv().await {
        println!("the child said {}", message.method());
    }
    child.stop();
    println!("the child {}", child.exited().await);
    Ok(())
}
