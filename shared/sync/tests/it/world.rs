//! Processes, queues and a partner on one virtual clock. Tasks run the real driver and the real decision; between two
//! of their steps anything may happen. The scheduler (random or by hand) says who goes next.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use event::{OrderKey, SubjectVersion};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use store::links::{
    ClaimItem, ClaimVerdict, Completed, Completion, DeadItem, Finish, Finished, HeldItem,
    HeldVerdict, LinkKey,
};
use store::links::{Reservation, Reserved, Resolution, Resolved, dead_id};
use sync::{
    Answer, Call, Clock, Content, Driver, Grant, Intent, Ledger, LookError, NaturalKey, Operation,
    Part, Record, SendError, Settings, Target, Work,
};
use uuid::Uuid;
use worker::decide::{Context, busy, decide, wait};
use worker::{DeadClass, DeliveryMetadata, Failure, HoldCause, Outcome, RetryPolicy, WaitCause};

use crate::partner::{Fault, LAG, LONGEST, Partner, SETTLE, Sent, parts_in_create};
use crate::sim_store::{SimStore, WORKER};

pub(crate) const TENANT: &str = "acme";
pub(crate) const SOURCE: &str = "urn:kurir:acme:crm:default";
pub(crate) const CONNECTION: Uuid = Uuid::from_u128(7);
/// The broker gives up after this many returns.
pub(crate) const DELIVERY_LIMIT: u32 = 12;
pub(crate) const SLOTS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    AtClaim,
    BeforeCall,
    AtAnswer,
}

#[derive(Clone, Debug)]
pub(crate) struct SimEvent {
    pub(crate) id: String,
    pub(crate) record: usize,
    /// Seconds of its version; absent: pinned at the first receipt.
    pub(crate) version: Option<u64>,
    pub(crate) tombstone: bool,
    pub(crate) content: Content,
    pub(crate) poison: Option<Poison>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Event { index: usize, generation: u32 },
    Request { link: i64, what: &'static str },
}

#[derive(Clone, Debug)]
pub(crate) struct Msg {
    pub(crate) what: What,
    pub(crate) attempt: u32,
    waits: u32,
    due: Option<DateTime<Utc>>,
    first: Option<DateTime<Utc>>,
    returns: u32,
}

impl Msg {
    pub(crate) fn new(what: What) -> Self {
        Self {
            what,
            attempt: 1,
            waits: 0,
            due: None,
            first: None,
            returns: 0,
        }
    }
}

struct DeadCopy {
    msg: Msg,
    class: String,
    at: DateTime<Utc>,
}

pub(crate) struct Process {
    pub(crate) frozen_until: Option<DateTime<Utc>>,
    /// The broker takes its deliveries back then.
    lost_at: Option<DateTime<Utc>>,
    renewals_fail_until: Option<DateTime<Utc>>,
    alone: Option<u64>,
}

pub(crate) struct State {
    pub(crate) now: DateTime<Utc>,
    pub(crate) events: Vec<SimEvent>,
    pins: BTreeMap<usize, u64>,
    pub(crate) queue: Vec<Msg>,
    unacked: BTreeMap<u64, (Msg, usize)>,
    pub(crate) retry_tiers: Vec<(DateTime<Utc>, Msg)>,
    dead: Vec<DeadCopy>,
    pub(crate) partner: Partner,
    pub(crate) processes: Vec<Process>,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) look_faults: u32,
    pub(crate) kills: BTreeMap<String, u32>,
    pub(crate) acks: Vec<(String, String)>,
    /// What was decided about each delivery, in order.
    pub(crate) outcomes: Vec<(String, String)>,
    /// Every look at the partner is refused for this cause.
    pub(crate) withheld: Option<HoldCause>,
    pub(crate) log: Vec<String>,
    next_delivery: u64,
    next_uuid: u128,
    rng: u64,
}

impl State {
    fn uuid(&mut self) -> Uuid {
        self.next_uuid += 1;
        Uuid::from_u128(0xabc0_0000_0000_0000_0000_0000_0000_0000 + self.next_uuid)
    }

    /// splitmix64: reproducible from the seed, and no two draws depend on the order of the tasks' polls.
    pub(crate) fn draw(&mut self, below: u64) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.rng;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    fn note(&mut self, line: String) {
        let at = (self.now - epoch()).num_seconds();
        self.log.push(format!("{at:>6} s  {line}"));
    }

    pub(crate) fn key(&self, index: usize, generation: u32) -> Option<OrderKey> {
        let event = &self.events[index];
        let seconds = event.version.or_else(|| self.pins.get(&index).copied())?;
        let version =
            SubjectVersion::from_micros(i64::try_from(seconds).expect("small") * 1_000_000);
        Some(OrderKey::new(
            &version,
            event.tombstone,
            &event.id,
            generation,
        ))
    }
}

pub(crate) fn epoch() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).expect("a valid instant")
}

pub(crate) fn epoch_seconds() -> u64 {
    u64::try_from(epoch().timestamp()).expect("after 1970")
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().expect("one thread")
}

/// How a task tells the scheduler where it stands.
pub(crate) struct Cell {
    go: AtomicBool,
    at_boundary: AtomicBool,
    kill: AtomicBool,
    op: Mutex<&'static str>,
    blocked_until: Mutex<Option<DateTime<Utc>>>,
}

struct Boundary<'a> {
    cell: &'a Cell,
    op: &'static str,
    reached: bool,
}

impl Future for Boundary<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _context: &mut TaskContext<'_>) -> Poll<()> {
        if self.reached && self.cell.go.swap(false, Ordering::SeqCst) {
            return Poll::Ready(());
        }
        self.reached = true;
        self.cell.at_boundary.store(true, Ordering::SeqCst);
        *self.cell.op.lock().expect("one thread") = self.op;
        Poll::Pending
    }
}

