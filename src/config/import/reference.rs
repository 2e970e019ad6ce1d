//! What clients write for a variable, as hub.toml writes it; all other text, so that hub.toml takes it as it stands.

use indexmap::{IndexMap, IndexSet};

use super::secret;
use crate::config::expand::is_variable;

/// What is around a server: to what its references lead.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// `$NAME` is a variable too.
    pub bare: bool,
    /// `{env:NAME}` and `{file:PATH}` are references.
    pub curly: bool,
    pub home: Option<String>,
    pub workspace: Option<String>,
    /// What the client asks a person for, with the question.
    pub inputs: IndexMap<String, String>,
}

/// Translates text by text, and remembers what there is to tell.
pub(super) struct Translator<'a> {
    pub around: &'a Surroundings,
    pub notes: IndexSet<String>,
}

impl Translator<'_> {
    /// One string of a client.
    pub(super) fn text(&mut self, raw: &str) -> String {
        let (mut out, mut rest) = (String::new(), raw);
        while let Some(at) = rest.find(['$', '{']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let known = self.reference(rest);
            let (written, length) = known.unwrap_or_else(|| (literal(rest).to_owned(), 1));
            out.push_str(&written);
            rest = &rest[length..];
        }
        out + rest
    }

    /// What begins with a reference: how we write it, and its length.
    fn reference(&mut self, text: &str) -> Option<(String, usize)> {
        if let Some(inner) = text.strip_prefix("${{") {
            let end = inner.find("}}")?;
            let name = inner[..end].trim().rsplit('.').next().unwrap_or_default();
            return Some((self.variable(name, None)?, end + 5));
        }
        if let Some(inner) = text.strip_prefix("${") {
            let end = inner.find('}')?;
            let (found, length) = (self.braced(&inner[..end]), end + 3);
            if found.is_none() {
                self.note(format!("`${{{}}}` means nothing here, and stands as it is", &inner[..end]));
            }
            return found.map(|found| (found, length));
        }
        if let Some(inner) = text.strip_prefix('{').filter(|_| self.around.curly) {
            let end = inner.find('}')?;
            let (kind, what) = inner[..end].split_once(':')?;
            let found = match kind {
                "env" => self.variable(what, None),
                "file" if plain(what) => Some(format!("${{file:{}}}", self.at_home(what))),
                _ => None,
            };
            return Some((found?, end + 2));
        }
        if self.around.bare && text.starts_with("$(") {
            self.note("a command in `$(…)` is not run, and stands as it is".into());
        }
        let name = text.strip_prefix('$').filter(|_| self.around.bare)?;
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        Some((self.variable(&name[..end], None)?, end + 1))
    }

    /// What stands in `${…}`.
    fn braced(&mut self, inner: &str) -> Option<String> {
        let folder = |found: &Option<String>| found.as_deref().map(escaped);
        match inner {
            "workspaceFolder" | "workspaceRoot" | "CLAUDE_PROJECT_DIR" if self.around.workspace.is_some() => {
                self.note(format!("`${{{inner}}}` is the folder of the file"));
                return folder(&self.around.workspace);
            }
            "userHome" => return folder(&self.around.home),
            "pathSeparator" | "/" => return Some(std::path::MAIN_SEPARATOR.to_string()),
            _ => {}
        }
        if let Some(id) = inner.strip_prefix("input:") {
            let name = variable_of(id)?;
            let question = self.around.inputs.get(id).map(|text| format!(" ({text})")).unwrap_or_default();
            self.note(format!("the client asks for `{id}`{question}: set the variable `{name}`"));
            return self.variable(&name, None);
        }
        let reference = inner.strip_prefix("env:").unwrap_or(inner);
        match reference.split_once(":-") {
            Some((name, default)) => self.variable(name, Some(default)),
            None => self.variable(reference, None),
        }
    }

    fn variable(&mut self, name: &str, default: Option<&str>) -> Option<String> {
        if !is_variable(name) {
            return None;
        }
        match default {
            Some(default) if secret::is_value(default) => {
                self.note(format!("the default of `{name}` looked like a secret, and was left out"));
                Some(format!("${{env:{name}}}"))
            }
            Some(default) if !plain(default) => None,
            Some(default) => Some(format!("${{env:{name}:-{default}}}")),
            None => Some(format!("${{env:{name}}}")),
        }
    }

    fn at_home(&self, path: &str) -> String {
        match (path.strip_prefix("~/"), &self.around.home) {
            (Some(rest), Some(home)) => format!("{home}/{rest}"),
            _ => path.to_owned(),
        }
    }

    fn note(&mut self, note: String) {
        self.notes.insert(note);
    }
}

