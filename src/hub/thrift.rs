//! Gives memory back after a crowd has left.
//!
//! The C library keeps what was freed for the next allocation, which is right while there will be one. After ten
//! thousand calls or sessions have ended it would keep a hundred megabytes for nobody.

/// A crowd that is worth the trouble.
const CROWD: usize = 1000;

/// How many there were at most since memory was last given back.
#[derive(Default)]
pub struct Thrift {
    peak: usize,
}

impl Thrift {
    /// Is it time? `now`: the sessions, streams and waiting calls of this moment.
    pub fn is_due(&mut self, now: usize) -> bool {
        self.peak = self.peak.max(now);
        let due = self.peak >= CROWD && now <= self.peak / 2;
        if due {
            self.peak = now;
        }
        due
    }
}

/// Gives the memory that nobody uses back to the system. Takes some milliseconds.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointers, and may be called from any thread at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_left_is_noticed_once() {
        let mut thrift = Thrift::default();
        let seen = [10, 900, 10, 5000, 3000, 2500, 2400, 1300, 100, 0].map(|now| thrift.is_due(now));
        assert_eq!(seen, [false, false, false, false, false, true, false, false, true, false]);
    }
}
