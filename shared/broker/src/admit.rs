//! The last of the gate: an event begins with permits in hand, or waits for them a second at most in memory, or is held.
//! So a slot is never held by somebody who waits for a partner's budget, and a tenant over its budget costs the others
//! an insert.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;
use worker::budget::{Admission, PermitPool};
use worker::{Claims, Handler, HoldCause, Outcome, decide};

use crate::consuming::Consuming;
use crate::parse::InFlight;
use crate::settle::Settling;
use crate::waiting::{Queue, Recent, WAIT};

/// Events of one connection that wait in memory for its permits; more, where as many begin within [`WAIT`].
const WAITING_LIMIT: usize = 50;
/// An open circuit that is shorter is waited for on a retry tier.
const SHORT_CIRCUIT: Duration = Duration::from_secs(30);

enum Verdict {
    Begins(InFlight),
    Waits(InFlight),
    Settled(InFlight, Outcome),
}

impl<H: Handler, C: Claims<Grant = H::Grant>> Consuming<H, C> {
    /// An event that passed the rest of the gate.
    pub(crate) fn ready(&mut self, mut in_flight: InFlight) {
        let (Some(budgets), Some(connection)) = (&self.shared.budgets, &in_flight.job.connection)
        else {
            return self.unclaimed.push_back(in_flight);
        };
        let id = connection.id;
        let permit_pool = budgets.permit_pool(connection);
        arrived(&mut in_flight, &permit_pool);
        let (waiting, pace) = match self.waiting.0.get_mut(&id) {
            Some(queue) => (queue.deliveries.len(), queue.pace.count()),
            None => (0, 0),
        };
        // Nothing overtakes an event of its own connection.
        let verdict = match waiting {
            0 => self.admit(&permit_pool, in_flight, true),
            // A backlog that meets a worker whose account has not answered yet, or lends more at once, only waits for that.
            _ if waiting >= WAITING_LIMIT.max(pace)
                && permit_pool.scarce()
                && !self.released(&in_flight) =>
            {
                let outcome = over_budget("many events of this connection wait for its budget");
                Verdict::Settled(in_flight, outcome)
            }
            _ => Verdict::Waits(in_flight),
        };
        match verdict {
            Verdict::Begins(in_flight) => self.unclaimed.push_back(in_flight),
            Verdict::Settled(in_flight, outcome) => self.settle(Settling::of(in_flight, outcome)),
            Verdict::Waits(in_flight) => {
                let queue = self.waiting.0.entry(id).or_insert_with(|| Queue {
                    permit_pool,
                    deliveries: VecDeque::new(),
                    pace: Recent::new(),
                });
                queue.deliveries.push_back((in_flight, Instant::now()));
                queue.permit_pool.waiting(queue.deliveries.len());
            }
        }
    }

    /// An event that the gate decided about without permits.
    pub(crate) fn refused(&self, mut in_flight: InFlight, outcome: Outcome) {
        if let (Some(budgets), Some(connection)) = (&self.shared.budgets, &in_flight.job.connection)
        {
            let permit_pool = budgets.permit_pool(connection);
            arrived(&mut in_flight, &permit_pool);
        }
        self.settle(Settling::of(in_flight, outcome));
    }

    /// Those for whom there are permits now begin; those who waited long enough are held.
    pub(crate) fn admit_waiting(&mut self) {
        if self.waiting.0.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.0.retain(|_, queue| {
            while let Some((in_flight, since)) = queue.deliveries.pop_front() {
                if !in_flight.ack_handle.valid() {
                    continue;
                }
                // It, or the last of those behind it, would wait for longer than it may.
                let may_wait =
                    since.elapsed() < WAIT || queue.pace.count() > queue.deliveries.len();
                match self.admit(&queue.permit_pool, in_flight, may_wait) {
                    Verdict::Begins(in_flight) => {
                        queue.pace.add();
                        self.unclaimed.push_back(in_flight);
                    }
                    Verdict::Settled(in_flight, outcome) => {
                        self.settle(Settling::of(in_flight, outcome))
                    }
                    Verdict::Waits(in_flight) => {
                        queue.deliveries.push_front((in_flight, since));
                        break;
                    }
                }
            }
            queue.permit_pool.waiting(queue.deliveries.len());
            !queue.deliveries.is_empty()
        });
        self.waiting = waiting;
    }

    fn admit(
        &self,
        permit_pool: &Arc<PermitPool>,
        mut in_flight: InFlight,
        may_wait: bool,
    ) -> Verdict {
        let released = self.released(&in_flight);
        match permit_pool.admit(released) {
            Admission::Go(admitted) => {
                in_flight.admitted = Some(admitted);
                Verdict::Begins(in_flight)
            }
            // Without an answer the database is away, and nothing can be held either.
            Admission::Unknown => Verdict::Waits(in_flight),
            Admission::Soon if released || may_wait => Verdict::Waits(in_flight),
            Admission::Soon => Verdict::Settled(
                in_flight,
                over_budget("the budget of this connection is used up for now"),
            ),
            Admission::Later {
                until,
                circuit: true,
                reason,
            } => {
                let left = until.saturating_duration_since(std::time::Instant::now());
                let outcome = match left > SHORT_CIRCUIT {
                    true => held(HoldCause::Circuit, &reason),
                    false => {
                        let context = self.shared.context(&in_flight.job);
                        let left = TimeDelta::from_std(left).unwrap_or_default();
                        decide::wait(context.now + left, &reason, context)
                    }
                };
                Verdict::Settled(in_flight, outcome)
            }
            Admission::Later { reason, .. } => Verdict::Settled(in_flight, over_budget(&reason)),
        }
    }

    /// Let go by the keeper because there was room, and not too long ago.
    fn released(&self, in_flight: &InFlight) -> bool {
        let permit = in_flight.job.delivery.metadata.permit_until;
        permit.is_some_and(|until| until > self.shared.now())
    }
}

/// Whatever becomes of it here, what the keeper let go is not under way any more.
fn arrived(in_flight: &mut InFlight, permit_pool: &PermitPool) {
    if in_flight.job.delivery.metadata.permit_until.is_some() && !in_flight.arrived {
        in_flight.arrived = true;
        permit_pool.begun();
    }
}

fn over_budget(reason: &str) -> Outcome {
    held(HoldCause::Budget, reason)
}

fn held(cause: HoldCause, reason: &str) -> Outcome {
    Outcome::Hold {
        cause,
        epoch: None,
        reason: reason.to_owned(),
        release_at: None,
        waits_for: None,
    }
}
