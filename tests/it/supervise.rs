//! Tests: supervise.
