//! The consumer loop: deliveries come in, pass the gate, are claimed, handled and settled.
//!
//! This is the first file of an event's way: receive (here) → `event/decode.rs` (parse, derive) → `worker/gate.rs` (may it
//! go now?) → `sync/next.rs` with `sync/drive.rs` (claim, resolve, compare, act, complete) and the capability's own
//! mapping → `worker/decide.rs` (what now?) → `broker/settle.rs` (copy, hold, ack). It hands on a `Job`: the decoded
//! event with its delivery metadata, connection, version and a new token.
//!
//! The task that selects never waits for a database or a partner; whatever waits is a task of its own and reports
//! back. Deliveries pass the gate before they take a slot, so the prefetch is how far a worker looks past a tenant in
//! trouble, and the bound of everything that is kept here. When the channel goes, everything of it that was not
//! handled is dropped: the broker has it back. Handlers go on, because their work is real; they just can't acknowledge.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use worker::{CLAIM_BATCH_LIMIT, Claims, Handler, failpoint};

use crate::ack_handle::AckHandle;
use crate::consuming::{Consuming, Worker};
use crate::error::Error;
use crate::lease::renew;
use crate::open::{Open, open};
use crate::parse::{Parsed, Reader, parse};
use crate::pauses::Pauses;
use crate::settle::Settling;

/// The loop turns at least this often, for readiness.
const TURN: Duration = Duration::from_secs(1);
/// A consumer that lived this long starts the pauses from the shortest again.
const STEADY: Duration = Duration::from_secs(10);

/// Why a channel's life ended.
enum End {
    Lost(String),
    Shutdown,
}

/// Consumes until `shutdown`, through every loss of channel, connection or queue. Returns after the drain: what was
/// done is acknowledged, what was not stays with the broker. Errs only where the topology is another one (exit 78).
pub async fn run<H, C>(worker: Worker<H, C>, shutdown: CancellationToken) -> Result<(), Error>
where
    H: Handler,
    C: Claims<Grant = H::Grant>,
{
    let lease = worker.settings.lease;
    let mut consuming = Consuming::new(worker);
    let ended = CancellationToken::new();
    let shared = &consuming.shared;
    tokio::spawn(renew(
        Arc::clone(&shared.leases),
        Arc::clone(&shared.claims),
        shared.handler.name(),
        lease,
        ended.clone(),
    ));
    let result = consuming.run(&shutdown).await;
    ended.cancel();
    result
}

impl<H: Handler, C: Claims<Grant = H::Grant>> Consuming<H, C> {
    async fn run(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut pauses = Pauses::default();
        loop {
            let opening = open(
                Arc::clone(&self.shared),
                self.broker.clone(),
                self.settings,
                Arc::clone(&self.readiness),
            );
            let Some(opened) = self.meanwhile(opening, shutdown).await else {
                return self.drain(None).await;
            };
            let since = Instant::now();
            let lost = match opened {
                Ok(Some(mut open)) => match self.consume(&mut open, shutdown).await {
                    End::Shutdown => return self.drain(Some(open)).await,
                    End::Lost(reason) => {
                        self.forget(open).await;
                        reason
                    }
                },
                Ok(None) => return self.drain(None).await,
                Err(mismatch @ Error::Topology(_)) => {
                    self.drain(None).await?;
                    return Err(mismatch);
                }
                Err(error) => error.to_string(),
            };
            tracing::warn!(
                handler = self.shared.handler.name(),
                reason = lost,
                "the consumer is opened again"
            );
            if since.elapsed() >= STEADY {
                pauses.reset();
            }
            if self
                .meanwhile(sleep(pauses.next()), shutdown)
                .await
                .is_none()
            {
                return self.drain(None).await;
            }
        }
    }

