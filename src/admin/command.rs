//! What each command does in the hub. An error is the last line of the answer.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::serve::{Answer, Desk};
use crate::hub::{
    Applied, Reload,
    isolation::seat,
    routes::Route,
    session::Session,
    tools::definition::{Definitions, Difference},
};

/// What can be asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// Read hub.toml again.
    Reload,
    /// Take the tools of an upstream, as they are now, for the right ones.
    Accept { upstream: String },
}

pub async fn run(command: Command, desk: &Desk, answer: &mut Answer) -> Result<(), String> {
    match command {
        Command::Reload => reload(desk, answer).await,
        Command::Accept { upstream } => accept(desk, &upstream, answer).await,
    }
}

async fn reload(desk: &Desk, answer: &mut Answer) -> Result<(), String> {
    let outcome = desk.hub.send(Reload).await.map_err(|_| "the hub is shutting down".to_owned())?;
    let line = match outcome.map_err(|error| error.to_string())? {
        Applied::Unchanged => json!({ "generation": desk.house.status.load().generation, "plan": "nothing changed" }),
        Applied::Generation { number, plan } => json!({ "generation": number, "plan": plan }),
    };
    answer.say(&line).await;
    Ok(())
}

async fn accept(desk: &Desk, upstream: &str, answer: &mut Answer) -> Result<(), String> {
    let Some(route) = desk.house.table.find(upstream) else {
        let names: Vec<String> = desk.house.table.load().by_name.keys().map(|name| name.to_string()).collect();
        return Err(format!("there is no upstream `{upstream}`; there is {}", names.join(", ")));
    };
    if !route.config.pin_tools {
        return Err(format!("upstream `{upstream}` has no `pin_tools = true`: nothing of it is withheld"));
    }
    let tools = &route.serving.tools;
    let offered = match tools.last() {
        Some(offered) => offered,
        None => look(&route).await?,
    };
    let before = tools.visible(&route.config);
    let Difference { added, removed, changed } = tools.accept(&offered).await?;
    if before != tools.visible(&route.config) {
        route.announce_tools();
    }
    let changed: Vec<_> = changed.into_iter().map(|(name, fields)| json!({ "name": name, "fields": fields })).collect();
    let line = json!({
        "upstream": upstream, "hash": offered.hash(), "tools": offered.count(),
        "added": added, "removed": removed, "changed": changed,
    });
    answer.say(&line).await;
    Ok(())
}

/// Nobody has listed the tools yet: asks for them, as a client would.
async fn look(route: &Arc<Route>) -> Result<Arc<Definitions>, String> {
    let session = Session::of_identity("hubward accept".into(), Default::default());
    session.greet(json!({
        "protocolVersion": crate::wire::Revision::LATEST.as_str(), "capabilities": {},
        "clientInfo": { "name": "hubward", "version": env!("CARGO_PKG_VERSION") },
    }));
    let read = async {
        let seat = seat(route, &session).await.map_err(|error| error.to_string())?;
        route.serving.tools.read(seat.bridged()).await;
        let unread = || format!("the list of tools of upstream `{}` cannot be read", route.name);
        route.serving.tools.last().ok_or_else(unread)
    };
    let read = read.await;
    session.end("its tools were looked at");
    read
}
