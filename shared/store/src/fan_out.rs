//! An event that several links are to get, of several connections or facets, becomes one message for each of them, straight to its worker's own queue.
//!
//! All rows are written in one transaction, before the event is acknowledged: a crash in between fans it out once more, and
//! whoever gets a second copy finds the work done.

use std::collections::BTreeSet;
use std::sync::Arc;

use event::headers::{CONNECTION, DEAD_LETTER, FACET};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;
use worker::{CutCopy, FanOut, FanOutItem, PortError, failpoint};

use crate::outbox::{self, Message};
use crate::{Error, Pool, QueuePrefix};

/// Transactions of one process at a time: a burst for a tenant with several connections must leave room in the pool.
pub const AT_ONCE: usize = 4;

/// Implements `worker::FanOut`. Cheap to clone.
#[derive(Clone)]
pub struct OutboxFanOut {
    pool: Pool,
    prefix: QueuePrefix,
    turns: Arc<Semaphore>,
}

impl OutboxFanOut {
    pub fn new(pool: Pool, prefix: QueuePrefix) -> Self {
        Self {
            pool,
            prefix,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    async fn write(&self, item: &FanOutItem) -> Result<(), Error> {
        let _turn = self.turns.acquire().await;
        let mut transaction = self.pool.begin().await?;
        let copies: Vec<Message> = item
            .copies
            .iter()
            .map(|copy| self.copy(item, *copy))
            .collect();
        outbox::enqueue(&mut transaction, &copies).await?;
        if let Some(dead_letter) = dead_letter(item) {
            // From here on each copy is on its own: one that dies again is a dead letter of its connection and facet.
            sqlx::query(
                "update dead_letter set state = 'resolved', resolved_by = 'kurir', resolved_at = kurir_now(),
                   row_version = row_version + 1, note = 'fanned out into one copy for each of ' || $4
                 where id = $1 and tenant = $2 and state = 'replaying' and generation = $3",
            )
            .bind(dead_letter)
            .bind(item.job.event.tenant.as_str())
            .bind(i64::from(item.job.generation()))
            .bind(for_each(item))
            .execute(&mut *transaction)
            .await?;
        }
        failpoint::hit_for("fan_out_before_commit", &item.job.event.id);
        transaction.commit().await?;
        Ok(())
    }

    /// Without the counters of the way that ends here: they are not among a delivery's headers.
    fn copy(&self, item: &FanOutItem, copy: CutCopy) -> Message {
        let delivery = &item.job.delivery;
        let mut headers = delivery.headers.clone();
        if let Value::Object(headers) = &mut headers {
            headers.remove(DEAD_LETTER);
            headers.insert(CONNECTION.to_owned(), json!(copy.connection));
            if let Some(facet) = copy.facet {
                headers.insert(FACET.to_owned(), json!(facet));
            }
        }
        Message {
            tenant: Some(item.job.event.tenant.clone()),
            exchange: String::new(),
            routing_key: self.prefix.worker_queue(item.worker),
            body: delivery.body.clone(),
            properties: delivery.properties.clone(),
            headers,
            dedup_key: None,
        }
    }
}

/// What the copies differ in, for people.
fn for_each(item: &FanOutItem) -> String {
    let counted = |number: usize, what: &str| (number > 1).then(|| format!("{number} {what}"));
    let connections: BTreeSet<Uuid> = item.copies.iter().map(|copy| copy.connection).collect();
    let facets: BTreeSet<_> = item.copies.iter().map(|copy| copy.facet).collect();
    let both = [
        counted(connections.len(), "connections"),
        counted(facets.len(), "facets"),
    ];
    both.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// The dead letter that this is a replay of.
fn dead_letter(item: &FanOutItem) -> Option<Uuid> {
    item.job
        .delivery
        .headers
        .get(DEAD_LETTER)?
        .as_str()?
        .parse()
        .ok()
}

impl FanOut for OutboxFanOut {
    fn fan_out(&self, item: FanOutItem) -> BoxFuture<'_, Result<(), PortError>> {
        Box::pin(async move { Ok(self.write(&item).await?) })
    }
}
