//! One call at the partner: reserved, sent within its window, and what its answer says written down. Between the reserve
//! and the writing nothing is known but that it may have happened.

use std::time::Duration;

use serde_json::json;
use store::links::{Completed, Completion, Reservation, Reserved, Resolution};
use tracing::Instrument as _;
use worker::failpoint;
use worker::trace::spans;
use worker::{AckReason, DeadClass, Done, Failure, Handled, WaitCause};

use super::{Flow, Halt, Run, lags, no_effect};
use crate::effect::{Effect, Operation, Request};
use crate::link::LinkState;
use crate::metrics::Ending;
use crate::proof::{self, LinkChange};
use crate::step::Intent;
use crate::target::{Answer, Call, SendError};

impl Run<'_, '_> {
    pub(super) async fn call(
        &mut self,
        call: Call,
        mut request: Request,
        last: bool,
    ) -> Result<Flow, Halt> {
        let operation = call.operation();
        if operation != Operation::Delete {
            request.refers.clone_from(&self.work.refers);
        }
        let begun = self.driver.clock.elapsed();
        if begun + self.driver.target.longest(operation) > self.deadline {
            // A chain goes on with the next delivery; nothing of it is lost.
            return Ok(self.wait(WaitCause::TooLate));
        }
        let settle = self.driver.target.settle(operation);
        let reserved = self
            .driver
            .ledger
            .reserve(self.reservation(&call, &request, last, settle))
            .instrument(spans::reserve(self.link.id, operation.as_str()))
            .await?;
        let row = match reserved {
            Reserved::Yes(row) => *row,
            Reserved::Lost => return Ok(self.lost()),
            Reserved::Moved => return Ok(self.wait(WaitCause::Reference)),
            // Another worker's effect is open: that worker has the link now, or its call has not ended.
            Reserved::Open => return Ok(self.wait(WaitCause::TokenLost)),
        };
        let effect = Effect::read(row).ok_or_else(no_effect)?;
        self.open = Some(effect.clone());
        failpoint::hit_for("after_sent", &self.work.event_id);
        let Some(left) = self
            .driver
            .settings
            .send_window
            .checked_sub(self.driver.clock.elapsed() - begun)
        else {
            self.fail(&effect, "not sent: the window had passed", false)
                .await?;
            return Ok(self.wait(WaitCause::TooLate));
        };
        let sent_at = self.driver.clock.elapsed();
        let sent = self.driver.target.send(&call, left).await;
        let took = self.driver.clock.elapsed().saturating_sub(sent_at);
        self.sent(&effect, sent, took).await
    }

    /// What became of the call, `took` after it was sent.
    async fn sent(
        &mut self,
        effect: &Effect,
        sent: Result<Answer, SendError>,
        took: Duration,
    ) -> Result<Flow, Halt> {
        let operation = effect.operation;
        let ending = match &sent {
            Ok(_) => Ending::Confirmed,
            Err(SendError::NotSent(_) | SendError::Hidden(_)) => Ending::NotSent,
            Err(SendError::Refused(_)) => Ending::Refused,
            Err(SendError::Unknown(_) | SendError::Unseen(_)) => Ending::Unknown,
        };
        self.metrics().ended(operation, ending);
        if ending == Ending::Confirmed {
            self.metrics().answered(operation, took);
        }
        failpoint::hit_for("after_call", &self.work.event_id);
        match sent {
            Ok(answer) => self.answered(effect, answer).await,
            Err(SendError::NotSent(failure)) => {
                self.fail(effect, &failure.to_string(), false).await?;
                Err(failure.into())
            }
            Err(SendError::Refused(failure)) => {
                self.fail(effect, &failure.to_string(), operation == Operation::Create)
                    .await?;
                Err(failure.into())
            }
            Err(SendError::Hidden(message)) => {
                self.fail(effect, &message, false).await?;
                Ok(lags(self.now() + self.driver.target.lag()))
            }
            Err(SendError::Unseen(message)) => {
                self.unknown(effect, &message).await?;
                if self.gave_up {
                    // It was done before, never seen and given up: that is no lag any more.
                    return Err(Failure::transient(DeadClass::Unknown, message).into());
                }
                Ok(lags(self.now() + self.driver.target.lag()))
            }
            Err(SendError::Unknown(message)) => {
                self.unknown(effect, &message).await?;
                Err(Failure::transient(DeadClass::Unknown, message).into())
            }
        }
    }

