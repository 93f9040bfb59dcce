//! Neighbours of a crash: dead letters that the broker gave up with their whole prefetch window, and that nothing accuses.

use uuid::Uuid;

use super::super::Filter;
use super::order::{Order, write};
use super::pace::FIRST_RATE;
use crate::{Error, Pool, Scope};

/// Dead letters of one such replay; more of them wait for the next look.
const LIMIT: i64 = 1000;
/// Two keepers that look at once make one replay.
const LOCK: i64 = 0x6b75_7269_726e;
/// Who asks for it, in histories.
const ACTOR: &str = "kurir";

/// One replay, at one dead letter per second, of all open ones that were never replayed by Kurir itself. `None`: there are
/// none. A dead letter that dies as a neighbour again stays open.
pub async fn order_neighbours(pool: &Pool) -> Result<Option<(Uuid, u64)>, Error> {
    let mut transaction = pool.begin().await?;
    let first: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut *transaction)
        .await?;
    if !first {
        return Ok(None);
    }
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select d.id from dead_letter d
         where d.class = 'crash_neighbour' and d.state = 'open'
           and not exists (select 1 from replay_item i join replay r on r.id = i.replay_id
             where i.dead_id = d.id and (r.automatic or i.state = 'waiting'))
         order by d.last_at limit $1",
    )
    .bind(LIMIT)
    .fetch_all(&mut *transaction)
    .await?;
    if ids.is_empty() {
        return Ok(None);
    }
    let filter = Filter {
        ids: Some(ids),
        ..Filter::default()
    };
    let order = Order {
        filter: &filter,
        rate_max: FIRST_RATE,
        restamp: false,
        actor: ACTOR,
        idempotency_key: None,
    };
    let id = Uuid::new_v4();
    let dead_letters = write(&mut transaction, Scope::Everything, &order, id, true)
        .await?
        .unwrap_or_default();
    if dead_letters == 0 {
        return Ok(None);
    }
    transaction.commit().await?;
    Ok(Some((id, dead_letters)))
}
