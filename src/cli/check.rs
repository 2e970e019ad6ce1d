//! `hubward check`: says what is wrong with `hub.toml`, to a person, a program or GitHub.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::running::{self, WhichHub};
use super::{ConfigFlag, FAILED, Globals, OK, say};
use crate::config::{self, Diagnostic, Rejected, report};

#[derive(clap::Args)]
pub struct Args {
    /// The file to check [default: the one that `serve` would read]
    file: Option<PathBuf>,

    /// How to tell what was found
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,

    /// Print what the running hub would do with it, and change nothing; -c names the hub's own file, if that is another
    #[arg(long)]
    diff: bool,

    #[command(flatten)]
    config: ConfigFlag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Drawn under the lines
    Human,
    /// One JSON object
    Json,
    /// Workflow commands, shown beside the lines of a change
    Github,
}

/// 0 if the file can be used, with or without warnings; 2 if not. The report is what was asked for, so it goes to
/// stdout.
pub fn run(args: Args, globals: &Globals) -> u8 {
    let hub = globals.file(&args.config);
    let file = args.file.clone().or_else(|| hub.clone());
    let code = tell(file.as_deref(), args.format, globals.color(std::io::stdout()), args.diff);
    if code == 0 && args.diff { difference(hub, args.file, args.format, globals) } else { code }
}

/// Asks the hub of a file what it would do with another: its variables count, and what it runs. 4 where there is none.
fn difference(hub: Option<PathBuf>, file: Option<PathBuf>, format: Format, globals: &Globals) -> u8 {
    let other = file.as_ref().and_then(|file| std::path::absolute(file).ok());
    let mut refused = false;
    let question = json!({ "command": "forecast", "file": other });
    let code = running::ask(WhichHub::of(hub.or(file)), globals, &question, |plan| {
        refused = plan["refused"].as_array().is_some_and(|keys| !keys.is_empty());
        match format {
            Format::Json => say(&plan),
            _ => said(&plan).into_iter().for_each(say),
        }
    });
    if code == OK && refused { FAILED } else { code }
}

/// A line for each upstream that is not as before.
fn said(plan: &Value) -> Vec<String> {
    let names = |list: &str| {
        let names = plan[list].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut lines = vec![plan["plan"].as_str().unwrap_or_default().to_owned()];
    let marks = [
        ("added", "+", ""),
        ("removed", "-", ""),
        ("replaced", "~", ": a new process"),
        ("updated", "~", ": in place"),
    ];
    for (list, mark, means) in marks {
        lines.extend(names(list).into_iter().map(|name| format!("{mark} {name}{means}")));
    }
    lines
}

fn tell(flag: Option<&Path>, format: Format, color: bool, quiet: bool) -> u8 {
    let (found, valid) = match config::find(flag) {
        // Of a good file the difference is all that was asked for.
        Ok(path) => match check(&path, format, color) {
            (_, true) if quiet => (String::new(), true),
            checked => checked,
        },
        Err(missing) => {
            let diagnostic = Diagnostic::of_file(missing.to_string());
            (told(&[diagnostic], "", Path::new("hub.toml"), format, color), false)
        }
    };
    // A reader that closed the pipe has read enough.
    let _ = std::io::stdout().lock().write_all(found.as_bytes());
    if valid { 0 } else { 2 }
}

fn check(path: &Path, format: Format, color: bool) -> (String, bool) {
    match config::read(path) {
        Ok(loaded) => {
            let mut out = told(&loaded.warnings, &loaded.text, path, format, color);
            if format == Format::Human {
                let plural = if loaded.config.upstreams.len() == 1 { "" } else { "s" };
                let count = loaded.config.upstreams.len();
                out.push_str(&format!("{}: ok, {count} upstream{plural}\n", path.display()));
            }
            (out, true)
        }
        Err(Rejected { text, diagnostics, .. }) => {
            (told(&diagnostics, text.as_deref().unwrap_or_default(), path, format, color), false)
        }
    }
}

fn told(found: &[Diagnostic], text: &str, path: &Path, format: Format, color: bool) -> String {
    match format {
        Format::Human => report::draw(found, text, path, color),
        Format::Json => report::json(found, text, path) + "\n",
        Format::Github => report::github(found, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.toml");
        let check = |text: Option<&str>, expected| {
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            for format in [Format::Human, Format::Json, Format::Github] {
                assert_eq!(super::tell(Some(&path), format, false, false), expected, "{text:?}");
            }
        };
        check(None, 2);
        check(Some("[hub]\n"), 0);
        check(Some("[upstreams.a]\ncommand = \"x\"\n"), 0);
        check(Some("[upstreams.a]\n"), 2);
    }
}
