//! Messages, lines, objects and the sentinel of headers, each against another reading of the same bytes.

use bytes::Bytes;
use hubward::wire::{
    Id, Kind, Message,
    envelope::{self, Claim},
    lines::{Line, Lines},
    message::{Body, ID_BYTES_MAX, INVALID_REQUEST, PARSE_ERROR, read_client, read_upstream},
    object::{Object, map_list},
};
use serde_json::{Value, value::RawValue};

use super::{chosen, pieces};

/// What we read of a message is what `serde_json` reads, which keeps a tree and the last of two members (T14).
pub fn message(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let tree: Option<Value> = serde_json::from_slice(data).ok();
    match read_client(bytes.clone()) {
        Ok(body) => {
            let tree = tree.expect("what we pass on can be read by others");
            assert!(read_upstream(bytes).is_ok(), "what a client may say, an upstream may say");
            match (&body, &tree) {
                (Body::One(message), Value::Object(_)) => agrees(message, &tree),
                (Body::Batch(messages), Value::Array(trees)) => {
                    assert_eq!(messages.len(), trees.len());
                    messages.iter().zip(trees).for_each(|(message, tree)| agrees(message, tree));
                }
                _ => panic!("one or many: {body:?} {tree:?}"),
            }
        }
        Err(refused) => {
            assert!([PARSE_ERROR, INVALID_REQUEST].contains(&refused.code));
            refused.id.iter().for_each(is_id);
            // Printed by another, without what we refuse for its spelling, it has to be as good as it looks.
            if let Some(tree) = tree.filter(is_message) {
                let printed = read_client(tree.to_string().into());
                assert!(matches!(printed, Ok(Body::One(_))), "{printed:?} {tree}");
            }
            if let Ok(Body::One(message)) = read_upstream(bytes) {
                is_passed_on(&message);
            }
        }
    }
}

