//! A result that asks for input, taken apart and put together again as a retry (2026-07-28, basic/patterns/mrtr). Who
//! is asked in between is [`hub::rounds`](crate::hub::rounds)' business.

use serde_json::Value;

use crate::wire::{Message, message, object::Object};

/// Most questions in one round.
pub const QUESTIONS_MAX: usize = 32;

/// A result that asks for input (2026-07-28, basic/patterns/mrtr).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    pub questions: Vec<Question>,
    /// As JSON, byte for byte.
    pub state: Option<String>,
}

/// One of its questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// As JSON, byte for byte.
    pub key: String,
    pub method: String,
    pub params: Option<String>,
}

/// What kind of result this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Complete,
    Required(Required),
    /// Nothing that can be shown to an older client; why.
    Invalid(String),
}

/// Calls that may end with a question (2026-07-28, basic/patterns/mrtr).
pub fn may_ask(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// Reads a newer server's result to one method.
pub fn outcome(method: &str, result: &str) -> Outcome {
    let invalid = |why: &str| Outcome::Invalid(why.to_owned());
    let Some(result) = Object::read(result) else { return invalid("its result is no object") };
    match result.get("resultType").map(|_| result.string("resultType")) {
        None => return Outcome::Complete,
        Some(kind) => match kind.as_deref() {
            Some("complete") => return Outcome::Complete,
            Some("input_required") => {}
            _ => return invalid("its result is of a kind that is not known here"),
        },
    }
    if !may_ask(method) {
        return invalid("it asks for input where that is not allowed");
    }
    let state = result.get("requestState").map(|state| state.get().to_owned());
    let mut questions = Vec::new();
    if let Some(all) = result.get("inputRequests") {
        let Some(all) = Object::read(all.get()) else { return invalid("its `inputRequests` is no object") };
        for member in all.members() {
            let question = Object::read(member.value.get());
            let Some((question, method)) =
                question.and_then(|object| object.string("method").map(|name| (object, name)))
            else {
                return invalid("one of its `inputRequests` has no method");
            };
            let params = question.get("params").map(|params| params.get().to_owned());
            questions.push(Question { key: Value::from(&*member.name).to_string(), method, params });
        }
    }
    match (questions.len(), &state) {
        (0, None) => invalid("it asks for input and names neither questions nor a state"),
        (count, _) if count > QUESTIONS_MAX => {
            Outcome::Invalid(format!("it asks more than {QUESTIONS_MAX} questions at once"))
        }
        _ => Outcome::Required(Required { questions, state }),
    }
}

/// The request that a client is asked with. Where a page is to be visited, 2025-11-25 wants a name for that.
pub fn ask(question: &Question, number: u64) -> Option<Message> {
    let params = question.params.as_deref().unwrap_or("{}");
    let object = Object::read(params)?;
    let params = match object.string("mode").as_deref() {
        Some("url") if object.get("elicitationId").is_none() => {
            object.edit().set("elicitationId", Value::from(format!("hubward-{number}")).to_string()).apply()
        }
        _ => params.to_owned(),
    };
    let params = question.params.as_ref().map(|_| params);
    message::one(message::request(&number.into(), &question.method, params.as_deref()))
}

/// The request again, with the answers and the state.
pub fn retry(request: &Message, answers: &[(String, String)], state: Option<&str>) -> Option<Message> {
    let params = Object::read(request.params()?)?;
    let mut edit = params.edit();
    if !answers.is_empty() {
        let answers: Vec<String> = answers.iter().map(|(key, answer)| format!("{key}:{answer}")).collect();
        edit.set("inputResponses", format!("{{{}}}", answers.join(",")));
    }
    if let Some(state) = state {
        edit.set("requestState", state);
    }
    Some(request.with_params(&edit.apply()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        message::one(text.to_owned().into()).expect("a message")
    }

    #[test]
    fn p44_questions_and_state_are_read_and_given_back_byte_for_byte() {
        let text = r#"{"resultType":"input_required","inputRequests":{"k\u00e9":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{"mode":"url","url":"x"}}},"requestState":"s\u00e9\/"}"#;
        let Outcome::Required(required) = outcome("tools/call", text) else { panic!("{text}") };
        assert_eq!((required.questions.len(), required.state.as_deref()), (2, Some(r#""s\u00e9\/""#)));
        let asked = ask(&required.questions[1], 7).expect("a question");
        assert!(asked.params().expect("some").contains(r#""elicitationId":"hubward-7""#));
        assert_eq!(ask(&required.questions[0], 8).expect("a question").params(), None);
        let first = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
        let answers = [(r#""b""#.to_owned(), r#"{"action":"accept"}"#.to_owned())];
        let again = retry(&first, &answers, required.state.as_deref()).expect("a request");
        assert!(again.params().expect("some").contains(r#""requestState":"s\u00e9\/""#), "{again:?}");
        assert!(again.params().expect("some").contains(r#""inputResponses":{"b":{"action":"accept"}}"#), "{again:?}");
    }

    #[test]
    fn outcomes() {
        let cases = [
            ("tools/call", r#"{"x":1}"#, true),
            ("tools/call", r#"{"resultType":"complete"}"#, true),
            ("tools/call", r#"{"resultType":"task"}"#, false),
            ("tools/call", r#"{"resultType":7}"#, false),
            ("tools/call", r#"{"resultType":"input_required"}"#, false),
            ("tools/list", r#"{"resultType":"input_required","requestState":"s"}"#, false),
            ("tools/call", r#"{"resultType":"input_required","inputRequests":[]}"#, false),
            ("tools/call", r#"{"resultType":"input_required","inputRequests":{"a":{}}}"#, false),
            ("tools/call", "[]", false),
        ];
        for (method, text, complete) in cases {
            let outcome = outcome(method, text);
            assert_eq!(outcome == Outcome::Complete, complete, "{text}");
            assert_eq!(matches!(outcome, Outcome::Invalid(_)), !complete, "{text}");
        }
        let state_only = outcome("tools/call", r#"{"resultType":"input_required","requestState":"s"}"#);
        assert!(matches!(state_only, Outcome::Required(required) if required.questions.is_empty()));
    }
}
