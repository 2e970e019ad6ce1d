//! A hub over HTTP, of a configuration that is in no file (S4.65, S4.66, S1.47).

use std::net::TcpListener;

use hubward::{Config, Hub, Name, Shutdown, serve_http};

use super::{Outcome, client::Client, server};

pub async fn run() -> Outcome {
    // The keys of hub.toml, whose mistakes are drawn under their lines; or build the `Config` field by field.
    let config: Config = "[hub]\nsse_path = '/events'\nstateless = false\n".parse()?;
    // Beside commands and URLs: a server of this program, for each session a fresh one.
    let hub = Hub::builder(config).inside(Name::new("within")?, server::start);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/within/mcp", listener.local_addr()?);
    let shutdown = Shutdown::default();
    let served = actix_web::rt::spawn(serve_http(hub, vec![listener], shutdown.clone()));

    let client = Client::open(url, &[]).await?;
    println!("the server said {}", client.shout("hello").await?);

    // As a signal would (`Shutdown::listen`): what is under way finishes first.
    shutdown.soon.cancel();
    served.await??;
    println!("the hub has ended");

    // An address that others reach, where nobody would have to show who they are.
    let open = serve_http(Config::default(), vec![TcpListener::bind("0.0.0.0:0")?], shutdown).await;
    println!("refused: {}", open.err().ok_or("an open hub")?);
    Ok(())
}
