//! `hub.toml`: any text is a configuration or a report that can be drawn, and no report shows a secret. What other
//! programs are configured with: any text becomes upstreams that `hubward check` takes, or nothing.

use std::path::{Component, Path};

use hubward::config::{
    self, Severity,
    import::{self, Origin, Place},
    report,
};

/// What the one variable that is set holds: a secret that would break TOML, if it were put into the text.
const CANARY: &str = "c4n4ry\"]\n'''[";

/// Parsing ends in one of two ways, the same each time, and both can be shown to a person, a program, and GitHub.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let variable = |name: &str| (name == "SET").then(|| CANARY.to_owned());
    let (folder, path) = (Path::new("/nonexistent/hubward"), Path::new("hub.toml"));
    let parse = || config::parse(text, folder, &variable);
    let diagnostics = match parse() {
        Ok((config, warnings)) => {
            assert!(warnings.iter().all(|warning| warning.severity != Severity::Error));
            assert!(!config.hub.bind.is_empty() && !config.hub.prefixes.is_empty());
            assert!(config.hub.default.iter().all(|name| config.upstreams.contains_key(name)));
            let (again, _) = parse().expect("it was good a moment ago");
            assert!(again == config && config::plan(&config, &again).is_empty(), "{}", config::plan(&config, &again));
            warnings
        }
        Err(errors) => {
            assert!(errors.iter().any(|error| error.severity == Severity::Error));
            errors
        }
    };
    for diagnostic in &diagnostics {
        let Some(span) = &diagnostic.span else { continue };
        assert!(diagnostic.line > 0 && diagnostic.column > 0, "{diagnostic:?}");
        assert!(span.start <= span.end && span.end <= text.len(), "{diagnostic:?}");
    }
    let drawn = report::draw(&diagnostics, text, path, true);
    let json = report::json(&diagnostics, text, path);
    let github = report::github(&diagnostics, path);
    assert_eq!(diagnostics.is_empty(), drawn.is_empty());
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
    assert_eq!(github.lines().count(), diagnostics.len(), "{github}");
    if !text.contains("c4n4ry") {
        assert!(![drawn, json, github].iter().any(|report| report.contains("c4n4ry")), "a report shows a secret");
    }
}

/// A file's path in its first line, its text in the others. What comes of it can be added to a file, and then it is
/// there: the same again adds nothing.
pub fn import(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (name, text) = text.split_once('\n').unwrap_or(("mcp.json", text));
    let home = Path::new("/home/ada");
    let path = home.join(name.trim_start_matches('/'));
    let read = || import::read(text, &Origin { path: &path, home: Some(home) });
    let found = match read() {
        Ok(found) => found,
        Err(error) => return assert!(!error.to_string().contains("c4n4ry"), "an error shows a secret: {error}"),
    };
    assert_eq!(read().as_ref(), Ok(&found));
    let folder = Path::new("/nonexistent/hubward");
    let settle = |text: &str, keep_secrets| {
        let place = Place { text, folder, env: &|_| None, free: &|_, _| true, keep_secrets };
        import::settle(vec![found.clone()], &place).expect("the text is ours")
    };
    let kept = settle("", true);
    let all = |settled: &import::Settled| {
        let all = settled.upstreams.iter().map(|one| (one.name.as_str(), &one.new));
        config::add_upstreams("", all).expect("each name is free")
    };
    let added = all(&kept);
    if let Err(errors) = config::parse(&added, folder, &|_| None) {
        assert!(kept.upstreams.is_empty(), "{added}\n{errors:?}");
    }
    let again = settle(&added, true);
    assert!(again.upstreams.is_empty(), "{added}\n{again:?}");
    let moved = settle("", false);
    assert_eq!(moved.upstreams.len(), kept.upstreams.len());
    let text = all(&moved);
    for file in &moved.files {
        assert!(text.contains(&format!("${{file:{}}}", file.path)), "{text}\n{file:?}");
        let parts: Vec<_> = Path::new(&file.path).components().collect();
        assert!(parts.len() == 2 && parts.iter().all(|part| matches!(part, Component::Normal(_))), "{file:?}");
    }
}
