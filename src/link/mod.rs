//! Ways to reach a peer: each file turns something into a [`Link`].

pub mod process;
