//! How a request of the newer era ends: a result, an error, or a question.

use super::*;
use crate::wire::trouble::{Reason, Retry, Trouble};

impl Exchange {
    pub(super) fn finish(&mut self, bytes: Bytes) -> Option<Out> {
        let from = match std::mem::replace(&mut self.source, Source::Done) {
            Source::Calls(calls) => calls.bridged().map(|bridged| bridged.profile.clone()),
            _ => None,
        };
        if from.is_some_and(|profile| profile.is_modern()) {
            return self.pass_on(bytes);
        }
        let Some(response) = message::one(bytes) else { return self.fail("its answer is no message") };
        if let Some(result) = response.result() {
            return match shape::to_modern(self.message.method(), result, &self.profile.server_info) {
                Some(result) => Some(Out::Final(message::response(&self.id, &result), StatusCode::OK)),
                None => self.fail("its result is no object"),
            };
        }
        let error = response.error().unwrap_or("{}");
        let parsed: Value = serde_json::from_str(error).unwrap_or_default();
        let code = parsed["code"].as_i64();
        if code == Some(content::URL_REQUIRED) {
            return self.url_required(&parsed);
        }
        if let Some(missing) = self.missing.take() {
            let why = "the call needs a capability that the client did not declare";
            return self.error(MISSING_CAPABILITY, why, Some(json!({ "requiredCapabilities": missing })));
        }
        let uri = (self.message.method() == "resources/read").then(|| self.target());
        let error = shape::error_to_modern(error, uri.as_deref());
        let status = if code == Some(MISSING_CAPABILITY.into()) { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Some(Out::Final(message::failure(&self.id, &error), status))
    }

    /// What a newer server answers is the client's as it is, but for a state.
    pub(super) fn pass_on(&mut self, bytes: Bytes) -> Option<Out> {
        let Some(response) = message::one(bytes.clone()) else { return self.fail("its answer is no message") };
        let Some(result) = response.result() else {
            let error: Value = serde_json::from_str(response.error().unwrap_or("{}")).unwrap_or_default();
            let status = match error["code"].as_i64().and_then(|code| i32::try_from(code).ok()) {
                Some(MISSING_CAPABILITY) => StatusCode::BAD_REQUEST,
                Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
                _ => StatusCode::OK,
            };
            let uri = (self.message.method() == "resources/read").then(|| self.target());
            let error = shape::error_to_modern(response.error().unwrap_or("{}"), uri.as_deref());
            return Some(Out::Final(message::failure(&self.id, &older::error(&error)), status));
        };
        let asks =
            Object::read(result).and_then(|result| result.string("resultType")).as_deref() == Some("input_required");
        if asks && !input::may_ask(self.message.method()) {
            return self.fail("it asks for input where that is not allowed");
        }
        self.route.serving.tasks.learn(result, self.session.owner.id());
        let sealed = Object::read(result).and_then(|object| {
            let inner = object.get("requestState")?.get().to_owned();
            Some(
                self.seal(0, 0, Some(inner))
                    .map(|state| object.edit().set("requestState", Value::from(state).to_string()).apply()),
            )
        });
        match sealed {
            None => Some(Out::Final(bytes, StatusCode::OK)),
            Some(Some(result)) => Some(Out::Final(message::response(&self.id, &result), StatusCode::OK)),
            Some(None) => self.fail("the system gives no random numbers"),
        }
    }

    pub(super) fn seal(&self, call: u64, round: u32, inner: Option<String>) -> Option<String> {
        let age = self.route.serving.engine.limits.load().answer_timeout;
        let sealer = self.house.parking.sealer.as_ref()?;
        sealer.seal(call, round, inner, age, self.binding(&self.target(), &self.arguments()))
    }

    /// "Visit this address first" of 2025-11-25 as questions; the retry sends the call again.
    pub(super) fn url_required(&mut self, error: &Value) -> Option<Out> {
        let all = error["data"]["elicitations"].as_array().cloned().unwrap_or_default();
        if !self.session.abilities().elicitation_url || all.is_empty() {
            return self.error(INTERNAL_ERROR, &content::addresses(error), None);
        }
        let questions = all.into_iter().enumerate().map(|(at, mut params)| {
            if let Some(params) = params.as_object_mut() {
                params.remove("elicitationId");
                params.insert("mode".into(), "url".into());
            }
            (format!("url{at}"), shape::question("elicitation/create", Some(&params.to_string())))
        });
        self.input_required(0, 0, questions.collect())
    }

    pub(super) fn input_required(&mut self, call: u64, round: u32, questions: Vec<(String, String)>) -> Option<Out> {
        self.source = Source::Done;
        let state = self.seal(call, round, None);
        let Some(state) = state else { return self.fail("the system gives no random numbers") };
        let questions: Vec<String> =
            questions.iter().map(|(key, question)| format!("{}:{question}", Value::from(key.as_str()))).collect();
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{{{}}},"requestState":{},"_meta":{}}}"#,
            questions.join(","),
            Value::from(state),
            json!({ SERVER_INFO: self.profile.result["serverInfo"] }),
        );
        Some(Out::Final(message::response(&self.id, &result), StatusCode::OK))
    }

    pub(super) fn fail(&mut self, why: &str) -> Option<Out> {
        let upstream = self.route.name.as_str();
        let text = format!("upstream `{upstream}`: {why}");
        let trouble = Trouble::new(INTERNAL_ERROR, Reason::Failed, Retry::No, text).of(upstream);
        self.error(trouble.code, &trouble.text, Some(trouble.data()))
    }

    pub(super) fn error(&mut self, code: i32, why: &str, data: Option<Value>) -> Option<Out> {
        self.source = Source::Done;
        let status = if code == MISSING_CAPABILITY { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Some(Out::Final(message::error_response(Some(&self.id), code, why, data.as_ref()), status))
    }
}
