//! What was decided is carried out, and only then is the delivery acknowledged.
//!
//! The order never changes: give the lease back, write the copy (confirmed) or the row (committed), acknowledge. So a
//! crash leaves the message at least once somewhere, and no lease outlives a decision. A step whose result is
//! unknown is repeated, which can make two copies; the second one finds the work done.
//! This is the last of an event's files: after the acknowledgement nothing of the delivery is left here.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use event::EventType;
use tokio::time::sleep;
use worker::gate;
use worker::trace::spans;
use worker::{
    AckReason, Claims, CutCopy, FanOutItem, Handler, HoldItem, HoldVerdict, Outcome, Release,
    failpoint,
};

use crate::ack_handle::AckHandle;
use crate::error::PublishError;
use crate::headers::{Destination, forward};
use crate::lease::Lease;
use crate::parse::{InFlight, Subject};
use crate::shared::Shared;

/// Pauses between repeats of a failed step.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A settle that takes longer closes its channel: everything on it comes back. Below the broker's own limit of 30 min.
const SETTLE_LIMIT: Duration = Duration::from_secs(600);

/// A decision with what is needed to carry it out.
pub(crate) struct Settling {
    pub(crate) subject: Subject,
    pub(crate) outcome: Outcome,
    /// Present where a lease was taken.
    pub(crate) lease: Option<Lease>,
    pub(crate) link: Option<i64>,
}

/// What is counted of a settled delivery.
#[derive(Clone, Copy)]
struct SettledFacts {
    event_type: Option<EventType>,
    since: Option<DateTime<Utc>>,
}

impl SettledFacts {
    fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Event(in_flight) => Self {
                event_type: Some(in_flight.job.event.event_type),
                since: in_flight.job.event.time,
            },
            Subject::Unreadable { .. } => Self {
                event_type: None,
                since: None,
            },
        }
    }
}

impl Settling {
    pub(crate) fn of(in_flight: InFlight, outcome: Outcome) -> Self {
        Self {
            subject: Subject::Event(in_flight),
            outcome,
            lease: None,
            link: None,
        }
    }
}

impl<H: Handler, C: Claims<Grant = H::Grant>> Shared<H, C> {
    /// `Some`: the cause of the hold is gone, and the event is handled as if just received.
    pub(crate) async fn settle(&self, settling: Settling) -> Option<InFlight> {
        let Settling {
            subject,
            outcome,
            lease,
            link,
        } = settling;
        self.log(&subject, &outcome);
        let facts = SettledFacts::of(&subject);
        let since = Instant::now();
        if let Some(lease) = lease {
            match &outcome {
                // A completed handling has returned its lease with its last statement.
                Outcome::Ack(_) => self.leases.remove(lease.token),
                Outcome::RetryLater { reason, .. }
                | Outcome::Hold { reason, .. }
                | Outcome::DeadLetter { reason, .. } => {
                    Box::pin(self.give_back(lease, reason, &subject, since)).await?;
                }
            }
        }
        // Only the way to an acknowledgement lies in this task itself: what is rare is not copied around with each event.
        match &outcome {
            Outcome::Ack(_) => failpoint::hit_for("before_ack", subject.event_id()),
            Outcome::RetryLater {
                retry_tier,
                counted,
                due,
                class,
                reason,
            } => {
                let to = Destination::RetryTier {
                    counted: *counted,
                    due: *due,
                    class: *class,
                    reason,
                };
                let queue = self.topology.retry_tier(self.handler.name(), *retry_tier);
                Box::pin(self.copy(&subject, &queue, to, since)).await?;
                failpoint::hit_for("after_retry_copy", subject.event_id());
            }
            Outcome::DeadLetter {
                class,
                fingerprint,
                reason,
            } => {
                let key = match &subject {
                    Subject::Unreadable { key, .. } => key.as_deref(),
                    Subject::Event(_) => None,
                };
                let to = Destination::Dead {
                    class: *class,
                    fingerprint,
                    reason,
                    link,
                    key,
                };
                let queue = self.topology.dead(self.handler.name());
                Box::pin(self.copy(&subject, &queue, to, since)).await?;
                failpoint::hit_for("after_dead_copy", subject.event_id());
            }
            Outcome::Hold { .. } => {
                let Subject::Event(in_flight) = subject else {
                    // Only a decoded event is ever held: what can't be read is a dead letter.
                    return None;
                };
                return Box::pin(self.hold(in_flight, &outcome, facts, since)).await;
            }
        }
        self.acknowledge(subject.into_ack_handle(), &outcome, facts)
            .await
    }

