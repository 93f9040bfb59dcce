//! What a held event waits for, computed when it is asked for: nothing of this is stored, so it is never out of date.

use uuid::Uuid;

use crate::row::row;
use crate::{Error, Pool, Scope};

row! {
    /// The record that a held event waits for, and why that is not at the partner.
    pub struct Awaited {
        /// `<kind>/<id>`
        pub record: String,
        /// None: no event of it has ever been claimed.
        pub link: Option<i64>,
        pub state: Option<String>,
        pub conflict_cause: Option<String>,
        /// An event of it that is held itself, and why.
        pub held: Option<i64>,
        pub held_for: Option<String>,
        /// An event of it that is an open dead letter, and its class.
        pub dead_letter: Option<Uuid>,
        pub dead_class: Option<String>,
        /// It has waited for more than a day.
        pub overdue: bool,
    }
}

/// `None`: the event waits for no record, or is not there (any more).
pub async fn awaited(pool: &Pool, scope: Scope<'_>, held: i64) -> Result<Option<Awaited>, Error> {
    Ok(sqlx::query_as(
        "select h.waits_kind || '/' || h.waits_id as record, o.id as link, o.state, o.conflict_cause, w.id as held,
           w.reason as held_for, d.id as dead_letter, d.class as dead_class,
           h.held_at < kurir_now() - interval '1 day' as overdue
         from held h
         left join link o on o.tenant = h.tenant and o.kind = h.waits_kind and o.source_system = h.waits_system
           and o.source_account = h.waits_account and o.source_id = h.waits_id and o.target_system = h.target_system
           and o.connection_id = h.connection_id
         left join lateral (
           select id, reason from held where tenant = h.tenant and id <> h.id and (link_id = o.id
             or (link_id is null and target_system = h.target_system
               and coalesce(facet, split_part(subject, '/', 1)) = h.waits_kind
               and substr(subject, strpos(subject, '/') + 1) = h.waits_id)) order by id limit 1) w on true
         left join lateral (
           select id, class from dead_letter where tenant = h.tenant and state = 'open' and (link_id = o.id
             or (link_id is null and worker = h.worker and (connection_id is null or connection_id = h.connection_id)
               and coalesce(facet, split_part(subject, '/', 1)) = h.waits_kind
               and substr(subject, strpos(subject, '/') + 1) = h.waits_id)) order by last_at desc limit 1) d on true
         where h.id = $1 and ($2::text is null or h.tenant = $2) and h.waits_id is not null",
    )
    .bind(held)
    .bind(scope.tenant())
    .fetch_optional(pool)
    .await?)
}
