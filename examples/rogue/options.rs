//! The flags: misbehaviour that holds from the start of the process.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

#[derive(Default)]
pub struct Options {
    /// `--exit-at-start CODE`: says "rogue: cannot start" on stderr and exits.
    pub exit_at_start: Option<i32>,
    /// `--banner N`: so many lines that are not JSON before every message on stdout.
    pub banner: usize,
    /// `--bom`: the first line on stdout begins with a byte order mark.
    pub bom: bool,
    /// `--crlf`: lines on stdout end with CR LF.
    pub crlf: bool,
    /// `--blank-lines`: an empty line follows each message on stdout.
    pub blank_lines: bool,
    /// `--slow-start SECONDS`: reads nothing for so long before it answers `initialize`.
    pub slow_start: Duration,
    /// `--ignore-sigterm`: SIGTERM has no effect.
    pub ignore_sigterm: bool,
    /// `--ignore-eof`: lives on when stdin ends, and when stdout is gone.
    pub ignore_eof: bool,
    /// `--never-initialize`: reads everything, answers nothing at all.
    pub never_initialize: bool,
    /// `--stderr-flood BYTES`: written to stderr before the first line is read.
    pub stderr_flood: usize,
    /// `--exit-on-probe`: exits with code 1 when asked `server/discover`.
    pub exit_on_probe: bool,
    /// `--log FILE`: every line received is appended to it at once.
    pub log: Option<PathBuf>,
    /// `--counter FILE`: each process that starts appends its id as a line.
    pub counter: Option<PathBuf>,
    /// `--capabilities JSON`: instead of the usual ones at `initialize`.
    pub capabilities: Option<Value>,
    /// `--protocol VERSION`: at `initialize`, whatever was asked for.
    pub protocol: Option<String>,
    /// `--tools FILE`: its lines are the pages of `tools/list`, each a result as it is sent. What it names and we do not
    /// have answers with its name.
    pub tools: Option<PathBuf>,
    /// `--instructions TEXT`: at `initialize`.
    pub instructions: Option<String>,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--exit-at-start" => options.exit_at_start = Some(number(&value()?)?),
                "--banner" => options.banner = number(&value()?)?,
                "--bom" => options.bom = true,
                "--crlf" => options.crlf = true,
                "--blank-lines" => options.blank_lines = true,
                "--slow-start" => {
                    options.slow_start =
                        Duration::try_from_secs_f64(number(&value()?)?).map_err(|error| error.to_string())?;
                }
                "--ignore-sigterm" => options.ignore_sigterm = true,
                "--ignore-eof" => options.ignore_eof = true,
                "--never-initialize" => options.never_initialize = true,
                "--stderr-flood" => options.stderr_flood = number(&value()?)?,
                "--exit-on-probe" => options.exit_on_probe = true,
                "--log" => options.log = Some(value()?.into()),
                "--counter" => options.counter = Some(value()?.into()),
                "--capabilities" => {
                    let value = value()?;
                    options.capabilities = Some(serde_json::from_str(&value).map_err(|error| error.to_string())?);
                }
                "--protocol" => options.protocol = Some(value()?),
                "--tools" => options.tools = Some(value()?.into()),
                "--instructions" => options.instructions = Some(value()?),
                SIGTERM_IGNORED => {}
                _ => return Err(format!("no flag {flag:?} here")),
            }
        }
        Ok(options)
    }
}

/// What `--ignore-sigterm` turns into once the signal is ignored, so that it happens only once.
pub const SIGTERM_IGNORED: &str = "--sigterm-is-ignored";

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not such a number"))
}
