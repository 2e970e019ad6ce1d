//! Bytes and their meaning; pure, no I/O, no clock.

#![cfg_attr(docsrs, doc(hidden))]

pub mod envelope;
pub mod lines;
pub mod members;
pub mod message;
pub mod object;
pub mod printable;
pub mod revision;
pub mod trace;
pub mod trouble;

pub use message::{Id, Kind, Message};
pub use revision::Revision;
