//! The HTTP front: listeners, limits, the order of guards, drain.

#![cfg_attr(docsrs, doc(hidden))]

pub mod accept;
pub mod address;
pub mod admin;
pub mod cors;
pub mod crowd;
pub mod dashboard;
pub mod door;
pub mod exchange;
pub mod forward;
pub mod gone;
pub mod guard;
mod handshake;
pub mod hooks;
pub mod listen;
pub mod mcp;
pub mod metadata;
pub mod metrics;
pub mod modern;
pub mod params;
pub mod path;
pub mod rescue;
pub mod sessionless;
pub mod socket;
pub mod sse;
pub mod stdio;
pub mod stream;
pub mod tls;
pub mod tunnel;
pub mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::BoxBody,
    http::{ConnectionType, Method, Version, header::HeaderName},
    web,
};

use self::{
    crowd::Crowd,
    gone::Until,
    path::{For, Leaf, Target, resolve},
    rescue::Refusal,
    tunnel::Via,
};
use crate::{
    access::{Kind, Principal},
    config::HubConfig,
    hub::House,
};

/// The last events and answers may take this long to reach their clients at shutdown,
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// and this long at least, for nobody tells when a socket has taken them.
const FLUSH: Duration = Duration::from_millis(50);

const GENERATION: HeaderName = HeaderName::from_static("hubward-generation");

/// What of the log is left out: a client that is cut off is no error of ours, and may come in thousands.
pub const LOG_QUIET: &str = "actix_http::h1::dispatcher=off,actix_http::h2::dispatcher=off";

