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
