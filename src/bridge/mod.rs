//! What every caller sees of every upstream, whatever its era.
//!
//! An upstream that was greeted is a [`Bridged`]: a Connection, and the [`Profile`] it presented. What a client
//! may be asked is its [`Abilities`].

pub mod ask;
pub mod handshake;
pub mod seal;
pub mod shape;

use std::sync::Arc;

use serde_json::Value;

use crate::{link::connection::Connection, wire::Revision};

/// An upstream that has been greeted and can be called.
#[derive(Debug)]
pub struct Bridged {
    pub connection: Connection,
    pub profile: Arc<Profile>,
}

/// What an upstream said of itself in its answer to `initialize`.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub revision: Revision,
    /// The whole `InitializeResult`.
    pub result: Value,
}

impl Profile {
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

    /// The answer to a client's `initialize`: its own revision, and only what can be delivered to it.
    pub fn answer(&self, revision: Revision, offer: Offer) -> String {
        let mut result = self.result.clone();
        result["protocolVersion"] = revision.as_str().into();
        result["capabilities"] = self.capabilities(offer);
        result.to_string()
    }

    /// What can be delivered of what the upstream offers.
    pub fn capabilities(&self, offer: Offer) -> Value {
        let mut all = self.result["capabilities"].clone();
        if let Some(capabilities) = all.as_object_mut() {
            // The experimental tasks of 2025-11-25 need ownership that is not checked here.
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
        let profile = Profile { revision: Revision::V2025_06_18, result };
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
