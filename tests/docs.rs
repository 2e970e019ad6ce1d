//! What the README says, held against the program: its keys, its defaults, its examples.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use hubward::{
    config::{Config, Diagnostic, parse},
    observe::metrics::{ALL, Kind},
};

const README: &str = include_str!("../README.md");

/// A key that nobody will ever mean: the answer names those that there are.
const NOBODYS: &str = "qqqqqq";

/// The tables with keys: how the README calls one of them, and a file with a line in it.
const TABLES: [(&str, &str); 7] = [
    ("hub.", "[hub]\nLINE"),
    ("hub.limits.", "[hub.limits]\nLINE"),
    ("hub.log.", "[hub.log]\nLINE"),
    ("", "[upstreams.x]\nLINE\ncommand = 'x'"),
    ("restart.", "[upstreams.x]\ncommand = 'x'\nrestart.LINE"),
    ("tools.", "[upstreams.x]\ncommand = 'x'\ntools.LINE"),
    ("sandbox.", "[upstreams.x]\ncommand = 'x'\nsandbox.LINE"),
];

fn read(text: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), "x").unwrap();
    parse(text, folder.path(), &|name| Some(format!("the value of {name}")))
}

/// The keys of the README, each with what its second column says.
fn told() -> BTreeMap<&'static str, &'static str> {
    let (_, tables) = README.split_once("## Keys of hub.toml").unwrap();
    let (tables, _) = tables.split_once("\n## ").unwrap();
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut told = BTreeMap::new();
    for row in rows {
        let (key, rest) = row.split_once("` | ").unwrap_or_else(|| panic!("{row}"));
        let (default, _) = rest.split_once(" | ").unwrap_or_else(|| panic!("{row}"));
        assert_eq!(told.insert(key, default), None, "{key} is there twice");
    }
    told
}

/// The keys of a table, by what it answers to one that it does not have.
fn accepted(file: &str) -> BTreeSet<String> {
    let found = read(&file.replace("LINE", &format!("{NOBODYS} = 1"))).unwrap_err();
    let help = found[0].help.as_deref().unwrap();
    let (_, list) = help.split_once(" takes ").unwrap_or_else(|| panic!("{help}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_table_of_keys_is_what_is_accepted() {
    let told = told();
    let mut all = BTreeSet::new();
    for (name, file) in TABLES {
        for key in accepted(file) {
            let found = read(&file.replace("LINE", &format!("{key} = {{ {NOBODYS} = 1 }}"))).err().unwrap_or_default();
            let unknown = found.iter().any(|one| one.title.contains(&format!("`{key}`")) && one.label == "unknown");
            assert!(!unknown, "{name}{key} is listed, and refused: {found:?}");
            all.insert(format!("{name}{key}"));
        }
    }
    let told: BTreeSet<String> = told.keys().map(|key| (*key).to_owned()).collect();
    assert_eq!(told, all);
}

#[test]
fn the_defaults_are_the_defaults() {
    let mut checked = 0;
    for (key, default) in told() {
        // A default in words is none that could be written.
        let Some(value) = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) else { continue };
        let tables = TABLES.into_iter().filter(|(name, _)| key.starts_with(name));
        let (name, file) = tables.max_by_key(|(name, _)| name.len()).unwrap();
        let folder = Path::new("/somewhere");
        let with = |line: &str| parse(&file.replace("LINE", line), folder, &|_| None);
        // The prefix of an inline key has to go with its line.
        let plain = parse(
            &file.replace("restart.LINE", "").replace("tools.LINE", "").replace("sandbox.LINE", "").replace("LINE", ""),
            folder,
            &|_| None,
        )
        .unwrap()
        .0;
        let line = format!("{} = {value}", key.strip_prefix(name).unwrap());
        let written = with(&line).unwrap_or_else(|errors| panic!("{line}: {errors:?}")).0;
        assert_eq!(written, plain, "{key} = {value}");
        checked += 1;
    }
    assert!(checked > 30, "only {checked} defaults were found");
}

#[test]
fn the_starter_is_without_errors_and_warnings() {
    let (config, warnings) = read(include_str!("../hub.toml")).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(warnings, []);
    assert_eq!(config.upstreams.len(), 1);
}

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fences = README.split("\n```").skip(1).step_by(2);
    fences.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

#[test]
fn the_examples_can_be_read() {
    for block in blocks("toml").into_iter().filter(|block| block.contains("[upstreams.")) {
        let (config, warnings) = read(block).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert_eq!(warnings, []);
        assert!(!config.upstreams.is_empty());
    }
    assert!(blocks("json").len() > 5);
    for block in blocks("json") {
        serde_json::from_str::<serde_json::Value>(block).unwrap_or_else(|error| panic!("{error}: {block}"));
    }
}

#[test]
fn the_links_lead_somewhere() {
    for text in [README, include_str!("../CHANGELOG.md")] {
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let (to, _) = rest.split_once(')').unwrap();
            if let Some(section) = to.strip_prefix('#') {
                let title = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                assert!(text.lines().any(|line| line.starts_with('#') && title(line) == section), "{to}");
                continue;
            }
            assert!(to.starts_with("https://") || Path::new(env!("CARGO_MANIFEST_DIR")).join(to).exists(), "{to}");
        }
    }
}

