//! What `kurir budgets` shows: what is used, left and waited for.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::row::row;
use crate::{Error, Pool, Scope};

row! {
    /// One connection's account. A connection that has never been called has none.
    pub struct Budget {
        pub connection_id: Uuid,
        pub tenant: String,
        pub system: String,
        pub account: String,
        /// `{windows: [{requests, seconds, burst?}], in_flight, searches}`, as the workers last applied it.
        pub spec: Value,
        /// Per bucket: `{seconds, burst, per_second, left}`; `left` is what could be leased at this moment.
        pub windows: Value,
        /// Permits used since ever, and questions that it took to lease them.
        pub used: i64,
        pub asked: i64,
        /// Calls that one event needs on average.
        pub cost: f64,
        pub in_flight: i64,
        pub cooldown_until: Option<DateTime<Utc>>,
        pub cooldown_reason: Option<String>,
        pub cooldowns: i64,
        pub last_success: Option<DateTime<Utc>>,
        /// Held events that wait for this budget, the oldest of them, and those let go and not yet begun.
        pub waiting: i64,
        pub waiting_since: Option<DateTime<Utc>>,
        pub underway: i64,
        /// Operations whose circuit is not closed: `{operation, open_until, reason}`.
        pub circuits: Value,
    }
}

/// By tenant, system and account. `connection`: only this one.
pub async fn list(
    pool: &Pool,
    scope: Scope<'_>,
    connection: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Budget>, Error> {
    Ok(sqlx::query_as(
        "select b.connection_id, b.tenant, c.system, c.account, b.spec, b.leased - b.returned as used, b.asked,
           b.cost::float8 as cost, b.cooldowns, b.fine_at as last_success, greatest(b.released - b.begun, 0) as underway,
           case when b.cooldown_until > kurir_now() then b.cooldown_until end as cooldown_until,
           case when b.cooldown_until > kurir_now() then b.cooldown_reason end as cooldown_reason,
           coalesce((select sum(slots) from budget_holder h where h.connection_id = b.connection_id and h.until > kurir_now()), 0)
             as in_flight,
           coalesce(h.waiting, 0) as waiting, h.since as waiting_since,
           coalesce((select jsonb_agg(jsonb_build_object('seconds', w.per_ms / 1000.0, 'burst', w.burst,
               'per_second', round(1000000.0 / w.gap_us, 3),
               'left', greatest(0, floor(((extract(epoch from kurir_now()) * 1000000)::bigint + w.burst * w.gap_us
                 - greatest(coalesce((b.arrival ->> w.per_ms::text)::bigint, 0), (extract(epoch from kurir_now()) * 1000000)::bigint))
                 / w.gap_us::numeric))) order by w.per_ms)
             from jsonb_populate_recordset(null::bucket, b.buckets) as w), '[]') as windows,
           coalesce((select jsonb_agg(jsonb_build_object('operation', operation, 'open_until', open_until, 'reason', reason)
               order by operation) from circuit o where o.connection_id = b.connection_id), '[]') as circuits
         from budget b join connection c on c.id = b.connection_id
         left join lateral (select count(*) as waiting, min(held_at) as since from held
           where connection_id = b.connection_id and tenant = b.tenant and reason in ('budget', 'suspended', 'circuit')) h on true
         where ($1::text is null or b.tenant = $1) and ($2::uuid is null or b.connection_id = $2)
         order by b.tenant, c.system, c.account limit $3",
    )
    .bind(scope.tenant())
    .bind(connection)
    .bind(limit)
    .fetch_all(pool)
    .await?)
}
