//! A hub as a process of its own: what `serve` and `proxy` share beyond [`embed`](crate::embed).

#![cfg_attr(docsrs, doc(hidden))]

pub mod notify;
pub mod passed;

use std::{
    future::Future,
    io,
    net::{TcpListener, ToSocketAddrs},
    sync::Arc,
};

use tokio::sync::Semaphore;

#[cfg(unix)]
use crate::admin::{Admin, place, socket::Socket};
use passed::Passed;

use crate::{
    admin::SocketError,
    config::{Bind, Config, Scheme},
    embed::{Builder, ServeError, Serving},
    hub::Source,
    link::{keeper::Keeper, orphans, sandbox},
    server::socket::{Listener, listen_at},
    shutdown::Shutdown,
};

/// Reloads that may wait for their turn; each of them reads what is there then.
const RELOADS_MAX: usize = 16;

/// Why a hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {bind}: {error}{hint}")]
    Bind { bind: Bind, error: io::Error, hint: &'static str },
    #[error(
        "{0} can be reached from other machines, and nobody would have to show who they are: `hubward token new NAME` \
         makes a token to ask for; or bind a loopback address; or say `allow_unauthenticated = true` in [hub.auth]"
    )]
    Exposed(Bind),
    #[error(
        "a tunnel leads here from everywhere, and nobody would have to show who they are: `hubward token new NAME` \
         makes a token to ask for; or say `allow_unauthenticated = true` in [hub.auth]"
    )]
    Bare,
    #[error("{0} needs a certificate; add tls = {{ cert = \"…\", key = \"…\" }} to [hub]")]
    NoCertificate(Bind),
    #[error("{0}")]
    Passed(String),
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
    #[error("{0}; another place can be named as admin_socket in [hub]")]
    Admin(#[from] SocketError),
    #[error(transparent)]
    Served(#[from] ServeError),
}

/// A hub that listens.
pub struct Running {
    /// The listeners, and the hub behind them.
    pub serving: Serving,
    keeper: Option<Keeper>,
    /// Somebody else holds a socket of ours as well: who comes while we end is served by the hub after us.
    succeeded: bool,
    /// Ends with the hub, and the socket with it.
    #[cfg(unix)]
    admin: Option<Admin>,
}

/// Runs a future on an actix System of its own, on this thread.
pub fn on_system<T>(future: impl Future<Output = T>) -> T {
    actix_web::rt::System::new().block_on(future)
}

/// Binds all addresses of a configuration, before anything else is started; what was passed is taken in place of an
/// address of its own. `certified`: the hub has a certificate.
pub fn bind(binds: &[Bind], certified: bool, mut passed: Vec<Passed>) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    if let Some(bare) = binds.iter().find(|bind| bind.is_secure(certified) && !certified) {
        return Err(StartError::NoCertificate(bare.clone()));
    }
    for bind in binds {
        if let Some(listener) = passed::take(&mut passed, bind, certified) {
            listeners.push(listener?);
            continue;
        }
        let others = !passed.is_empty();
        let failed = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse if others => {
                    "; systemd may hold it, for it passed another: `bind` has to name what `ListenStream=` names"
                }
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
    for one in passed {
        tracing::error!("{one} was passed to us, and no address in `bind` is that: who comes there waits in vain");
    }
    Ok(listeners)
}

impl Running {
    /// Binds, serves, and then brings up the upstreams: it listens before any child starts.
    ///
    /// For programs: nobody of the same user may look into this process any more, it becomes the parent of orphaned
    /// descendants, and starts a keeper that ends what is left should it be killed. [`embed`](crate::embed) does none of
    /// that.
    pub async fn start(config: Config, hash: String, source: Option<Source>) -> Result<Running, StartError> {
        if let Some(open) = config.hub.exposed() {
            return Err(StartError::Exposed(open.clone()));
        }
        if config.hub.bares_all() {
            return Err(StartError::Bare);
        }
        let passed = passed::taken()?;
        let succeeded = !passed.is_empty();
        let listeners = bind(&config.hub.bind, config.hub.tls.is_some(), passed)?;
        sandbox::keep_secrets();
        if let Err(error) = orphans::adopt() {
            tracing::warn!("children that escape their process group cannot be found: {error}");
        }
        let keeper = crate::link::keeper::start();
        if let Err(error) = &keeper {
            tracing::warn!("no keeper: should the hub be killed, grandchildren may be left: {error}");
        }
        #[cfg(unix)]
        let socket = admin_socket(&config, source.as_ref())?;
        let executable = std::env::current_exe().ok();
        let builder = Builder { hash, source, executable, ..config.into() };
        let serving = Serving::start(builder, listeners).await?;
        #[cfg(unix)]
        let (house, hub) = (serving.hub.house.clone(), serving.hub.address.clone());
        Ok(Running {
            keeper: keeper.ok(),
            succeeded,
            #[cfg(unix)]
            admin: socket.map(|socket| Admin::serve(socket, house, hub)),
            serving,
        })
    }

    /// Has the file read again, from any thread.
    pub fn reloader(&self) -> impl Fn() + Clone + Send + Sync + 'static {
        let (house, hub) = (self.serving.hub.house.clone(), self.serving.hub.address.clone());
        let (arbiter, turns) =
            (actix_web::rt::System::current().arbiter().clone(), Arc::new(Semaphore::new(RELOADS_MAX)));
        move || {
            let Ok(turn) = turns.clone().try_acquire_owned() else { return };
            let (house, hub) = (house.clone(), hub.clone());
            arbiter.spawn(async move {
                let _ = house.reload(&hub).await;
                drop(turn);
            });
        }
    }

    /// Serves until told to stop, then finishes what is under way, up to the deadline.
    pub async fn until(self, shutdown: Shutdown) {
        let supervisor = notify::begin(&self.serving.hub.house);
        shutdown.soon.cancelled().await;
        supervisor.iter().for_each(notify::Supervisor::stopping);
        self.serving.end(&shutdown, self.succeeded).await;
        #[cfg(unix)]
        drop(self.admin);
        // Last: it would take what still runs for left behind.
        drop(self.keeper);
    }
}

/// The socket for commands. It is for hubs of a file; only one that is named there has to open.
#[cfg(unix)]
fn admin_socket(config: &Config, source: Option<&Source>) -> Result<Option<Socket>, SocketError> {
    if let Some(path) = &config.hub.admin_socket {
        return Socket::open(path).map(Some);
    }
    let Some(source) = source else { return Ok(None) };
    Ok(Socket::open(&place::default(&source.path))
        .inspect_err(|error| tracing::warn!("{error}; `hubward reload` and the like do not reach this hub"))
        .ok())
}
