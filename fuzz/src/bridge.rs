//! Bodies on their way from one era to another, and the state that a client carries between two requests.

use std::{sync::OnceLock, time::Duration};

use hubward::{
    bridge::{
        Speaks, content, era,
        input::{self, Outcome},
        older::{self, Introduction},
        seal::{Binding, Sealer},
        shape,
    },
    wire::{
        Id, Kind, Message, Revision,
        envelope::{Claim, claim},
        message,
        object::Object,
    },
};
use serde_json::{Value, json, value::RawValue};

use super::chosen;

const METHODS: [&str; 8] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "tools/list",
    "sampling/createMessage",
    "elicitation/create",
    "server/discover",
    "x/unknown",
];

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// Whatever one side says, what the other hears is JSON, and what no era knows stays to the byte.
pub fn eras(data: &[u8]) {
    let Some(([method, revision], text)) = chosen(data) else { return };
    let (method, to) = (METHODS[method % 8], Revision::ALL[revision % 4]);
    let Ok(text) = serde_json::from_slice::<&RawValue>(text).map(RawValue::get) else { return };
    // Only what is a message gets this far.
    let Some(answer) = message::one(message::response(&Id::from(1), text)) else { return };
    let result = answer.result().expect("a result");
    let all = [
        content::result(method, result, to),
        content::answer(result, Speaks::Legacy(to)),
        older::result(method, result, revision >= 128),
        shape::to_modern(method, result, &older::hub_info().to_string()),
        content::question(method, result, to).ok().flatten(),
        older::own_params(Some(result)),
        Some(shape::question(method, Some(result))),
    ];
    for (at, changed) in all.iter().enumerate() {
        let Some(changed) = changed else { continue };
        assert!(is_json(changed), "{at} {result} {changed}");
        if at < 6 {
            keeps_the_rest(result, changed);
        }
    }
    if let Some(modern) = &all[3] {
        let kind = |text: &str| Object::read(text).and_then(|object| object.string("resultType"));
        assert!(kind(modern).is_some() || kind(result).is_none(), "{modern}");
    }
    errors(result, to);
    questions(method, result);
    requests(method, result);
}

/// Members that no revision knows are the same, to the byte.
fn keeps_the_rest(before: &str, after: &str) {
    let (Some(before), Some(after)) = (Object::read(before), Object::read(after)) else {
        panic!("no objects: {before} {after}")
    };
    for member in before.members().filter(|member| member.name.starts_with("x-")) {
        let kept = after.members().any(|other| other.name == member.name && other.value.get() == member.value.get());
        assert!(kept, "{} is lost", member.name);
    }
}

fn errors(error: &str, to: Revision) {
    let all = [content::error(error, to), Some(older::error(error)), Some(shape::error_to_modern(error, Some("a\"b")))];
    all.iter().flatten().for_each(|error| assert!(is_json(error), "{error}"));
    if let Some(answer) = message::one(message::failure(&Id::from(1), error)) {
        let _ = era::judge(&answer, "x");
    }
}

/// A result that asks for input is asked as it was meant, and its answers find their way back.
fn questions(method: &str, result: &str) {
    let Outcome::Required(required) = input::outcome(method, result) else { return };
    assert!(required.questions.len() <= input::QUESTIONS_MAX);
    let mut answers = Vec::new();
    for question in &required.questions {
        let key: String = serde_json::from_str(&question.key).expect("a key is a string");
        if let Some(ask) = input::ask(question, 7) {
            assert_eq!((ask.kind(), ask.id()), (Kind::Request, Some(&Id::from(7))));
            assert_eq!(ask.method(), question.method);
        } else {
            let params = question.params.as_deref();
            assert!(params.is_some_and(|params| !params.starts_with('{')), "{question:?}");
        }
        answers.push((key, question.key.clone()));
    }
    let request = message::request(&Id::from(1), method, Some("{}"));
    let request = message::one(request).expect("our own");
    let pairs: Vec<_> = answers.iter().map(|(_, key)| (key.clone(), "{}".to_owned())).collect();
    let retry = input::retry(&request, &pairs, required.state.as_deref()).expect("a request");
    let params: Value = serde_json::from_str(retry.params().expect("params")).unwrap_or_default();
    if params.is_object() {
        answers.iter().for_each(|(key, _)| assert_eq!(params["inputResponses"][key], json!({}), "{params}"));
    }
}

/// A request with these parameters goes to a server of the other era as the same request.
fn requests(method: &str, params: &str) {
    let Some(request) = message::one(message::request(&Id::from(1), method, Some(params))) else { return };
    let same = |other: &Message| {
        assert_eq!((other.method(), other.id(), other.kind()), (request.method(), request.id(), request.kind()));
    };
    if let Some(other) = shape::to_legacy(&request) {
        same(&other);
        let left =
            |name: &str| Object::read(other.params().expect("params")).and_then(|params| params.get(name).map(drop));
        assert!(left("inputResponses").is_none() && left("requestState").is_none());
    }
    shape::with_state(&request, Some("\"s\"")).iter().for_each(same);
    // What says something twice is refused before it gets this far.
    if matches!(claim(&request), Claim::Malformed(_)) {
        return;
    }
    let tree: Value = serde_json::from_str(params).unwrap_or_default();
    for introduction in [Introduction::of_client(&tree, Revision::LATEST), Introduction::of_hub()] {
        if let Some(other) = older::request(&request, &introduction, Some("debug\"")) {
            same(&other);
            assert!(matches!(claim(&other), Claim::Modern(_)), "{other:?}");
        }
    }
}

/// What we sealed opens for what it is bound to; what was made up or changed opens nothing (T18).
pub fn seal(data: &[u8]) {
    static SEALER: OnceLock<Sealer> = OnceLock::new();
    let sealer = SEALER.get_or_init(|| Sealer::new().expect("random numbers"));
    let text = String::from_utf8_lossy(data);
    let binding = Binding { mount: "m", principal: "p", method: "tools/call", target: "t", arguments: &text };
    assert!(sealer.open(&text, binding).is_err(), "made up");
    let Some(([at, flip], _)) = chosen(data) else { return };
    let inner = Some(text.clone().into_owned());
    let sealed = sealer.seal(at as u64, flip as u32, inner.clone(), Duration::from_secs(60), binding).expect("sealed");
    assert!(sealed.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')), "{sealed}");
    let state = sealer.open(&sealed, binding).expect("our own");
    assert_eq!((state.call, state.round, state.inner), (at as u64, flip as u32, inner));
    let mut other = sealed.clone().into_bytes();
    let at = at * 7 % other.len();
    other[at] = if other[at] == b'A' { b'B' } else { b'A' };
    assert!(sealer.open(&String::from_utf8_lossy(&other), binding).is_err(), "changed at {at}");
    assert!(sealer.open(&sealed[..sealed.len() - 1 - flip % (sealed.len() - 1)], binding).is_err(), "cut");
    for other in
        [Binding { mount: "n", ..binding }, Binding { principal: "", ..binding }, Binding { target: "", ..binding }]
    {
        assert!(sealer.open(&sealed, other).is_err(), "bound to something else");
    }
}
