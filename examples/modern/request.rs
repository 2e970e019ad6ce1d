//! A request as it was written: what is handed back to a test must not have gone through a tree.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

pub type Members = BTreeMap<String, Box<RawValue>>;

pub struct Request {
    /// As JSON; none in a notification.
    pub id: Option<String>,
    pub method: String,
    pub params: Members,
    /// The members of `params._meta`.
    pub meta: Members,
}

impl Request {
    /// None: no method.
    pub fn read(message: Members) -> Option<Self> {
        let method = serde_json::from_str(message.get("method")?.get()).ok()?;
        let id = message.get("id").map(|id| id.get().to_owned());
        let params = message.get("params").map_or_else(Members::new, |params| members(params.get()));
        let meta = params.get("_meta").map_or_else(Members::new, |meta| members(meta.get()));
        Some(Self { id, method, params, meta })
    }

    /// A member of the params as it was written; `null` when it is missing.
    pub fn raw(&self, name: &str) -> &str {
        self.params.get(name).map_or("null", |raw| raw.get())
    }

    pub fn value(&self, name: &str) -> Value {
        serde_json::from_str(self.raw(name)).unwrap_or_default()
    }

    pub fn text(&self, name: &str) -> String {
        self.value(name).as_str().unwrap_or_default().to_owned()
    }

    /// One of the arguments.
    pub fn argument(&self, name: &str) -> Value {
        self.value("arguments")[name].clone()
    }

    /// A member of `_meta`: one of the reserved ones by its last part, or any other by its name.
    pub fn said(&self, name: &str) -> Value {
        let reserved = format!("io.modelcontextprotocol/{name}");
        let raw = self.meta.get(&reserved).or(self.meta.get(name));
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// Does it declare a capability, such as `elicitation.url`? An empty `elicitation` means forms.
    pub fn declares(&self, capability: &str) -> bool {
        let all = self.said("clientCapabilities");
        match capability {
            "elicitation.form" => {
                let modes = &all["elicitation"];
                modes.as_object().is_some_and(|modes| modes.is_empty() || modes.contains_key("form"))
            }
            "elicitation.url" => all["elicitation"]["url"].is_object(),
            _ => all[capability].is_object(),
        }
    }
}

fn members(json: &str) -> Members {
    serde_json::from_str(json).unwrap_or_default()
}