/// Whether a text can stand within `${…}`.
fn plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(['$', '{', '}', '\0'])
}

/// The first character, so that it begins no reference of ours.
fn literal(text: &str) -> &'static str {
    match text.as_bytes() {
        [b'$', next, ..] if next.is_ascii_alphanumeric() || *next == b'_' => "$",
        [b'$', ..] => "$$",
        _ => "{",
    }
}

/// A text without references, as hub.toml has to have it.
pub(super) fn escaped(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        out.push_str(literal(&rest[at..]));
        rest = &rest[at + 1..];
    }
    out + rest
}

/// The text that [`escaped`] was given; nothing where it refers to something.
pub(super) fn plain_text(written: &str) -> Option<String> {
    let (mut out, mut rest) = (String::new(), written);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        if rest.starts_with('{') {
            return None;
        }
        rest = rest.strip_prefix('$').unwrap_or(rest);
    }
    Some(out + rest)
}

/// The variables that a text of hub.toml needs.
pub(super) fn needed(written: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = written;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some(inner) = rest.strip_prefix("{env:").and_then(|inner| inner.split('}').next()) {
            found.extend((!inner.contains(":-")).then_some(inner));
        }
    }
    found
}

/// `github-token` is asked for as `GITHUB_TOKEN`.
pub(super) fn variable_of(id: &str) -> Option<String> {
    let word: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).take(100).collect();
    let word = if word.starts_with(|c: char| c.is_ascii_digit()) { format!("_{word}") } else { word };
    is_variable(&word).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_references_of_clients_become_ours() {
        let around = Surroundings {
            home: Some("/home/ada".into()),
            workspace: Some("/src/it".into()),
            inputs: [("key".to_owned(), "A key".to_owned())].into_iter().collect(),
            ..Default::default()
        };
        let check = |bare: bool, curly: bool, raw: &str, expected: &str| {
            let around = Surroundings {
                bare,
                curly,
                inputs: around.inputs.clone(),
                ..Surroundings { home: around.home.clone(), workspace: around.workspace.clone(), ..Default::default() }
            };
            let mut translator = Translator { around: &around, notes: IndexSet::new() };
            assert_eq!(translator.text(raw), expected, "{raw}");
        };
        check(false, false, "plain {x} $HOME 5$", "plain {x} $HOME 5$$");
        check(false, false, "Bearer ${TOKEN}", "Bearer ${env:TOKEN}");
        check(false, false, "${env:A}${A:-b}$${A}", "${env:A}${env:A:-b}$$${env:A}");
        check(false, false, "${workspaceFolder}/x ${userHome}", "/src/it/x /home/ada");
        check(false, false, "${input:key}", "${env:KEY}");
        check(false, false, "${cmd:op read x} ${A", "$${cmd:op read x} $${A");
        check(false, false, "${{ secrets.A_KEY }}!", "${env:A_KEY}!");
        check(false, false, "{env:A}", "{env:A}");
        check(true, false, "$A-$B.$", "${env:A}-${env:B}.$$");
        check(false, true, "{env:A} {file:~/k} {x}", "${env:A} ${file:/home/ada/k} {x}");
    }

    #[test]
    fn what_is_escaped_comes_back() {
        for text in ["", "$", "$$", "a$b", "${x}", "$${x}$", "$ 5"] {
            assert_eq!(plain_text(&escaped(text)).as_deref(), Some(text));
        }
        assert_eq!(plain_text("Bearer ${env:A}"), None);
        assert_eq!(needed("${env:A} ${env:B:-c} $${env:D} ${file:e}"), ["A"]);
    }
}
