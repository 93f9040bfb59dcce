//! What waits for a budget, a repair or a circuit leaves as fast as the partner may be called, and no faster: as many
//! events at a time as the connection's account has permits for beyond those that are on their way.

use std::time::Duration;

use store::held::{LaneShares, Waiting, hold_for_suspension, release_paced, waiting_connections};
use store::{Error, Pool, QueuePrefix, budgets};
use tokio_util::sync::CancellationToken;
use worker::failpoint;

use crate::deps::Worker;
use crate::readiness::{Part, Readiness};

/// While something waits.
const ROUND: Duration = Duration::from_millis(250);

pub(crate) struct Pace<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) prefix: &'a QueuePrefix,
    pub(crate) workers: &'a [Worker],
    /// While nothing waits.
    pub(crate) every: Duration,
    pub(crate) readiness: &'a Readiness,
}

impl Pace<'_> {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        self.readiness
            .expect(Part::Pace, self.every * 2 + Duration::from_secs(60));
        let workers: Vec<String> = self
            .workers
            .iter()
            .map(|worker| worker.name.clone())
            .collect();
        let mut pause = ROUND;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
            pause = match self.round(&workers).await {
                Ok(waiting) => {
                    self.readiness.worked(Part::Pace);
                    if waiting { ROUND } else { self.every }
                }
                Err(error) => {
                    tracing::warn!(error = %error.with_causes(), "a round of paced releases ended early");
                    self.readiness.hindered(Part::Pace, error.to_string());
                    self.every
                }
            };
        }
    }

    /// Whether anything waits.
    async fn round(&self, workers: &[String]) -> Result<bool, Error> {
        let renamed = hold_for_suspension(self.pool).await?;
        if renamed > 0 {
            tracing::info!(
                events = renamed,
                "what waited for requests waits for its suspended connection now"
            );
        }
        let waiting = waiting_connections(self.pool, workers).await?;
        for connection in &waiting {
            self.let_go(connection).await?;
        }
        Ok(!waiting.is_empty())
    }

    async fn let_go(&self, waiting: &Waiting) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await.map_err(Error::from)?;
        let allowed =
            budgets::allowance(&mut transaction, &waiting.tenant, waiting.connection).await?;
        let rows = allowed.min(waiting.rows());
        if rows <= 0 {
            return Ok(());
        }
        let released = release_paced(
            &mut transaction,
            self.prefix,
            &waiting.worker,
            waiting.connection,
            LaneShares::default(),
            rows,
        )
        .await?;
        budgets::let_go(&mut transaction, waiting.connection, released).await?;
        failpoint::hit("before_release");
        transaction.commit().await.map_err(Error::from)?;
        if released > 0 {
            tracing::debug!(
                connection = %waiting.connection,
                cause = waiting.reasons.join(","),
                released,
                "held events go back to their worker"
            );
            self.readiness.metrics.released.inc_by(released);
            failpoint::hit("after_release");
        }
        Ok(())
    }
}
