//! Whether an event may begin, and a call go out.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::PermitPool;
use super::reservation::{Admitted, CallPermit, RESERVATION, Reservation, Waiting};
use super::state::{HEARTBEAT, QUICK, Refused};
use crate::budget::circuit::Way;

/// Longest time that an open circuit lets a caller wait for its half-open probe.
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

impl PermitPool {
    /// May an event of this connection begin? `released`: the keeper let it go because there was room; nothing
    /// overtakes it.
    pub fn admit(self: &Arc<Self>, released: bool) -> Admission {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(Refused {
            until,
            circuit,
            reason,
        }) = state.refused(now, released)
        {
            return Admission::Later {
                until,
                circuit,
                reason,
            };
        }
        let cost = state.cost();
        let fresh = now < state.slots_until;
        let room = fresh && state.admitted < state.events_at_once();
        if room && (!state.limited() || state.available(now) >= state.reserved + cost) {
            state.admitted += 1;
            state.reserved += cost;
            return Admission::Go(Admitted(Arc::new(Reservation {
                permit_pool: Arc::clone(self),
                left: Mutex::new(cost),
            })));
        }
        state.waiting_events = state.waiting_events.max(1);
        let until = state.ask_again.max(now + QUICK);
        let answered = state.asked.is_some() && fresh;
        drop(state);
        self.signals.refill_queue.add(self.connection);
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
            self.signals.refill_queue.add(self.connection);
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
        let reservation = RESERVATION.try_with(Arc::clone).ok();
        let reserved = reservation
            .as_ref()
            .filter(|reservation| Arc::ptr_eq(&reservation.permit_pool, self))
            .is_some_and(|reservation| reservation.has_left());
        if state.limited() {
            let lying = state.available(now);
            let others = state.reserved - u32::from(reserved).min(state.reserved);
            // A call without a reservation takes none of the permits that are reserved for others.
            if lying == 0 || (!reserved && lying <= others) {
                return no_room(soon, "the budget of this connection is used up for now");
            }
        }
        // Asked last: a probe that is taken must be sent.
        match state.circuits.entry(operation).or_default().way(now) {
            Way::Clear => {}
            Way::Shut { until } => {
                let reason = format!(
                    "{operation} has failed several times in a row: {}",
                    state.circuits[operation].reason
                );
                return Err(NoRoom { until, reason });
            }
            Way::AskForProbe => {
                return no_room(now + SHORT, "one call tries whether it works again");
            }
        }
        if state.limited() {
            state.take();
        }
        if reserved && let Some(reservation) = reservation {
            reservation.use_one();
            state.reserved = state.reserved.saturating_sub(1);
        }
        state.calls += 1;
        state.searching += u32::from(search);
        state.called += 1;
        state.counted_calls += 1.0;
        Ok(CallPermit {
            permit_pool: Arc::clone(self),
            search,
        })
    }
}