impl Cell {
    fn boundary(&self, op: &'static str) -> Boundary<'_> {
        Boundary {
            cell: self,
            op,
            reached: false,
        }
    }

    async fn until(&self, op: &'static str, at: DateTime<Utc>) {
        *self.blocked_until.lock().expect("one thread") = Some(at);
        self.boundary(op).await;
    }

    async fn die(&self) {
        self.kill.store(true, Ordering::SeqCst);
        self.boundary("dying").await;
    }
}

/// The ledger, target and clock of one task: each of their steps is a boundary.
struct Ports<S> {
    store: Arc<S>,
    state: Shared,
    cell: Arc<Cell>,
    event: String,
    poison: Option<Poison>,
}

impl<S: SimStore> Ledger for Ports<S> {
    fn reserve(&self, item: Reservation) -> BoxFuture<'_, Result<Reserved, store::Error>> {
        async move {
            self.cell.boundary("reserve").await;
            let reserved = self.store.reserve(item).await;
            // The answer is on its way: whoever freezes here has a reserved effect and no window left.
            self.cell.boundary("reserved").await;
            reserved
        }
        .boxed()
    }
    fn complete(&self, item: Completion) -> BoxFuture<'_, Result<Completed, store::Error>> {
        async move {
            self.cell.boundary("complete").await;
            self.store.complete(item).await
        }
        .boxed()
    }
    fn resolve(&self, item: Resolution) -> BoxFuture<'_, Result<Resolved, store::Error>> {
        async move {
            self.cell.boundary("resolve").await;
            self.store.resolve(item).await
        }
        .boxed()
    }
    fn finish(&self, item: Finish) -> BoxFuture<'_, Result<Finished, store::Error>> {
        async move {
            self.cell.boundary("finish").await;
            self.store.finish(item).await
        }
        .boxed()
    }
    fn release(
        &self,
        link: i64,
        token: Uuid,
        error: Option<String>,
    ) -> BoxFuture<'_, Result<(), store::Error>> {
        async move {
            self.cell.boundary("release").await;
            self.store.release(link, token, error).await
        }
        .boxed()
    }
}

impl<S: SimStore> Ports<S> {
    async fn look<R>(
        &self,
        op: &'static str,
        look: impl Fn(&mut Partner, DateTime<Utc>) -> R,
    ) -> Result<R, LookError> {
        self.cell.boundary(op).await;
        let failed = {
            let mut state = lock(&self.state);
            if let Some(cause) = state.withheld {
                return Err(LookError(Failure::blocked(cause, None, "withheld")));
            }
            let failed = state.look_faults > 0 && state.draw(4) == 0;
            state.look_faults -= u32::from(failed);
            failed
        };
        if failed {
            return Err(LookError::unavailable("503"));
        }
        let (result, back) = {
            let mut state = lock(&self.state);
            let now = state.now;
            let seconds = i64::try_from(state.draw(3)).expect("small");
            (
                look(&mut state.partner, now),
                now + TimeDelta::seconds(seconds),
            )
        };
        self.cell.until("looked", back).await;
        Ok(result)
    }
}

impl<S: SimStore> Target for Ports<S> {
    fn find<'a>(&'a self, keys: &'a [NaturalKey]) -> BoxFuture<'a, Result<Vec<Record>, LookError>> {
        self.look("find", move |partner, now| partner.find(keys, now))
            .boxed()
    }

    fn read<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, LookError>> {
        self.look("read", move |partner, now| partner.read(id, now))
            .boxed()
    }

    fn send<'a>(
        &'a self,
        call: &'a Call,
        _left: Duration,
    ) -> BoxFuture<'a, Result<Answer, SendError>> {
        async move {
            // No boundary between the clock check and this: what lies between the clock check and the socket is R2.
            if self.poison == Some(Poison::BeforeCall) {
                self.cell.die().await;
            }
            let sent = {
                let mut state = lock(&self.state);
                let (now, quick) = (state.now, i64::try_from(state.draw(3)).expect("small"));
                let slow = 25 + i64::try_from(state.draw(25)).expect("small");
                let fault = if state.draw(3) == 0 {
                    state.faults.pop_front()
                } else {
                    None
                };
                let line = format!("{} sends {call:?} {fault:?}", self.event);
                state.note(line);
                state.partner.begin(call, fault, now, quick, slow)
            };
            match sent {
                Sent::Never => Err(SendError::NotSent(Failure::transient(
                    DeadClass::Unavailable,
                    "connection refused",
                ))),
                Sent::Refused => {
                    self.cell.boundary("refused").await;
                    Err(SendError::Refused(Failure::permanent(
                        DeadClass::Refused,
                        "the partner refused it",
                    )))
                }
                Sent::Unknown { at } => {
                    self.cell.until("no answer", at).await;
                    Err(SendError::Unknown("no answer".to_owned()))
                }
                Sent::Answered { at, answer } => {
                    self.cell.until("answer", at).await;
                    if self.poison == Some(Poison::AtAnswer) {
                        self.cell.die().await;
                    }
                    Ok(lock(&self.state).partner.answer(call, answer))
                }
            }
        }
        .boxed()
    }

    fn settle(&self, _operation: Operation) -> Duration {
        SETTLE
    }

    fn lag(&self) -> Duration {
        LAG
    }

    fn longest(&self, _operation: Operation) -> Duration {
        LONGEST
    }

    fn deletes(&self) -> bool {
        lock(&self.state).partner.deletes
    }

    fn parts_in_create(&self, content: &Content) -> Vec<Part> {
        parts_in_create(content)
    }
}

