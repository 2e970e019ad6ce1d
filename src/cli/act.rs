//! `hubward start|stop|restart NAME`: the running hub does it, and says when it is done.

use serde_json::json;

use super::{
    Globals,
    running::{self, WhichHub},
    say,
};

#[derive(clap::Args)]
pub struct Args {
    /// The upstream, by its name in hub.toml
    name: String,
    #[command(flatten)]
    which: WhichHub,
}

pub fn run(args: Args, action: &str, globals: &Globals) -> u8 {
    running::ask(args.which, globals, &json!({ "command": action, "upstream": args.name }), |line| {
        let [name, state] = ["upstream", "state"].map(|key| line[key].as_str().unwrap_or_default().to_owned());
        say(format_args!("{name}: {state}"));
    })
}
