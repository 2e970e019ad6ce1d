//! `raw`: a request as somebody wrote it, and the response as it came.

use serde_json::Value;

use super::{
    plain,
    server::Server,
    stop::Stop,
    talk::{Talk, print_json},
};
use crate::{
    cli::{FAILED, OK},
    wire::{Kind, Message, message, object::Object},
};

/// A request or a notification of somebody else's making.
#[derive(Debug)]
pub struct Raw(Message);

impl Raw {
    /// Reads it; what every message has is added where it is missing.
    pub fn read(text: &str) -> Result<Raw, Stop> {
        let text = text.trim();
        serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map_err(|error| Stop::usage(format!("this is not JSON: {error}")))?;
        let object = Object::read(text).ok_or_else(|| Stop::usage("a request is one JSON object"))?;
        let Some(method) = object.string("method") else {
            return Err(Stop::usage("a request has a `method`, such as {\"method\": \"tools/list\"}"));
        };
        let mut edit = object.edit();
        if object.get("id").is_none() && !method.starts_with("notifications/") {
            edit.set("id", "1");
        }
        if object.get("jsonrpc").is_none() {
            edit.set("jsonrpc", Value::from("2.0").to_string());
        }
        let message = message::one(edit.apply().into());
        let whole = message.filter(|message| message.kind() != Kind::Response);
        whole.map(Raw).ok_or_else(|| {
            Stop::usage("this is no JSON-RPC request: `jsonrpc` must be \"2.0\", `id` a string or an integer, and `params` an object")
        })
    }

    /// Is it the greeting itself? Then nothing may come before it.
    pub fn is_greeting(&self) -> bool {
        self.0.method() == "initialize"
    }

    /// Sends it, and prints the response.
    pub async fn send(&self, server: &Server<'_>, talk: &Talk) -> Result<u8, Stop> {
        if self.0.kind() == Kind::Notification {
            server.notify(&self.0).await?;
            return Ok(OK);
        }
        let response = server.send(self.0.clone()).await?;
        let text = String::from_utf8_lossy(response.bytes());
        print_json(&if talk.json { text.into_owned() } else { plain::pretty(&text) });
        Ok(if response.error().is_some() { FAILED } else { OK })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_15_what_is_missing_is_added_and_nothing_else_is_changed() {
        let check = |text: &str, expected: &str| {
            let raw = Raw::read(text).unwrap_or_else(|stop| panic!("{text}: {stop:?}"));
            assert_eq!(String::from_utf8_lossy(raw.0.bytes()), expected, "{text}");
        };
        check(r#" {"method":"ping"} "#, r#"{"id":1,"jsonrpc":"2.0","method":"ping"}"#);
        check(
            r#"{"id":"a","method":"x","params":{"n":1.50}}"#,
            r#"{"jsonrpc":"2.0","id":"a","method":"x","params":{"n":1.50}}"#,
        );
        check(r#"{"method":"notifications/x"}"#, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
        assert!(Raw::read(r#"{"method":"initialize"}"#).expect("a request").is_greeting());
        for text in [
            "",
            "{",
            "nonsense",
            "[]",
            "7",
            r#"{"id":1}"#,
            r#"{"method":7}"#,
            r#"{"method":"x","id":1.5}"#,
            r#"{"method":"x","jsonrpc":"1.0"}"#,
        ] {
            assert_eq!(Raw::read(text).map(|_| ()).expect_err(text).code, 2, "{text}");
        }
    }
}