/// Is this tree a message by the rules of JSON-RPC and MCP?
fn is_message(tree: &Value) -> bool {
    let Some(object) = tree.as_object() else { return false };
    let is_id = |id: &Value| (id.is_string() || id.is_i64() || id.is_u64()) && id.to_string().len() <= ID_BYTES_MAX;
    let id = object.get("id");
    let (result, error) = (object.contains_key("result"), object.contains_key("error"));
    let good = match object.get("method") {
        Some(method) => {
            let params = object.get("params").is_none_or(|params| params.is_object() || params.is_array());
            method.is_string() && params && !result && !error && id.is_none_or(is_id)
        }
        None if result => !error && id.is_some_and(is_id),
        None => error && id.is_none_or(|id| id.is_null() || is_id(id)),
    };
    good && tree["jsonrpc"] == "2.0"
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// An id that we tell is a string or an integer of JSON.
fn is_id(id: &Id) {
    let tree: Box<RawValue> = serde_json::from_str(id.as_json()).unwrap_or_else(|error| panic!("{error}: {id}"));
    let first = tree.get().as_bytes()[0];
    assert!(first == b'"' || first == b'-' || first.is_ascii_digit(), "{id}");
}

/// Reads one message again, of our own making.
fn again(bytes: Bytes) -> Message {
    match read_upstream(bytes.clone()) {
        Ok(Body::One(message)) => message,
        other => panic!("{other:?} {:?}", String::from_utf8_lossy(&bytes)),
    }
}

fn agrees(message: &Message, tree: &Value) {
    let object = tree.as_object().expect("an object");
    assert_eq!(tree["jsonrpc"], "2.0");
    assert_eq!(message.method(), tree["method"].as_str().unwrap_or_default());
    assert_eq!(message.id().map(|id| json(id.as_json())), object.get("id").filter(|id| !id.is_null()).cloned());
    for (name, found) in [("params", message.params()), ("result", message.result()), ("error", message.error())] {
        assert_eq!(found.map(json).as_ref(), object.get(name), "{name}");
    }
    let kind = match (object.contains_key("method"), object.contains_key("id")) {
        (true, true) => Kind::Request,
        (true, false) => Kind::Notification,
        (false, _) => Kind::Response,
    };
    assert_eq!(message.kind(), kind);
    in_params(message, tree);
    is_passed_on(message);
}

/// What is looked for below `params`.
fn in_params(message: &Message, tree: &Value) {
    let meta = &tree["params"]["_meta"];
    match envelope::claim(message) {
        Claim::None => assert!(meta.get(envelope::PROTOCOL_VERSION).is_none(), "{tree}"),
        Claim::Malformed(_) => {}
        Claim::Modern(envelope) => {
            assert_eq!(meta[envelope::PROTOCOL_VERSION], envelope.version);
            assert_eq!(
                meta[envelope::CLIENT_CAPABILITIES],
                serde_json::from_str::<Value>(&envelope.capabilities).expect("JSON")
            );
            assert_eq!(
                meta.get(envelope::CLIENT_INFO),
                envelope.client.as_deref().map(|client| serde_json::from_str::<Value>(client).expect("JSON")).as_ref()
            );
            assert_eq!(meta.get(envelope::LOG_LEVEL).and_then(Value::as_str), envelope.log_level.as_deref());
        }
    }
    if let Some(name) = envelope::name_of(message) {
        let params = &tree["params"];
        assert!([&params["name"], &params["uri"], &params["taskId"]].contains(&&Value::from(name)), "{tree}");
    }
    match message.progress_token() {
        Ok(Some((token, span))) => {
            is_id(&token);
            assert_eq!(json(token.as_json()), meta["progressToken"]);
            let other = again(message.with(span.clone(), "\"other\""));
            assert_eq!(json(other.params().unwrap())["_meta"]["progressToken"], "other");
            if let (Some(_), Kind::Request) = (message.id(), message.kind()) {
                let (id, token) = (Id::from(7), Id::from(8));
                let both = again(message.with_id(&id, Some((span, &token))));
                assert_eq!(both.id(), Some(&id));
                assert_eq!(both.progress_token().unwrap().map(|(token, _)| token), Some(token));
            }
        }
        Ok(None) => assert!(meta["progressToken"].is_null(), "{tree}"),
        Err(_) => {}
    }
}

/// A message goes on as one line that means the same, and an id that is put in its place can be taken out again.
fn is_passed_on(message: &Message) {
    let line: Vec<u8> = message.bytes().iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }).collect();
    let same = |one: &Message, other: &Message| {
        assert_eq!((one.method(), one.kind()), (other.method(), other.kind()));
        let texts = |message: &Message| {
            [message.params(), message.result(), message.error()]
                .map(|text| text.map(|text| text.replace(['\n', '\r'], " ")))
        };
        assert_eq!(texts(one), texts(other));
    };
    let line = again(line.into());
    assert_eq!(line.id(), message.id());
    same(&line, message);
    let Some(own) = message.id() else { return };
    is_id(own);
    let ours = again(message.with_id(&Id::from(u64::MAX), None));
    assert_eq!(ours.id().and_then(Id::as_u64), Some(u64::MAX));
    same(&ours, message);
    let back = again(ours.with_id(own, None));
    assert_eq!(back.id(), Some(own));
    same(&back, message);
    assert_eq!(back.with_id(own, None), back.bytes());
    if message.kind() != Kind::Response {
        let other = again(message.with_params("{\"x\":1}").bytes().clone());
        assert_eq!(other.params(), Some("{\"x\":1}"));
    }
}

/// However a stream is cut, its lines are those that stand between its newlines.
pub fn lines(data: &[u8]) {
    let Some(([max, way], stream)) = chosen(data) else { return };
    let expected = split(stream, max);
    for way in [0, 1, way] {
        let mut lines = Lines::new(max);
        let mut found = Vec::new();
        for piece in pieces(stream, way) {
            lines.spare().extend_from_slice(piece);
            while let Some(line) = lines.take() {
                found.push(line);
            }
        }
        let plain = found.iter().map(|line| match line {
            Line::Whole(line) => Ok(line.as_ref()),
            Line::TooLong { bytes, .. } => Err(*bytes as usize),
        });
        assert!(plain.eq(expected.iter().map(|(line, _)| *line)), "{found:?} {expected:?}");
        for (line, (_, text)) in found.iter().zip(&expected) {
            let Line::TooLong { id, .. } = line else { continue };
            id.iter().for_each(is_id);
            // What can be read as a message tells what id should have been found.
            match read_upstream(Bytes::copy_from_slice(text)) {
                Ok(Body::One(message)) if message.kind() == Kind::Response => assert_eq!(id.as_ref(), message.id()),
                Ok(Body::One(_)) => assert_eq!(id, &None),
                _ => {}
            }
        }
        let rest = stream.len() - stream.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let mark = if rest == stream.len() && stream.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        assert!((rest - mark..=rest).contains(&(lines.unfinished_bytes() as usize)));
    }
}