impl<S: SimStore> Clock for Ports<S> {
    fn elapsed(&self) -> Duration {
        (lock(&self.state).now - epoch())
            .to_std()
            .expect("after the beginning")
    }
}

struct Task {
    id: u64,
    process: usize,
    cell: Arc<Cell>,
    future: BoxFuture<'static, ()>,
    frozen_until: Option<DateTime<Utc>>,
    tokens: Arc<Mutex<Vec<Uuid>>>,
    label: String,
}

/// What the world can do next; chosen by the schedule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Step(u64),
    /// A process takes this many messages, from this place of the queue.
    Deliver {
        process: usize,
        at: usize,
        batch: usize,
    },
    Ledger(usize),
    Advance,
}

pub(crate) struct World<S> {
    pub(crate) store: Arc<S>,
    pub(crate) state: Shared,
    tasks: Vec<Task>,
    spawned: Arc<Mutex<Vec<Task>>>,
    next_task: Arc<Mutex<u64>>,
    pub(crate) settings: Arc<Settings>,
    /// The outbox publishes some of its rows twice.
    pub(crate) publishes_twice: bool,
    /// Handlers of one process.
    pub(crate) slots: usize,
    last_renewal: DateTime<Utc>,
    last_janitor: DateTime<Utc>,
    asked: Vec<(i64, &'static str)>,
}

impl<S: SimStore + 'static> World<S> {
    pub(crate) async fn new(
        store: S,
        events: Vec<SimEvent>,
        processes: usize,
        seed: u64,
        settings: Settings,
    ) -> Self {
        let process = || Process {
            frozen_until: None,
            lost_at: None,
            renewals_fail_until: None,
            alone: None,
        };
        let state = State {
            now: epoch(),
            events,
            pins: BTreeMap::new(),
            queue: Vec::new(),
            unacked: BTreeMap::new(),
            retry_tiers: Vec::new(),
            dead: Vec::new(),
            partner: Partner::default(),
            processes: (0..processes).map(|_| process()).collect(),
            faults: VecDeque::new(),
            look_faults: 0,
            kills: BTreeMap::new(),
            acks: Vec::new(),
            outcomes: Vec::new(),
            withheld: None,
            log: Vec::new(),
            next_delivery: 0,
            next_uuid: 0,
            rng: seed,
        };
        store.set_now(epoch()).await;
        Self {
            store: Arc::new(store),
            state: Arc::new(Mutex::new(state)),
            tasks: Vec::new(),
            spawned: Arc::default(),
            next_task: Arc::default(),
            settings: Arc::new(settings),
            publishes_twice: true,
            slots: SLOTS,
            last_renewal: epoch(),
            last_janitor: epoch(),
            asked: Vec::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn publish(&self, index: usize) {
        let mut state = self.lock();
        let line = format!("published {}", state.events[index].id);
        state.note(line);
        state.queue.push(Msg::new(What::Event {
            index,
            generation: 0,
        }));
    }

    /// All that may happen next without a fault.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let state = self.lock();
        let mut actions: Vec<Action> = self
            .tasks
            .iter()
            .filter(|task| runnable(task, &state))
            .map(|task| Action::Step(task.id))
            .collect();
        for (process, it) in state.processes.iter().enumerate() {
            let running = self
                .tasks
                .iter()
                .filter(|task| task.process == process)
                .count();
            if it.frozen_until.is_none()
                && it.alone.is_none()
                && running < self.slots
                && !state.queue.is_empty()
            {
                for at in 0..state.queue.len() {
                    actions.push(Action::Deliver {
                        process,
                        at,
                        batch: 1,
                    });
                }
                if state.queue.len() > 1 {
                    actions.push(Action::Deliver {
                        process,
                        at: 0,
                        batch: 3,
                    });
                }
            }
        }
        actions.extend((0..state.dead.len()).map(Action::Ledger));
        if self.next_time(&state).is_some() {
            actions.push(Action::Advance);
        }
        actions
    }

    /// The next moment at which something becomes possible.
    fn next_time(&self, state: &State) -> Option<DateTime<Utc>> {
        let blocked = self
            .tasks
            .iter()
            .filter_map(|task| *task.cell.blocked_until.lock().expect("one thread"));
        let frozen = self.tasks.iter().filter_map(|task| task.frozen_until);
        let processes = state
            .processes
            .iter()
            .flat_map(|process| [process.frozen_until, process.lost_at])
            .flatten();
        let retry_tiers = state.retry_tiers.iter().map(|(at, _)| *at);
        blocked
            .chain(frozen)
            .chain(processes)
            .chain(retry_tiers)
            .chain(state.partner.next_commit())
            .filter(|at| *at > state.now)
            .min()
    }

    pub(crate) async fn act(&mut self, action: &Action) {
        match action {
            Action::Step(task) => self.step(*task).await,
            Action::Deliver { process, at, batch } => self.deliver(*process, *at, *batch),
            Action::Ledger(at) => self.ledger(*at).await,
            Action::Advance => {
                let next = self.next_time(&self.lock());
                if let Some(next) = next {
                    // Renewals happen on their own clock: never jump over one.
                    let renewal = self.last_renewal + TimeDelta::seconds(10);
                    let to = if self.tasks.is_empty() {
                        next
                    } else {
                        next.min(renewal.max(self.lock().now))
                    };
                    self.advance_to(to).await;
                }
            }
        }
        self.relay().await;
    }

    pub(crate) async fn advance(&mut self, seconds: i64) {
        let end = self.lock().now + TimeDelta::seconds(seconds);
        while self.lock().now < end {
            let to = (self.lock().now + TimeDelta::seconds(5)).min(end);
            self.advance_to(to).await;
        }
        self.relay().await;
    }

    async fn advance_to(&mut self, to: DateTime<Utc>) {
        {
            let mut state = self.lock();
            let to = to.max(state.now);
            state.now = to;
            state.partner.advance(to);
            let (due, later): (Vec<_>, Vec<_>) =
                state.retry_tiers.drain(..).partition(|(at, _)| *at <= to);
            state.retry_tiers = later;
            state.queue.extend(due.into_iter().map(|(_, msg)| msg));
            for process in 0..state.processes.len() {
                if state.processes[process].lost_at.is_some_and(|at| at <= to) {
                    state.processes[process].lost_at = None;
                    give_back(&mut state, process);
                }
                let thawed = state.processes[process]
                    .frozen_until
                    .is_some_and(|at| at <= to);
                if thawed {
                    state.processes[process].frozen_until = None;
                }
            }
        }
        let now = self.lock().now;
        self.store.set_now(now).await;
        for task in &mut self.tasks {
            if task.frozen_until.is_some_and(|at| at <= now) {
                task.frozen_until = None;
            }
        }
        if now >= self.last_renewal + TimeDelta::seconds(10) {
            self.last_renewal = now;
            self.renew().await;
        }
    }

    async fn renew(&mut self) {
        let processes = self.lock().processes.len();
        for process in 0..processes {
            let able = {
                let state = self.lock();
                let it = &state.processes[process];
                it.frozen_until.is_none()
                    && it
                        .renewals_fail_until
                        .is_none_or(|until| until <= state.now)
            };
            let tokens: Vec<Uuid> = self
                .tasks
                .iter()
                .filter(|task| task.process == process && task.frozen_until.is_none())
                .flat_map(|task| task.tokens.lock().expect("one thread").clone())
                .collect();
            if able && !tokens.is_empty() {
                self.store.renew(tokens).await;
            }
        }
    }

    /// Each minute: what no event comes back for.
    pub(crate) async fn janitor(&mut self) -> bool {
        let now = self.lock().now;
        self.last_janitor = now;
        let due = self.store.due().await;
        let mut asked = false;
        for (link, what) in due {
            let waiting = {
                let state = self.lock();
                let same = |msg: &Msg| msg.what == What::Request { link, what };
                state.queue.iter().any(same)
                    || state.retry_tiers.iter().any(|(_, msg)| same(msg))
                    || state.unacked.values().any(|(msg, _)| same(msg))
            };
            if !waiting {
                self.lock()
                    .queue
                    .push(Msg::new(What::Request { link, what }));
                self.asked.push((link, what));
                asked = true;
            }
        }
        asked
    }

    async fn relay(&mut self) {
        for row in self.store.take_outbox().await {
            let index: usize = String::from_utf8(row.body)
                .expect("text")
                .parse()
                .expect("an event's index");
            let mut state = self.lock();
            let twice = self.publishes_twice && state.draw(8) == 0;
            let msg = Msg::new(What::Event {
                index,
                generation: row.generation,
            });
            if twice {
                state.queue.push(msg.clone());
            }
            state.queue.push(msg);
        }
    }

    // Faults.

    pub(crate) fn crash(&mut self, process: usize) {
        self.tasks.retain(|task| task.process != process);
        self.spawned
            .lock()
            .expect("one thread")
            .retain(|task| task.process != process);
        let mut state = self.lock();
        state.note(format!("process {process} killed"));
        let it = &mut state.processes[process];
        *it = Process {
            frozen_until: None,
            lost_at: None,
            renewals_fail_until: None,
            alone: None,
        };
        give_back(&mut state, process);
    }

    pub(crate) fn freeze(&mut self, process: usize, seconds: i64) {
        let mut state = self.lock();
        state.note(format!("process {process} frozen for {seconds} s"));
        let now = state.now;
        state.processes[process].frozen_until = Some(now + TimeDelta::seconds(seconds));
        state.processes[process].lost_at = Some(now + TimeDelta::seconds(10));
    }

    /// One task stops at its line; its message is seen by others after 10 s.
    pub(crate) fn close_channel(&mut self, process: usize) {
        let mut state = self.lock();
        state.note(format!(
            "channel of process {process} closed, its tasks run on"
        ));
        give_back(&mut state, process);
    }

    pub(crate) fn fail_renewals(&mut self, process: usize, seconds: i64) {
        let mut state = self.lock();
        let until = state.now + TimeDelta::seconds(seconds);
        state.processes[process].renewals_fail_until = Some(until);
    }

    // Steps.

    async fn step(&mut self, id: u64) {
        let Some(position) = self.tasks.iter().position(|task| task.id == id) else {
            return;
        };
        let task = &mut self.tasks[position];
        *task.cell.blocked_until.lock().expect("one thread") = None;
        task.cell.at_boundary.store(false, Ordering::SeqCst);
        task.cell.go.store(true, Ordering::SeqCst);
        let cell = task.cell.clone();
        let future = &mut task.future;
        let finished = poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if cell.at_boundary.load(Ordering::SeqCst) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        })
        .await;
        let process = self.tasks[position].process;
        if cell.kill.load(Ordering::SeqCst) {
            let event = self.tasks[position].label.clone();
            *self.lock().kills.entry(event).or_default() += 1;
            self.crash(process);
            return;
        }
        if finished {
            let task = self.tasks.swap_remove(position);
            let mut state = self.lock();
            if state.processes[process].alone == Some(task.id) {
                state.processes[process].alone = None;
            }
        }
        let spawned: Vec<Task> = self.spawned.lock().expect("one thread").drain(..).collect();
        self.tasks.extend(spawned);
    }

    fn deliver(&mut self, process: usize, at: usize, batch: usize) {
        let mut deliveries = Vec::new();
        {
            let mut state = self.lock();
            for _ in 0..batch {
                if at < state.queue.len() {
                    let msg = state.queue.remove(at);
                    state.next_delivery += 1;
                    let id = state.next_delivery;
                    state.unacked.insert(id, (msg.clone(), process));
                    deliveries.push((id, msg));
                }
            }
        }
        let context = self.context(process);
        let label = deliveries
            .iter()
            .map(|(_, msg)| label(&self.lock(), msg))
            .collect::<Vec<_>>()
            .join("+");
        spawn(
            &self.spawned,
            &self.next_task,
            process,
            label,
            move |cell, tokens, id| receive(context, cell, tokens, id, deliveries),
        );
        let spawned: Vec<Task> = self.spawned.lock().expect("one thread").drain(..).collect();
        self.tasks.extend(spawned);
    }

    fn context(&self, process: usize) -> Handling<S> {
        Handling {
            store: self.store.clone(),
            state: self.state.clone(),
            spawned: self.spawned.clone(),
            next_task: self.next_task.clone(),
            settings: self.settings.clone(),
            process,
        }
    }

    async fn ledger(&mut self, at: usize) {
        let copy = self.lock().dead.remove(at);
        let item = {
            let state = self.lock();
            dead_item(&state, &copy)
        };
        if let Some(item) = item {
            let _recorded = self.store.record_dead_letters(item).await;
        }
    }

    // For schedules written by hand.

    /// Takes the first queued message of the event to this process and steps it until it stands before `op`.
    pub(crate) async fn run_to(&mut self, process: usize, event: &str, op: &str) {
        let at = {
            let state = self.lock();
            state
                .queue
                .iter()
                .position(|msg| label(&state, msg) == event)
        };
        let at = at.unwrap_or_else(|| panic!("no message of {event} in the queue"));
        self.deliver(process, at, 1);
        let id = self.tasks.last().expect("just delivered").id;
        self.drive_to(id, event, op).await;
    }

    /// The task of this process that handles the event takes a step, and more until it stands before `op`; "end" is
    /// its end.
    pub(crate) async fn resume(&mut self, process: usize, event: &str, op: &str) {
        let task = self
            .tasks
            .iter()
            .find(|task| task.process == process && task.label == event);
        let id = task
            .unwrap_or_else(|| panic!("process {process} does not handle {event}"))
            .id;
        self.one_step(id).await;
        self.drive_to(id, event, op).await;
    }

    /// As `run_to`, by number of steps: where it stands then, or nothing if it ended before.
    pub(crate) async fn run_steps(
        &mut self,
        process: usize,
        event: &str,
        steps: usize,
    ) -> Option<&'static str> {
        self.run_to(process, event, "start").await;
        let id = self.tasks.last().expect("just delivered").id;
        for _ in 0..steps {
            self.one_step(id).await;
        }
        self.standing(id)
    }

    fn standing(&self, id: u64) -> Option<&'static str> {
        let task = self.tasks.iter().find(|task| task.id == id)?;
        Some(*task.cell.op.lock().expect("one thread"))
    }

    async fn one_step(&mut self, id: u64) {
        let task = self.tasks.iter().find(|task| task.id == id);
        let blocked = task.and_then(|task| *task.cell.blocked_until.lock().expect("one thread"));
        if let Some(until) = blocked.filter(|until| *until > self.lock().now) {
            self.advance_to(until).await;
        }
        self.step(id).await;
    }

    async fn drive_to(&mut self, id: u64, event: &str, op: &str) {
        const MOST_STEPS: usize = 400;
        for _ in 0..MOST_STEPS {
            match self.standing(id) {
                Some(standing) if standing == op => return,
                Some(_) => self.one_step(id).await,
                None => {
                    assert_eq!(op, "end", "{event} ended before {op}");
                    self.relay().await;
                    return;
                }
            }
        }
        panic!("{event} never came to {op}");
    }

    /// A message of this event in the queue is lost with its queue.
    pub(crate) fn lose(&mut self, event: &str) {
        let mut state = self.lock();
        let at = state
            .queue
            .iter()
            .position(|msg| label(&state, msg) == event);
        let at = at.unwrap_or_else(|| panic!("no message of {event} in the queue"));
        state.queue.remove(at);
    }

    /// The ledger takes all dead copies that lie in its queue.
    pub(crate) async fn ledger_takes_all(&mut self) {
        while !self.lock().dead.is_empty() {
            self.act(&Action::Ledger(0)).await;
        }
    }

    /// Everything that can go on by itself goes on, time included, until nothing is left to do.
    pub(crate) async fn rest(&mut self) {
        for turn in 0..20_000 {
            self.relay().await;
            let actions = self.actions();
            let idle = actions.iter().all(|action| *action == Action::Advance);
            let minute = self.lock().now >= self.last_janitor + TimeDelta::seconds(60);
            if (minute || actions.is_empty()) && idle && self.janitor().await {
                continue;
            }
            if !actions.is_empty() {
                // In turn, so that one who waits for others does not keep them from going on.
                let action = actions[turn % actions.len()].clone();
                self.act(&action).await;
                continue;
            }
            let snapshot = self.store.snapshot().await;
            let waits = snapshot.links.iter().any(|link| {
                link.row.state != "conflict" && (link.recheck_due.is_some() || link.open)
            });
            if !waits && self.lock().queue.is_empty() {
                return;
            }
            self.advance(60).await;
        }
        panic!(
            "no rest after 20 000 actions:\n{}",
            self.lock().log.join("\n")
        );
    }

    pub(crate) fn idle(&self) -> bool {
        let state = self.lock();
        self.tasks.is_empty()
            && state.queue.is_empty()
            && state.retry_tiers.is_empty()
            && state.dead.is_empty()
            && state.unacked.is_empty()
    }

    pub(crate) fn unacked(&self) -> usize {
        self.lock().unacked.len()
    }
}

