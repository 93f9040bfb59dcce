//! Retry tiers and limits of retrying.

use std::time::Duration;

/// One delay queue per retry tier and worker; its TTL is part of its name, so a new delay is a new queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryTier {
    pub name: &'static str,
    pub delay: Duration,
}

/// `kurir.<worker>.retry.<name>`, shortest first.
pub const RETRY_TIERS: [RetryTier; 6] = [
    RetryTier {
        name: "1s",
        delay: Duration::from_secs(1),
    },
    RetryTier {
        name: "5s",
        delay: Duration::from_secs(5),
    },
    RetryTier {
        name: "30s",
        delay: Duration::from_secs(30),
    },
    RetryTier {
        name: "2m",
        delay: Duration::from_secs(120),
    },
    RetryTier {
        name: "10m",
        delay: Duration::from_secs(600),
    },
    RetryTier {
        name: "1h",
        delay: Duration::from_secs(3600),
    },
];

impl RetryTier {
    /// The smallest retry tier of at least `delay`: only backoff rounds up. Above the last one, the last one.
    pub fn at_least(delay: Duration) -> Self {
        RETRY_TIERS
            .into_iter()
            .find(|retry_tier| retry_tier.delay >= delay)
            .unwrap_or(RETRY_TIERS[RETRY_TIERS.len() - 1])
    }

    /// The largest retry tier that fits into the time left, at least the first: a wait for a known moment.
    pub fn that_fits(left: Duration) -> Self {
        RETRY_TIERS
            .into_iter()
            .rev()
            .find(|retry_tier| retry_tier.delay <= left)
            .unwrap_or(RETRY_TIERS[0])
    }
}

/// How often and how long an event is tried. Only failed calls count; a wait costs no attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Failed calls until the event is dead as `exhausted`.
    pub max_attempts: u32,
    /// Mean grows from here, doubled per failed attempt.
    pub initial: Duration,
    pub multiplier: f64,
    pub max: Duration,
    /// A handler that runs longer is stopped; the effect ledger covers a half-made call.
    pub deadline: Duration,
    /// Waits older than this are held for a person, with the cause named.
    pub max_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 12,
            initial: Duration::from_secs(1),
            multiplier: 2.0,
            max: Duration::from_secs(3600),
            deadline: Duration::from_secs(60),
            max_wait: Duration::from_secs(24 * 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_rounds_up_and_a_wait_rounds_down() {
        let secs = Duration::from_secs;
        assert_eq!(RetryTier::at_least(secs(6)).name, "30s");
        assert_eq!(RetryTier::at_least(secs(5)).name, "5s");
        assert_eq!(RetryTier::at_least(secs(90_000)).name, "1h");
        assert_eq!(RetryTier::that_fits(secs(29)).name, "5s");
        assert_eq!(RetryTier::that_fits(Duration::from_millis(3)).name, "1s");
        assert_eq!(RetryTier::that_fits(secs(180)).name, "2m");
    }
}
