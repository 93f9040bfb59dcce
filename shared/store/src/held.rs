//! Events that wait for a cause to end: found, counted and released. They are written by the hold and claim functions.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use worker::HoldCause;

use crate::row::{Body, row};
use crate::{Error, Pool, QueuePrefix, Scope};

/// Most rows one release statement moves; `release` repeats it until nothing is left.
pub const RELEASE_LIMIT: i64 = 1000;

/// Which rows; `None` matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub id: Option<i64>,
    pub worker: Option<String>,
    pub target_system: Option<String>,
    pub connection: Option<Uuid>,
    pub cause: Option<HoldCause>,
    pub event_type: Option<String>,
    /// Contained in subject, event id or detail, in any case of letters.
    pub text: Option<String>,
}

row! {
    /// A held event without its body.
    pub struct Held {
        pub id: i64,
        pub worker: String,
        pub tenant: String,
        pub target_system: String,
        pub connection_id: Option<Uuid>,
        pub reason: String,
        pub detail: Option<String>,
        pub source: String,
        pub event_id: String,
        pub generation: i32,
        pub event_type: String,
        pub subject: String,
        pub release_at: Option<DateTime<Utc>>,
        pub held_at: DateTime<Utc>,
    }
}

row! {
    /// A held event's message.
    pub struct HeldMessage {
        pub body: Body,
        pub properties: Value,
        pub headers: Value,
    }
}

/// Oldest first; the next page begins after the last id.
pub async fn list(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Held>, Error> {
    Ok(sqlx::query_as(
        "select id, worker, tenant, target_system, connection_id, reason, detail, source, event_id, generation,
           type as event_type, subject, release_at, held_at
         from held
         where ($1::text is null or tenant = $1) and ($2::bigint is null or id = $2)
           and ($3::text is null or worker = $3) and ($4::text is null or target_system = $4)
           and ($5::uuid is null or connection_id = $5) and ($6::text is null or reason = $6)
           and ($7::text is null or type = $7)
           and ($8::text is null or position(lower($8) in lower(concat_ws(' ', subject, event_id, detail))) > 0)
           and ($9::bigint is null or id > $9)
         order by id limit $10",
    )
    .bind(scope.tenant())
    .bind(filter.id)
    .bind(&filter.worker)
    .bind(&filter.target_system)
    .bind(filter.connection)
    .bind(filter.cause.map(HoldCause::as_str))
    .bind(&filter.event_type)
    .bind(&filter.text)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

pub async fn get(pool: &Pool, scope: Scope<'_>, id: i64) -> Result<(Held, HeldMessage), Error> {
    let filter = Filter {
        id: Some(id),
        ..Filter::default()
    };
    let held = list(pool, scope, &filter, None, 1)
        .await?
        .pop()
        .ok_or_else(|| Error::missing("held event", id))?;
    let message = sqlx::query_as(
        "select body, properties, headers from held where id = $1 and ($2::text is null or tenant = $2)",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| Error::missing("held event", id))?;
    Ok((held, message))
}

row! {
    /// How much waits, for one worker and cause.
    pub struct Count {
        pub worker: String,
        pub reason: String,
        pub rows: i64,
        pub oldest_at: DateTime<Utc>,
    }
}

/// By worker and cause.
pub async fn counts(pool: &Pool, scope: Scope<'_>) -> Result<Vec<Count>, Error> {
    Ok(sqlx::query_as(
        "select worker, reason, count(*) as rows, min(held_at) as oldest_at from held
         where ($1::text is null or tenant = $1) group by worker, reason order by worker, reason",
    )
    .bind(scope.tenant())
    .fetch_all(pool)
    .await?)
}

/// What a release did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Released {
    pub events: u64,
}

/// By hand: sends what matches back to its worker, with the counters of a first delivery and the same generation, and
/// forgets its claims that never came back. A row is moved by one statement, so it is in exactly one place. Whoever
/// releases a conflict says that it is settled: the link is looked at anew, and is a conflict again if it still is one.
/// An empty filter means everything in scope. The second time nothing is left to match.
pub async fn release(
    pool: &Pool,
    prefix: &QueuePrefix,
    scope: Scope<'_>,
    filter: &Filter,
) -> Result<Released, Error> {
    let mut events = 0;
    loop {
        let mut connection = pool.acquire().await?;
        let moved =
            move_to_outbox(&mut connection, prefix, scope, filter, Some(RELEASE_LIMIT)).await?;
        events += moved;
        if moved < RELEASE_LIMIT as u64 {
            return Ok(Released { events });
        }
    }
}

/// The statement behind every release, in the caller's transaction if there is one. Rows that another releaser
/// holds are left to it.
pub(crate) async fn move_to_outbox(
    connection: &mut PgConnection,
    prefix: &QueuePrefix,
    scope: Scope<'_>,
    filter: &Filter,
    limit: Option<i64>,
) -> Result<u64, Error> {
    let moved: i64 = sqlx::query_scalar(
        "with picked as (
           select id from held
           where ($1::text is null or tenant = $1) and ($2::bigint is null or id = $2)
             and ($3::text is null or worker = $3) and ($4::text is null or target_system = $4)
             and ($5::uuid is null or connection_id = $5) and ($6::text is null or reason = $6)
             and ($7::text is null or type = $7)
             and ($8::text is null or position(lower($8) in lower(concat_ws(' ', subject, event_id, detail))) > 0)
           order by lane, id limit $9 for update skip locked),
         gone as (delete from held h using picked p where h.id = p.id returning h.*),
         forgiven as (
           delete from unsettled_claim u using gone g, link l
           where l.id = u.link_id and u.tenant = g.tenant and u.source = g.source and u.event_id = g.event_id
             and l.target_system = g.target_system and (g.connection_id is null or l.connection_id = g.connection_id)),
         settled as (
           update link l set state = case when l.target_id is null then 'pending' else 'linked' end,
             last_error = null, updated_at = kurir_now()
           from gone g where l.id = g.link_id and l.state = 'conflict' and g.reason = 'conflict'),
         sent as (
           insert into outbox (tenant, exchange, routing_key, body, properties, headers, next_try_at)
           select tenant, '', $10 || '.' || worker, body, properties,
             fresh_headers(headers) || jsonb_build_object('x-generation', generation),
             kurir_now()
           from gone order by lane, id returning 1)
         select count(*) from sent",
    )
    .bind(scope.tenant())
    .bind(filter.id)
    .bind(&filter.worker)
    .bind(&filter.target_system)
    .bind(filter.connection)
    .bind(filter.cause.map(HoldCause::as_str))
    .bind(&filter.event_type)
    .bind(&filter.text)
    .bind(limit)
    .bind(prefix.as_str())
    .fetch_one(connection)
    .await?;
    Ok(moved.unsigned_abs())
}
