//! Changes of `hub.toml` that keep its comments and its order.
//!
//! The text is changed, not the meaning: what cannot be understood elsewhere in the file stays as it is.

mod upstreams;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

pub(super) use upstreams::known_upstreams;
pub use upstreams::{NewAuth, NewUpstream, add_upstream, add_upstreams, enable_upstream, remove_upstream};

use super::disk;

/// Why a text was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("the file has a mistake, so nothing was changed in it; `hubward check` shows where: {0}")]
    Syntax(String),
    #[error("`{0}` is not a table; correct it, and try again")]
    Shape(&'static str),
    #[error("there is a token `{0}` already; `hubward token revoke {0}` removes it")]
    Taken(String),
    #[error("there is no token `{0}`; `hubward token list` shows those that are there")]
    Unknown(String),
    #[error("there is an upstream `{0}` already; `hubward remove {0}` removes it")]
    UpstreamTaken(String),
    #[error("there is no upstream `{0}`; `hubward list` shows those that are there")]
    UpstreamUnknown(String),
    #[error("somebody else changed the file meanwhile; nothing was written, try again")]
    Raced,
    #[error("cannot write {}: {why}", path.display())]
    Write { path: std::path::PathBuf, why: io::Error },
}

/// Adds a token to `[hub.auth]`.
pub fn add_token(text: &str, name: &str, sha256: &str, upstreams: &[String]) -> Result<String, EditError> {
    let mut document = read(text)?;
    let mut entry = InlineTable::new();
    entry.insert("name", name.into());
    entry.insert("sha256", sha256.into());
    if !upstreams.is_empty() {
        entry.insert("upstreams", upstreams.iter().collect::<Array>().into());
    }
    match tokens(&mut document)? {
        Item::ArrayOfTables(tables) => {
            if tables.iter().any(|table| named(table.get("name"), name)) {
                return Err(EditError::Taken(name.to_owned()));
            }
            let mut table = Table::new();
            table.extend(entry);
            tables.push(table);
        }
        Item::Value(Value::Array(array)) => {
            if array.iter().any(|value| holds(value, name)) {
                return Err(EditError::Taken(name.to_owned()));
            }
            array.push(entry);
            // One on a line: they are long.
            for value in array.iter_mut() {
                value.decor_mut().set_prefix("\n    ");
            }
            array.set_trailing_comma(true);
            array.set_trailing("\n");
        }
        _ => return Err(EditError::Shape("hub.auth.tokens")),
    }
    Ok(document.to_string())
}

/// Removes a token from `[hub.auth]`.
pub fn remove_token(text: &str, name: &str) -> Result<String, EditError> {
    let mut document = read(text)?;
    let unknown = || EditError::Unknown(name.to_owned());
    match tokens(&mut document)? {
        Item::ArrayOfTables(tables) => {
            let at = tables.iter().position(|table| named(table.get("name"), name)).ok_or_else(unknown)?;
            tables.remove(at);
        }
        Item::Value(Value::Array(array)) => {
            let at = array.iter().position(|value| holds(value, name)).ok_or_else(unknown)?;
            array.remove(at);
        }
        _ => return Err(EditError::Shape("hub.auth.tokens")),
    }
    Ok(document.to_string())
}

fn read(text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: toml_edit::TomlError| EditError::Syntax(error.message().to_owned()))
}

/// `hub.auth.tokens`, made where it is not.
fn tokens(document: &mut DocumentMut) -> Result<&mut Item, EditError> {
    let made = |implicit: bool| {
        let mut table = Table::new();
        table.set_implicit(implicit);
        Item::Table(table)
    };
    let hub = document.entry("hub").or_insert_with(|| made(true));
    let hub = hub.as_table_like_mut().ok_or(EditError::Shape("hub"))?;
    let auth = hub.entry("auth").or_insert_with(|| made(false));
    let auth = auth.as_table_like_mut().ok_or(EditError::Shape("hub.auth"))?;
    Ok(auth.entry("tokens").or_insert_with(|| Item::Value(Value::Array(Array::new()))))
}

fn holds(value: &Value, name: &str) -> bool {
    value.as_inline_table().and_then(|table| table.get("name")).and_then(Value::as_str) == Some(name)
}

fn named(item: Option<&Item>, name: &str) -> bool {
    item.and_then(Item::as_str) == Some(name)
}

/// Puts a changed text into the place of the one it was made from: whole or not at all, with the same permissions.
pub fn replace(path: &Path, before: &str, after: &str) -> Result<(), EditError> {
    // A link stays a link.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let failed = |why| EditError::Write { path: real.clone(), why };
    if disk::text(&real).ok().as_deref() != Some(before) {
        return Err(EditError::Raced);
    }
    let name = real.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let aside = real.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).open(&aside)?;
        file.set_permissions(fs::metadata(&real)?.permissions())?;
        file.write_all(after.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &real)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&aside);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn tokens_come_and_go_and_all_else_stays() {
        let file = "# mine\n[hub] # here\nbind = [\"127.0.0.1:1\"]   # there\n\n[upstreams.a]\ncommand = \"x\"\n";
        let one = add_token(file, "ci", HASH, &["a".into()]).unwrap();
        let two = add_token(&one, "ada", HASH, &[]).unwrap();
        for line in file.lines() {
            assert!(two.contains(line), "{two}");
        }
        let entry = format!("    {{ name = \"ci\", sha256 = \"{HASH}\", upstreams = [\"a\"] }},\n");
        assert!(two.contains(&entry) && two.contains("[hub.auth]\ntokens = [\n"), "{two}");
        assert!(matches!(add_token(&two, "ci", HASH, &[]), Err(EditError::Taken(_))));
        let less = remove_token(&two, "ci").unwrap();
        assert!(!less.contains("\"ci\"") && less.contains("\"ada\""), "{less}");
        assert!(matches!(remove_token(&less, "ci"), Err(EditError::Unknown(_))));
    }

    #[test]
    fn every_way_to_write_them_is_understood() {
        for file in [
            "",
            "[hub]\nauth = { allow_unauthenticated = true }\n",
            "[[hub.auth.tokens]]\nname = 'x'\nsha256 = 'y'\n",
            "hub.auth.tokens = [\n  { name = 'x', sha256 = 'y' }, # the first\n]\n",
        ] {
            let added = add_token(file, "ci", HASH, &[]).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(added.contains("\"ci\"") && added.parse::<DocumentMut>().is_ok(), "{added}");
            assert!(!remove_token(&added, "ci").unwrap().contains("\"ci\""));
        }
        for file in ["hub = 1", "[hub]\nauth = 1", "[hub.auth]\ntokens = 1"] {
            assert!(matches!(add_token(file, "ci", HASH, &[]), Err(EditError::Shape(_))), "{file}");
        }
        assert!(matches!(add_token("[hub", "ci", HASH, &[]), Err(EditError::Syntax(_))));
    }
}
