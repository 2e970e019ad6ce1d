//! A hub from its listeners to its last process: what `serve`, `proxy` and embedders share.

use std::{
    future::Future,
    io,
    net::{TcpListener, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::dev::ServerHandle;

use crate::{
    auth::Credentials,
    config::{self, Bind, Config, Name, Scheme, Watch},
    hub::{Apply, Drain, House, Hub, HubAddress, ReloadError, Source},
    link::{Link, keeper::Keeper, orphans},
    server::{
        self, Front,
        socket::{Listener, listen_at},
        stdio::Hides,
    },
    shutdown::Shutdown,
};

/// How long what is under way may take when a client on stdin has gone.
const FAREWELL_MAX: Duration = Duration::from_millis(100);

/// Why a hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {bind}: {error}{hint}")]
    Bind { bind: Bind, error: io::Error, hint: &'static str },
    #[error("{0} can be reached from other machines, which needs authentication; bind a loopback address")]
    Exposed(Bind),
    #[error("{0} needs a certificate; add tls = {{ cert = \"…\", key = \"…\" }} to [hub]")]
    NoCertificate(Bind),
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
    #[error(transparent)]
    Config(#[from] ReloadError),
}

/// A hub that listens.
pub struct Running {
    pub house: Arc<House>,
    pub hub: HubAddress,
    /// With what the URLs begin: `https://127.0.0.1:8808`, `http://unix:/run/hubward.sock:`.
    pub bases: Vec<String>,
    listeners: Vec<Listener>,
    renewals: Option<Watch>,
    front: Arc<Front>,
    server: ServerHandle,
    keeper: Option<Keeper>,
}

/// Runs a future on an actix System of its own, on this thread.
pub fn on_system<T>(future: impl Future<Output = T>) -> T {
    actix_web::rt::System::new().block_on(future)
}

/// Binds all addresses of a configuration, before anything else is started. `certified`: the hub has a certificate.
pub fn bind(binds: &[Bind], certified: bool) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    if let Some(open) = binds.iter().find(|bind| !bind.is_loopback()) {
        return Err(StartError::Exposed(open.clone()));
    }
    if let Some(bare) = binds.iter().find(|bind| bind.is_secure(certified) && !certified) {
        return Err(StartError::NoCertificate(bare.clone()));
    }
    for bind in binds {
        let failed = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "; another program holds it (`ss -lxtnp` shows which), or another hubward runs"
                }
                io::ErrorKind::PermissionDenied if !bind.is_socket_file() => {
                    "; ports below 1024 need a privilege, choose a higher one"
                }
                _ => "",
            };
            StartError::Bind { bind: bind.clone(), error, hint }
        };
        if let Scheme::Unix(path) = &bind.scheme {
            listeners.push(listen_at(path).map_err(failed)?);
            continue;
        }
        let host = bind.host.trim_matches(['[', ']']);
        let addresses = (host, bind.port).to_socket_addrs().map_err(failed)?;
        let mut last = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for address in addresses {
            last = TcpListener::bind(address);
            if last.is_ok() {
                break;
            }
        }
        let listener = last.map_err(failed)?;
        listener.set_nonblocking(true)?;
        listeners.push(match bind.is_secure(certified) {
            true => Listener::Tls(listener),
            false => Listener::Plain(listener),
        });
    }
    Ok(listeners)
}

impl Running {
    /// Binds, serves, and then brings up the upstreams: it listens before any child starts.
    ///
    /// For programs: it becomes the parent of orphaned descendants, and starts a keeper that ends what is left
    /// should this process be killed.
    pub async fn start(config: Config, hash: String, source: Option<Source>) -> Result<Running, StartError> {
        let listeners = bind(&config.hub.bind, config.hub.tls.is_some())?;
        if let Err(error) = orphans::adopt() {
            tracing::warn!("children that escape their process group cannot be found: {error}");
        }
        let keeper = crate::link::keeper::start();
        if let Err(error) = &keeper {
            tracing::warn!("no keeper: should the hub be killed, grandchildren may be left: {error}");
        }
        Running::serve(config, hash, source, listeners, keeper.ok()).await
    }

    /// Serves on listeners that are bound already.
    pub async fn serve(
        config: Config,
        hash: String,
        source: Option<Source>,
        listeners: Vec<Listener>,
        keeper: Option<Keeper>,
    ) -> Result<Running, StartError> {
        let house = House::new(&config);
        let bases = listeners.iter().map(Listener::to_string).collect();
        let front = Front::new(house.clone());
        let server = server::listen(front.clone(), &listeners)?;
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let hub = Hub::start(house.clone(), config.clone(), hash, source);
        hub.send(Apply(config)).await.unwrap_or(Err(ReloadError::Draining))?;
        let renewals = renewals(&house);
        Ok(Running { house, hub, bases, listeners, renewals, front, server: handle, keeper })
    }

    /// Serves until told to stop, then finishes what is under way, up to the deadline.
    pub async fn until(self, shutdown: Shutdown) {
        shutdown.soon.cancelled().await;
        tokio::select! {
            () = self.drain() => tracing::info!("done"),
            () = shutdown.now.cancelled() => {
                tracing::warn!("ending at once");
                let _ = self.hub.send(Drain::Now).await;
            }
        }
        drop(self.renewals);
        self.server.stop(false).await;
        drop(self.listeners);
        // Last: it would take what still runs for left behind.
        drop(self.keeper);
    }

    async fn drain(&self) {
        let deadline = Instant::now() + self.house.config.load().drain_timeout;
        // New work is refused from here on. It is still answered, so that callers know; a balancer sees /readyz.
        self.house.draining.cancel();
        self.house.see_off();
        self.front.settled(deadline).await;
        let _ = self.hub.send(Drain::Until(deadline)).await;
        self.front.flushed().await;
    }
}

/// Renewed files of the certificate are taken over as they come.
fn renewals(house: &Arc<House>) -> Option<Watch> {
    house.config.load().tls.as_ref()?;
    let [named, renewed] = [house.clone(), house.clone()];
    let paths = move || named.config.load().tls.iter().flat_map(config::HubTls::paths).collect();
    let watch = config::watch_all(paths, move || renewed.renew());
    // What came between the reading and the watching.
    house.renew();
    watch.inspect_err(|error| tracing::warn!("{error}; a renewed certificate is taken over at a reload")).ok()
}

/// Serves one upstream of a configuration, which is asked with these credentials, to whoever is at the other end of a link, and listens nowhere. Ends with the
/// link, or when told to.
pub async fn serve_stdio(
    config: Config,
    name: &Name,
    credentials: Arc<Credentials>,
    hides: Option<Hides>,
    link: Link,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let house = House::new(&config);
    let _ = house.engine.credentials.set(credentials);
    // There are no workers: this thread does it all.
    house.engine.workers.register();
    let hub = Hub::start(house.clone(), config.clone(), String::new(), None);
    hub.send(Apply(config)).await.unwrap_or(Err(ReloadError::Draining))?;
    if let Some(route) = house.table.find(name.as_str()) {
        tokio::select! {
            () = server::stdio::serve(house, route, link, hides) => {}
            () = shutdown.soon.cancelled() => {}
        }
    }
    let _ = hub.send(Drain::Until(Instant::now() + FAREWELL_MAX)).await;
    Ok(())
}