/// A line or its length, where it is too long; and its text.
type Cut<'a> = (Result<&'a [u8], usize>, &'a [u8]);

/// The lines of a stream, slowly.
fn split(stream: &[u8], max: usize) -> Vec<Cut<'_>> {
    let end = stream.iter().rposition(|b| *b == b'\n');
    let Some(whole) = end.map(|end| &stream[..end]) else { return Vec::new() };
    let mut found = Vec::new();
    for (at, line) in whole.split(|b| *b == b'\n').enumerate() {
        let line = if at == 0 { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > max {
            found.push((Err(line.len()), line));
        } else if !line.iter().all(u8::is_ascii_whitespace) {
            found.push((Ok(line), line));
        }
    }
    found
}

/// An edit of an object does to a tree what it says, and leaves the bytes of every other member alone.
pub fn object(data: &[u8]) {
    let Some(([which, what], text)) = chosen(data) else { return };
    let Ok(text) = serde_json::from_slice::<&RawValue>(text) else { return };
    let Some(object) = Object::read(text.get()) else {
        assert!(!text.get().starts_with('{') || has_bad_name(text.get()), "{text}");
        map_list(text.get(), |item| (item.len() % 2 == 0).then(|| "null".to_owned()))
            .flatten()
            .iter()
            .for_each(|list| assert!(json_text(list)));
        return;
    };
    let names: Vec<String> = object.members().map(|member| member.name.to_string()).collect();
    let name = if names.is_empty() { "new\"\n".to_owned() } else { names[which % names.len()].clone() };
    let name = if what & 4 == 0 { name } else { format!("{name}\u{e9}\\") };
    let mut edit = object.edit();
    match what & 3 {
        0 => edit.remove(&name),
        1 => edit.set(&name, "[1.0 ,2]"),
        2 => edit.remove_meta(&["progressToken", &name]),
        _ => edit.set("first", "1").remove(&name).set("_meta", "{}"),
    };
    let changed = edit.apply();
    assert!(json_text(&changed), "{text} {changed}");
    let after = Object::read(&changed).expect("an object");
    let others = |object: &Object| -> Vec<(String, String)> {
        let members = object.members().filter(|member| ![name.as_str(), "first", "_meta"].contains(&&*member.name));
        members.map(|member| (member.name.to_string(), member.value.get().to_owned())).collect()
    };
    assert_eq!(others(&object), others(&after));
    match what & 3 {
        0 => assert!(after.get(&name).is_none()),
        1 => assert_eq!(after.get(&name).map(RawValue::get), Some("[1.0 ,2]")),
        _ => {}
    }
}

/// A name that cannot be a string, such as half a surrogate pair.
fn has_bad_name(text: &str) -> bool {
    serde_json::from_str::<std::collections::BTreeMap<String, &RawValue>>(text).is_err()
}

fn json_text(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// The sentinel of headers carries any text through, and marks of schemas name headers that can exist.
pub fn envelope(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let encoded = envelope::encode(text);
    assert!(encoded.bytes().all(|b| (0x20..=0x7e).contains(&b)), "{encoded:?}");
    assert_eq!(encoded.trim(), encoded, "nothing that a peer may trim");
    assert_eq!(envelope::decode(&encoded).as_deref(), Ok(text));
    if let Ok(decoded) = envelope::decode(text) {
        assert_eq!(envelope::decode(&envelope::encode(&decoded)), Ok(decoded.clone()));
    }
    let Ok(schema) = serde_json::from_str::<Value>(text) else { return };
    let Ok(marks) = envelope::param_headers(&schema) else { return };
    let mut names = std::collections::HashSet::new();
    for mark in marks {
        assert!(!mark.path.is_empty() && names.insert(mark.name.to_ascii_lowercase()));
        assert!(format!("mcp-param-{}", mark.name).parse::<actix_web::http::header::HeaderName>().is_ok());
        // An argument agrees with itself, however it is spelled on the way.
        for argument in [Value::from(text), Value::from(1u64 << 53), Value::from(-1), Value::from(true)] {
            let arguments = mark.path.iter().rev().fold(argument, |inner, name| serde_json::json!({ name: inner }));
            let said = envelope::param_text(&arguments, &mark.path).expect("it is there");
            let sent = envelope::encode(&said);
            assert!(envelope::param_matches(&envelope::decode(&sent).expect("our own"), &said));
            assert!(!envelope::param_matches(&format!("{said}x"), &said));
        }
    }
}
