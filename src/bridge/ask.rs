//! A server's question: may this client be asked it?
//!
//! A request never reaches a client that did not declare the capability, even where the connection did.

use serde_json::Value;

use super::Abilities;
use crate::wire::{
    Message,
    message::{INVALID_PARAMS, METHOD_NOT_FOUND},
};

/// Whether a client with these abilities may be asked; else the code and the reason the server gets.
pub fn judge(ask: &Message, abilities: Abilities) -> Result<(), (i32, &'static str)> {
    let params = || serde_json::from_str::<Value>(ask.params().unwrap_or("null")).unwrap_or_default();
    match ask.method() {
        "roots/list" if abilities.roots => Ok(()),
        "roots/list" => Err((METHOD_NOT_FOUND, "the client did not declare roots")),
        "sampling/createMessage" if abilities.sampling => match params().get("tools") {
            Some(_) if !abilities.sampling_tools => Err((INVALID_PARAMS, "the client did not declare sampling.tools")),
            _ => Ok(()),
        },
        "sampling/createMessage" => Err((METHOD_NOT_FOUND, "the client did not declare sampling")),
        "elicitation/create" => match (params()["mode"].as_str() == Some("url"), abilities) {
            (false, Abilities { elicitation_form: true, .. }) | (true, Abilities { elicitation_url: true, .. }) => {
                Ok(())
            }
            (_, Abilities { elicitation_form: false, elicitation_url: false, .. }) => {
                Err((METHOD_NOT_FOUND, "the client did not declare elicitation"))
            }
            _ => Err((INVALID_PARAMS, "the client did not declare this mode of elicitation")),
        },
        _ => Err((METHOD_NOT_FOUND, "the client does not know this method")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Body, read_upstream};

    #[test]
    fn only_what_was_declared_is_asked() {
        let form = Abilities { elicitation_form: true, ..Abilities::default() };
        let url = Abilities { elicitation_url: true, ..Abilities::default() };
        let sampling = Abilities { sampling: true, ..Abilities::default() };
        let tools = Abilities { sampling_tools: true, ..sampling };
        let roots = Abilities { roots: true, ..Abilities::default() };
        let none = Abilities::default();
        let cases = [
            ("roots/list", "{}", roots, None),
            ("roots/list", "{}", form, Some(METHOD_NOT_FOUND)),
            ("sampling/createMessage", "{}", sampling, None),
            ("sampling/createMessage", "{}", none, Some(METHOD_NOT_FOUND)),
            ("sampling/createMessage", r#"{"tools":[]}"#, sampling, Some(INVALID_PARAMS)),
            ("sampling/createMessage", r#"{"tools":[]}"#, tools, None),
            ("elicitation/create", "{}", form, None),
            ("elicitation/create", r#"{"mode":"form"}"#, form, None),
            ("elicitation/create", r#"{"mode":"url"}"#, form, Some(INVALID_PARAMS)),
            ("elicitation/create", r#"{"mode":"url"}"#, url, None),
            ("elicitation/create", "{}", url, Some(INVALID_PARAMS)),
            ("elicitation/create", "{}", none, Some(METHOD_NOT_FOUND)),
        ];
        for (method, params, abilities, code) in cases {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            let Ok(Body::One(ask)) = read_upstream(text.into()) else { panic!("not a message") };
            assert_eq!(judge(&ask, abilities).err().map(|(code, _)| code), code, "{method} {params}");
        }
    }
}
