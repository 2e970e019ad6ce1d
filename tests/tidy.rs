//! The rules of the house that a machine can check: who may know whom, what files are called, how large they are.
//!
//! The table of layers is that of the crate documentation in `src/lib.rs`. A rule that stands in the way is changed
//! there and here, with its reason; it is not worked round.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Who may import what of ours.
const LAYERS: [(&str, &[&str]); 14] = [
    ("wire", &[]),
    ("config", &[]),
    ("shutdown", &[]),
    ("observe", &["config", "wire"]),
    ("auth", &["wire"]),
    ("access", &["config", "auth"]),
    ("link", &["wire", "auth"]),
    ("bridge", &["wire", "link"]),
    ("hub", &["wire", "config", "observe", "auth", "access", "link", "bridge"]),
    ("server", &["wire", "config", "observe", "access", "link", "bridge", "hub"]),
    ("admin", &["wire", "config", "hub", "observe"]),
    ("embed", &["access", "auth", "config", "link", "hub", "server", "shutdown"]),
    ("run", &["admin", "config", "embed", "link", "hub", "server", "shutdown"]),
    (
        "cli",
        &["admin", "wire", "embed", "config", "auth", "link", "bridge", "hub", "server", "observe", "run", "shutdown"],
    ),
];

/// Words that stand in some places only. A place that ends with `/` is a folder.
const WORDS: [(&str, &[&str]); 6] = [
    // Everything else runs on plain tokio, so that it can be tested and moved without actix.
    (
        "actix",
        &[
            "src/hub/mod.rs",
            "src/hub/upstream.rs",
            "src/hub/upstream/",
            "src/hub/tether.rs",
            "src/server/",
            "src/embed.rs",
            "src/embed/",
            "src/run.rs",
            "src/shutdown.rs",
        ],
    ),
    ("actix_web_lab", &["src/server/stream.rs"]),
    ("unsafe", &["src/link/process/unix.rs", "src/link/sandbox/", "src/link/orphans.rs", "src/hub/thrift.rs"]),
    // It cannot wait and ignores the mailbox's capacity: only for what may neither be lost nor overtaken.
    ("do_send", &["src/hub/tether.rs", "src/hub/mod.rs", "src/hub/upstream/instances.rs"]),
    // Its types are not those of the server.
    (
        "reqwest",
        &[
            "src/link/remote.rs",
            "src/link/remote/",
            "src/link/tunnel.rs",
            "src/auth/",
            "src/access/",
            "src/observe/otel/",
        ],
    ),
    // Its crates move in lock step, and often.
    ("opentelemetry", &["src/observe/otel.rs", "src/observe/otel/"]),
];

/// Where a revision of the protocol may be named: the table of revisions, and the demo, which is a peer.
const DATES: [&str; 3] = ["src/wire/revision.rs", "src/cli/demo.rs", "src/cli/demo/"];

/// The largest file of `src/`.
const BYTES_MAX: u64 = 16 << 10;

/// Larger ones, in KiB, and why. The list may only shrink.
const LARGE: [(&str, u64, &str); 1] =
    [("src/wire/message.rs", 24, "one idea, and a third of it the table of its tests")];

/// Names that say nothing.
const NAMELESS: [&str; 8] = ["utils", "util", "helpers", "common", "types", "manager", "service", "misc"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files under a folder, by their path in the repository.
fn files(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            if name.ends_with("/.cache") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// The lines that the product consists of, with their numbers: no comments, and nothing that is for tests only.
fn code(text: &str) -> Vec<(usize, &str)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (mut lines, mut skipped) = (Vec::new(), None);
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("mod tests {") {
            break;
        }
        if line.trim_start().starts_with("#[cfg(") && line.contains("test") {
            skipped = Some(indent(line));
        } else if let Some(start) = skipped {
            // An item ends where it began, at the left.
            let last = indent(line) == start && !line.trim_start().starts_with("#[");
            if last && line.ends_with(['}', ';']) {
                skipped = None;
            }
        } else if !line.trim_start().starts_with("//") {
            lines.push((at + 1, line.split(" // ").next().unwrap_or_default()));
        }
    }
    lines
}

/// The source of the product, without the files that are for tests only.
fn product() -> BTreeMap<String, String> {
    let mut all = files("src");
    all.retain(|file, _| !file.ends_with("/tests.rs"));
    all
}

/// A line without what stands between quotes.
fn unquoted(line: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let mut kept = String::new();
    for c in line.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            c if !quoted => kept.push(c),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    kept
}

fn is_in(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| file == *place || (place.ends_with('/') && file.starts_with(place)))
}

/// Is the word there as a whole word? A part after `_` or a letter before makes it another one.
fn has_word(line: &str, word: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(letter);
        let after = line[at + word.len()..].chars().next().is_some_and(char::is_alphanumeric);
        !before && !after
    })
}

