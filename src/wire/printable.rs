//! What strangers wrote, made fit to be shown: no control characters, nothing that turns the direction of the text.

use std::fmt::{self, Write};

/// Bytes as one line of text.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let _ = Printable(&mut text).write_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Does a character do nothing but stand there?
pub fn is_plain(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns
}

/// The first so many characters.
pub fn cut(text: &str, most: usize) -> &str {
    // Mostly it is short, and that can be seen without counting.
    if text.len() <= most {
        return text;
    }
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

/// Writes on what it is given, printable.
pub struct Printable<W>(pub W);

impl<W: Write> Write for Printable<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| !is_plain(*c)) {
            self.0.write_str(&text[plain..at])?;
            match c {
                '\t' => self.0.write_char(' ')?,
                c => write!(self.0, "{}", c.escape_default())?,
            }
            plain = at + c.len_utf8();
        }
        self.0.write_str(&text[plain..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f17_what_a_terminal_would_obey_is_escaped() {
        let cases: [(&[u8], &str); 8] = [
            (b"plain \xC3\xA9", "plain é"),
            (b"\x1b[31mred", "\\u{1b}[31mred"),
            (b"a\0b\rc\x7f", "a\\u{0}b\\rc\\u{7f}"),
            (b"one\ntwo\n", "one\\ntwo\\n"),
            (b"a\tb", "a b"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("\u{202e}evil\u{9b}".as_bytes(), "\\u{202e}evil\\u{9b}"),
            ("\u{2028}\u{2066}x\u{2069}é".as_bytes(), "\\u{2028}\\u{2066}x\\u{2069}é"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(printable(bytes), expected);
        }
    }
}
