//! A hub that listens, from its sockets to its last answer.

use std::{sync::Arc, time::Duration};

use actix_web::dev::ServerHandle;

use super::{Builder, Hub, ServeError};
use crate::{
    config::{self, HubTls, Watch},
    hub::{Drain, House},
    link::tunnel::TunnelSpec,
    server::{self, socket::Listener, tunnel::Tunnel},
    shutdown::Shutdown,
};

/// How long those who were let in last may take to say what they want, where the next hub lets in those that come.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Serves a hub on listeners that are bound already, such as a `std::net::TcpListener`, until told to stop; then
/// finishes what is under way, up to `hub.drain_timeout`. Resolves when the last process has ended.
///
/// `hub` is a [`Config`](crate::Config), or a [`Builder`] with hooks. `hub.bind` of the configuration means nothing here. A listener that
/// others reach is refused where nobody would have to show who they are. Signals are the program's business:
/// [`Shutdown::listen`] takes them, [`Shutdown::default`] is told by its own tokens.
///
/// Unlike the daemon ([`run::Running`](crate::run::Running)) it changes nothing of the process: it adopts no orphans, starts
/// no keeper, opens no admin socket, and tells systemd nothing.
pub async fn serve_http(
    hub: impl Into<Builder>,
    listeners: Vec<impl Into<Listener>>,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let serving = Serving::start(hub, listeners).await?;
    tokio::select! {
        () = shutdown.soon.cancelled() => {}
        () = shutdown.now.cancelled() => {}
    }
    serving.end(&shutdown, false).await;
    Ok(())
}

/// A hub that listens. [`serve_http`] is all of it in one call; this is for programs that need the [`Hub`] meanwhile.
pub struct Serving {
    /// The hub.
    pub hub: Hub,
    /// With what the URLs begin: `https://127.0.0.1:8808`, `http://unix:/run/hubward.sock:`.
    pub bases: Vec<String>,
    listeners: Vec<Listener>,
    renewals: Option<Watch>,
    tunnel: Option<Tunnel>,
    server: ServerHandle,
}

impl Serving {
    /// Serves, and then brings up the upstreams: it listens before any child starts.
    pub async fn start(hub: impl Into<Builder>, listeners: Vec<impl Into<Listener>>) -> Result<Serving, ServeError> {
        let builder: Builder = hub.into();
        let listeners: Vec<Listener> = listeners.into_iter().map(Into::into).collect();
        let known = builder.hooks.authenticate.is_some() || builder.config.hub.is_guarded();
        for listener in &listeners {
            // Nonblocking whoever bound it: a worker must never wait in `accept`.
            let address = listener.prepare()?;
            if let Some(open) = address.filter(|address| !known && !address.ip().to_canonical().is_loopback()) {
                return Err(ServeError::Exposed(open));
            }
        }
        let (hub, config) = builder.open();
        let tunnel = config.hub.tunnel.clone();
        let bases: Vec<String> = listeners.iter().map(Listener::to_string).collect();
        let _ = hub.house.listeners.set(bases.clone());
        let server = server::accept::listen(hub.front.clone(), &listeners)?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        if let Err(error) = hub.begin(config).await {
            handle.stop(false).await;
            return Err(error.into());
        }
        let tunnel = tunnel.map(|tunnel| TunnelSpec { server: tunnel.server, name: tunnel.name });
        let tunnel = tunnel.map(|spec| Tunnel::open(hub.front.clone(), spec));
        let renewals = renewals(&hub.house);
        Ok(Serving { hub, bases, listeners, renewals, tunnel, server: handle })
    }

    /// Finishes what is under way, up to `hub.drain_timeout`, and ends. Resolves when the last process has ended.
    pub async fn stop(self) {
        self.end(&Shutdown::default(), false).await;
    }

    /// The same, or the end at once where `shutdown.now` says so. `succeeded`: somebody else holds a socket of ours as
    /// well, and serves who comes from here on.
    pub(crate) async fn end(self, shutdown: &Shutdown, succeeded: bool) {
        let finish = async {
            self.hub.leave().await;
            if succeeded {
                // Who comes from here on waits in the socket, where the next hub finds them (F107).
                self.server.pause().await;
                tokio::time::sleep(LAST_WORDS).await;
            }
            self.hub.drain().await;
        };
        tokio::select! {
            () = finish => tracing::info!("done"),
            () = shutdown.now.cancelled() => {
                tracing::warn!("ending at once");
                let _ = self.hub.address.send(Drain::Now).await;
            }
        }
        self.hub.house.farewell().await;
        drop(self.renewals);
        self.server.stop(false).await;
        // After all sessions: their last words go this way (S4.47).
        if let Some(tunnel) = self.tunnel {
            tunnel.close().await;
        }
        self.hub.house.rest();
        drop(self.listeners);
    }
}

/// Renewed files of the certificate are taken over as they come.
fn renewals(house: &Arc<House>) -> Option<Watch> {
    house.config.load().tls.as_ref()?;
    let [named, renewed] = [house.clone(), house.clone()];
    let paths = move || named.config.load().tls.iter().flat_map(HubTls::paths).collect();
    let watch = config::watch_all(paths, move || renewed.renew());
    // What came between the reading and the watching.
    house.renew();
    watch.inspect_err(|error| tracing::warn!("{error}; a renewed certificate is taken over at a reload")).ok()
}
