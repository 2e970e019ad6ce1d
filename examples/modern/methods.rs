//! The methods other than calls, and what has to be right with any request.

use serde_json::{Value, json};

use crate::options::Probe;
use crate::server::{Call, Outcome, Refusal, Server, cacheable, complete, refusal};
use crate::{VERSION, ask, listen, tools};

/// What the revision took away; with an envelope or without, it is not there.
const REMOVED: [&str; 7] = [
    "initialize",
    "ping",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "tasks/result",
    "tasks/list",
];

/// The envelope, and what is gone.
pub fn check(call: &Call) -> Result<(), Refusal> {
    let Call { server, request, .. } = call;
    let method = request.method.as_str();
    if method == "initialize" {
        return Err(no_initialize(server));
    }
    if REMOVED.contains(&method) {
        server.complain(&format!("a request {method}"));
        return Err(refusal(-32601, format!("{method} is gone")));
    }
    let wrong = |what: &str| {
        server.complain(&format!("{method} with {what}"));
        refusal(-32602, what)
    };
    let Value::String(version) = request.said("protocolVersion") else {
        return Err(wrong("no protocolVersion in its envelope"));
    };
    if version != VERSION {
        server.complain(&format!("{method} of {version}"));
        let data = json!({"supported": [VERSION], "requested": version});
        return Err(Refusal { data, ..refusal(-32022, "this version is not spoken here") });
    }
    if !request.said("clientCapabilities").is_object() {
        return Err(wrong("no clientCapabilities in its envelope"));
    }
    let client = request.said("clientInfo");
    let is_named = client["name"].is_string() && client["version"].is_string();
    if !client.is_null() && !is_named {
        return Err(wrong("a clientInfo that is none"));
    }
    if request.params.contains_key("task") {
        return Err(wrong("a task of an older revision"));
    }
    Ok(())
}

fn no_initialize(server: &Server) -> Refusal {
    match server.options.initialize_code {
        Some(-32022) => refused([VERSION]),
        code => refusal(code.unwrap_or(-32601), "this server has no initialize"),
    }
}

/// An unsupported version, with the ones that are.
pub fn refused(supported: [&str; 1]) -> Refusal {
    let data = json!({"supported": supported, "requested": "unknown"});
    Refusal { data, ..refusal(-32022, "this version is not spoken here") }
}

pub fn answer(call: Call) {
    let outcome = match call.request.method.as_str() {
        "tools/call" => return tools::run(call),
        "subscriptions/listen" => return listen::open(call),
        "server/discover" => match discover(&call) {
            Some(outcome) => outcome,
            None => return,
        },
        "tools/list" => Ok(cacheable(json!({"tools": tools::list()}))),
        "prompts/list" => Ok(cacheable(json!({"prompts": [
            {"name": "plain", "description": "Says hello."},
            {"name": "asks", "description": "Says what it was told.", "arguments": [{"name": "topic"}]},
        ]}))),
        "prompts/get" => prompt(&call),
        "resources/list" => {
            let resources = ["one", "two", "asks"].map(|name| json!({"uri": format!("modern://{name}"), "name": name}));
            Ok(cacheable(json!({ "resources": resources })))
        }
        "resources/templates/list" => Ok(cacheable(json!({"resourceTemplates": []}))),
        "resources/read" => resource(&call),
        "completion/complete" => completion(&call),
        method => Err(refusal(-32601, format!("no method {method:?} here"))),
    };
    call.end(outcome);
}

/// None: silence.
fn discover(call: &Call) -> Option<Outcome> {
    let server = &call.server;
    let probes = {
        let mut memory = server.memory();
        memory.probes += 1;
        memory.probes
    };
    let starts = || std::fs::read_to_string(server.options.counter.as_deref()?).ok().map(|text| text.lines().count());
    match server.options.probe {
        Some(Probe::Once) if probes == 1 => return Some(Err(refused([VERSION]))),
        Some(Probe::Late) if starts() == Some(1) => return None,
        _ => {}
    }
    let mut result = json!({"supportedVersions": [VERSION], "capabilities": server.options.capabilities()});
    if let Some(text) = &server.options.instructions {
        result["instructions"] = json!(text);
    }
    Some(Ok(cacheable(result)))
}

fn prompt(call: &Call) -> Outcome {
    let said = |text: String| json!({"messages": [{"role": "user", "content": {"type": "text", "text": text}}]});
    match call.request.text("name").as_str() {
        "plain" => Ok(complete(said("Hello.".into()))),
        "asks" => ask::once(call, |told| complete(said(told))),
        name => Err(refusal(-32602, format!("no prompt {name:?} here"))),
    }
}

fn resource(call: &Call) -> Outcome {
    let uri = call.request.text("uri");
    let contents = |text: String| json!({"contents": [{"uri": uri, "mimeType": "text/plain", "text": text}]});
    match uri.as_str() {
        "modern://one" | "modern://two" => {
            let version = call.server.memory().versions.get(&uri).copied().unwrap_or(0);
            Ok(cacheable(contents(format!("version {version}"))))
        }
        // What was told to one is nobody else's: fresh at once, and private.
        "modern://asks" => ask::once(call, |told| {
            let mut result = contents(told);
            result["ttlMs"] = json!(0);
            result["cacheScope"] = json!("private");
            complete(result)
        }),
        _ => Err(Refusal { data: json!({"uri": uri}), ..refusal(-32602, format!("no resource {uri:?} here")) }),
    }
}

/// The value `ask` is answered as no server may: a completion cannot require input.
fn completion(call: &Call) -> Outcome {
    if call.request.value("argument")["value"] == "ask" {
        let questions = json!({"q": ask::elicitation("May I?")});
        return Ok(json!({"resultType": "input_required", "inputRequests": questions}).to_string());
    }
    Ok(complete(json!({"completion": {"values": ["one", "two"], "total": 2, "hasMore": false}})))
}
