//! Tenants: who owns everything else.

use chrono::{DateTime, Utc};
use event::TenantId;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};

use crate::{Error, Pool};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tenant {
    pub id: String,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Tenant {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// A second one of the same id is a conflict.
pub async fn add(pool: &Pool, id: &TenantId, name: &str) -> Result<Tenant, Error> {
    sqlx::query_as(
        "insert into tenant (id, name) values ($1, $2) on conflict do nothing returning id, name, created_at",
    )
    .bind(id.as_str())
    .bind(name)
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| Error::Conflict(format!("tenant '{id}' exists already")))
}

pub async fn get(pool: &Pool, id: &TenantId) -> Result<Tenant, Error> {
    sqlx::query_as("select id, name, created_at from tenant where id = $1")
        .bind(id.as_str())
        .fetch_optional(pool)
        .await?
        .ok_or_else(|| Error::missing("tenant", id))
}

/// Whether there is such a tenant. `or_named`: an event that died or is held and names it counts too, because that may be
/// just what is looked for.
pub async fn is_known(pool: &Pool, id: &TenantId, or_named: bool) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "select exists (select 1 from tenant where id = $1)
           or $2 and (exists (select 1 from dead_letter where tenant = $1) or exists (select 1 from held where tenant = $1))",
    )
    .bind(id.as_str())
    .bind(or_named)
    .fetch_one(pool)
    .await?)
}

/// By id, at most `limit` of them after `after`.
pub async fn list(pool: &Pool, after: Option<&str>, limit: i64) -> Result<Vec<Tenant>, Error> {
    Ok(sqlx::query_as(
        "select id, name, created_at from tenant where $1::text is null or id > $1 order by id limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?)
}
