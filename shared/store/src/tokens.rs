//! Bearer tokens of the gateway. The secret is shown once; only its SHA-256 is kept, which suffices because it is
//! 256 random bits and no password.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use event::TenantId;
use rand::RngCore as _;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::{Error, Pool, Scope};

/// What a token begins with, so that a leaked one is recognised.
pub const TOKEN_PREFIX: &str = "kurir_";
const SECRET_BYTES: usize = 32;
/// Longer presented tokens are nobody's; they are not hashed.
const LONGEST_TOKEN: usize = 200;

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Token {
    pub id: Uuid,
    pub tenant: String,
    pub name: String,
    /// Events of other sources are refused where this is set.
    pub source: Option<String>,
    pub created_at: DateTime<Utc>,
    /// Exact to an hour.
    pub last_used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

impl FromRow<'_, PgRow> for Token {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            tenant: row.try_get("tenant")?,
            name: row.try_get("name")?,
            source: row.try_get("source")?,
            created_at: row.try_get("created_at")?,
            last_used_at: row.try_get("last_used_at")?,
            revoked_at: row.try_get("revoked_at")?,
        })
    }
}

/// Who a presented token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    pub token: Uuid,
    pub tenant: TenantId,
    pub source: Option<String>,
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// The secret is in the answer and nowhere else. Unknown tenant: missing.
pub async fn create(
    pool: &Pool,
    tenant: &TenantId,
    name: &str,
    source: Option<&str>,
) -> Result<(Token, SecretString), Error> {
    let mut random = [0u8; SECRET_BYTES];
    rand::rng().fill_bytes(&mut random);
    let secret = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let token = sqlx::query_as(
        "insert into api_token (id, tenant, name, source, hash)
         select $1, id, $3, $4, $5 from tenant where id = $2
         returning id, tenant, name, source, created_at, last_used_at, revoked_at",
    )
    .bind(Uuid::new_v4())
    .bind(tenant.as_str())
    .bind(name)
    .bind(source)
    .bind(hash(&secret))
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| Error::missing("tenant", tenant))?;
    Ok((token, SecretString::from(secret)))
}

/// `None`: nobody's, or revoked. Notes the use at most once an hour, so that a request costs no write.
pub async fn authenticate(pool: &Pool, presented: &SecretString) -> Result<Option<Bearer>, Error> {
    let presented = presented.expose_secret();
    if !presented.starts_with(TOKEN_PREFIX) || presented.len() > LONGEST_TOKEN {
        return Ok(None);
    }
    let found: Option<(Uuid, String, Option<String>, bool)> = sqlx::query_as(
        "select id, tenant, source, coalesce(last_used_at < now() - interval '1 hour', true)
         from api_token where hash = $1 and revoked_at is null",
    )
    .bind(hash(presented))
    .fetch_optional(pool)
    .await?;
    let Some((token, tenant, source, note_use)) = found else {
        return Ok(None);
    };
    if note_use {
        let noted = sqlx::query("update api_token set last_used_at = now() where id = $1")
            .bind(token)
            .execute(pool)
            .await;
        match noted.map_err(Error::from) {
            // A use that cannot be noted for a while is still one.
            Ok(_) | Err(Error::ReadOnly) => {}
            Err(error) => return Err(error),
        }
    }
    let tenant = TenantId::parse(&tenant)
        .ok_or_else(|| Error::Invalid(format!("stored tenant id '{tenant}' is not one")))?;
    Ok(Some(Bearer {
        token,
        tenant,
        source,
    }))
}

/// The second time it changes nothing; the first time of revocation stays.
pub async fn revoke(pool: &Pool, scope: Scope<'_>, id: Uuid) -> Result<Token, Error> {
    sqlx::query_as(
        "update api_token set revoked_at = coalesce(revoked_at, now())
         where id = $1 and ($2::text is null or tenant = $2)
         returning id, tenant, name, source, created_at, last_used_at, revoked_at",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| Error::missing("token", id))
}

/// Newest first.
pub async fn list(pool: &Pool, scope: Scope<'_>, limit: i64) -> Result<Vec<Token>, Error> {
    Ok(sqlx::query_as(
        "select id, tenant, name, source, created_at, last_used_at, revoked_at from api_token
         where ($1::text is null or tenant = $1) order by created_at desc, id limit $2",
    )
    .bind(scope.tenant())
    .bind(limit)
    .fetch_all(pool)
    .await?)
}
