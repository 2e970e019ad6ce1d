//! `--tunnel` of `serve` and `proxy`: what is wanted, and where it came to lead.

use tokio::sync::watch;
use url::Url;

use super::serve::announce;
use crate::{config::TunnelConfig, link::tunnel::State, run::Running, shutdown::Shutdown};

/// What the flags come to.
pub fn config(name: Option<String>, server: Option<Url>) -> Result<TunnelConfig, String> {
    let server = server.map_or_else(|| Url::parse(TunnelConfig::SERVER), Ok);
    Ok(TunnelConfig { server: server.map_err(|error| error.to_string())?, name })
}

/// Serves until told to stop, and prints the URLs of the tunnel once it is open, and others when they change.
pub async fn serve(running: Running, shutdown: Shutdown, urls: impl Fn(&Running, &[String]) -> Vec<String>) {
    let (changes, paths) = (running.serving.hub.house.tunnel.subscribe(), urls(&running, &[String::new()]));
    tokio::select! {
        () = running.until(shutdown) => {}
        () = follow(changes, &paths) => {}
    }
}

async fn follow(mut changes: watch::Receiver<State>, paths: &[String]) {
    let mut before = None;
    loop {
        let base = changes.borrow_and_update().lease().map(|lease| lease.base());
        if let Some(base) = base.filter(|base| before.as_ref() != Some(base)) {
            announce(paths.iter().map(|path| format!("{base}{path}")).collect());
            before = Some(base);
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
