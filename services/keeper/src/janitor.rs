//! Each minute: asks workers to look at links that no event comes back for, and removes rows that have served their
//! time. Replicas share the work by the notes that `store::janitor` keeps.

use std::time::Duration;

use broker::Properties;
use event::{Draft, EventType, SyncRequested, SyncWhat, TenantId, compose, derived_id};
use store::janitor::{Due, take_due};
use store::outbox::{Message, enqueue};
use store::{Error, Pool, QueuePrefix, pruning};
use tokio_util::sync::CancellationToken;

use crate::deps::Worker;
use crate::readiness::{Part, Readiness};

/// Requests of one transaction.
const BATCH: i64 = 200;
/// Transactions and pruning steps of one round; what is left waits for the next one.
const STEPS: usize = 50;
/// What the source of its requests names.
const ACCOUNT: &str = "keeper";

pub(crate) struct Janitor<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) prefix: &'a QueuePrefix,
    pub(crate) workers: &'a [Worker],
    pub(crate) every: Duration,
    pub(crate) readiness: &'a Readiness,
}

impl Janitor<'_> {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        self.readiness
            .expect(Part::Janitor, self.every * 2 + Duration::from_secs(60));
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            match self.round().await {
                Ok(()) => self.readiness.worked(Part::Janitor),
                Err(error) => {
                    tracing::warn!(error = %error.with_causes(), "the janitor's round ended early");
                    self.readiness.hindered(Part::Janitor, error.to_string());
                }
            }
        }
    }

    async fn round(&self) -> Result<(), Error> {
        for _ in 0..STEPS {
            if self.ask().await? < BATCH as usize {
                break;
            }
        }
        for _ in 0..STEPS {
            let removed =
                pruning::prune_pins(self.pool).await? + pruning::prune_requests(self.pool).await?;
            self.readiness.metrics.pruned.inc_by(removed);
            if removed < pruning::STEP as u64 {
                break;
            }
        }
        Ok(())
    }

    /// Writes one batch of requests; how many links it took on.
    async fn ask(&self) -> Result<usize, Error> {
        let mut transaction = self.pool.begin().await.map_err(Error::from)?;
        let due = take_due(&mut transaction, BATCH).await?;
        let requests: Vec<Message> = due.iter().filter_map(|due| self.request(due)).collect();
        enqueue(&mut transaction, &requests).await?;
        transaction.commit().await.map_err(Error::from)?;
        self.readiness
            .metrics
            .requested
            .inc_by(requests.len() as u64);
        Ok(due.len())
    }

    /// The same link, reason and due time always make the same event, byte for byte.
    fn request(&self, due: &Due) -> Option<Message> {
        let Some(worker) = self.workers.iter().find(|worker| worker.name == due.worker) else {
            tracing::warn!(
                link = due.link,
                worker = due.worker,
                "this build has no such worker: nobody looks after the link"
            );
            return None;
        };
        let tenant = TenantId::parse(&due.tenant)?;
        let what = match due.what.as_str() {
            "resolve" => SyncWhat::Resolve,
            _ => SyncWhat::Recheck,
        };
        let moment = due.due.timestamp_micros().to_string();
        let id = derived_id(&["sync.requested", &due.link.to_string(), &due.what, &moment]);
        let body = compose(Draft {
            id,
            tenant: tenant.clone(),
            account: ACCOUNT.to_owned(),
            time: due.due,
            event_type: EventType::SyncRequested,
            payload: event::Payload::from(SyncRequested {
                worker: worker.name.clone(),
                link: due.link,
                what,
            }),
            cause: None,
        });
        let properties = Properties::of_event(&id.to_string(), EventType::SyncRequested.as_str());
        Some(Message {
            tenant: Some(tenant),
            exchange: String::new(),
            routing_key: self.prefix.worker_queue(&worker.name),
            body: body.into(),
            properties: properties.properties_json(),
            headers: properties.headers_json(),
            dedup_key: Some(format!("{}:{id}", EventType::SyncRequested)),
        })
    }
}
