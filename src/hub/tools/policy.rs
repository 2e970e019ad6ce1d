//! What callers see of the tools, and what they may call: the filter of the configuration, and the accepted ones.
//!
//! What the filter does not admit is answered as a server answers for a tool that it does not have. What is withheld
//! because it changed says so: whoever calls it has seen it, and somebody has to look.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    definition::{self, Definition},
    pins::Accepted,
};
use crate::{
    bridge::Bridged,
    config::UpstreamConfig,
    hub::routes::Route,
    wire::{
        Message,
        envelope::name_of,
        message::{self, INTERNAL_ERROR, INVALID_PARAMS},
        object::{Object, retain_list},
        trouble::{Reason, Retry, Trouble},
    },
};

/// Characters of a tool's name that an error repeats.
const NAME_CHARS_MAX: usize = 200;

/// Is there anything to look at in lists and calls of this upstream?
pub fn is_guarded(config: &UpstreamConfig) -> bool {
    config.tools.is_some() || config.pin_tools
}

/// The answer to a call of a tool that does not exist for callers; nobody behind us hears of it.
pub fn refusal(config: &UpstreamConfig, call: &Message) -> Option<String> {
    let filter = config.tools.as_ref()?;
    // A name that cannot be read could mean any tool.
    let name = name_of(call);
    let refused = name.as_ref().is_none_or(|name| !filter.admits(name));
    refused.then(|| unknown(name.as_deref()))
}

/// Is this definition the accepted one? `first`: what is seen before anything was accepted will be.
pub fn is_accepted(accepted: &Accepted, name: &str, hash: &str, first: bool) -> bool {
    match accepted {
        Accepted::Nothing => first,
        Accepted::These(tools) => tools.get(name).is_some_and(|known| known.hash == hash),
        Accepted::Unreadable(_) => false,
    }
}

/// With `pin_tools`: is what this connection offers known, and is the tool that is called the accepted one? Else the
/// answer to the call.
pub async fn vet(route: &Route, bridged: &Arc<Bridged>, request: &Message) -> Result<(), Bytes> {
    let is_call = match request.method() {
        "tools/call" => true,
        "tools/list" => false,
        _ => return Ok(()),
    };
    let tools = &route.serving.tools;
    tools.open().await;
    if !is_call && !matches!(**tools.accepted.load(), Accepted::Nothing) {
        return Ok(());
    }
    let name = name_of(request);
    let why = match &**tools.accepted.load() {
        Accepted::Unreadable(why) => Some(why.clone()),
        _ => None,
    };
    let refused = |why: &str| {
        let upstream = route.name.as_str();
        let text = match is_call {
            true => format!(
                "tool `{}` is withheld: {why}; an operator must run `hubward accept {upstream}`",
                shown(name.as_deref())
            ),
            false => format!("upstream `{upstream}`: {why}"),
        };
        let code = if is_call { INVALID_PARAMS } else { INTERNAL_ERROR };
        Err(Trouble::new(code, Reason::Withheld, Retry::No, text).of(upstream).response(request.id()))
    };
    if let Some(why) = why {
        return refused(&why);
    }
    let Some(offered) = tools.offered(bridged).await else {
        return refused("the upstream's list of tools cannot be read, to be compared with what was accepted");
    };
    if matches!(**tools.accepted.load(), Accepted::Nothing)
        && let Err(why) = tools.trust(&offered).await
    {
        return refused(&why);
    }
    if !is_call {
        return Ok(());
    }
    // What is in no list cannot have been accepted.
    let Some(definition) = name.as_deref().and_then(|name| offered.get(name)) else {
        return Err(message::error_response(request.id(), INVALID_PARAMS, &unknown(name.as_deref()), None));
    };
    match why_not(&tools.accepted.load(), name.as_deref().unwrap_or_default(), definition) {
        None => Ok(()),
        Some(why) => refused(why),
    }
}

/// Why a tool that is called is not the accepted one.
fn why_not(accepted: &Accepted, name: &str, offered: &Definition) -> Option<&'static str> {
    match accepted {
        Accepted::These(tools) => match tools.get(name) {
            Some(known) if known.hash == offered.hash => None,
            Some(_) => Some("its definition changed since it was accepted"),
            None => Some("it is new since the tools were accepted"),
        },
        Accepted::Nothing | Accepted::Unreadable(_) => Some("nothing was accepted yet"),
    }
}

/// The answer to `tools/list` as callers see it. Only the list itself is touched, and only where something is left out.
pub fn listed(route: &Route, session: u64, request: &Message, bytes: Bytes) -> Bytes {
    let Some(answer) = message::one(bytes.clone()) else { return bytes };
    let Some(text) = answer.result() else { return bytes };
    let unreadable = || {
        let upstream = route.name.as_str();
        let why = format!("upstream `{upstream}`: its list of tools cannot be read");
        Trouble::new(INTERNAL_ERROR, Reason::Failed, Retry::No, why).of(upstream).response(request.id())
    };
    let guarded = is_guarded(&route.config);
    let Some(result) = Object::read(text) else { return if guarded { unreadable() } else { bytes } };
    route.serving.tools.passed(session, request, &result);
    if !guarded {
        return bytes;
    }
    let mut lists = result.members().filter(|member| member.name == "tools");
    // Of two lists one would pass unseen.
    let (list, None) = (lists.next(), lists.next()) else { return unreadable() };
    // A question, or another end without tools.
    let Some(list) = list else { return bytes };
    let accepted = route.serving.tools.accepted.load();
    let wanted = |tool: &str| {
        let Some(object) = Object::read(tool) else { return false };
        let Some(name) = definition::name_of(&object) else { return false };
        let admitted = route.config.tools.as_ref().is_none_or(|filter| filter.admits(&name));
        let hash = || Definition::read(tool).map(|(_, definition)| definition.hash).unwrap_or_default();
        admitted && (!route.config.pin_tools || is_accepted(&accepted, &name, &hash(), false))
    };
    match retain_list(list.value.get(), wanted) {
        None => unreadable(),
        Some(None) => bytes,
        Some(Some(rest)) => answer.with(answer.span(list.value.get()), &rest),
    }
}

fn unknown(name: Option<&str>) -> String {
    format!("Unknown tool: {}", shown(name))
}

fn shown(name: Option<&str>) -> String {
    match name {
        Some(name) => name.chars().take(NAME_CHARS_MAX).collect(),
        None => "(no name)".into(),
    }
}
