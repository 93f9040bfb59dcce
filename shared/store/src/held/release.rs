//! The way back to the worker: by hand, and when the cause has ended. Every release is one statement that deletes the row
//! and writes the outbox, so an event is in exactly one place; rows that another releaser holds are left to it.

use chrono::{DateTime, Utc};
use event::TenantId;
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use worker::HoldCause;

use super::{Filter, bind, matching};
use crate::row::row;
use crate::{Error, Pool, QueuePrefix, Scope, audit};

/// Most rows one release statement moves; `release` repeats it until nothing is left.
pub const RELEASE_LIMIT: i64 = 1000;
/// Most rows of one cause that one look of the keeper asks about.
pub const LOOK_LIMIT: i64 = 1000;

/// Most rows of [`Released::in_vain`] that are named.
pub const NAMED_LIMIT: i64 = 20;

/// What a release did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Released {
    pub events: u64,
    /// How many stay, because they would be held again at once.
    pub left: u64,
    /// The first of those, at most [`NAMED_LIMIT`].
    pub in_vain: Vec<InVain>,
}

row! {
    /// A held event that a release does not help: its record would be in the same conflict again, whatever a look shows.
    pub struct InVain {
        pub held: i64,
        pub link: i64,
        /// `<kind>/<id>` at its source.
        pub record: String,
        /// Another link has this key still.
        pub key: Option<String>,
        /// Whose the key is.
        pub owner_link: Option<i64>,
        /// As `record`.
        pub owner: Option<String>,
        /// A create that nothing can look up may still take effect until then.
        pub unclear_until: Option<DateTime<Utc>>,
    }
}

/// Rows of `held` named `h` that a release would not help, with `l`, their link, and `v`, what stands in the way.
macro_rules! is_in_vain {
    () => {
        "link l cross join lateral (
             select c.natural_key as key, o.id as owner_link, o.kind || '/' || o.source_id as owner,
               null::timestamptz as unclear_until
             from natural_key_claim c join link o on o.id = c.link_id
             where l.conflict_cause = 'key_taken' and c.tenant = l.tenant and c.connection_id = l.connection_id
               and c.kind = l.kind and c.link_id <> l.id and c.natural_key = h.waits_key
             union all
             select null, null, null, e.settle_at from effect e
             where l.conflict_cause = 'unclear_create' and e.link_id = l.id and e.state in ('sent', 'unknown')
               and e.settle_at > kurir_now()) v
           where l.id = h.link_id and h.reason = 'conflict' and l.state = 'conflict'"
    };
}

/// By hand: sends what matches back to its worker, with the counters of a first delivery and the same generation, and
/// forgets its claims that never came back. Whoever releases a conflict says that it is settled: the link is looked at
/// anew, and is a conflict again if it still is one; an open create that nothing can look up is given up. What would be held
/// again whatever a look shows stays. An empty filter means everything in scope. What is held anew meanwhile stays. The second time nothing is left to match. Each statement is audited.
pub async fn release(
    pool: &Pool,
    prefix: &QueuePrefix,
    scope: Scope<'_>,
    filter: &Filter,
    actor: &str,
) -> Result<Released, Error> {
    let filter = Filter {
        up_to: Some(super::last_id(pool).await?),
        ..filter.clone()
    };
    let mut events = 0;
    loop {
        let mut transaction = pool.begin().await?;
        lock_conflicts(&mut transaction, scope, &filter).await?;
        let moved = move_to_outbox(
            &mut transaction,
            prefix,
            scope,
            &filter,
            Some(RELEASE_LIMIT),
            Some(actor),
        )
        .await?;
        if moved > 0 {
            let detail = json!({ "events": moved, "filter": filter.named() });
            audit::write(&mut transaction, actor, "held.release", scope, &detail).await?;
        }
        transaction.commit().await?;
        events += moved;
        if moved < RELEASE_LIMIT as u64 {
            let (left, in_vain) = in_vain(pool, scope, &filter).await?;
            return Ok(Released {
                events,
                left,
                in_vain,
            });
        }
    }
}

/// What of a filter a release would not help: how many, and the first of them.
pub async fn in_vain(
    pool: &Pool,
    scope: Scope<'_>,
    filter: &Filter,
) -> Result<(u64, Vec<InVain>), Error> {
    let count = sqlx::query_as(concat!(
        "select count(*) from (select * from held where ",
        matching!(),
        ") h, ",
        is_in_vain!()
    ));
    let (left,): (i64,) = bind(count, scope, filter).fetch_one(pool).await?;
    if left == 0 {
        return Ok((0, Vec::new()));
    }
    let first = sqlx::query_as(concat!(
        "select h.id as held, l.id as link, l.kind || '/' || l.source_id as record, v.*
         from (select * from held where ",
        matching!(),
        ") h, ",
        is_in_vain!(),
        " order by h.id limit $11"
    ));
    let first = bind(first, scope, filter)
        .bind(NAMED_LIMIT)
        .fetch_all(pool)
        .await?;
    Ok((left.unsigned_abs(), first))
}

/// How a person's word about a conflict ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// Its held events leave by themselves now.
    Done,
    NotInConflict,
    /// It would be a conflict again at once.
    InVain(InVain),
    /// A create that nothing can look up may still take effect until then.
    UnclearUntil(DateTime<Utc>),
}

