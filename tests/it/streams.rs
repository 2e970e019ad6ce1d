//! Tests: streams.
