//! Tells people once what they must know, whoever of the replicas noticed it: as a warning in the log, until other ways
//! out exist. A keeper that dies between the line and the commit says it again.

use std::time::Duration;

use store::{Error, Pool, notifications};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Notifications of one transaction.
const BATCH: i64 = 100;
/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) struct Notices<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) metrics: &'a Metrics,
}

impl Notices<'_> {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            if let Err(error) = self.log().await {
                tracing::warn!(error = %error.with_causes(), "notifications cannot be read");
            }
        }
    }

    async fn log(&self) -> Result<(), Error> {
        let mut transaction = self.pool.begin().await.map_err(Error::from)?;
        let mut told = 0;
        for one in notifications::take_unsent(&mut transaction, BATCH).await? {
            tracing::warn!(
                tenant.id = one.tenant,
                system = one.system.as_deref().unwrap_or_default(),
                connection.id = one.connection_id.map(tracing::field::display),
                reason = one.text,
                "connection suspended"
            );
            told += 1;
        }
        transaction.commit().await.map_err(Error::from)?;
        self.metrics.suspensions.inc_by(told);
        Ok(())
    }
}