fn runnable(task: &Task, state: &State) -> bool {
    let blocked = task
        .cell
        .blocked_until
        .lock()
        .expect("one thread")
        .is_some_and(|until| until > state.now);
    !blocked && task.frozen_until.is_none() && state.processes[task.process].frozen_until.is_none()
}

fn label(state: &State, msg: &Msg) -> String {
    match &msg.what {
        What::Event { index, .. } => state.events[*index].id.clone(),
        What::Request { link, what } => format!("{what} {link}"),
    }
}

/// The broker takes back what the process has not acknowledged; too many returns are a death.
fn give_back(state: &mut State, process: usize) {
    let back: Vec<u64> = state
        .unacked
        .iter()
        .filter(|(_, (_, owner))| *owner == process)
        .map(|(id, _)| *id)
        .collect();
    for id in back {
        let Some((mut msg, _)) = state.unacked.remove(&id) else {
            continue;
        };
        msg.returns += 1;
        if msg.returns > DELIVERY_LIMIT {
            let at = state.now;
            state.dead.push(DeadCopy {
                msg,
                class: DeadClass::DeliveryLimit.as_str().to_owned(),
                at,
            });
        } else {
            state.queue.insert(0, msg);
        }
    }
}

fn spawn<F>(
    spawned: &Arc<Mutex<Vec<Task>>>,
    next_task: &Arc<Mutex<u64>>,
    process: usize,
    label: String,
    make: impl FnOnce(Arc<Cell>, Arc<Mutex<Vec<Uuid>>>, u64) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let id = {
        let mut next = next_task.lock().expect("one thread");
        *next += 1;
        *next
    };
    let cell = Arc::new(Cell {
        go: AtomicBool::new(false),
        at_boundary: AtomicBool::new(true),
        kill: AtomicBool::new(false),
        op: Mutex::new("start"),
        blocked_until: Mutex::new(None),
    });
    let tokens: Arc<Mutex<Vec<Uuid>>> = Arc::default();
    let future = make(cell.clone(), tokens.clone(), id).boxed();
    spawned.lock().expect("one thread").push(Task {
        id,
        process,
        cell,
        future,
        frozen_until: None,
        tokens,
        label,
    });
}

