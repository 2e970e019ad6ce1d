//! `hubward status [NAME]`: what runs, in a table that fits the terminal, or all of one upstream.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Globals, OK,
    running::{self, WhichHub},
    say,
};
use crate::wire::printable::is_plain;

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);
/// Width where it is not known.
const COLUMNS: usize = 100;
/// Lines of one upstream's last words, calls and moments.
const LINES: usize = 10;

#[derive(clap::Args)]
pub struct Args {
    /// Only this upstream, with its clients, last calls and moments
    name: Option<String>,
    /// Look again each second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Print JSON, as /api/v1/status has it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: WhichHub,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    let Args { name, watch, json, which } = args;
    let question = json!({ "command": "status", "upstream": name });
    let (color, clear) = (globals.color(std::io::stdout()), std::io::stdout().is_terminal() && !json);
    loop {
        let code = running::ask(which.clone(), globals, &question, |status| {
            let text = match (json, &name) {
                (true, _) => status.to_string(),
                (false, None) => overview(&status, width(), color),
                (false, Some(_)) => one(&status, color),
            };
            if watch && clear {
                // To the upper left, and nothing below.
                let _ = write!(std::io::stdout(), "\x1b[H\x1b[2J");
            }
            say(text);
        });
        if !watch || code != OK {
            return code;
        }
        std::thread::sleep(EVERY);
    }
}

fn width() -> usize {
    #[cfg(unix)]
    if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout())
        && size.ws_col > 0
    {
        return usize::from(size.ws_col);
    }
    COLUMNS
}

/// The head, and a line for each upstream.
fn overview(status: &Value, width: usize, color: bool) -> String {
    let mut lines = vec![head(status)];
    lines.extend(
        status["reload"]["rejected"]
            .as_str()
            .map(|drawn| format!("[!] the last edit was rejected, and nothing of it applied\n{drawn}")),
    );
    let tunnel = &status["tunnel"];
    lines.extend(tunnel["url"].as_str().map(|url| format!("tunnel {}", plain(url))));
    lines.extend(tunnel["error"].as_str().map(|error| format!("[!] the tunnel is not open: {}", plain(error))));
    for certificate in status["certificates"].as_array().into_iter().flatten() {
        let (names, days) = (names(&certificate["names"]), certificate["days_left"].as_i64().unwrap_or_default());
        lines.extend((days < 30).then(|| format!("[!] the certificate of {names} expires in {days} days")));
        lines.extend(certificate["error"].as_str().map(|error| format!("[!] the renewed certificate: {error}")));
    }
    let upstreams = status["upstreams"].as_array().map(Vec::as_slice).unwrap_or_default();
    let heads = ["NAME", "KIND", "STATE", "CLIENTS", "CALLS", "P50/P95", "ERR%", "RESTARTS"].map(str::to_owned);
    let rows: Vec<[String; 8]> = upstreams.iter().map(row).collect();
    let widths: Vec<usize> = (0..heads.len())
        .map(|at| rows.iter().map(|row| row[at].chars().count()).chain([heads[at].len()]).max().unwrap_or(0))
        .collect();
    let print = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ")
    };
    lines.push(String::new());
    lines.push(bounded(&format!("{}  NOTE", print(&heads)), width));
    for (upstream, row) in upstreams.iter().zip(&rows) {
        let line = bounded(&format!("{}  {}", print(row), note(upstream)), width);
        lines.push(painted(&line, upstream["state"].as_str().unwrap_or_default(), color));
    }
    lines.join("\n")
}

