//! From the dead-letter queues to the database: each batch is committed with its links in one transaction, then
//! acknowledged. Nothing is refused and nothing is given up: what the database cannot take now stays in its queue.
//! Killed before or after the commit, the batch comes again and changes nothing (docs/tests.md, crash window 13).

use std::sync::Arc;
use std::time::Duration;

use broker::RawDelivery;
use event::{Event, EventKind, SubjectVersion, TenantId};
use futures_util::future::join_all;
use store::Error;
use store::dead_letters::open_since;
use store::links::{DeadItem, Recorded};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use worker::trace::{self, Relation, spans};
use worker::{ConnectionAnswer, PinItem, PortError, failpoint};

use crate::copy::DeadCopy;
use crate::deps::{Deps, Worker};
use crate::failed;
use crate::readiness::{Part, Readiness};

pub(crate) struct Ledger {
    pub(crate) deps: Deps,
    pub(crate) readiness: Arc<Readiness>,
}

/// Nothing of the batch is decided; it comes again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the store does not answer")]
    Port(#[source] PortError),
    #[error("the dead letters could not be committed")]
    Store(#[source] Error),
}

/// Copies of one commit.
const PREFETCH: u16 = 200;
/// A batch is complete when nothing more came for this long.
const GATHER: Duration = Duration::from_millis(50);
/// How often it is looked whether the queues are read.
const LOOK: Duration = Duration::from_secs(10);
/// Looks that may fail in a row before the silence is a problem.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

impl Ledger {
    /// Until the shutdown; the batches in hand are finished.
    pub(crate) async fn run(self, workers: &[Worker], shutdown: CancellationToken) {
        self.readiness.expect(Part::DeadQueues, SILENCE);
        let ledger = Arc::new(self);
        let topology = ledger.deps.broker.topology();
        let reading = workers.iter().map(|worker| {
            let (queue, ledger, shutdown) = (
                topology.dead(&worker.name),
                ledger.clone(),
                shutdown.clone(),
            );
            async move {
                let broker = ledger.deps.broker.clone();
                let commit = |batch: Vec<RawDelivery>| {
                    let (ledger, worker) = (ledger.clone(), worker.clone());
                    async move { ledger.take(&worker, batch).await }
                };
                broker::run_batches(&broker, &queue, PREFETCH, GATHER, shutdown, commit).await;
            }
        });
        let watching = ledger.watch(workers, &shutdown);
        tokio::join!(join_all(reading), watching);
    }

    async fn take(&self, worker: &Worker, batch: Vec<RawDelivery>) -> Result<(), Refused> {
        let queue = self.deps.broker.topology().dead(&worker.name);
        let span = spans::record_dead_letters(&queue, batch.len());
        for raw in &batch {
            trace::join_headers(&span, &raw.headers, Relation::Link);
        }
        let seen_at = self.deps.pins.now();
        let copies = batch
            .into_iter()
            .map(|raw| DeadCopy { raw, seen_at })
            .collect();
        let committed = self.commit(worker, copies);
        let taken = committed.instrument(span.clone()).await;
        match &taken {
            Ok(()) => self.readiness.worked(Part::Ledger),
            Err(refused) => {
                spans::failed(&span, "not_committed");
                self.readiness.hindered(Part::Ledger, refused.to_string());
            }
        }
        taken
    }

    /// A queue that nobody reads looks like a quiet one from here.
    async fn watch(&self, workers: &[Worker], shutdown: &CancellationToken) {
        let topology = self.deps.broker.topology();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.cancelled() => return,
            }
            let mut obstacle = None;
            for worker in workers {
                let queue = topology.dead(&worker.name);
                match broker::depth(&self.deps.broker, &queue).await {
                    Ok(Some((_, consumers))) if consumers > 0 => {}
                    Ok(Some(_)) => obstacle = Some(format!("nobody reads {queue}")),
                    Ok(None) => {
                        obstacle = Some(format!(
                            "there is no queue {queue}; it is declared again soon"
                        ))
                    }
                    Err(error) => obstacle = Some(error.to_string()),
                }
            }
            match obstacle {
                None => self.readiness.worked(Part::DeadQueues),
                Some(obstacle) => self.readiness.hindered(Part::DeadQueues, obstacle),
            }
        }
    }

    /// One commit for the batch. Where a row of it cannot be stored as it is, each is stored alone, and that one
    /// without its link: a dead letter must never hold up the ones behind it.
    pub(crate) async fn commit(
        &self,
        worker: &Worker,
        copies: Vec<DeadCopy>,
    ) -> Result<(), Refused> {
        let count = copies.len();
        let events: Vec<Option<Event>> = copies.iter().map(DeadCopy::event).collect();
        let items = self
            .items(worker, &copies, &events)
            .await
            .map_err(Refused::Port)?;
        failpoint::hit("ledger_before_commit");
        let bare = match self.deps.links.record_dead_letters(items.clone()).await {
            Ok(verdicts) => {
                self.log(worker, &items, &verdicts);
                0
            }
            Err(error) if error.is_transient() => return Err(Refused::Store(error)),
            Err(_) => self.one_by_one(worker, items, copies).await?,
        };
        failpoint::hit("ledger_after_commit");
        self.readiness.metrics.recorded(count - bare, bare);
        Ok(())
    }

    /// How many could be stored only without their link.
    async fn one_by_one(
        &self,
        worker: &Worker,
        items: Vec<DeadItem>,
        copies: Vec<DeadCopy>,
    ) -> Result<usize, Refused> {
        let mut bare_ones = 0;
        for (item, copy) in items.into_iter().zip(copies) {
            match self
                .deps
                .links
                .record_dead_letters(vec![item.clone()])
                .await
            {
                Ok(verdicts) => self.log(worker, &[item], &verdicts),
                Err(error) if error.is_transient() => return Err(Refused::Store(error)),
                Err(error) => {
                    let why = error.with_causes();
                    tracing::error!(
                        worker = worker.name,
                        event.id = item.event_id,
                        error = why,
                        "a dead letter is stored without its link"
                    );
                    let bare = copy.bare_item(worker, &why);
                    self.deps
                        .links
                        .record_dead_letters(vec![bare])
                        .await
                        .map_err(Refused::Store)?;
                    bare_ones += 1;
                }
            }
        }
        Ok(bare_ones)
    }

    fn log(&self, worker: &Worker, items: &[DeadItem], verdicts: &[Recorded]) {
        for (item, verdict) in items.iter().zip(verdicts) {
            tracing::info!(
                worker = worker.name,
                dead.id = %item.dead_id,
                dead.class = item.class,
                event.id = item.event_id,
                verdict = ?verdict,
                "dead letter committed"
            );
            if *verdict == Recorded::Applied {
                self.readiness.metrics.overtaken.inc();
            }
        }
    }

    async fn items(
        &self,
        worker: &Worker,
        copies: &[DeadCopy],
        events: &[Option<Event>],
    ) -> Result<Vec<DeadItem>, PortError> {
        let versions = self.versions(copies, events).await?;
        let mut items = Vec::with_capacity(copies.len());
        for ((copy, event), version) in copies.iter().zip(events).zip(versions) {
            let mut connection = copy.raw.metadata.connection;
            if let (None, Some(event)) = (connection, event) {
                connection = self.connection(worker, event).await?;
            }
            let mut item = copy
                .clone()
                .item(worker, event.as_ref(), version.as_ref(), connection);
            // What only says of itself whose it is shows nobody a tenant that is not there.
            if let (None, Some(claimed)) = (event, &item.tenant)
                && !self.is_known(worker, claimed).await?
            {
                item.tenant = None;
            }
            if copy.may_be_a_repeat()
                && let Some(at) = open_since(&self.deps.pool, item.dead_id, item.generation).await?
            {
                item.at = at;
            }
            item.outcome = failed::outcome(&item, event.as_ref());
            items.push(item);
        }
        Ok(items)
    }

    /// The order keys' versions, the pinned ones where a publisher gave none.
    async fn versions(
        &self,
        copies: &[DeadCopy],
        events: &[Option<Event>],
    ) -> Result<Vec<Option<SubjectVersion>>, PortError> {
        let mut versions = Vec::with_capacity(events.len());
        let (mut pins, mut places) = (Vec::new(), Vec::new());
        for (place, (copy, event)) in copies.iter().zip(events).enumerate() {
            let state = event
                .as_ref()
                .filter(|event| matches!(event.kind(), EventKind::State { .. }));
            versions.push(
                state.and_then(|event| event.version.as_ref().map(|version| version.value.clone())),
            );
            if let Some(event) = state.filter(|event| event.version.is_none()) {
                places.push(place);
                pins.push(PinItem {
                    tenant: event.tenant.clone(),
                    source: event.source.clone(),
                    event_id: event.id.clone(),
                    received_at: copy.raw.metadata.first_received.unwrap_or(copy.seen_at),
                });
            }
        }
        if !pins.is_empty() {
            for (place, version) in places.into_iter().zip(self.deps.pins.pin(pins).await?) {
                versions[place] = Some(version);
            }
        }
        Ok(versions)
    }

    async fn is_known(&self, worker: &Worker, claimed: &str) -> Result<bool, PortError> {
        let Some(tenant) = TenantId::parse(claimed) else {
            return Ok(false);
        };
        let (connections, system) = (&self.deps.connections, &worker.target_system);
        let answer = match connections.cached(&tenant, system) {
            Some(answer) => answer,
            None => connections.resolve(&tenant, system).await?,
        };
        Ok(answer != ConnectionAnswer::UnknownTenant)
    }

    /// Of a copy that names none, because it died before its worker knew: the only one that it can have been for. Where the
    /// tenant has several it was for none of them yet, and a replay goes to all.
    async fn connection(
        &self,
        worker: &Worker,
        event: &Event,
    ) -> Result<Option<uuid::Uuid>, PortError> {
        let connections = &self.deps.connections;
        let answer = match connections.cached(&event.tenant, &worker.target_system) {
            Some(answer) => answer,
            None => {
                connections
                    .resolve(&event.tenant, &worker.target_system)
                    .await?
            }
        };
        Ok(match answer {
            ConnectionAnswer::Known(known) => match known.as_ref() {
                [only] => Some(only.id),
                _ => None,
            },
            ConnectionAnswer::NoConnection | ConnectionAnswer::UnknownTenant => None,
        })
    }
}
