//! From an event to what the link engine should make of it. Pure; next in an event's way: the claim (`sync::claims`),
//! then `handler.rs`.

use event::Payload;
use sync::{Plan, Planner};
use worker::Job;

use crate::contact::content;
use crate::handler::{NAME, SYSTEM};
use crate::settings::People;

/// Plans contact events.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContactPlanner {
    people: People,
}

impl ContactPlanner {
    pub fn new(people: People) -> Self {
        Self { people }
    }
}

impl Planner for ContactPlanner {
    fn worker(&self) -> &'static str {
        NAME
    }

    fn target_system(&self) -> &'static str {
        SYSTEM
    }

    fn plan(&self, job: &Job) -> Result<Plan, String> {
        match (&job.event.payload, self.people) {
            (Payload::ContactSaved(saved), People::OwnPartner) => {
                content(&saved.contact).map(Plan::Save)
            }
            (Payload::ContactDeleted(_), _) => Ok(Plan::Delete),
            (Payload::SyncRequested(_) | Payload::SyncCompleted(_) | Payload::SyncFailed(_), _) => {
                Err(format!(
                    "{} says nothing about a contact",
                    job.event.event_type
                ))
            }
        }
    }
}