fn head(status: &Value) -> String {
    let upstreams = status["upstreams"].as_array().map_or(0, Vec::len);
    let (reload, text) = (&status["reload"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
    format!(
        "hubward {}  {}  generation {} ({})  up since {}  {upstreams} upstreams, {} clients, {} streams",
        text(&status["version"]),
        text(&status["url"]),
        reload["generation"],
        text(&reload["applied"]),
        text(&status["started"]),
        status["sessions"],
        status["streams"],
    )
}

fn row(upstream: &Value) -> [String; 8] {
    let text = |key: &str| upstream[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| upstream[key].to_string();
    let percent = upstream["error_percent"].as_f64().map_or("-".into(), |percent| format!("{percent:.1}"));
    let times = match (upstream["p50_ms"].as_f64(), upstream["p95_ms"].as_f64()) {
        (Some(p50), Some(p95)) => format!("{}/{}", short(p50), short(p95)),
        _ => "-".into(),
    };
    [text("name"), text("kind"), text("state"), number("sessions"), number("calls"), times, percent, number("restarts")]
}

/// Milliseconds in a few characters.
fn short(millis: f64) -> String {
    match millis {
        ..10.0 => format!("{millis:.1}ms"),
        ..1000.0 => format!("{millis:.0}ms"),
        _ => format!("{:.1}s", millis / 1000.0),
    }
}

/// Why it is as it is, and what to type next.
fn note(upstream: &Value) -> String {
    let said = ["reason", "notice", "next"].map(|key| upstream[key].as_str().map(str::to_owned));
    let [reason, notice, next] = said;
    let next = next.map(|next| format!("→ {next}"));
    [reason, notice, next].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// One upstream, a matter a line.
fn one(status: &Value, color: bool) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    };
    let state = text(&status["state"]);
    let mut lines = vec![painted(&format!("{}: {state}", text(&status["name"])), &state, color)];
    let mut put = |name: &str, value: String| lines.push(format!("  {name:<10} {}", plain(&value)));
    for (name, key) in [("reason", "reason"), ("notice", "notice"), ("next", "next"), ("since", "since")] {
        if !status[key].is_null() {
            put(name, text(&status[key]));
        }
    }
    let what = if status["kind"] == "remote" { &status["url"] } else { &status["command"] };
    put("what", format!("{} {}", text(&status["kind"]), text(what)));
    put("speaks", format!("{} ({})", text(&status["revision"]), text(&status["era"])));
    put("mounts", names(&status["mounts"]));
    put("processes", names(&status["pids"]));
    put("clients", text(&status["sessions"]));
    put(
        "calls",
        format!(
            "{}, {} in flight, {} lost, p50 {} ms, p95 {} ms",
            status["calls"],
            status["in_flight"],
            status["errors"],
            text(&status["p50_ms"]),
            text(&status["p95_ms"])
        ),
    );
    put("restarts", text(&status["restarts"]));
    put("tools", format!("{}, withheld: {}", text(&status["tools"]["count"]), names(&status["tools"]["withheld"])));
    let last = |key: &str| status[key].as_array().into_iter().flatten().take(LINES);
    for call in last("recent") {
        put(
            "call",
            format!(
                "{} {} {} {} {} ms, {}",
                text(&call["time"]),
                text(&call["method"]),
                text(&call["tool"]),
                text(&call["outcome"]),
                text(&call["ms"]),
                text(&call["principal"])
            ),
        );
    }
    for moment in last("timeline") {
        put("moment", format!("{} {} {}", text(&moment["time"]), text(&moment["event"]), text(&moment["text"])));
    }
    for line in
        status["stderr"].as_array().into_iter().flatten().rev().take(LINES).collect::<Vec<_>>().into_iter().rev()
    {
        put("stderr", text(line));
    }
    lines.join("\n")
}

fn names(list: &Value) -> String {
    let all: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
        .collect();
    if all.is_empty() { "-".into() } else { all.join(", ") }
}

/// In one line, and nothing in it that a terminal would obey.
fn plain(text: &str) -> String {
    text.replace(|c| !is_plain(c), " ")
}

/// What fits, in one line.
fn bounded(line: &str, width: usize) -> String {
    let line = plain(line);
    match line.chars().count() > width {
        true => line.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => line,
    }
}

fn painted(line: &str, state: &str, color: bool) -> String {
    let paint = match state {
        "ready" => 32,
        "failed" => 31,
        "waiting" | "needs_auth" | "starting" | "retiring" => 33,
        _ => 2,
    };
    if color { format!("\x1b[{paint}m{line}\x1b[0m") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal_and_says_what_to_type() {
        let status = json!({
            "version": "1", "url": "http://x", "started": "t", "sessions": 2, "streams": 1,
            "reload": { "generation": 3, "applied": "t", "rejected": "error: x\n  | ^" },
            "certificates": [{ "names": ["hub"], "days_left": 12, "error": null }],
            "upstreams": [
                { "name": "time", "kind": "stdio", "state": "ready", "sessions": 2, "calls": 7, "p50_ms": 1.5, "p95_ms": 1400.0, "error_percent": 0.0, "restarts": 0 },
                { "name": "x", "kind": "remote", "state": "needs_auth", "sessions": 0, "calls": 0, "restarts": 1, "reason": "401\nlong ".repeat(30), "next": "hubward auth login x" },
            ],
        });
        let text = overview(&status, 80, false);
        let table: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("NAME")).collect();
        assert!(table.iter().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(table.len(), 3);
        assert!(table[1].contains("1.5ms/1.4s") && table[2].ends_with('…'), "{text}");
        assert!(text.contains("expires in 12 days") && text.contains("  | ^"));
        let wide = overview(&status, 400, false);
        assert!(wide.contains("→ hubward auth login x"), "{wide}");
        assert!(!text.contains('\x1b') && overview(&status, 80, true).contains("\x1b[32m"));
    }
}
