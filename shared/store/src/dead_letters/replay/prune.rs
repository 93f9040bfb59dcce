//! Replays that ended long ago leave; what happened to a dead letter stays in its history.

use std::time::Duration;

use crate::{Error, Pool};

/// A replay that is done or cancelled can be looked at for so long.
pub const REPLAYS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Items that one call removes.
const STEP: i64 = 5_000;

/// Removes at most 5 000 items of old replays, and the replays that have none left. Returns how many rows.
pub async fn prune(pool: &Pool) -> Result<u64, Error> {
    let items = sqlx::query(
        "delete from replay_item where ctid = any(array(
           select i.ctid from replay r join replay_item i on i.replay_id = r.id
           where r.state in ('done', 'cancelled') and r.ended_at < (select kurir_now()) - $1 * interval '1 second'
           limit $2 for update of i skip locked))",
    )
    .bind(REPLAYS_KEPT.as_secs_f64())
    .bind(STEP)
    .execute(pool)
    .await?
    .rows_affected();
    let replays = sqlx::query(
        "delete from replay r where r.state in ('done', 'cancelled')
           and r.ended_at < (select kurir_now()) - $1 * interval '1 second'
           and not exists (select 1 from replay_item i where i.replay_id = r.id)",
    )
    .bind(REPLAYS_KEPT.as_secs_f64())
    .execute(pool)
    .await?
    .rows_affected();
    Ok(items + replays)
}
