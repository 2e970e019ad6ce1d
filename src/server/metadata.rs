//! What we publish of mounts that take signed tokens: who issues them (RFC 9728).

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::Method};
use serde_json::json;

use super::{door, path::resolve, rescue::Refusal, tunnel::Via};
use crate::{config::HubConfig, hub::House};

/// Serves a metadata document. Whatever else is looked for at a well-known place is not there.
pub fn serve(
    request: &HttpRequest,
    house: &Arc<House>,
    config: &HubConfig,
    path: &str,
) -> Result<HttpResponse, Refusal> {
    let rest = path.strip_prefix(door::METADATA).ok_or(Refusal::NoMount)?;
    let outer = config.public_url.as_ref().map_or("", |url| url.path().trim_end_matches('/'));
    let target = resolve(rest.strip_prefix(outer).unwrap_or(rest), config);
    let exists = |name: Option<&str>| name.map_or_else(|| house.table.unnamed(), |name| house.table.find(name));
    let gate = house.gate.load();
    let found = target.filter(|target| exists(target.name).is_some()).zip(gate.issuer());
    let Some((target, (issuer, scopes))) = found else { return Err(Refusal::NoMount) };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::Method { method: request.method().to_string(), allow: "GET, HEAD" });
    }
    let mut document = json!({
        "resource": door::resource(house, config, &target, Via::of(request)),
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
        "resource_name": format!("hubward: {}", target.name.unwrap_or("default")),
    });
    if !scopes.is_empty() {
        document["scopes_supported"] = json!(scopes);
    }
    Ok(HttpResponse::Ok().json(document))
}
