//! What a server lists, asked for somebody who looks at the status page and may use the upstream.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{isolation::seat, routes::Route, session::Session};
use crate::{
    access::Principal,
    bridge::Bridged,
    wire::{Revision, object::Object},
};

/// Of each list no more is shown,
const ENTRIES_MAX: usize = 500;
/// and no more pages are asked for.
const PAGES_MAX: usize = 20;
/// For a page of a list.
const PAGE_WAIT_MAX: Duration = Duration::from_secs(10);
/// What is shown of an entry, and the longest text of it, in characters.
const MEMBERS: [&str; 5] = ["name", "title", "description", "uri", "uriTemplate"];
const TEXT_MAX: usize = 2000;

/// A session of the hub's own that asks on behalf of somebody. It lasts as long as the work.
pub async fn ask<T>(
    route: &Arc<Route>,
    who: &str,
    owner: &Principal,
    work: impl AsyncFnOnce(&Bridged) -> T,
) -> Result<T, String> {
    let session = Session::of_identity(who.into(), owner.clone());
    session.greet(json!({
        "protocolVersion": Revision::LATEST.as_str(), "capabilities": {},
        "clientInfo": { "name": "hubward", "version": env!("CARGO_PKG_VERSION") },
    }));
    let done = match seat(route, &session).await {
        Ok(seat) => Ok(work(seat.bridged()).await),
        Err(error) => Err(error.to_string()),
    };
    session.end("what it was opened for is done");
    done
}

/// All lists of a server, as it gives them to this principal now. Starts a process where it needs one.
pub async fn of(route: &Arc<Route>, principal: &Principal) -> Value {
    let asked = ask(route, "the status page", principal, async |bridged| {
        let visible = async {
            let tools = list(bridged, "tools", "tools/list", "tools").await?;
            let seen = route.serving.tools.visible(&route.config);
            let tools = tools.as_array().into_iter().flatten().filter(|tool| {
                let name = tool["name"].as_str().unwrap_or_default();
                let filter = route.config.tools.as_ref().is_none_or(|filter| filter.admits(name));
                filter && (!route.config.pin_tools || seen.as_ref().is_some_and(|seen| seen.contains(name)))
            });
            Some(Value::Array(tools.cloned().collect()))
        };
        json!({
            "tools": visible.await,
            "prompts": list(bridged, "prompts", "prompts/list", "prompts").await,
            "resources": list(bridged, "resources", "resources/list", "resources").await,
            "templates": list(bridged, "resources", "resources/templates/list", "resourceTemplates").await,
        })
    });
    asked.await.unwrap_or_else(|error| json!({ "error": error }))
}

/// One list; none where the server has no such thing, or does not answer.
async fn list(bridged: &Bridged, capability: &str, method: &str, member: &str) -> Option<Value> {
    if !bridged.profile.can(&[capability]) {
        return None;
    }
    let (mut entries, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..PAGES_MAX {
        let (answer, next) = bridged.page(method, cursor.as_deref(), PAGE_WAIT_MAX).await?;
        let page = answer.result().and_then(Object::read)?;
        let found: Vec<Value> = serde_json::from_str(page.get(member)?.get()).ok()?;
        entries.extend(found.iter().map(shown).take(ENTRIES_MAX - entries.len()));
        cursor = next;
        if cursor.is_none() || entries.len() >= ENTRIES_MAX {
            break;
        }
    }
    Some(Value::Array(entries))
}

fn shown(entry: &Value) -> Value {
    let text =
        |key: &str| Some((key.to_owned(), entry[key].as_str()?.chars().take(TEXT_MAX).collect::<String>().into()));
    Value::Object(MEMBERS.into_iter().filter_map(text).collect())
}
