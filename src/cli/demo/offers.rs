//! What the demo offers: the texts a newcomer reads first.

use serde_json::{Value, json};

use super::server::Refusal;

/// The resource that changes.
pub const COUNTER: &str = "demo://counter";
const README: &str = "demo://readme";
const GREETING: &str = "demo://greeting/";
const NAMES: [&str; 10] =
    ["Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Hedy", "Katherine", "Margaret"];

const INSTRUCTIONS: &str = "A demo with one of everything. Call echo or add for a start, slow to \
    watch progress, ask_name and ask_model to be asked something back. demo://readme tells more.";

const README_TEXT: &str = "# The demo of hubward

You are reading a resource of a small MCP server that came with hubward.

- Call `echo` or `add`: the server works.
- Call `slow`: progress arrives while you wait, and you may cancel.
- Subscribe to `demo://counter`, then call `tick`: you are told that it changed.
- Read `demo://greeting/Ada`: a resource made from a template.
- Get the prompt `introduce`: its argument is completed as you type.
- Call `ask_name`, `ask_model` or `list_roots`: this time the server asks your client.
- Call `add_tool`: the list of tools changes, and you are told so.

Replace it in hub.toml with a server of your own when you have seen enough.
";

pub fn initialize(revision: &str) -> Value {
    json!({
        "protocolVersion": revision,
        "capabilities": {
            "tools": {"listChanged": true},
            "resources": {"subscribe": true},
            "prompts": {},
            "completions": {},
            "logging": {},
        },
        "serverInfo": {"name": "hubward-demo", "title": "The demo of hubward", "version": env!("CARGO_PKG_VERSION")},
        "instructions": INSTRUCTIONS,
    })
}

pub fn tools(added: &[String]) -> Value {
    let extra =
        added.iter().map(|name| tool(name, name, "A tool you added with add_tool. It says hello.", true, json!({})));
    let tools: Vec<Value> = built_in().into_iter().chain(extra).collect();
    json!({ "tools": tools })
}

pub fn is_tool(name: &str) -> bool {
    built_in().iter().any(|tool| tool["name"] == name)
}

fn built_in() -> Vec<Value> {
    let mut add = tool(
        "add",
        "Add two numbers",
        "Adds a and b. The sum also comes as structured content.",
        true,
        json!({
            "a": {"type": "number", "description": "The first number"},
            "b": {"type": "number", "description": "The second number"},
        }),
    );
    add["outputSchema"] = json!({
        "type": "object",
        "properties": {"sum": {"type": "number", "description": "a + b"}},
        "required": ["sum"],
    });
    let mut slow = tool(
        "slow",
        "Take your time",
        "Takes a few seconds, reports progress to clients that ask for it, and stops at once when cancelled.",
        true,
        json!({
            "seconds": {"type": "number", "minimum": 0, "maximum": 60, "default": 3, "description": "How long to take"},
            "steps": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "How many times to report progress; once a second unless given"},
        }),
    );
    slow["inputSchema"]["required"] = json!([]);
    vec![
        tool(
            "echo",
            "Echo",
            "Returns the text it is given, unchanged.",
            true,
            json!({
                "text": {"type": "string", "description": "Anything you like"},
            }),
        ),
        add,
        slow,
        tool("tick", "Tick", "Adds one to demo://counter, and tells those who subscribed to it.", false, json!({})),
        tool(
            "ask_name",
            "Ask for your name",
            "Asks you for your name through the client (elicitation), then greets you.",
            true,
            json!({}),
        ),
        tool(
            "ask_model",
            "Ask the model",
            "Puts a question to the client's model (sampling) and returns its answer.",
            true,
            json!({
                "prompt": {"type": "string", "description": "What to ask the model"},
            }),
        ),
        tool(
            "list_roots",
            "List the roots",
            "Asks the client which folders it shares (roots) and lists them.",
            true,
            json!({}),
        ),
        tool(
            "add_tool",
            "Add a tool",
            "Adds a tool of that name to this server and announces that the list of tools has changed.",
            false,
            json!({
                "name": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_.-]+$", "description": "The name of the new tool"},
            }),
        ),
    ]
}

