//! Tests: cancel.
