//! Values of the kinds the file knows, each read the same way wherever it stands: right, or a finding and `None`.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::disk;
use super::expand::{Text, expand};
use super::keys::{self, Section, listed};
use super::report::{Diagnostic, Findings};

/// What every step of the reading needs: where we are, and where findings go.
pub(super) struct Reader<'a> {
    /// Relative paths begin here.
    pub folder: &'a Path,
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub found: Findings,
    /// `Some` while reading an upstream that may miss a variable or a file: the reasons go here and are no error.
    pub excused: Option<Vec<String>>,
    /// Whether we are within an upstream, where `required = false` can be written.
    pub forgivable: bool,
}

/// A key with its value, and how to call it in a message.
pub(super) struct Field<'a> {
    pub key: &'a str,
    pub key_span: Range<usize>,
    pub path: String,
    pub span: Range<usize>,
    pub value: &'a DeValue<'a>,
}

impl<'a> Field<'a> {
    pub(super) fn new(parent: &str, key: &'a Spanned<DeString<'a>>, value: &'a Spanned<DeValue<'a>>) -> Self {
        let name = key.get_ref().as_ref();
        let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        Self { key: name, key_span: key.span(), path, span: value.span(), value: value.get_ref() }
    }

    /// Whether a number or a switch is written as a reference, which only a string can hold.
    fn refers(&self) -> bool {
        self.value.as_str().is_some_and(|s| s.contains("${"))
    }
}

impl<'a> Reader<'a> {
    pub(super) fn unknown(&mut self, field: &Field<'_>, section: Section) {
        let key = field.key;
        if section.later().contains(&key) {
            let found = self.found.error(field.key_span.clone(), format!("`{key}` is not supported by this version"));
            found.label("not yet").help(format!("remove `{key}`, or use a version that has it"));
        } else {
            let title = format!("unknown key `{key}` in {}", section.title());
            self.found.error(field.key_span.clone(), title).label("unknown").help(keys::help(key, section));
        }
    }

    /// "must be a number, but is a string"
    pub(super) fn wrong(&mut self, field: &Field<'_>, wanted: &str) -> &mut Diagnostic {
        let is = match field.value.type_str() {
            kind @ ("array" | "integer") => format!("an {kind}"),
            kind => format!("a {kind}"),
        };
        let title = format!("`{}` must be {wanted}", field.path);
        self.found.error(field.span.clone(), title).label(format!("this is {is}"))
    }

    /// A value of the right type that says nothing sensible.
    pub(super) fn bad(&mut self, field: &Field<'_>, problem: &str) -> &mut Diagnostic {
        let title = format!("`{}`: {problem}", field.path);
        self.found.error(field.span.clone(), title)
    }

    pub(super) fn table(&mut self, field: &Field<'a>) -> Option<&'a DeTable<'a>> {
        if let Some(table) = field.value.as_table() {
            return Some(table);
        }
        self.wrong(field, "a table");
        None
    }

    pub(super) fn list(&mut self, field: &Field<'a>) -> Option<Vec<Field<'a>>> {
        let Some(array) = field.value.as_array() else {
            let one = field.value.is_str();
            let found = self.wrong(field, "a list of strings");
            if one {
                found.help(format!("put it into brackets: {} = [\"…\"]", field.key));
            }
            return None;
        };
        let entries = array.iter().map(|entry| Field {
            key: field.key,
            key_span: field.key_span.clone(),
            path: field.path.clone(),
            span: entry.span(),
            value: entry.get_ref(),
        });
        Some(entries.collect())
    }

    /// A string as it is written, its references not yet followed.
    pub(super) fn written(&mut self, field: &Field<'_>) -> Option<Spanned<String>> {
        let wanted = "a string";
        let Some(text) = field.value.as_str() else {
            let scalar = !field.value.is_table() && !field.value.is_array();
            let found = self.wrong(field, wanted);
            if scalar {
                found.help("put it into quotes");
            }
            return None;
        };
        if text.contains('\0') {
            self.bad(field, "a NUL character cannot be passed on");
            return None;
        }
        Some(Spanned::new(field.span.clone(), text.to_owned()))
    }

    pub(super) fn text(&mut self, field: &Field<'_>) -> Option<Text> {
        let written = self.written(field)?;
        self.expand(&written)
    }

    /// Follows the references of a string; `None` if one leads nowhere.
    pub(super) fn expand(&mut self, written: &Spanned<String>) -> Option<Text> {
        let folder = self.folder;
        let errors = match expand(written.get_ref(), self.env, &|path| disk::secret(folder, path)) {
            Ok(text) if text.expose().contains('\0') => {
                self.found.error(written.span(), "what this refers to holds a NUL character");
                return None;
            }
            Ok(text) => return Some(text),
            Err(errors) => errors,
        };
        for error in errors {
            match &mut self.excused {
                Some(reasons) if error.is_missing() => reasons.push(error.to_string()),
                _ => {
                    let found = self.found.error(written.span(), error.to_string());
                    found.label(if error.is_missing() { "needed here" } else { "" });
                    found.help = error.help();
                    if error.is_missing() && self.forgivable {
                        let forgive = "with `required = false` only this upstream fails";
                        let help = found.help.take().map(|help| format!("{help}; {forgive}"));
                        found.help = help.or(Some(forgive.into()));
                    }
                }
            }
        }
        None
    }

    pub(super) fn switch(&mut self, field: &Field<'_>) -> Option<bool> {
        if let Some(value) = field.value.as_bool() {
            return Some(value);
        }
        if field.refers() {
            let text = self.text(field)?;
            match text.expose().trim() {
                "true" => return Some(true),
                "false" => return Some(false),
                _ => {
                    self.bad(field, "what this refers to is neither true nor false");
                    return None;
                }
            }
        }
        let quoted = matches!(field.value.as_str(), Some("true" | "false"));
        let found = self.wrong(field, "true or false");
        if quoted {
            found.help("remove the quotes");
        }
        None
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, field: &Field<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(field)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.expose()) {
            return Some(*value);
        }
        let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let near = keys::nearest(text.expose(), allowed.iter().copied());
        let found = self.bad(field, &format!("must be one of {}", listed(&allowed)));
        if let Some(near) = near {
            found.help(format!("did you mean \"{near}\"?"));
        }
        None
    }

