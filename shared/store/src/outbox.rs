//! Messages on their way to a queue, whoever wrote them: derived events, releases, replays, fall-backs, requests.
//!
//! A row is written in the transaction of what it follows from, published with a confirm by any keeper, then deleted.
//! Published twice is possible and allowed, lost is not; there is no order between rows. Relays find new rows by
//! looking: NOTIFY would put every commit that wrote one behind a single lock of the server.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use event::TenantId;
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, Postgres, Row, Transaction};

use crate::row::row;
use crate::{Error, Pool};

/// Most rows of one insert.
pub const ENQUEUE_LIMIT: usize = 1000;
/// A relay that stands still in its transaction longer than this loses it, and others take its rows.
pub const TAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Kept of a failure's text.
const ERROR_LIMIT: usize = 500;

/// A message to be published. The names in `properties` are those of AMQP's basic properties; in `headers` numbers
/// become 64-bit integers and texts long strings.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub tenant: Option<TenantId>,
    /// Empty: the default exchange, where the routing key is the queue's name.
    pub exchange: String,
    pub routing_key: String,
    pub body: Bytes,
    pub properties: Value,
    pub headers: Value,
    /// A second row with this key is not written while the first one waits.
    pub dedup_key: Option<String>,
}

/// Writes messages in the caller's transaction; returns how many were not there yet.
pub async fn enqueue(transaction: &mut PgConnection, messages: &[Message]) -> Result<u64, Error> {
    let mut written = 0;
    for chunk in messages.chunks(ENQUEUE_LIMIT) {
        let of = |field: fn(&Message) -> Option<&str>| -> Vec<Option<String>> {
            chunk
                .iter()
                .map(|message| field(message).map(str::to_owned))
                .collect()
        };
        written += sqlx::query(
            "insert into outbox (tenant, exchange, routing_key, body, properties, headers, dedup_key, next_try_at)
             select t.tenant, t.exchange, t.routing_key, t.body, t.properties, t.headers, t.dedup_key, kurir_now()
             from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::jsonb[], $6::jsonb[], $7::text[])
               as t(tenant, exchange, routing_key, body, properties, headers, dedup_key)
             on conflict (dedup_key) do nothing",
        )
        .bind(of(|message| message.tenant.as_ref().map(TenantId::as_str)))
        .bind(of(|message| Some(&message.exchange)))
        .bind(of(|message| Some(&message.routing_key)))
        .bind(chunk.iter().map(|message| message.body.to_vec()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|message| message.properties.clone()).collect::<Vec<_>>())
        .bind(chunk.iter().map(|message| message.headers.clone()).collect::<Vec<_>>())
        .bind(of(|message| message.dedup_key.as_deref()))
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    }
    Ok(written)
}

/// A taken row.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    pub seq: i64,
    pub exchange: String,
    pub routing_key: String,
    pub body: Bytes,
    pub properties: Value,
    pub headers: Value,
    /// Publishes that failed so far.
    pub attempts: i32,
}

/// Rows that no other relay sees until `finish`, or until this is dropped: then they are due again at once.
#[derive(Debug)]
pub struct Batch {
    transaction: Transaction<'static, Postgres>,
    pub due: Vec<Due>,
}

/// Whether a look is worth a transaction. Rows that another relay has count too.
pub async fn any_due(pool: &Pool) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "select exists (select 1 from outbox where next_try_at <= (select kurir_now()))",
    )
    .fetch_one(pool)
    .await?)
}

/// Takes at most `limit` due rows, oldest first.
pub async fn take(pool: &Pool, limit: i64) -> Result<Batch, Error> {
    let mut transaction = pool.begin().await?;
    // A frozen relay must not keep its rows for ever. The unit of the setting is a millisecond.
    sqlx::query("select set_config('idle_in_transaction_session_timeout', $1, true)")
        .bind(TAKE_TIMEOUT.as_millis().to_string())
        .execute(&mut *transaction)
        .await?;
    let rows = sqlx::query(
        "select seq, exchange, routing_key, body, properties, headers, attempts from outbox
         where next_try_at <= (select kurir_now()) order by next_try_at, seq limit $1 for update skip locked",
    )
    .bind(limit)
    .fetch_all(&mut *transaction)
    .await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        due.push(Due {
            seq: row.try_get("seq")?,
            exchange: row.try_get("exchange")?,
            routing_key: row.try_get("routing_key")?,
            body: Bytes::from(row.try_get::<Vec<u8>, _>("body")?),
            properties: row.try_get("properties")?,
            headers: row.try_get("headers")?,
            attempts: row.try_get("attempts")?,
        });
    }
    Ok(Batch { transaction, due })
}

impl Batch {
    /// Deletes what was confirmed; what failed comes back after 1 s, doubled with every failure up to 60 s. Rows named
    /// in neither are due again at once.
    pub async fn finish(
        mut self,
        confirmed: &[i64],
        failed: &[(i64, String)],
    ) -> Result<(), Error> {
        if !confirmed.is_empty() {
            sqlx::query("delete from outbox where seq = any($1)")
                .bind(confirmed)
                .execute(&mut *self.transaction)
                .await?;
        }
        if !failed.is_empty() {
            let (seqs, errors): (Vec<i64>, Vec<String>) = failed
                .iter()
                .map(|(seq, error)| (*seq, error.chars().take(ERROR_LIMIT).collect::<String>()))
                .unzip();
            sqlx::query(
                "update outbox o set attempts = o.attempts + 1, last_error = f.error,
                   next_try_at = kurir_now() + least(60, power(2, least(o.attempts, 6))) * interval '1 second'
                 from unnest($1::bigint[], $2::text[]) as f(seq, error) where o.seq = f.seq",
            )
            .bind(seqs)
            .bind(errors)
            .execute(&mut *self.transaction)
            .await?;
        }
        self.transaction.commit().await?;
        Ok(())
    }
}

/// What waits to be published.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Depth {
    pub rows: i64,
    pub oldest_at: Option<DateTime<Utc>>,
    /// Rows whose last publish failed.
    pub failing: i64,
}

pub async fn depth(pool: &Pool) -> Result<Depth, Error> {
    let (rows, oldest_at, failing) = sqlx::query_as(
        "select count(*), min(created_at), count(*) filter (where attempts > 0) from outbox",
    )
    .fetch_one(pool)
    .await?;
    Ok(Depth {
        rows,
        oldest_at,
        failing,
    })
}

row! {
    /// A row as an operator sees it.
    pub struct Waiting {
        pub seq: i64,
        pub tenant: Option<String>,
        pub exchange: String,
        pub routing_key: String,
        pub attempts: i32,
        pub last_error: Option<String>,
        pub created_at: DateTime<Utc>,
        pub next_try_at: DateTime<Utc>,
    }
}

/// The oldest rows first.
pub async fn list(pool: &Pool, limit: i64) -> Result<Vec<Waiting>, Error> {
    Ok(sqlx::query_as(
        "select seq, tenant, exchange, routing_key, attempts, last_error, created_at, next_try_at
         from outbox order by seq limit $1",
    )
    .bind(limit)
    .fetch_all(pool)
    .await?)
}
