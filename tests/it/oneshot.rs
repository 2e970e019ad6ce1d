//! The one-shot client: what is asked of servers of every kind, what is printed where, and the exit codes.
//!
//! The names of tests that begin with `s3_` are rows of an older client's list of features.

mod arguments;
mod lists;
mod peer;
mod results;
mod servers;
mod terminal;

use std::{path::Path, process::Command};

use serde_json::Value;

use super::fixture::{example, hubward};

/// What came of a command.
#[derive(Debug)]
struct Told {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Told {
    fn of(mut command: Command) -> Told {
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Told { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What was printed, where all went well.
    #[track_caller]
    fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    #[track_caller]
    fn json(self) -> Value {
        let text = self.done();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The code, where nothing was printed, and what was said.
    #[track_caller]
    fn refused(self, code: i32, parts: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {}", self.stderr);
        }
    }
}

fn run(args: &[&str]) -> Told {
    Told::of(hubward(args))
}

fn run_in(folder: &Path, args: &[&str]) -> Told {
    let mut command = hubward(args);
    command.current_dir(folder).env("HOME", folder).env_remove("XDG_CONFIG_HOME");
    Told::of(command)
}

/// Asks `hubward demo`.
fn demo(args: &[&str]) -> Told {
    run(&[args, &["--era", "legacy", "--", "hubward", "demo"]].concat())
}

/// Asks `examples/rogue`, which is of the older revisions.
fn rogue(args: &[&str]) -> Told {
    let program = example("rogue").display().to_string();
    run(&[args, &["--era", "legacy", "--", &program]].concat())
}

/// Asks `examples/modern`, which is of 2026-07-28.
fn modern(args: &[&str]) -> Told {
    let program = example("modern").display().to_string();
    run(&[args, &["--", &program]].concat())
}
