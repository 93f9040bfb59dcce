//! Tenants' accounts at partners, with sealed credentials. Every change of state or credentials raises `epoch`, so that
//! whoever decides on an older view is refused.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use event::TenantId;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use sqlx::Row;
use uuid::Uuid;
use worker::HoldCause;

use crate::held::{self, Filter};
use crate::row::row;
use crate::sealing::{KeyRing, Sealed};
use crate::{Error, Pool, QueuePrefix, Scope};

/// Rows one step of `reseal` reads.
const RESEAL_LIMIT: i64 = 100;
/// Most accounts of one tenant at one system: an event is copied for each.
pub const ACCOUNTS_LIMIT: i64 = 32;

row! {
    /// A connection without its credentials.
    pub struct Connection {
        pub id: Uuid,
        pub tenant: String,
        pub system: String,
        pub account: String,
        pub enabled: bool,
        /// `ok` or `suspended`.
        pub state: String,
        pub state_reason: Option<String>,
        pub epoch: i64,
        pub settings: Value,
        pub key_id: String,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
    }
}

impl Connection {
    /// As the gate sees it. `None` if the stored tenant id is not one.
    pub fn for_worker(&self) -> Option<Arc<worker::Connection>> {
        Some(Arc::new(worker::Connection {
            id: self.id,
            tenant: TenantId::parse(&self.tenant)?,
            system: self.system.clone(),
            account: self.account.clone(),
            state: match self.state.as_str() {
                "ok" => worker::ConnectionState::Ok,
                _ => worker::ConnectionState::Suspended,
            },
            epoch: self.epoch,
            enabled: self.enabled,
            settings: self.settings.clone(),
        }))
    }
}

/// What `add` needs. `credentials` is a JSON object whose members the partner's client knows.
#[derive(Clone, Debug)]
pub struct NewConnection {
    pub tenant: TenantId,
    pub system: String,
    pub account: String,
    pub settings: Map<String, Value>,
    pub credentials: SecretString,
}

/// A change, and how many events it let go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    pub connection: Connection,
    pub released: u64,
}

fn check_credentials(credentials: &SecretString) -> Result<(), Error> {
    let text = credentials.expose_secret();
    let object =
        text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
    object
        .then_some(())
        .ok_or_else(|| Error::Invalid("credentials must be a JSON object".to_owned()))
}

/// Adds an account of the tenant at a system and, in the same transaction, releases what was held because there was none.
/// The second time it is a conflict: one connection per account. What was published before is not carried to an account
/// that is added later.
///
/// No lost wake-up: a hold for `no_connection` takes the tenant's row `for share` before it looks for a connection;
/// this takes the row first, so each hold either is seen by the release below or sees the connection.
pub async fn add(
    pool: &Pool,
    ring: &KeyRing,
    prefix: &QueuePrefix,
    new: &NewConnection,
) -> Result<Changed, Error> {
    check_credentials(&new.credentials)?;
    let id = Uuid::new_v4();
    let sealed = ring.seal(&new.tenant, id, &new.credentials);
    let mut transaction = pool.begin().await?;
    let tenant = sqlx::query("update tenant set name = name where id = $1")
        .bind(new.tenant.as_str())
        .execute(&mut *transaction)
        .await?;
    if tenant.rows_affected() == 0 {
        return Err(Error::missing("tenant", &new.tenant));
    }
    let others: i64 =
        sqlx::query_scalar("select count(*) from connection where tenant = $1 and system = $2")
            .bind(new.tenant.as_str())
            .bind(&new.system)
            .fetch_one(&mut *transaction)
            .await?;
    if others >= ACCOUNTS_LIMIT {
        return Err(Error::Conflict(format!(
            "tenant '{}' has {others} connections to {} already, and that is the most",
            new.tenant, new.system
        )));
    }
    let connection: Connection = sqlx::query_as(
        "insert into connection (id, tenant, system, account, settings, sealed, key_id)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict on constraint connection_one_per_account do nothing
         returning id, tenant, system, account, enabled, state, state_reason, epoch, settings, key_id,
           created_at, updated_at",
    )
    .bind(id)
    .bind(new.tenant.as_str())
    .bind(&new.system)
    .bind(&new.account)
    .bind(Value::Object(new.settings.clone()))
    .bind(&sealed.bytes)
    .bind(&sealed.key_id)
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or_else(|| {
        Error::Conflict(format!(
            "tenant '{}' has a connection to the account '{}' of {} already; change its credentials with `kurir \
             connection update`, or name another account with --account",
            new.tenant, new.account, new.system
        ))
    })?;
    let waiting = Filter {
        target_system: Some(new.system.clone()),
        cause: Some(HoldCause::NoConnection),
        ..Filter::default()
    };
    let scope = Scope::Tenant(&new.tenant);
    let released =
        held::move_to_outbox(&mut transaction, prefix, scope, &waiting, None, None).await?;
    transaction.commit().await?;
    Ok(Changed {
        connection,
        released,
    })
}

