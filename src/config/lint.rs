//! Command lines that run but should not be trusted: warnings, and the one mistake everybody makes once.

use std::ops::Range;

use toml::Spanned;

use super::expand::Text;
use super::report::Findings;

const SHELLS: [&str; 8] = ["sh", "bash", "zsh", "dash", "ksh", "fish", "pwsh", "powershell"];

/// `command` and `args` with where they stand.
pub(super) fn command_line(
    found: &mut Findings,
    name: &str,
    command: (&Text, Range<usize>),
    args: &[(Text, Range<usize>)],
) {
    let (text, span) = command;
    if text.is_secret() {
        return;
    }
    let program = text.expose();
    if let Some((program, words)) = whole_line(program) {
        let list = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        found
            .error(span, format!("`upstreams.{name}.command` is a whole command line"))
            .label("no shell will take this apart")
            .help(format!("put the arguments into args: command = {program:?} and args = [{list}]"));
        return;
    }
    let program = program.rsplit(['/', '\\']).next().unwrap_or_default();
    let program = program.strip_suffix(".exe").unwrap_or(program);
    let flag = |test: fn(&str) -> bool| args.iter().find(|(arg, _)| !arg.is_secret() && test(arg.expose()));
    let script = if SHELLS.contains(&program) {
        flag(|arg| (arg.starts_with('-') && !arg.starts_with("--") && arg.ends_with('c')) || arg == "-Command")
    } else if program == "cmd" {
        flag(|arg| arg.eq_ignore_ascii_case("/c") || arg.eq_ignore_ascii_case("/k"))
    } else if program == "npx" {
        flag(|arg| arg == "-c" || arg == "--call")
    } else {
        None
    };
    if let Some((_, at)) = script {
        found
            .warning(at.clone(), format!("`upstreams.{name}` runs a shell script"))
            .label("the words after this are code")
            .help("name the program in `command` and its arguments in `args`: then nothing needs quoting");
    }
    if matches!(program, "sudo" | "doas" | "su") {
        found
            .warning(span, format!("`upstreams.{name}` runs with another user's rights"))
            .help("run the hub as the user that the upstream needs, and only that upstream");
    }
    for (arg, at) in args.iter().filter(|(arg, _)| !arg.is_secret() && is_latest(arg.expose())) {
        found
            .warning(at.clone(), format!("`{}` is a different program tomorrow", arg.expose()))
            .label("not pinned")
            .help("name a version, such as `@1.2.3`");
    }
}

/// The program and arguments of a `command` that was written like a line for a shell. A path with a space in one of
/// its folders is no such line.
fn whole_line(command: &str) -> Option<(String, Vec<String>)> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, others) = words.split_first()?;
    let path = program.contains(['/', '\\']) && !others.iter().any(|word| word.starts_with('-'));
    if others.is_empty() || path {
        return None;
    }
    let bare = |word: &str| word.trim_matches(['"', '\'']).to_owned();
    Some((bare(program), others.iter().map(|word| bare(word)).collect()))
}

fn is_latest(arg: &str) -> bool {
    arg.ends_with("@latest") || arg.ends_with(":latest")
}

/// Pairs expanded texts with where they were written.
pub(super) fn placed(texts: &[Text], written: &[Spanned<String>]) -> Vec<(Text, Range<usize>)> {
    texts.iter().cloned().zip(written.iter().map(Spanned::span)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let check = |command: &str, args: &[&str], expected: &[&str]| {
            let mut found = Findings::default();
            let args: Vec<_> = args.iter().enumerate().map(|(at, arg)| (Text::from(*arg), at + 1..at + 2)).collect();
            command_line(&mut found, "x", (&command.into(), 0..1), &args);
            let titles: Vec<String> = found.finish("").into_iter().map(|d| d.title).collect();
            assert_eq!(titles.len(), expected.len(), "{command} {titles:?}");
            for (title, part) in titles.iter().zip(expected) {
                assert!(title.contains(part), "{title}");
            }
        };
        check("uvx", &["mcp-server-time"], &[]);
        check("uvx mcp-server-time", &[], &["whole command line"]);
        check("/usr/bin/python -m x", &[], &["whole command line"]);
        check("/opt/My App/run", &[], &[]);
        check("sh", &["-c", "x"], &["shell script"]);
        check("/bin/bash", &["-lc", "x"], &["shell script"]);
        check("bash", &["run.sh"], &[]);
        check("sh", &["--norc"], &[]);
        check("cmd.exe", &["/C", "x"], &["shell script"]);
        check("npx", &["-c", "x"], &["shell script"]);
        check("npx", &["-y", "a@latest"], &["different program"]);
        check("npx", &["-y", "@a/b@1.0.0"], &[]);
        check("sudo", &["x"], &["another user"]);
        check("docker", &["run", "a/b:latest"], &["different program"]);
        check("env-c", &["-c"], &[]);
    }

    #[test]
    fn a_secret_is_not_judged_and_not_shown() {
        let mut found = Findings::default();
        let args = [(Text::secret("tok@latest"), 1..2)];
        command_line(&mut found, "x", (&Text::secret("sh -c x"), 0..1), &args);
        command_line(&mut found, "x", (&"sh".into(), 0..1), &args);
        assert!(found.finish("").is_empty());
    }
}