/// Nobody reads them here.
static METRICS: LazyLock<sync::Metrics> = LazyLock::new(|| sync::Metrics::new("simulated"));

struct Handling<S> {
    store: Arc<S>,
    state: Shared,
    spawned: Arc<Mutex<Vec<Task>>>,
    next_task: Arc<Mutex<u64>>,
    settings: Arc<Settings>,
    process: usize,
}

impl<S> Clone for Handling<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            state: self.state.clone(),
            spawned: self.spawned.clone(),
            next_task: self.next_task.clone(),
            settings: self.settings.clone(),
            process: self.process,
        }
    }
}

/// The consumer loop in small: gate, claim in one call, one task per granted event.
async fn receive<S: SimStore + 'static>(
    handling: Handling<S>,
    cell: Arc<Cell>,
    tokens: Arc<Mutex<Vec<Uuid>>>,
    task: u64,
    deliveries: Vec<(u64, Msg)>,
) {
    let mut claims = Vec::new();
    for (delivery, msg) in deliveries {
        let refused = gate(&handling.state, &msg);
        match refused {
            Some(outcome) => settle(&handling, &cell, delivery, &msg, None, outcome).await,
            None => claims.push((delivery, msg)),
        }
    }
    if claims.is_empty() {
        return;
    }
    cell.boundary("claim").await;
    let items: Vec<ClaimItem> = claims
        .iter()
        .map(|(_, msg)| claim_item(&handling.state, msg))
        .collect();
    tokens
        .lock()
        .expect("one thread")
        .extend(items.iter().map(|item| item.token));
    let mut verdicts = handling.store.claim(items.clone(), false).await;
    let single = claims.len() == 1;
    for (((delivery, msg), item), verdict) in claims.into_iter().zip(items).zip(verdicts.drain(..))
    {
        if single {
            handle(
                handling.clone(),
                cell.clone(),
                task,
                delivery,
                msg,
                item,
                verdict,
            )
            .await;
        } else {
            let name = label(&lock(&handling.state), &msg);
            let context = handling.clone();
            spawn(
                &handling.spawned,
                &handling.next_task,
                handling.process,
                name,
                move |cell, own, id| {
                    own.lock().expect("one thread").push(item.token);
                    handle(context, cell, id, delivery, msg, item, verdict)
                },
            );
        }
    }
}