/// By tenant, system and account.
pub async fn list(pool: &Pool, scope: Scope<'_>, limit: i64) -> Result<Vec<Connection>, Error> {
    Ok(sqlx::query_as(
        "select id, tenant, system, account, enabled, state, state_reason, epoch, settings, key_id,
           created_at, updated_at
         from connection where ($1::text is null or tenant = $1) order by tenant, system, account collate \"C\" limit $2",
    )
    .bind(scope.tenant())
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

pub async fn get(pool: &Pool, scope: Scope<'_>, id: Uuid) -> Result<Connection, Error> {
    sqlx::query_as(
        "select id, tenant, system, account, enabled, state, state_reason, epoch, settings, key_id,
           created_at, updated_at
         from connection where id = $1 and ($2::text is null or tenant = $2)",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| Error::missing("connection", id))
}

/// A tenant's connections to a system, in the order of their accounts.
pub async fn of_system(
    pool: &Pool,
    tenant: &TenantId,
    system: &str,
) -> Result<Vec<Connection>, Error> {
    Ok(sqlx::query_as(
        "select id, tenant, system, account, enabled, state, state_reason, epoch, settings, key_id,
           created_at, updated_at
         from connection where tenant = $1 and system = $2 order by account collate \"C\" limit $3",
    )
    .bind(tenant.as_str())
    .bind(system)
    .bind(ACCOUNTS_LIMIT)
    .fetch_all(pool)
    .await?)
}

/// A tenant's connection to a system: the one to this account, or its only one. Several are a conflict that names their
/// accounts.
pub async fn find(
    pool: &Pool,
    tenant: &TenantId,
    system: &str,
    account: Option<&str>,
) -> Result<Connection, Error> {
    let mut all = of_system(pool, tenant, system).await?;
    let accounts = all
        .iter()
        .map(|one| one.account.clone())
        .collect::<Vec<_>>();
    let wanted = match account {
        Some(account) => accounts.iter().position(|known| known == account),
        None if all.len() > 1 => {
            return Err(Error::Conflict(format!(
                "tenant '{tenant}' has {} connections to {system}, with the accounts {}; name one with --account",
                all.len(),
                accounts.join(", ")
            )));
        }
        None => (!all.is_empty()).then_some(0),
    };
    match (wanted, account) {
        (Some(place), _) => Ok(all.swap_remove(place)),
        (None, Some(account)) => Err(Error::missing(
            "connection",
            format!("{tenant}/{system}/{account}"),
        )),
        (None, None) => Err(Error::missing("connection", format!("{tenant}/{system}"))),
    }
}

/// Opens the credentials: their JSON, and the epoch they belong to. Who gets a refusal with them suspends the
/// connection only at this epoch.
pub async fn credentials(
    pool: &Pool,
    ring: &KeyRing,
    scope: Scope<'_>,
    id: Uuid,
) -> Result<(SecretString, i64), Error> {
    let row = sqlx::query(
        "select tenant, sealed, key_id, epoch from connection where id = $1 and ($2::text is null or tenant = $2)",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| Error::missing("connection", id))?;
    let tenant = stored_tenant(row.try_get("tenant")?)?;
    let sealed = Sealed {
        key_id: row.try_get("key_id")?,
        bytes: row.try_get("sealed")?,
    };
    Ok((ring.open(&tenant, id, &sealed)?, row.try_get("epoch")?))
}

fn stored_tenant(id: &str) -> Result<TenantId, Error> {
    TenantId::parse(id).ok_or_else(|| Error::Invalid(format!("stored tenant id '{id}' is not one")))
}

/// Replaces the credentials. A suspended connection stays so until a successful test resumes it.
pub async fn update_credentials(
    pool: &Pool,
    ring: &KeyRing,
    scope: Scope<'_>,
    id: Uuid,
    credentials: &SecretString,
) -> Result<Connection, Error> {
    check_credentials(credentials)?;
    let known = get(pool, scope, id).await?;
    let sealed = ring.seal(&stored_tenant(&known.tenant)?, id, credentials);
    sqlx::query_as(
        "update connection set sealed = $3, key_id = $4, epoch = epoch + 1, updated_at = clock_timestamp()
         where id = $1 and ($2::text is null or tenant = $2)
         returning id, tenant, system, account, enabled, state, state_reason, epoch, settings, key_id,
           created_at, updated_at",
    )
    .bind(id)
    .bind(scope.tenant())
    .bind(&sealed.bytes)
    .bind(&sealed.key_id)
    .fetch_optional(pool)
    .await?
    .ok_or_else(|| Error::missing("connection", id))
}

/// Switches a tenant's connection on or off. Off: its events are acknowledged as disabled. The second time the
/// epoch stays.
pub async fn set_enabled(
    pool: &Pool,
    scope: Scope<'_>,
    id: Uuid,
    enabled: bool,
) -> Result<Connection, Error> {
    sqlx::query(
        "update connection set enabled = $3, epoch = epoch + 1, updated_at = clock_timestamp()
         where id = $1 and ($2::text is null or tenant = $2) and enabled <> $3",
    )
    .bind(id)
    .bind(scope.tenant())
    .bind(enabled)
    .execute(pool)
    .await?;
    get(pool, scope, id).await
}

/// The partner refused the credentials of this epoch. Whoever suspends writes the notification with it. `false`: they
/// were changed, tested or suspended meanwhile, and nothing happens (V18 of docs/tests.md).
pub async fn suspend(pool: &Pool, id: Uuid, epoch: i64, reason: &str) -> Result<bool, Error> {
    let suspended: Option<bool> = sqlx::query_scalar(
        "select suspend_connection(tenant, id, $2, $3) from connection where id = $1",
    )
    .bind(id)
    .bind(epoch)
    .bind(reason)
    .fetch_optional(pool)
    .await?;
    Ok(suspended.unwrap_or(false))
}

/// A connection that works again, and how many events wait for its suspension to end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resumed {
    pub connection: Connection,
    pub waiting: u64,
}

/// A test of the credentials of this epoch succeeded: the keeper lets the events held for the suspension go, at the pace
/// of the budget. It looks for what is held without a living cause, so a hold that comes late is seen too. A connection
/// that was not suspended stays as it is. Another epoch is a conflict: test again.
pub async fn resume(pool: &Pool, scope: Scope<'_>, id: Uuid, epoch: i64) -> Result<Resumed, Error> {
    let mut transaction = pool.begin().await?;
    let connection: Option<Connection> = sqlx::query_as(
        "update connection set state = 'ok', state_reason = null,
           epoch = epoch + case when state = 'ok' then 0 else 1 end, updated_at = clock_timestamp()
         where id = $1 and ($2::text is null or tenant = $2) and epoch = $3
         returning id, tenant, system, account, enabled, state, state_reason, epoch, settings, key_id,
           created_at, updated_at",
    )
    .bind(id)
    .bind(scope.tenant())
    .bind(epoch)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(connection) = connection else {
        drop(transaction);
        let known = get(pool, scope, id).await?;
        return Err(Error::Conflict(format!(
            "connection '{id}' was changed meanwhile (epoch {} instead of {epoch}): test it again",
            known.epoch
        )));
    };
    // What was let go before the suspension has met it and is held again: nothing of it is on its way.
    sqlx::query("update budget set begun = released where connection_id = $1 and tenant = $2")
        .bind(id)
        .bind(&connection.tenant)
        .execute(&mut *transaction)
        .await?;
    let waiting: i64 = sqlx::query_scalar(
        "select count(*) from held where connection_id = $1 and reason = 'suspended' and tenant = $2",
    )
    .bind(id)
    .bind(&connection.tenant)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Resumed {
        connection,
        waiting: waiting.unsigned_abs(),
    })
}

/// Seals everything that another key sealed with the current one; returns how many. Credentials that change
/// meanwhile win. Run again, it finds nothing.
pub async fn reseal(pool: &Pool, ring: &KeyRing) -> Result<u64, Error> {
    let mut resealed = 0;
    let mut after = Uuid::nil();
    loop {
        let rows = sqlx::query(
            "select id, tenant, sealed, key_id from connection where key_id <> $1 and id > $2 order by id limit $3",
        )
        .bind(ring.current_key_id())
        .bind(after)
        .bind(RESEAL_LIMIT)
        .fetch_all(pool)
        .await?;
        if rows.is_empty() {
            return Ok(resealed);
        }
        for row in rows {
            let id: Uuid = row.try_get("id")?;
            let tenant = stored_tenant(row.try_get("tenant")?)?;
            let old = Sealed {
                key_id: row.try_get("key_id")?,
                bytes: row.try_get("sealed")?,
            };
            let new = ring.seal(&tenant, id, &ring.open(&tenant, id, &old)?);
            resealed += sqlx::query(
                "update connection set sealed = $2, key_id = $3 where id = $1 and sealed = $4",
            )
            .bind(id)
            .bind(&new.bytes)
            .bind(&new.key_id)
            .bind(&old.bytes)
            .execute(pool)
            .await?
            .rows_affected();
            after = id;
        }
    }
}
