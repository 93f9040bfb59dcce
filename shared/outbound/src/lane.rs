//! Limits of one connection inside one process: how many calls at once, how many of a kind that the partner handles
//! one after another anyway, and how many per time. Waiting is bounded: who would have to wait longer gets told until
//! when, because a sleeping task holds a prefetch slot. What several processes share is a budget in the database and
//! is asked before this.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::CallError;

/// Which way a call goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// With all others, up to `Limits::in_flight`.
    #[default]
    Wide,
    /// Through the narrow lane first, then with all others.
    Narrow,
}

/// `requests` per `per`, evenly spread after a first `burst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub requests: NonZeroU32,
    pub per: Duration,
    pub burst: NonZeroU32,
}

/// Limits of one connection in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once over both lanes; at least 1.
    pub in_flight: usize,
    /// Calls at once in the narrow lane; at least 1.
    pub narrow_in_flight: usize,
    pub rate: Option<Rate>,
    /// The longest a call waits in memory for each of them.
    pub longest_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 8,
            narrow_in_flight: 1,
            rate: None,
            longest_wait: Duration::from_secs(1),
        }
    }
}

/// The running state of [`Limits`].
pub(crate) struct Lanes {
    all: Arc<Semaphore>,
    narrow: Arc<Semaphore>,
    rate: Option<DefaultDirectRateLimiter>,
    longest_wait: Duration,
}

/// Room for one call; given back when dropped.
pub(crate) struct Permit {
    _narrow: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Lanes {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.in_flight.max(1))),
            narrow: Arc::new(Semaphore::new(limits.narrow_in_flight.max(1))),
            rate: limits.rate.and_then(quota).map(RateLimiter::direct),
            longest_wait: limits.longest_wait,
        }
    }

    /// Waits at most `longest_wait`, and not past `leave_by`; otherwise [`CallError::Limited`].
    pub(crate) async fn enter(&self, lane: Lane, leave_by: Instant) -> Result<Permit, CallError> {
        let give_up = leave_by.min(Instant::now() + self.longest_wait);
        let narrow = match lane {
            Lane::Narrow => Some(self.room(&self.narrow, give_up).await?),
            Lane::Wide => None,
        };
        let all = self.room(&self.all, give_up).await?;
        // The rate is asked last: its tokens can't be given back.
        self.pace(give_up).await?;
        Ok(Permit {
            _narrow: narrow,
            _all: all,
        })
    }

    async fn room(
        &self,
        places: &Arc<Semaphore>,
        give_up: Instant,
    ) -> Result<OwnedSemaphorePermit, CallError> {
        let place = Arc::clone(places).acquire_owned();
        match tokio::time::timeout_at(give_up.into(), place).await {
            Ok(place) => Ok(place.expect("the semaphores of a connection are never closed")),
            // Nobody knows when a place becomes free; as long again is a fair guess.
            Err(_elapsed) => Err(CallError::Limited {
                until: Instant::now() + self.longest_wait,
                reason: "all calls that this process may have in flight are".to_owned(),
            }),
        }
    }

    async fn pace(&self, give_up: Instant) -> Result<(), CallError> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        let clock = DefaultClock::default();
        while let Err(not_yet) = rate.check() {
            let until = Instant::now() + not_yet.wait_time_from(clock.now());
            if until > give_up {
                return Err(CallError::Limited {
                    until,
                    reason: "the calls of this process are paced".to_owned(),
                });
            }
            tokio::time::sleep_until(until.into()).await;
        }
        Ok(())
    }
}

/// None for a rate without time, which is no limit.
fn quota(rate: Rate) -> Option<Quota> {
    Quota::with_period(rate.per / rate.requests.get()).map(|quota| quota.allow_burst(rate.burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn limits(in_flight: usize, rate: Option<Rate>, longest_wait: Duration) -> Lanes {
        Lanes::new(Limits {
            in_flight,
            narrow_in_flight: 1,
            rate,
            longest_wait,
        })
    }

    fn soon() -> Instant {
        Instant::now() + LONG
    }

    #[tokio::test]
    async fn a_full_connection_says_until_when_instead_of_waiting() {
        let lanes = limits(2, None, Duration::from_millis(20));
        let _first = lanes.enter(Lane::Wide, soon()).await.ok().unwrap();
        let second = lanes.enter(Lane::Wide, soon()).await.ok().unwrap();
        let refused = lanes.enter(Lane::Wide, soon()).await.err().unwrap();
        let CallError::Limited { until, .. } = refused else {
            panic!("{refused}")
        };
        assert!(until <= Instant::now() + Duration::from_millis(20));
        drop(second);
        assert!(lanes.enter(Lane::Wide, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn the_narrow_lane_takes_one_and_leaves_room_for_others() {
        let lanes = limits(2, None, Duration::from_millis(20));
        let _search = lanes.enter(Lane::Narrow, soon()).await.ok().unwrap();
        assert!(lanes.enter(Lane::Narrow, soon()).await.is_err());
        assert!(lanes.enter(Lane::Wide, soon()).await.is_ok());
    }

    #[tokio::test]
    async fn a_rate_beyond_the_bounded_wait_names_its_moment() {
        let one = NonZeroU32::MIN;
        let rate = Rate {
            requests: one,
            per: LONG,
            burst: one,
        };
        let lanes = limits(8, Some(rate), Duration::from_millis(20));
        assert!(lanes.enter(Lane::Wide, soon()).await.is_ok());
        match lanes.enter(Lane::Wide, soon()).await.err() {
            Some(CallError::Limited { until, .. }) => {
                assert!(until > Instant::now() + LONG / 2, "a minute, not a guess");
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_rate_inside_the_bounded_wait_shapes() {
        let rate = Rate {
            requests: NonZeroU32::new(50).unwrap(),
            per: Duration::from_secs(1),
            burst: NonZeroU32::MIN,
        };
        let lanes = limits(8, Some(rate), LONG);
        let start = Instant::now();
        for _ in 0..6 {
            assert!(lanes.enter(Lane::Wide, soon()).await.is_ok());
        }
        assert!(
            start.elapsed() >= Duration::from_millis(95),
            "five gaps of 20 ms"
        );
    }

    #[tokio::test]
    async fn nobody_waits_past_the_send_window() {
        let lanes = limits(1, None, LONG);
        let _held = lanes.enter(Lane::Wide, soon()).await.ok().unwrap();
        let start = Instant::now();
        let window = Instant::now() + Duration::from_millis(30);
        assert!(lanes.enter(Lane::Wide, window).await.is_err());
        assert!(start.elapsed() < LONG / 10);
    }
}
