//! Named servers: of `--named-server NAME 'COMMAND'`, and of a file with `mcpServers`.

use std::{path::Path, time::Duration};

use serde_json::{Map, Value};

use super::draft::Draft;
use crate::config::{Name, RemoteConfig, Text, UpstreamConfig};

/// The largest file that is read.
const BYTES_MAX: u64 = 1 << 20;

/// Names with what they run, as they are written.
type Entries = Vec<(String, UpstreamConfig)>;

pub fn of_words(pairs: &[String], each: &UpstreamConfig) -> Result<Entries, String> {
    let pair = |pair: &[String]| {
        let [name, line] = pair else { return Err("--named-server needs a name and a command".to_owned()) };
        let words =
            shlex::split(line).ok_or_else(|| format!("--named-server {name}: a quote is not closed in {line:?}"))?;
        let mut words = words.into_iter().map(Text::from);
        let mut upstream = each.clone();
        upstream.command = words.next().ok_or_else(|| format!("--named-server {name}: the command is empty"))?;
        upstream.args = words.collect();
        Ok((name.clone(), upstream))
    };
    pairs.chunks(2).map(pair).collect()
}

/// A bad entry costs itself and no other.
pub fn of_file(file: &Path, draft: &mut Draft, each: &UpstreamConfig) -> Result<Entries, String> {
    let failed = |why: String| format!("--named-server-config {}: {why}", file.display());
    let size = std::fs::metadata(file).map_err(|error| failed(error.to_string()))?.len();
    if size > BYTES_MAX {
        return Err(failed(format!("it is larger than {} KiB", BYTES_MAX >> 10)));
    }
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let whole: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let servers = whole.get("mcpServers").and_then(Value::as_object);
    let servers = servers.ok_or_else(|| failed("there is no object `mcpServers` in it".to_owned()))?;
    let mut entries = Vec::new();
    for (name, value) in servers {
        match value.as_object().ok_or("it is no object".to_owned()).and_then(|keys| entry(name, keys, each, draft)) {
            Ok(upstream) => entries.push((name.clone(), upstream)),
            Err(why) => draft.note(format!("the server `{name}` of {} is left out: {why}", file.display())),
        }
    }
    Ok(entries)
}

fn entry(
    name: &str,
    keys: &Map<String, Value>,
    each: &UpstreamConfig,
    draft: &mut Draft,
) -> Result<UpstreamConfig, String> {
    let mut upstream = each.clone();
    let mut transport = None;
    for (key, value) in keys {
        match key.as_str() {
            "command" => upstream.command = Text::from(text(key, value)?),
            "args" => upstream.args = texts(key, value)?,
            "env" => upstream.env = pairs(key, value)?,
            "cwd" => upstream.cwd = each.cwd.join(text(key, value)?),
            "url" => upstream.remote = Some(RemoteConfig::new(Text::from(text(key, value)?))),
            "headers" => {}
            "enabled" => upstream.enabled &= value.as_bool().ok_or("`enabled` is neither true nor false")?,
            "disabled" => upstream.enabled &= !value.as_bool().ok_or("`disabled` is neither true nor false")?,
            "timeout" => upstream.request_timeout = seconds(value)?,
            "transportType" | "type" => transport = Some(text(key, value)?),
            _ => draft.note(format!("`{key}` of the server `{name}` is not known here")),
        }
    }
    if let (Some(remote), Some(headers)) = (&mut upstream.remote, keys.get("headers")) {
        remote.headers =
            pairs("headers", headers)?.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    }
    if upstream.remote.is_none() && upstream.command.expose().is_empty() {
        return Err("`command` is missing".to_owned());
    }
    match transport.as_deref() {
        Some(kind) if kind != "stdio" && upstream.remote.is_none() => {
            Err(format!("a command speaks stdio, and not `{}`", kind.chars().take(40).collect::<String>()))
        }
        _ => Ok(upstream),
    }
}

fn text(key: &str, value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("`{key}` is no text"))
}

fn texts(key: &str, value: &Value) -> Result<Vec<Text>, String> {
    let list = value.as_array().ok_or_else(|| format!("`{key}` is no list"))?;
    list.iter().map(|value| text(key, value).map(Text::from)).collect()
}

fn pairs(key: &str, value: &Value) -> Result<std::collections::BTreeMap<String, Text>, String> {
    let table = value.as_object().ok_or_else(|| format!("`{key}` is no object"))?;
    table.iter().map(|(name, value)| Ok((name.clone(), Text::secret(text(name, value)?)))).collect()
}

