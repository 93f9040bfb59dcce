//! How many there are, and since when.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::row::row;
use crate::{Error, Pool, Scope};

row! {
    /// How many are in one state, for one worker.
    pub struct Count {
        pub worker: String,
        pub state: String,
        pub rows: i64,
        pub oldest_at: DateTime<Utc>,
    }
}

/// By worker and state.
pub async fn counts(pool: &Pool, scope: Scope<'_>) -> Result<Vec<Count>, Error> {
    Ok(sqlx::query_as(
        "select worker, state, count(*) as rows, min(first_at) as oldest_at from dead_letter
         where ($1::text is null or tenant = $1) group by worker, state order by worker, state",
    )
    .bind(scope.tenant())
    .fetch_all(pool)
    .await?)
}

/// When an open one of this generation died last: a copy that came again without the time of its death is that death.
pub async fn open_since(
    pool: &Pool,
    id: Uuid,
    generation: u32,
) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(sqlx::query_scalar(
        "select last_at from dead_letter where id = $1 and generation = $2 and state = 'open'",
    )
    .bind(id)
    .bind(i64::from(generation))
    .fetch_optional(pool)
    .await?)
}
