//! `Mcp-Param-*`: arguments of a tool that its schema wants repeated in headers (SEP-2243).
//!
//! Whoever parses the body has to compare the two, and we do. The marks stand in `tools/list`, so that is read
//! once in a while, and again before a mismatch is believed.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::HttpRequest;
use serde_json::{Value, json};

use super::rescue::Refusal;
use crate::{
    hub::{
        isolation,
        routes::{Marks, Route},
        session::Session,
    },
    wire::{
        Message,
        envelope::{self, ParamHeader},
    },
};

/// How long the marks of an upstream's tools are believed.
const FRESH: Duration = Duration::from_secs(60);
/// Pages of a tool list that are read.
const PAGES_MAX: usize = 50;
const PAGE_WAIT_MAX: Duration = Duration::from_secs(30);

/// Compares the headers of a `tools/call` with its arguments.
pub async fn check(
    request: &HttpRequest,
    route: &Arc<Route>,
    session: &Arc<Session>,
    message: &Message,
) -> Result<(), Refusal> {
    let Some(name) = envelope::name_of(message) else { return Ok(()) };
    let arguments: Value = match message.param(["arguments"]) {
        Ok([Some(raw)]) => serde_json::from_str(raw.get()).unwrap_or_default(),
        _ => Value::Null,
    };
    let known = route.serving.marks.load_full().filter(|marks| marks.read.elapsed() < FRESH);
    let was_known = known.is_some();
    let marks = match known {
        Some(marks) => marks,
        None => read(route, session).await?,
    };
    let verdict = compare(request, marks.tools.get(&name), &arguments);
    if verdict.is_err() && was_known {
        let marks = read(route, session).await?;
        return compare(request, marks.tools.get(&name), &arguments);
    }
    verdict
}

fn compare(request: &HttpRequest, marks: Option<&Vec<ParamHeader>>, arguments: &Value) -> Result<(), Refusal> {
    for mark in marks.into_iter().flatten() {
        let name = format!("mcp-param-{}", mark.name.to_ascii_lowercase());
        let mismatch = |why: &str| Refusal::Mismatch(format!("the header Mcp-Param-{} {why}", mark.name));
        let header = match request.headers().get(name.as_str()) {
            Some(value) => {
                let text = value.to_str().map_err(|_| mismatch("has characters that need base64"))?;
                Some(envelope::decode(text).map_err(mismatch)?)
            }
            None => None,
        };
        match (header, envelope::param_text(arguments, &mark.path)) {
            (None, None) => {}
            (None, Some(_)) => return Err(mismatch("is missing")),
            (Some(_), None) => return Err(mismatch("repeats an argument that is not there")),
            (Some(header), Some(text)) if envelope::param_matches(&header, &text) => {}
            (Some(_), Some(_)) => return Err(mismatch("differs from the argument")),
        }
    }
    Ok(())
}

/// Reads the marks of all tools. A list that cannot be read marks nothing.
async fn read(route: &Arc<Route>, session: &Arc<Session>) -> Result<Arc<Marks>, Refusal> {
    let seat = isolation::seat(route, session).await?;
    let connection = &seat.bridged().connection;
    let (mut tools, mut cursor) = (HashMap::new(), None);
    for _ in 0..PAGES_MAX {
        let params = cursor.map(|cursor: Value| json!({ "cursor": cursor }).to_string());
        let Ok(answer) = connection.request("tools/list", params.as_deref(), PAGE_WAIT_MAX).await else { break };
        let page: Value = serde_json::from_str(answer.result().unwrap_or("null")).unwrap_or_default();
        for tool in page["tools"].as_array().into_iter().flatten() {
            let Some(name) = tool["name"].as_str() else { continue };
            match envelope::param_headers(&tool["inputSchema"]) {
                Ok(marks) if marks.is_empty() => {}
                Ok(marks) => drop(tools.insert(name.to_owned(), marks)),
                Err(why) => tracing::warn!(upstream = %route.name, tool = name, "{why}; its marks are ignored"),
            }
        }
        match page.get("nextCursor") {
            Some(next) if !next.is_null() => cursor = Some(next.clone()),
            _ => break,
        }
    }
    let marks = Arc::new(Marks { read: Instant::now(), tools });
    route.serving.marks.store(Some(marks.clone()));
    Ok(marks)
}
