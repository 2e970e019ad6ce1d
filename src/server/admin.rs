//! Health and status.
//!
//! `/ping`, `/healthz` and `/readyz` answer anybody with one word.

use actix_web::{HttpRequest, HttpResponse, http::Method};
use serde_json::Value;

use super::{Front, dashboard, guard, metrics, rescue::Refusal, watch};
use crate::{
    access::Principal,
    config::HubConfig,
    hub::{
        House, lists,
        routes::{Route, State},
        view,
    },
};

/// Answers anybody with one word, if the path asks for one.
pub fn word(request: &HttpRequest, house: &House, path: &str) -> Option<Result<HttpResponse, Refusal>> {
    let serving = !house.leaving.is_cancelled();
    let response = match path {
        "/ping" => said(true, "pong", ""),
        "/healthz" => said(true, "ok", ""),
        "/readyz" => said(serving && house.status.load().generation > 0, "ready", "not ready"),
        _ => return None,
    };
    Some(looked_at(request, response))
}

/// Serves another page of the hub's own, to those who may know of it.
pub async fn serve(
    request: &HttpRequest,
    front: &Front,
    config: &HubConfig,
    principal: &Principal,
    path: &str,
) -> Result<HttpResponse, Refusal> {
    let house = &front.house;
    let gate = house.gate.load_full();
    let may = |route: &Route| house.bars(&gate, config, route, principal).is_none();
    let find = |name: &str| house.table.find(name).filter(|route| may(route)).ok_or(Refusal::NoMount);
    let json = |value: &Value| HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(value);
    looked_at(request, ())?;
    guard::same_site(request)?;
    match path {
        "/" => dashboard::elsewhere(request),
        "/api/v1/status" => Ok(json(&view::status(house, may))),
        "/api/v1/events" => watch::serve(request, house, principal),
        "/metrics" => metrics::serve(request, front, may),
        _ => match (path.strip_prefix("/readyz/"), path.strip_prefix("/api/v1/upstreams/")) {
            (Some(name), _) => Ok(ready(house, &*find(name)?)),
            (_, Some(rest)) => match rest.strip_suffix("/lists") {
                Some(name) => Ok(json(&lists::of(&find(name)?, principal).await)),
                None => Ok(json(&view::detail::detail(house, config, &*find(rest)?))),
            },
            _ => Err(Refusal::NoMount),
        },
    }
}

fn ready(house: &House, route: &Route) -> HttpResponse {
    let state = route.serving.status.load().state;
    let ready = !house.leaving.is_cancelled() && matches!(state, State::Idle | State::Starting | State::Ready);
    said(ready, "ready", state.as_str())
}

fn said(ready: bool, good: &'static str, bad: &'static str) -> HttpResponse {
    let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.content_type("text/plain; charset=utf-8").body(if ready { good } else { bad })
}

fn looked_at<T>(request: &HttpRequest, response: T) -> Result<T, Refusal> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(response),
        _ => Err(Refusal::Method { method: request.method().to_string(), allow: "GET, HEAD" }),
    }
}
