//! What a request of 2026-07-28 carries beside its method: the envelope in `_meta`, and the headers that repeat it.
//!
//! Each request stands alone: version, capabilities and identity of the client come with every one (2026-07-28,
//! basic/index), and the headers must say the same as the body (basic/transports/streamable-http).

use std::{borrow::Cow, collections::HashSet, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem::Finder;
use serde_json::Value;

use super::{Id, Message, members};

pub use super::revision::MODERN as VERSION;

pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// The members of `_meta` that belong to one leg.
pub const KEYS: [&str; 4] = [PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL];

/// Header and body differ, or a header is missing.
pub const HEADER_MISMATCH: i32 = -32020;
/// The request needs a capability that the client did not declare.
pub const MISSING_CAPABILITY: i32 = -32021;
/// A version that is not spoken here.
pub const UNSUPPORTED_VERSION: i32 = -32022;

/// Largest integer that a header may repeat: the largest every JSON parser holds.
const INTEGER_MAX: i64 = (1 << 53) - 1;

/// The envelope of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    pub version: String,
    /// Of the client: a JSON object.
    pub capabilities: Box<str>,
    /// For display only; requests without one are served. A JSON object.
    pub client: Option<Box<str>>,
    /// As it was written; absent means no log messages.
    pub log_level: Option<String>,
}

/// Does a message claim to be of this era?
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// No: it belongs to a session, or opens one.
    None,
    Modern(Envelope),
    /// It does, but its envelope is not one.
    Malformed(String),
}

/// Reads the envelope of a message.
pub fn claim(message: &Message) -> Claim {
    // An older client's has none, and a search is cheaper than a second parse. An escape could hide the name.
    static NAME: LazyLock<Finder> = LazyLock::new(|| Finder::new(PROTOCOL_VERSION));
    if !message.may_say(&NAME) {
        return Claim::None;
    }
    let found = message.meta([PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL]);
    let [version, capabilities, client, log_level] = match found {
        Ok(found) => found,
        Err(error) => return Claim::Malformed(error.to_string()),
    };
    let Some(version) = version else { return Claim::None };
    let text = |raw| members::string(raw).map(Cow::into_owned);
    let Some(version) = text(version) else {
        return Claim::Malformed(format!("`{PROTOCOL_VERSION}` must be a string"));
    };
    let is_object = |raw: &&str| raw.starts_with('{');
    let Some(capabilities) = capabilities.filter(is_object).map(Into::into) else {
        return Claim::Malformed(format!("`{CLIENT_CAPABILITIES}` must be an object"));
    };
    let log_level = match log_level.map(text) {
        Some(None) => return Claim::Malformed(format!("`{LOG_LEVEL}` must be a string")),
        level => level.flatten(),
    };
    if client.is_some_and(|client| !is_object(&client)) {
        return Claim::Malformed(format!("`{CLIENT_INFO}` must be an object"));
    }
    Claim::Modern(Envelope { version, capabilities, client: client.map(Into::into), log_level })
}

/// The `subscriptions/listen` that a notification belongs to, where it names one.
pub fn subscription(notification: &Message) -> Option<Id> {
    // Most have none, and a search is cheaper than a second parse.
    memchr::memmem::find(notification.bytes(), b"subscriptionId")?;
    let [id] = notification.meta([SUBSCRIPTION_ID]).ok()?;
    Id::read(id?)
}

/// The value that `Mcp-Name` repeats, for the methods that have one.
pub fn name_of(message: &Message) -> Option<Cow<'_, str>> {
    let member = match message.method() {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    };
    let [value] = message.param([member]).ok()?;
    members::string(value?)
}

/// Does this method have an `Mcp-Name`?
pub fn is_named(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read" | "tasks/get" | "tasks/update" | "tasks/cancel")
}

/// The text behind a header's value; an error where its base64 is not one.
pub fn decode(value: &str) -> Result<Cow<'_, str>, &'static str> {
    let value = value.trim_matches([' ', '\t']);
    let Some(inner) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Ok(Cow::Borrowed(value));
    };
    let bytes = STANDARD.decode(inner).map_err(|_| "its base64 cannot be read")?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| "its base64 is not UTF-8")
}

/// A value as a header carries it.
pub fn encode(text: &str) -> Cow<'_, str> {
    let like_sentinel = text.starts_with("=?base64?") && text.ends_with("?=");
    let printable = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
    let padded = text.starts_with(' ') || text.ends_with(' ');
    let plain = printable && !padded && !like_sentinel;
    match plain {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("=?base64?{}?=", STANDARD.encode(text))),
    }
}

/// An argument that a tool wants repeated in a header (SEP-2243).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamHeader {
    /// What follows `Mcp-Param-`.
    pub name: String,
    /// Where the argument stands.
    pub path: Vec<String>,
}

/// The arguments that a tool's input schema marks with `x-mcp-header`; an error where a mark is invalid.
pub fn param_headers(schema: &Value) -> Result<Vec<ParamHeader>, String> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), true, &mut found)?;
    let mut names = HashSet::new();
    match found.iter().find(|header| !names.insert(header.name.to_ascii_lowercase())) {
        Some(twice) => Err(format!("x-mcp-header `{}` stands twice", twice.name)),
        None => Ok(found),
    }
}

