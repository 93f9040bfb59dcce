//! Whether a worker really works: a connection without a consumer looks healthy from everywhere else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The loop turns at least this often, or something blocks it.
pub(crate) const TURN_LIMIT: Duration = Duration::from_secs(10);
/// With deliveries in hand, one is settled at least this often.
pub(crate) const SETTLE_SILENCE: Duration = Duration::from_secs(600);

/// Kept by the loop, read by the health route.
#[derive(Debug)]
pub struct Readiness {
    started: Instant,
    connected: AtomicBool,
    consuming: AtomicBool,
    draining: AtomicBool,
    in_flight: AtomicU64,
    /// Milliseconds since `started`.
    last_turn: AtomicU64,
    last_settled: AtomicU64,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            connected: AtomicBool::new(false),
            consuming: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            last_turn: AtomicU64::new(0),
            last_settled: AtomicU64::new(0),
        }
    }
}

impl Readiness {
    /// Why the worker is not ready, in words for a person; empty where it is.
    pub fn problems(&self) -> Vec<String> {
        self.problems_at(self.now())
    }

    pub fn ready(&self) -> bool {
        self.problems().is_empty()
    }

    /// Deliveries received and not settled yet.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn problems_at(&self, now: u64) -> Vec<String> {
        let mut problems = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            problems.push("is stopping".to_owned());
            return problems;
        }
        if !self.connected.load(Ordering::Relaxed) {
            problems.push("is not connected to the broker".to_owned());
        } else if !self.consuming.load(Ordering::Relaxed) {
            problems.push("has no consumer on its queue".to_owned());
        }
        let silent = |since: &AtomicU64| {
            Duration::from_millis(now.saturating_sub(since.load(Ordering::Relaxed)))
        };
        if silent(&self.last_turn) > TURN_LIMIT {
            problems.push(format!(
                "the loop has not turned for {} s",
                silent(&self.last_turn).as_secs()
            ));
        }
        if self.in_flight() > 0 && silent(&self.last_settled) > SETTLE_SILENCE {
            problems.push(format!(
                "has {} deliveries and has settled none for {} min",
                self.in_flight(),
                silent(&self.last_settled).as_secs() / 60
            ));
        }
        problems
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    pub(crate) fn set_consuming(&self, consuming: bool) {
        self.consuming.store(consuming, Ordering::Relaxed);
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn turned(&self) {
        self.last_turn.store(self.now(), Ordering::Relaxed);
    }

    pub(crate) fn settled(&self) {
        self.last_settled.store(self.now(), Ordering::Relaxed);
    }

    pub(crate) fn received(&self) {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) == 0 {
            self.settled();
        }
    }

    pub(crate) fn gone(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong() {
        let readiness = Readiness::default();
        let minutes = |n: u64| n * 60_000;
        assert_eq!(readiness.problems_at(0), ["is not connected to the broker"]);
        readiness.set_connected(true);
        assert_eq!(readiness.problems_at(0), ["has no consumer on its queue"]);
        readiness.set_consuming(true);
        readiness.received();
        assert_eq!(readiness.problems_at(9_000), Vec::<String>::new());
        readiness.last_turn.store(minutes(11), Ordering::Relaxed);
        assert_eq!(
            readiness.problems_at(minutes(11)),
            ["has 1 deliveries and has settled none for 11 min"]
        );
        readiness.gone();
        assert_eq!(readiness.problems_at(minutes(11)), Vec::<String>::new());
        assert_eq!(
            readiness.problems_at(minutes(12)),
            ["the loop has not turned for 60 s"]
        );
        readiness.set_draining();
        assert_eq!(readiness.problems_at(minutes(12)), ["is stopping"]);
    }
}
