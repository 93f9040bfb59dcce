//! Changing what a connection may do.

use serde_json::Value;
use uuid::Uuid;

use crate::connections::{self, Connection};
use crate::{Error, Pool, Scope};

/// Merges `budget` into the connection's own, `windows` as a whole; `None` removes it, and the default holds. The epoch
/// grows, so that workers build their clients anew. The caller has checked it. The second time only the epoch changes.
pub async fn set(
    pool: &Pool,
    scope: Scope<'_>,
    connection: Uuid,
    budget: Option<&Value>,
) -> Result<Connection, Error> {
    sqlx::query(
        "update connection set settings = case when $3::jsonb is null then settings - 'budget'
             else settings || jsonb_build_object('budget', coalesce(settings -> 'budget', '{}') || $3) end,
           epoch = epoch + 1, updated_at = clock_timestamp()
         where id = $1 and ($2::text is null or tenant = $2)",
    )
    .bind(connection)
    .bind(scope.tenant())
    .bind(budget)
    .execute(pool)
    .await?;
    connections::get(pool, scope, connection).await
}
