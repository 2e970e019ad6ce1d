//! `hubward init`.
