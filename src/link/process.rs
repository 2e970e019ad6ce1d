//! A child process as a Link.
