//! What a worker is made of, and what its loop keeps of the deliveries under way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use worker::{Budgets, Claims, Connections, FanOut, Handler, Holds, Pins};

use crate::claim::Claimed;
use crate::connection::Broker;
use crate::counters::Counters;
use crate::exclusive_run::ExclusiveRun;
use crate::hold::Holder;
use crate::lease::Lease;
use crate::parse::InFlight;
use crate::pauses::Pauses;
use crate::prepare::Passed;
use crate::publish::Publisher;
use crate::readiness::Readiness;
use crate::schemes::Schemes;
use crate::shared::Shared;
use crate::waiting::Waiting;

/// Longest pause while the store does not answer.
const STORE_PAUSE: Duration = Duration::from_secs(5);

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
    pub fan_out: Arc<dyn FanOut>,
    pub pins: Arc<dyn Pins>,
    pub connections: Arc<dyn Connections>,
    /// Absent for a worker that calls no partner.
    pub budgets: Option<Arc<dyn Budgets>>,
    pub broker: Broker,
    /// For the copies; a confirm channel of its own.
    pub publisher: Publisher,
    pub settings: ConsumeSettings,
    /// One per process, shared by its workers.
    pub exclusive_run: ExclusiveRun,
    /// The link of a grant, so that a dead letter names it.
    pub link_of: fn(&H::Grant) -> Option<i64>,
    pub counters: Arc<Counters>,
    pub readiness: Arc<Readiness>,
}

/// What a task reports to the loop.
pub(crate) enum Report<G> {
    /// With those that the store could not answer for.
    Prepared(Vec<Passed>, Vec<InFlight>),
    PrepareNext,
    Claimed(Vec<Claimed<G>>),
    ClaimNext,
    /// To be handled as if just received.
    Again(InFlight),
}

/// The loop's own: only the task that selects touches it.
pub(crate) struct Consuming<H: Handler, C: Claims<Grant = H::Grant>> {
    pub(crate) shared: Arc<Shared<H, C>>,
    pub(crate) broker: Broker,
    pub(crate) settings: ConsumeSettings,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) tasks: TaskTracker,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) slots_in_all: usize,
    pub(crate) reports: mpsc::Receiver<Report<H::Grant>>,
    pub(crate) report: mpsc::Sender<Report<H::Grant>>,
    /// Waiting for the store's answers before the gate.
    pub(crate) unprepared: Vec<InFlight>,
    /// Through the rest of the gate, waiting for permits.
    pub(crate) waiting: Waiting,
    /// Through the gate, waiting for a claim.
    pub(crate) unclaimed: VecDeque<InFlight>,
    /// Claimed, waiting for a slot.
    pub(crate) granted: VecDeque<(InFlight, H::Grant, Lease)>,
    pub(crate) preparing: bool,
    pub(crate) claiming: bool,
    /// Grow while the store does not answer.
    pub(crate) prepare_pauses: Pauses,
    pub(crate) claim_pauses: Pauses,
}

impl<H: Handler, C: Claims<Grant = H::Grant>> Consuming<H, C> {
    pub(crate) fn new(worker: Worker<H, C>) -> Self {
        // Each delivery is in one report at most, so a full channel means a loop that does not turn.
        let (report, reports) = mpsc::channel(usize::from(worker.settings.prefetch).max(1) * 2);
        worker
            .counters
            .slots
            .set(i64::try_from(worker.settings.slots.max(1)).unwrap_or(i64::MAX));
        let queue = worker.broker.topology().queue(worker.handler.name());
        let shared = Shared {
            holder: Holder::start(worker.holds, Arc::clone(&worker.counters)),
            fan_out: worker.fan_out,
            handler: worker.handler,
            claims: worker.claims,
            pins: worker.pins,
            connections: worker.connections,
            budgets: worker.budgets,
            broker: worker.broker.clone(),
            publisher: worker.publisher,
            exclusive_run: worker.exclusive_run,
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
}
