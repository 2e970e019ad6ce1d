//! The behaviour of hubward, seen from outside: one binary, one file per behaviour.

mod bodies;
mod cancel;
mod cli;
mod config;
mod demo;
mod drain;
mod faults;
mod fixture;
mod guard;
mod http;
mod interop;
mod isolation;
mod limits;
mod process;
mod raw;
mod reload;
mod serve;
mod sessions;
mod sse;
mod streams;
mod supervise;
mod wire;
