//! The behaviour of hubward, seen from outside: one binary, one file per behaviour.

mod cancel;
mod cli;
mod config;
mod demo;
mod drain;
mod fixture;
mod interop;
mod isolation;
mod limits;
mod process;
mod reload;
mod reload_files;
mod serve;
mod sessions;
mod sse;
mod supervise;
mod wire;
