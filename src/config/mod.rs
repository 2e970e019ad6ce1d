//! From text to meaning.
