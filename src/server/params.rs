//! `Mcp-Param-*`: arguments of a tool that its schema wants repeated in headers (SEP-2243).
//!
//! Whoever parses the body has to compare the two, and we do. The marks stand in `tools/list`, so that is read
//! once in a while, and again before a mismatch is believed.

use std::sync::Arc;

use actix_web::HttpRequest;
use serde_json::Value;

use super::rescue::Refusal;
use crate::{
    hub::{marks, routes::Route, session::Session},
    wire::{
        Message,
        envelope::{self, ParamHeader},
    },
};

/// Compares the headers of a `tools/call` with its arguments.
pub async fn check(
    request: &HttpRequest,
    route: &Arc<Route>,
    session: &Arc<Session>,
    message: &Message,
) -> Result<(), Refusal> {
    let Some(name) = envelope::name_of(message) else { return Ok(()) };
    let was_known = marks::known(route).is_some();
    let verdict = compare(request, marks::of(route, session).await?.headers.get(&*name), message);
    if verdict.is_err() && was_known {
        return compare(request, marks::read(route, session).await?.headers.get(&*name), message);
    }
    verdict
}

fn compare(request: &HttpRequest, marks: Option<&Vec<ParamHeader>>, message: &Message) -> Result<(), Refusal> {
    // Few tools have any, and what others are called with need not be read.
    let Some(marks) = marks else { return Ok(()) };
    let arguments: Value = match message.param(["arguments"]) {
        Ok([Some(raw)]) => serde_json::from_str(raw).unwrap_or_default(),
        _ => Value::Null,
    };
    for mark in marks {
        let name = format!("mcp-param-{}", mark.name.to_ascii_lowercase());
        let mismatch = |why: &str| Refusal::Mismatch(format!("the header Mcp-Param-{} {why}", mark.name));
        let header = match request.headers().get(name.as_str()) {
            Some(value) => {
                let text = value.to_str().map_err(|_| mismatch("has characters that need base64"))?;
                Some(envelope::decode(text).map_err(mismatch)?)
            }
            None => None,
        };
        match (header, envelope::param_text(&arguments, &mark.path)) {
            (None, None) => {}
            (None, Some(_)) => return Err(mismatch("is missing")),
            (Some(_), None) => return Err(mismatch("repeats an argument that is not there")),
            (Some(header), Some(text)) if envelope::param_matches(&header, &text) => {}
            (Some(_), Some(_)) => return Err(mismatch("differs from the argument")),
        }
    }
    Ok(())
}
