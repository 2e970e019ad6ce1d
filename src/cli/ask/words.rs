//! One string becomes words: blanks part them, quotes hold them together.
//!
//! A quote counts where a word or a value begins (`"two words"`, `text="two words"`); elsewhere it is an apostrophe.
//! A backslash is one, but before a quote or another one between double quotes: paths of Windows stay what they are.

/// The words of a line, or the quote that is not closed.
pub fn split(line: &str) -> Result<Vec<String>, char> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, &mut word) {
            (c, word) if c.is_whitespace() => words.extend(word.take()),
            ('"' | '\'', word) if word.as_ref().is_none_or(|word| word.ends_with('=')) => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => return Err(c),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' && matches!(chars.peek(), Some('"' | '\\')) => word.extend(chars.next()),
                        Some(inner) => word.push(inner),
                    }
                }
            }
            (c, word) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_24_quotes_hold_words_together() {
        let check = |line: &str, expected: &[&str]| {
            assert_eq!(split(line), Ok(expected.iter().map(|word| (*word).to_owned()).collect()), "{line}");
        };
        check("", &[]);
        check("  a \t b\n", &["a", "b"]);
        check(r#"text="two words" n=1"#, &["text=two words", "n=1"]);
        check("text='two words'", &["text=two words"]);
        check(r#""two words""#, &["two words"]);
        check(r#"a="say \"hi\" \\ \n""#, &[r#"a=say "hi" \ \n"#]);
        check(r"path=C:\new\file it's", &[r"path=C:\new\file", "it's"]);
        check("a=\"\" ''", &["a=", ""]);
        assert_eq!(split(r#"a="b"#), Err('"'));
    }
}
