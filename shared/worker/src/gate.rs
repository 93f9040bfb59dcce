//! May this event go now? Decided in memory before any slot is taken, so that one tenant's trouble costs the others
//! nothing. Budgets and circuits take their places here with the next issue.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use event::VersionScheme;

use crate::outcome::{AckReason, DeadClass, HoldCause, Outcome};
use crate::policy::Rung;
use crate::ports::{ConnectionAnswer, ConnectionState};
use crate::trail::Job;

/// A version this far ahead of the store's clock is refused before its link is touched (DESIGN §5).
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

/// The connection's part of the gate. `Ok` lets the event pass to the claim.
pub fn connection(answer: &ConnectionAnswer) -> Result<(), Outcome> {
    match answer {
        ConnectionAnswer::UnknownTenant => Err(Outcome::DeadLetter {
            class: DeadClass::UnknownTenant,
            fingerprint: "gate:unknown_tenant".to_owned(),
            reason: "the tenant is not known here; create it with `kurir tenant add`, then replay".to_owned(),
        }),
        ConnectionAnswer::NoConnection => Err(Outcome::Hold {
            cause: HoldCause::NoConnection,
            epoch: None,
            reason: "the tenant has no connection to this system yet; `kurir connection add` releases the event".to_owned(),
        }),
        ConnectionAnswer::Known(connection) if !connection.enabled => Err(Outcome::Ack(AckReason::Disabled)),
        ConnectionAnswer::Known(connection) if connection.state == ConnectionState::Suspended => Err(Outcome::Hold {
            cause: HoldCause::Suspended,
            epoch: Some(connection.epoch),
            reason: "the connection is suspended; repair its credentials, then run `kurir connection test`".to_owned(),
        }),
        ConnectionAnswer::Known(_) => Ok(()),
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