    /// The row is committed, then the delivery is done. `Some`: the cause is gone meanwhile.
    async fn hold(
        &self,
        in_flight: InFlight,
        outcome: &Outcome,
        facts: SettledFacts,
        since: Instant,
    ) -> Option<InFlight> {
        let Outcome::Hold {
            cause,
            epoch,
            reason,
            release_at,
            waits_for,
        } = outcome
        else {
            // Called for a hold only.
            return None;
        };
        let item = HoldItem {
            worker: self.handler.name(),
            target_system: self.handler.target_system(),
            job: in_flight.going_on(),
            cause: *cause,
            epoch: *epoch,
            reason: reason.clone(),
            release_at: *release_at,
            waits_for: waits_for.as_deref().cloned(),
        };
        failpoint::hit_for("before_hold", in_flight.event_id());
        let hold = || self.holder.hold(item.clone());
        let (ack_handle, event) = (&in_flight.ack_handle, in_flight.event_id());
        match self.persist("hold", ack_handle, event, since, hold).await? {
            HoldVerdict::Held => failpoint::hit_for("after_hold", in_flight.event_id()),
            HoldVerdict::CauseGone => {
                self.counters.cause_gone.inc();
                return Some(in_flight);
            }
            HoldVerdict::Covered => {
                let superseded = Outcome::Ack(AckReason::Superseded);
                return self
                    .acknowledge(in_flight.ack_handle, &superseded, facts)
                    .await;
            }
        }
        self.acknowledge(in_flight.ack_handle, outcome, facts).await
    }

    /// The copies are committed first, all or none, then the delivery is done. A crash in between fans it out once more.
    pub(crate) async fn fan_out(
        &self,
        in_flight: InFlight,
        destinations: Vec<gate::Destination>,
    ) -> Option<InFlight> {
        let item = FanOutItem {
            worker: self.handler.name(),
            job: in_flight.going_on(),
            copies: destinations
                .iter()
                .map(|destination| CutCopy {
                    connection: destination.connection.id,
                    facet: destination.facet,
                })
                .collect(),
        };
        failpoint::hit_for("before_fan_out", in_flight.event_id());
        let fan_out = || self.fan_out.fan_out(item.clone());
        let (ack_handle, event) = (&in_flight.ack_handle, in_flight.event_id());
        self.persist("fan_out", ack_handle, event, Instant::now(), fan_out)
            .await?;
        failpoint::hit_for("after_fan_out", in_flight.event_id());
        let outcome = Outcome::Ack(AckReason::FannedOut);
        self.settle(Settling::of(in_flight, outcome)).await
    }

    async fn acknowledge(
        &self,
        ack_handle: AckHandle,
        outcome: &Outcome,
        facts: SettledFacts,
    ) -> Option<InFlight> {
        self.counters
            .settled(outcome, facts.event_type, facts.since);
        if !ack_handle.ack().await {
            self.counters.settle_lost.inc();
        }
        None
    }

    async fn give_back(
        &self,
        lease: Lease,
        last_error: &str,
        subject: &Subject,
        since: Instant,
    ) -> Option<()> {
        let release = || {
            self.claims.release(vec![Release {
                token: lease.token,
                link: lease.link,
                last_error: Some(last_error.to_owned()),
            }])
        };
        let released = match release().await {
            Ok(()) => Some(()),
            // Not ours any more or not now: an unreturned lease expires.
            Err(_) => {
                let (ack_handle, event) = (subject.ack_handle(), subject.event_id());
                self.persist("release", ack_handle, event, since, release)
                    .await
            }
        };
        self.leases.remove(lease.token);
        drop(lease.guard);
        released
    }

