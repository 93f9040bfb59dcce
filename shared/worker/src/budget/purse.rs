//! A connection's permits in this process: leased from the fleet-wide account, taken by calls, promised to events.
//!
//! Nothing here waits for a database. Whoever finds no permit is told how long it will take, and the store's task asks for
//! more in the background. An event is admitted with permits promised for all the calls that events of its kind have
//! needed so far, so that it doesn't hold a slot while it waits between two calls.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event::TenantId;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::circuit::{Circuit, Way};
use super::{Answer, Ask, Bucket, BudgetSpec, CircuitNews, CoolNews, ROUND};

/// Calls per event until the first ones have been counted: a look-up by two keys, a create, a look.
const FIRST_COST: f64 = 4.0;
/// Events over which the average is taken.
const COST_WINDOW: f64 = 64.0;
/// Admitted events for each call that may be in flight: while one asks the database, the next one calls.
const EVENTS_PER_SLOT: u32 = 2;
/// A lease of slots is renewed this often, and given up after so long without need.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Without an answer for so long, the slots are somebody else's.
const SLOTS_LIVE: Duration = Duration::from_secs(3);
/// Between two questions while the last one was answered in full.
const QUICK: Duration = Duration::from_millis(20);
/// Permits for which a question is worth its statement.
const WORTHWHILE: f64 = 25.0;
/// Who asks for as many, or has made as many calls since the last question, does not ask again at once.
const BUSY: u32 = 8;
const SHORTEST_ROUND: Duration = Duration::from_millis(50);
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
    /// There is something to ask the store.
    pub needy: Arc<Notify>,
    /// Events that wait in memory may be admitted now. Counts, so that nobody misses one.
    pub moved: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    spec: BudgetSpec,
    buckets: Vec<Bucket>,
    /// Oldest first; each void at its instant.
    permits: VecDeque<(Instant, u32)>,
    spoilt: u32,
    promised: u32,
    admitted: u32,
    slots: u32,
    searches: u32,
    slots_until: Instant,
    calls: u32,
    searching: u32,
    waiting_calls: u32,
    waiting_searches: u32,
    waiting_events: u32,
    cooldown: Option<(Instant, String)>,
    backlog: bool,
    /// The last answer said so.
    contended: bool,
    /// For the average of calls per event.
    counted_calls: f64,
    counted_events: f64,
    called: u32,
    /// As of the last question: it calls so often that it shall not ask at every turn.
    in_full_swing: bool,
    begun: u32,
    fine: bool,
    cool: Option<CoolNews>,
    circuits: BTreeMap<&'static str, Circuit>,
    news: Vec<CircuitNews>,
    asking: bool,
    asked: Option<Instant>,
    ask_again: Instant,
    busy_at: Instant,
}

/// An event that began with permits promised to it; gives back what it did not use.
#[derive(Debug)]
pub struct Admitted(Arc<Promise>);

#[derive(Debug)]
struct Promise {
    purse: Arc<Purse>,
    left: Mutex<u32>,
}

/// A call under way.
#[derive(Debug)]
pub struct CallPermit {
    purse: Arc<Purse>,
    search: bool,
}

tokio::task_local! {
    static PROMISE: Arc<Promise>;
}

/// Runs the handling of an admitted event: its calls use what was promised to it.
pub async fn admitted<F: Future>(event: &Admitted, handling: F) -> F::Output {
    PROMISE.scope(Arc::clone(&event.0), handling).await
}