    /// A clear "done".
    async fn answered(&mut self, effect: &Effect, answer: Answer) -> Result<Flow, Halt> {
        self.calls += 1;
        let change = proof::change_by_answer(effect, &self.link, &answer);
        let not_taken: Vec<&str> = change.base.not_taken(&effect.request.fields).collect();
        let note = if not_taken.is_empty() {
            json!({})
        } else {
            json!({ "not_taken": not_taken })
        };
        self.observations.read.clear();
        if let Some(record) = answer.record {
            self.observations
                .read
                .insert(record.id.clone(), Some(record));
        }
        self.complete(effect, change, note, self.work.intent.k().is_none(), true)
            .await
    }

    async fn unknown(&mut self, effect: &Effect, outcome: &str) -> Result<(), Halt> {
        let unknown = Resolution::Unknown {
            effect: effect.id,
            link: self.link.id,
            outcome: outcome.to_owned(),
        };
        self.driver.ledger.resolve(unknown).await?;
        Ok(())
    }

    pub(super) async fn complete(
        &mut self,
        effect: &Effect,
        change: LinkChange,
        note: serde_json::Value,
        keep_lease: bool,
        answered: bool,
    ) -> Result<Flow, Halt> {
        let own_keys = match &self.work.intent {
            Intent::Content { content, .. } if !keep_lease => {
                Some(content.keys.iter().map(|key| key.0.clone()).collect())
            }
            _ => None,
        };
        let outcome = self.outcome_of(effect, &change.target_id);
        let completion = Completion {
            outcome,
            effect: effect.id,
            link: self.link.id,
            token: self.token,
            target_id: Some(change.target_id),
            base: json!(change.base),
            parts: json!(change.parts),
            natural_keys: own_keys,
            what: effect.operation.past().to_owned(),
            note,
            keep_lease,
            answered,
        };
        let completed = self
            .driver
            .ledger
            .complete(completion)
            .instrument(spans::complete(self.link.id))
            .await?;
        match completed {
            Completed::Ended => {
                failpoint::hit_for("after_complete", &self.work.event_id);
                Ok(Flow::End(Handled::Done(Done(AckReason::Applied))))
            }
            Completed::Confirmed(now) => {
                self.update(now.link, now.open)?;
                if self.link.state != LinkState::Conflict {
                    failpoint::hit_for("after_complete", &self.work.event_id);
                }
                Ok(Flow::On)
            }
            Completed::Elsewhere(now) => {
                self.update(now.link, now.open)?;
                if answered {
                    self.metrics().late();
                }
                Ok(self.lost())
            }
        }
    }

    async fn fail(&mut self, effect: &Effect, outcome: &str, doubtful: bool) -> Result<(), Halt> {
        let recheck = self
            .driver
            .settings
            .rechecks
            .first()
            .copied()
            .filter(|_| doubtful);
        let failed = Resolution::Failed {
            effect: effect.id,
            link: self.link.id,
            outcome: outcome.to_owned(),
            recheck,
        };
        self.driver.ledger.resolve(failed).await?;
        Ok(())
    }

    fn reservation(
        &self,
        call: &Call,
        request: &Request,
        last: bool,
        settle: Duration,
    ) -> Reservation {
        Reservation {
            effect: (self.driver.new_id)(),
            link: self.link.id,
            token: self.token,
            source: self.work.source.clone(),
            event_id: self.work.event_id.clone(),
            generation: self.work.generation,
            k: self.work.intent.k().cloned(),
            operation: call.operation().as_str(),
            last,
            request: json!(request),
            target_id: call.target_id().map(str::to_owned),
            settle,
            refers: request.refers.clone(),
        }
    }
}
