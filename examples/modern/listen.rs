//! Listens: acknowledged first, then only what was asked for, each notice with the listen's id.

use serde_json::{Value, json};

use crate::server::{Call, Server, complete, refusal};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

pub struct Listen {
    /// As JSON.
    pub id: String,
    /// What is honoured of what was asked for.
    pub filter: Value,
}

pub fn open(call: Call) {
    let wanted = call.request.value("notifications");
    if !wanted.is_object() {
        call.server.complain("a listen without notifications");
        return call.end(Err(refusal(-32602, "notifications has to be an object")));
    }
    let mut filter = json!({});
    for kind in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
        if wanted[kind] == true {
            filter[kind] = json!(true);
        }
    }
    if let Some(uris) = wanted["resourceSubscriptions"].as_array() {
        let ours = |uri: &&Value| uri.as_str().is_some_and(|uri| uri.starts_with("modern://"));
        filter["resourceSubscriptions"] = uris.iter().filter(ours).cloned().collect();
    }
    let listen = Listen { id: call.id.clone(), filter: filter.clone() };
    notice(&call.server, &listen, "notifications/subscriptions/acknowledged", json!({"notifications": filter}));
    let mut memory = call.server.memory();
    memory.filters.push(wanted);
    memory.listens.push(listen);
    drop(memory);
    if let Some(time) = call.server.options.end_listens {
        call.spawn(move |call| {
            if call.sleep(time.as_millis() as u64) {
                end(&call.server);
            }
        });
    }
}

/// Ends all listens as a server does that ends: the result, then the cancellation.
pub fn end(server: &Server) {
    let listens = std::mem::take(&mut server.memory().listens);
    for Listen { id, .. } in listens {
        server.memory().in_flight.remove(&id);
        let own: Value = serde_json::from_str(&id).unwrap_or_default();
        let result = complete(json!({"_meta": {SUBSCRIPTION: own}}));
        server.line(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
        server.notify("notifications/cancelled", json!({"requestId": own}));
    }
}

/// A list of this kind (`tools`, `prompts`, `resources`) changed.
pub fn changed(server: &Server, kind: &str) {
    let key = format!("{kind}ListChanged");
    let memory = server.memory();
    for listen in memory.listens.iter().filter(|listen| listen.filter[&key] == true) {
        notice(server, listen, &format!("notifications/{kind}/list_changed"), json!({}));
    }
}

/// A resource changed: told to those who asked for it, or for what it is a part of.
pub fn updated(server: &Server, uri: &str) {
    let mut memory = server.memory();
    *memory.versions.entry(uri.to_owned()).or_default() += 1;
    let concerns = |listen: &&Listen| {
        let uris = listen.filter["resourceSubscriptions"].as_array();
        uris.is_some_and(|uris| uris.iter().filter_map(Value::as_str).any(|known| uri.starts_with(known)))
    };
    for listen in memory.listens.iter().filter(concerns) {
        notice(server, listen, "notifications/resources/updated", json!({ "uri": uri }));
    }
}

fn notice(server: &Server, listen: &Listen, method: &str, mut params: Value) {
    let id: Value = serde_json::from_str(&listen.id).unwrap_or_default();
    params["_meta"] = json!({ SUBSCRIPTION: id });
    server.notify(method, params);
}