fn seconds(value: &Value) -> Result<Duration, String> {
    let seconds = value.as_f64().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "`timeout` is no number of seconds up to a day".to_owned())
}

/// What stands in the URL.
pub fn name(word: &str, draft: &mut Draft) -> Result<Name, String> {
    let bad = match Name::new(word) {
        Ok(name) => return Ok(name),
        Err(bad) => bad,
    };
    let near = Name::near(word).ok_or_else(|| format!("a server cannot be called {word:?}: {bad}"))?;
    draft.note(format!("the server {word:?} is served as `{near}`: {bad}"));
    Ok(near)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::cli::proxy::{
        Draft,
        tests::{SECOND, drawn},
    };

    #[test]
    fn s2_42_s2_47_s2_48_named_servers_beside_the_one() {
        let line = [
            "--named-server",
            "fetch",
            "uvx 'a b' --c",
            "--named-server",
            "Big One",
            "y",
            "--cwd",
            "z",
            "-e",
            "A",
            "b",
            "--",
            "x",
        ];
        let Draft { config, notes, .. } = drawn(&line, &[]).unwrap();
        let names: Vec<&str> = config.upstreams.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["big-one", "fetch", "server"]);
        let fetch = &config.upstreams["fetch"];
        assert_eq!((fetch.command.expose(), fetch.args.len(), fetch.args[0].expose()), ("uvx", 2, "a b"));
        assert_eq!((fetch.cwd.as_path(), fetch.env.len()), (Path::new("/here"), 0), "these are of the one");
        assert_eq!(config.hub.prefixes, ["", "/servers"]);
        assert!(notes.len() == 1 && notes[0].contains("big-one"), "{notes:?}");
        // None is without a name, or the name is taken.
        let alone = drawn(&["--named-server", "server", "y"], &[]).unwrap().config;
        assert_eq!(alone.hub.default, None);
        let both = drawn(&["--named-server", "server", "y", "--", "x"], &[]).unwrap().config;
        assert_eq!(both.hub.default.unwrap().as_str(), "default");
        for wrong in [["a", "'open"], ["a", " "]] {
            assert!(drawn(&["--named-server", wrong[0], wrong[1]], &[]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn s2_43_s2_44_s2_45_s2_46_s2_49_a_file_is_the_only_source_and_a_bad_entry_costs_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("servers.json");
        let path = file.to_str().unwrap();
        let text = r#"{ "mcpServers": {
            "fetch": { "command": "uvx", "args": ["mcp-server-fetch"], "env": { "A": "b" }, "timeout": 60, "transportType": "stdio" },
            "off": { "enabled": false, "command": "y" }, "also": { "disabled": true, "command": "y" },
            "far": { "url": "https://a.example/mcp", "headers": { "X-One": "1" } }, "there": { "command": "y", "cwd": "sub" },
            "map": [], "none": { "args": [] }, "list": { "command": "y", "args": "z" }, "odd": { "command": "y", "headerToEnv": {} },
            "remote": { "command": "y", "transportType": "sse" }
        } }"#;
        std::fs::write(&file, text).unwrap();
        let line = ["--named-server", "left", "out", "--named-server-config", path];
        let Draft { config, notes, .. } = drawn(&line, &[]).unwrap();
        let names: Vec<&str> = config.upstreams.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["also", "far", "fetch", "odd", "off", "there"]);
        let fetch = &config.upstreams["fetch"];
        assert_eq!((fetch.env["A"].expose(), fetch.request_timeout), ("b", 60 * SECOND));
        assert!(!config.upstreams["off"].enabled && !config.upstreams["also"].enabled);
        assert_eq!(config.upstreams["far"].remote.as_ref().unwrap().headers["x-one"].expose(), "1");
        assert_eq!(config.upstreams["there"].cwd, Path::new("/here/sub"));
        assert_eq!(notes.len(), 6, "{notes:#?}");
        for (text, why) in [("{}", "mcpServers"), ("{", "EOF"), ("[]", "mcpServers")] {
            std::fs::write(&file, text).unwrap();
            let error = drawn(&["--named-server-config", path], &[]).err().unwrap();
            assert!(error.contains(path) && error.contains(why), "{error}");
        }
        assert!(drawn(&["--named-server-config", "/nowhere.json"], &[]).err().unwrap().contains("/nowhere.json"));
    }
}
