//! `hubward schema`: the JSON Schema of hub.toml, for editors that complete and check while one types.

use super::{OK, init::STARTER, say};
use crate::config;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: Args) -> u8 {
    say(text().trim_end());
    OK
}

/// As it is written to a file.
pub(super) fn text() -> String {
    serde_json::to_string_pretty(&config::schema(STARTER)).unwrap_or_default() + "\n"
}