/// The first names after each `crate::`, also those in braces.
fn imports(text: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let (mut depth, mut fresh) = (1, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                c if fresh && depth == 1 && c.is_alphabetic() => {
                    found.insert(name(&group[at..]));
                    fresh = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// Fails with all that was found, not with the first of it.
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n  {}", found.join("\n  "));
}

#[test]
fn nobody_knows_more_than_its_layer() {
    let mut found = Vec::new();
    for (file, text) in product() {
        let place = file.strip_prefix("src/").unwrap();
        let folder = place.split(['/', '.']).next().unwrap();
        if matches!(folder, "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == folder) else {
            found.push(format!("{file}: `{folder}` is in no layer"));
            continue;
        };
        let text: String = code(&text).into_iter().flat_map(|(_, line)| [line, "\n"]).collect();
        let own = folder.to_owned();
        let strangers = imports(&text).into_iter().filter(|name| *name != own && !allowed.contains(&name.as_str()));
        found.extend(strangers.map(|name| format!("{file}: imports crate::{name}")));
        if text.contains("super::super") {
            found.push(format!("{file}: super::super hides who is known"));
        }
    }
    none(found);
}

#[test]
fn some_words_stand_in_some_places_only() {
    let mut found = Vec::new();
    for (file, text) in product() {
        for (at, line) in code(&text) {
            for (word, places) in WORDS {
                if has_word(&unquoted(line), word) && !is_in(&file, places) {
                    found.push(format!("{file}:{at}: `{word}` does not belong here"));
                }
            }
            let date = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];
            if date.iter().any(|date| line.contains(date)) && !is_in(&file, &DATES) {
                found.push(format!("{file}:{at}: a revision's date; ask wire::Revision"));
            }
        }
    }
    none(found);
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let mut found = Vec::new();
    for (file, text) in product() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, _) in code(&text).into_iter().filter(|(_, line)| has_word(line, "unsafe")) {
            if !lines[at.saturating_sub(4)..at].iter().any(|line| line.contains("// SAFETY:")) {
                found.push(format!("{file}:{at}: no SAFETY comment before it"));
            }
        }
    }
    none(found);
}

#[test]
fn the_product_has_no_trapdoors() {
    let mut found = Vec::new();
    for (file, text) in product() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in code(&text) {
            for word in ["todo!", "unimplemented!", "dbg!", ".unwrap()"] {
                if line.contains(word) {
                    found.push(format!("{file}:{at}: {word}"));
                }
            }
            let proof = || lines[at.saturating_sub(4)..at].iter().any(|line| line.contains("// Proof:"));
            if line.contains(".expect(") && !proof() {
                found.push(format!("{file}:{at}: an expect without a `// Proof:` before it"));
            }
        }
    }
    none(found);
}

#[test]
fn every_file_begins_with_its_idea() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "examples"] {
        for (file, text) in files(folder) {
            let first = text.lines().next().unwrap_or_default();
            if !first.starts_with("//! ") || first.ends_with(':') {
                found.push(format!("{file}: the first line has to be `//!` and a sentence"));
            }
            let name = file.rsplit('/').next().unwrap().trim_end_matches(".rs");
            if NAMELESS.contains(&name) {
                found.push(format!("{file}: a name that says nothing"));
            }
        }
    }
    none(found);
}

#[test]
fn every_file_is_a_part_of_something() {
    let mut found = Vec::new();
    for folder in ["src", "tests/it"] {
        let all = files(folder);
        for file in all.keys() {
            let (parent, name) = file.rsplit_once('/').unwrap();
            if matches!(name, "main.rs" | "lib.rs" | "mod.rs") {
                continue;
            }
            let declared = format!("mod {};", name.trim_end_matches(".rs"));
            let homes = [
                format!("{parent}/mod.rs"),
                format!("{parent}.rs"),
                format!("{parent}/lib.rs"),
                format!("{parent}/main.rs"),
            ];
            if !homes.iter().filter_map(|home| all.get(home)).any(|text| text.contains(&declared)) {
                found.push(format!("{file}: nobody says `{declared}`"));
            }
        }
    }
    none(found);
}

#[test]
fn a_file_holds_one_idea() {
    let mut found = Vec::new();
    for (file, text) in files("src") {
        let bytes = text.len() as u64;
        match LARGE.iter().find(|(large, ..)| *large == file) {
            None if bytes > BYTES_MAX => {
                found.push(format!("{file}: {bytes} bytes; look for the second idea in it ({BYTES_MAX} is the most)"))
            }
            Some((_, most, _)) if bytes > most << 10 => {
                found.push(format!("{file}: {bytes} bytes; it may only shrink"))
            }
            Some(_) if bytes <= BYTES_MAX => {
                found.push(format!("{file}: small enough now: take it from the list LARGE"))
            }
            _ => {}
        }
    }
    let gone = LARGE.iter().filter(|(file, ..)| !root().join(file).exists());
    found.extend(gone.map(|(file, ..)| format!("{file}: not there any more: take it from the list LARGE")));
    none(found);
}

#[test]
fn the_rules_see_what_they_are_for() {
    let text = "use crate::{\n    config::{self, Name},\n    wire::Message,\n};\nlet x = crate::hub::Hub;";
    assert_eq!(imports(text), ["config", "hub", "wire"].map(str::to_owned).into());
    assert!(has_word("use actix_web::web;", "actix") && has_word("actix::run", "actix"));
    assert!(!has_word("reactix", "actix") && !has_word("unsafely", "unsafe") && has_word("unsafe {", "unsafe"));
    let text = "a\n// b\n  /// c\nd // e\n  #[cfg(test)]\n  fn x() {\n    y;\n  }\nz\nmod tests {\nf";
    let lines: Vec<usize> = code(text).into_iter().map(|(at, _)| at).collect();
    assert_eq!(lines, [1, 4, 9]);
    assert_eq!(unquoted(r#"a("b\"c", d)"#), "a(, d)");
}