/// A person says that the conflict of this link is settled; also where no event of it is held. Audited, and told in the
/// link's history. Missing outside of the scope.
pub async fn settle_conflict(
    pool: &Pool,
    scope: Scope<'_>,
    link: i64,
    actor: &str,
) -> Result<Settled, Error> {
    let mut transaction = pool.begin().await?;
    let found: Option<(String, String, Option<String>)> = sqlx::query_as(
        "select tenant, state, conflict_cause from link where id = $1 and ($2::text is null or tenant = $2) for update",
    )
    .bind(link)
    .bind(scope.tenant())
    .fetch_optional(&mut *transaction)
    .await?;
    let (tenant, state, cause) = found.ok_or_else(|| Error::missing("link", link))?;
    if state != "conflict" {
        return Ok(Settled::NotInConflict);
    }
    let taken: Option<InVain> = sqlx::query_as(concat!(
        "select h.id as held, l.id as link, l.kind || '/' || l.source_id as record, v.*
         from (select * from held where link_id = $1) h, ",
        is_in_vain!(),
        " order by h.id limit 1"
    ))
    .bind(link)
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(taken) = taken {
        return Ok(Settled::InVain(taken));
    }
    if let Some(until) = unclear_until(&mut transaction, link).await? {
        return Ok(Settled::UnclearUntil(until));
    }
    sqlx::query("select settle_conflicts(array[$1], $2)")
        .bind(link)
        .bind(actor)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "insert into link_history (link_id, tenant, at, what, detail)
         values ($1, $2, kurir_now(), 'settled', jsonb_build_object('actor', $3::text, 'conflict', $4::text))",
    )
    .bind(link)
    .bind(&tenant)
    .bind(actor)
    .bind(&cause)
    .execute(&mut *transaction)
    .await?;
    let detail = json!({ "link": link, "conflict": cause });
    let tenant = TenantId::parse(&tenant);
    audit::write(
        &mut transaction,
        actor,
        "link.settle",
        tenant.as_ref().map_or(Scope::Everything, Scope::Tenant),
        &detail,
    )
    .await?;
    transaction.commit().await?;
    Ok(Settled::Done)
}

/// Until when the open create of a link may still take effect, where that is its conflict. The caller has locked the link.
async fn unclear_until(
    connection: &mut PgConnection,
    link: i64,
) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(sqlx::query_scalar(
        "select e.settle_at from link l join effect e on e.link_id = l.id and e.state in ('sent', 'unknown')
         where l.id = $1 and l.conflict_cause = 'unclear_create' and e.settle_at > kurir_now()",
    )
    .bind(link)
    .fetch_optional(connection)
    .await?)
}

/// Links before held rows, as every function of the link engine takes them.
async fn lock_conflicts(
    connection: &mut PgConnection,
    scope: Scope<'_>,
    filter: &Filter,
) -> Result<(), Error> {
    let query = sqlx::query_as::<_, (i64,)>(concat!(
        "select id from link where id in (
           select link_id from held where ",
        matching!(),
        " and reason = 'conflict' order by lane, id limit $11)
         order by id for update"
    ));
    bind(query, scope, filter)
        .bind(RELEASE_LIMIT)
        .fetch_all(connection)
        .await?;
    Ok(())
}

/// What matches, in the caller's transaction.
pub(crate) async fn move_to_outbox(
    connection: &mut PgConnection,
    prefix: &QueuePrefix,
    scope: Scope<'_>,
    filter: &Filter,
    limit: Option<i64>,
    actor: Option<&str>,
) -> Result<u64, Error> {
    let query = sqlx::query_as::<_, (i64,)>(concat!(
        "select release_held(array(
           select id from held h where ",
        matching!(),
        " and not exists (select 1 from ",
        is_in_vain!(),
        ") order by lane, id limit $11 for update of h skip locked), $12, '{}', $13)"
    ));
    let (moved,) = bind(query, scope, filter)
        .bind(limit)
        .bind(prefix.as_str())
        .bind(actor)
        .fetch_one(connection)
        .await?;
    Ok(moved.unsigned_abs())
}

