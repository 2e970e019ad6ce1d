//! From the listeners to the requests: the workers, and what is set for each connection.

use std::{any::Any, io, net::SocketAddr, sync::Arc, time::Duration};

use actix_http::{HttpService, Protocol, error::DispatchError};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{
    IntoServiceFactory as _, ServiceFactory, ServiceFactoryExt as _, fn_factory, fn_service, map_config,
};
use actix_tls::accept::TlsError;
use actix_web::{App, dev::AppConfig};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    Front,
    handshake::Handshakes,
    mount,
    socket::{self, Listener},
    tls,
};

/// A head must have arrived within this time (F31).
pub(super) const HEAD_WAIT_MAX: Duration = Duration::from_secs(5);
/// A client that was told to go may take this long.
pub(super) const DISCONNECT_WAIT_MAX: Duration = Duration::from_secs(2);

/// Serves the hub on listeners that are bound already. Must run on an actix System.
pub fn listen(front: Arc<Front>, listeners: &[Listener]) -> io::Result<Server> {
    let tls = tls::server_config(&front.house).map_err(io::Error::other)?.map(Arc::new);
    let config = front.house.config.load();
    let workers = config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    let per_worker = config.limits.connections_max.div_ceil(workers);
    let mut server =
        Server::build().workers(workers).max_concurrent_connections(per_worker).disable_signals().shutdown_timeout(1);
    let http = Http { keep_alive: config.keep_alive, ending: server.graceful_shutdown_signal(), front: front.clone() };
    for listener in listeners {
        let http = http.clone();
        server = match (listener, &tls) {
            (Listener::Plain(listener), _) => server.listen("http", listener.try_clone()?, move || {
                fn_service(|socket: TcpStream| async {
                    let address = settle(&socket);
                    Ok((socket, Protocol::Http1, address))
                })
                .and_then(http.service())
            })?,
            (Listener::Tls(listener), Some(tls)) => {
                let tls = tls.clone();
                server.listen("https", listener.try_clone()?, move || {
                    let tls = tls.clone();
                    let handshakes = move || {
                        let here = Handshakes::here(tls.clone());
                        async { Ok(here) }
                    };
                    fn_factory(handshakes).and_then(http.service().map_err(TlsError::Service))
                })?
            }
            (Listener::Tls(_), None) => return Err(io::Error::other("https needs a certificate")),
            #[cfg(unix)]
            (Listener::Unix(listener, _), _) => server.listen_uds("unix", listener.try_clone()?, move || {
                fn_service(|socket| async { Ok((socket, Protocol::Http1, None)) }).and_then(http.service())
            })?,
        };
    }
    Ok(server.run())
}

/// What is set for a connection over TCP; answers whose it is.
pub(super) fn settle(socket: &TcpStream) -> Option<SocketAddr> {
    // An event that follows another is not to wait until the client has acknowledged that (40 ms).
    let _ = socket.set_nodelay(true);
    socket.peer_addr().ok()
}

/// What serves each connection.
#[derive(Clone)]
struct Http {
    front: Arc<Front>,
    keep_alive: Duration,
    ending: GracefulShutdownSignal,
}

impl Http {
    /// As an `HttpServer` of actix-web does it, which leaves no room for a handshake of ours.
    fn service<T: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
    ) -> impl ServiceFactory<
        (T, Protocol, Option<SocketAddr>),
        Config = (),
        Response = (),
        Error = DispatchError,
        InitError = (),
    > + use<T> {
        let Http { front, keep_alive, ending } = self.clone();
        let app = App::new().configure(|config| mount(config, &front)).into_factory();
        HttpService::build()
            .keep_alive(keep_alive)
            .client_request_timeout(HEAD_WAIT_MAX)
            .client_disconnect_timeout(DISCONNECT_WAIT_MAX)
            // Without it a client that leaves is noticed when its answer is written, and not before.
            .h1_allow_half_closed(false)
            .on_connect_ext(|socket: &T, data| socket::accepted(socket as &dyn Any, data))
            .graceful_shutdown_signal(move || {
                let ending = ending.clone();
                async move { ending.notified().await }
            })
            .finish(map_config(app.map_err(|error| error.error_response()), |()| AppConfig::default()))
    }
}
