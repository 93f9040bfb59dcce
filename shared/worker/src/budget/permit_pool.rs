//! A connection's permits in this process: leased from the fleet-wide account, taken by calls, reserved for events.
//!
//! Nothing here waits for a database. Whoever finds no permit is told how long it will take, and the store's task asks for
//! more in the background. An event is admitted with permits reserved for all the calls that events of its kind have
//! needed so far, so that it doesn't hold a slot while it waits between two calls.

mod admit;
mod reservation;
mod state;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event::TenantId;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::{Answer, Ask, BudgetSpec, CircuitNews, CoolNews, ROUND};

pub use admit::{Admission, NoRoom};
pub use reservation::{Admitted, CallPermit, admitted};

use state::State;

/// What an answer shows about the partner's limits; the partner's client records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
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
pub struct PermitPool {
    connection: Uuid,
    tenant: TenantId,
    /// How long a circuit stays open at first.
    first_open: Duration,
    state: Mutex<State>,
    /// Something may be possible now that was not before.
    changed: Notify,
    signals: Signals,
}

/// How permit pools and those who look after them wake each other; one for a process.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Those that have something to ask the store.
    pub refill_queue: Arc<RefillQueue>,
    /// Events that wait in memory may be admitted now. Counts, so that nobody misses one.
    pub moved: watch::Sender<u64>,
}

/// Connections whose permit pools are to be asked now, each once, however often it says so.
#[derive(Debug, Default)]
pub struct RefillQueue {
    connections: Mutex<HashSet<Uuid>>,
    notify: Notify,
}

impl RefillQueue {
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

impl PermitPool {
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
            self.signals.refill_queue.add(self.connection);
        }
    }

    pub fn record(&self, operation: &'static str, observation: Observation) {
        let now = Instant::now();
        let mut state = self.state();
        let mut has_news = false;
        match observation {
            Observation::Fine => {
                state.fine = true;
                if state.circuits.entry(operation).or_default().fine() {
                    state.news.push(CircuitNews::Closed { operation });
                    has_news = true;
                }
            }
            Observation::Failing(reason) => {
                let circuit = state.circuits.entry(operation).or_default();
                if circuit.failing(now, self.first_open, &reason) {
                    state.news.push(CircuitNews::Opened {
                        operation,
                        reason,
                        first: self.first_open,
                    });
                    has_news = true;
                }
            }
            Observation::QuotaUsedUp {
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
                has_news = true;
            }
        }
        drop(state);
        if has_news {
            self.signals.refill_queue.add(self.connection);
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
        state.expired += asked.back;
        if state.cool.is_none() {
            state.cool.clone_from(&asked.cool);
        }
        let told_again = asked
            .circuits
            .iter()
            .filter(|news| !matches!(news, CircuitNews::Probe { .. }));
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
