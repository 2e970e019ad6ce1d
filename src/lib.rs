//! hubward: one daemon, many MCP servers, each at its own URL.

pub mod cli;
pub mod config;
pub mod link;
pub mod wire;
