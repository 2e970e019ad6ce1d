//! hubward: one daemon, many MCP servers, each at its own URL.

pub mod bridge;
pub mod cli;
pub mod config;
pub mod hub;
pub mod link;
pub mod observe;
pub mod run;
pub mod server;
pub mod shutdown;
pub mod wire;
