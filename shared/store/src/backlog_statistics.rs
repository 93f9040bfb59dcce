//! What waits in the database, counted for dashboards and alerts: of the whole installation, by worker, system, cause and
//! class, never by tenant. Each count is a statement of its own; together they are no snapshot.

use chrono::{DateTime, Utc};

use crate::row::row;
use crate::{Error, Pool, held};

/// Rows that wait in the outbox for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxCount {
    pub rows: i64,
    /// Whose turn has come and who was written first.
    pub oldest: Option<DateTime<Utc>>,
}

row! {
    pub struct HeldCount {
        pub worker: String,
        pub cause: String,
        pub events: i64,
        pub oldest: DateTime<Utc>,
    }
}

row! {
    /// Of those that a person has to look at (`open`) or that are on their way once more (`replaying`).
    pub struct DeadCount {
        pub worker: String,
        pub class: String,
        pub state: String,
        pub dead_letters: i64,
        pub oldest: DateTime<Utc>,
    }
}

row! {
    /// A number of things of one system, in one state or of one operation.
    pub struct SystemCount {
        pub system: String,
        pub what: String,
        pub count: i64,
    }
}

row! {
    /// The accounts of one system's connections.
    pub struct BudgetCount {
        pub system: String,
        /// The partner has asked for silence, or nothing can be leased at this moment, or neither.
        pub cooling: i64,
        pub exhausted: i64,
        pub ok: i64,
        /// Of the account that is used most: 0 nothing is used, 1 nothing can be leased at this moment.
        pub most_used: f64,
    }
}

/// All counts.
#[derive(Clone, Debug, PartialEq)]
pub struct BacklogStatistics {
    pub outbox: OutboxCount,
    pub held: Vec<HeldCount>,
    /// Held events that nothing holds any more.
    pub held_without_cause: i64,
    pub dead_letters: Vec<DeadCount>,
    /// `what` is the connection's state: `ok`, `suspended` or `disabled`.
    pub connections: Vec<SystemCount>,
    /// `what` is the operation whose circuit is not closed.
    pub circuits: Vec<SystemCount>,
    /// `what` is `conflict`.
    pub links: Vec<SystemCount>,
    /// Calls whose outcome is not known yet, by operation.
    pub effects: Vec<SystemCount>,
    pub budgets: Vec<BudgetCount>,
    /// Replays that have not ended; `system` is empty, `what` is the state.
    pub replays: Vec<SystemCount>,
}

/// Counts everything once.
///
/// # Errors
/// The database's; nothing is counted in part.
pub async fn take(pool: &Pool) -> Result<BacklogStatistics, Error> {
    let (rows, oldest): (i64, Option<DateTime<Utc>>) = sqlx::query_as(
        "select count(*), min(created_at) filter (where next_try_at <= kurir_now()) from outbox",
    )
    .fetch_one(pool)
    .await?;
    Ok(BacklogStatistics {
        outbox: OutboxCount { rows, oldest },
        held: sqlx::query_as(
            "select worker, reason as cause, count(*) as events, min(held_at) as oldest from held group by 1, 2 order by 1, 2",
        )
        .fetch_all(pool)
        .await?,
        held_without_cause: held::without_cause(pool).await?,
        dead_letters: sqlx::query_as(
            "select worker, class, state, count(*) as dead_letters, min(last_at) as oldest
             from dead_letter where state in ('open', 'replaying') group by 1, 2, 3 order by 1, 2, 3",
        )
        .fetch_all(pool)
        .await?,
        connections: counts(
            pool,
            "select system, case when enabled then state else 'disabled' end as what, count(*) as count
             from connection group by 1, 2 order by 1, 2",
        )
        .await?,
        circuits: counts(
            pool,
            "select c.system, o.operation as what, count(*) as count
             from circuit o join connection c on c.id = o.connection_id group by 1, 2 order by 1, 2",
        )
        .await?,
        links: counts(
            pool,
            "select target_system as system, state as what, count(*) as count from link where state = 'conflict' group by 1, 2",
        )
        .await?,
        effects: counts(
            pool,
            "select l.target_system as system, e.operation as what, count(*) as count
             from effect e join link l on l.id = e.link_id where e.state in ('sent', 'unknown')
             group by 1, 2 order by 1, 2",
        )
        .await?,
        budgets: sqlx::query_as(
            "with account as (
               select c.system, coalesce(b.cooldown_until > kurir_now(), false) as cooling,
                 coalesce((select max(1 - least(w.burst, greatest(0, floor((extract(epoch from kurir_now()) * 1000000 + w.burst * w.gap_us
                     - greatest(coalesce((b.arrival ->> w.per_ms::text)::bigint, 0), extract(epoch from kurir_now()) * 1000000))
                     / w.gap_us))) / w.burst)
                   from jsonb_populate_recordset(null::bucket, b.buckets) as w), 0)::float8 as used
               from budget b join connection c on c.id = b.connection_id)
             select system, count(*) filter (where cooling) as cooling, count(*) filter (where not cooling and used >= 1) as exhausted,
               count(*) filter (where not cooling and used < 1) as ok, max(used) as most_used
             from account group by 1 order by 1",
        )
        .fetch_all(pool)
        .await?,
        replays: counts(
            pool,
            "select '' as system, state as what, count(*) as count from replay
             where state not in ('done', 'cancelled') group by 2 order by 2",
        )
        .await?,
    })
}

async fn counts(pool: &Pool, statement: &'static str) -> Result<Vec<SystemCount>, Error> {
    Ok(sqlx::query_as(statement).fetch_all(pool).await?)
}