#[test]
fn the_commands_are_the_commands() {
    let help = Command::new(env!("CARGO_BIN_EXE_hubward")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let there: BTreeSet<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let rows = README.lines().filter_map(|line| line.strip_prefix("| `hubward "));
    let told: BTreeSet<&str> = rows.filter_map(|row| row.split([' ', '`']).next()).collect();
    let ours: BTreeSet<&str> = there.into_iter().filter(|name| *name != "help").collect();
    assert_eq!(told, ours);
}

/// The curl example, word for word but for the port. Without curl or bash there is nothing to try.
#[test]
fn the_first_steps_work() {
    if ["curl", "bash"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Command::new(env!("CARGO_BIN_EXE_hubward"))
        .env("XDG_RUNTIME_DIR", folder.path())
        .args(["serve", "--bind", "127.0.0.1:0", "-c", concat!(env!("CARGO_MANIFEST_DIR"), "/hub.toml")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(hub.stdout.take().unwrap()).lines();
    let url = lines.next().unwrap().unwrap();
    let authority = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap();
    let example = *blocks("bash").iter().find(|block| block.contains("tools/call")).unwrap();
    let script = example.replace("127.0.0.1:8808", authority);
    let told = Command::new("bash").args(["-ec", &script]).current_dir(&folder).output();
    hub.kill().unwrap();
    hub.wait().unwrap();
    let told = String::from_utf8(told.unwrap().stdout).unwrap();
    assert!(told.contains(r#""serverInfo""#) && told.contains(r#""structuredContent":{"sum":5}"#), "{told}");
}

/// The page of metrics, made from the table in `observe/metrics.rs`.
fn page_of_metrics() -> String {
    let mut page = String::from(
        "# Metrics\n\n`GET /metrics`: Prometheus' text format, or OpenMetrics where the scraper asks for it. Callers show who they are as \
         everywhere, and see the upstreams they may use. Durations are histograms with buckets from 1 ms to 300 s; a counter's \
         values end in `_total`. A label that has no value is left empty. Of each upstream 100 tools that have answered and 20 \
         error codes are told apart; what is beyond is `_other`.\n\n`packaging/` has a dashboard for Grafana and rules for \
         Prometheus.\n\n| metric | kind | labels | what |\n|---|---|---|---|\n",
    );
    for metric in ALL {
        let (labels, kind) = (metric.labels.join(", "), format!("{:?}", metric.kind).to_lowercase());
        page += &format!("| `{}` | {kind} | {labels} | {} |\n", metric.name, metric.help);
    }
    page
}

#[test]
fn the_page_of_metrics_is_that_of_the_program() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, page_of_metrics()).unwrap();
    }
    assert!(
        std::fs::read_to_string(file).unwrap() == page_of_metrics(),
        "UPDATE_GOLDEN=1 cargo test --test docs writes it"
    );
}

/// What follows a metric's name in an expression.
const ENDINGS: [&str; 4] = ["_bucket", "_count", "_sum", "_total"];

#[test]
fn the_dashboard_and_the_rules_name_metrics_and_labels_that_there_are() {
    let files = [include_str!("../packaging/grafana/hubward.json"), include_str!("../packaging/prometheus/alerts.yml")];
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut used = BTreeSet::new();
    for name in files.iter().flat_map(|file| file.split(|c| !word(c))) {
        let ours = name.starts_with("hubward_") || (name.starts_with("mcp_") && name.contains("duration"));
        if !ours {
            continue;
        }
        let bare = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        let metric = ALL.iter().find(|metric| metric.name == name || metric.name == bare);
        let metric = metric.unwrap_or_else(|| panic!("there is no metric {name}"));
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        used.insert(metric.name);
    }
    assert!(used.len() >= 12, "{used:?}");
    for label in ["upstream", "state", "era", "status", "error_type", "gen_ai_tool_name", "mcp_method_name"] {
        assert!(ALL.iter().any(|metric| metric.labels.contains(&label)), "{label}");
    }
    serde_json::from_str::<serde_json::Value>(files[0]).unwrap();
}

/// The page for those who come from other proxies names what `hubward proxy` can be told with, and nothing else.
#[test]
fn the_page_of_other_proxies_is_that_of_the_program() {
    let page = include_str!("../docs/from-other-proxies.md");
    let firsts = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    // What another command or all of them take.
    let others = ["-H", "--transport", "--client-id", "--username", "--verify-ssl", "--log-level"];
    let told: BTreeSet<String> = firsts
        .flat_map(|cell| cell.split('`').step_by(2))
        .filter(|word| !others.contains(word))
        .map(str::to_owned)
        .collect();
    assert_eq!(told, hubward::cli::proxy::spellings());
}

/// The configurations that docs/behind-a-proxy.md shows are the files that tests/external/fleet.sh runs.
#[test]
fn the_page_of_proxies_shows_what_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // These files are no part of the package.
    let Ok(files) = std::fs::read_dir(root.join("tests/external/fleet")) else { return };
    let page = std::fs::read_to_string(root.join("docs/behind-a-proxy.md")).unwrap();
    let language = |file: &Path| match file.extension()?.to_str()? {
        "conf" => Some("nginx"),
        "cfg" => Some("haproxy"),
        "Caddyfile" => Some("caddyfile"),
        _ => None,
    };
    let files = files.map(|file| file.unwrap().path());
    let mut tested: Vec<String> = files
        .filter_map(|file| {
            Some(format!("{}\n{}", language(&file)?, std::fs::read_to_string(&file).unwrap().trim_end()))
        })
        .collect();
    let fences = page.split("\n```").skip(1).step_by(2);
    let mut shown: Vec<&str> = fences.clone().filter(|block| !block.starts_with("toml")).collect();
    tested.sort();
    shown.sort();
    assert_eq!(shown, tested);
    for block in fences.filter_map(|block| block.strip_prefix("toml\n")) {
        read(&block.replace('…', &"0".repeat(64))).unwrap_or_else(|errors| panic!("{errors:?}"));
    }
    for (_, rest) in page.match_indices("](").map(|(at, _)| page.split_at(at + 2)) {
        let to = rest.split_once([')', '#']).unwrap().0;
        assert!(to.is_empty() || root.join("docs").join(to).exists(), "{to}");
    }
    for file in page.split('`').filter(|word| word.starts_with("packaging/") || word.starts_with("tests/")) {
        assert!(root.join(file).exists(), "{file}");
    }
}
