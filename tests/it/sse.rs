//! Tests: sse.
