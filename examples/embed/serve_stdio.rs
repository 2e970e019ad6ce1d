//! A server elsewhere, served to whoever is at the other end of a link (S4.78). Here that is this program; with
//! `hubward::link::stdio::open(16 << 20)?` it is our own stdin and stdout.

use std::net::TcpListener;

use hubward::{
    Config, Hub, Name, Serving, Shutdown, UpstreamConfig,
    config::{RemoteConfig, Text},
    link::{Inbound, pair},
    serve_stdio,
    wire::message,
};

use super::{Outcome, server};

pub async fn run() -> Outcome {
    // The server elsewhere.
    let far = Hub::builder(Config::default()).inside(Name::new("within")?, server::start);
    let far = Serving::start(far, vec![TcpListener::bind("127.0.0.1:0")?]).await?;

    // Its transport and era are found out; `UpstreamConfig::new("uvx", …)` in its place would be a command.
    let mut upstream = UpstreamConfig::new("", std::env::current_dir()?);
    upstream.remote = Some(RemoteConfig::new(Text::from(format!("{}/within/mcp", far.bases[0]))));
    let config = Config::of(Name::new("far")?, upstream);
    let (link, mut client) = pair();
    let served = actix_web::rt::spawn(serve_stdio(config, link, Shutdown::default()));

    let open = r#"{"jsonrpc":"2.0","id":"a","method":"initialize","params":{"protocolVersion":"2025-06-18",
"capabilities":{},"clientInfo":{"name":"example","version":"1"}}}"#;
    let call =
        r#"{"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"shout","arguments":{"text":"far"}}}"#;
    for line in [open, call] {
        let line = message::one(line.replace('\n', "").into()).ok_or("no message")?;
        client.to.send(Inbound::Message(line)).await?;
        let answer = client.from.recv().await.ok_or("no answer")?.bytes;
        println!("{}", String::from_utf8_lossy(&answer));
    }
    // It ends with its client.
    drop(client);
    served.await??;
    println!("ended");

    let nothing = serve_stdio(Config::default(), pair().0, Shutdown::default()).await;
    println!("refused: {}", nothing.err().ok_or("nothing was served")?);
    far.stop().await;
    Ok(())
}
