//! Which step of a handling ends an event, and the outcome that is written with it.

use store::links::{Derived, End, Finish};
use worker::AckReason;

use super::{Flow, Halt, Run};
use crate::effect::{Effect, Operation};
use crate::outcome::{EndedEvent, operation};

impl Run<'_, '_> {
    /// The partner holds what our event wants.
    pub(super) async fn unchanged(&mut self) -> Result<Flow, Halt> {
        let (done, operation) = match (self.calls, self.made) {
            (0, false) => (AckReason::Unchanged, "none"),
            (0, true) => (AckReason::Unchanged, "create"),
            (_, true) => (AckReason::Applied, "create"),
            (_, false) => (AckReason::Applied, "update"),
        };
        let finish = self.finish_with_outcome(End::Unchanged, operation);
        self.end(finish, Some(done)).await
    }

    /// An ending of our own event without a call.
    pub(super) fn finish_with_outcome(&self, end: End, operation: &str) -> Finish {
        let mut finish = self.finish(end);
        if self.work.intent.k().is_none() {
            return finish;
        }
        let target_id = finish.target_id.as_deref().filter(|_| end != End::Deleted);
        finish.outcome = self.outcomes.as_ref().map(|outcomes| {
            let of = EndedEvent {
                event_id: &self.work.event_id,
                cause: self.work.cause.as_ref(),
            };
            let what = self.token.to_string();
            outcomes.completed(&what, of, operation, target_id, self.now())
        });
        finish
    }

    /// The end of an effect: of our own event, or of another one that was waiting for this proof.
    pub(super) fn outcome_of(&mut self, effect: &Effect, target_id: &str) -> Option<Derived> {
        let own = effect.k.is_some() && effect.k.as_ref() == self.work.intent.k();
        self.made |= own && effect.operation == Operation::Create;
        if !effect.last || effect.k.is_none() {
            return None;
        }
        let of = EndedEvent {
            event_id: &effect.event_id,
            cause: self.work.cause.as_ref().filter(|_| own),
        };
        let target_id = Some(target_id).filter(|_| effect.operation != Operation::Delete);
        let operation = operation(effect.operation, own && self.made);
        let what = effect.id.to_string();
        let outcomes = self.outcomes.as_ref()?;
        Some(outcomes.completed(&what, of, operation, target_id, self.now()))
    }
}
