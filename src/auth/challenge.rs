//! What a server says it wants: the `WWW-Authenticate` header, parsed. Pure.
//!
//! One header may hold several challenges, separated by the same comma that separates the parameters of one, and
//! servers differ in how well they quote. So whatever cannot be read is skipped, and nothing is an error.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The longest header that is looked at, in bytes.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// The most challenges of one answer, and the most parameters of one challenge.
const PARTS_MAX: usize = 32;

/// One challenge: a scheme and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case: `bearer`, `basic`, `digest`.
    pub scheme: String,
    /// Names in lower case.
    params: Vec<(String, String)>,
    /// As it stood in the header, for parsers of one scheme.
    pub text: String,
}

impl Challenge {
    /// The value of a parameter; of two the first.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Does it say that the token is good, and may do too little?
    #[must_use]
    pub fn wants_scope(&self) -> bool {
        self.scheme == "bearer" && self.get("error") == Some("insufficient_scope")
    }
}

/// All challenges of an answer.
#[must_use]
pub fn of(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let bytes = value.as_bytes();
        found.extend(parse(&String::from_utf8_lossy(&bytes[..bytes.len().min(HEADER_BYTES_MAX)])));
    }
    found.truncate(PARTS_MAX);
    found
}

/// The Bearer challenge of an answer; one that names the metadata is preferred.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<Challenge> {
    let mut all: Vec<_> = of(headers).into_iter().filter(|challenge| challenge.scheme == "bearer").collect();
    let best = all.iter().position(|challenge| challenge.get("resource_metadata").is_some()).unwrap_or(0);
    (!all.is_empty()).then(|| all.swap_remove(best))
}

/// The challenges of one header.
#[must_use]
pub fn parse(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut starts: Vec<usize> = Vec::new();
    let mut rest = text;
    // Directly behind a scheme, with no comma between, a lone word is its token68.
    let mut behind_scheme = false;
    loop {
        let trimmed = rest.trim_start_matches([' ', '\t', ',']);
        behind_scheme &= !rest[..rest.len() - trimmed.len()].contains(',');
        rest = trimmed;
        if rest.is_empty() {
            break;
        }
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            // Not a word: a stray character.
            rest = &rest[rest.chars().next().map_or(1, char::len_utf8)..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        let behind = after.trim_start_matches([' ', '\t']);
        match behind.strip_prefix('=') {
            Some(value) if !value.starts_with(['=', ',']) && !value.is_empty() => {
                let (value, left) = value_of(value.trim_start_matches([' ', '\t']));
                if let Some(challenge) = found.last_mut()
                    && challenge.params.len() < PARTS_MAX
                {
                    challenge.params.push((word.to_ascii_lowercase(), value));
                }
                rest = left;
                behind_scheme = false;
            }
            // The padding of a token68.
            Some(padding) => {
                rest = padding.trim_start_matches('=');
                behind_scheme = false;
            }
            None if behind_scheme => {
                rest = after;
                behind_scheme = false;
            }
            None => {
                if found.len() == PARTS_MAX {
                    break;
                }
                starts.push(text.len() - rest.len());
                found.push(Challenge { scheme: word.to_ascii_lowercase(), ..Challenge::default() });
                rest = after;
                behind_scheme = true;
            }
        }
    }
    starts.push(text.len());
    for (challenge, span) in found.iter_mut().zip(starts.windows(2)) {
        text[span[0]..span[1]].trim_end_matches([' ', '\t', ',']).clone_into(&mut challenge.text);
    }
    found
}

/// A token, and what stands in a token68.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

/// A quoted value or a bare one, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_they_come() {
        let check = |text: &str, expected: &[(&str, &[(&str, &str)])]| {
            let found = parse(text);
            let found: Vec<(&str, Vec<(&str, &str)>)> = found
                .iter()
                .map(|one| {
                    (
                        one.scheme.as_str(),
                        one.params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
                    )
                })
                .collect();
            let expected: Vec<_> = expected.iter().map(|(scheme, params)| (*scheme, params.to_vec())).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check("Bearer", &[("bearer", &[])]);
        check(r#"Bearer realm="a, b""#, &[("bearer", &[("realm", "a, b")])]);
        check(
            r#"Bearer error="invalid_token", Resource_Metadata="https://a/b", scope="x y""#,
            &[("bearer", &[("error", "invalid_token"), ("resource_metadata", "https://a/b"), ("scope", "x y")])],
        );
        check(r#"Basic realm="x", Bearer scope=a"#, &[("basic", &[("realm", "x")]), ("bearer", &[("scope", "a")])]);
        check("Negotiate, Bearer a=b", &[("negotiate", &[]), ("bearer", &[("a", "b")])]);
        check("Negotiate abc==, Basic realm=x", &[("negotiate", &[]), ("basic", &[("realm", "x")])]);
        check("Negotiate abc, Basic realm=x", &[("negotiate", &[]), ("basic", &[("realm", "x")])]);
        // What servers do that should not.
        check("Bearer realm=x scope=\"y\"", &[("bearer", &[("realm", "x"), ("scope", "y")])]);
        check("Bearer realm = \"x\"", &[("bearer", &[("realm", "x")])]);
        check(r#"Bearer realm="a\"b"#, &[("bearer", &[("realm", "a\"b")])]);
        check("Bearer realm=", &[("bearer", &[])]);
        check(", ,Bearer ,", &[("bearer", &[])]);
        check("\u{e9}Bearer \u{e9}", &[("bearer", &[])]);
        let many = "Bearer a=b ".repeat(100);
        assert_eq!(parse(&many).len(), PARTS_MAX);
    }

    #[test]
    fn a_challenge_keeps_its_text() {
        let found = parse(r#"Basic realm="x", Digest nonce="n", qop="auth""#);
        assert_eq!(found[0].text, r#"Basic realm="x""#);
        assert_eq!(found[1].text, r#"Digest nonce="n", qop="auth""#);
    }

    #[test]
    fn the_bearer_challenge_that_names_the_metadata_wins() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        headers.append(WWW_AUTHENTICATE, "Bearer realm=x, Basic realm=y".parse().unwrap());
        assert_eq!(bearer(&headers).unwrap().get("realm"), Some("x"));
        headers.append(WWW_AUTHENTICATE, "Bearer resource_metadata=\"https://a\"".parse().unwrap());
        assert_eq!(bearer(&headers).unwrap().get("resource_metadata"), Some("https://a"));
    }
}
