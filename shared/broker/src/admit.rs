//! The last of the gate: an event begins with permits in hand, or waits for them a second at most in memory, or is held.
//! So a slot is never held by somebody who waits for a partner's budget, and a tenant over its budget costs the others
//! an insert.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;
use worker::budget::{Admission, Purse};
use worker::{Claims, Handler, HoldCause, Outcome, decide};

use crate::consuming::Consuming;
use crate::intake::Work;
use crate::settle::Settling;
use crate::waiting::{Queue, Recent, WAIT};

/// Events of one connection that wait in memory for its permits; more, where as many begin within [`WAIT`].
const WAITING_LIMIT: usize = 50;
/// An open circuit that is shorter is waited for on a rung.
const SHORT_CIRCUIT: Duration = Duration::from_secs(30);

enum Verdict {
    Begins(Work),
    Waits(Work),
    Settled(Work, Outcome),
}

impl<H: Handler, C: Claims<Grant = H::Grant>> Consuming<H, C> {
    /// An event that passed the rest of the gate.
    pub(crate) fn ready(&mut self, mut work: Work) {
        let (Some(budgets), Some(connection)) = (&self.shared.budgets, &work.job.connection) else {
            return self.unclaimed.push_back(work);
        };
        let id = connection.id;
        let purse = budgets.purse(connection);
        arrived(&mut work, &purse);
        let (waiting, pace) = match self.waiting.0.get_mut(&id) {
            Some(queue) => (queue.works.len(), queue.pace.count()),
            None => (0, 0),
        };
        // Nothing overtakes an event of its own connection.
        let verdict = match waiting {
            0 => self.admit(&purse, work, true),
            // A backlog that meets a worker whose account has not answered yet, or lends more at once, only waits for that.
            _ if waiting >= WAITING_LIMIT.max(pace) && purse.scarce() && !self.released(&work) => {
                let outcome = over_budget("many events of this connection wait for its budget");
                Verdict::Settled(work, outcome)
            }
            _ => Verdict::Waits(work),
        };
        match verdict {
            Verdict::Begins(work) => self.unclaimed.push_back(work),
            Verdict::Settled(work, outcome) => self.settle(Settling::of(work, outcome)),
            Verdict::Waits(work) => {
                let queue = self.waiting.0.entry(id).or_insert_with(|| Queue {
                    purse,
                    works: VecDeque::new(),
                    pace: Recent::new(),
                });
                queue.works.push_back((work, Instant::now()));
                queue.purse.waiting(queue.works.len());
            }
        }
    }

    /// An event that the gate decided about without permits.
    pub(crate) fn refused(&self, mut work: Work, outcome: Outcome) {
        if let (Some(budgets), Some(connection)) = (&self.shared.budgets, &work.job.connection) {
            let purse = budgets.purse(connection);
            arrived(&mut work, &purse);
        }
        self.settle(Settling::of(work, outcome));
    }

    /// Those for whom there are permits now begin; those who waited long enough are held.
    pub(crate) fn admit_waiting(&mut self) {
        if self.waiting.0.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.0.retain(|_, queue| {
            while let Some((work, since)) = queue.works.pop_front() {
                if !work.receipt.valid() {
                    continue;
                }
                // It, or the last of those behind it, would wait for longer than it may.
                let may_wait = since.elapsed() < WAIT || queue.pace.count() > queue.works.len();
                match self.admit(&queue.purse, work, may_wait) {
                    Verdict::Begins(work) => {
                        queue.pace.add();
                        self.unclaimed.push_back(work);
                    }
                    Verdict::Settled(work, outcome) => self.settle(Settling::of(work, outcome)),
                    Verdict::Waits(work) => {
                        queue.works.push_front((work, since));
                        break;
                    }
                }
            }
            queue.purse.waiting(queue.works.len());
            !queue.works.is_empty()
        });
        self.waiting = waiting;
    }

    fn admit(&self, purse: &Arc<Purse>, mut work: Work, may_wait: bool) -> Verdict {
        let released = self.released(&work);
        match purse.admit(released) {
            Admission::Go(admitted) => {
                work.admitted = Some(admitted);
                Verdict::Begins(work)
            }
            // Without an answer the database is away, and nothing can be held either.
            Admission::Unknown => Verdict::Waits(work),
            Admission::Soon if released || may_wait => Verdict::Waits(work),
            Admission::Soon => Verdict::Settled(
                work,
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
                        let context = self.shared.context(&work.job);
                        let left = TimeDelta::from_std(left).unwrap_or_default();
                        decide::wait(context.now + left, &reason, context)
                    }
                };
                Verdict::Settled(work, outcome)
            }
            Admission::Later { reason, .. } => Verdict::Settled(work, over_budget(&reason)),
        }
    }

    /// Let go by the keeper because there was room, and not too long ago.
    fn released(&self, work: &Work) -> bool {
        let permit = work.job.delivery.trail.permit_until;
        permit.is_some_and(|until| until > self.shared.now())
    }
}

/// Whatever becomes of it here, what the keeper let go is not under way any more.
fn arrived(work: &mut Work, purse: &Purse) {
    if work.job.delivery.trail.permit_until.is_some() && !work.arrived {
        work.arrived = true;
        purse.begun();
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
