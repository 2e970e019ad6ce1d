//! Bytes and their meaning; pure, no I/O, no clock.

pub mod lines;
pub mod message;
