//! Of several causes the one that holds longest is the one that a row names.

use crate::{Error, Pool};

/// Rows of one step.
pub const STEP: i64 = 1000;

/// What waits for a budget or a circuit of a connection that was suspended meanwhile is held for the suspension from now
/// on; answers how many rows changed, at most [`STEP`]. A hold that comes after the suspension sees it by itself.
///
/// A connection that is repaired at this moment changes nothing: its rows leave at the pace of the budget under either
/// name.
pub async fn hold_for_suspension(pool: &Pool) -> Result<u64, Error> {
    Ok(sqlx::query(
        "update held set reason = 'suspended', detail = suspended_words(), release_at = null
         where id in (
           select h.id from connection c join held h on h.connection_id = c.id and h.tenant = c.tenant
           where c.state = 'suspended' and h.reason in ('budget', 'circuit')
           order by h.id limit $1 for update of h skip locked)",
    )
    .bind(STEP)
    .execute(pool)
    .await?
    .rows_affected())
}
