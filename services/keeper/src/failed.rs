//! A dead letter, told to whoever listens: `sync.failed.v1`.

use event::{Cause, Draft, Event, EventKind, EventType, Payload, SyncFailed, derived_id};
use store::links::{DeadItem, Derived};
use worker::DeadClass;

/// `None`: nobody's event, or no record's. Each death of a dead letter is one event, however often its copy comes.
pub(crate) fn outcome(item: &DeadItem, event: Option<&Event>) -> Option<Derived> {
    let event =
        event.filter(|event| matches!(event.kind(), EventKind::State { .. } | EventKind::Fact))?;
    let nobodys = [DeadClass::UnknownTenant, DeadClass::TenantMismatch];
    if nobodys.iter().any(|class| item.class == class.as_str()) {
        return None;
    }
    let event_type = EventType::SyncFailed;
    let dead_letter = item.dead_id.to_string();
    let (generation, at) = (
        item.generation.to_string(),
        item.at.timestamp_micros().to_string(),
    );
    let entity = item.kind.as_deref().unwrap_or_else(|| event.entity());
    Some(Derived::from(Draft {
        id: derived_id(&[event_type.as_str(), &dead_letter, &generation, &at]),
        tenant: event.tenant.clone(),
        account: item.worker.clone(),
        time: item.at,
        event_type,
        payload: Payload::SyncFailed(Box::new(SyncFailed {
            entity: entity.to_owned(),
            record_id: event.link_id().to_owned(),
            target_system: item.target_system.clone(),
            connection: item.connection_id.map(|id| id.to_string()),
            class: item.class.clone(),
            // What the partner said may name people.
            message: format!("dead letter {dead_letter} says what happened and what helps"),
            dead_letter: Some(dead_letter),
        })),
        cause: Some(Cause::from(event)),
    }))
}
