//! Events that wait for a cause to end: found and counted here, let go in `release` and `paced`, given up in `discard`.
//! They are written by the hold and claim functions.

mod awaited;
mod discard;
mod paced;
mod release;
mod suspended;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use uuid::Uuid;
use worker::HoldCause;

use crate::row::{Body, row};
use crate::{Error, Pool, Scope};

pub(crate) use release::move_to_outbox;

pub use awaited::{Awaited, awaited};
pub use discard::{Discarded, discard, discard_one};
pub use paced::{
    COUNT_LIMIT, INTERACTIVE_PERCENT, LaneShares, PERMIT_FOR, Waiting, release_paced,
    waiting_connections,
};
pub use release::{
    Ended, InVain, LOOK_LIMIT, NAMED_LIMIT, RELEASE_LIMIT, Released, Settled, in_vain, release,
    release_ended, settle_conflict, without_cause,
};
pub use suspended::{STEP, hold_for_suspension};

/// Which rows; `None` matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub id: Option<i64>,
    pub worker: Option<String>,
    pub target_system: Option<String>,
    pub connection: Option<Uuid>,
    pub cause: Option<HoldCause>,
    pub event_type: Option<String>,
    /// The record's id at its source, with its kind (`contact/512`) or without.
    pub record: Option<String>,
    /// Contained in subject, event id or detail, in any case of letters.
    pub text: Option<String>,
    /// Rows that were there when somebody looked: none with a higher id.
    pub up_to: Option<i64>,
}

impl Filter {
    /// What it names, for the audit.
    fn named(&self) -> Value {
        let members = [
            ("id", self.id.map(Value::from)),
            ("worker", self.worker.clone().map(Value::from)),
            ("system", self.target_system.clone().map(Value::from)),
            (
                "connection",
                self.connection.map(|id| id.to_string().into()),
            ),
            ("cause", self.cause.map(|cause| cause.as_str().into())),
            ("type", self.event_type.clone().map(Value::from)),
            ("record", self.record.clone().map(Value::from)),
            ("text", self.text.clone().map(Value::from)),
        ];
        let named = members
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(named.collect())
    }
}

/// The condition of a [`Filter`], over the columns of `held`; `$1` to `$10` are bound by [`bind`].
macro_rules! matching {
    () => {
        "($1::text is null or tenant = $1) and ($2::bigint is null or id = $2)
           and ($3::text is null or worker = $3) and ($4::text is null or target_system = $4)
           and ($5::uuid is null or connection_id = $5) and ($6::text is null or reason = $6)
           and ($7::text is null or type = $7)
           and ($8::text is null or subject = $8 or split_part(subject, '/', 2) = $8)
           and ($9::text is null or position(lower($9) in lower(concat_ws(' ', subject, event_id, detail))) > 0)
           and ($10::bigint is null or id <= $10)"
    };
}
pub(crate) use matching;

/// The columns of [`Held`], of a table named `h`.
macro_rules! columns {
    () => {
        "h.id, h.worker, h.tenant, h.target_system, h.connection_id, h.facet, h.reason, h.detail, h.source, h.event_id, h.generation,
           h.type as event_type, h.subject, h.lane, h.link_id, h.release_at, h.waits_kind || '/' || h.waits_id as waits_for_record,
           h.waits_key as waits_for_key, h.held_at"
    };
}
pub(crate) use columns;

pub(crate) fn bind<'q, T>(
    query: QueryAs<'q, Postgres, T, PgArguments>,
    scope: Scope<'q>,
    filter: &'q Filter,
) -> QueryAs<'q, Postgres, T, PgArguments> {
    query
        .bind(scope.tenant().map(str::to_owned))
        .bind(filter.id)
        .bind(&filter.worker)
        .bind(&filter.target_system)
        .bind(filter.connection)
        .bind(filter.cause.map(HoldCause::as_str))
        .bind(&filter.event_type)
        .bind(&filter.record)
        .bind(&filter.text)
        .bind(filter.up_to)
}

row! {
    /// A held event without its body.
    pub struct Held {
        pub id: i64,
        pub worker: String,
        pub tenant: String,
        pub target_system: String,
        pub connection_id: Option<Uuid>,
        /// What of the event waits, where its worker makes several things of it; none: its entity, or all of them.
        pub facet: Option<String>,
        pub reason: String,
        pub detail: Option<String>,
        pub source: String,
        pub event_id: String,
        pub generation: i32,
        pub event_type: String,
        pub subject: String,
        /// 0 interactive, 1 live, 2 bulk.
        pub lane: i16,
        pub link_id: Option<i64>,
        pub release_at: Option<DateTime<Utc>>,
        /// The record it waits for, as `<kind>/<id>`.
        pub waits_for_record: Option<String>,
        /// The natural key it waits for.
        pub waits_for_key: Option<String>,
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
    let query = sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from held h where ",
        matching!(),
        " and ($11::bigint is null or id > $11) order by id limit $12"
    ));
    Ok(bind(query, scope, filter)
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await?)
}

/// One row and its message.
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
pub async fn counts(pool: &Pool, scope: Scope<'_>, filter: &Filter) -> Result<Vec<Count>, Error> {
    let query = sqlx::query_as(concat!(
        "select worker, reason, count(*) as rows, min(held_at) as oldest_at from held where ",
        matching!(),
        " group by worker, reason order by worker, reason"
    ));
    Ok(bind(query, scope, filter).fetch_all(pool).await?)
}

row! {
    /// How much of a tenant waits for one cause.
    pub struct Group {
        pub tenant: String,
        pub target_system: String,
        pub reason: String,
        pub rows: i64,
        /// Of them, those that have waited for another record for more than a day.
        pub overdue: i64,
    }
}

/// By tenant, partner system and cause, the most first.
pub async fn waiting(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Group>, Error> {
    let query = sqlx::query_as(concat!(
        "select tenant, target_system, reason, count(*) as rows,
           count(*) filter (where reason = 'prerequisite' and held_at < kurir_now() - interval '1 day') as overdue
         from held where ",
        matching!(),
        " group by tenant, target_system, reason order by rows desc, tenant, target_system, reason limit $11"
    ));
    Ok(bind(query, scope, filter)
        .bind(limit)
        .fetch_all(pool)
        .await?)
}

/// The highest id there is now: what comes later is not meant by who looked before.
pub async fn last_id(pool: &Pool) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("select coalesce(max(id), 0) from held")
        .fetch_one(pool)
        .await?)
}
