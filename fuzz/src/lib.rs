//! What has to hold of every parser that meets a stranger's bytes, as functions of these bytes.
//!
//! A function panics where its property does not hold. The targets of cargo-fuzz call them with bytes that are made up,
//! and `tests/corpus.rs` with those of the committed corpus: so what was found once is tested without cargo-fuzz too.

mod auth;
mod bridge;
mod config;
mod hub;
mod link;
mod server;
mod wire;

pub use auth::{callback, challenge, metadata, url};
pub use bridge::{eras, seal};
pub use config::{config, import};
pub use hub::replay;
pub use link::{events, tunnel};
pub use server::{guard, head, hops};
pub use wire::{envelope, lines, message, object};

/// A property.
pub type Target = fn(&[u8]);

/// All of them, by the names of their targets and of their folders in `corpus/`.
pub const TARGETS: [(&str, Target); 18] = [
    ("callback", callback),
    ("challenge", challenge),
    ("config", config),
    ("envelope", envelope),
    ("eras", eras),
    ("events", events),
    ("guard", guard),
    ("head", head),
    ("hops", hops),
    ("import", import),
    ("lines", lines),
    ("message", message),
    ("metadata", metadata),
    ("object", object),
    ("replay", replay),
    ("seal", seal),
    ("tunnel", tunnel),
    ("url", url),
];

/// The text behind the first bytes, and these: small numbers that choose between cases.
fn chosen<const N: usize>(data: &[u8]) -> Option<([usize; N], &[u8])> {
    let (head, rest) = data.split_first_chunk::<N>()?;
    Some((head.map(usize::from), rest))
}

/// The same bytes in pieces: `0` is one piece, others cut in ways of their own.
fn pieces(data: &[u8], way: usize) -> Vec<&[u8]> {
    let (mut rest, mut found, mut seed) = (data, Vec::new(), way as u64);
    while !rest.is_empty() {
        let length = match way {
            0 => rest.len(),
            1 => 1,
            _ => {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 33) as usize % 11 + 1
            }
        };
        let (piece, left) = rest.split_at(length.min(rest.len()));
        found.push(piece);
        rest = left;
    }
    found
}
