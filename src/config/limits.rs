//! What of the hub has a maximum that the operator may move.

use std::time::Duration;

/// `[hub.limits]`: the maximum of everything that could otherwise grow.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// One request's body. Tool arguments are small; this leaves room for a pasted image.
    pub body_bytes_max: usize,
    /// One message from an upstream. Larger than a body: results carry files.
    pub message_bytes_max: usize,
    /// Sessions alive in the whole hub.
    pub sessions_max: usize,
    /// A session nobody used for this long is ended.
    pub session_idle_timeout: Duration,
    /// Events kept per stream for `Last-Event-ID`.
    pub replay_events_max: usize,
    /// Bytes kept per session for `Last-Event-ID`: a thousand large events must not fill the memory.
    pub replay_bytes_max: usize,
    /// Calls running at once, per upstream.
    pub calls_in_flight_max: usize,
    /// TCP connections; below the usual descriptor limit of a service.
    pub connections_max: usize,
    /// Open event streams.
    pub streams_max: usize,
    /// Calls that wait, per upstream, for it to start.
    pub queue_max: usize,
    /// How long a client may take to answer what a server asks in mid call.
    pub answer_timeout: Duration,
    /// Children starting at once: interpreters that start together starve each other.
    pub starts_max: usize,
    /// Requests of one principal; `None`: as many as come.
    pub rate: Option<Rate>,
    /// Of one principal that showed who it is: calls running at once in the whole hub,
    pub principal_calls_max: usize,
    /// and its sessions,
    pub principal_sessions_max: usize,
    /// and its open event streams. So that one cannot take the places of all.
    pub principal_streams_max: usize,
}

/// How many requests, over time and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Over time; at least 1.
    pub per_second: u32,
    /// At once, after a rest; at least 1.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 4 << 20,
            message_bytes_max: 16 << 20,
            sessions_max: 10_000,
            session_idle_timeout: Duration::from_secs(30 * 60),
            replay_events_max: 1000,
            replay_bytes_max: 4 << 20,
            calls_in_flight_max: 1024,
            connections_max: 25_000,
            streams_max: 10_000,
            queue_max: 1024,
            answer_timeout: Duration::from_secs(10 * 60),
            starts_max: 4,
            rate: None,
            principal_calls_max: 512,
            principal_sessions_max: 2000,
            principal_streams_max: 2000,
        }
    }
}
