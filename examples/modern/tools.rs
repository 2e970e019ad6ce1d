//! The tools. One table names them all.

use std::process;

use serde_json::{Map, Value, json};

use crate::server::{Call, Outcome, Refusal, complete, refusal};
use crate::{ask, listen};

/// Name, arguments as `name:type`, description, deed.
type Tool = (&'static str, &'static str, &'static str, fn(Call));

#[rustfmt::skip]
const TOOLS: &[Tool] = &[
    // What arrived.
    ("echo", "", "Two texts: the arguments and the _meta as they came.", |call| { let result = echoed(&call); call.end(Ok(complete(result))) }),
    ("mirror", "", "Like echo; the arguments come back in several places of the result too, to the byte.", |call| { let result = mirrored(&call, true); call.end(Ok(result)) }),
    ("pid", "", "The id of this process.", |call| say(&call, process::id())),
    ("seen", "", "What the server remembers, as JSON: complaints, cancelled, inFlight, listens, filters, pid.", seen),
    // Time.
    ("slow", "count:integer ms:integer", "So many progress notifications, so far apart; returns count.", slow),
    ("hang", "", "Never answers, but can be cancelled.", |call| call.spawn(|call| while call.sleep(3_600_000) {})),
    ("log", "level:string text:string", "A log message, if it was asked for; then ok.", log),
    // Questions; the text is {"answers": [inputResponses…], "waits": [ms…]}.
    ("ask", "message:string", "One elicitation.", |call| call.end(ask::tool(&call))),
    ("ask_url", "message:string", "One elicitation by URL.", |call| call.end(ask::tool(&call))),
    ("ask_many", "message:string", "An elicitation (e), a sampling (s) and the roots (r) in one round.", |call| call.end(ask::tool(&call))),
    ("ask_rounds", "message:string count:integer", "So many elicitations, one after the other.", |call| call.end(ask::tool(&call))),
    ("ask_state", "count:integer", "So many results with a state and no question.", |call| call.end(ask::tool(&call))),
    ("needs_sampling", "ms:integer", "-32021 after so long, unless sampling is declared.", needs_sampling),
    // Results.
    ("weird", "", "A result whose type nobody knows.", |call| call.end(Ok(r#"{"resultType":"x-unheard-of","content":[]}"#.into()))),
    ("fail", "code:integer message:string", "An error with data.", |call| { let failed = failed(&call); call.end(Err(failed)) }),
    ("odd", "", "ODD as the result, to the byte.", |call| call.end(Ok(ODD.to_owned()))),
    ("numbers", "", "An array, with a schema that says so and no text.", |call| call.end(structured(json!([1, 2, 3])))),
    ("choice", "object:boolean", "An object or a text, with a schema for either.", |call| { let value = chosen(&call); call.end(structured(value)) }),
    ("record", "", "An object, with a schema of an object.", |call| call.end(structured(json!({"n": 1})))),
    ("loose", "", "A number, with no schema at all.", |call| call.end(structured(json!(7)))),
    ("region", "region:string count:integer", "Returns its region, which a header has to repeat.", |call| say(&call, call.text("region"))),
    ("task", "", "A task where the client declared the extension, else ok.", task),
    // Notices.
    ("change", "kind:string", "The list of tools, prompts or resources changed.", |call| { listen::changed(&call.server, &call.text("kind")); say(&call, "ok") }),
    ("update", "uri:string", "A resource changed.", |call| { listen::updated(&call.server, &call.text("uri")); say(&call, "ok") }),
    ("end_listens", "", "The server ends all listens.", |call| { listen::end(&call.server); say(&call, "ok") }),
    ("crash", "code:integer", "Exits at once, in the middle of the call.", |call| process::exit(call.number("code") as i32)),
];

/// What a parser which builds a tree would lose, and members no revision defines.
pub const ODD: &str = r#"{"resultType":"complete","zeta":[1.50,1e400,9007199254740993,-0,1E+2],"content":[{"text":"caf\u00e9 \/","type":"text","x-colour":"red","annotations":{"audience":["nobody"],"x":null}},{"type":"x-unheard-of","payload":{"deep":[[[]]]}}],"structuredContent":{"exact":1.10,"b":1,"a":2},"_meta":{"example.com/trace":"a\tb","example.com/big":123456789012345678901234567890},"alpha":{},"isError":false}"#;

/// The tools that the older server has, too.
const SHARED: [&str; 3] = ["echo", "mirror", "pid"];

pub fn list() -> Vec<Value> {
    TOOLS.iter().map(|(name, arguments, text, _)| tool(name, arguments, text)).collect()
}

pub fn list_legacy() -> Vec<Value> {
    TOOLS.iter().filter(|tool| SHARED.contains(&tool.0)).map(|(name, .., text, _)| tool(name, "", text)).collect()
}

fn tool(name: &str, arguments: &str, description: &str) -> Value {
    let properties: Map<String, Value> = arguments
        .split_whitespace()
        .filter_map(|argument| argument.split_once(':'))
        .map(|(name, kind)| (name.to_owned(), json!({ "type": kind })))
        .collect();
    let schema = json!({"type": "object", "properties": properties});
    let mut tool = json!({"name": name, "description": description, "inputSchema": schema});
    if name == "region" {
        tool["inputSchema"]["properties"]["region"]["x-mcp-header"] = json!("Region");
        tool["inputSchema"]["properties"]["count"]["x-mcp-header"] = json!("Count");
    }
    if let Some(schema) = output_schema(name) {
        tool["outputSchema"] = schema;
    }
    tool
}

fn output_schema(tool: &str) -> Option<Value> {
    let number = json!({"n": {"type": "integer"}});
    Some(match tool {
        "numbers" => json!({"$defs": number, "type": "array", "items": {"$ref": "#/$defs/n"}}),
        "choice" => json!({"anyOf": [{"type": "object"}, {"type": "string"}]}),
        "record" => json!({"type": "object", "properties": number}),
        _ => return None,
    })
}

pub fn run(call: Call) {
    let name = call.request.text("name");
    match TOOLS.iter().find(|tool| tool.0 == name) {
        Some((.., deed)) => deed(call),
        None => call.end(Err(refusal(-32602, format!("no tool {name:?} here")))),
    }
}

pub fn run_legacy(call: Call) {
    let outcome = match call.request.text("name").as_str() {
        "echo" => Ok(echoed(&call).to_string()),
        "mirror" => Ok(mirrored(&call, false)),
        "pid" => Ok(json!({"content": [{"type": "text", "text": process::id().to_string()}]}).to_string()),
        name => Err(refusal(-32602, format!("no tool {name:?} here"))),
    };
    call.end(outcome);
}

fn say(call: &Call, text: impl ToString) {
    call.end(Ok(complete(json!({"content": [{"type": "text", "text": text.to_string()}]}))));
}

fn echoed(call: &Call) -> Value {
    let texts = ["arguments", "_meta"].map(|name| json!({"type": "text", "text": call.request.raw(name)}));
    json!({ "content": texts })
}

fn mirrored(call: &Call, is_modern: bool) -> String {
    let raw = call.request.raw("arguments");
    let [arguments, meta] = ["arguments", "_meta"].map(|name| json!(call.request.raw(name)));
    let kind = if is_modern { r#""resultType":"complete","# } else { "" };
    format!(
        r#"{{{kind}"content":[{{"type":"text","text":{arguments},"x-block":{raw}}},{{"type":"text","text":{meta}}}],"structuredContent":{raw},"x-unknown":{raw},"_meta":{{"example.com/mirror":{raw}}}}}"#
    )
}

fn seen(call: Call) {
    let memory = call.server.memory();
    let told = json!({
        "pid": process::id(),
        "complaints": memory.complaints,
        "cancelled": memory.cancelled,
        // But for this call and the listens.
        "inFlight": memory.in_flight.len() - 1 - memory.listens.len(),
        "listens": memory.listens.iter().map(|listen| &listen.filter).collect::<Vec<_>>(),
        "filters": memory.filters,
        "pending": memory.pending.len(),
    });
    drop(memory);
    say(&call, told);
}

fn slow(call: Call) {
    call.spawn(|call| {
        let (count, token) = (call.number("count"), call.request.said("progressToken"));
        for step in 1..=count {
            if !call.sleep(call.number("ms")) {
                return;
            }
            if !token.is_null() {
                let progress = json!({"progressToken": token, "progress": step, "total": count});
                call.server.notify("notifications/progress", progress);
            }
        }
        say(&call, count);
    });
}

fn log(call: Call) {
    const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
    let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
    let (level, asked) = (call.text("level"), call.request.said("logLevel"));
    if let Some(least) = asked.as_str() {
        if rank(least).is_none() {
            call.server.complain(&format!("the log level {least:?}"));
            return call.end(Err(refusal(-32602, "no such log level")));
        }
        if rank(&level) >= rank(least) {
            let message = json!({"level": level, "logger": "modern", "data": call.text("text")});
            call.server.notify("notifications/message", message);
        }
    }
    say(&call, "ok");
}

fn needs_sampling(call: Call) {
    call.spawn(|call| {
        if !call.sleep(call.number("ms")) {
            return;
        }
        match call.request.declares("sampling") {
            true => say(&call, "ok"),
            false => call.end(Err(ask::undeclared(json!({"sampling": {}})))),
        }
    });
}

fn failed(call: &Call) -> Refusal {
    let code = call.request.argument("code").as_i64().unwrap_or(-32603);
    Refusal { data: json!({"x": 1.5}), ..refusal(code, call.text("message")) }
}

/// No text beside the value: an older client needs one, and whoever leads it here has to make it.
fn structured(value: Value) -> Outcome {
    Ok(complete(json!({"content": [], "structuredContent": value})))
}

fn chosen(call: &Call) -> Value {
    if call.request.argument("object") == true { json!({"chosen": "object"}) } else { json!("text") }
}

fn task(call: Call) {
    let extensions = call.request.said("clientCapabilities")["extensions"].clone();
    if !(call.server.options.tasks && extensions["io.modelcontextprotocol/tasks"].is_object()) {
        return say(&call, "ok");
    }
    let now = "2026-08-01T00:00:00Z";
    let task = json!({"resultType": "task", "taskId": "t1", "status": "working", "createdAt": now,
                      "lastUpdatedAt": now, "ttlMs": 60_000});
    call.end(Ok(task.to_string()));
}
