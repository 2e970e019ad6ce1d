//! Tests: bodies.
