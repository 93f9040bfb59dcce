//! Dead letters as people find, read and replay them. They are written by the ledger's statement (`links`).

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{PgConnection, Row};
use uuid::Uuid;
use worker::DeadClass;

use crate::links_read::{self, LinkSummary};
use crate::row::{Body, StoredKey, row};
use crate::{Error, Pool, QueuePrefix, Scope};

/// History rows shown of one dead letter, the newest ones.
pub const HISTORY_LIMIT: i64 = 200;

/// Headers of ours that belong to one life of a message: a replay begins a new one.
const HEADERS_OF_ONE_LIFE: [&str; 7] = [
    "x-history",
    "x-waits",
    "x-due",
    "x-first-received",
    "x-permit",
    "x-link",
    "x-attempt",
];
const DEAD_HEADERS: &str = "x-dead-";

/// Which rows; `None` matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub worker: Option<String>,
    /// `open`, `replaying`, `resolved`, `overtaken` or `discarded`.
    pub state: Option<String>,
    pub class: Option<DeadClass>,
    pub fingerprint: Option<String>,
    /// Died last at or after this.
    pub since: Option<DateTime<Utc>>,
    /// Contained in subject, event id, source or message, in any case of letters.
    pub text: Option<String>,
}

row! {
    /// A dead letter without its message.
    pub struct DeadLetter {
        pub id: Uuid,
        pub worker: String,
        pub tenant: Option<String>,
        pub connection_id: Option<Uuid>,
        pub source: Option<String>,
        pub event_id: Option<String>,
        pub event_type: Option<String>,
        pub subject: Option<String>,
        pub link_id: Option<i64>,
        pub k: Option<StoredKey>,
        pub state: String,
        /// Replays and edits so far.
        pub generation: i32,
        pub deaths: i32,
        pub class: String,
        pub fingerprint: String,
        pub message: Option<String>,
        pub trace_id: Option<String>,
        pub first_at: DateTime<Utc>,
        pub last_at: DateTime<Utc>,
        pub resolved_by: Option<String>,
        pub resolved_at: Option<DateTime<Utc>>,
        pub note: Option<String>,
    }
}

/// Where a page ended: the next one begins after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct After {
    pub last_at: DateTime<Utc>,
    pub id: Uuid,
}

impl From<&DeadLetter> for After {
    fn from(row: &DeadLetter) -> Self {
        Self {
            last_at: row.last_at,
            id: row.id,
        }
    }
}

