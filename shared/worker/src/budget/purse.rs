//! A connection's permits in this process: leased from the fleet-wide account, taken by calls, promised to events.
//!
//! Nothing here waits for a database. Whoever finds no permit is told how long it will take, and the store's task asks for
//! more in the background. An event is admitted with permits promised for all the calls that events of its kind have
//! needed so far, so that it doesn't hold a slot while it waits between two calls.

mod promise;
mod state;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event::TenantId;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::circuit::Way;
use super::{Answer, Ask, BudgetSpec, CircuitNews, CoolNews, ROUND};

pub use promise::{Admitted, CallPermit, admitted};

use promise::{PROMISE, Promise, Waiting};
use state::{HEARTBEAT, QUICK, State};

/// Longest time that an open circuit lets a caller wait for its canary.
const SHORT: Duration = Duration::from_millis(200);

/// May an event begin?
#[derive(Debug)]
pub enum Admission {
    Go(Admitted),
    /// Permits are on their way; ask again when told.
    Soon,
    /// The account has not answered yet, or not any more: nothing is known.
    Unknown,
    /// Not before `until`.
    Later {
        until: Instant,
        circuit: bool,
        reason: String,
    },
}

/// No room for a call within the time that its caller may wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    pub until: Instant,
    pub reason: String,
}

/// What a call taught, told by the partner's client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Any answer that says the operation works.
    Fine,
    /// The partner or the way to it is in trouble.
    Failing(String),
    QuotaUsedUp {
        least: Duration,
        /// The partner named the time.
        named: bool,
        reason: String,
    },
}

/// One connection. Shared by everything in the process that calls it.
#[derive(Debug)]
pub struct Purse {
    connection: Uuid,
    tenant: TenantId,
    /// How long a circuit stays open at first.
    first_open: Duration,
    state: Mutex<State>,
    /// Something may be possible now that was not before.
    changed: Notify,
    signals: Signals,
}

/// How purses and those who look after them wake each other; one for a process.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Those that have something to ask the store.
    pub needy: Arc<Needy>,
    /// Events that wait in memory may be admitted now. Counts, so that nobody misses one.
    pub moved: watch::Sender<u64>,
}

/// Connections whose purses are to be asked now, each once, however often it says so.
#[derive(Debug, Default)]
pub struct Needy {
    connections: Mutex<HashSet<Uuid>>,
    notify: Notify,
}

impl Needy {
    pub fn add(&self, connection: Uuid) {
        if self.connections().insert(connection) {
            self.notify.notify_one();
        }
    }

    /// Returns at once where some have been added since they were last taken.
    pub async fn any(&self) {
        self.notify.notified().await;
    }

    pub fn take(&self) -> HashSet<Uuid> {
        std::mem::take(&mut *self.connections())
    }