/// What is decided before the claim.
fn gate(state: &Shared, msg: &Msg) -> Option<Outcome> {
    let mut state = lock(state);
    let now = state.now;
    if let Some(due) = msg
        .due
        .filter(|due| *due - now > TimeDelta::milliseconds(50))
    {
        let left = (due - now).to_std().unwrap_or_default();
        return Some(Outcome::RetryLater {
            retry_tier: worker::RetryTier::that_fits(left),
            counted: false,
            due: Some(due),
            class: DeadClass::Unavailable,
            reason: "not due yet".to_owned(),
        });
    }
    let What::Event { index, .. } = msg.what else {
        return None;
    };
    if state.events[index].version.is_none() {
        let seconds = u64::try_from(now.timestamp()).expect("after 1970");
        state.pins.entry(index).or_insert(seconds);
    }
    let ahead = state.events[index]
        .version
        .is_some_and(|version| version > u64::try_from(now.timestamp()).expect("after 1970") + 300);
    ahead.then(|| worker::decide::dead(DeadClass::FutureVersion, "too far ahead".to_owned()))
}

fn link_key(record: usize) -> LinkKey {
    LinkKey {
        tenant: TENANT.into(),
        kind: "contact".into(),
        source_system: "crm".into(),
        source_account: "default".into(),
        source_id: format!("r{record}"),
        target_system: "metakocka".into(),
        connection_id: CONNECTION,
    }
}

