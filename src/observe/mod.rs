//! What can be seen from outside: the log, the audit, each upstream's own lines, what is counted, and traces.
//!
//! [`log`] is what the hub says of itself: `levels.rs` decides what of it, `form.rs` how it looks. [`audit`] has a line
//! for each call, which [`meter`] counts and [`metrics`] shows. [`journal`] keeps the last lines of an upstream, [`shelf`] the files that they go to as well. What is
//! written anywhere goes through a bounded queue first.

#![cfg_attr(docsrs, doc(hidden))]

mod append;
pub mod audit;
mod form;
pub mod journal;
mod levels;
pub mod log;
pub mod meter;
pub mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod queue;
pub mod record;
pub mod shelf;
pub mod trace;

pub use log::{Flags, Log, adopt, install};
