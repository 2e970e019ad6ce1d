//! What an embedding program decides of requests: who asks, and what is answered where nothing is mounted.
//!
//! A hub without hooks pays one look at an `Option` for each request. A hook that fails, panics or takes too long costs
//! its own request, and no other.

use std::{error::Error, panic::AssertUnwindSafe, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{FutureExt, future::LocalBoxFuture};

use super::{dashboard, path};
use crate::{
    access::{Guest, Principal},
    config::HubConfig,
    hub::House,
};

/// How long a program may take to say who asks, or to begin an answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// Who asks? A guest; nobody that the program knows, so that the rules of `hub.auth` decide, if there are any; or an answer in
/// place of any other, which goes out with its status and headers.
pub type Authenticate = Box<dyn Fn(HttpRequest) -> LocalBoxFuture<'static, Asks> + Send + Sync>;

/// What [`Authenticate`] comes to.
pub type Asks = Result<Option<Guest>, HttpResponse>;

/// Answers requests that name no upstream and no page of the hub; or leaves that to the hub.
pub type Unhandled = Box<dyn Fn(HttpRequest, web::Payload) -> LocalBoxFuture<'static, Handled> + Send + Sync>;

/// What [`Unhandled`] comes to. An error is an answer of 500, and a line in the log.
pub type Handled = Result<Option<HttpResponse>, Box<dyn Error>>;

/// What an embedding program decides of requests.
#[derive(Default)]
pub struct Hooks {
    pub authenticate: Option<Authenticate>,
    pub unhandled: Option<Unhandled>,
}

/// Does the path lead to no upstream, and to no page of the hub?
pub fn is_unhandled(request: &HttpRequest, path: &str, house: &House, config: &HubConfig) -> bool {
    let is_mount = || {
        let target = path::resolve(path, config)?;
        target.name.map_or_else(|| house.table.unnamed(), |name| house.table.find(name))
    };
    path::page(path).is_none() && !dashboard::concerns(request, path) && is_mount().is_none()
}

/// Has the program answer.
pub async fn handle(unhandled: &Unhandled, request: &HttpRequest, payload: web::Payload) -> Option<HttpResponse> {
    let path = request.path().to_owned();
    let request = request.clone();
    match guarded(async move { unhandled(request, payload).await }).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Some(failed(&path, &error.to_string())),
        Err(why) => Some(failed(&path, why)),
    }
}

/// Has the program say who it is.
pub async fn identify(
    authenticate: &Authenticate,
    request: &HttpRequest,
    house: &House,
) -> Result<Option<Principal>, HttpResponse> {
    let own = request.clone();
    let asks = match guarded(async move { authenticate(own).await }).await {
        Ok(asks) => asks?,
        Err(why) => return Err(failed(request.path(), why)),
    };
    Ok(asks.map(|guest| house.gate.load().guest(&guest)))
}

/// Within its time, and without its panics.
async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, &'static str> {
    match tokio::time::timeout(ANSWER_WAIT_MAX, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err("it panicked"),
        Err(_) => Err("it took too long"),
    }
}

fn failed(path: &str, why: &str) -> HttpResponse {
    tracing::error!(path, "a hook of the program that the hub is a part of failed: {why}");
    HttpResponse::InternalServerError().content_type("text/plain; charset=utf-8").body("this request failed\n")
}