    async fn copy(
        &self,
        subject: &Subject,
        queue: &str,
        to: Destination<'_>,
        since: Instant,
    ) -> Option<()> {
        failpoint::hit_for("before_settle_copy", subject.event_id());
        let delivery = subject.delivery();
        let properties = forward(delivery, to, self.now());
        let publish = || async {
            let body = delivery.body.clone();
            let sent = self.publisher.publish("", queue, body, &properties).await;
            if let Err(PublishError::Returned { .. }) = &sent {
                self.declare_again(queue).await;
            }
            sent
        };
        let (ack_handle, event) = (subject.ack_handle(), subject.event_id());
        self.persist("copy", ack_handle, event, since, publish)
            .await?;
        failpoint::hit_for("after_copy", subject.event_id());
        Some(())
    }

    /// Somebody deleted a queue of ours under its worker, or the broker came back without it. The copy is sent again.
    async fn declare_again(&self, queue: &str) {
        let (name, consumes) = (self.handler.name(), self.handler.consumes());
        let declared = self.topology.declare_worker(&self.broker, name, consumes);
        match declared.await {
            Ok(()) => tracing::warn!(handler = name, queue, "a missing queue is declared again"),
            Err(error) => {
                tracing::warn!(handler = name, queue, %error, "a missing queue cannot be declared")
            }
        }
    }

    /// Repeats a step while the delivery is ours. `None`: it is not any more, or the process stops; the broker has it.
    async fn persist<T, E, F>(
        &self,
        step: &'static str,
        ack_handle: &AckHandle,
        event_id: &str,
        since: Instant,
        mut attempt: impl FnMut() -> F,
    ) -> Option<T>
    where
        E: std::fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            if !ack_handle.valid() {
                return None;
            }
            match attempt().await {
                Ok(done) => return Some(done),
                Err(error) => {
                    tracing::warn!(event.id = event_id, handler = self.handler.name(), step, %error, "a settle step failed")
                }
            }
            self.counters.settle_repeated.inc();
            if since.elapsed() + pause > SETTLE_LIMIT {
                tracing::error!(
                    event.id = event_id,
                    handler = self.handler.name(),
                    step,
                    "given up: the channel is closed"
                );
                self.counters.settle_abandoned.inc();
                ack_handle.close_channel();
                return None;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = ack_handle.lost() => return None,
                () = self.aborting.cancelled() => return None,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One line per decision. Never a body: it holds personal data.
    fn log(&self, subject: &Subject, outcome: &Outcome) {
        let (detail, reason) = match outcome {
            Outcome::Ack(reason) => (reason.as_str(), ""),
            Outcome::RetryLater {
                retry_tier, reason, ..
            } => (retry_tier.name, reason.as_str()),
            Outcome::Hold { cause, reason, .. } => (cause.as_str(), reason.as_str()),
            Outcome::DeadLetter { class, reason, .. } => (class.as_str(), reason.as_str()),
        };
        let (event_type, tenant) = match subject {
            Subject::Event(in_flight) => (
                in_flight.job.event.event_type.as_str(),
                in_flight.job.event.tenant.as_str(),
            ),
            Subject::Unreadable { identity, .. } => (
                identity.event_type.as_deref().unwrap_or_default(),
                identity.tenant.as_deref().unwrap_or_default(),
            ),
        };
        let metadata = &subject.delivery().metadata;
        tracing::info!(
            event.id = subject.event_id(),
            event.r#type = event_type,
            tenant.id = tenant,
            handler = self.handler.name(),
            attempt = metadata.attempt,
            generation = metadata.generation,
            outcome = outcome.as_str(),
            detail,
            reason,
            "settling"
        );
        let failure = match outcome {
            Outcome::RetryLater {
                counted: true,
                class,
                ..
            }
            | Outcome::DeadLetter { class, .. } => Some(class.as_str()),
            Outcome::RetryLater { counted: false, .. } | Outcome::Hold { .. } | Outcome::Ack(_) => {
                None
            }
        };
        // Of what can't be read too, which has no place for its span.
        let span = tracing::Span::current();
        spans::decided(&span, outcome.as_str(), detail, failure);
    }
}
