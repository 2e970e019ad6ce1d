//! What a server says, made fit for a terminal; and JSON with lines and indents. Both are pure.
//!
//! Invariant: [`pretty`] changes white space outside of strings and nothing else: digits, escapes and the order of
//! members stay as they came.

use std::fmt::Write as _;

use crate::wire::printable::is_plain;

/// Without control characters, and without what turns the direction of a text. Lines and tabs stay.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            // Alone it would write over what stands there.
            '\r' if chars.peek() == Some(&'\n') => {}
            c if !is_plain(c) => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The same, as a single line.
pub fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    self::text(&words.join(" "))
}

/// The same for JSON: an escape of its own, so that it is the same value still.
pub fn json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Only between tokens can they stand as they are.
            '\n' | '\r' | '\t' => out.push(c),
            // None of them is beyond the basic plane.
            c if !is_plain(c) => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Valid JSON, one member a line.
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if quoted {
            out.push(c);
            quoted = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' => {
                quoted = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.peek().is_some_and(|c| c.is_ascii_whitespace()) {
                    chars.next();
                }
                if matches!(chars.peek(), Some('}' | ']')) {
                    out.extend(chars.next());
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_server_moves_the_cursor() {
        assert_eq!(
            text("a\tb\r\nc\rd\u{1b}[2J\u{7f}\u{9b}1m\u{202e}é😀"),
            "a\tb\nc\\u{d}d\\u{1b}[2J\\u{7f}\\u{9b}1m\\u{202e}é😀"
        );
        assert_eq!(line(" two\n\nlines\u{7}"), "two lines\\u{7}");
        let odd = "{\"a\":\"\u{9b}\u{7f}\u{202e}\"}";
        assert_eq!(json(odd), r#"{"a":"\u009b\u007f\u202e"}"#);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&json(odd)), value(odd));
    }

    #[test]
    fn pretty_keeps_every_token() {
        let check = |json: &str, expected: &str| assert_eq!(pretty(json), expected, "{json}");
        check("{}", "{}");
        check("[\"\u{feff} :\"]", "[\n  \"\u{feff} :\"\n]");
        check("[ ]", "[]");
        check("7", "7");
        check(
            r#"{"b":1.50,"a":[1e400,{"x":"\u00e9, \"{\\"}]}"#,
            "{\n  \"b\": 1.50,\n  \"a\": [\n    1e400,\n    {\n      \"x\": \"\\u00e9, \\\"{\\\\\"\n    }\n  ]\n}",
        );
        check("{ \"a\" : [] , \"b\":{ } }", "{\n  \"a\": [],\n  \"b\": {}\n}");
    }
}