/// The latest deaths first.
pub async fn list(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<DeadLetter>, Error> {
    Ok(sqlx::query_as(
        "select id, worker, tenant, connection_id, source, event_id, type as event_type, subject, link_id, k, state,
           generation, deaths, class, fingerprint, message, trace_id, first_at, last_at, resolved_by, resolved_at, note
         from dead_letter
         where ($1::text is null or tenant = $1) and ($2::text is null or worker = $2)
           and ($3::text is null or state = $3) and ($4::text is null or class = $4)
           and ($5::text is null or fingerprint = $5) and ($6::timestamptz is null or last_at >= $6)
           and ($7::text is null
                or position(lower($7) in lower(concat_ws(' ', subject, event_id, source, message))) > 0)
           and ($8::timestamptz is null or (last_at, id) < ($8, $9))
         order by last_at desc, id desc limit $10",
    )
    .bind(scope.tenant())
    .bind(&filter.worker)
    .bind(&filter.state)
    .bind(filter.class.map(DeadClass::as_str))
    .bind(&filter.fingerprint)
    .bind(filter.since)
    .bind(&filter.text)
    .bind(after.map(|after| after.last_at))
    .bind(after.map(|after| after.id))
    .bind(limit)
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

row! {
    /// The message itself, and what was noted with it.
    pub struct Message {
        pub body: Body,
        pub edited_body: Option<Body>,
        pub edited_by: Option<String>,
        pub edited_at: Option<DateTime<Utc>>,
        pub properties: Value,
        /// Among them `x-history`: the attempts of its last life.
        pub headers: Value,
        /// Effects of it that were confirmed before it died.
        pub partly_applied: Option<Value>,
    }
}

row! {
    /// One thing that happened to it.
    pub struct Happened {
        pub generation: i32,
        pub kind: String,
        pub attempt: i32,
        pub at: DateTime<Utc>,
        pub actor: Option<String>,
        pub detail: Option<Value>,
    }
}

/// All there is to know of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Story {
    pub letter: DeadLetter,
    pub message: Message,
    /// Oldest first.
    pub history: Vec<Happened>,
    /// The link it died for, if there is one in scope.
    pub link: Option<LinkSummary>,
}

/// Missing outside of the scope: an undecodable event belongs to no tenant, only the operator sees it.
pub async fn show(pool: &Pool, scope: Scope<'_>, id: Uuid) -> Result<Story, Error> {
    let letter: DeadLetter = sqlx::query_as(
        "select id, worker, tenant, connection_id, source, event_id, type as event_type, subject, link_id, k, state,
           generation, deaths, class, fingerprint, message, trace_id, first_at, last_at, resolved_by, resolved_at, note
         from dead_letter where id = $1 and ($2::text is null or tenant = $2)",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| Error::missing("dead letter", id))?;
    let message = sqlx::query_as(
        "select body, edited_body, edited_by, edited_at, properties, headers, partly_applied
         from dead_letter where id = $1",
    )
    .bind(id)
    .fetch_one(pool)
    .await?;
    let mut history: Vec<Happened> = sqlx::query_as(
        "select generation, kind, attempt, at, actor, detail from dead_letter_history
         where dead_id = $1 order by at desc, generation desc, kind limit $2",
    )
    .bind(id)
    .bind(HISTORY_LIMIT)
    .fetch_all(pool)
    .await?;
    history.reverse();
    let link = match letter.link_id {
        Some(link) => links_read::summary(pool, scope, link).await?,
        None => None,
    };
    Ok(Story {
        letter,
        message,
        history,
        link,
    })
}

/// What a replay did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    pub id: Uuid,
    pub replay: Uuid,
    pub generation: i32,
    pub queue: String,
}

/// Sends an open dead letter to its own worker once more, as the next generation, with fresh counters; only
/// one of two callers at once does it. Refused if it is not open: replayed already, applied, overtaken or discarded.
pub async fn replay_one(
    pool: &Pool,
    prefix: &QueuePrefix,
    scope: Scope<'_>,
    id: Uuid,
    actor: &str,
) -> Result<Replayed, Error> {
    replay(pool, prefix, scope, id, actor, Restamp::No).await
}

/// As [`replay_one`], with a new version: the event's `subjectversion` becomes the database's clock, so that it counts as
/// the newest content of its record. For a version that came from a wrong clock (`future_version`). The body as it came
/// stays beside the edited one.
pub async fn replay_restamped(
    pool: &Pool,
    prefix: &QueuePrefix,
    scope: Scope<'_>,
    id: Uuid,
    actor: &str,
) -> Result<Replayed, Error> {
    replay(pool, prefix, scope, id, actor, Restamp::Yes).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Restamp {
    Yes,
    No,
}

async fn replay(
    pool: &Pool,
    prefix: &QueuePrefix,
    scope: Scope<'_>,
    id: Uuid,
    actor: &str,
    restamp: Restamp,
) -> Result<Replayed, Error> {
    let mut transaction = pool.begin().await?;
    let row = sqlx::query(
        "select worker, tenant, source, event_id, connection_id, state, generation,
           coalesce(edited_body, body) as body, properties, headers,
           (extract(epoch from kurir_now()) * 1000000)::bigint as micros
         from dead_letter where id = $1 and ($2::text is null or tenant = $2) for update",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or_else(|| Error::missing("dead letter", id))?;
    let state: String = row.try_get("state")?;
    if state != "open" {
        return Err(Error::Conflict(format!(
            "dead letter '{id}' is {state}, only an open one can be replayed"
        )));
    }
    let replay = Uuid::new_v4();
    let generation = row.try_get::<i32, _>("generation")? + 1;
    let worker: String = row.try_get("worker")?;
    let queue = prefix.worker_queue(&worker);
    let mut body: Vec<u8> = row.try_get("body")?;
    let mut k = None;
    if restamp == Restamp::Yes {
        body = restamped(&body, row.try_get("micros")?)?;
        k = new_key(&body, generation)?;
    }
    sqlx::query(
        "update dead_letter set state = 'replaying', generation = $2, row_version = row_version + 1,
           edited_body = case when $3 then $4 else edited_body end, edited_by = case when $3 then $5 else edited_by end,
           edited_at = case when $3 then kurir_now() else edited_at end, k = coalesce($6, k)
         where id = $1",
    )
    .bind(id)
    .bind(generation)
    .bind(restamp == Restamp::Yes)
    .bind(&body)
    .bind(actor)
    .bind(k)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into dead_letter_history (dead_id, generation, kind, at, actor, detail)
         values ($1, $2, 'replay', kurir_now(), $3, $4)",
    )
    .bind(id)
    .bind(generation)
    .bind(actor)
    .bind(json!({ "replay": replay, "restamped": restamp == Restamp::Yes }))
    .execute(&mut *transaction)
    .await?;
    forgive(&mut transaction, &row).await?;
    sqlx::query(
        "insert into outbox (tenant, exchange, routing_key, body, properties, headers, next_try_at)
         values ($1, '', $2, $3, $4, $5, kurir_now())",
    )
    .bind(row.try_get::<Option<String>, _>("tenant")?)
    .bind(&queue)
    .bind(body)
    .bind(row.try_get::<Value, _>("properties")?)
    .bind(replay_headers(row.try_get("headers")?, generation, replay))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Replayed {
        id,
        replay,
        generation,
        queue,
    })
}

/// The same event with another version. Only a JSON object can be given one.
fn restamped(body: &[u8], micros: i64) -> Result<Vec<u8>, Error> {
    let unreadable =
        || Error::Invalid("only a readable event can be given a new version".to_owned());
    let mut event: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_not_json| unreadable())?;
    event.insert("subjectversion".to_owned(), json!(micros.to_string()));
    serde_json::to_vec(&event).map_err(|_never| unreadable())
}

/// The row is closed when this key is applied, not the one of the version that was wrong.
fn new_key(body: &[u8], generation: i32) -> Result<Option<Vec<u8>>, Error> {
    let event = event::decode(body).map_err(|error| Error::Invalid(error.to_string()))?;
    let generation = u32::try_from(generation).unwrap_or_default();
    let state = matches!(event.kind(), event::Kind::State { .. });
    Ok(event.version.as_ref().filter(|_| state).map(|version| {
        event
            .order_key(&version.value, generation)
            .as_bytes()
            .to_vec()
    }))
}

fn replay_headers(stored: Value, generation: i32, replay: Uuid) -> Value {
    let mut headers = match stored {
        Value::Object(headers) => headers,
        _ => Map::new(),
    };
    headers.retain(|name, _| {
        !HEADERS_OF_ONE_LIFE.contains(&name.as_str()) && !name.starts_with(DEAD_HEADERS)
    });
    headers.insert("x-attempt".to_owned(), json!(1));
    headers.insert("x-generation".to_owned(), json!(generation));
    headers.insert("x-replay".to_owned(), json!(replay));
    Value::Object(headers)
}

/// A replay begins again with the claims that never came back (delivery-model 1.5).
async fn forgive(connection: &mut PgConnection, row: &sqlx::postgres::PgRow) -> Result<(), Error> {
    sqlx::query(
        "delete from unsettled_claim u using link l
         where l.id = u.link_id and u.tenant = $1 and u.source = $2 and u.event_id = $3
           and ($4::uuid is null or l.connection_id = $4)",
    )
    .bind(row.try_get::<Option<String>, _>("tenant")?)
    .bind(row.try_get::<Option<String>, _>("source")?)
    .bind(row.try_get::<Option<String>, _>("event_id")?)
    .bind(row.try_get::<Option<Uuid>, _>("connection_id")?)
    .execute(connection)
    .await?;
    Ok(())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_keeps_what_the_publisher_gave_and_begins_its_own_counters() {
        let stored = json!({
            "ce-subject": "contact/1", "traceparent": "00-…", "x-history": "[]", "x-connection": "c",
            "x-attempt": 12, "x-waits": 3, "x-due": 1, "x-first-received": 1, "x-link": "7",
            "x-dead-class": "refused", "x-dead-at": 1, "x-generation": 0,
        });
        let headers = replay_headers(stored, 2, Uuid::nil());
        insta::assert_json_snapshot!(headers, @r#"
        {
          "ce-subject": "contact/1",
          "traceparent": "00-…",
          "x-attempt": 1,
          "x-connection": "c",
          "x-generation": 2,
          "x-replay": "00000000-0000-0000-0000-000000000000"
        }
        "#);
    }
}
