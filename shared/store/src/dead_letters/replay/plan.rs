//! What a replay would do, before anybody says yes.

use serde::Serialize;
use sqlx::{QueryBuilder, Row};

use super::super::Filter;
use super::pace::seconds_for;
use crate::row::row;
use crate::{Error, Pool, Scope};

/// Shares shown of a plan, the largest ones.
const SHARES: usize = 20;

row! {
    /// The dead letters of one tenant for one worker.
    pub struct Share {
        pub tenant: Option<String>,
        pub worker: String,
        pub dead_letters: i64,
    }
}

/// What a replay of these dead letters would do now. Dead letters that die or are closed later change it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Open dead letters that match and wait in no other replay.
    pub dead_letters: u64,
    /// Matching ones that are not open: they are left out.
    pub not_open: u64,
    /// Open ones that wait in another replay, and one such replay: resume or cancel it.
    pub waiting_elsewhere: u64,
    pub elsewhere: Option<uuid::Uuid>,
    pub tenants: u64,
    /// The largest ones, at most 20.
    pub shares: Vec<Share>,
    /// If all succeed at once, at the pace or at the tightest budget of a connection, whichever is slower.
    pub seconds: f64,
    /// The budget's part of it; `None` where no connection has one that was used before.
    pub budget_seconds: Option<f64>,
}

/// Changes nothing.
pub async fn plan(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
    rate_max: f32,
) -> Result<Plan, Error> {
    let mut query = QueryBuilder::new(
        "select d.tenant, d.worker, d.state = 'open' as open, w.replay_id is not null as waits, count(*) as dead_letters,
           min(w.replay_id::text) as elsewhere
         from (select id, tenant, worker, state from dead_letter",
    );
    filter.push(scope, &mut query);
    query.push(
        ") d left join replay_item w on w.dead_id = d.id and w.state = 'waiting'
         group by 1, 2, 3, 4 order by dead_letters desc, 1, 2",
    );
    let rows = query.build().fetch_all(pool).await?;
    let mut plan = Plan {
        dead_letters: 0,
        not_open: 0,
        waiting_elsewhere: 0,
        elsewhere: None,
        tenants: 0,
        shares: Vec::new(),
        seconds: 0.0,
        budget_seconds: None,
    };
    let mut tenants = std::collections::BTreeSet::new();
    for row in rows {
        let dead_letters: i64 = row.try_get("dead_letters")?;
        let count = u64::try_from(dead_letters).unwrap_or_default();
        if !row.try_get::<bool, _>("open")? {
            plan.not_open += count;
        } else if row.try_get("waits")? {
            plan.waiting_elsewhere += count;
            let replay: Option<String> = row.try_get("elsewhere")?;
            plan.elsewhere = replay.and_then(|id| id.parse().ok());
        } else {
            plan.dead_letters += count;
            let tenant: Option<String> = row.try_get("tenant")?;
            tenants.insert(tenant.clone());
            plan.shares.push(Share {
                tenant,
                worker: row.try_get("worker")?,
                dead_letters,
            });
        }
    }
    plan.tenants = tenants.len() as u64;
    plan.shares.truncate(SHARES);
    plan.budget_seconds = budget_seconds(pool, scope, filter).await?;
    plan.seconds =
        seconds_for(plan.dead_letters, rate_max).max(plan.budget_seconds.unwrap_or_default());
    Ok(plan)
}

/// What the connection with the most work for its budget needs.
async fn budget_seconds(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
) -> Result<Option<f64>, Error> {
    let open = Filter {
        state: Some("open".to_owned()),
        ..filter.clone()
    };
    let mut query = QueryBuilder::new(
        "select max(d.dead_letters * b.cost * (select max(w.gap_us) from jsonb_populate_recordset(null::bucket, b.buckets) as w)
           / 1000000.0)::float8
         from (select connection_id, count(*) as dead_letters from dead_letter",
    );
    open.push(scope, &mut query);
    query.push(" group by connection_id) d join budget b on b.connection_id = d.connection_id");
    Ok(query.build_query_scalar().fetch_one(pool).await?)
}
