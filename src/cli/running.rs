//! A command for the running hub: which hub is meant, and what its answer means for the exit code.

use std::{ops::ControlFlow, path::PathBuf};

use serde_json::Value;

use super::{ConfigFlag, Globals};

/// Which hub.
#[derive(clap::Args, Clone)]
pub struct WhichHub {
    #[command(flatten)]
    config: ConfigFlag,
    /// The hub's socket, where the file does not lead to it
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl WhichHub {
    /// The one that serves a file.
    pub fn of(file: Option<PathBuf>) -> Self {
        Self { config: ConfigFlag { config: file }, socket: None }
    }
}

/// Asks the hub; `line` gets each line of its answer. The result is the exit code.
pub fn ask(which: WhichHub, globals: &Globals, question: &Value, mut line: impl FnMut(Value)) -> u8 {
    follow(which, globals, question, |answer| {
        line(answer);
        ControlFlow::Continue(())
    })
}

/// Asks the hub for what goes on, until `line` has enough of it.
#[cfg(unix)]
pub fn follow(which: WhichHub, globals: &Globals, question: &Value, line: impl FnMut(Value) -> ControlFlow<()>) -> u8 {
    use super::{OK, UNREACHABLE, USAGE, complain, fail};
    use crate::{
        admin::{ask, ask::AskError, place},
        config, run,
    };
    let file = globals.file(&which.config);
    let (socket, served) = match which.socket {
        Some(socket) => (socket, "hub.toml".into()),
        None => match config::find(file.as_deref()) {
            // The file may be broken: to hear so is what some of these commands are for.
            Ok(path) => (config::admin_socket(&path).unwrap_or_else(|| place::default(&path)), path),
            Err(error) => return fail(USAGE, error),
        },
    };
    match run::on_system(ask::ask(&socket, question, line)) {
        Ok(done) => {
            if let Some(error) = done.error {
                complain(error);
            }
            done.exit
        }
        Err(error @ AskError::NoHub { .. }) => {
            let start = format!(
                "start it with `hubward serve -c {}`, or name the file that it serves with -c",
                served.display()
            );
            fail(UNREACHABLE, format!("{error}; {start}, as the user who runs it"))
        }
        // Who follows stays to the end.
        Err(AskError::Cut) if question["follow"] == true => {
            complain("the hub has ended");
            OK
        }
        Err(error) => fail(UNREACHABLE, error),
    }
}

#[cfg(not(unix))]
pub fn follow(_: WhichHub, _: &Globals, _: &Value, _: impl FnMut(Value) -> ControlFlow<()>) -> u8 {
    super::fail(super::FAILED, "the running hub can only be asked on unix; save hub.toml to reload it")
}
