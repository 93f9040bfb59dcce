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

use crate::alone::Presence;
use crate::intake::Work;
use crate::lease::Lease;
use crate::pauses::Pauses;
use crate::shared::Shared;

/// What the loop does with an event that was to be claimed.
pub(crate) enum Claimed<G> {
    Granted(Work, G, Lease),
    Decided(Work, Outcome),
    /// Two claims of it never came back.
    Suspect(Work),
    /// The store did not answer, or the process stops.
    Unanswered(Work),
}

/// How long a second suspect, or one that finds no quiet moment, stays away.
const SUSPECT_AWAY: TimeDelta = TimeDelta::seconds(5);
/// A suspect waits for the running handlers at most this much longer than one of them may take.
const QUIET_EXTRA: Duration = Duration::from_secs(30);

impl<H: Handler, C: Claims<Grant = H::Grant>> Shared<H, C> {
    /// Every event of the batch comes back, but for those that are not ours any more.
    pub(crate) async fn claim(&self, mut batch: Vec<Work>) -> Vec<Claimed<H::Grant>> {
        let share = tokio::select! {
            share = self.alone.share() => share,
            () = self.draining.cancelled() => return batch.into_iter().map(Claimed::Unanswered).collect(),
        };
        // A suspect may have kept the room for minutes: what the broker took back is not claimed.
        batch.retain(|work| work.receipt.valid());
        if batch.is_empty() {
            return Vec::new();
        }
        for work in &batch {
            failpoint::hit_for("before_claim", work.event_id());
        }
        let presence = || Presence::Shared(Arc::clone(&share));
        match self.ask_for(&batch, false).await {
            Ok(verdicts) => batch
                .into_iter()
                .zip(verdicts)
                .map(|(work, verdict)| self.judge(work, verdict, presence()))
                .collect(),
            Err(_) if batch.len() == 1 => batch.into_iter().map(Claimed::Unanswered).collect(),
            Err(_) => self.claim_singly(batch, presence).await,
        }
    }

    /// One bad row must not fail its neighbours; and where they pass, its failure is its own.
    async fn claim_singly(
        &self,
        batch: Vec<Work>,
        presence: impl Fn() -> Presence,
    ) -> Vec<Claimed<H::Grant>> {
        let (mut claimed, mut failed) = (Vec::with_capacity(batch.len()), Vec::new());
        for work in batch {
            match self.ask_for_one(&work, false).await {
                Ok(verdict) => claimed.push(self.judge(work, verdict, presence())),
                Err(_) => failed.push(work),
            }
        }
        let store_is_up = !claimed.is_empty();
        for work in failed {
            if !store_is_up {
                claimed.push(Claimed::Unanswered(work));
                continue;
            }
            // The store may just have come back.
            claimed.push(match self.ask_for_one(&work, false).await {
                Ok(verdict) => self.judge(work, verdict, presence()),
                Err(PortError(error)) => {
                    let failure = Failure::transient(
                        DeadClass::Internal,
                        format!("it could not be claimed: {error}"),
                    );
                    let outcome = decide::decide(Err(failure), self.context(&work.job));
                    Claimed::Decided(work, outcome)
                }
            });
        }
        claimed
    }

    async fn ask_for_one(&self, work: &Work, alone: bool) -> Result<Verdict<H::Grant>, PortError> {
        let mut verdicts = self.ask_for(std::slice::from_ref(work), alone).await?;
        Ok(verdicts.swap_remove(0))
    }

    /// As many verdicts as events. After an error nothing is claimed.
    async fn ask_for(
        &self,
        batch: &[Work],
        alone: bool,
    ) -> Result<Vec<Verdict<H::Grant>>, PortError> {
        let jobs: Vec<_> = batch.iter().map(|work| work.job.clone()).collect();
        self.counters.claim_calls.inc();
        // Empty, without an allocation, where nobody records.
        let waiting: Vec<Span> = batch
            .iter()
            .filter(|work| !work.span.is_disabled())
            .map(|work| spans::claim(&work.span, batch.len()))
            .collect();
        let answer = self.claims.claim(&jobs, alone).await;
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
        work: Work,
        verdict: Verdict<H::Grant>,
        presence: Presence,
    ) -> Claimed<H::Grant> {
        match verdict {
            Verdict::Granted(grant) => {
                let (token, link) = (work.job.token, (self.link_of)(&grant));
                self.leases.add(token, link);
                let lease = Lease {
                    token,
                    link,
                    presence,
                };
                Claimed::Granted(work, grant, lease)
            }
            Verdict::Ack(reason) => Claimed::Decided(work, Outcome::Ack(reason)),
            Verdict::Busy { left } => {
                let outcome = decide::busy(left, self.context(&work.job));
                Claimed::Decided(work, outcome)
            }
            Verdict::Alone => Claimed::Suspect(work),
            Verdict::Hold {
                cause,
                reason,
                waits_for,
            } => Claimed::Decided(
                work,
                Outcome::Hold {
                    cause,
                    epoch: None,
                    reason,
                    release_at: None,
                    waits_for: waits_for.map(Box::new),
                },
            ),
            Verdict::Dead { class, reason } => Claimed::Decided(work, decide::dead(class, reason)),
        }
    }

    /// The third claim: nothing new is claimed in this process, its other handlers end, then this one runs by itself.
    pub(crate) async fn claim_alone(&self, work: Work) -> Claimed<H::Grant> {
        let Some(turn) = self.alone.turn() else {
            return self.away(work);
        };
        let patience = self.handler.policy().deadline + QUIET_EXTRA;
        let only = tokio::select! {
            only = timeout(patience, self.alone.only(turn)) => only,
            () = self.draining.cancelled() => return Claimed::Unanswered(work),
        };
        let Ok(presence) = only else {
            return self.away(work);
        };
        let mut pauses = Pauses::default();
        let verdict = loop {
            match self.ask_for_one(&work, true).await {
                Ok(verdict) => break verdict,
                Err(_) if !work.receipt.valid() => return Claimed::Unanswered(work),
                Err(_) => tokio::select! {
                    () = sleep(pauses.next()) => {}
                    () = self.draining.cancelled() => return Claimed::Unanswered(work),
                },
            }
        };
        match self.judge(work, verdict, presence) {
            Claimed::Suspect(work) => self.away(work),
            Claimed::Granted(work, grant, lease) => {
                self.counters.ran_alone.inc();
                Claimed::Granted(work, grant, lease)
            }
            other => other,
        }
    }

    fn away(&self, work: Work) -> Claimed<H::Grant> {
        let context = self.context(&work.job);
        let outcome = decide::wait(
            context.now + SUSPECT_AWAY,
            WaitCause::Alone.as_str(),
            context,
        );
        Claimed::Decided(work, outcome)
    }
}
