//! Spellings of older tools, put into ours before they are parsed: `-e NAME VALUE`, several origins behind one flag.

use std::ffi::OsString;

/// Rewrites the flags of `proxy`, up to its command. The second: flags of ours that stand behind the command, and so
/// belong to it, where no `--` says that this is meant.
pub fn ours(words: Vec<OsString>, whole: &clap::Command) -> (Vec<OsString>, Vec<String>) {
    let Some(verb) = verb(&words, whole).filter(|at| words[*at] == "proxy") else { return (words, Vec::new()) };
    let Some(proxy) = whole.find_subcommand("proxy") else { return (words, Vec::new()) };
    let values = |word: &str| values(proxy, word).or_else(|| self::values(whole, word));
    let mut rest = words.into_iter();
    let mut made: Vec<OsString> = rest.by_ref().take(verb + 1).collect();
    let mut rest = rest.peekable();
    while let Some(word) = rest.next() {
        let text = word.to_str().unwrap_or_default().to_owned();
        if text == "--" {
            made.push(word);
            made.extend(rest);
            return (made, Vec::new());
        }
        if !text.starts_with('-') || text == "-" {
            let behind: Vec<OsString> = rest.collect();
            let flags = behind.iter().take_while(|word| *word != "--").filter_map(|word| word.to_str());
            let known = flags.filter(|word| word.starts_with("--") && self::values(proxy, word).is_some());
            let known = known.map(str::to_owned).collect();
            made.push(word);
            made.extend(behind);
            return (made, known);
        }
        made.push(word);
        let following = values(&text).unwrap_or(0);
        for _ in 0..following {
            made.extend(rest.next());
        }
        let last = made.last().and_then(|word| word.to_str()).unwrap_or_default().to_owned();
        match text.as_str() {
            "-e" | "--env" if !last.contains('=') => {
                let value = rest.next_if(|word| word.to_str().is_none_or(|word| !word.starts_with('-')));
                if let (Some(value), Some(name)) = (value, made.last_mut()) {
                    name.push("=");
                    name.push(value);
                }
            }
            _ if text.split('=').next() == Some("--allow-origin") => {
                while let Some(origin) = rest.next_if(|word| word.to_str().is_some_and(is_origin)) {
                    made.extend(["--allow-origin".into(), origin]);
                }
            }
            _ => {}
        }
    }
    (made, Vec::new())
}

/// Where the command of hubward stands.
fn verb(words: &[OsString], whole: &clap::Command) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        match word.starts_with('-') {
            true => at += 1 + values(whole, word).unwrap_or(0),
            false => return Some(at),
        }
    }
    None
}

/// How many words follow a flag; none where there is no such flag.
fn values(command: &clap::Command, word: &str) -> Option<usize> {
    let (name, inline) = word.split_once('=').map_or((word, false), |(name, _)| (name, true));
    let is = |arg: &&clap::Arg| match name.strip_prefix("--") {
        Some(long) => {
            arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
        }
        None => {
            arg.get_short().is_some_and(|short| name.strip_prefix('-').is_some_and(|name| name == short.to_string()))
        }
    };
    let arg = command.get_arguments().find(is)?;
    let count = arg.get_num_args().map_or(1, |range| range.min_values());
    Some(if inline || !arg.get_action().takes_values() { 0 } else { count })
}

fn is_origin(word: &str) -> bool {
    word == "*" || word.starts_with("http://") || word.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    #[test]
    fn words_of_other_commands_are_left_alone() {
        let whole = <Cli as clap::CommandFactory>::command();
        let words = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
        for line in [
            &["hubward", "logs", "proxy", "-e", "A", "b"][..],
            &["hubward", "--log-level", "proxy", "serve", "--allow-origin", "http://a", "http://b"],
            &["hubward"],
            &["hubward", "proxy", "--", "x", "-e", "A", "b"],
            &["hubward", "proxy", "x", "-e", "A", "b"],
        ] {
            assert_eq!(ours(words(line), &whole).0, words(line), "{line:?}");
        }
        let meant = ours(words(&["hubward", "--color", "never", "proxy", "-e", "A", "b", "x"]), &whole).0;
        assert_eq!(meant, words(&["hubward", "--color", "never", "proxy", "-e", "A=b", "x"]));
    }
}
