//! The JSON Schema of hub.toml: current, and of one mind with the parser.

use std::{fs, path::Path};

use hubward::config::{parse, schema};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn starter() -> String {
    fs::read_to_string(root().join("hub.toml")).unwrap()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema(&starter())).unwrap()
}

fn env(name: &str) -> Option<String> {
    match name {
        "N" => Some("7".into()),
        "YES" => Some("true".into()),
        _ => Some("s3cret-of-sixteen".into()),
    }
}

/// What the schema says against a text; nothing where it is no TOML.
fn against(validator: &jsonschema::Validator, text: &str) -> Option<Vec<String>> {
    let value: Value = toml::from_str(text).ok()?;
    Some(validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect())
}

#[test]
fn the_committed_schema_is_that_of_the_program() {
    let file = root().join("hub.schema.json");
    let now = serde_json::to_string_pretty(&schema(&starter())).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &now).unwrap();
    }
    let there = fs::read_to_string(file).unwrap_or_default();
    assert!(there == now, "UPDATE_GOLDEN=1 cargo test --test schema writes it");
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_hubward")).arg("schema").output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), now);
    jsonschema::draft202012::meta::validate(&serde_json::from_str(&now).unwrap())
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_key_has_a_kind_and_every_key_that_the_starter_explains_a_description() {
    fn walk(schema: &Value, path: &str, found: &mut Vec<String>, described: &mut usize) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            if value.is_boolean() || value.get("type").is_none() && value.get("anyOf").is_none() {
                found.push(path.clone());
            }
            *described += usize::from(value.get("description").is_some());
            for inner in [value, &value["items"], &value["additionalProperties"]] {
                walk(inner, &path, found, described);
            }
        }
    }
    let (mut found, mut described) = (Vec::new(), 0);
    walk(&schema(&starter()), "", &mut found, &mut described);
    assert_eq!(found, [] as [String; 0]);
    assert!(described > 70, "{described}");
}

#[test]
fn whatever_the_parser_takes_the_schema_takes() {
    let validator = validator();
    let mut texts: Vec<(String, String)> = vec![("hub.toml".into(), starter())];
    for line in include_str!("../README.md").split("\n```").skip(1).step_by(2) {
        texts.extend(line.strip_prefix("toml\n").map(|block| ("README.md".to_owned(), block.to_owned())));
    }
    let mut folders = vec![root().join("tests/golden")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(end) if end == "toml" => {
                    texts.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
                }
                _ => {}
            }
        }
    }
    // The starter with each of its examples switched on.
    let on = starter()
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|line| line.parse::<toml::Table>().is_ok()).unwrap_or(line).to_owned()
        })
        .collect::<Vec<_>>();
    texts.push(("the examples".into(), on.join("\n")));
    let mut taken = 0;
    for (name, text) in texts {
        let folder = tempfile::tempdir().unwrap();
        // What was imported refers to files that are not here; that it passes `check` with them is tested elsewhere.
        let known = name == "the examples" || (name.contains("golden/import") && name.ends_with("hub.toml"));
        if known || parse(&text, folder.path(), &env).is_ok() {
            taken += 1;
            assert_eq!(against(&validator, &text).unwrap(), [] as [String; 0], "{name}");
        }
    }
    assert!(taken > 45, "{taken}");
}

#[test]
fn a_key_that_nobody_knows_and_a_value_of_another_kind_are_refused() {
    let validator = validator();
    for name in ["unknown_keys", "wrong_types", "out_of_range"] {
        let text = fs::read_to_string(root().join(format!("tests/golden/{name}.toml"))).unwrap();
        assert!(!against(&validator, &text).unwrap().is_empty(), "{name}");
    }
    let refused = [
        "hubb = {}",
        "[hub]\nbind = '127.0.0.1:1'",
        "[hub]\nworkers = 0",
        "[hub]\nworkers = true",
        "[hub]\ndrain_timeout = 30",
        "[hub.limits]\nrate = { burst = 2 }",
        "[hub.auth]\njwt = { audience = 'auto' }",
        "[hub.log]\nlevel = 'loud'",
        "[hub.auth]\ntokens = [{ name = 'a', sha255 = 'x' }]",
        "[defaults]\ncommand = 'x'",
        "[upstreams.a]",
        "[upstreams.A]\ncommand = 'x'",
        "[upstreams.mcp]\ncommand = 'x'",
        "[upstreams.a]\ncommand = 'x'\nargs = 'y'",
        "[upstreams.a]\ncommand = 'x'\nenv = { A = 1 }",
        "[upstreams.a]\ncommand = 'x'\nisolation = 'none'",
        "[upstreams.a]\ncommand = 'x'\nsandbox = { memory_max = [] }",
        "[upstreams.a]\nurl = 'http://x'\nauth = { basic = { user = 'x' } }",
        "[upstreams.a]\ncommand = 'x'\nextensions = []",
    ];
    for text in refused {
        assert!(parse(text, Path::new("/"), &env).is_err(), "the parser takes {text}");
        assert!(!against(&validator, text).unwrap().is_empty(), "the schema takes {text}");
    }
    let taken = "[hub]\nworkers = '${env:N}'\n[defaults]\nenabled = '${env:YES}'\nidle_timeout = 0\nstart_timeout = '1m 30s'\n[upstreams.a]\ncommand = 'x'\ninherit_env = true\n";
    assert!(parse(taken, Path::new("/"), &env).is_ok());
    assert_eq!(against(&validator, taken).unwrap(), [] as [String; 0]);
}