fn claim_item(state: &Shared, msg: &Msg) -> ClaimItem {
    let mut state = lock(state);
    let token = state.uuid();
    let item = |link, k, event_id: String, generation, keys, body: String, claim_as| ClaimItem {
        link,
        tenant: TENANT.into(),
        k,
        source: SOURCE.into(),
        event_id,
        generation,
        token,
        natural_keys: keys,
        event_type: "crm.contact.updated.v1".into(),
        subject: "contact/1".into(),
        body: body.into_bytes(),
        properties: json!({}),
        headers: json!({}),
        facet: None,
        claim_as,
        content: None,
        references: Vec::new(),
        later: false,
    };
    match &msg.what {
        What::Event { index, generation } => {
            let event = state.events[*index].clone();
            let keys = if event.tombstone {
                Vec::new()
            } else {
                event.content.keys.iter().map(|key| key.0.clone()).collect()
            };
            let k = state.key(*index, *generation);
            item(
                Ok(link_key(event.record)),
                k,
                event.id,
                *generation,
                keys,
                index.to_string(),
                None,
            )
        }
        What::Request { link, what } => {
            let id = format!("{what}-{link}-{token}");
            item(
                Err(*link),
                None,
                id,
                0,
                Vec::new(),
                String::new(),
                Some((*what).to_owned()),
            )
        }
    }
}

async fn handle<S: SimStore + 'static>(
    handling: Handling<S>,
    cell: Arc<Cell>,
    task: u64,
    delivery: u64,
    msg: Msg,
    mut item: ClaimItem,
    mut verdict: ClaimVerdict,
) {
    let policy = RetryPolicy::default();
    let poison = match &msg.what {
        What::Event { index, .. } => lock(&handling.state).events[*index].poison,
        What::Request { .. } => None,
    };
    if verdict == ClaimVerdict::Exclusive {
        let taken = {
            let mut state = lock(&handling.state);
            let process = &mut state.processes[handling.process];
            let free = process.alone.is_none();
            if free {
                process.alone = Some(task);
            }
            !free
        };
        if taken {
            let outcome = at(&handling.state, &msg, &policy, |context| {
                wait(
                    context.now + TimeDelta::seconds(5),
                    WaitCause::Exclusive.as_str(),
                    context,
                )
            });
            return settle(&handling, &cell, delivery, &msg, None, outcome).await;
        }
        loop {
            cell.boundary("alone").await;
            let others = {
                let state = lock(&handling.state);
                // A task is alone when the process holds no other unacknowledged delivery.
                state
                    .unacked
                    .iter()
                    .filter(|(id, (_, owner))| *owner == handling.process && **id != delivery)
                    .count()
            };
            if others == 0 {
                break;
            }
        }
        item.token = lock(&handling.state).uuid();
        verdict = handling
            .store
            .claim(vec![item.clone()], true)
            .await
            .remove(0);
    }
    let (outcome, lease) = match verdict {
        ClaimVerdict::Granted(granted) => {
            let link = granted.link.id;
            if poison == Some(Poison::AtClaim) {
                cell.die().await;
            }
            let work = Work {
                cause: None,
                refers: Vec::new(),
                source: item.source.clone(),
                event_id: item.event_id.clone(),
                generation: item.generation,
                intent: intent(&handling.state, &msg, &granted),
            };
            let ports = Ports {
                store: handling.store.clone(),
                state: handling.state.clone(),
                cell: cell.clone(),
                event: item.event_id.clone(),
                poison,
            };
            let state = handling.state.clone();
            let new_id = move || lock(&state).uuid();
            let driver = Driver {
                worker: WORKER,
                ledger: &ports,
                target: &ports,
                clock: &ports,
                settings: &handling.settings,
                metrics: &METRICS,
                new_id: &new_id,
            };
            let answer = driver
                .drive(
                    Grant {
                        later: false,
                        granted: *granted,
                        work,
                        token: item.token,
                    },
                    Duration::from_secs(300),
                )
                .await;
            let outcome = at(&handling.state, &msg, &policy, |context| {
                decide(answer, context)
            });
            let lease = (!matches!(outcome, Outcome::Ack(_))).then_some((link, item.token));
            (outcome, lease)
        }
        ClaimVerdict::Busy { left } => (
            at(&handling.state, &msg, &policy, |context| {
                busy(left, context)
            }),
            None,
        ),
        ClaimVerdict::Conflict { reason, .. } => (
            Outcome::Hold {
                cause: HoldCause::Conflict,
                epoch: None,
                reason: reason.unwrap_or_default(),
                release_at: None,
                waits_for: None,
            },
            None,
        ),
        ClaimVerdict::Exclusive => (
            at(&handling.state, &msg, &policy, |context| {
                wait(context.now, WaitCause::Exclusive.as_str(), context)
            }),
            None,
        ),
        done => {
            let mut state = lock(&handling.state);
            let name = label(&state, &msg);
            state.acks.push((name, format!("{done:?}")));
            drop(state);
            (Outcome::Ack(worker::AckReason::Duplicate), None)
        }
    };
    settle(&handling, &cell, delivery, &msg, lease, outcome).await;
}

