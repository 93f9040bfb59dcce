//! May this event go now? Decided in memory before any slot is taken, so that one tenant's trouble costs the others
//! nothing. Budgets and circuits take their places here with the next issue.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use event::VersionScheme;
use uuid::Uuid;

use crate::connection::{Connection, ConnectionAnswer, ConnectionState};
use crate::outcome::{AckReason, DeadClass, HoldCause, Outcome};
use crate::policy::Rung;
use crate::trail::Job;

/// A version this far ahead of the store's clock is refused before its link is touched (docs/events.md).
pub const FUTURE_LIMIT: Duration = Duration::from_secs(300);

/// A copy that came back before its time goes on waiting.
pub fn due(job: &Job, now: DateTime<Utc>) -> Option<Outcome> {
    let due = job.delivery.trail.due?;
    // A rung is late by milliseconds, never early: less than this is "now".
    let left = (due - now)
        .to_std()
        .ok()
        .filter(|left| *left > Duration::from_millis(50))?;
    Some(Outcome::RetryLater {
        rung: Rung::that_fits(left),
        counted: false,
        due: Some(due),
        class: DeadClass::Unavailable,
        reason: "not due yet".to_owned(),
    })
}

/// Which of its tenant's connections an event goes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Course {
    To(Arc<Connection>),
    /// One copy for each; at least two.
    Cut(Vec<Arc<Connection>>),
    /// To none of them.
    Refused(Outcome),
}

/// `named`: the connection that this copy was cut for. An event that names none goes to every connection that is on; only
/// where these are several it must be cut (docs/decisions/0010).
pub fn course(answer: &ConnectionAnswer, named: Option<Uuid>) -> Course {
    match (answer, named) {
        (ConnectionAnswer::UnknownTenant, _) => Course::Refused(Outcome::DeadLetter {
            class: DeadClass::UnknownTenant,
            fingerprint: "gate:unknown_tenant".to_owned(),
            reason: "the tenant is not known here; create it with `kurir tenant add`, then replay".to_owned(),
        }),
        (ConnectionAnswer::NoConnection, None) => Course::Refused(Outcome::Hold {
            cause: HoldCause::NoConnection,
            epoch: None,
            reason: "the tenant has no connection to this system yet; `kurir connection add` releases the event".to_owned(),
            release_at: None,
            waits_for: None,
        }),
        (ConnectionAnswer::NoConnection, Some(named)) => Course::Refused(wrong_connection(named)),
        (ConnectionAnswer::Known(known), Some(named)) => known
            .iter()
            .find(|connection| connection.id == named)
            .map_or_else(
                || Course::Refused(wrong_connection(named)),
                |connection| Course::To(Arc::clone(connection)),
            ),
        (ConnectionAnswer::Known(known), None) => {
            let on: Vec<_> = known.iter().filter(|connection| connection.enabled).cloned().collect();
            match <[_; 1]>::try_from(on) {
                Ok([only]) => Course::To(only),
                Err(none) if none.is_empty() => Course::Refused(Outcome::Ack(AckReason::Disabled)),
                Err(several) => Course::Cut(several),
            }
        }
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
