//! Rows that have served their time, removed in bounded steps.

use std::time::Duration;

use crate::{Error, Pool};

// `(select kurir_now())`: a volatile function asked once can use an index, asked per row it cannot.

/// A copy of an event later than this gets a new version.
pub const PINS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Notes of janitor requests; one that is still due is made again long before.
pub const REQUESTS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Rows one statement removes.
pub const STEP: i64 = 5_000;

/// Removes at most [`STEP`] old pins; fewer means that no more are left. Two at once take different rows.
pub async fn prune_pins(pool: &Pool) -> Result<u64, Error> {
    Ok(sqlx::query(
        "delete from event_pin where ctid = any(array(
           select ctid from event_pin where pinned_at < (select kurir_now()) - $1 * interval '1 second'
           order by pinned_at limit $2 for update skip locked))",
    )
    .bind(PINS_KEPT.as_secs_f64())
    .bind(STEP)
    .execute(pool)
    .await?
    .rows_affected())
}

/// The same for notes of requests.
pub async fn prune_requests(pool: &Pool) -> Result<u64, Error> {
    Ok(sqlx::query(
        "delete from janitor_request where ctid = any(array(
           select ctid from janitor_request where asked_at < (select kurir_now()) - $1 * interval '1 second'
           limit $2 for update skip locked))",
    )
    .bind(REQUESTS_KEPT.as_secs_f64())
    .bind(STEP)
    .execute(pool)
    .await?
    .rows_affected())
}
