//! The time of one process, told from outside so that schedule tests can have theirs.

use std::time::Duration;

/// A clock that never goes back; it goes on while the process is frozen.
pub trait Clock: Send + Sync {
    fn elapsed(&self) -> Duration;
}

#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock(std::time::Instant);

impl Default for MonotonicClock {
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}

impl Clock for MonotonicClock {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
