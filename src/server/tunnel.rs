//! Who comes by the tunnel is served like anybody else, on a thread of its own, but for what depends on the way.
//!
//! The connections of [`link::tunnel`](crate::link::tunnel) are given to the same handler that sockets are: nothing
//! connects to our own address, so nobody from elsewhere looks like somebody of this machine. What such a request says
//! of its way is not believed, whoever `trusted_proxies` names, and it has to name us as the tunnel does: what others
//! may call us only on their way by `bind` counts for nothing here, and the tunnel's name for nothing there.

use std::{cell::Cell, rc::Rc, sync::Arc};

use actix::Arbiter;
use actix_http::{HttpService, KeepAlive};
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::{
    App, HttpRequest, HttpResponse,
    dev::AppConfig,
    http::{Method, header},
    rt::net::TcpStream,
};

use super::{
    Front,
    accept::{DISCONNECT_WAIT_MAX, HEAD_WAIT_MAX},
    attach,
    rescue::Refusal,
};
use crate::{
    hub::House,
    link::tunnel::{State, TunnelSpec, keep, registration::Lease},
};

const EVENTS: &str = "text/event-stream";
/// Of so many connections one is kept for what ends: streams that stay open would take them all.
const FREE_OF: usize = 5;

/// The mark of a connection, for its requests. Of a lease that is gone it names nobody, and so nobody is served.
pub struct Via {
    lease: Option<Arc<Lease>>,
    /// Whether this connection carries a stream that stays open, and how many do.
    streams: Cell<bool>,
    streaming: Rc<Cell<usize>>,
}

impl Via {
    /// Whether there is room for what a request asks for, if that is a stream that stays open.
    pub fn room(&self, request: &HttpRequest) -> Result<(), Refusal> {
        self.carries(false);
        let mut accepts = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
        let opens = request.method() == Method::GET && accepts.any(|kinds| kinds.contains(EVENTS));
        let lanes = self.lease.as_ref().map_or(0, |lease| lease.lanes);
        match opens && self.streaming.get() + lanes.div_ceil(FREE_OF) >= lanes {
            true => Err(Refusal::Full("as many event streams as the tunnel takes", "the rest of it is for calls")),
            false => Ok(()),
        }
    }

    /// Takes note of what a request came to. What it opened has ended with the next request on this connection, or with
    /// the connection.
    pub fn answered(&self, request: &HttpRequest, response: &HttpResponse) {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        self.carries(request.method() == Method::GET && kind.is_some_and(|kind| kind.starts_with(EVENTS)));
    }

    fn carries(&self, stream: bool) {
        let before = self.streams.replace(stream);
        self.streaming.set(self.streaming.get() + usize::from(stream) - usize::from(before));
    }

    /// Whether a request came by the tunnel.
    pub fn of(request: &HttpRequest) -> Option<&Via> {
        request.conn_data::<Via>()
    }

    /// Is this one of the tunnel's names?
    pub fn is_named(&self, host: &str) -> bool {
        self.lease.iter().flat_map(|lease| lease.hosts()).any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Do the hub's own pages come from there?
    pub fn is_origin(&self, origin: &str) -> bool {
        let own = self.lease.iter().flat_map(|lease| [Some(&lease.url), lease.also.as_ref()]).flatten();
        own.map(|url| url.origin().ascii_serialization()).any(|own| own.eq_ignore_ascii_case(origin))
    }

    /// Where clients on this way find us.
    pub fn outside(&self) -> Option<String> {
        self.lease.as_ref().map(|lease| lease.base())
    }

    /// What clients speak to the server.
    pub fn proto(&self) -> &'static str {
        match &self.lease {
            Some(lease) if lease.url.scheme() == "http" => "http",
            _ => "https",
        }
    }
}

impl Drop for Via {
    fn drop(&mut self) {
        self.carries(false);
    }
}

/// An open tunnel. It ends with [`close`](Tunnel::close), or when this is dropped.
pub struct Tunnel(Option<Arbiter>);

impl Tunnel {
    /// Opens it, and opens it again whenever it is lost. Must run on an actix System.
    pub fn open(front: Arc<Front>, spec: TunnelSpec) -> Tunnel {
        if front.house.config.load().access.allow_unauthenticated {
            tracing::warn!("everybody who knows the tunnel's URL may use the hub (allow_unauthenticated)");
        }
        let arbiter = Arbiter::new();
        arbiter.spawn_fn(move || {
            actix_web::rt::spawn(run(front, spec));
        });
        Tunnel(Some(arbiter))
    }

    /// Closes all connections of it; what is under way there ends.
    pub async fn close(mut self) {
        let Some(arbiter) = self.0.take() else { return };
        arbiter.stop();
        let _ = tokio::task::spawn_blocking(move || arbiter.join()).await;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(arbiter) = &self.0 {
            arbiter.stop();
        }
    }
}

async fn run(front: Arc<Front>, spec: TunnelSpec) {
    let house = front.house.clone();
    let _off = Off(&house);
    let (within, named, streaming) = (front.clone(), house.clone(), Rc::new(Cell::new(0)));
    let app = App::new().configure(move |config| attach(config, &within));
    let factory = HttpService::build()
        // The server closes what it needs no more. What we closed might just have been asked something (RFC 9112, 9.5),
        // and pipenet's server does not ask again.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(HEAD_WAIT_MAX)
        .client_disconnect_timeout(DISCONNECT_WAIT_MAX)
        .h1_allow_half_closed(false)
        .on_connect_ext(move |_: &TcpStream, data| {
            let lease = named.tunnel.borrow().lease().cloned();
            data.insert(Via { lease, streams: Cell::new(false), streaming: streaming.clone() });
        })
        .h1(map_config(app, |()| AppConfig::default()));
    let Ok(service) = factory.new_service(()).await else {
        return tracing::error!("what comes by the tunnel cannot be served");
    };
    let service = Rc::new(service);
    let serve = |stream, peer| {
        // On its own: a panic costs one connection.
        let served = actix_web::rt::spawn(service.call((stream, Some(peer))));
        async {
            let _ = served.await;
        }
    };
    tokio::join!(keep(spec, &house.tunnel, serve), stir(&house));
}

/// Tells those who watch.
async fn stir(house: &House) {
    let mut changes = house.tunnel.subscribe();
    while changes.changed().await.is_ok() {
        house.engine.stirred.notify_one();
    }
}

/// When the thread ends, however that comes, the tunnel is shown as closed.
struct Off<'a>(&'a House);

impl Drop for Off<'_> {
    fn drop(&mut self) {
        self.0.tunnel.send_replace(State::Off);
    }
}
