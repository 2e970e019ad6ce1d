//! Tests: reload.
