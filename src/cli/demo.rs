//! `hubward demo`.
