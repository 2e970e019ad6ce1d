//! Tests: drain.
