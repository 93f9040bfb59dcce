//! The consumer loop: deliveries come in, pass the gate, are claimed, handled and settled.
//!
//! This is the first file of an event's way: receive (here) → `event/decode.rs` (parse, derive) → `worker/gate.rs` (may it
//! go now?) → `sync/next.rs` with `sync/drive.rs` (claim, resolve, compare, act, complete) and the capability's own
//! mapping → `worker/decide.rs` (what now?) → `broker/settle.rs` (copy, hold, ack). It hands on a `Job`: the decoded
//! event with its trail, connection, version and a new token.
//!
//! The task that selects never waits for a database or a partner; whatever waits is a task of its own and reports
//! back. Deliveries pass the gate before they take a slot, so the prefetch is how far a worker looks past a tenant in
//! trouble, and the bound of everything that is kept here. When the channel goes, everything of it that was not
//! handled is dropped: the broker has it back. Handlers go on, because their work is real; they just can't acknowledge.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use worker::{
    Budgets, CLAIM_BATCH_LIMIT, Claims, Connections, Cuts, Handler, Holds, Job, Pins, Release,
    decide, failpoint,
};

use crate::acks::{Acks, Writing};
use crate::admit::Waiting;
use crate::alone::Alone;
use crate::claim::Claimed;
use crate::connection::Broker;
use crate::counters::Counters;
use crate::error::Error;
use crate::hold::Holder;
use crate::intake::{Read, Reader, Work, read};
use crate::lease::{Leases, renew};
use crate::pauses::Pauses;
use crate::prepare::{Passed, Schemes};
use crate::publish::Publisher;
use crate::readiness::Readiness;
use crate::receipt::Receipt;
use crate::settle::{Lease, Settling};
use crate::topology::Topology;

/// For giving a lease back while stopping, and for each orderly goodbye to the broker.
pub(crate) const GOODBYE: Duration = Duration::from_secs(5);
/// A quorum queue's channel holds back the acknowledgements of a burst, and forgets them when it is closed at once: what
/// was done would come again.
const SETTLED: Duration = Duration::from_millis(200);
/// Longest pause while the store does not answer.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// A declaration or a consume that is not answered in this time counts as a lost channel.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// The loop turns at least this often, for readiness.
const TURN: Duration = Duration::from_secs(1);
/// A consumer that lived this long starts the pauses from the shortest again.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumeSettings {
    /// Handlers at a time.
    pub slots: usize,
    /// Deliveries kept unacknowledged; at least four per slot.
    pub prefetch: u16,
    /// How long a claim holds; renewed three times in it.
    pub lease: Duration,
}

impl Default for ConsumeSettings {
    fn default() -> Self {
        Self {
            slots: 16,
            prefetch: 128,
            lease: Duration::from_secs(30),
        }
    }
}

/// Everything that one worker consists of.
pub struct Worker<H: Handler, C: Claims<Grant = H::Grant>> {
    pub handler: Arc<H>,
    pub claims: Arc<C>,
    pub holds: Arc<dyn Holds>,
    pub cuts: Arc<dyn Cuts>,
    pub pins: Arc<dyn Pins>,
    pub connections: Arc<dyn Connections>,
    /// Absent for a worker that calls no partner.
    pub budgets: Option<Arc<dyn Budgets>>,
    pub broker: Broker,
    /// For the copies; a confirm channel of its own.
    pub publisher: Publisher,
    pub settings: ConsumeSettings,
    /// One per process, shared by its workers.
    pub alone: Alone,
    /// The link of a grant, so that a dead letter names it.
    pub link_of: fn(&H::Grant) -> Option<i64>,
    pub counters: Arc<Counters>,
    pub readiness: Arc<Readiness>,
}

/// What the tasks of one worker share.
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
    pub(crate) cuts: Arc<dyn Cuts>,
    pub(crate) alone: Alone,
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

/// What a task reports to the loop.
pub(crate) enum Report<G> {
    /// With those that the store could not answer for.
    Prepared(Vec<Passed>, Vec<Work>),
    PrepareNext,
    Claimed(Vec<Claimed<G>>),
    ClaimNext,
    /// To be handled as if just received.
    Again(Work),
}

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

pub(crate) struct Consuming<H: Handler, C: Claims<Grant = H::Grant>> {
    pub(crate) shared: Arc<Shared<H, C>>,
    broker: Broker,
    settings: ConsumeSettings,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) tasks: TaskTracker,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) slots_in_all: usize,
    pub(crate) reports: mpsc::Receiver<Report<H::Grant>>,
    pub(crate) report: mpsc::Sender<Report<H::Grant>>,
    /// Waiting for the store's answers before the gate.
    pub(crate) unprepared: Vec<Work>,
    /// Through the rest of the gate, waiting for permits.
    pub(crate) waiting: Waiting,
    /// Through the gate, waiting for a claim.
    pub(crate) unclaimed: VecDeque<Work>,
    /// Claimed, waiting for a slot.
    pub(crate) granted: VecDeque<(Work, H::Grant, Lease)>,
    pub(crate) preparing: bool,
    pub(crate) claiming: bool,
    /// Grow while the store does not answer.
    pub(crate) prepare_pauses: Pauses,
    pub(crate) claim_pauses: Pauses,
}

