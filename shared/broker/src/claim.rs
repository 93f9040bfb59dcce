//! Claims in batches: what is already waiting, never waiting to fill one. One statement for up to 32 events costs
//! about as much as one for a single event.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::{sleep, timeout};
use tracing::Span;
use worker::trace::spans;
use worker::{
    Claims, DeadClass, Failure, Handler, Outcome, PortError, Release, Verdict, WaitCause, decide,
    failpoint,
};

use crate::exclusive_run::RunGuard;
use crate::lease::Lease;
use crate::parse::InFlight;
use crate::pauses::Pauses;
use crate::shared::Shared;

/// What the loop does with an event that was to be claimed.
pub(crate) enum Claimed<G> {
    Granted(InFlight, G, Lease),
    Decided(InFlight, Outcome),
    /// Two claims of it never came back.
    PoisonCandidate(InFlight),
    /// The store did not answer, or the process stops.
    Unanswered(InFlight),
}

/// How long a second poison candidate, or one that finds no quiet moment, stays away.
const CANDIDATE_AWAY: TimeDelta = TimeDelta::seconds(5);
/// A poison candidate waits for the running handlers at most this much longer than one of them may take.
const QUIET_EXTRA: Duration = Duration::from_secs(30);

impl<H: Handler, C: Claims<Grant = H::Grant>> Shared<H, C> {
    /// Every event of the batch comes back, but for those that are not ours any more.
    pub(crate) async fn claim(&self, mut batch: Vec<InFlight>) -> Vec<Claimed<H::Grant>> {
        let share = tokio::select! {
            share = self.exclusive_run.share() => share,
            () = self.draining.cancelled() => return batch.into_iter().map(Claimed::Unanswered).collect(),
        };
        // A poison candidate may have kept all others out for minutes: what the broker took back is not claimed.
        batch.retain(|in_flight| in_flight.ack_handle.valid());
        if batch.is_empty() {
            return Vec::new();
        }
        for in_flight in &batch {
            failpoint::hit_for("before_claim", in_flight.event_id());
        }
        let guard = || RunGuard::Shared(Arc::clone(&share));
        match self.ask_for(&batch, false).await {
            Ok(verdicts) => batch
                .into_iter()
                .zip(verdicts)
                .map(|(in_flight, verdict)| self.judge(in_flight, verdict, guard()))
                .collect(),
            Err(_) if batch.len() == 1 => batch.into_iter().map(Claimed::Unanswered).collect(),
            Err(_) => self.claim_singly(batch, guard).await,
        }
    }

    /// One bad row must not fail its neighbours; and where they pass, its failure is its own.
    async fn claim_singly(
        &self,
        batch: Vec<InFlight>,
        guard: impl Fn() -> RunGuard,
    ) -> Vec<Claimed<H::Grant>> {
        let (mut claimed, mut failed) = (Vec::with_capacity(batch.len()), Vec::new());
        for in_flight in batch {
            match self.ask_for_one(&in_flight, false).await {
                Ok(verdict) => claimed.push(self.judge(in_flight, verdict, guard())),
                Err(_) => failed.push(in_flight),
            }
        }
        let store_is_up = !claimed.is_empty();
        for in_flight in failed {
            if !store_is_up {
                claimed.push(Claimed::Unanswered(in_flight));
                continue;
            }
            // The store may just have come back.
            claimed.push(match self.ask_for_one(&in_flight, false).await {
                Ok(verdict) => self.judge(in_flight, verdict, guard()),
                Err(PortError(error)) => {
                    let failure = Failure::transient(
                        DeadClass::Internal,
                        format!("it could not be claimed: {error}"),
                    );
                    let outcome = decide::decide(Err(failure), self.context(&in_flight.job));
                    Claimed::Decided(in_flight, outcome)
                }
            });
        }
        claimed
    }

    async fn ask_for_one(
        &self,
        in_flight: &InFlight,
        exclusive: bool,
    ) -> Result<Verdict<H::Grant>, PortError> {
        let mut verdicts = self
            .ask_for(std::slice::from_ref(in_flight), exclusive)
            .await?;
        Ok(verdicts.swap_remove(0))
    }

