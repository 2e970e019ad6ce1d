//! `hubward keeper`: started by the hub itself, never by hand.

use crate::link::keeper;

/// Waits for the hub to end; returns the exit code.
pub fn run() -> u8 {
    match keeper::keep() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("hubward keeper: {error}");
            1
        }
    }
}
