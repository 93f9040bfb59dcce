//! What the tasks of one worker share.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use worker::{Budgets, Claims, Connections, FanOut, Handler, Job, Pins, Release, decide};

use crate::connection::Broker;
use crate::counters::Counters;
use crate::exclusive_run::ExclusiveRun;
use crate::hold::Holder;
use crate::lease::{Lease, Leases};
use crate::publish::Publisher;
use crate::schemes::Schemes;
use crate::topology::Topology;

/// For giving a lease back while stopping, and for each orderly goodbye to the broker.
pub(crate) const GOODBYE: Duration = Duration::from_secs(5);

pub(crate) struct Shared<H: Handler, C: Claims<Grant = H::Grant>> {
    pub(crate) handler: Arc<H>,
    pub(crate) claims: Arc<C>,
    pub(crate) pins: Arc<dyn Pins>,
    pub(crate) connections: Arc<dyn Connections>,
    pub(crate) budgets: Option<Arc<dyn Budgets>>,
    /// For what must be declared again.
    pub(crate) broker: Broker,
    pub(crate) publisher: Publisher,
    pub(crate) holder: Holder,
    pub(crate) fan_out: Arc<dyn FanOut>,
    pub(crate) exclusive_run: ExclusiveRun,
    pub(crate) leases: Arc<Leases>,
    pub(crate) schemes: Schemes,
    pub(crate) topology: Topology,
    pub(crate) events_exchange: String,
    /// The worker's own.
    pub(crate) queue: String,
    pub(crate) link_of: fn(&H::Grant) -> Option<i64>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) slot_freed: Arc<Notify>,
    /// Nothing new begins.
    pub(crate) draining: CancellationToken,
    /// What still runs is dropped.
    pub(crate) aborting: CancellationToken,
}

impl<H: Handler, C: Claims<Grant = H::Grant>> Shared<H, C> {
    /// The store's clock: what is compared with it was written by it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.pins.now()
    }

    pub(crate) fn context<'a>(&'a self, job: &'a Job) -> decide::Context<'a> {
        decide::Context::of(job, self.handler.policy(), self.now(), rand::random())
    }

    /// Gives a lease back without an outcome: it is no death, and nobody has to wait for its end.
    pub(crate) async fn abandon(&self, lease: Lease, event_id: &str, why: &str) {
        let release = Release {
            token: lease.token,
            link: lease.link,
            last_error: Some(why.to_owned()),
        };
        if let Ok(Err(error)) = timeout(GOODBYE, self.claims.release(vec![release])).await {
            tracing::warn!(event.id = event_id, handler = self.handler.name(), %error, "a lease could not be given back; it expires");
        }
        self.leases.remove(lease.token);
    }
}