/// `reachable`: through `properties` only, so that the path to the argument is certain.
fn collect(
    schema: &Value,
    path: &mut Vec<String>,
    reachable: bool,
    found: &mut Vec<ParamHeader>,
) -> Result<(), String> {
    let Some(object) = schema.as_object() else { return Ok(()) };
    if let Some(mark) = object.get("x-mcp-header") {
        let name = mark.as_str().unwrap_or_default();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(format!("x-mcp-header {mark} is not a token"));
        }
        if path.is_empty() || !reachable {
            return Err(format!("x-mcp-header `{name}` stands where no argument is certain"));
        }
        if !matches!(object.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
            return Err(format!("x-mcp-header `{name}` stands on neither a string, an integer nor a boolean"));
        }
        found.push(ParamHeader { name: name.to_owned(), path: path.clone() });
    }
    for (key, value) in object {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    path.push(name.clone());
                    collect(property, path, reachable, found)?;
                    path.pop();
                }
            }
            // Data, not schemas.
            ("default" | "const" | "enum" | "examples" | "x-mcp-header", _) => {}
            (_, Value::Object(_)) => collect(value, path, false, found)?,
            (_, Value::Array(items)) => items.iter().try_for_each(|item| collect(item, path, false, found))?,
            _ => {}
        }
    }
    Ok(())
}

/// The text a header has to carry for these arguments; none where the argument is absent or null.
pub fn param_text(arguments: &Value, path: &[String]) -> Option<String> {
    let value = path.iter().try_fold(arguments, |at, name| at.get(name))?;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Do header and argument say the same? Integers compare by value.
pub fn param_matches(header: &str, text: &str) -> bool {
    let integer = |text: &str| text.parse::<i64>().ok().filter(|number| number.abs() <= INTEGER_MAX);
    header == text || matches!((integer(header), integer(text)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::message::{Body, read_client};

    fn message(meta: Value) -> Message {
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}).to_string();
        match read_client(text.into()) {
            Ok(Body::One(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn p25_an_envelope_needs_version_and_capabilities_and_nothing_else() {
        assert_eq!(claim(&message(json!({}))), Claim::None);
        assert_eq!(claim(&message(json!({CLIENT_CAPABILITIES: {}}))), Claim::None);
        let full = claim(&message(json!({PROTOCOL_VERSION: VERSION, CLIENT_CAPABILITIES: {"roots": {}}})));
        let Claim::Modern(envelope) = full else { panic!("{full:?}") };
        assert_eq!((envelope.client, envelope.log_level), (None, None));
        for bad in [
            json!({PROTOCOL_VERSION: VERSION}),
            json!({PROTOCOL_VERSION: 5, CLIENT_CAPABILITIES: {}}),
            json!({PROTOCOL_VERSION: VERSION, CLIENT_CAPABILITIES: []}),
            json!({PROTOCOL_VERSION: VERSION, CLIENT_CAPABILITIES: {}, CLIENT_INFO: "x"}),
            json!({PROTOCOL_VERSION: VERSION, CLIENT_CAPABILITIES: {}, LOG_LEVEL: 3}),
        ] {
            assert!(matches!(claim(&message(bad.clone())), Claim::Malformed(_)), "{bad}");
        }
    }

    #[test]
    fn p27_the_sentinel_is_decoded_and_nothing_else_is() {
        assert_eq!(decode("plain").unwrap(), "plain");
        assert_eq!(decode(" padded\t").unwrap(), "padded");
        assert_eq!(decode("=?base64?SGVsbG8=?=").unwrap(), "Hello");
        assert_eq!(decode("=?BASE64?SGVsbG8=?=").unwrap(), "=?BASE64?SGVsbG8=?=", "another case is a literal");
        assert_eq!(decode("=?base64??=").unwrap(), "");
        assert!(decode("=?base64?***?=").is_err() && decode("=?base64?/w==?=").is_err());
        for text in ["", "a b", "é", " x", "x ", "a\tb", "\n", "=?base64?x?="] {
            let header = encode(text);
            assert!(header.bytes().all(|b| (0x20..=0x7e).contains(&b)), "{header}");
            assert_eq!(decode(&header).unwrap(), text);
        }
    }

    #[test]
    fn p28_marks_in_a_schema_name_the_headers() {
        let schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}}}});
        let headers = param_headers(&schema).unwrap();
        assert_eq!(headers.len(), 2);
        let arguments = json!({"region": "eu", "deep": {"n": 42}});
        let texts: Vec<_> = headers.iter().filter_map(|header| param_text(&arguments, &header.path)).collect();
        assert!(texts.contains(&"eu".to_owned()) && texts.contains(&"42".to_owned()));
        assert_eq!(param_text(&json!({"region": null}), &["region".to_owned()]), None);
        assert!(param_matches("042", "42") && !param_matches("eu", "EU"));
        let bad = [
            json!({"properties": {"a": {"type": "number", "x-mcp-header": "A"}}}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": ""}}}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": "a b"}}}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}}),
            json!({"properties": {"a": {"items": {"type": "string", "x-mcp-header": "A"}}}}),
            json!({"anyOf": [{"properties": {"a": {"type": "string", "x-mcp-header": "A"}}}]}),
        ];
        for schema in bad {
            assert!(param_headers(&schema).is_err(), "{schema}");
        }
        let data = json!({"properties": {"a": {"type": "string", "default": {"x-mcp-header": "A"}}}});
        assert_eq!(param_headers(&data), Ok(Vec::new()));
    }
}