    fn connections(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Purse {
    pub fn new(
        connection: Uuid,
        tenant: TenantId,
        spec: BudgetSpec,
        first_open: Duration,
        signals: Signals,
    ) -> Self {
        Self {
            connection,
            tenant,
            first_open,
            changed: Notify::new(),
            signals,
            state: Mutex::new(State::new(spec)),
        }
    }

    pub fn spec(&self) -> BudgetSpec {
        self.state().spec.clone()
    }

    /// The connection's settings may have changed.
    pub fn set_spec(&self, spec: &BudgetSpec) {
        let mut state = self.state();
        if state.spec != *spec {
            state.spec = spec.clone();
            state.buckets = spec.buckets();
        }
    }

    /// May an event of this connection begin? `released`: the keeper let it go because there was room; nothing
    /// overtakes it.
    pub fn admit(self: &Arc<Self>, released: bool) -> Admission {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(later) = state.refused(now, released) {
            return later;
        }
        let cost = state.cost();
        let fresh = now < state.slots_until;
        let room = fresh && state.admitted < state.events_at_once();
        if room && (!state.limited() || state.available(now) >= state.promised + cost) {
            state.admitted += 1;
            state.promised += cost;
            return Admission::Go(Admitted(Arc::new(Promise {
                purse: Arc::clone(self),
                left: Mutex::new(cost),
            })));
        }
        state.waiting_events = state.waiting_events.max(1);
        let until = state.ask_again.max(now + QUICK);
        let answered = state.asked.is_some() && fresh;
        drop(state);
        self.signals.needy.add(self.connection);
        match answered && until > now + HEARTBEAT {
            // The account has said when: longer than anything should be kept in memory.
            true if !released => Admission::Later {
                until,
                circuit: false,
                reason: "the budget of this connection is used up for now".to_owned(),
            },
            _ if !answered => Admission::Unknown,
            _ => Admission::Soon,
        }
    }

    /// The account has answered, and asking it would not bring more at once: who waits, waits for the partner.
    pub fn scarce(&self) -> bool {
        let state = self.state();
        let answered = Instant::now() < state.slots_until;
        answered && (state.limited() || state.slots >= state.spec.in_flight)
    }

    /// How many events wait in memory for this connection.
    pub fn waiting(&self, events: usize) {
        let mut state = self.state();
        state.waiting_events = u32::try_from(events).unwrap_or(u32::MAX);
    }

    /// An event that the keeper released has arrived here. The account is told, also where nothing is asked of it for this
    /// connection: the keeper lets no more go than arrive.
    pub fn begun(&self) {
        let mut state = self.state();
        state.begun += 1;
        let untold = state.begun == 1;
        drop(state);
        if untold {
            self.signals.needy.add(self.connection);
        }
    }

    /// Room for one call, waiting for it until `give_up` at most.
    pub async fn enter(
        self: &Arc<Self>,
        operation: &'static str,
        search: bool,
        give_up: Instant,
    ) -> Result<CallPermit, NoRoom> {
        let mut waiting = Waiting::new(self, search);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            let wake = match self.try_enter(operation, search, now) {
                Ok(permit) => return Ok(permit),
                Err(no_room) if now >= give_up || no_room.until > give_up => return Err(no_room),
                Err(no_room) => no_room.until.max(now + QUICK).min(give_up),
            };
            waiting.count();
            self.signals.needy.add(self.connection);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    fn try_enter(
        self: &Arc<Self>,
        operation: &'static str,
        search: bool,
        now: Instant,
    ) -> Result<CallPermit, NoRoom> {
        let mut state = self.state();
        if let Some((until, reason)) = state.cooldown.clone().filter(|(until, _)| now < *until) {
            return Err(NoRoom { until, reason });
        }
        let no_room = |until: Instant, reason: &str| {
            Err(NoRoom {
                until,
                reason: reason.to_owned(),
            })
        };
        let soon = state.ask_again.max(now + QUICK);
        if now >= state.slots_until
            || state.calls >= state.slots
            || (search && state.searching >= state.searches)
        {
            return no_room(soon, "all calls that may be in flight are");
        }
        let promise = PROMISE.try_with(Arc::clone).ok();
        let promised = promise
            .as_ref()
            .filter(|promise| Arc::ptr_eq(&promise.purse, self))
            .is_some_and(|promise| promise.has_left());
        if state.limited() {
            let lying = state.available(now);
            let others = state.promised - u32::from(promised).min(state.promised);
            // Who was promised nothing more leaves what was promised to others.
            if lying == 0 || (!promised && lying <= others) {
                return no_room(soon, "the budget of this connection is used up for now");
            }
        }
        // Asked last: a canary that is taken must fly.
        match state.circuits.entry(operation).or_default().way(now) {
            Way::Clear => {}
            Way::Shut { until } => {
                let reason = format!(
                    "{operation} has failed several times in a row: {}",
                    state.circuits[operation].reason
                );
                return Err(NoRoom { until, reason });
            }
            Way::AskForCanary => {
                return no_room(now + SHORT, "one call tries whether it works again");
            }
        }
        if state.limited() {
            state.take();
        }
        if promised && let Some(promise) = promise {
            promise.use_one();
            state.promised = state.promised.saturating_sub(1);
        }
        state.calls += 1;
        state.searching += u32::from(search);
        state.called += 1;
        state.counted_calls += 1.0;
        Ok(CallPermit {
            purse: Arc::clone(self),
            search,
        })
    }

    pub fn learn(&self, operation: &'static str, lesson: Lesson) {
        let now = Instant::now();
        let mut state = self.state();
        let mut tell = false;
        match lesson {
            Lesson::Fine => {
                state.fine = true;
                if state.circuits.entry(operation).or_default().fine() {
                    state.news.push(CircuitNews::Closed { operation });
                    tell = true;
                }
            }
            Lesson::Failing(reason) => {
                let circuit = state.circuits.entry(operation).or_default();
                if circuit.failing(now, self.first_open, &reason) {
                    state.news.push(CircuitNews::Opened {
                        operation,
                        reason,
                        first: self.first_open,
                    });
                    tell = true;
                }
            }
            Lesson::QuotaUsedUp {
                least,
                named,
                reason,
            } => {
                let until = now + least;
                if state.cooldown.as_ref().is_none_or(|(old, _)| *old < until) {
                    state.cooldown = Some((until, reason.clone()));
                }
                state.cool = Some(CoolNews {
                    least,
                    named,
                    reason,
                });
                tell = true;
            }
        }
        drop(state);
        if tell {
            self.signals.needy.add(self.connection);
        }
        self.moved();
    }

    /// What to ask the store now; nothing while a question is under way. `Err`: when to look again.
    pub fn ask(&self) -> Result<Ask, Option<Instant>> {
        let now = Instant::now();
        let mut state = self.state();
        if state.asking {
            return Err(None);
        }
        let ask = state.ask(now)?;
        state.asking = true;
        state.asked = Some(now);
        Ok(Ask {
            connection: self.connection,
            tenant: self.tenant.as_str().to_owned(),
            ..ask
        })
    }

    /// The store's answer to `asked`.
    pub fn answered(&self, asked: &Ask, answer: &Answer) {
        self.state().answered(Instant::now(), asked, answer);
        self.moved();
    }

    /// The store did not answer: what was to be told is told again.
    pub fn unanswered(&self, asked: &Ask) {
        let mut state = self.state();
        state.asking = false;
        state.ask_again = Instant::now() + ROUND;
        state.begun += asked.begun;
        state.fine |= asked.fine;
        state.spoilt += asked.back;
        if state.cool.is_none() {
            state.cool.clone_from(&asked.cool);
        }
        let told_again = asked
            .circuits
            .iter()
            .filter(|news| !matches!(news, CircuitNews::Canary { .. }));
        let later = std::mem::take(&mut state.news);
        state.news = told_again.cloned().chain(later).collect();
    }

    /// More may be possible than before, for calls and for events.
    fn moved(&self) {
        self.changed.notify_waiters();
        if self.state().waiting_events > 0 {
            self.signals
                .moved
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