    /// As many verdicts as events. After an error nothing is claimed.
    async fn ask_for(
        &self,
        batch: &[InFlight],
        exclusive: bool,
    ) -> Result<Vec<Verdict<H::Grant>>, PortError> {
        let jobs: Vec<_> = batch
            .iter()
            .map(|in_flight| in_flight.job.clone())
            .collect();
        self.counters.claim_calls.inc();
        // Empty, without an allocation, where nobody records.
        let waiting: Vec<Span> = batch
            .iter()
            .filter(|in_flight| !in_flight.span.is_disabled())
            .map(|in_flight| spans::claim(&in_flight.span, batch.len()))
            .collect();
        let answer = self.claims.claim(&jobs, exclusive).await;
        drop(waiting);
        let error = match answer {
            Ok(verdicts) if verdicts.len() == batch.len() => {
                self.counters.claimed_events.inc_by(batch.len() as u64);
                return Ok(verdicts);
            }
            Ok(verdicts) => PortError(format!(
                "{} verdicts for {} events",
                verdicts.len(),
                batch.len()
            )),
            Err(error) => error,
        };
        self.counters.claim_failures.inc();
        tracing::warn!(handler = self.handler.name(), events = batch.len(), %error, "a claim failed");
        // It may be committed all the same: an unreturned claim would count as one that died.
        let releases = jobs
            .iter()
            .map(|job| Release {
                token: job.token,
                link: None,
                last_error: None,
            })
            .collect();
        if let Err(error) = self.claims.release(releases).await {
            tracing::warn!(handler = self.handler.name(), %error, "a failed claim could not be given back");
        }
        Err(error)
    }

    fn judge(
        &self,
        in_flight: InFlight,
        verdict: Verdict<H::Grant>,
        guard: RunGuard,
    ) -> Claimed<H::Grant> {
        match verdict {
            Verdict::Granted(grant) => {
                let (token, link) = (in_flight.job.token, (self.link_of)(&grant));
                self.leases.add(token, link);
                let lease = Lease { token, link, guard };
                Claimed::Granted(in_flight, grant, lease)
            }
            Verdict::Ack(reason) => Claimed::Decided(in_flight, Outcome::Ack(reason)),
            Verdict::Busy { left } => {
                let outcome = decide::busy(left, self.context(&in_flight.job));
                Claimed::Decided(in_flight, outcome)
            }
            Verdict::Exclusive => Claimed::PoisonCandidate(in_flight),
            Verdict::Hold {
                cause,
                reason,
                waits_for,
            } => Claimed::Decided(
                in_flight,
                Outcome::Hold {
                    cause,
                    epoch: None,
                    reason,
                    release_at: None,
                    waits_for: waits_for.map(Box::new),
                },
            ),
            Verdict::Dead { class, reason } => {
                Claimed::Decided(in_flight, decide::dead(class, reason))
            }
        }
    }

    /// The third claim: nothing new is claimed in this process, its other handlers end, then this one runs by itself.
    pub(crate) async fn claim_exclusively(&self, in_flight: InFlight) -> Claimed<H::Grant> {
        let Some(turn) = self.exclusive_run.turn() else {
            return self.away(in_flight);
        };
        let patience = self.handler.policy().deadline + QUIET_EXTRA;
        let only = tokio::select! {
            only = timeout(patience, self.exclusive_run.only(turn)) => only,
            () = self.draining.cancelled() => return Claimed::Unanswered(in_flight),
        };
        let Ok(guard) = only else {
            return self.away(in_flight);
        };
        let mut pauses = Pauses::default();
        let verdict = loop {
            match self.ask_for_one(&in_flight, true).await {
                Ok(verdict) => break verdict,
                Err(_) if !in_flight.ack_handle.valid() => return Claimed::Unanswered(in_flight),
                Err(_) => tokio::select! {
                    () = sleep(pauses.next()) => {}
                    () = self.draining.cancelled() => return Claimed::Unanswered(in_flight),
                },
            }
        };
        match self.judge(in_flight, verdict, guard) {
            Claimed::PoisonCandidate(in_flight) => self.away(in_flight),
            Claimed::Granted(in_flight, grant, lease) => {
                self.counters.exclusive_runs.inc();
                Claimed::Granted(in_flight, grant, lease)
            }
            other => other,
        }
    }

    fn away(&self, in_flight: InFlight) -> Claimed<H::Grant> {
        let context = self.context(&in_flight.job);
        let outcome = decide::wait(
            context.now + CANDIDATE_AWAY,
            WaitCause::Exclusive.as_str(),
            context,
        );
        Claimed::Decided(in_flight, outcome)
    }
}
