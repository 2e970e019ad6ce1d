//! The flags: what holds from the start of the process.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

#[derive(Default)]
pub struct Options {
    /// `--counter FILE`: each process that starts appends its id as a line.
    pub counter: Option<PathBuf>,
    /// `--log FILE`: every line received is appended to it at once.
    pub log: Option<PathBuf>,
    /// `--initialize-code CODE`: instead of -32601 at `initialize`; -32022 comes with `data.supported`.
    pub initialize_code: Option<i64>,
    /// `--instructions TEXT`: in the answer to `server/discover`.
    pub instructions: Option<String>,
    /// `--capabilities JSON`: instead of the usual ones.
    pub capabilities: Option<Value>,
    /// `--end-listens MS`: each listen is ended by the server after so long.
    pub end_listens: Option<Duration>,
    /// `--tasks`: offers the tasks extension; the tool `task` uses it where the client declared it.
    pub tasks: bool,
    /// `--probe KIND`: how the process takes to being probed.
    pub probe: Option<Probe>,
}

/// All but the last three are servers with `initialize`, which a fresh process then works with.
#[derive(Clone, Copy, PartialEq)]
pub enum Probe {
    /// `exit`: the process ends with code 1.
    Exit,
    /// `silent`: no answer at all.
    Silent,
    /// `error`: an error with a code of its own.
    Error,
    /// `legacy-only`: a result that lists revisions with `initialize` only.
    LegacyOnly,
    /// `legacy-refusal`: -32022 that lists revisions with `initialize` only.
    LegacyRefusal,
    /// `future-only`: -32022 that lists a revision nobody knows yet; `initialize` is refused likewise.
    FutureOnly,
    /// `once`: the first probe of a process gets -32022 that lists our revision; otherwise a strict server.
    Once,
    /// `late`: the first process that the `--counter` counts answers nothing; otherwise a strict server.
    Late,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--counter" => options.counter = Some(value()?.into()),
                "--log" => options.log = Some(value()?.into()),
                "--initialize-code" => options.initialize_code = Some(number(&value()?)?),
                "--instructions" => options.instructions = Some(value()?),
                "--capabilities" => {
                    let value = value()?;
                    options.capabilities = Some(serde_json::from_str(&value).map_err(|error| error.to_string())?);
                }
                "--end-listens" => options.end_listens = Some(Duration::from_millis(number(&value()?)?)),
                "--tasks" => options.tasks = true,
                "--probe" => options.probe = Some(probe(&value()?)?),
                _ => return Err(format!("no flag {flag:?} here")),
            }
        }
        Ok(options)
    }

    pub fn capabilities(&self) -> Value {
        let mut usual = self.capabilities.clone().unwrap_or_else(|| {
            json!({
                "tools": {"listChanged": true},
                "prompts": {"listChanged": true},
                "resources": {"subscribe": true, "listChanged": true},
                "completions": {},
                "logging": {},
            })
        });
        if self.tasks {
            usual["extensions"] = json!({"io.modelcontextprotocol/tasks": {}});
        }
        usual
    }
}

fn probe(word: &str) -> Result<Probe, String> {
    Ok(match word {
        "exit" => Probe::Exit,
        "silent" => Probe::Silent,
        "error" => Probe::Error,
        "legacy-only" => Probe::LegacyOnly,
        "legacy-refusal" => Probe::LegacyRefusal,
        "future-only" => Probe::FutureOnly,
        "once" => Probe::Once,
        "late" => Probe::Late,
        _ => return Err(format!("no probe {word:?} here")),
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not such a number"))
}
