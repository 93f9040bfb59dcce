//! What people must be told once: written in the transaction that made it so, told by whoever takes it.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::row::row;
use crate::{Error, Pool, Scope};

row! {
    /// Something that happened to a tenant.
    pub struct Notification {
        pub id: i64,
        pub tenant: String,
        /// `connection_suspended`.
        pub kind: String,
        pub connection_id: Option<Uuid>,
        /// The connection's partner system.
        pub system: Option<String>,
        /// In words, without credentials.
        pub text: String,
        pub at: DateTime<Utc>,
        /// Told; empty: not yet.
        pub sent_at: Option<DateTime<Utc>>,
    }
}

/// Newest first.
pub async fn list(pool: &Pool, scope: Scope<'_>, limit: i64) -> Result<Vec<Notification>, Error> {
    Ok(sqlx::query_as(
        "select n.id, n.tenant, n.kind, n.connection_id, c.system, n.text, n.at, n.sent_at
         from notification n left join connection c on c.id = n.connection_id
         where ($1::text is null or n.tenant = $1) order by n.id desc limit $2",
    )
    .bind(scope.tenant())
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

/// Some that nobody has been told of, marked as told: of several replicas one gets each. They count as told when the
/// transaction is committed; rolled back, they come again.
pub async fn take_unsent(
    transaction: &mut Transaction<'_, Postgres>,
    limit: i64,
) -> Result<Vec<Notification>, Error> {
    Ok(sqlx::query_as(
        "with picked as (select id from notification where sent_at is null order by id limit $1 for update skip locked),
         told as (update notification n set sent_at = kurir_now() from picked p where n.id = p.id returning n.*)
         select t.id, t.tenant, t.kind, t.connection_id, c.system, t.text, t.at, t.sent_at
         from told t left join connection c on c.id = t.connection_id order by t.id",
    )
    .bind(limit)
    .fetch_all(&mut **transaction)
    .await?)
}
