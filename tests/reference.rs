//! The pages of reference, made from the program: every key of hub.toml, every command; and what other pages say that
//! it says, held against its sources.

use std::{fs, path::Path};

use clap::{Arg, Command, CommandFactory};
use hubward::{cli::Cli, config::schema};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_default()
}

/// The page is this, or becomes it.
fn held(name: &str, page: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(root().join(name), page).unwrap();
    }
    assert!(read(name) == page, "UPDATE_GOLDEN=1 cargo test --test reference writes {name}");
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A value as one writes it in TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(all) => format!("[{}]", all.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(all) if all.is_empty() => "{}".into(),
        Value::Object(all) => {
            let pairs: Vec<String> = all.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// `a`, `b` or `c`.
fn words(all: &Value) -> String {
    let all: Vec<String> = all.as_array().unwrap().iter().map(|word| format!("`{}`", word.as_str().unwrap())).collect();
    match all.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => all.concat(),
    }
}

/// What may stand behind a key, with its unit and its bounds; and what is said of it without them.
fn kind(schema: &Value) -> (String, String) {
    let about = schema["description"].as_str().unwrap_or_default();
    for (begin, what) in [("A time such as", "time"), ("Bytes, or a size", "size")] {
        if let Some((said, bounds)) = about.split_once(begin) {
            let (_, bounds) = bounds.rsplit_once("\": ").unwrap_or_else(|| bounds.rsplit_once(": ").unwrap());
            return (format!("{what}, {bounds}"), said.trim_end_matches([' ', '.']).into());
        }
    }
    let kind = match (&schema["anyOf"], schema["type"].as_str()) {
        (Value::Array(all), _) => match &all[0] {
            one if one.get("enum").is_some() => words(&one["enum"]),
            one if one["type"] == "integer" => match &one["maximum"] {
                Value::Null => format!("number, from {}", one["minimum"]),
                most => format!("number, {} to {most}", one["minimum"]),
            },
            _ if all.iter().any(|one| one["type"] == "array") => "`true`, `false` or names".into(),
            _ => "`true` or `false`".into(),
        },
        (_, Some("array")) => match &schema["items"] {
            items if items["anyOf"][0].get("enum").is_some() => {
                format!("list of {}", words(&items["anyOf"][0]["enum"]))
            }
            items if items["type"] == "object" => "list of tables".into(),
            _ => "list of texts".into(),
        },
        (_, Some("object")) => "table".into(),
        (_, Some("string")) => "text".into(),
        other => panic!("a kind that is new here: {other:?}"),
    };
    (kind, about.into())
}

/// What the README says of a key: its default, if that is none that could be written, and what it means.
fn told(key: &str) -> Option<(String, String)> {
    let readme = include_str!("../README.md");
    let part =
        |title: &str| readme.split_once(title).and_then(|(_, rest)| rest.split_once("\n## ")).map(|(part, _)| part);
    let mut lines = ["## Keys of hub.toml\n", "## Who may knock\n"].into_iter().filter_map(part).flat_map(str::lines);
    let row = lines.find_map(|line| line.strip_prefix(&format!("| `{key}` | "))?.strip_suffix(" |"))?;
    let (default, meaning) = row.split_once(" | ")?;
    let here = |text: &str| text.replace("](#", "](../README.md#").replace("](docs/", "](").replace("see below", "");
    Some((here(default), here(meaning)))
}

/// A row for each key of a table and of those within it, but for the parts that have tables of their own.
fn rows(schema: &Value, before: &str, apart: &[&str]) -> String {
    let mut all = String::new();
    for (name, value) in schema["properties"].as_object().unwrap() {
        let key = format!("{before}{name}");
        if apart.contains(&key.as_str()) {
            continue;
        }
        let (kind, about) = kind(value);
        let needed = schema["required"].as_array().is_some_and(|all| all.contains(&Value::from(name.as_str())));
        let (words, meaning) = told(&key).unwrap_or_default();
        let mut what = if meaning.is_empty() || meaning == kind { cell(&about) } else { meaning };
        let default = match value.get("default") {
            _ if needed => "needed".into(),
            Some(default) if !default.is_object() => format!("`{}`", toml(default)),
            _ => words,
        };
        if let Some(example) = value["examples"].get(0) {
            what += &format!("{}such as `{}`", if what.is_empty() { "" } else { "; " }, cell(&toml(example)));
        }
        all += &format!("| `{key}` | {} | {default} | {what} |\n", cell(&kind));
        if value["properties"].is_object() {
            all += &rows(value, &format!("{key}."), apart);
        }
        if value["items"]["properties"].is_object() {
            all += &rows(&value["items"], &format!("{key}[]."), apart);
        }
    }
    all
}

fn page_of_keys() -> String {
    let schema = schema(include_str!("../hub.toml"));
    let mut page = String::from(
        "# Every key of hub.toml\n\n\
         Made from the parser and the starter file by `cargo test --test reference`; `hubward schema` says the same to editors. What \
         the keys mean together is in [the README](../README.md#keys-of-hubtoml).\n\n\
         Text may refer to variables and files: `${env:NAME}`, `${env:NAME:-default}`, `${file:PATH}`; so may numbers and words, \
         within quotes. A time is written `\"30s\"`, `\"5m\"` or `\"1h 30m\"`, a size `\"64 KiB\"`, `\"4 MiB\"` or a number of bytes. Both \
         are refused outside their bounds, and so is a key that does not stand here.\n",
    );
    let hub = &schema["properties"]["hub"];
    let upstream = &schema["properties"]["upstreams"]["additionalProperties"];
    let defaults = schema["properties"]["defaults"]["properties"].as_object().unwrap();
    let mut table = |title: &str, said: &str, rows: String| {
        page += &format!("\n## {title}\n\n{said}| key | takes | default | what |\n|---|---|---|---|\n{rows}");
    };
    let parts = ["hub.auth", "hub.limits", "hub.log"];
    table("`[hub]`", "", rows(hub, "hub.", &parts));
    for part in parts {
        let (_, name) = part.split_once('.').unwrap();
        table(&format!("`[{part}]`"), "", rows(&hub["properties"][name], &format!("{part}."), &[]));
    }
    let only: Vec<String> = upstream["properties"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| !defaults.contains_key(*key))
        .map(|key| format!("`{key}`"))
        .collect();
    let said = format!(
        "`NAME` is `[a-z0-9][a-z0-9._-]{{0,62}}`. Each upstream has `command` or `url`. `[defaults]` takes the same keys for all of them, \
         but for {}.\n\n",
        only.join(" and ")
    );
    table("`[upstreams.NAME]` and `[defaults]`", &said, rows(upstream, "", &[]));
    page
}

#[test]
fn the_page_of_keys_is_that_of_the_program() {
    let page = page_of_keys();
    assert!(page.lines().filter(|line| line.starts_with("| `")).count() > 100);
    held("docs/hub-toml.md", &page);
}

/// How a flag or a value is written.
fn spelled(arg: &Arg) -> String {
    let values =
        arg.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ");
    let takes = arg.get_action().takes_values();
    let names = [arg.get_short().map(|short| format!("-{short}")), arg.get_long().map(|long| format!("--{long}"))];
    let names: Vec<String> = names.into_iter().flatten().collect();
    match (names.is_empty(), takes) {
        (true, _) => values,
        (false, true) => format!("{} {values}", names.join(", ")),
        (false, false) => names.join(", "),
    }
}

fn args<'a>(all: impl Iterator<Item = &'a Arg>) -> String {
    let mut rows = String::new();
    for arg in all.filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str())) {
        let mut what = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let possible: Vec<String> = arg
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !possible.is_empty() && arg.get_action().takes_values() {
            what += &format!(": {}", possible.join(", "));
        }
        let default: Vec<String> =
            arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let default = if arg.get_action().takes_values() { default.join(" ") } else { String::new() };
        let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        rows += &format!("| `{}` | {} | {default} | {variable} |\n", spelled(arg), cell(&what));
    }
    match rows.is_empty() {
        true => rows,
        false => format!("\n| | what | default | variable |\n|---|---|---|---|\n{rows}"),
    }
}

