//! A message with some of its bytes replaced that needs no second parse: what stands behind them moves along.

use std::{ops::Range, sync::OnceLock};

use bytestring::ByteString;

use super::{Message, Text, splice};

impl Message {
    /// The message with its `params` or one value inside them replaced, or with text put there; its headers stay. The
    /// caller sees to it that the whole stays the JSON object that it was.
    pub fn edited(&self, at: Range<usize>, text: &str) -> Message {
        let moved = |span: &Range<usize>| {
            let new = |place: usize| place - at.len() + text.len();
            match () {
                () if span.start >= at.end => new(span.start)..new(span.end),
                // What is put in between two values belongs to neither.
                () if span.end > at.end || (*span == at && !at.is_empty()) => span.start..new(span.end),
                () => span.clone(),
            }
        };
        Message {
            // Text between text is text.
            bytes: ByteString::try_from(splice(self.bytes(), [(at.clone(), text)])).unwrap_or_default(),
            kind: self.kind,
            id: self.id.as_ref().map(|(id, span)| (id.clone(), moved(span))),
            method: match &self.method {
                Text::Span(span) => Text::Span(moved(span)),
                decoded => decoded.clone(),
            },
            params: self.params.as_ref().map(&moved),
            result: self.result.as_ref().map(&moved),
            error: self.error.as_ref().map(&moved),
            headers: self.headers.clone(),
            outline: OnceLock::new(),
        }
    }

    /// The message with other parameters: a JSON object.
    pub fn with_params(&self, json: &str) -> Message {
        if let Some(span) = &self.params {
            return self.edited(span.clone(), json);
        }
        let end = self.bytes.len() - 1;
        let mut other = self.edited(end..end, &format!(r#","params":{json}"#));
        let start = end + r#","params":"#.len();
        other.params = Some(start..start + json.len());
        other
    }

    /// Where the parameters stand.
    pub(in crate::wire) fn params_span(&self) -> Option<Range<usize>> {
        self.params.clone()
    }
}