impl Purse {
    pub fn new(
        connection: Uuid,
        tenant: TenantId,
        spec: BudgetSpec,
        first_open: Duration,
        signals: Signals,
    ) -> Self {
        let now = Instant::now();
        let buckets = spec.buckets();
        Self {
            connection,
            tenant,
            first_open,
            changed: Notify::new(),
            signals,
            state: Mutex::new(State {
                spec,
                buckets,
                permits: VecDeque::new(),
                spoilt: 0,
                promised: 0,
                admitted: 0,
                slots: 0,
                searches: 0,
                slots_until: now,
                calls: 0,
                searching: 0,
                waiting_calls: 0,
                waiting_searches: 0,
                waiting_events: 0,
                cooldown: None,
                backlog: false,
                contended: false,
                counted_calls: 0.0,
                counted_events: 0.0,
                called: 0,
                in_full_swing: false,
                begun: 0,
                fine: false,
                cool: None,
                circuits: BTreeMap::new(),
                news: Vec::new(),
                asking: false,
                asked: None,
                ask_again: now,
                busy_at: now,
            }),
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
        state.busy_at = now;
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
        self.signals.needy.notify_one();
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

    /// How many events wait in memory for this connection.
    pub fn waiting(&self, events: usize) {
        let mut state = self.state();
        state.waiting_events = u32::try_from(events).unwrap_or(u32::MAX);
        if events > 0 {
            state.busy_at = Instant::now();
        }
    }

    /// An event that the keeper released has arrived here.
    pub fn begun(&self) {
        self.state().begun += 1;
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
            self.signals.needy.notify_one();
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
        state.busy_at = now;
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
            self.signals.needy.notify_one();
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

impl State {
    fn limited(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// Under a limit over time, no more than call at once: the others would wait for them in the slots of other tenants.
    fn events_at_once(&self) -> u32 {
        match self.limited() {
            true => self.slots,
            false => self.slots.saturating_mul(EVENTS_PER_SLOT),
        }
    }

    /// Calls that one event needs, in whole permits that a burst can hold.
    fn cost(&self) -> u32 {
        let average = match self.counted_events >= 4.0 {
            true => self.counted_calls / self.counted_events,
            false => FIRST_COST,
        };
        let most = self
            .buckets
            .iter()
            .map(|bucket| bucket.burst)
            .min()
            .unwrap_or(u32::MAX);
        (average.ceil().max(1.0) as u32).min(most.max(1))
    }

    fn refused(&self, now: Instant, released: bool) -> Option<Admission> {
        let later = |until: Instant, circuit: bool, reason: String| {
            Some(Admission::Later {
                until,
                circuit,
                reason,
            })
        };
        if let Some((until, reason)) = self.cooldown.as_ref().filter(|(until, _)| now < *until) {
            let reason = format!("the partner asked to be left alone for now: {reason}");
            return later(*until, false, reason);
        }
        // Every operation that was used of late is shut: nothing can be done for any event.
        let shut: Vec<Option<Instant>> = self
            .circuits
            .values()
            .map(|circuit| circuit.is_shut(now))
            .collect();
        if !shut.is_empty() && shut.iter().all(Option::is_some) {
            let until = shut.into_iter().flatten().min().unwrap_or(now);
            let reasons: Vec<&str> = self
                .circuits
                .values()
                .map(|circuit| circuit.reason.as_str())
                .collect();
            return later(
                until,
                true,
                format!("the partner keeps failing: {}", reasons.join("; ")),
            );
        }
        (self.backlog && !released).then(|| Admission::Later {
            until: now + HEARTBEAT,
            circuit: false,
            reason: "older events of this connection wait for its budget".to_owned(),
        })
    }

    fn available(&mut self, now: Instant) -> u32 {
        while let Some((_, spoilt)) = self.permits.front().filter(|(until, _)| *until <= now) {
            self.spoilt += spoilt;
            self.permits.pop_front();
        }
        self.permits.iter().map(|(_, count)| count).sum()
    }

    fn take(&mut self) {
        if let Some((_, count)) = self.permits.front_mut() {
            *count -= 1;
            if *count == 0 {
                self.permits.pop_front();
            }
        }
    }

    /// Between two questions of a process that lacks permits: long enough for a worthwhile answer, and short enough that
    /// all who ask take what comes back before the bucket is full.
    fn round(&self, rivals: u32) -> Duration {
        let askers = f64::from(rivals + 1);
        let rounds = self.buckets.iter().map(|bucket| {
            let permits = WORTHWHILE.min(f64::from(bucket.burst) / 2.0);
            bucket.gap.mul_f64(permits * askers)
        });
        rounds
            .min()
            .unwrap_or(ROUND)
            .clamp(SHORTEST_ROUND, HEARTBEAT)
    }

    fn busy(&self) -> bool {
        self.admitted + self.calls + self.waiting_calls + self.waiting_events > 0
    }

    fn ask(&mut self, now: Instant) -> Result<Ask, Option<Instant>> {
        let lying = self.available(now);
        let cost = self.cost();
        let needed = match self.limited() {
            true => {
                let events = self.waiting_events.saturating_mul(cost);
                (self.promised + self.waiting_calls + events).saturating_sub(lying)
            }
            false => 0,
        };
        let wanted = self
            .calls
            .max(self.admitted + self.waiting_events + self.waiting_calls);
        let slots_want = wanted.min(self.spec.in_flight);
        let searches_want = self.searching + self.waiting_searches;
        // One search in advance: nobody should have to ask for the first.
        let searches_want = searches_want
            .max(u32::from(slots_want > 0))
            .min(self.spec.searches);
        let canaries: Vec<CircuitNews> = self
            .circuits
            .iter()
            .filter(|(_, circuit)| circuit.wants_canary())
            .map(|(operation, _)| CircuitNews::Canary { operation })
            .collect();
        let news = self.cool.is_some() || !self.news.is_empty();
        let fresh = now < self.slots_until;
        let lacking = needed > 0
            || (slots_want > 0 && !fresh)
            || slots_want > self.slots
            || (self.waiting_searches > 0 && searches_want > self.searches)
            || !canaries.is_empty();
        let since = self.asked.map_or(HEARTBEAT, |asked| now - asked);
        let beat = since >= HEARTBEAT
            && (self.busy() || self.slots > 0 || self.spoilt > 0 || self.begun > 0 || self.fine);
        if !(news || beat || (lacking && now >= self.ask_again)) {
            let next = match lacking {
                true => Some(self.ask_again),
                false if self.busy() || self.slots > 0 => self.asked.map(|asked| asked + HEARTBEAT),
                false => None,
            };
            return Err(next);
        }
        // What was called in the last round will be called again: a second of it ahead.
        let pace = match self.busy() && since > Duration::ZERO {
            true => {
                (f64::from(self.called) / since.as_secs_f64().max(0.1) * HEARTBEAT.as_secs_f64())
                    as u32
            }
            false => 0,
        };
        let spare = lying.saturating_sub(self.promised);
        let want = match self.limited() && self.busy() {
            true => needed.max(needed + pace.saturating_sub(spare)),
            false => 0,
        };
        let mut circuits = std::mem::take(&mut self.news);
        circuits.extend(canaries);
        let ask = Ask {
            connection: Uuid::nil(),
            tenant: String::new(),
            spec: self.spec.clone(),
            buckets: self.buckets.clone(),
            want,
            back: std::mem::take(&mut self.spoilt),
            slots_want,
            slots_used: self.calls,
            searches_want,
            searches_used: self.searching,
            begun: std::mem::take(&mut self.begun),
            fine: std::mem::take(&mut self.fine),
            cost: self.counted_calls.max(1.0) / self.counted_events.max(1.0),
            cool: self.cool.take(),
            circuits,
            contended: self.backlog || self.contended,
        };
        self.in_full_swing = want >= BUSY || self.called >= BUSY;
        self.called = 0;
        Ok(ask)
    }

    fn answered(&mut self, now: Instant, asked: &Ask, answer: &Answer) {
        self.asking = false;
        let life = self
            .buckets
            .iter()
            .map(|bucket| bucket.life)
            .min()
            .unwrap_or_default();
        let sent = self.asked.unwrap_or(now);
        if answer.granted > 0 {
            // From the question on: the account counts them from then, at the latest.
            self.permits.push_back((sent + life, answer.granted));
        }
        self.slots = answer.slots;
        self.searches = answer.searches;
        self.slots_until = sent + SLOTS_LIVE;
        self.backlog = answer.backlog;
        self.contended = answer.rivals > 0;
        let short = answer.granted < asked.want || answer.slots < asked.slots_want;
        self.ask_again = match short {
            true => now + answer.wait.max(self.round(answer.rivals)),
            // A busy connection lives on what it leased for a while; an idle one waits for nobody.
            false if self.in_full_swing => now + self.round(answer.rivals).min(ROUND),
            false => now + QUICK,
        };
        match (answer.cooldown, &self.cool) {
            (Some(left), _) => {
                let reason = answer.reason.clone().unwrap_or_default();
                self.cooldown = Some((now + left, reason));
            }
            (None, None) => self.cooldown = None,
            // Not told yet.
            (None, Some(_)) => {}
        }
        for (operation, circuit) in &mut self.circuits {
            let untold = self.news.iter().any(|news| match news {
                CircuitNews::Opened { operation: of, .. }
                | CircuitNews::Closed { operation: of } => of == operation,
                CircuitNews::Canary { .. } => false,
            });
            if untold {
                continue;
            }
            match answer
                .circuits
                .iter()
                .find(|told| told.operation == *operation)
            {
                Some(told) => circuit.told(now, told),
                None => circuit.told_closed(),
            }
        }
    }
}

impl Promise {
    fn has_left(&self) -> bool {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) > 0
    }

    fn use_one(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(1);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let left = *self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.purse.state();
        state.admitted = state.admitted.saturating_sub(1);
        state.promised = state.promised.saturating_sub(left);
        state.counted_events += 1.0;
        if state.counted_events >= COST_WINDOW {
            state.counted_events /= 2.0;
            state.counted_calls /= 2.0;
        }
        drop(state);
        self.purse.moved();
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let mut state = self.purse.state();
        state.calls = state.calls.saturating_sub(1);
        if self.search {
            state.searching = state.searching.saturating_sub(1);
        }
        drop(state);
        self.purse.moved();
    }
}

/// Counts a waiting call while it waits.
struct Waiting<'a> {
    purse: &'a Purse,
    search: bool,
    counted: bool,
}

impl<'a> Waiting<'a> {
    fn new(purse: &'a Purse, search: bool) -> Self {
        Self {
            purse,
            search,
            counted: false,
        }
    }

    fn count(&mut self) {
        if !self.counted {
            self.counted = true;
            let mut state = self.purse.state();
            state.waiting_calls += 1;
            state.waiting_searches += u32::from(self.search);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.counted {
            let mut state = self.purse.state();
            state.waiting_calls -= 1;
            state.waiting_searches -= u32::from(self.search);
        }
    }
}
