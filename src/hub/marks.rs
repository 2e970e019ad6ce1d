//! What has to be known of an upstream's tools beforehand: arguments that are repeated in headers (SEP-2243), and
//! schemas that an older client is shown inside an object (SEP-2106). It stands in `tools/list`, which is read when
//! it is needed, and again when it is no longer fresh.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{isolation, routes::Route, session::Session, upstream::Unavailable};
use crate::{
    bridge::older::needs_wrap,
    wire::envelope::{self, ParamHeader},
};

/// How long a list of tools is believed.
const FRESH: Duration = Duration::from_secs(60);

/// What was read, and when.
pub struct Marks {
    read: Instant,
    /// Arguments that are repeated in headers, by tool.
    pub headers: HashMap<String, Vec<ParamHeader>>,
    /// Tools whose results are wrapped for older clients.
    pub wrapped: HashSet<String>,
}

/// The marks of an upstream's tools, as they were a while ago at most.
pub async fn of(route: &Arc<Route>, session: &Arc<Session>) -> Result<Arc<Marks>, Unavailable> {
    match known(route) {
        Some(marks) => Ok(marks),
        None => read(route, session).await,
    }
}

/// The marks that are known and still fresh.
pub fn known(route: &Route) -> Option<Arc<Marks>> {
    route.serving.marks.load_full().filter(|marks| marks.read.elapsed() < FRESH)
}

/// Reads the marks of all tools. A list that cannot be read to its end changes nothing.
pub async fn read(route: &Arc<Route>, session: &Arc<Session>) -> Result<Arc<Marks>, Unavailable> {
    let seat = isolation::seat(route, session).await?;
    let (mut headers, mut wrapped) = (HashMap::new(), HashSet::new());
    let Some(read) = route.serving.tools.read(seat.bridged()).await else {
        // What was known before is better than half of it.
        let before = route.serving.marks.load_full();
        return Ok(before.unwrap_or_else(|| Arc::new(Marks { read: Instant::now(), headers, wrapped })));
    };
    for answer in read.pages {
        let page: Value = serde_json::from_str(answer.result().unwrap_or("null")).unwrap_or_default();
        for tool in page["tools"].as_array().into_iter().flatten() {
            let Some(name) = tool["name"].as_str() else { continue };
            match envelope::param_headers(&tool["inputSchema"]) {
                Ok(marks) if marks.is_empty() => {}
                Ok(marks) => drop(headers.insert(name.to_owned(), marks)),
                Err(why) => tracing::warn!(upstream = %route.name, tool = name, "{why}; its marks are ignored"),
            }
            if tool.get("outputSchema").is_some_and(|schema| needs_wrap(&schema.to_string())) {
                wrapped.insert(name.to_owned());
            }
        }
    }
    let marks = Arc::new(Marks { read: Instant::now(), headers, wrapped });
    route.serving.marks.store(Some(marks.clone()));
    Ok(marks)
}