    pub(super) fn count(&mut self, field: &Field<'_>, range: RangeInclusive<usize>) -> Option<usize> {
        let number =
            if field.refers() { self.text(field)?.expose().trim().parse::<i128>().ok() } else { integer(field.value) };
        let Some(number) = number else {
            let quoted = field.value.as_str().is_some_and(|s| s.trim().parse::<i128>().is_ok());
            let found = self.wrong(field, "a whole number");
            if quoted {
                found.help("remove the quotes");
            }
            return None;
        };
        match usize::try_from(number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                self.bad(field, &format!("must be from {} to {}", range.start(), range.end()));
                None
            }
        }
    }

    /// A number of bytes, plain or with a unit.
    pub(super) fn size(&mut self, field: &Field<'_>, range: RangeInclusive<usize>) -> Option<usize> {
        let bytes = match field.value {
            DeValue::Integer(_) => integer(field.value),
            DeValue::String(_) => bytes(self.text(field)?.expose()),
            _ => {
                self.wrong(field, "a size, such as \"4 MiB\"");
                return None;
            }
        };
        let Some(bytes) = bytes else {
            let units = "B, KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024";
            self.bad(field, "this is not a size").label("not a size").help(format!("write it as \"4 MiB\"; {units}"));
            return None;
        };
        match usize::try_from(bytes) {
            Ok(bytes) if range.contains(&bytes) => Some(bytes),
            _ => {
                let (min, max) = (size_text(*range.start()), size_text(*range.end()));
                self.bad(field, &format!("must be from {min} to {max}"));
                None
            }
        }
    }

    /// A time within the range; with `zero`, also none at all.
    pub(super) fn duration(
        &mut self,
        field: &Field<'_>,
        zero: Zero,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        const HELP: &str = "write it as \"30s\", \"5m\" or \"1h 30m\"; a day is \"24h\"";
        let duration = match field.value {
            DeValue::Integer(_) if integer(field.value) == Some(0) => Duration::ZERO,
            DeValue::Integer(_) => {
                self.bad(field, "a time needs its unit").label("of what?").help(HELP);
                return None;
            }
            DeValue::String(_) => {
                let text = self.text(field)?;
                let parser = jiff::fmt::friendly::SpanParser::new();
                match text.expose().trim() {
                    "0" => Duration::ZERO,
                    written => match parser.parse_unsigned_duration(written) {
                        Ok(duration) => duration,
                        Err(_) => {
                            self.bad(field, "this is not a time").label("not a time").help(HELP);
                            return None;
                        }
                    },
                }
            }
            _ => {
                self.wrong(field, "a time").help(HELP);
                return None;
            }
        };
        if range.contains(&duration) || (zero == Zero::Allowed && duration.is_zero()) {
            return Some(duration);
        }
        let (min, max) = (duration_text(*range.start()), duration_text(*range.end()));
        let or = if zero == Zero::Allowed { "0, or " } else { "" };
        self.bad(field, &format!("must be {or}from {min} to {max}"));
        None
    }
}

/// Whether zero is a time too, outside of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

/// A key that was read well replaces the default; otherwise a finding tells why not.
pub(super) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn bytes(written: &str) -> Option<i128> {
    let written = written.trim();
    let digits = written.find(|c: char| !c.is_ascii_digit()).unwrap_or(written.len());
    let (number, unit) = written.split_at(digits);
    let unit: i128 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<i128>().ok()?.checked_mul(unit)
}

pub(super) fn size_text(bytes: usize) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}

pub(super) fn duration_text(duration: Duration) -> String {
    if duration.is_zero() {
        return "0".into();
    }
    jiff::fmt::friendly::SpanPrinter::new().unsigned_duration_to_string(&duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |written: &str, expected| assert_eq!(bytes(written), expected, "{written}");
        check("0", Some(0));
        check("17", Some(17));
        check("17 B", Some(17));
        check("4 MiB", Some(4 << 20));
        check("4MiB", Some(4 << 20));
        check("64 KiB", Some(64 << 10));
        check("1 GiB", Some(1 << 30));
        check("10 MB", Some(10_000_000));
        check("4 M", None);
        check("4 mib", None);
        check("1.5 MiB", None);
        check("-1", None);
        check("MiB", None);
        check("", None);
        check("99999999999999999999999999999999999999999 GiB", None);
    }

    #[test]
    fn texts_of_limits() {
        assert_eq!(size_text(1 << 30), "1 GiB");
        assert_eq!(size_text(1 << 10), "1 KiB");
        assert_eq!(size_text(1000), "1000 B");
        assert_eq!(duration_text(Duration::from_millis(100)), "100ms");
        assert_eq!(duration_text(Duration::from_secs(5400)), "1h 30m");
    }
}
