//! Each second: what is held without a living cause goes back to its worker, through the outbox. Looked for, never
//! remembered: a hold that came after its cause had ended, an admin's command that died half-way and a keeper that was
//! killed all leave rows that the next look finds. Replicas share the work by the locks of the rows.

use std::time::Duration;

use store::held::release_ended;
use store::{Error, Pool, QueuePrefix};
use tokio_util::sync::CancellationToken;
use worker::{HoldCause, failpoint};

use crate::readiness::{Part, Readiness};

/// Causes that end by themselves and need no permits of their own.
const CAUSES: [HoldCause; 3] = [
    HoldCause::NoConnection,
    HoldCause::Conflict,
    HoldCause::Prerequisite,
];
/// Looks of one round at the rows of one cause; the next round goes on where this one stopped.
const LOOKS: usize = 10;
/// Looks of one round where rows leave: each lets go as many as it may.
const BUSY_LOOKS: usize = 50;

pub(crate) struct Releaser<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) prefix: &'a QueuePrefix,
    pub(crate) every: Duration,
    pub(crate) readiness: &'a Readiness,
}

impl Releaser<'_> {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        self.readiness
            .expect(Part::Release, self.every * 2 + Duration::from_secs(60));
        let mut looks = CAUSES.map(|cause| Walk { cause, after: None });
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            match self.round(&mut looks).await {
                Ok(()) => self.readiness.worked(Part::Release),
                Err(error) => {
                    tracing::warn!(error = %error.with_causes(), "a round of releases ended early");
                    self.readiness.hindered(Part::Release, error.to_string());
                }
            }
        }
    }

    async fn round(&self, walks: &mut [Walk]) -> Result<(), Error> {
        for walk in walks {
            self.walk(walk).await?;
        }
        Ok(())
    }

    /// Once through the rows of a cause, or as far as one round goes.
    async fn walk(&self, walk: &mut Walk) -> Result<(), Error> {
        let (mut idle, mut busy) = (0, 0);
        while idle < LOOKS && busy < BUSY_LOOKS {
            let ended = release_ended(self.pool, self.prefix, walk.cause, walk.after).await?;
            walk.after = ended.next;
            if ended.released > 0 {
                busy += 1;
                self.log_released(walk.cause.as_str(), ended.released);
                failpoint::hit("after_release");
            } else {
                idle += 1;
            }
            if ended.next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn log_released(&self, cause: &str, released: u64) {
        tracing::info!(cause, released, "held events go back to their worker");
        self.readiness.metrics.released.inc_by(released);
    }
}

/// Where the next look at the rows of a cause begins.
struct Walk {
    cause: HoldCause,
    after: Option<i64>,
}
