//! A replay is ordered: its dead letters are noted, nothing is sent yet.

use serde::Serialize;
use sqlx::{PgConnection, QueryBuilder};
use uuid::Uuid;

use super::super::Filter;
use super::pace::{FIRST_RATE, HIGHEST_RATE};
use crate::{Error, Pool, Scope};

/// Noting 100 000 dead letters takes seconds, on a slow disk many.
const TIMEOUT: &str = "set local statement_timeout = '120s'";

/// Which dead letters, and how.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Of them, those that are open and wait in no other replay.
    pub filter: &'a Filter,
    /// Dead letters per second, at most; up to [`HIGHEST_RATE`].
    pub rate_max: f32,
    /// Each event gets a new version when it is sent: it counts as the newest content of its record.
    pub restamp: bool,
    pub actor: &'a str,
    /// The same key of the same scope is the same replay, whatever it asks for the second time.
    pub idempotency_key: Option<&'a str>,
}

/// A replay that runs as soon as a keeper sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ordered {
    pub id: Uuid,
    pub dead_letters: u64,
    /// The key was known: this is the replay that was ordered then.
    pub repeated: bool,
}

/// One transaction, and memory for one row, however many dead letters match.
///
/// # Errors
/// `Conflict` where no dead letter is left to replay; `Invalid` for a rate that is not above 0 and at most 1000.
pub async fn order(pool: &Pool, scope: Scope<'_>, order: Order<'_>) -> Result<Ordered, Error> {
    if !(order.rate_max > 0.0 && order.rate_max <= HIGHEST_RATE) {
        return Err(Error::Invalid(format!(
            "a rate is above 0 and at most {HIGHEST_RATE} dead letters per second"
        )));
    }
    let mut transaction = pool.begin().await?;
    sqlx::query(TIMEOUT).execute(&mut *transaction).await?;
    let id = Uuid::new_v4();
    let written = write(&mut transaction, scope, &order, id, false).await?;
    let Some(dead_letters) = written else {
        let known: Uuid = sqlx::query_scalar(
            "select id from replay where coalesce(tenant, '') = coalesce($1, '') and idempotency_key = $2",
        )
        .bind(scope.tenant())
        .bind(order.idempotency_key)
        .fetch_one(&mut *transaction)
        .await?;
        let dead_letters: i64 =
            sqlx::query_scalar("select count(*) from replay_item where replay_id = $1")
                .bind(known)
                .fetch_one(&mut *transaction)
                .await?;
        return Ok(Ordered {
            id: known,
            dead_letters: u64::try_from(dead_letters).unwrap_or_default(),
            repeated: true,
        });
    };
    if dead_letters == 0 {
        return Err(Error::Conflict(
            "there is no open dead letter to replay among these".to_owned(),
        ));
    }
    transaction.commit().await?;
    Ok(Ordered {
        id,
        dead_letters,
        repeated: false,
    })
}

/// How many dead letters it has; `None`: its key is known.
pub(super) async fn write(
    transaction: &mut PgConnection,
    scope: Scope<'_>,
    order: &Order<'_>,
    id: Uuid,
    automatic: bool,
) -> Result<Option<u64>, Error> {
    let fresh = sqlx::query(
        "insert into replay (id, tenant, requested_by, idempotency_key, selection, restamp, automatic, state, rate_max,
           rate_now, paced_at, window_at, next_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, 'running', $8, $9, kurir_now(), kurir_now(), kurir_now(), kurir_now())
         on conflict (coalesce(tenant, ''), idempotency_key) where idempotency_key is not null do nothing",
    )
    .bind(id)
    .bind(scope.tenant())
    .bind(order.actor)
    .bind(order.idempotency_key)
    .bind(order.filter.to_json())
    .bind(order.restamp)
    .bind(automatic)
    .bind(order.rate_max)
    .bind(FIRST_RATE.min(order.rate_max))
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    if fresh == 0 {
        return Ok(None);
    }
    let open = Filter {
        state: Some("open".to_owned()),
        ..order.filter.clone()
    };
    let mut query = QueryBuilder::new(
        "insert into replay_item (replay_id, dead_id, place, worker, state, at) select ",
    );
    query.push_bind(id).push(
        ", id, row_number() over (order by first_at, id), worker, 'waiting', kurir_now() from dead_letter",
    );
    open.push(scope, &mut query);
    // Another replay has it already.
    query.push(" on conflict do nothing");
    Ok(Some(
        query
            .build()
            .execute(&mut *transaction)
            .await?
            .rows_affected(),
    ))
}
