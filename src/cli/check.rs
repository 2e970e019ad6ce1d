//! `hubward check`.
