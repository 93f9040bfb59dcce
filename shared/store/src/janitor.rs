//! What no event comes back for: links with an open effect that is due, and links that are to be looked at again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::Error;
use crate::row::row;

/// A request that changed nothing is made again after this, in case it was lost on its way; its event id stays.
pub const ASK_AGAIN: Duration = Duration::from_secs(600);

row! {
    /// A link to be worked on, and since when.
    pub struct Due {
        pub link: i64,
        pub tenant: String,
        /// Whose link it is.
        pub worker: String,
        /// `resolve` or `recheck`.
        pub what: String,
        pub due: DateTime<Utc>,
    }
}

/// A link in conflict waits for its person, not for the janitor. At most `limit` requests that nobody has made yet, noted as made in the caller's transaction: of several replicas
/// one gets each, and none after a rollback is lost. Takes no lock on a link.
pub async fn take_due(transaction: &mut PgConnection, limit: i64) -> Result<Vec<Due>, Error> {
    let again = ASK_AGAIN.as_secs_f64();
    // Both lists are cut before the notes are written; what is left over comes the next time, because what was
    // noted just now is skipped.
    Ok(sqlx::query_as(
        "with due as (
           (select l.id as link, l.tenant, l.worker, 'resolve' as what,
              e.settle_at as due
            from effect e join link l on l.id = e.link_id
            where e.state in ('sent', 'unknown')
              and e.settle_at <= (select kurir_now())
              and (l.lease_until is null or l.lease_until <= (select kurir_now()))
              and not exists (select 1 from janitor_request r where r.link_id = l.id and r.what = 'resolve'
                and r.due = e.settle_at
                and r.asked_at > (select kurir_now()) - $2 * interval '1 second')
            order by 5 limit $1)
           union all
           (select l.id, l.tenant, l.worker, 'recheck', l.recheck_at
            from link l
            where l.recheck_at <= (select kurir_now()) and (l.state <> 'conflict' or l.conflict_cause = 'gone') and (l.lease_until is null or l.lease_until <= (select kurir_now()))
              and not exists (select 1 from janitor_request r where r.link_id = l.id and r.what = 'recheck'
                and r.due = l.recheck_at and r.asked_at > (select kurir_now()) - $2 * interval '1 second')
            order by 5 limit $1)),
         noted as (
           insert into janitor_request as r (link_id, what, due, asked_at)
           select link, what, due, kurir_now() from due order by link, what
           on conflict (link_id, what) do update set due = excluded.due, asked_at = excluded.asked_at
           where r.due <> excluded.due or r.asked_at <= (select kurir_now()) - $2 * interval '1 second'
           returning r.link_id, r.what)
         select d.* from due d join noted n on n.link_id = d.link and n.what = d.what order by d.due",
    )
    .bind(limit)
    .bind(again)
    .fetch_all(transaction)
    .await?)
}
