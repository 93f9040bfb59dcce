//! The one module that holds the `backoff` crate (unmaintained, RUSTSEC-2025-0012; named by the project's stack).
//! It gives the growing interval; the jitter is full: anything from nothing to that interval.

use std::time::Duration;

use ::backoff::ExponentialBackoff;
use ::backoff::backoff::Backoff as _;

use crate::policy::RetryPolicy;

/// The delay before the next try after `failures` failed ones (1 = the first has just failed).
/// `jitter` in `0.0..=1.0` is drawn by the caller, so that a decision can be repeated in a test.
pub fn full_jitter(policy: &RetryPolicy, failures: u32, jitter: f64) -> Duration {
    interval(policy, failures).mul_f64(jitter.clamp(0.0, 1.0))
}

/// The upper bound of that delay: grows by the multiplier, never above `policy.max`.
pub fn interval(policy: &RetryPolicy, failures: u32) -> Duration {
    let mut growing = ExponentialBackoff {
        current_interval: policy.initial,
        initial_interval: policy.initial,
        randomization_factor: 0.0,
        multiplier: policy.multiplier,
        max_interval: policy.max,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    // Beyond this many doublings every policy has reached its maximum.
    const ENOUGH: u32 = 64;
    let mut reached = policy.initial;
    for _ in 0..failures.clamp(1, ENOUGH) {
        reached = growing.next_backoff().unwrap_or(policy.max);
    }
    reached.min(policy.max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_the_maximum() {
        let policy = RetryPolicy::default();
        let seconds: Vec<u64> = (1..=14).map(|n| interval(&policy, n).as_secs()).collect();
        assert_eq!(
            seconds,
            [
                1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600
            ]
        );
    }

    proptest! {
        #[test]
        fn never_shrinks_and_never_passes_the_interval(failures in 1u32..200, jitter in 0.0f64..=1.0) {
            let policy = RetryPolicy::default();
            prop_assert!(interval(&policy, failures + 1) >= interval(&policy, failures));
            prop_assert!(full_jitter(&policy, failures, jitter) <= interval(&policy, failures));
        }
    }
}
