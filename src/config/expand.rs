//! References inside values: `${env:NAME}`, `${env:NAME:-default}`, `${file:PATH}`, and `$$` for a `$`.
//!
//! They are expanded in parsed *values*, never in the text: so a secret cannot become TOML, and positions stay true.
//! Nothing is expanded twice: what a variable or a file holds is taken as it is.
//!
//! Invariant: a [`Text`] that came from outside the file never shows itself, however it is printed.

use std::fmt;
use std::path::Path;

/// A string that knows whether it may be shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text {
    value: String,
    secret: bool,
    /// The parts of it that came from outside.
    parts: Vec<String>,
}

impl Text {
    pub fn secret(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { parts: vec![value.clone()], value, secret: true }
    }

    /// The real text: for the child that needs it, for nothing that is printed.
    pub fn expose(&self) -> &str {
        &self.value
    }

    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// What must not be seen of it, line by line.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| part.lines()).map(str::trim).filter(|line| !line.is_empty())
    }

    /// The same secrecy around another value.
    pub(super) fn map(self, change: impl FnOnce(String) -> String) -> Self {
        Self { value: change(self.value), ..self }
    }
}

impl From<&str> for Text {
    fn from(value: &str) -> Self {
        Self { value: value.into(), ..Self::default() }
    }
}

impl From<String> for Text {
    fn from(value: String) -> Self {
        Self { value, ..Self::default() }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.secret { "***" } else { &self.value })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret { f.write_str("***") } else { fmt::Debug::fmt(&self.value, f) }
    }
}

/// Why a reference could not be followed. None of these holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    #[error("environment variable `{0}` is not set")]
    Unset(String),
    #[error("cannot read the secret file `{path}`: {why}")]
    File { path: String, why: String, help: Option<String> },
    #[error("`${{` without its `}}`")]
    Open,
    #[error("`${{{0}}}` is not a reference")]
    Unknown(String),
}

impl ExpandError {
    /// Whether it is the world that lacks something, which `required = false` forgives, and not the file.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, ExpandError::Unset(_) | ExpandError::File { .. })
    }

    pub(super) fn help(&self) -> Option<String> {
        Some(match self {
            ExpandError::Unset(name) => {
                format!("set it where the hub is started, or give a default: `${{env:{name}:-…}}`")
            }
            ExpandError::File { help, .. } => return help.clone(),
            ExpandError::Open => "write `$$` for a `$` that is only a `$`".to_owned(),
            ExpandError::Unknown(inner) if is_variable(inner) => {
                format!("did you mean `${{env:{inner}}}`? `$${{{inner}}}` is the text itself")
            }
            ExpandError::Unknown(_) => {
                "the forms are `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}`; `$$` is a `$`".to_owned()
            }
        })
    }
}

/// Follows every reference of `raw`, or tells all that cannot be followed.
pub(super) fn expand(
    raw: &str,
    env: &dyn Fn(&str) -> Option<String>,
    file: &dyn Fn(&Path) -> Result<String, ExpandError>,
) -> Result<Text, Vec<ExpandError>> {
    let mut out = Text::default();
    let mut errors = Vec::new();
    let mut rest = raw;
    while let Some(dollar) = rest.find('$') {
        out.value.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.value.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some(close) = after.find('}') else {
                errors.push(ExpandError::Open);
                return Err(errors);
            };
            rest = &after[close + 1..];
            match follow(&after[..close], env, file) {
                Ok(text) => {
                    out.value.push_str(&text.value);
                    out.secret |= text.secret;
                    out.parts.extend(text.parts);
                }
                Err(error) => errors.push(error),
            }
        } else {
            // `$HOME` and a lone `$` are nobody's business but the child's.
            out.value.push('$');
        }
    }
    out.value.push_str(rest);
    if errors.is_empty() { Ok(out) } else { Err(errors) }
}

fn follow(
    inner: &str,
    env: &dyn Fn(&str) -> Option<String>,
    file: &dyn Fn(&Path) -> Result<String, ExpandError>,
) -> Result<Text, ExpandError> {
    if let Some(reference) = inner.strip_prefix("env:") {
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if !is_variable(name) {
            return Err(ExpandError::Unknown(inner.to_owned()));
        }
        return match (env(name), default) {
            // As in a shell, `:-` stands in for an empty variable too.
            (Some(value), Some(default)) if value.is_empty() => Ok(default.into()),
            (Some(value), _) => Ok(Text::secret(value)),
            (None, Some(default)) => Ok(default.into()),
            (None, None) => Err(ExpandError::Unset(name.to_owned())),
        };
    }
    match inner.strip_prefix("file:") {
        Some(path) if !path.is_empty() => Ok(Text::secret(file(Path::new(path))?)),
        _ => Err(ExpandError::Unknown(inner.to_owned())),
    }
}

pub(super) fn is_variable(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, expected: Result<(&str, bool), &str>) {
        let env = |name: &str| match name {
            "KEY" => Some("s3cret${env:OTHER}$$".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let file = |path: &Path| match path.to_str() {
            Some("token") => Ok("tok".to_owned()),
            _ => Err(ExpandError::File { path: path.display().to_string(), why: "gone".into(), help: None }),
        };
        let text = expand(raw, &env, &file);
        let joined = text.map_err(|errors| errors.iter().map(|e| e.to_string()).collect::<Vec<_>>().join("; "));
        match (&joined, expected) {
            (Ok(text), Ok((value, secret))) => {
                assert_eq!((text.expose(), text.is_secret()), (value, secret), "{raw}")
            }
            (Err(errors), Err(part)) => assert!(errors.contains(part), "{raw}: {errors}"),
            (got, _) => panic!("{raw}: {got:?}"),
        }
    }

    #[test]
    fn references() {
        check("", Ok(("", false)));
        check("plain", Ok(("plain", false)));
        check("$$", Ok(("$", false)));
        check("$${env:KEY}", Ok(("${env:KEY}", false)));
        check("$HOME and $", Ok(("$HOME and $", false)));
        check("Bearer ${env:KEY}!", Ok(("Bearer s3cret${env:OTHER}$$!", true)));
        check("${env:NO:-d}", Ok(("d", false)));
        check("${env:EMPTY:-d}", Ok(("d", false)));
        check("${env:EMPTY}", Ok(("", true)));
        check("${env:NO:-}", Ok(("", false)));
        check("${file:token}", Ok(("tok", true)));
        check("${env:NO}", Err("`NO` is not set"));
        check("${env:NO} ${file:x}", Err("`NO` is not set; cannot read the secret file `x`: gone"));
        check("${HOME}", Err("`${HOME}` is not a reference"));
        check("${env:}", Err("not a reference"));
        check("${env:A=B}", Err("not a reference"));
        check("${file:}", Err("not a reference"));
        check("${env:KEY", Err("without its"));
    }

    #[test]
    fn a_secret_never_shows_itself() {
        let text = Text::secret("s3cret");
        assert_eq!(format!("{text} {text:?} {text:#?} {:?}", Some(&text)), "*** *** *** Some(***)");
    }
}
