//! Floods of HTTP/2 frames.
