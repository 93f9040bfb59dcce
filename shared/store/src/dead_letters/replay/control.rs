//! A person pauses, resumes or cancels a replay. What is sent already goes on to its end.

use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::pace::FIRST_RATE;
use crate::{Error, Pool, Scope};

/// What a resumed replay goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Resumed {
    /// Dead letters that had failed in it and are tried again.
    pub again: u64,
}

/// Nothing more is sent until it is resumed. The second time nothing happens.
///
/// # Errors
/// `Missing` outside of the scope; `Conflict` where it has ended.
pub async fn pause(pool: &Pool, scope: Scope<'_>, id: Uuid) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    locked(
        &mut transaction,
        scope,
        id,
        &["running", "paused"],
        "paused",
    )
    .await?;
    sqlx::query(
        "update replay set state = 'paused', lease_owner = null, lease_until = null where id = $1",
    )
    .bind(id)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Goes on at one dead letter per second. Where it had stopped itself, the dead letters that failed in it are tried again: whoever
/// resumes it has repaired the cause. A running one stays as it is.
///
/// # Errors
/// `Missing` outside of the scope; `Conflict` where it has ended.
pub async fn resume(pool: &Pool, scope: Scope<'_>, id: Uuid) -> Result<Resumed, Error> {
    let mut transaction = pool.begin().await?;
    let wanted = ["running", "paused", "stopped"];
    let state = locked(&mut transaction, scope, id, &wanted, "resumed").await?;
    let again = if state == "stopped" {
        sqlx::query(
            "update replay_item i set state = 'waiting', at = kurir_now(), sent_at = null, detail = null
             from dead_letter d where i.replay_id = $1 and i.state = 'failed' and d.id = i.dead_id and d.state = 'open'
               and not exists (select 1 from replay_item o where o.dead_id = i.dead_id and o.state = 'waiting')",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await?
        .rows_affected()
    } else {
        0
    };
    if state != "running" {
        sqlx::query(
            "update replay set state = 'running', stopped_reason = null, rate_now = least($2, rate_max),
               paced_at = kurir_now(), window_at = kurir_now(), next_at = kurir_now() where id = $1",
        )
        .bind(id)
        .bind(FIRST_RATE)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(Resumed { again })
}

/// Nothing more is sent, ever: what waits in it is free for another replay. Returns how many waited. The second time
/// nothing happens.
///
/// # Errors
/// `Missing` outside of the scope; `Conflict` where all of it is done.
pub async fn cancel(pool: &Pool, scope: Scope<'_>, id: Uuid) -> Result<u64, Error> {
    let mut transaction = pool.begin().await?;
    let wanted = ["running", "paused", "stopped", "cancelled"];
    locked(&mut transaction, scope, id, &wanted, "cancelled").await?;
    let left = sqlx::query(
        "update replay_item set state = 'cancelled', at = kurir_now() where replay_id = $1 and state = 'waiting'",
    )
    .bind(id)
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    sqlx::query(
        "update replay set state = 'cancelled', ended_at = coalesce(ended_at, kurir_now()), lease_owner = null,
           lease_until = null where id = $1",
    )
    .bind(id)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(left)
}

async fn locked(
    transaction: &mut PgConnection,
    scope: Scope<'_>,
    id: Uuid,
    wanted: &[&str],
    what: &str,
) -> Result<String, Error> {
    let state: String = sqlx::query_scalar(
        "select state from replay where id = $1 and ($2::text is null or tenant = $2) for update",
    )
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(transaction)
    .await?
    .ok_or_else(|| Error::missing("replay", id))?;
    if wanted.contains(&state.as_str()) {
        return Ok(state);
    }
    Err(Error::Conflict(format!(
        "replay '{id}' is {state} and cannot be {what}"
    )))
}