pub(crate) struct Open {
    pub(crate) channel: lapin::Channel,
    pub(crate) consumer: lapin::Consumer,
    /// Cancelled when this channel is over.
    pub(crate) over: CancellationToken,
    acks: Acks,
    writing: Writing,
}

impl Open {
    /// What was settled is acknowledged, then the channel is closed in order. `false`: not within the limit.
    pub(crate) async fn close(self, why: &str) -> bool {
        drop(self.acks);
        let written = self.writing.ends_within(GOODBYE).await;
        sleep(SETTLED).await;
        let close = self.channel.close(200, why.into());
        let closed = matches!(timeout(GOODBYE, close).await, Ok(Ok(())));
        self.over.cancel();
        written && closed
    }
}

impl<H: Handler, C: Claims<Grant = H::Grant>> Consuming<H, C> {
    fn new(worker: Worker<H, C>) -> Self {
        // Each delivery is in one report at most, so a full channel means a loop that does not turn.
        let (report, reports) = mpsc::channel(usize::from(worker.settings.prefetch).max(1) * 2);
        worker
            .counters
            .slots
            .set(i64::try_from(worker.settings.slots.max(1)).unwrap_or(i64::MAX));
        let queue = worker.broker.topology().queue(worker.handler.name());
        let shared = Shared {
            holder: Holder::start(worker.holds, Arc::clone(&worker.counters)),
            cuts: worker.cuts,
            handler: worker.handler,
            claims: worker.claims,
            pins: worker.pins,
            connections: worker.connections,
            budgets: worker.budgets,
            broker: worker.broker.clone(),
            publisher: worker.publisher,
            alone: worker.alone,
            leases: Arc::default(),
            schemes: Schemes::default(),
            topology: worker.broker.topology(),
            events_exchange: worker.broker.topology().events(),
            queue,
            link_of: worker.link_of,
            counters: worker.counters,
            slot_freed: Arc::default(),
            draining: CancellationToken::new(),
            aborting: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
            broker: worker.broker,
            settings: worker.settings,
            readiness: worker.readiness,
            tasks: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(worker.settings.slots.max(1))),
            slots_in_all: worker.settings.slots.max(1),
            reports,
            report,
            unprepared: Vec::new(),
            waiting: Waiting::default(),
            unclaimed: VecDeque::new(),
            granted: VecDeque::new(),
            preparing: false,
            claiming: false,
            prepare_pauses: Pauses::up_to(STORE_PAUSE),
            claim_pauses: Pauses::up_to(STORE_PAUSE),
        }
    }

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
        let receipt = Receipt::new(
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
        match read(delivery, receipt, reader, shared.now()) {
            Read::Event(work) => {
                failpoint::hit_for("after_receive", work.event_id());
                self.enter(work);
            }
            Read::Refused(subject, outcome) => {
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

/// Declares, then consumes. `None` once the broker was closed.
async fn open<H, C>(
    shared: Arc<Shared<H, C>>,
    broker: Broker,
    settings: ConsumeSettings,
    readiness: Arc<Readiness>,
) -> Result<Option<Open>, Error>
where
    H: Handler,
    C: Claims<Grant = H::Grant>,
{
    let Some(session) = broker.session().await else {
        return Ok(None);
    };
    let name = shared.handler.name();
    let opening = async {
        let channel = session.connection.create_channel().await?;
        shared
            .topology
            .declare_worker_on(&channel, name, shared.handler.consumes())
            .await?;
        channel
            .basic_qos(settings.prefetch.max(1), BasicQosOptions::default())
            .await?;
        let (queue, tag) = (
            shared.topology.queue(name),
            format!("{name}-{}", Uuid::new_v4().simple()),
        );
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(
                queue.as_str().into(),
                tag.as_str().into(),
                options,
                FieldTable::default(),
            )
            .await?;
        let over = session.over.child_token();
        let (acks, writing) = Acks::start(
            settings.prefetch,
            over.clone(),
            Arc::clone(&shared.counters),
            readiness,
        );
        Ok(Some(Open {
            channel,
            consumer,
            over,
            acks,
            writing,
        }))
    };
    timeout(OPEN_LIMIT, opening)
        .await
        .unwrap_or(Err(Error::TimedOut(OPEN_LIMIT.as_secs())))
}