fn at(
    state: &Shared,
    msg: &Msg,
    policy: &RetryPolicy,
    act: impl FnOnce(Context<'_>) -> Outcome,
) -> Outcome {
    let mut state = lock(state);
    #[expect(clippy::cast_precision_loss, reason = "a draw below a thousand")]
    let jitter = state.draw(1000) as f64 / 1000.0;
    let metadata = DeliveryMetadata {
        attempt: msg.attempt,
        waits: msg.waits,
        first_received: msg.first,
        ..DeliveryMetadata::default()
    };
    act(Context {
        metadata: &metadata,
        policy,
        now: state.now,
        first_received: msg.first.unwrap_or(state.now),
        jitter,
    })
}

fn intent(state: &Shared, msg: &Msg, granted: &store::links::Granted) -> Intent {
    let state = lock(state);
    match &msg.what {
        What::Event { index, generation } => {
            let k = state.key(*index, *generation).expect("claimed with a key");
            let event = &state.events[*index];
            if event.tombstone {
                Intent::Deleted { k }
            } else {
                Intent::Content {
                    k,
                    content: event.content.clone(),
                }
            }
        }
        What::Request {
            what: "resolve", ..
        } => Intent::Resolve,
        What::Request { .. } => Intent::Recheck {
            keys: granted
                .natural_keys
                .iter()
                .cloned()
                .map(NaturalKey)
                .collect(),
        },
    }
}

async fn settle<S: SimStore + 'static>(
    handling: &Handling<S>,
    cell: &Cell,
    delivery: u64,
    msg: &Msg,
    lease: Option<(i64, Uuid)>,
    outcome: Outcome,
) {
    {
        let mut state = lock(&handling.state);
        let (event, said) = (label(&state, msg), said(&outcome));
        state.note(format!("{event}: {said}"));
        state.outcomes.push((event, said));
    }
    if let Some((link, token)) = lease {
        cell.boundary("give back").await;
        handling
            .store
            .release(link, token, None)
            .await
            .expect("the store answers");
    }
    match outcome {
        Outcome::Ack(_) => {}
        Outcome::RetryLater {
            retry_tier,
            counted,
            due,
            ..
        } => {
            cell.boundary("copy").await;
            let mut state = lock(&handling.state);
            let now = state.now;
            let mut copy = msg.clone();
            copy.returns = 0;
            copy.first = copy.first.or(Some(now));
            copy.due = due;
            if counted {
                copy.attempt += 1;
            } else {
                copy.waits += 1;
            }
            state.retry_tiers.push((
                now + TimeDelta::from_std(retry_tier.delay).expect("small"),
                copy,
            ));
        }
        Outcome::Hold { cause, reason, .. } => {
            cell.boundary("hold").await;
            let item = {
                let state = lock(&handling.state);
                held_item(&state, msg, cause, reason)
            };
            if let Some(item) = item {
                let verdict = handling.store.hold(item).await;
                if verdict == HeldVerdict::CauseGone {
                    lock(&handling.state).queue.push(Msg::new(msg.what.clone()));
                }
            }
        }
        Outcome::DeadLetter { class, .. } => {
            cell.boundary("copy").await;
            let mut state = lock(&handling.state);
            let at = state.now;
            state.dead.push(DeadCopy {
                msg: msg.clone(),
                class: class.as_str().to_owned(),
                at,
            });
        }
    }
    cell.boundary("ack").await;
    lock(&handling.state).unacked.remove(&delivery);
}

fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ack(reason) => format!("ack {reason}"),
        Outcome::RetryLater {
            retry_tier, reason, ..
        } => format!("retry {} ({reason})", retry_tier.name),
        Outcome::Hold { cause, reason, .. } => format!("hold {cause} ({reason})"),
        Outcome::DeadLetter { class, reason, .. } => format!("dead {class} ({reason})"),
    }
}

fn held_item(state: &State, msg: &Msg, cause: HoldCause, detail: String) -> Option<HeldItem> {
    let What::Event { index, generation } = &msg.what else {
        return None;
    };
    let event = &state.events[*index];
    let key = link_key(event.record);
    Some(HeldItem {
        worker: WORKER.into(),
        tenant: TENANT.into(),
        target_system: key.target_system,
        connection_id: Some(CONNECTION),
        epoch: None,
        cause: cause.as_str().into(),
        person: cause.needs_a_person(),
        detail,
        kind: key.kind,
        source_system: key.source_system,
        source_account: key.source_account,
        source_id: key.source_id,
        k: state.key(*index, *generation),
        source: SOURCE.into(),
        event_id: event.id.clone(),
        generation: *generation,
        event_type: "crm.contact.updated.v1".into(),
        subject: "contact/1".into(),
        body: index.to_string().into_bytes(),
        properties: json!({}),
        headers: json!({}),
        link: None,
        release_at: None,
        waits_for: None,
    })
}

fn dead_item(state: &State, copy: &DeadCopy) -> Option<DeadItem> {
    let What::Event { index, generation } = &copy.msg.what else {
        return None;
    };
    let event = &state.events[*index];
    let key = link_key(event.record);
    let k = state.key(*index, *generation);
    Some(DeadItem {
        outcome: None,
        dead_id: dead_id(WORKER, TENANT, SOURCE, &event.id, Some(CONNECTION), None),
        worker: WORKER.into(),
        target_system: key.target_system,
        tenant: Some(TENANT.into()),
        connection_id: Some(CONNECTION),
        link_id: None,
        kind: Some(key.kind),
        source_system: Some(key.source_system),
        source_account: Some(key.source_account),
        source_id: Some(key.source_id),
        k,
        source: Some(SOURCE.into()),
        event_id: Some(event.id.clone()),
        event_type: Some("crm.contact.updated.v1".into()),
        subject: Some("contact/1".into()),
        generation: *generation,
        attempt: copy.msg.attempt,
        class: copy.class.clone(),
        fingerprint: copy.class.clone(),
        message: None,
        trace_id: None,
        at: copy.at,
        body: index.to_string().into_bytes(),
        properties: json!({}),
        headers: json!({}),
    })
}
