//! What a permit pool knows, and its arithmetic: how much may begin now, what to ask the account for and when, and what an
//! answer changes. No waiting and no locks here.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::budget::circuit::Circuit;
use crate::budget::{Answer, Ask, Bucket, BudgetSpec, CircuitNews, CoolNews, ROUND};

/// Calls per event until the first ones have been counted: a look-up by two keys, a create, a look.
const FIRST_COST: f64 = 4.0;
/// Admitted events for each call that may be in flight: while one asks the database, the next one calls.
const EVENTS_PER_SLOT: u32 = 2;
/// A lease of slots is renewed this often, and given up after so long without need.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// Without an answer for so long, the slots are somebody else's.
const SLOTS_LIVE: Duration = Duration::from_secs(3);
/// Between two questions while the last one was answered in full.
pub(super) const QUICK: Duration = Duration::from_millis(20);
/// Permits for which a question is worth its statement.
const WORTHWHILE: f64 = 25.0;
/// Who asks for as many, or has made as many calls since the last question, does not ask again at once.
const BUSY: u32 = 8;
const SHORTEST_ROUND: Duration = Duration::from_millis(50);
/// Events over which the average is taken.
pub(super) const COST_WINDOW: f64 = 64.0;

/// No event may begin before then.
pub(super) struct Refused {
    pub(super) until: Instant,
    pub(super) circuit: bool,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) spec: BudgetSpec,
    pub(super) buckets: Vec<Bucket>,
    /// Oldest first; each void at its instant.
    pub(super) permits: VecDeque<(Instant, u32)>,
    pub(super) expired: u32,
    pub(super) reserved: u32,
    pub(super) admitted: u32,
    pub(super) slots: u32,
    pub(super) searches: u32,
    pub(super) slots_until: Instant,
    pub(super) calls: u32,
    pub(super) searching: u32,
    pub(super) waiting_calls: u32,
    pub(super) waiting_searches: u32,
    pub(super) waiting_events: u32,
    pub(super) cooldown: Option<(Instant, String)>,
    pub(super) backlog: bool,
    /// The last answer said so.
    pub(super) contended: bool,
    /// For the average of calls per event.
    pub(super) counted_calls: f64,
    pub(super) counted_events: f64,
    pub(super) called: u32,
    /// As of the last question: it calls so often that it shall not ask at every turn.
    pub(super) in_full_swing: bool,
    pub(super) begun: u32,
    pub(super) fine: bool,
    pub(super) cool: Option<CoolNews>,
    pub(super) circuits: BTreeMap<&'static str, Circuit>,
    pub(super) news: Vec<CircuitNews>,
    pub(super) asking: bool,
    pub(super) asked: Option<Instant>,
    pub(super) ask_again: Instant,
}

impl State {
    pub(super) fn new(spec: BudgetSpec) -> Self {
        let now = Instant::now();
        let buckets = spec.buckets();
        Self {
            spec,
            buckets,
            permits: VecDeque::new(),
            expired: 0,
            reserved: 0,
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
        }
    }

    pub(super) fn limited(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// Under a limit over time, no more than call at once: the others would wait for them in the slots of other tenants.
    pub(super) fn events_at_once(&self) -> u32 {
        match self.limited() {
            true => self.slots,
            false => self.slots.saturating_mul(EVENTS_PER_SLOT),
        }
    }

    /// Calls that one event needs, in whole permits that a burst can hold.
    pub(super) fn cost(&self) -> u32 {
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

    pub(super) fn refused(&self, now: Instant, released: bool) -> Option<Refused> {
        let later = |until: Instant, circuit: bool, reason: String| {
            Some(Refused {
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
        (self.backlog && !released).then(|| Refused {
            until: now + HEARTBEAT,
            circuit: false,
            reason: "older events of this connection wait for its budget".to_owned(),
        })
    }

    pub(super) fn available(&mut self, now: Instant) -> u32 {
        while let Some((_, expired)) = self.permits.front().filter(|(until, _)| *until <= now) {
            self.expired += expired;
            self.permits.pop_front();
        }
        self.permits.iter().map(|(_, count)| count).sum()
    }

    pub(super) fn take(&mut self) {
        if let Some((_, count)) = self.permits.front_mut() {
            *count -= 1;
            if *count == 0 {
                self.permits.pop_front();
            }
        }
    }

    /// Between two questions of a process that lacks permits: long enough for a worthwhile answer, and short enough that
    /// all who ask take what comes back before the bucket is full.
    pub(super) fn round(&self, rivals: u32) -> Duration {
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

    pub(super) fn busy(&self) -> bool {
        self.admitted + self.calls + self.waiting_calls + self.waiting_events > 0
    }

    pub(super) fn ask(&mut self, now: Instant) -> Result<Ask, Option<Instant>> {
        let lying = self.available(now);
        let cost = self.cost();
        let needed = match self.limited() {
            true => {
                let events = self.waiting_events.saturating_mul(cost);
                (self.reserved + self.waiting_calls + events).saturating_sub(lying)
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
        let probes: Vec<CircuitNews> = self
            .circuits
            .iter()
            .filter(|(_, circuit)| circuit.wants_probe())
            .map(|(operation, _)| CircuitNews::Probe { operation })
            .collect();
        let news = self.cool.is_some() || !self.news.is_empty();
        let fresh = now < self.slots_until;
        let lacking = needed > 0
            || (slots_want > 0 && !fresh)
            || slots_want > self.slots
            || (self.waiting_searches > 0 && searches_want > self.searches)
            || !probes.is_empty();
        let since = self.asked.map_or(HEARTBEAT, |asked| now - asked);
        let beat = since >= HEARTBEAT
            && (self.busy() || self.slots > 0 || self.expired > 0 || self.begun > 0 || self.fine);
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
        let spare = lying.saturating_sub(self.reserved);
        let want = match self.limited() && self.busy() {
            true => needed.max(needed + pace.saturating_sub(spare)),
            false => 0,
        };
        let mut circuits = std::mem::take(&mut self.news);
        circuits.extend(probes);
        let ask = Ask {
            connection: Uuid::nil(),
            tenant: String::new(),
            spec: self.spec.clone(),
            buckets: self.buckets.clone(),
            want,
            back: std::mem::take(&mut self.expired),
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

    pub(super) fn answered(&mut self, now: Instant, asked: &Ask, answer: &Answer) {
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
                CircuitNews::Probe { .. } => false,
            });
            if untold {
                continue;
            }
            match answer
                .circuits
                .iter()
                .find(|answer| answer.operation == *operation)
            {
                Some(answer) => circuit.answered(now, answer),
                None => circuit.closed_elsewhere(),
            }
        }
    }
}
