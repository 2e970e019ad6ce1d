//! What the tools of the demo do, apart from the protocol.
//!
//! An `Err` is a text for whoever called with the wrong arguments: what was expected, by example.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::content;

const STEPS_MAX: u64 = 1000;

/// A call of `slow` under way.
pub struct Slow {
    pub id: Value,
    pub token: Option<Value>,
    pub seconds: f64,
    pub steps: u64,
    /// The steps done so far.
    pub step: u64,
    pub since: Instant,
}

impl Slow {
    /// When the next step is done.
    pub fn due(&self) -> Instant {
        let part = (self.step + 1) as f64 / self.steps as f64;
        self.since + Duration::from_secs_f64(self.seconds * part)
    }
}

pub fn text_of<'a>(arguments: &'a Value, name: &str) -> Result<&'a str, String> {
    let text = arguments[name].as_str();
    text.ok_or_else(|| format!("The argument {name:?} is missing or not a string, as in {{\"{name}\": \"hello\"}}."))
}

pub fn add(arguments: &Value) -> Result<Value, String> {
    let wrong = || r#"Both "a" and "b" must be numbers, as in {"a": 2, "b": 3}."#.to_owned();
    let (a, b) = (&arguments["a"], &arguments["b"]);
    // Whole numbers stay whole: 2 + 3 is 5, not 5.0.
    let whole = a.as_i64().zip(b.as_i64()).and_then(|(a, b)| a.checked_add(b));
    let sum = match whole {
        Some(sum) => json!(sum),
        None => json!(a.as_f64().zip(b.as_f64()).map(|(a, b)| a + b).ok_or_else(wrong)?),
    };
    if sum.is_null() {
        return Err("The sum is too large to write down.".to_owned());
    }
    let mut result = content(&sum.to_string());
    result["structuredContent"] = json!({ "sum": sum });
    Ok(result)
}

pub fn slow(id: &Value, arguments: &Value, token: Option<Value>, now: Instant) -> Result<Slow, String> {
    let given = |name: &str| arguments.get(name).filter(|value| !value.is_null());
    let seconds = given("seconds").map_or(Some(3.0), Value::as_f64);
    let seconds = seconds.filter(|seconds| (0.0..=60.0).contains(seconds));
    let seconds = seconds.ok_or(r#""seconds" must be a number from 0 to 60, as in {"seconds": 3}."#)?;
    let each_second = (seconds.round() as u64).max(1);
    let steps = given("steps").map_or(Some(each_second), Value::as_u64);
    let steps = steps.filter(|steps| (1..=STEPS_MAX).contains(steps));
    let steps = steps.ok_or(format!("\"steps\" must be a whole number from 1 to {STEPS_MAX}."))?;
    Ok(Slow { id: id.clone(), token, seconds, steps, step: 0, since: now })
}

pub fn greet(answer: &Value) -> String {
    match (answer["action"].as_str(), answer["content"]["name"].as_str()) {
        (Some("accept"), Some(name)) => format!("Hello, {name}! Nice to meet you."),
        (Some("accept"), None) => "You accepted, but gave no name. Hello, whoever you are!".to_owned(),
        (Some("decline"), _) => "You would rather not say. That is fine: hello anyway!".to_owned(),
        _ => "You closed the question. Hello anyway!".to_owned(),
    }
}

pub fn quote(answer: &Value) -> String {
    // One block before 2025-11-25, one or several since.
    let blocks = answer["content"].as_array().map_or(std::slice::from_ref(&answer["content"]), Vec::as_slice);
    let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
    let model = answer["model"].as_str().unwrap_or("The model");
    match texts.is_empty() {
        true => format!("{model} answered, but not in words."),
        false => format!("{model} says: {}", texts.join("\n")),
    }
}

pub fn list_roots(answer: &Value) -> String {
    let roots = answer["roots"].as_array().map_or(&[][..], Vec::as_slice);
    let line = |root: &Value| {
        let uri = root["uri"].as_str().unwrap_or("?");
        root["name"].as_str().map_or(format!("- {uri}"), |name| format!("- {name}: {uri}"))
    };
    match roots.is_empty() {
        true => "The client shares no folders.".to_owned(),
        false => format!("The client shares:\n{}", roots.iter().map(line).collect::<Vec<_>>().join("\n")),
    }
}
