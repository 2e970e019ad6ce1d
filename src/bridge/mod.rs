//! What every caller sees of every upstream, whatever its era.
//!
//! An upstream that was greeted is a [`Bridged`]: a Connection, and the [`Profile`] it presented. What a client
//! may be asked is its [`Abilities`]. Client and upstream are each of an era, and neither follows from the other:
//!
//! | client | upstream | the way of a call |
//! |---|---|---|
//! | older | older | as it came; newer kinds of content become text ([`content`]) |
//! | newer | older | without the envelope; the result stamped; questions end the request ([`shape`], [`seal`]) |
//! | older | newer | with an envelope; the result stripped ([`older`]); `input_required` becomes questions ([`input`]) |
//! | newer | newer | as it came; `requestState` sealed ([`seal`]) |

#![cfg_attr(docsrs, doc(hidden))]

pub mod ask;
pub mod content;
pub mod era;
pub mod feed;
pub mod handshake;
pub mod input;
pub mod older;
pub mod seal;
pub mod shape;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    link::connection::{CallError, Connection},
    wire::{Message, Revision, object::Object, revision::MODERN},
};

use feed::{Feed, Whose};
use older::own_params;

/// An upstream that has been greeted and can be called.
#[derive(Debug)]
pub struct Bridged {
    pub connection: Connection,
    pub profile: Arc<Profile>,
    /// The changes a newer server tells of; an older one tells them unasked.
    pub feed: Option<Feed>,
}

/// Where the next page of a list begins, as JSON.
pub fn next_cursor(page: &Object<'_>) -> Option<String> {
    page.get("nextCursor").map(|next| next.get()).filter(|next| *next != "null").map(str::to_owned)
}

/// Longest wait for an upstream to take a subscription or a log level, or to let go of it.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(10);

impl Bridged {
    /// A request of the hub's own, and its response.
    pub async fn request(&self, method: &str, params: Option<&str>, limit: Duration) -> Result<Message, CallError> {
        match self.profile.speaks {
            Speaks::Legacy(_) => self.connection.request(method, params, limit).await,
            Speaks::Modern => {
                let params = own_params(params);
                self.connection.request(method, params.as_deref(), limit).await
            }
        }
    }

    /// A page of a list, and where the next one begins, as JSON; none where there is no answer.
    pub async fn page(&self, method: &str, cursor: Option<&str>, limit: Duration) -> Option<(Message, Option<String>)> {
        let params = cursor.map(|cursor| format!(r#"{{"cursor":{cursor}}}"#));
        let answer = self.request(method, params.as_deref(), limit).await.ok()?;
        let next = next_cursor(&Object::read(answer.result()?)?);
        Some((answer, next))
    }

    /// Does it matter in whose name a resource is subscribed to?
    pub fn keeps_apart(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.apart)
    }

    /// Tells a new process what clients told the last one.
    pub async fn bring_up_to_date(&self, level: Option<&str>, wanted: BTreeMap<Whose, BTreeSet<String>>) {
        let mut taken = true;
        if let Some(feed) = &self.feed {
            // The level it is told with each request.
            let all = wanted
                .into_iter()
                .map(|(whose, uris)| async move { feed.subscribe(&whose, uris.into_iter().collect(), true).await });
            taken = join_all(all).await.into_iter().all(|taken| taken);
        } else {
            if let Some(level) = level {
                taken &= self.settled("logging/setLevel", &json!({ "level": level }).to_string()).await;
            }
            let uris: BTreeSet<String> = wanted.into_values().flatten().collect();
            for uri in uris {
                taken &= self.subscribe(&None, &uri, true).await;
            }
        }
        if !taken {
            tracing::warn!(upstream = self.connection.name(), "a new process did not take over all settings");
        }
    }

    /// Asks to be told when a resource changes, or no more. Answers whether that was taken.
    pub async fn subscribe(&self, whose: &Whose, uri: &str, on: bool) -> bool {
        if let Some(feed) = &self.feed {
            let taken = tokio::time::timeout(SETTLE_WAIT_MAX, feed.subscribe(whose, vec![uri.to_owned()], on));
            return taken.await.unwrap_or(false);
        }
        let method = if on { "resources/subscribe" } else { "resources/unsubscribe" };
        self.settled(method, &json!({ "uri": uri }).to_string()).await
    }

    /// Is this taken?
    async fn settled(&self, method: &str, params: &str) -> bool {
        let answer = self.connection.request(method, Some(params), SETTLE_WAIT_MAX).await;
        answer.is_ok_and(|answer| answer.result().is_some())
    }
}

/// The revision an upstream agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// One that opens with `initialize`.
    Legacy(Revision),
    /// 2026-07-28.
    Modern,
}

impl Speaks {
    pub fn as_str(self) -> &'static str {
        match self {
            Speaks::Legacy(revision) => revision.as_str(),
            Speaks::Modern => MODERN,
        }
    }
}

/// What an upstream said of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub speaks: Speaks,
    /// The whole `InitializeResult`; of a newer server, what it would be.
    pub result: Value,
    /// Who it says it is, as JSON.
    pub server_info: String,
}

impl Profile {
    pub fn new(speaks: Speaks, result: Value) -> Profile {
        let server_info = result["serverInfo"].to_string();
        Profile { speaks, result, server_info }
    }

