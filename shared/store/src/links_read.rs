//! Links as people read them: lists, and the whole timeline of one record. Only reads; what changes a link is in `links`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::row::{StoredKey, row};
use crate::{Error, Pool, Scope, dead_letters, held};

/// Rows of one list in a timeline: the newest ones.
pub const TIMELINE_LIMIT: i64 = 200;

/// Which rows; `None` matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub kind: Option<String>,
    /// The record's id at its source, with its kind (`contact/512`) or without.
    pub source_id: Option<String>,
    pub target_id: Option<String>,
    pub target_system: Option<String>,
    pub connection: Option<Uuid>,
    /// `pending`, `linked`, `conflict`, `deleted` or `alias`.
    pub state: Option<String>,
    /// Only those that name another record at the partner than the one that their reference leads to now.
    pub moved: bool,
}

row! {
    /// A link without its content.
    pub struct LinkSummary {
        pub id: i64,
        pub tenant: String,
        pub kind: String,
        pub source_system: String,
        pub source_account: String,
        pub source_id: String,
        pub target_system: String,
        pub connection_id: Uuid,
        /// Of the connection; tells several accounts of one partner apart.
        pub account: Option<String>,
        pub target_id: Option<String>,
        pub state: String,
        /// Kind of the conflict, while there is one.
        pub conflict_cause: Option<String>,
        /// The newest version that anybody has shown and that is not dead.
        pub desired_k: Option<StoredKey>,
        /// The version that the target is known to hold.
        pub applied_k: Option<StoredKey>,
        pub last_error: Option<String>,
        pub recheck_at: Option<DateTime<Utc>>,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
    }
}

