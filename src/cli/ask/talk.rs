//! What is said on stderr while a server works: progress on a terminal, its log messages with `--verbose`.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;

use super::{plain, target::is_attended};
use crate::{bridge::feed::Hear, wire::Message};

/// The widest line of progress; a longer one would wrap, and could not be taken back.
const WIDTH_MAX: usize = 78;

/// How results are printed, and what is said meanwhile.
#[derive(Debug, Default)]
pub struct Talk {
    /// Results as they came, as JSON.
    pub json: bool,
    /// Log messages of the server, and its progress where there is no terminal.
    pub verbose: bool,
    /// Where images, audio and blobs go.
    pub save: Option<PathBuf>,
    /// A line of progress stands there.
    shown: AtomicBool,
}

impl Talk {
    pub fn new(json: bool, verbose: bool, save: Option<PathBuf>) -> Talk {
        Talk { json, verbose, save, shown: AtomicBool::new(false) }
    }

    /// Is there a person who can be asked something?
    pub fn is_interactive(&self) -> bool {
        is_attended()
    }

    /// For what comes when nothing is asked.
    pub fn listener(&self) -> Hear {
        let verbose = self.verbose;
        Arc::new(move |message: Message, _: &_| {
            if verbose && message.method() == "notifications/message" {
                say(&log_line(&message));
            }
        })
    }

    pub fn log(&self, message: &Message) {
        if self.verbose {
            self.done();
            say(&log_line(message));
        }
    }

    pub fn progress(&self, notification: &[u8]) {
        let notification: Value = serde_json::from_slice(notification).unwrap_or_default();
        let line = progress_line(&notification["params"]);
        if std::io::stderr().is_terminal() {
            let line: String = line.chars().take(WIDTH_MAX).collect();
            let _ = write!(std::io::stderr(), "\r\u{1b}[K{line}");
            self.shown.store(true, Ordering::Relaxed);
        } else if self.verbose {
            say(&line);
        }
    }

    /// Takes the line of progress back.
    pub fn done(&self) {
        if self.shown.swap(false, Ordering::Relaxed) {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}

/// To stderr. The text is fit for a terminal already.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Data, to stdout: whole where a program reads it, fit for a terminal where a person does.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let mut text = if stdout.is_terminal() { plain::text(text) } else { text.to_owned() };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    // Who reads us may have read enough.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The same for JSON.
pub fn print_json(json: &str) {
    match std::io::stdout().is_terminal() {
        true => print(&plain::json(json)),
        false => print(json),
    }
}

fn progress_line(params: &Value) -> String {
    let (progress, total) = (params["progress"].as_f64().unwrap_or_default(), params["total"].as_f64());
    let share = match total.filter(|total| *total > 0.0) {
        Some(total) => format!("{:3.0} %", (progress / total * 100.0).clamp(0.0, 100.0)),
        None => params["progress"].to_string(),
    };
    let message = params["message"].as_str().map(|text| format!("  {}", plain::line(text))).unwrap_or_default();
    format!("{share}{message}")
}

fn log_line(message: &Message) -> String {
    let params: Value = message.params().and_then(|params| serde_json::from_str(params).ok()).unwrap_or_default();
    let level = plain::line(params["level"].as_str().unwrap_or("log"));
    let logger = params["logger"].as_str().map(|logger| format!(" {}", plain::line(logger))).unwrap_or_default();
    let data = match &params["data"] {
        Value::String(text) => plain::text(text),
        other => plain::json(&other.to_string()),
    };
    format!("{level}{logger}: {data}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn progress_in_one_line() {
        assert_eq!(progress_line(&json!({ "progress": 1, "total": 3, "message": "a\nb\u{1b}" })), " 33 %  a b\\u{1b}");
        assert_eq!(progress_line(&json!({ "progress": 7 })), "7");
        assert_eq!(progress_line(&json!({ "progress": 7, "total": 0 })), "7");
        assert_eq!(progress_line(&json!({ "progress": 9, "total": 3 })), "100 %");
    }
}
