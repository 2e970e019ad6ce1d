//! Which era a server is of: what its answers to a probe say (2026-07-28, basic/transports/stdio).
//!
//! Legacy servers answer `server/discover` with any error, with silence, or by ending. So only an answer that could
//! come from nobody else says "modern"; everything else is legacy.

use serde_json::{Value, json};

use super::{Profile, Speaks};
use crate::wire::{
    Message, Revision,
    envelope::{SERVER_INFO, UNSUPPORTED_VERSION, VERSION},
};

/// What an answer to the probe says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It spoke the newer revision, and this is what it said of itself.
    Modern(Profile),
    /// It is to be greeted with `initialize`.
    Legacy,
    /// It has not said so, but refused something else in favour of the newer revision.
    Newer,
    /// It speaks neither; these are its revisions.
    Neither(String),
}

/// Reads an answer to `server/discover`, or to the `initialize` that followed it.
pub fn judge(answer: &Message, name: &str) -> Verdict {
    let versions = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|version| version.as_str().map(str::to_owned)).collect()
    };
    let offered = match (answer.result(), answer.error()) {
        (Some(result), _) => {
            let result: Value = serde_json::from_str(result).unwrap_or_default();
            let offered = versions(&result["supportedVersions"]);
            if offered.iter().any(|version| version == VERSION) {
                return Verdict::Modern(profile(&result, name));
            }
            offered
        }
        (_, Some(error)) => {
            let error: Value = serde_json::from_str(error).unwrap_or_default();
            match error["code"].as_i64() == Some(UNSUPPORTED_VERSION.into()) {
                true => versions(&error["data"]["supported"]),
                false => Vec::new(),
            }
        }
        _ => Vec::new(),
    };
    if offered.iter().any(|version| version == VERSION) {
        return Verdict::Newer;
    }
    match offered.is_empty() || offered.iter().any(|version| Revision::read(version).is_some()) {
        true => Verdict::Legacy,
        false => Verdict::Neither(offered.join(", ").chars().take(200).collect()),
    }
}

/// What a server said of itself, in the shape of an `InitializeResult`.
fn profile(discovered: &Value, name: &str) -> Profile {
    let info = &discovered["_meta"][SERVER_INFO];
    let info = if info.is_object() { info.clone() } else { json!({ "name": name, "version": "unknown" }) };
    let mut result = json!({ "capabilities": discovered["capabilities"], "serverInfo": info });
    if let Some(instructions) = discovered.get("instructions") {
        result["instructions"] = instructions.clone();
    }
    Profile::new(Speaks::Modern, result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Body, read_upstream};

    #[test]
    fn p49_what_each_answer_to_the_probe_says() {
        let judged = |rest: &str| {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,{rest}}}"#);
            let Ok(Body::One(answer)) = read_upstream(text.into()) else { panic!("not a message: {rest}") };
            match judge(&answer, "n") {
                Verdict::Modern(profile) => {
                    format!("modern {}", profile.result["serverInfo"]["name"].as_str().unwrap_or("?"))
                }
                Verdict::Legacy => "legacy".into(),
                Verdict::Newer => "newer".into(),
                Verdict::Neither(versions) => format!("neither {versions}"),
            }
        };
        let cases = [
            (
                r#""result":{"supportedVersions":["2026-07-28"],"capabilities":{},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#,
                "modern s",
            ),
            (r#""result":{"supportedVersions":["2025-11-25","2026-07-28"]}"#, "modern n"),
            (r#""result":{"supportedVersions":["2025-11-25"]}"#, "legacy"),
            (r#""result":{"supportedVersions":["2027-01-01"]}"#, "neither 2027-01-01"),
            (r#""result":{}"#, "legacy"),
            (r#""error":{"code":-32601,"message":"no"}"#, "legacy"),
            (r#""error":{"code":-32602,"message":"no"}"#, "legacy"),
            (r#""error":{"code":-32000,"message":"not initialized"}"#, "legacy"),
            (r#""error":{"code":-32022,"message":"no","data":{"supported":["2025-06-18"]}}"#, "legacy"),
            (
                r#""error":{"code":-32022,"message":"no","data":{"supported":["2027-01-01","2028-01-01"]}}"#,
                "neither 2027-01-01, 2028-01-01",
            ),
            (r#""error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}"#, "newer"),
            (r#""error":{"code":-32022,"message":"no"}"#, "legacy"),
        ];
        for (answer, expected) in cases {
            assert_eq!(judged(answer), expected, "{answer}");
        }
    }
}