fn section(command: &Command, before: &str, page: &mut String) {
    let name = format!("{before} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    *page += &format!("\n## {name}\n\n{about}.\n\n```text\n{usage}\n```\n");
    *page += &args(command.get_arguments().filter(|arg| !arg.is_global_set()));
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help") {
        section(inner, &name, page);
    }
}

#[test]
fn the_page_of_commands_is_that_of_the_program() {
    let mut program = Cli::command();
    program.build();
    let mut page = String::from(
        "# Every command\n\n\
         Made from the program by `cargo test --test reference`. `hubward help COMMAND` says the same, `hubward man --out FOLDER` \
         writes manual pages. What the commands are for is in [the README](../README.md#commands), with the exit codes.\n\n\
         All commands take:\n",
    );
    page += &args(program.get_arguments().filter(|arg| arg.is_global_set()));
    for command in program.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
        section(command, "hubward", &mut page);
    }
    held("docs/commands.md", &page);
}

/// All string literals of the program, each on one line.
fn sources() -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let joined = text.split("\\\n").map(str::trim_start).collect::<String>();
                found.extend(joined.lines().map(str::to_owned));
            }
        }
    }
    found
}

/// What pages show as messages: in the first column of a table headed "you see", what stands in backticks and has blanks.
#[test]
fn the_messages_on_the_pages_are_those_of_the_program() {
    let (sources, mut checked, mut found) = (sources(), 0, Vec::new());
    for page in
        ["does-not-connect", "team-hub", "laptop", "identity-provider", "two-minutes", "from-mcp-streamablehttp-client"]
    {
        let mut seen = false;
        let text = read(&format!("docs/{page}.md"));
        for line in text.lines() {
            seen = line.starts_with("| you see |") || (seen && line.starts_with('|'));
            let first =
                line.strip_prefix("| ").and_then(|rest| rest.split(" | ").next()).filter(|_| seen).unwrap_or_default();
            for message in first.split('`').skip(1).step_by(2).filter(|message| message.contains(' ')) {
                let parts: Vec<&str> = message.split('…').map(str::trim).filter(|part| !part.is_empty()).collect();
                // A part may come from another line: the prefix that all refusals of a token have.
                let pieces =
                    parts.iter().flat_map(|part| part.split(": ")).map(str::trim).filter(|piece| piece.len() > 2);
                let missing: Vec<&str> = pieces
                    .filter(|piece| !sources.iter().any(|line| line.contains(piece.trim_end_matches(':'))))
                    .collect();
                found.extend(missing.iter().map(|piece| format!("{page}: nothing says `{piece}`")));
                checked += 1;
            }
        }
    }
    assert!(found.is_empty(), "\n  {}", found.join("\n  "));
    assert!(checked > 50, "only {checked} messages were found");
}

