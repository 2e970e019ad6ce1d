//! The commands: flags, one library call, an exit code.

pub mod check;
pub mod demo;
pub mod init;
pub mod keeper;