/// What a worker knows.
pub struct Front {
    pub house: Arc<House>,
    /// Requests whose handler has not returned.
    pub open: AtomicUsize,
    pub answered: metrics::Answered,
    pub hooks: hooks::Hooks,
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
    pub fn new(house: Arc<House>, hooks: hooks::Hooks) -> Arc<Front> {
        Arc::new(Front { house, open: AtomicUsize::new(0), answered: metrics::Answered::default(), hooks })
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
    attach(config, front);
}

/// The same on a thread that is no worker: no child's pipes are to live there.
fn attach(config: &mut web::ServiceConfig, front: &Arc<Front>) {
    config.app_data(web::Data::from(front.clone())).default_service(web::to(handle));
}

/// Every request comes through here, and whatever came of it says whether a web page may read it.
async fn handle(request: HttpRequest, payload: web::Payload, front: web::Data<Front>) -> HttpResponse {
    let _open = Open::new(&front);
    let page = cors::Page::of(&request, &front.house.config.load());
    let by_tunnel = Via::of(&request).is_some().then(|| request.clone());
    let response = attend(request, payload, &front).await;
    if let Some(request) = &by_tunnel
        && let Some(via) = Via::of(request)
    {
        via.answered(request, &response);
    }
    front.answered.count(response.status());
    page.may_read(parted(numbered(response, &front.house), &front.house))
}

/// Who asks us while we end has to connect anew for the next request: to another hub, or to the one after us.
fn parted(mut response: HttpResponse, house: &House) -> HttpResponse {
    if house.leaving.is_cancelled() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// Says of which configuration an answer is, where that is wanted (F132).
fn numbered(mut response: HttpResponse, house: &House) -> HttpResponse {
    if house.config.load().generation_header {
        let number = house.status.load().generation.into();
        response.headers_mut().insert(GENERATION, number);
    }
    response
}

/// What is done for a client that has left is dropped.
async fn attend(request: HttpRequest, payload: web::Payload, front: &Front) -> HttpResponse {
    if request.version() != Version::HTTP_2 {
        return serve(request, payload, front).await;
    }
    let place = match Crowd::enter(&request) {
        Ok(place) => place,
        Err(status) => return crowd::refuse(status),
    };
    let (payload, mut gone) = match gone::share(&request, payload).await {
        Ok(shared) => shared,
        Err(error) => return error.error_response(),
    };
    let response = tokio::select! {
        biased;
        response = serve(request, payload, front) => response,
        () = &mut gone => return HttpResponse::NoContent().finish(),
    };
    response.map_body(|_, body| BoxBody::new(Until { body, gone, _place: place }))
}

/// In this order: who knocks, what is named, who serves it.
async fn serve(request: HttpRequest, mut payload: web::Payload, front: &Front) -> HttpResponse {
    let house = &front.house;
    let config = house.config.load();
    let unread = mcp::has_body(&request);
    if let Err(refusal) = guard::admit(&request, &config) {
        return refusal.respond(None, unread.then_some(payload));
    }
    if let Some(unhandled) = &front.hooks.unhandled
        && hooks::is_unhandled(&request, request.uri().path(), house, &config)
    {
        return match Box::pin(hooks::handle(unhandled, &request, payload)).await {
            Some(answer) => answer,
            // Nobody learns what is there before it is known who asks.
            None => Box::pin(identify(&request, front, &config, None)).await.map_or_else(
                |refused| refused.unwrap_or_else(|refusal| refusal.respond(None, None)),
                |_| Refusal::NoMount.respond(None, None),
            ),
        };
    }
    if unread && request.method() != Method::POST {
        // It means nothing, but left unread it would hold the connection for as long as the client likes.
        if let Err(refusal) = guard::body(&request, &mut payload, config.limits.body_bytes_max).await {
            return refusal.respond(None, Some(payload));
        }
    }
    if let Some(Err(refusal)) = Via::of(&request).map(|via| via.room(&request)) {
        return refusal.respond(None, None);
    }
    if let Some(permission) = cors::preflight(&request, house, &config) {
        return permission;
    }
    let path = request.uri().path().to_owned();
    if dashboard::concerns(&request, &path) {
        return dashboard::serve(&request, &path)
            .unwrap_or_else(|refusal| refusal.respond(None, unread.then_some(payload)));
    }
    let page = path::page(&path);
    if page == Some(For::Anybody) {
        let served =
            admin::word(&request, house, &path).unwrap_or_else(|| metadata::serve(&request, house, &config, &path));
        return served.unwrap_or_else(|refusal| refusal.respond(None, unread.then_some(payload)));
    }
    let target = resolve(&path, &config);
    let principal = match identify(&request, front, &config, target.as_ref()).await {
        Ok(principal) => principal,
        Err(Ok(answer)) => {
            if !unread {
                return answer;
            }
            // Its body first: what nobody reads holds the connection.
            let read = guard::body(&request, &mut payload, config.limits.body_bytes_max).await;
            return read.map_or_else(|refusal| refusal.respond(None, Some(payload)), |_| answer);
        }
        Err(Err(refusal)) => return refusal.respond(None, unread.then_some(payload)),
    };
    if page == Some(For::Known) {
        let seen = door::look(house, &config, &principal);
        let served = match seen {
            Ok(()) => Box::pin(admin::serve(&request, front, &config, &principal, &path)).await,
            Err(refusal) => Err(refusal),
        };
        return served.unwrap_or_else(|refusal| refusal.respond(None, unread.then_some(payload)));
    }
    let route = target.and_then(|target| match target.name {
        Some(name) => house.table.find(name),
        None => house.table.unnamed(),
    });
    let (Some(target), Some(route)) = (target, route) else {
        return Refusal::NoMount.respond(None, unread.then_some(payload));
    };
    if let Err(refusal) = door::enter(&request, house, &config, &target, &route, &principal) {
        return refusal.respond(None, unread.then_some(payload));
    }
    match target.leaf {
        Leaf::Mcp => mcp::serve(request, payload, house, route, principal).await,
        Leaf::Sse => {
            let outside = config.public_url.as_ref().map_or("", |url| url.path().trim_end_matches('/'));
            let endpoint = format!("{outside}{}/message", target.base);
            sse::open(&request, payload, house, &route, principal, endpoint)
        }
        Leaf::Message => Box::pin(sse::post(request, payload, house, route, principal)).await,
    }
}

/// Who asks? By the word of an embedding program, or by the rules of the configuration.
async fn identify(
    request: &HttpRequest,
    front: &Front,
    config: &HubConfig,
    target: Option<&Target<'_>>,
) -> Result<Principal, Result<HttpResponse, Refusal>> {
    let house = &front.house;
    if let Some(authenticate) = &front.hooks.authenticate {
        let known = Box::pin(hooks::identify(authenticate, request, house)).await.map_err(Ok)?;
        if let Some(guest) = known {
            let from = address::of(request, &config.trusted_proxies);
            return door::paced(house, config, guest, from).map_err(Err);
        }
    }
    let principal = door::admit(request, house, config, target).await.map_err(Err)?;
    // Where a program says who asks, nobody is let in for want of rules.
    match front.hooks.authenticate.is_some() && principal.kind() == Kind::Local {
        true => Err(Err(door::stranger(request, house, config, target))),
        false => Ok(principal),
    }
}
