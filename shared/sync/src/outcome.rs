//! What became of an event at one link, told to whoever listens: `sync.completed.v1`.

use chrono::{DateTime, SubsecRound as _, Utc};
use event::{Cause, Draft, EventType, Payload, SyncCompleted, TenantId, derived_id};
use store::links::{Derived, LinkRow};

use crate::effect::Operation;

/// What a link's outcomes have in common.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes {
    tenant: TenantId,
    /// The worker that tells.
    worker: &'static str,
    link: i64,
    entity: String,
    record_id: String,
    source_system: String,
    target_system: String,
    connection: String,
}

/// The event that an outcome is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedEvent<'a> {
    pub event_id: &'a str,
    /// Absent where another delivery's event is finished.
    pub cause: Option<&'a Cause>,
}

impl Outcomes {
    /// `None`: the row is no tenant's that this build knows.
    pub(crate) fn of(worker: &'static str, link: &LinkRow) -> Option<Self> {
        Some(Self {
            tenant: TenantId::parse(&link.tenant)?,
            worker,
            link: link.id,
            entity: link.kind.clone(),
            record_id: link.source_id.clone(),
            source_system: link.source_system.clone(),
            target_system: link.target_system.clone(),
            connection: link.connection_id.to_string(),
        })
    }

    /// `what` makes its id: the effect that ended it, or the grant under which it ended without one. So what is written once is one
    /// event, and two endings of one version are two.
    pub(crate) fn completed(
        &self,
        what: &str,
        of: EndedEvent<'_>,
        operation: &str,
        target_id: Option<&str>,
        time: DateTime<Utc>,
    ) -> Derived {
        let event_type = EventType::SyncCompleted;
        let unknown = Cause {
            id: of.event_id.to_owned(),
            correlation_id: of.event_id.to_owned(),
            causation_depth: 0,
            origin_system: self.source_system.clone(),
            traceparent: None,
        };
        Derived::from(Draft {
            id: derived_id(&[event_type.as_str(), what]),
            tenant: self.tenant.clone(),
            account: self.worker.to_owned(),
            // As exact as its version, and as every time of the database.
            time: time.trunc_subsecs(6),
            event_type,
            payload: Payload::SyncCompleted(Box::new(SyncCompleted {
                link: self.link,
                entity: self.entity.clone(),
                record_id: self.record_id.clone(),
                target_system: self.target_system.clone(),
                connection: self.connection.clone(),
                target_id: target_id.map(str::to_owned),
                operation: operation.to_owned(),
            })),
            cause: Some(of.cause.cloned().unwrap_or(unknown)),
        })
    }
}

/// In the words of the event: what the record went through. `made`: the same handling has made it.
pub(crate) fn operation(last: Operation, made: bool) -> &'static str {
    match last {
        Operation::Delete => "delete",
        Operation::Create => "create",
        Operation::Update | Operation::AppendPart | Operation::ChangePart if made => "create",
        Operation::Update | Operation::AppendPart | Operation::ChangePart => "update",
    }
}
