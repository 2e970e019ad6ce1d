//! `hubward reload`: the running hub reads its file again, and says what came of it.

use serde_json::json;

use super::{
    Globals,
    running::{self, WhichHub},
    say,
};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: WhichHub,
}

pub fn run(args: Args, globals: &Globals) -> u8 {
    running::ask(args.which, globals, &json!({ "command": "reload" }), |line| {
        say(format_args!("generation {}: {}", line["generation"], line["plan"].as_str().unwrap_or_default()));
    })
}