/// By id; the next page begins after the last one.
pub async fn list(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<LinkSummary>, Error> {
    Ok(sqlx::query_as(
        "select id, tenant, kind, source_system, source_account, source_id, target_system, connection_id, target_id,
           (select c.account from connection c where c.id = connection_id) as account,
           state, conflict_cause, desired_k, applied_k, last_error, recheck_at, created_at, updated_at
         from link
         where ($1::text is null or tenant = $1) and ($2::text is null or kind = $2)
           and ($3::text is null or source_id = $3 or kind || '/' || source_id = $3) and ($4::text is null or target_id = $4)
           and ($5::text is null or target_system = $5) and ($6::uuid is null or connection_id = $6)
           and ($7::text is null or state = $7) and ($8::bigint is null or id > $8)
           and (not $10 or exists (select 1 from jsonb_array_elements(refers) named join link o on o.id = (named ->> 'link')::bigint
             where named_target(o) <> named ->> 'target_id'))
         order by id limit $9",
    )
    .bind(scope.tenant())
    .bind(&filter.kind)
    .bind(&filter.source_id)
    .bind(&filter.target_id)
    .bind(&filter.target_system)
    .bind(filter.connection)
    .bind(&filter.state)
    .bind(after)
    .bind(limit)
    .bind(filter.moved)
    .fetch_all(pool)
    .await?)
}

/// `None`: no such link in scope.
pub async fn summary(pool: &Pool, scope: Scope<'_>, id: i64) -> Result<Option<LinkSummary>, Error> {
    Ok(sqlx::query_as(
        "select id, tenant, kind, source_system, source_account, source_id, target_system, connection_id, target_id,
           (select c.account from connection c where c.id = connection_id) as account,
           state, conflict_cause, desired_k, applied_k, last_error, recheck_at, created_at, updated_at
         from link where id = $1 and ($2::text is null or tenant = $2)",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(pool)
    .await?)
}

row! {
    /// What both sides agreed on, who works on it, and the claim that runs.
    pub struct Content {
        /// `{field: {"sent", "stored"?}}`.
        pub base: Value,
        /// `{part id: {"part_type", "signature", "owner", "fields"}}`.
        pub target_parts: Value,
        pub lease_until: Option<DateTime<Utc>>,
        pub claim_event: Option<String>,
        pub claim_generation: Option<i32>,
        pub claim_k: Option<StoredKey>,
        pub recheck_step: i16,
    }
}

row! {
    /// One partner call.
    pub struct Effect {
        pub id: Uuid,
        pub event_id: String,
        pub generation: i32,
        pub k: Option<StoredKey>,
        pub operation: String,
        pub state: String,
        pub last: bool,
        pub request: Value,
        pub target_id: Option<String>,
        pub outcome: Option<String>,
        pub sent_at: Option<DateTime<Utc>>,
        pub settle_at: Option<DateTime<Utc>>,
        pub resolved_at: Option<DateTime<Utc>>,
        pub late_at: Option<DateTime<Utc>>,
        pub created_at: DateTime<Utc>,
    }
}

row! {
    /// A superseded envelope that is kept until a newer version is applied.
    pub struct KeptEnvelope {
        pub k: StoredKey,
        pub source: String,
        pub event_id: String,
        pub generation: i32,
        pub kept_at: DateTime<Utc>,
    }
}

row! {
    /// A claim that was taken over before it ended.
    pub struct UnsettledClaim {
        pub token: Uuid,
        pub event_id: String,
        pub generation: i32,
        pub taken_over_at: DateTime<Utc>,
    }
}

row! {
    /// A link whose record this one names at the partner.
    pub struct Named {
        pub id: i64,
        pub kind: String,
        pub source_id: String,
        /// As this record was sent with it.
        pub sent_id: String,
        /// What it is now, where it is usable.
        pub target_id: Option<String>,
    }
}

row! {
    /// One change of the record.
    pub struct Change {
        pub at: DateTime<Utc>,
        pub what: String,
        pub k: Option<StoredKey>,
        pub event_id: Option<String>,
        pub generation: Option<i32>,
        pub target_id: Option<String>,
        pub detail: Value,
    }
}

/// Everything known of one record: lists are oldest first and hold the newest [`TIMELINE_LIMIT`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeline {
    pub link: LinkSummary,
    pub content: Content,
    pub natural_keys: Vec<String>,
    pub names: Vec<Named>,
    pub effects: Vec<Effect>,
    pub kept: Vec<KeptEnvelope>,
    pub unsettled: Vec<UnsettledClaim>,
    pub held: Vec<held::Held>,
    pub dead_letters: Vec<dead_letters::DeadLetter>,
    pub history: Vec<Change>,
}

const NAMES: &str = "select o.id, o.kind, o.source_id, named ->> 'target_id' as sent_id, named_target(o) as target_id
         from link l cross join jsonb_array_elements(l.refers) named join link o on o.id = (named ->> 'link')::bigint
         where l.id = $1 and o.tenant = l.tenant order by o.id limit $2";
const EFFECTS: &str = "select id, event_id, generation, k, operation, state, last, request, target_id, outcome, sent_at, settle_at,
           resolved_at, late_at, created_at
         from effect where link_id = $1 order by created_at desc, id limit $2";
const KEPT: &str = "select k, source, event_id, generation, kept_at from link_event where link_id = $1 order by k limit $2";
const UNSETTLED: &str = "select token, event_id, generation, taken_over_at from unsettled_claim
         where link_id = $1 order by taken_over_at limit $2";
/// Rows that were written before there was a link name only the record.
const HELD: &str = concat!(
    "select ",
    crate::held::columns!(),
    " from held h join link l on l.id = $1
         where h.tenant = l.tenant and (h.link_id = l.id
           or (h.link_id is null and h.target_system = l.target_system
               and (h.connection_id is null or h.connection_id = l.connection_id)
               and coalesce(h.facet, split_part(h.subject, '/', 1)) = l.kind
               and substr(h.subject, strpos(h.subject, '/') + 1) = l.source_id))
         order by h.id limit $2"
);
const DEAD_LETTERS: &str = "select d.id, d.worker, d.tenant, d.connection_id, d.facet, d.source, d.event_id, d.type as event_type, d.subject,
           d.link_id, d.k, d.state, d.generation, d.deaths, d.class, d.fingerprint, d.message, d.trace_id, d.first_at,
           d.last_at, d.resolved_by, d.resolved_at, coalesce('held: ' || d.held_for, d.note) as note
         from dead_letter d join link l on l.id = $1
         where d.tenant = l.tenant and (d.link_id = l.id
           or (d.link_id is null and d.connection_id = l.connection_id
             and coalesce(d.facet, split_part(d.subject, '/', 1)) = l.kind
             and substr(d.subject, strpos(d.subject, '/') + 1) = l.source_id))
         order by d.last_at desc, d.id limit $2";
const HISTORY: &str =
    "select at, what, k, event_id, generation, target_id, detail from link_history
         where link_id = $1 order by id desc limit $2";

/// Read in one snapshot, so that its parts agree with each other. Missing outside of the scope.
pub async fn timeline(pool: &Pool, scope: Scope<'_>, id: i64) -> Result<Timeline, Error> {
    let mut snapshot = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read read only")
        .execute(&mut *snapshot)
        .await?;
    let link: LinkSummary = sqlx::query_as(
        "select id, tenant, kind, source_system, source_account, source_id, target_system, connection_id, target_id,
           (select c.account from connection c where c.id = connection_id) as account,
           state, conflict_cause, desired_k, applied_k, last_error, recheck_at, created_at, updated_at
         from link where id = $1 and ($2::text is null or tenant = $2)",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(&mut *snapshot)
    .await?
    .ok_or_else(|| Error::missing("link", id))?;
    let content = sqlx::query_as(
        "select base, target_parts, lease_until, (claim).event as claim_event,
           (claim).generation as claim_generation, (claim).k as claim_k, recheck_step
         from link where id = $1",
    )
    .bind(id)
    .fetch_one(&mut *snapshot)
    .await?;
    let natural_keys = sqlx::query_scalar(
        "select natural_key from natural_key_claim where link_id = $1 order by natural_key limit $2",
    )
    .bind(id)
    .bind(TIMELINE_LIMIT)
    .fetch_all(&mut *snapshot)
    .await?;
    let names = listed(&mut snapshot, id, NAMES).await?;
    let mut effects: Vec<Effect> = listed(&mut snapshot, id, EFFECTS).await?;
    effects.reverse();
    let kept = listed(&mut snapshot, id, KEPT).await?;
    let unsettled = listed(&mut snapshot, id, UNSETTLED).await?;
    let held = listed(&mut snapshot, id, HELD).await?;
    let dead_letters = listed(&mut snapshot, id, DEAD_LETTERS).await?;
    let mut history: Vec<Change> = listed(&mut snapshot, id, HISTORY).await?;
    history.reverse();
    snapshot.commit().await?;
    Ok(Timeline {
        link,
        content,
        natural_keys,
        names,
        effects,
        kept,
        unsettled,
        held,
        dead_letters,
        history,
    })
}

/// The newest or oldest [`TIMELINE_LIMIT`] rows of one list; the statement says which.
async fn listed<Row>(
    snapshot: &mut PgConnection,
    id: i64,
    statement: &'static str,
) -> Result<Vec<Row>, sqlx::Error>
where
    Row: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    sqlx::query_as(statement)
        .bind(id)
        .bind(TIMELINE_LIMIT)
        .fetch_all(snapshot)
        .await
}
