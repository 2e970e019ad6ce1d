//! The variables that `connect` obeys: those of the environment, and those of a `.env` file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// What variables are set to. The environment wins over the file.
#[derive(Default)]
pub struct Variables {
    file: HashMap<String, String>,
}

impl Variables {
    /// Reads a file that was named; or, where no server was, the `.env` of this folder or the nearest above it.
    pub fn read(named: Option<&Path>, search: bool) -> Result<Variables, String> {
        let path = match named {
            Some(path) if path.is_file() => Some(path.to_path_buf()),
            Some(path) => found(path).map(Some).ok_or_else(|| format!("there is no file {}", path.display()))?,
            None if search => found(Path::new(".env")),
            None => None,
        };
        let Some(path) = path else { return Ok(Variables::default()) };
        let unreadable = |error: dotenvy::Error| format!("cannot read {}: {error}", path.display());
        let file = dotenvy::from_path_iter(&path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
        Ok(Variables { file })
    }

    /// A variable that is set to something.
    pub fn get(&self, name: &str) -> Option<String> {
        let set = |value: &String| !value.is_empty();
        std::env::var(name).ok().filter(set).or_else(|| self.file.get(name).cloned().filter(set))
    }

    /// A text with its `${VAR}` replaced: clients split arguments at blanks, so a value with one comes from a variable.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after.split_once('}').ok_or_else(|| format!("`${{` without its `}}` in {text:?}"))?;
            let name = name.strip_prefix("env:").unwrap_or(name);
            out.push_str(before);
            out.push_str(&self.get(name).ok_or_else(|| format!("the variable `{name}` is not set"))?);
            rest = behind;
        }
        Ok(out + rest)
    }
}

/// The file of this name in the current folder, or the nearest one above.
fn found(name: &Path) -> Option<PathBuf> {
    let name = name.file_name().filter(|_| name.is_relative())?;
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_2_a_file_gives_what_the_environment_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("one.env");
        std::fs::write(
            &path,
            "# a comment\nMCP_SERVER_URL=https://a.example/mcp\nX=\"two words\"\nHOME=/nowhere\nE=\n",
        )
        .expect("a file");
        let variables = Variables::read(Some(&path), false).expect("it can be read");
        assert_eq!(variables.get("MCP_SERVER_URL").as_deref(), Some("https://a.example/mcp"));
        assert_eq!(variables.get("X").as_deref(), Some("two words"));
        assert_ne!(variables.get("HOME").as_deref(), Some("/nowhere"));
        assert_eq!(variables.get("E"), None);
        assert_eq!(variables.expand("a ${X} ${env:X}").as_deref(), Ok("a two words two words"));
        assert!(variables.expand("${NOT_SET_ANYWHERE}").is_err());
        assert!(Variables::read(Some(&folder.path().join("none.env")), false).is_err());
    }
}
