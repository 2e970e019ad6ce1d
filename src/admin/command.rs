//! What each command does in the hub. An error is the last line of the answer.

use std::{path::PathBuf, sync::Arc};

use serde::Deserialize;
use serde_json::json;

use super::{
    logs,
    serve::{Answer, Desk},
};
use crate::config::Name;
use crate::hub::{
    Applied,
    act::{Act, Action},
    forecast::Forecast,
    lists,
    routes::Route,
    tools::definition::{Definitions, Difference},
    view,
};

/// What can be asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// Read hub.toml again.
    Reload,
    /// Say what that would do, or what it would with another file.
    Forecast {
        file: Option<PathBuf>,
    },
    /// Take the tools of an upstream, as they are now, for the right ones.
    Accept {
        upstream: String,
    },
    /// Everything, or all of one upstream.
    Status {
        upstream: Option<String>,
    },
    Start {
        upstream: String,
    },
    Stop {
        upstream: String,
    },
    Restart {
        upstream: String,
    },
    /// Show what passes between the hub and an upstream, from now on.
    Tap {
        upstream: String,
        #[serde(default)]
        bodies: bool,
    },
    /// The last lines of one upstream or all, and those that come.
    Logs {
        upstream: Option<String>,
        lines: usize,
        #[serde(default)]
        follow: bool,
    },
}

pub async fn run(command: Command, desk: &Desk, answer: &mut Answer) -> Result<(), String> {
    match command {
        Command::Reload => reload(desk, answer).await,
        Command::Forecast { file } => forecast(desk, file, answer).await,
        Command::Accept { upstream } => accept(desk, &upstream, answer).await,
        Command::Status { upstream } => status(desk, upstream.as_deref(), answer).await,
        Command::Start { upstream } => act(desk, &upstream, Action::Start, answer).await,
        Command::Stop { upstream } => act(desk, &upstream, Action::Stop, answer).await,
        Command::Restart { upstream } => act(desk, &upstream, Action::Restart, answer).await,
        Command::Tap { upstream, bodies } => tap(desk, &upstream, bodies, answer).await,
        Command::Logs { upstream, lines, follow } => logs::run(desk, upstream.as_deref(), lines, follow, answer).await,
    }
}

/// The upstream of a name, or an error that names all there are.
pub(super) fn find(desk: &Desk, upstream: &str) -> Result<Arc<Route>, String> {
    desk.house.table.find(upstream).ok_or_else(|| {
        let names: Vec<String> = desk.house.table.load().by_name.keys().map(|name| name.to_string()).collect();
        format!("there is no upstream `{upstream}`; there is {}", names.join(", "))
    })
}

async fn status(desk: &Desk, upstream: Option<&str>, answer: &mut Answer) -> Result<(), String> {
    let house = &desk.house;
    let line = match upstream {
        None => view::status(house, |_| true),
        Some(name) => view::detail::detail(house, &house.config.load(), &*find(desk, name)?),
    };
    answer.say(&line).await;
    Ok(())
}

/// Does it, and waits until it is done, or has failed.
async fn act(desk: &Desk, upstream: &str, action: Action, answer: &mut Answer) -> Result<(), String> {
    let name = find(desk, upstream)?.name.clone();
    let gone = || "the hub is shutting down".to_owned();
    let end = desk.hub.send(Act { name: name.clone(), action }).await.map_err(|_| gone())?;
    let done = end.map_err(|error| error.to_string())?.await;
    done.unwrap_or_else(|_| Err("it was replaced or removed meanwhile".into()))
        .map_err(|why| format!("upstream `{name}`: {why}"))?;
    let state = find(desk, upstream)?.serving.status.load().state;
    answer.say(&json!({ "upstream": name.as_str(), "state": state.as_str() })).await;
    Ok(())
}

async fn reload(desk: &Desk, answer: &mut Answer) -> Result<(), String> {
    let line = match desk.house.reload(&desk.hub).await.map_err(|error| error.to_string())? {
        Applied::Unchanged => json!({ "generation": desk.house.status.load().generation, "plan": "nothing changed" }),
        Applied::Generation { number, plan } => json!({ "generation": number, "plan": plan }),
    };
    answer.say(&line).await;
    Ok(())
}

async fn forecast(desk: &Desk, file: Option<PathBuf>, answer: &mut Answer) -> Result<(), String> {
    let plan = desk.hub.send(Forecast(file)).await.map_err(|_| "the hub is shutting down".to_owned())?;
    let plan = plan.map_err(|error| error.to_string())?;
    let names = |names: &[Name]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    answer
        .say(&json!({
            "plan": if plan.is_empty() { "nothing changed".to_owned() } else { plan.to_string() },
            "refused": plan.refused, "added": names(&plan.added), "removed": names(&plan.removed),
            "replaced": names(&plan.replaced), "updated": names(&plan.updated), "kept": names(&plan.kept),
            "hub_changed": plan.hub_changed,
        }))
        .await;
    Ok(())
}

async fn accept(desk: &Desk, upstream: &str, answer: &mut Answer) -> Result<(), String> {
    let route = find(desk, upstream)?;
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

/// Ends when the client leaves, or when the upstream was removed and its last process is gone.
async fn tap(desk: &Desk, upstream: &str, bodies: bool, answer: &mut Answer) -> Result<(), String> {
    let busy = || "as many taps and followers are open as there may be; end one of them".to_owned();
    let _place = desk.followers.clone().try_acquire_owned().map_err(|_| busy())?;
    // The recorder is not to be held: it ends with what it records.
    let mut tap = find(desk, upstream)?.serving.recorder.tap().ok_or_else(busy)?;
    let _told = Told::new(upstream);
    answer.goes_on();
    answer.say(&json!({ "tapped": upstream })).await;
    while let Some(seen) = answer.wait(tap.next()).await {
        answer.say(&seen.to_json(bodies)).await;
    }
    Err(format!("upstream `{upstream}` was removed from the configuration"))
}

/// Others should know that what passes is looked at.
struct Told(String);

impl Told {
    fn new(upstream: &str) -> Told {
        tracing::info!(upstream, "a tap shows what passes");
        Told(upstream.to_owned())
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        tracing::info!(upstream = self.0, "a tap ended");
    }
}

/// Nobody has listed the tools yet: asks for them, as a client would.
async fn look(route: &Arc<Route>) -> Result<Arc<Definitions>, String> {
    lists::ask(route, "hubward accept", &Default::default(), async |bridged| route.serving.tools.read(bridged).await)
        .await?;
    let unread = || format!("the list of tools of upstream `{}` cannot be read", route.name);
    route.serving.tools.last().ok_or_else(unread)
}
