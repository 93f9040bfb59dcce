//! The loop's own moves: what has come moves on as far as it can without waiting, and the rest becomes a task.

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::time::sleep;
use tracing::{Instrument as _, Span};
use worker::gate::Destination;
use worker::{CLAIM_BATCH_LIMIT, Claims, Handler, decide};

use crate::claim::Claimed;
use crate::consuming::{Consuming, Report};
use crate::counters::Stage;
use crate::lease::Lease;
use crate::parse::{InFlight, token};
use crate::prepare::Passed;
use crate::settle::Settling;
use crate::shared::Shared;

/// A hold whose cause comes and goes this often waits on a retry tier instead.
const BOUNCES: u32 = 3;
const BOUNCED_AWAY: TimeDelta = TimeDelta::seconds(5);

impl<H: Handler, C: Claims<Grant = H::Grant>> Consuming<H, C> {
    /// Starts whatever can start now.
    pub(crate) fn pump(&mut self) {
        self.admit_waiting();
        while !self.granted.is_empty() {
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
                break;
            };
            let Some((in_flight, grant, lease)) = self.granted.pop_front() else {
                break;
            };
            let span = in_flight.span.clone();
            self.again_after(
                move |shared| async move { shared.handle(in_flight, grant, lease, slot).await },
                span,
            );
        }
        if !self.preparing && !self.unprepared.is_empty() {
            self.start_prepare();
        }
        // Only with an empty list of granted ones: a claimed event that waits for a slot holds a lease for nothing.
        let free = self.slots.available_permits();
        if !self.claiming && self.granted.is_empty() && free > 0 && !self.unclaimed.is_empty() {
            self.start_claim(free);
        }
    }

    pub(crate) fn count_waiting(&self) {
        self.shared.counters.has(self.readiness.in_flight());
        for (stage, deliveries) in [
            (Stage::Prepare, self.unprepared.len()),
            (Stage::Permits, self.waiting.len()),
            (Stage::Claim, self.unclaimed.len()),
            (Stage::Slot, self.granted.len()),
        ] {
            self.shared.counters.waits(stage, deliveries);
        }
    }

    /// Where a decoded event begins.
    pub(crate) fn enter(&mut self, in_flight: InFlight) {
        match self.shared.pass(in_flight) {
            Passed::Ready(in_flight) => self.ready(in_flight),
            Passed::Decided(in_flight, outcome) => self.refused(in_flight, outcome),
            Passed::FanOut(in_flight, destinations) => self.fan_out(in_flight, destinations),
            Passed::Unknown(in_flight) => self.unprepared.push(in_flight),
        }
    }

    fn fan_out(&self, mut in_flight: InFlight, destinations: Vec<Destination>) {
        self.shared.begin(&mut in_flight);
        let span = in_flight.span.clone();
        self.again_after(
            move |shared| async move { shared.fan_out(in_flight, destinations).await },
            span,
        );
    }

    pub(crate) fn settle(&self, mut settling: Settling) {
        let span = self.shared.begin_subject(&mut settling.subject);
        self.again_after(
            move |shared| async move { shared.settle(settling).await },
            span,
        );
    }

    /// What comes from a channel that is over is dropped: the broker has it back.
    pub(crate) fn take(&mut self, report: Report<H::Grant>) {
        let dropped =
            |in_flight: &InFlight, draining: bool| draining || !in_flight.ack_handle.valid();
        let draining = self.shared.draining.is_cancelled();
        match report {
            Report::Prepared(passed, unanswered) => {
                if unanswered.is_empty() {
                    self.prepare_pauses.reset();
                }
                for passed in passed {
                    match passed {
                        Passed::Ready(in_flight)
                        | Passed::Unknown(in_flight)
                        | Passed::Decided(in_flight, _)
                        | Passed::FanOut(in_flight, _)
                            if dropped(&in_flight, draining) => {}
                        Passed::Ready(in_flight) => self.ready(in_flight),
                        Passed::Decided(in_flight, outcome) => self.refused(in_flight, outcome),
                        Passed::FanOut(in_flight, destinations) => {
                            self.fan_out(in_flight, destinations)
                        }
                        Passed::Unknown(in_flight) => self.unprepared.push(in_flight),
                    }
                }
                self.unprepared.extend(
                    unanswered
                        .into_iter()
                        .filter(|in_flight| !dropped(in_flight, draining)),
                );
            }
            Report::PrepareNext => self.preparing = false,
            Report::Claimed(claimed) => {
                if !claimed
                    .iter()
                    .any(|claimed| matches!(claimed, Claimed::Unanswered(_)))
                {
                    self.claim_pauses.reset();
                }
                for claimed in claimed {
                    match claimed {
                        Claimed::Granted(in_flight, _, lease) if dropped(&in_flight, draining) => {
                            self.abandon(&in_flight, lease)
                        }
                        Claimed::Granted(in_flight, grant, lease) => {
                            self.granted.push_back((in_flight, grant, lease))
                        }
                        // Already committed as decided.
                        Claimed::Decided(in_flight, outcome) => {
                            self.settle(Settling::of(in_flight, outcome))
                        }
                        Claimed::PoisonCandidate(in_flight) | Claimed::Unanswered(in_flight)
                            if dropped(&in_flight, draining) => {}
                        Claimed::PoisonCandidate(in_flight) => self.start_exclusively(in_flight),
                        Claimed::Unanswered(in_flight) => self.unclaimed.push_front(in_flight),
                    }
                }
            }
            Report::ClaimNext => self.claiming = false,
            Report::Again(in_flight) if dropped(&in_flight, draining) => {}
            Report::Again(in_flight) => self.again(in_flight),
        }
    }

    fn again(&mut self, mut in_flight: InFlight) {
        in_flight.bounced += 1;
        in_flight.ask_store = true;
        // Whoever handled it before may still believe in its token.
        in_flight.job.token = token();
        in_flight.job.connection = None;
        in_flight.admitted = None;
        if in_flight.bounced < BOUNCES {
            return self.enter(in_flight);
        }
        let context = self.shared.context(&in_flight.job);
        let outcome = decide::wait(
            context.now + BOUNCED_AWAY,
            "the cause of its hold comes and goes",
            context,
        );
        self.settle(Settling::of(in_flight, outcome));
    }

    fn start_prepare(&mut self) {
        self.preparing = true;
        let deliveries = std::mem::take(&mut self.unprepared);
        let pause = self.prepare_pauses.next();
        let (shared, report) = (Arc::clone(&self.shared), self.report.clone());
        self.tasks.spawn(async move {
            let (passed, unanswered) = shared.prepare(deliveries).await;
            let failed = !unanswered.is_empty();
            let _ = report.send(Report::Prepared(passed, unanswered)).await;
            if failed {
                shared.pause(pause).await;
            }
            let _ = report.send(Report::PrepareNext).await;
        });
    }

    fn start_claim(&mut self, free: usize) {
        self.claiming = true;
        // Half a round more than there are free slots: under a backlog one call serves at least half the slots.
        let most = CLAIM_BATCH_LIMIT.min(free + self.slots_in_all / 2).max(1);
        let mut batch: Vec<InFlight> = self
            .unclaimed
            .drain(..most.min(self.unclaimed.len()))
            .collect();
        for in_flight in &mut batch {
            self.shared.begin(in_flight);
        }
        let pause = self.claim_pauses.next();
        let (shared, report) = (Arc::clone(&self.shared), self.report.clone());
        self.tasks.spawn(async move {
            let claimed = shared.claim(batch).await;
            let failed = claimed
                .iter()
                .any(|claimed| matches!(claimed, Claimed::Unanswered(_)));
            let _ = report.send(Report::Claimed(claimed)).await;
            if failed {
                shared.pause(pause).await;
            }
            let _ = report.send(Report::ClaimNext).await;
        });
    }

    fn start_exclusively(&self, in_flight: InFlight) {
        let (shared, report) = (Arc::clone(&self.shared), self.report.clone());
        self.tasks.spawn(async move {
            let claimed = shared.claim_exclusively(in_flight).await;
            let _ = report.send(Report::Claimed(vec![claimed])).await;
        });
    }

    pub(crate) fn abandon(&self, in_flight: &InFlight, lease: Lease) {
        let (shared, event) = (Arc::clone(&self.shared), Arc::clone(&in_flight.job.event));
        self.tasks
            .spawn(async move { shared.abandon(lease, &event.id, "not started").await });
    }

    /// The task runs in `span`, so that its log lines name their trace and what it publishes goes on from there.
    fn again_after<F>(&self, task: impl FnOnce(Arc<Shared<H, C>>) -> F, span: Span)
    where
        F: Future<Output = Option<InFlight>> + Send + 'static,
    {
        // Boxed at once: on its way into a task a future is moved four times, and this one is large.
        let running = Box::pin(task(Arc::clone(&self.shared))).instrument(span);
        let report = self.report.clone();
        self.tasks.spawn(async move {
            if let Some(in_flight) = running.await {
                let _ = report.send(Report::Again(in_flight)).await;
            }
        });
    }
}

impl<H: Handler, C: Claims<Grant = H::Grant>> Shared<H, C> {
    async fn pause(&self, pause: std::time::Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.draining.cancelled() => {}
        }
    }
}
