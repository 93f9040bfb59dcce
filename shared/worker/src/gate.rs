//! May this event go now? Decided in memory before any slot is taken, so that one tenant's trouble costs the others
//! nothing. Budgets and circuits take their places here with the next issue.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use event::{Event, VersionScheme};
use uuid::Uuid;

use crate::connection::{Connection, ConnectionAnswer, ConnectionState};
use crate::delivery::{DeliveryMetadata, Job};
use crate::facets::Facets;
use crate::outcome::{AckReason, DeadClass, HoldCause, Outcome};
use crate::policy::RetryTier;

/// A version this far ahead of the store's clock is refused before its link is touched (docs/events.md).
pub const FUTURE_LIMIT: Duration = Duration::from_secs(300);

/// A copy that came back before its time goes on waiting.
pub fn due(job: &Job, now: DateTime<Utc>) -> Option<Outcome> {
    let due = job.delivery.metadata.due?;
    // A retry tier is late by milliseconds, never early: less than this is "now".
    let left = (due - now)
        .to_std()
        .ok()
        .filter(|left| *left > Duration::from_millis(50))?;
    Some(Outcome::RetryLater {
        retry_tier: RetryTier::that_fits(left),
        counted: false,
        due: Some(due),
        class: DeadClass::Unavailable,
        reason: "not due yet".to_owned(),
    })
}

/// Where a copy goes: a connection, and what of the event it is about there (None: the entity).
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    pub connection: Arc<Connection>,
    pub facet: Option<&'static str>,
}

/// Where an event goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    To(Destination),
    /// One copy for each; at least two.
    FanOut(Vec<Destination>),
    /// Nowhere.
    Refused(Outcome),
}

/// An event goes to every connection of its tenant that is on, there to every facet that its worker makes of it; a copy only to
/// the connection and the facet that it names. Only where these are several it must be fanned out (docs/decisions/0010).
pub fn route(
    answer: &ConnectionAnswer,
    event: &Event,
    metadata: &DeliveryMetadata,
    facets: Facets,
) -> Route {
    let connections = match connections(answer, metadata.connection) {
        Ok(connections) => connections,
        Err(outcome) => return Route::Refused(outcome),
    };
    let named = metadata.facet.as_deref();
    let Ok(facets) = facets.wanted(event.event_type, event.entity(), named) else {
        return Route::Refused(unknown_facet(event, named.unwrap_or_default()));
    };
    let destination = |connection: &Arc<Connection>, facet| Destination {
        connection: Arc::clone(connection),
        facet,
    };
    let all = connections.iter().flat_map(|connection| {
        let facets = facets.iter();
        facets.map(move |facet| destination(connection, *facet))
    });
    let all: Vec<_> = all.collect();
    match <[_; 1]>::try_from(all) {
        Ok([only]) => Route::To(only),
        Err(several) => Route::FanOut(several),
    }
}

/// At least one.
fn connections(
    answer: &ConnectionAnswer,
    named: Option<Uuid>,
) -> Result<Vec<Arc<Connection>>, Outcome> {
    match (answer, named) {
        (ConnectionAnswer::UnknownTenant, _) => Err(Outcome::DeadLetter {
            class: DeadClass::UnknownTenant,
            fingerprint: "gate:unknown_tenant".to_owned(),
            reason: "the tenant is not known here; create it with `kurir tenant add`, then replay".to_owned(),
        }),
        (ConnectionAnswer::NoConnection, None) => Err(Outcome::Hold {
            cause: HoldCause::NoConnection,
            epoch: None,
            reason: "the tenant has no connection to this system yet; `kurir connection add` releases the event".to_owned(),
            release_at: None,
            waits_for: None,
        }),
        (ConnectionAnswer::NoConnection, Some(named)) => Err(wrong_connection(named)),
        (ConnectionAnswer::Known(known), Some(named)) => known
            .iter()
            .find(|connection| connection.id == named)
            .map(|connection| vec![Arc::clone(connection)])
            .ok_or_else(|| wrong_connection(named)),
        (ConnectionAnswer::Known(known), None) => {
            let on: Vec<_> = known.iter().filter(|connection| connection.enabled).cloned().collect();
            match on.is_empty() {
                true => Err(Outcome::Ack(AckReason::Disabled)),
                false => Ok(on),
            }
        }
    }
}

/// Sent by a build that made it.
fn unknown_facet(event: &Event, named: &str) -> Outcome {
    Outcome::DeadLetter {
        class: DeadClass::Unmappable,
        fingerprint: "gate:unknown_facet".to_owned(),
        reason: format!(
            "this copy is for the facet '{named}', which this build of the worker does not make of {}; `kurir dead-letters \
             replay` sends the event to those that it makes",
            event.event_type
        ),
    }
}

fn wrong_connection(named: Uuid) -> Outcome {
    Outcome::DeadLetter {
        class: DeadClass::WrongConnection,
        fingerprint: "gate:wrong_connection".to_owned(),
        reason: format!(
            "this copy is for the connection {named}, which its tenant does not have at this system (`kurir connection \
             list` shows those it has); `kurir dead-letters replay` sends the event to the tenant's own"
        ),
    }
}

/// The connection's part of the gate: why the event may not go on to it.
pub fn connection(connection: &Connection) -> Option<Outcome> {
    if !connection.enabled {
        return Some(Outcome::Ack(AckReason::Disabled));
    }
    match connection.state {
        ConnectionState::Ok => None,
        ConnectionState::Suspended => Some(Outcome::Hold {
            cause: HoldCause::Suspended,
            epoch: Some(connection.epoch),
            reason: "the connection is suspended; repair its credentials, then run `kurir connection test`".to_owned(),
            release_at: None,
            waits_for: None,
        }),
    }
}

/// Versions far in the future would supersede every honest event for ever.
pub fn future_version(job: &Job, now: DateTime<Utc>) -> Option<Outcome> {
    let version = job
        .event
        .version
        .as_ref()
        .filter(|version| version.scheme == VersionScheme::Time)?;
    let limit = now + TimeDelta::from_std(FUTURE_LIMIT).unwrap_or_default();
    let micros = version.value.as_micros().unwrap_or(i64::MAX);
    (micros > limit.timestamp_micros()).then(|| Outcome::DeadLetter {
        class: DeadClass::FutureVersion,
        fingerprint: "gate:future_version".to_owned(),
        reason: format!(
            "version {} is more than {} minutes ahead of our clock ({}); correct the sender's clock, then `kurir dead-letters replay --restamp`",
            version.value.as_str().trim_start_matches('0'),
            FUTURE_LIMIT.as_secs() / 60,
            now.to_rfc3339(),
        ),
    })
}