    pub fn is_modern(&self) -> bool {
        self.speaks == Speaks::Modern
    }

    /// Does the upstream have this capability, such as `["resources", "subscribe"]`?
    pub fn can(&self, path: &[&str]) -> bool {
        let mut at = &self.result["capabilities"];
        for name in path {
            at = &at[*name];
        }
        match at {
            Value::Bool(flag) => *flag,
            Value::Null => false,
            _ => true,
        }
    }

    /// It has no way to say anything unasked, whatever it promised.
    pub fn tells_nothing(&mut self) {
        for family in ["tools", "prompts", "resources"] {
            if let Some(family) = self.result["capabilities"].get_mut(family).and_then(Value::as_object_mut) {
                family.remove("listChanged");
                family.remove("subscribe");
            }
        }
    }

    /// The answer to a client's `initialize`: its own revision, and only what can be delivered to it.
    pub fn answer(&self, revision: Revision, offer: Offer) -> String {
        let mut result = self.result.clone();
        result["protocolVersion"] = revision.as_str().into();
        let mut capabilities = self.capabilities(offer);
        // The experimental tasks of 2025-11-25 are between two that speak it, and the process has no other client.
        let both = revision.tasks() && self.speaks == Speaks::Legacy(revision);
        if let Some(tasks) = self.result["capabilities"].get("tasks").filter(|_| both && offer == Offer::Everything) {
            capabilities["tasks"] = tasks.clone();
        }
        result["capabilities"] = capabilities;
        result.to_string()
    }

    /// What can be delivered of what the upstream offers.
    pub fn capabilities(&self, offer: Offer) -> Value {
        let mut all = self.result["capabilities"].clone();
        if let Some(capabilities) = all.as_object_mut() {
            capabilities.remove("tasks");
            if offer != Offer::Everything {
                capabilities.remove("experimental");
                capabilities.remove("extensions");
            }
            if offer == Offer::SingleCalls {
                for family in ["tools", "prompts", "resources"] {
                    if let Some(family) = capabilities.get_mut(family).and_then(Value::as_object_mut) {
                        family.remove("listChanged");
                        family.remove("subscribe");
                    }
                }
                capabilities.remove("logging");
            }
        }
        all
    }
}

/// How much of an upstream a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The process is the client's own.
    Everything,
    /// The process is shared: nothing that is agreed on between two parties.
    Shared,
    /// Each call may meet another process: nothing that outlives a call.
    SingleCalls,
}

/// What a client declared that it can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    pub roots: bool,
    pub sampling: bool,
    pub sampling_tools: bool,
    pub elicitation_form: bool,
    pub elicitation_url: bool,
}

impl Abilities {
    /// Reads the `capabilities` of an `initialize` request.
    pub fn read(capabilities: &Value) -> Abilities {
        let has = |value: &Value| value.is_object();
        let elicitation = &capabilities["elicitation"];
        Abilities {
            roots: has(&capabilities["roots"]),
            sampling: has(&capabilities["sampling"]),
            sampling_tools: has(&capabilities["sampling"]["tools"]),
            // `{}` means forms, the only kind there was before 2025-11-25.
            elicitation_form: has(elicitation) && (has(&elicitation["form"]) || !has(&elicitation["url"])),
            elicitation_url: has(&elicitation["url"]),
        }
    }

    pub fn any(self) -> bool {
        self != Abilities::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn abilities_follow_the_declared_capabilities() {
        let read = |capabilities| Abilities::read(&capabilities);
        assert!(!read(json!({})).any());
        assert!(!read(json!(null)).any());
        assert!(read(json!({"roots": {"listChanged": true}})).roots);
        let form = read(json!({"elicitation": {}}));
        assert!(form.elicitation_form && !form.elicitation_url);
        let url = read(json!({"elicitation": {"url": {}}}));
        assert!(!url.elicitation_form && url.elicitation_url);
        let both = read(json!({"elicitation": {"form": {}, "url": {}}}));
        assert!(both.elicitation_form && both.elicitation_url);
        assert!(read(json!({"sampling": {"tools": {}}})).sampling_tools);
    }

    #[test]
    fn an_offer_leaves_out_what_cannot_be_delivered() {
        let result = json!({
            "protocolVersion": "2025-06-18", "serverInfo": {"name": "s", "version": "1"}, "x": [1],
            "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}, "tasks": {},
                             "logging": {}, "experimental": {"e": {}}}
        });
        let profile = Profile::new(Speaks::Legacy(Revision::V2025_06_18), result);
        let answer = |offer| -> Value {
            serde_json::from_str(&profile.answer(Revision::V2024_11_05, offer)).expect("it was just printed")
        };
        let all = answer(Offer::Everything);
        assert_eq!((all["protocolVersion"].as_str(), &all["x"]), (Some("2024-11-05"), &json!([1])));
        let expected = json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {},
                              "experimental": {"e": {}}});
        assert_eq!(all["capabilities"], expected);
        assert_eq!(answer(Offer::Shared)["capabilities"]["experimental"], Value::Null);
        assert_eq!(answer(Offer::SingleCalls)["capabilities"], json!({"tools": {}, "resources": {}}));
        assert!(profile.can(&["resources", "subscribe"]) && !profile.can(&["prompts"]));
    }
}