/// The flags and variables that its users bring are understood.
#[test]
fn the_page_of_the_other_client_is_that_of_the_program() {
    let page = read("docs/from-mcp-streamablehttp-client.md");
    let mut program = Cli::command();
    program.build();
    let connect = program.find_subcommand("connect").unwrap();
    let sources = sources().concat();
    let mut checked = 0;
    let rows = page.lines().filter(|row| row.starts_with("| `") && !row.contains("| no meaning"));
    for word in rows.filter_map(|row| row.split(" | ").next()).flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        let known = match word.strip_prefix("--") {
            Some(long) => connect.get_arguments().any(|arg| arg.get_long() == Some(long)),
            None if word.starts_with('-') => connect.get_arguments().any(|arg| arg.get_short() == word.chars().nth(1)),
            None if word.contains(' ') => continue,
            None => sources.contains(&format!("\"{word}\"")),
        };
        assert!(known, "{word}");
        checked += 1;
    }
    assert!(checked > 25, "{checked}");
}

/// A title as GitHub makes an anchor of it.
fn anchor(title: &str) -> String {
    let kept =
        title.trim_start_matches('#').trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn the_links_between_pages_lead_somewhere() {
    let mut checked = 0;
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".md") {
            continue;
        }
        let text = read(&format!("docs/{name}"));
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let (to, _) = rest.split_once(')').unwrap();
            let (file, section) = to.split_once('#').unwrap_or((to, ""));
            if file.starts_with("https://") {
                continue;
            }
            let path =
                if file.is_empty() { format!("docs/{name}") } else { format!("docs/{file}").replace("docs/../", "") };
            assert!(root().join(&path).exists(), "docs/{name}: {to}");
            let titled = |line: &str| line.starts_with('#') && anchor(line) == section;
            assert!(section.is_empty() || read(&path).lines().any(titled), "docs/{name}: {to}");
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
}

#[test]
fn the_index_names_every_page() {
    let index = read("docs/README.md");
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let named = name == "README.md" || !name.ends_with(".md") || index.contains(&format!("]({name}"));
        assert!(named, "docs/README.md does not lead to {name}");
    }
}
