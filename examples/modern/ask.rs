//! Questions: results that require input, and the retries that bring it.
//!
//! A retry has to bring the state as it was given, the same method, name and arguments, and a state only once:
//! anything else is refused and a complaint. Missing answers are asked for again.

use std::time::Instant;

use serde_json::{Value, json};

use crate::server::{Call, Outcome, Refusal, complete, refusal};

/// Characters that do not survive a careless re-encoding: controls, an escaped slash, composed and decomposed
/// letters, line separators, a character beyond the basic plane, and what looks like other encodings.
const AWKWARD: &str = " \u{0}\t\\/\"' é e\u{301} \u{2028}\u{7f} 😀 %2F+== &lt; \\u0041 ";

/// A round that waits for its retry.
pub struct Pending {
    /// What the first request was.
    request: Value,
    round: u64,
    questions: Value,
    /// `inputResponses` of the rounds before.
    answers: Vec<Value>,
    /// How long the retries before took, in milliseconds.
    waits: Vec<u64>,
    asked: Instant,
}

/// What is known when a request or a retry of it arrives.
struct Progress {
    round: u64,
    answers: Vec<Value>,
    waits: Vec<u64>,
}

pub fn elicitation(message: &str) -> Value {
    let name = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    json!({"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": name}})
}

pub fn sampling(prompt: &str) -> Value {
    let message = json!({"role": "user", "content": {"type": "text", "text": prompt}});
    json!({"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 100}})
}

/// One question, then the result, which is made of what was told as JSON.
pub fn once(call: &Call, done: impl FnOnce(String) -> String) -> Outcome {
    rounds(call, |round| (round == 0).then(|| json!({"q": elicitation("Who?")})), done)
}

/// The questions of each round, an empty object for a round with a state only, none when it is enough.
/// What is told in the end: `{"answers": […], "waits": […]}`.
pub fn rounds(call: &Call, questions: impl Fn(u64) -> Option<Value>, done: impl FnOnce(String) -> String) -> Outcome {
    let Progress { round, answers, waits } = progress(call)?;
    let Some(questions) = questions(round) else {
        return Ok(done(json!({"answers": answers, "waits": waits}).to_string()));
    };
    for question in questions.as_object().into_iter().flat_map(|all| all.values()) {
        let (needed, required) = match question["method"].as_str().unwrap_or_default() {
            "sampling/createMessage" => ("sampling", json!({"sampling": {}})),
            "roots/list" => ("roots", json!({"roots": {}})),
            _ if question["params"]["mode"] == "url" => ("elicitation.url", json!({"elicitation": {"url": {}}})),
            _ => ("elicitation.form", json!({"elicitation": {}})),
        };
        if !call.request.declares(needed) {
            return Err(undeclared(required));
        }
    }
    let request = identity(call);
    let pending = Pending { request, round, questions: questions.clone(), answers, waits, asked: Instant::now() };
    let state = {
        let mut memory = call.server.memory();
        memory.states += 1;
        let state = format!("{AWKWARD}{}", memory.states);
        memory.pending.insert(state.clone(), pending);
        state
    };
    // Escaped where it need not be: who compares bytes instead of characters is wrong, too.
    let state = json!(state).to_string().replace('/', "\\/").replace('é', "\\u00E9");
    let asked = if questions == json!({}) { String::new() } else { format!(r#""inputRequests":{questions},"#) };
    Ok(format!(r#"{{"resultType":"input_required",{asked}"requestState":{state}}}"#))
}

/// The error for a capability that the client did not declare.
pub fn undeclared(required: Value) -> Refusal {
    let data = json!({"requiredCapabilities": required});
    Refusal { data, ..refusal(-32021, "the client did not declare what this needs") }
}

fn identity(call: &Call) -> Value {
    let request = &call.request;
    json!([request.method, request.text("name"), request.text("uri"), request.raw("arguments")])
}

fn progress(call: &Call) -> Result<Progress, Refusal> {
    let wrong = |what: &str| {
        call.server.complain(what);
        refusal(-32602, what)
    };
    if !call.request.params.contains_key("requestState") {
        if call.request.params.contains_key("inputResponses") {
            return Err(wrong("answers without the state"));
        }
        return Ok(Progress { round: 0, answers: Vec::new(), waits: Vec::new() });
    }
    let state = call.request.text("requestState");
    let Some(pending) = call.server.memory().pending.remove(&state) else {
        return Err(wrong("a requestState that was not given, or was used"));
    };
    if pending.request != identity(call) {
        return Err(wrong("a retry of another request"));
    }
    let Pending { round, questions, mut answers, mut waits, asked, .. } = pending;
    let told = call.request.value("inputResponses");
    let is_answered = questions.as_object().is_none_or(|all| all.keys().all(|key| told.get(key).is_some()));
    if !is_answered {
        return Ok(Progress { round, answers, waits });
    }
    answers.push(told);
    waits.push(asked.elapsed().as_millis() as u64);
    Ok(Progress { round: round + 1, answers, waits })
}

/// The tools that ask: their results are texts.
pub fn tool(call: &Call) -> Outcome {
    let told = |text: String| complete(json!({"content": [{"type": "text", "text": text}]}));
    let (message, count) = (call.text("message"), call.number("count"));
    match call.request.text("name").as_str() {
        "ask_many" => {
            let all = json!({"e": elicitation(&message), "s": sampling(&message), "r": {"method": "roots/list"}});
            rounds(call, |round| (round == 0).then(|| all.clone()), told)
        }
        "ask_url" => {
            let params = json!({"mode": "url", "message": message, "url": "https://example.com/consent"});
            let question = json!({"u": {"method": "elicitation/create", "params": params}});
            rounds(call, |round| (round == 0).then(|| question.clone()), told)
        }
        "ask_rounds" => {
            let question = |round: u64| json!({"q": elicitation(&format!("{message} {round}"))});
            rounds(call, |round| (round < count).then(|| question(round)), told)
        }
        "ask_state" => rounds(call, |round| (round < count).then(|| json!({})), told),
        _ => rounds(call, |round| (round == 0).then(|| json!({"q": elicitation(&message)})), told),
    }
}
