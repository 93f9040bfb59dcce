//! How much one process takes: requests at once from everybody, events per second from each tenant.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use event::TenantId;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{MAX_BATCH_EVENTS, Settings};

/// How long a request waits for its turn before it is told to come again.
pub const IN_FLIGHT_WAIT: Duration = Duration::from_secs(1);
/// Tenants whose rate is kept; beyond that those are forgotten that would start afresh anyway.
const KEPT_TENANTS: usize = 10_000;

pub struct Limits {
    in_flight: Arc<Semaphore>,
    rate: DefaultKeyedRateLimiter<TenantId>,
    clock: DefaultClock,
}

impl Limits {
    pub fn new(settings: &Settings) -> Self {
        let batch = NonZeroU32::new(u32::try_from(MAX_BATCH_EVENTS).expect("a small number"))
            .expect("not zero");
        // A batch that could never pass would be told to come again for ever.
        let quota =
            Quota::per_second(settings.events_per_second).allow_burst(settings.burst.max(batch));
        Self {
            in_flight: Arc::new(Semaphore::new(settings.max_in_flight.max(1))),
            rate: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
        }
    }

    /// A place for one request, given back when it is dropped. `None` after [`IN_FLIGHT_WAIT`].
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.in_flight).acquire_owned();
        tokio::time::timeout(IN_FLIGHT_WAIT, place).await.ok()?.ok()
    }

    /// Takes `events` from the tenant's rate, all or none.
    ///
    /// # Errors
    /// How long to wait until there is room for them.
    pub fn admit(&self, tenant: &TenantId, events: usize) -> Result<(), Duration> {
        let Some(events) = u32::try_from(events).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        if self.rate.len() > KEPT_TENANTS {
            self.rate.retain_recent();
        }
        match self.rate.check_key_n(tenant, events) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(until.wait_time_from(self.clock.now())),
            Err(_never_room) => {
                unreachable!("the burst is at least a batch, and a batch has been counted")
            }
        }
    }
}