    /// While there is no channel, the reports of what still runs are taken. `None`: shutdown.
    async fn meanwhile<T>(
        &mut self,
        until: impl Future<Output = T>,
        shutdown: &CancellationToken,
    ) -> Option<T> {
        tokio::pin!(until);
        loop {
            let connected = self.broker.status().borrow().consume.connected();
            self.readiness.set_connected(connected);
            self.readiness.turned();
            tokio::select! {
                done = &mut until => return Some(done),
                Some(report) = self.reports.recv() => self.take(report),
                () = sleep(TURN) => {}
                () = shutdown.cancelled() => return None,
            }
        }
    }

    async fn consume(&mut self, open: &mut Open, shutdown: &CancellationToken) -> End {
        let queue = self.shared.topology.queue(self.shared.handler.name());
        self.shared.counters.consumers_opened.inc();
        self.readiness.set_connected(true);
        self.readiness.set_consuming(true);
        self.shared.counters.consuming.set(1);
        self.broker.set_consumer(&queue, true);
        tracing::info!(handler = self.shared.handler.name(), queue, "consuming");
        let mut turn = interval(TURN);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let slot_freed = Arc::clone(&self.shared.slot_freed);
        let mut moved = self.shared.budgets.as_ref().map(|budgets| budgets.moved());
        let end = loop {
            self.pump();
            self.readiness.turned();
            tokio::select! {
                delivery = open.consumer.next() => if let Err(lost) = self.receive_all(delivery, open) {
                    break End::Lost(lost);
                },
                Some(report) = self.reports.recv() => self.take(report),
                () = slot_freed.notified() => {}
                () = permits_moved(&mut moved) => {}
                () = until(self.waiting.next()) => {}
                _ = turn.tick() => self.count_waiting(),
                () = open.over.cancelled() => break End::Lost("the channel is over".to_owned()),
                () = shutdown.cancelled() => break End::Shutdown,
            }
        };
        self.readiness.set_consuming(false);
        self.shared.counters.consuming.set(0);
        self.broker.set_consumer(&queue, false);
        end
    }

    /// What has come already goes in together, so that a backlog is claimed in full batches. Nothing is waited for.
    fn receive_all(
        &mut self,
        mut next: Option<lapin::Result<lapin::message::Delivery>>,
        open: &mut Open,
    ) -> Result<(), String> {
        for round in 1.. {
            match next {
                Some(Ok(delivery)) => self.receive(delivery, open),
                Some(Err(error)) => return Err(error.to_string()),
                None => {
                    return Err("the broker ended the consumer; was the queue deleted?".to_owned());
                }
            }
            if round == CLAIM_BATCH_LIMIT {
                break;
            }
            let Some(waiting) = open.consumer.next().now_or_never() else {
                break;
            };
            next = waiting;
        }
        Ok(())
    }

    fn receive(&mut self, delivery: lapin::message::Delivery, open: &Open) {
        let shared = Arc::clone(&self.shared);
        shared.counters.received.inc();
        if delivery.redelivered {
            shared.counters.redelivered.inc();
        }
        let ack_handle = AckHandle::new(
            delivery.delivery_tag,
            delivery.acker.clone(),
            open.acks.clone(),
            open.over.clone(),
            Arc::clone(&self.readiness),
        );
        let reader = Reader {
            events_exchange: &shared.events_exchange,
            consumes: shared.handler.consumes(),
        };
        match parse(delivery, ack_handle, reader, shared.now()) {
            Parsed::Event(in_flight) => {
                failpoint::hit_for("after_receive", in_flight.event_id());
                self.enter(in_flight);
            }
            Parsed::Refused(subject, outcome) => {
                failpoint::hit_for("after_receive", subject.event_id());
                self.settle(Settling {
                    subject,
                    outcome,
                    lease: None,
                    link: None,
                });
            }
        }
    }
}

/// Never without budgets.
async fn permits_moved(moved: &mut Option<watch::Receiver<u64>>) {
    let ended = match moved {
        Some(moved) => moved.changed().await.is_err(),
        None => true,
    };
    if ended {
        std::future::pending::<()>().await;
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
