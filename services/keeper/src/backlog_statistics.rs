//! Counts what waits in the database, four times a minute, for metrics. Costs at most a twentieth of one connection's time: a
//! count that takes long is repeated later.

use std::time::{Duration, Instant};

use chrono::Utc;
use store::{Pool, backlog_statistics};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Shortest pause between two counts.
const EVERY: Duration = Duration::from_secs(15);
/// The pause is at least this many times the last count.
const SHARE: u32 = 20;

pub(crate) struct Counting<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) metrics: &'a Metrics,
}

impl Counting<'_> {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            let began = Instant::now();
            match backlog_statistics::take(self.pool).await {
                Ok(backlog_statistics) => self.metrics.show(&backlog_statistics, Utc::now()),
                Err(error) => {
                    tracing::warn!(error = %error.with_causes(), "what waits in the database cannot be counted")
                }
            }
            tokio::select! {
                () = sleep(EVERY.max(began.elapsed() * SHARE)) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}
