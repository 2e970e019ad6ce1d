//! The HTTP front: listeners, limits, the order of guards, drain.

pub mod admin;
pub mod cors;
pub mod exchange;
pub mod forward;
pub mod guard;
pub mod listen;
pub mod mcp;
pub mod modern;
pub mod params;
pub mod path;
pub mod rescue;
pub mod sse;
pub mod stdio;
pub mod stream;

use std::{
    any::Any,
    io,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::Server, http::Method, web};

use self::{
    path::{Leaf, resolve},
    rescue::Refusal,
};
use crate::hub::House;

/// A head must have arrived within this time (F31).
const HEAD_WAIT_MAX: Duration = Duration::from_secs(5);
/// An idle connection is kept this long.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A client that was told to go may take this long.
const DISCONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// The last events and answers may take this long to reach their clients at shutdown,
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// and this long at least, for nobody tells when a socket has taken them.
const FLUSH: Duration = Duration::from_millis(50);

/// What of the log is left out: a client that is cut off is no error of ours, and may come in thousands.
pub const LOG_QUIET: &str = "actix_http::h1::dispatcher=off";

/// What a worker knows.
pub struct Front {
    pub house: Arc<House>,
    /// Requests whose handler has not returned.
    pub open: AtomicUsize,
}

/// Counts a request while its handler runs.
struct Open<'a>(&'a Front);

impl<'a> Open<'a> {
    fn new(front: &'a Front) -> Open<'a> {
        front.open.fetch_add(1, Ordering::Relaxed);
        Open(front)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Front {
    pub fn new(house: Arc<House>) -> Arc<Front> {
        Arc::new(Front { house, open: AtomicUsize::new(0) })
    }

    /// Waits until all handlers have returned, or the deadline.
    pub async fn settled(&self, deadline: Instant) {
        self.until_zero(&self.open, deadline).await;
    }

    /// Waits until what was answered is on its way.
    pub async fn flushed(&self) {
        let deadline = Instant::now() + FLUSH_MAX;
        self.until_zero(&self.open, deadline).await;
        self.until_zero(&self.house.engine.streams, deadline).await;
        tokio::time::sleep(FLUSH).await;
    }

    async fn until_zero(&self, count: &AtomicUsize, deadline: Instant) {
        while count.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Hangs the hub into an actix-web app. The app's `HttpServer` should set `h1_allow_half_closed(false)`,
/// or clients that leave go unnoticed.
pub fn mount(config: &mut web::ServiceConfig, front: &Arc<Front>) {
    front.house.engine.workers.register();
    config.app_data(web::Data::from(front.clone())).default_service(web::to(handle));
}

/// Serves the hub on listeners that are bound already. Must run on an actix System.
pub fn listen(front: Arc<Front>, listeners: Vec<TcpListener>) -> io::Result<Server> {
    let config = front.house.config.load();
    let workers = config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    let per_worker = config.limits.connections_max.div_ceil(workers);
    let mut server = HttpServer::new(move || App::new().configure(|config| mount(config, &front)))
        .workers(workers)
        .max_connections(per_worker)
        .client_request_timeout(HEAD_WAIT_MAX)
        .client_disconnect_timeout(DISCONNECT_WAIT_MAX)
        .keep_alive(KEEP_ALIVE)
        // Without it a client that leaves is noticed when its answer is written, and not before.
        .h1_allow_half_closed(false)
        .on_connect(|connection: &dyn Any, _| keep_alive(connection))
        .disable_signals()
        .shutdown_timeout(1);
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

/// A peer that vanished without a word is noticed within a minute: a stream says something after 15 s, and waits 40 s.
fn keep_alive(connection: &dyn Any) {
    #[cfg(target_os = "linux")]
    if let Some(stream) = connection.downcast_ref::<tokio::net::TcpStream>() {
        use rustix::net::sockopt;
        let _ = sockopt::set_socket_keepalive(stream, true);
        let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(15));
        let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5));
        let _ = sockopt::set_tcp_keepcnt(stream, 4);
        let _ = sockopt::set_tcp_user_timeout(stream, 40_000);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = connection;
}

/// Every request comes through here, and whatever came of it says whether a web page may read it.
async fn handle(request: HttpRequest, payload: web::Payload, front: web::Data<Front>) -> HttpResponse {
    let page = cors::Page::of(&request, &front.house.config.load());
    page.may_read(serve(request, payload, front).await)
}

/// In this order: who knocks, what is named, who serves it.
async fn serve(request: HttpRequest, mut payload: web::Payload, front: web::Data<Front>) -> HttpResponse {
    let _open = Open::new(&front);
    let house = &front.house;
    let config = house.config.load();
    let unread = mcp::has_body(&request);
    if let Err(refusal) = guard::admit(&request, &config) {
        return refusal.respond(None, unread.then_some(payload));
    }
    if unread && request.method() != Method::POST {
        // It means nothing, but left unread it would hold the connection for as long as the client likes.
        if let Err(refusal) = guard::body(&request, &mut payload, config.limits.body_bytes_max).await {
            return refusal.respond(None, Some(payload));
        }
    }
    if let Some(permission) = cors::preflight(&request, house, &config) {
        return permission;
    }
    let path = request.uri().path().to_owned();
    if let Some(served) = admin::serve(&request, house, &path) {
        return served.unwrap_or_else(|refusal| refusal.respond(None, unread.then_some(payload)));
    }
    let target = resolve(&path, &config.prefixes);
    let route = target.and_then(|target| match target.name {
        Some(name) => house.table.find(name),
        None => house.table.unnamed(),
    });
    let (Some(target), Some(route)) = (target, route) else {
        return Refusal::NoMount.respond(None, unread.then_some(payload));
    };
    match target.leaf {
        Leaf::Mcp => mcp::serve(request, payload, house, route).await,
        Leaf::Sse => {
            let outside = config.public_url.as_ref().map_or("", |url| url.path().trim_end_matches('/'));
            let endpoint = format!("{outside}{}/message", target.base);
            sse::open(&request, payload, house, &route, endpoint)
        }
        Leaf::Message => sse::post(request, payload, house, route).await,
    }
}