/// A tool all of whose arguments are required. None of ours destroys anything or leaves the house.
fn tool(name: &str, title: &str, description: &str, reads_only: bool, properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    json!({
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": {"type": "object", "required": required, "properties": properties},
        "annotations": {"title": title, "readOnlyHint": reads_only, "destructiveHint": false, "openWorldHint": false},
    })
}

pub fn resources() -> Value {
    json!({"resources": [
        {"uri": README, "name": "readme", "title": "Read me", "description": "What there is to try here.", "mimeType": "text/markdown"},
        {"uri": COUNTER, "name": "counter", "title": "Counter", "description": "A number that the tool tick raises. Subscribe to it.", "mimeType": "text/plain"},
    ]})
}

pub fn resource_templates() -> Value {
    json!({"resourceTemplates": [
        {"uriTemplate": "demo://greeting/{name}", "name": "greeting", "title": "Greeting", "description": "A greeting for whomever you name.", "mimeType": "text/plain"},
    ]})
}

/// The answer to `resources/read`, if there is such a resource.
pub fn read(uri: &str, counter: u64) -> Option<Value> {
    let (kind, text) = match uri {
        README => ("text/markdown", README_TEXT.to_owned()),
        COUNTER => ("text/plain", counter.to_string()),
        _ => ("text/plain", format!("Hello, {}!", name_in(uri)?)),
    };
    Some(json!({"contents": [{"uri": uri, "mimeType": kind, "text": text}]}))
}

/// The name in `demo://greeting/{name}`, its percent escapes resolved.
fn name_in(uri: &str) -> Option<String> {
    let escaped = uri.strip_prefix(GREETING)?;
    if escaped.is_empty() || escaped.contains('/') {
        return None;
    }
    let mut parts = escaped.split('%');
    let mut name = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).filter(|code| code.bytes().all(|c| c.is_ascii_hexdigit()))?;
        name.push(u8::from_str_radix(code, 16).ok()?);
        name.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(name).ok()
}

pub fn prompts() -> Value {
    json!({"prompts": [{
        "name": "introduce",
        "title": "Introduce someone",
        "description": "Asks the model to introduce someone in two sentences.",
        "arguments": [{"name": "name", "description": "Who is to be introduced", "required": true}],
    }]})
}

pub fn prompt(params: &Value) -> Result<Value, Refusal> {
    if params["name"] != "introduce" {
        return Err((-32602, format!("There is no prompt {}. Try introduce.", params["name"])));
    }
    let name = params["arguments"]["name"].as_str();
    let name = name.ok_or((-32602, r#"The prompt introduce needs a "name", as in {"name": "Ada"}."#.to_owned()))?;
    let text = format!("Please introduce {name} to me in two friendly sentences.");
    Ok(json!({
        "description": format!("An introduction of {name}"),
        "messages": [{"role": "user", "content": {"type": "text", "text": text}}],
    }))
}

/// The answer to `completion/complete`: names for the prompt and for the template alike.
pub fn complete(params: &Value) -> Result<Value, Refusal> {
    let reference = &params["ref"];
    let prompt = reference["type"] == "ref/prompt" && reference["name"] == "introduce";
    let template = reference["type"] == "ref/resource" && reference["uri"] == "demo://greeting/{name}";
    if !prompt && !template {
        return Err((-32602, format!("There is nothing to complete for {reference}.")));
    }
    let begun = params["argument"]["value"].as_str().unwrap_or_default().to_lowercase();
    let names =
        NAMES.iter().filter(|name| params["argument"]["name"] == "name" && name.to_lowercase().starts_with(&begun));
    let names: Vec<_> = names.collect();
    Ok(json!({"completion": {"values": names, "total": names.len(), "hasMore": false}}))
}

pub fn ask_name() -> Value {
    json!({
        "message": "The demo would like to greet you. What is your name?",
        "requestedSchema": {
            "type": "object",
            "properties": {"name": {"type": "string", "title": "Name", "description": "Any name will do"}},
            "required": ["name"],
        },
    })
}

pub fn ask_model(prompt: &str) -> Value {
    json!({
        "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}],
        "systemPrompt": "Answer in one short paragraph.",
        "maxTokens": 300,
    })
}
