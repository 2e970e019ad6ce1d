//! Newline framing with a longest line.