/// One look of the keeper at the held rows of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub released: u64,
    /// Where the next look begins; `None`: this one has seen the last row.
    pub next: Option<i64>,
}

/// Level-triggered: of the next [`LOOK_LIMIT`] rows of this cause, those that it does not hold any more go back to their
/// workers. What is read here may be older than a change; the next look sees it. A connection that is suspended or
/// switched off lets nothing of its own go.
///
/// | cause | has ended |
/// |---|---|
/// | `no_connection` | the tenant has a connection to the system that is switched on |
/// | `conflict` | the link is no conflict any more, or the natural key it was about is free |
/// | `prerequisite` | what it waits for is linked, or free |
///
/// Causes that need a person, and those that end at the pace of a budget (`release_paced`), are refused.
pub async fn release_ended(
    pool: &Pool,
    prefix: &QueuePrefix,
    cause: HoldCause,
    after: Option<i64>,
) -> Result<Ended, Error> {
    let ended = has_ended(cause)
        .ok_or_else(|| Error::Invalid(format!("held for {cause} does not end here")))?;
    let mut transaction = pool.begin().await?;
    let looked: Vec<(i64, bool, Option<i64>)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select h.id, {ended}, h.link_id
         from (select * from held where reason = $1 and id > $2 order by id limit $3) h order by h.id"
    )))
    .bind(cause.as_str())
    .bind(after.unwrap_or(0))
    .bind(LOOK_LIMIT)
    .fetch_all(&mut *transaction)
    .await?;
    let next = (looked.len() as i64 == LOOK_LIMIT)
        .then(|| looked.last().map(|(id, ..)| *id))
        .flatten();
    let over: Vec<&(i64, bool, Option<i64>)> = looked.iter().filter(|(_, over, _)| *over).collect();
    if over.is_empty() {
        return Ok(Ended { released: 0, next });
    }
    if cause == HoldCause::Conflict {
        let links: Vec<i64> = over.iter().filter_map(|(_, _, link)| *link).collect();
        sqlx::query("select 1 from link where id = any ($1) order by id for update")
            .bind(links)
            .execute(&mut *transaction)
            .await?;
    }
    let ids: Vec<i64> = over.iter().map(|(id, ..)| *id).collect();
    let released: i64 = sqlx::query_scalar(
        "select release_held(array(
           select id from held where id = any ($1) and reason = $2 order by lane, id for update skip locked), $3, '{}', null)",
    )
    .bind(ids)
    .bind(cause.as_str())
    .bind(prefix.as_str())
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Ended {
        released: released.unsigned_abs(),
        next,
    })
}

/// Whether a held row `h` of this cause is held by nothing any more; none for causes that end otherwise.
fn has_ended(cause: HoldCause) -> Option<&'static str> {
    Some(match cause {
        HoldCause::NoConnection => {
            "exists (select 1 from connection c where c.tenant = h.tenant and c.system = h.target_system and c.enabled)"
        }
        HoldCause::Conflict => {
            "exists (select 1 from connection c where c.id = h.connection_id and c.state = 'ok' and c.enabled)
             and exists (select 1 from link l where l.id = h.link_id and (l.state <> 'conflict'
               or (l.conflict_cause = 'key_taken' and h.waits_key is not null and wait_is_over(h.tenant, h.target_system,
                 h.connection_id, h.link_id, h.waits_kind, null, null, null, h.waits_key))))"
        }
        HoldCause::Prerequisite => {
            "exists (select 1 from connection c where c.id = h.connection_id and c.state = 'ok' and c.enabled)
             and wait_is_over(h.tenant, h.target_system, h.connection_id, h.link_id, h.waits_kind, h.waits_system,
               h.waits_account, h.waits_id, h.waits_key)"
        }
        HoldCause::Budget
        | HoldCause::Suspended
        | HoldCause::Circuit
        | HoldCause::Poison
        | HoldCause::Panic
        | HoldCause::WaitExpired
        | HoldCause::AppendUnknown => {
            return None;
        }
    })
}

/// Held rows that nothing holds any more and that the keeper has not let go yet: of each cause at most [`LOOK_LIMIT`] are
/// looked at. More than none for longer than a minute means that no keeper releases.
pub async fn without_cause(pool: &Pool) -> Result<i64, Error> {
    let mut found = 0;
    for cause in HoldCause::ALL {
        let Some(ended) = has_ended(*cause) else {
            continue;
        };
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select count(*) from (select * from held where reason = $1 order by id limit $2) h where {ended}"
        )))
        .bind(cause.as_str())
        .bind(LOOK_LIMIT)
        .fetch_one(pool)
        .await?;
        found += rows;
    }
    Ok(found)
}
