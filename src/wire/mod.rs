//! Bytes and their meaning; pure, no I/O, no clock.

pub mod envelope;
pub mod lines;
pub mod message;
pub mod object;
pub mod revision;

pub use message::{Id, Kind, Message};
pub use revision::Revision;
