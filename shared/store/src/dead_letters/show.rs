//! All there is to know of one dead letter.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{COLUMNS, DeadLetter};
use crate::links_read::LinkSummary;
use crate::row::{Body, row};
use crate::{Error, Pool, Scope};

/// History rows shown of one dead letter, the newest ones.
pub const HISTORY_LIMIT: i64 = 200;
/// Replays shown of one dead letter, the latest ones.
const REPLAYS_LIMIT: i64 = 20;

row! {
    /// The message itself, and what was noted with it.
    pub struct Message {
        pub body: Body,
        pub edited_body: Option<Body>,
        pub edited_by: Option<String>,
        pub edited_at: Option<DateTime<Utc>>,
        /// An edit names the one it was made from.
        pub row_version: i32,
        pub properties: Value,
        /// Among them `x-history`: the attempts of its last life.
        pub headers: Value,
        /// Effects of it that were confirmed before it died.
        pub partly_applied: Option<Value>,
    }
}

row! {
    /// One thing that happened to it.
    pub struct Happened {
        pub generation: i32,
        pub kind: String,
        pub attempt: i32,
        pub at: DateTime<Utc>,
        pub actor: Option<String>,
        pub detail: Option<Value>,
    }
}

row! {
    /// The connection as it is now.
    pub struct ConnectionNow {
        pub id: Uuid,
        pub system: String,
        pub account: String,
        pub enabled: bool,
        /// `ok` or `suspended`.
        pub state: String,
        pub state_reason: Option<String>,
    }
}

row! {
    /// Its part in a replay.
    pub struct ReplayOf {
        pub replay_id: Uuid,
        /// The replay's own state.
        pub replay_state: String,
        pub requested_by: String,
        pub generation: Option<i32>,
        pub state: String,
        pub detail: Option<String>,
        pub at: DateTime<Utc>,
    }
}

/// Everything, read in one snapshot so that its parts agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeline {
    pub dead_letter: DeadLetter,
    pub message: Message,
    /// Oldest first.
    pub history: Vec<Happened>,
    /// Where the event is held, a replay of it was; the number of the held row.
    pub held: Option<i64>,
    /// The link it died for, or the one of its record where it died before it had one.
    pub link: Option<LinkSummary>,
    /// Whether its tenant exists.
    pub tenant_known: bool,
    /// Of its tenant, latest last; at most a few.
    pub connections: Vec<ConnectionNow>,
    /// Latest last.
    pub replays: Vec<ReplayOf>,
}

/// Missing outside of the scope: an undecodable event belongs to no tenant, only the operator sees it.
pub async fn show(pool: &Pool, scope: Scope<'_>, id: Uuid) -> Result<Timeline, Error> {
    let mut snapshot = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read read only")
        .execute(&mut *snapshot)
        .await?;
    let dead_letter: DeadLetter = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from dead_letter where id = $1 and ($2::text is null or tenant = $2)"
    )))
    .bind(id)
    .bind(scope.tenant())
    .fetch_optional(&mut *snapshot)
    .await?
    .ok_or_else(|| Error::missing("dead letter", id))?;
    let message = sqlx::query_as(
        "select body, edited_body, edited_by, edited_at, row_version, properties, headers, partly_applied
         from dead_letter where id = $1",
    )
    .bind(id)
    .fetch_one(&mut *snapshot)
    .await?;
    let mut history: Vec<Happened> = sqlx::query_as(
        "select generation, kind, attempt, at, actor, detail from dead_letter_history
         where dead_id = $1 order by at desc, generation desc, kind limit $2",
    )
    .bind(id)
    .bind(HISTORY_LIMIT)
    .fetch_all(&mut *snapshot)
    .await?;
    history.reverse();
    let mut replays: Vec<ReplayOf> = sqlx::query_as(
        "select i.replay_id, r.state as replay_state, r.requested_by, i.generation, i.state,
           coalesce(i.detail, i.held_for) as detail, i.at
         from replay_item i join replay r on r.id = i.replay_id where i.dead_id = $1
         order by r.created_at desc, r.id limit $2",
    )
    .bind(id)
    .bind(REPLAYS_LIMIT)
    .fetch_all(&mut *snapshot)
    .await?;
    replays.reverse();
    let held = sqlx::query_scalar(
        "select id from held where tenant = $1 and source = $2 and event_id = $3 and worker = $4
           and ($5::uuid is null or connection_id is null or connection_id = $5)
           and ($6::text is null or facet is null or facet = $6) order by id limit 1",
    )
    .bind(&dead_letter.tenant)
    .bind(&dead_letter.source)
    .bind(&dead_letter.event_id)
    .bind(&dead_letter.worker)
    .bind(dead_letter.connection_id)
    .bind(&dead_letter.facet)
    .fetch_optional(&mut *snapshot)
    .await?;
    let link = link_of(&mut snapshot, &dead_letter).await?;
    let tenant_known = sqlx::query_scalar("select exists (select 1 from tenant where id = $1)")
        .bind(&dead_letter.tenant)
        .fetch_one(&mut *snapshot)
        .await?;
    let connections = sqlx::query_as(
        "select id, system, account, enabled, state, state_reason from connection
         where tenant = $1 and ($2::uuid is null or id = $2) order by created_at, id limit $3",
    )
    .bind(&dead_letter.tenant)
    .bind(dead_letter.connection_id)
    .bind(REPLAYS_LIMIT)
    .fetch_all(&mut *snapshot)
    .await?;
    snapshot.commit().await?;
    Ok(Timeline {
        dead_letter,
        message,
        history,
        held,
        link,
        tenant_known,
        connections,
        replays,
    })
}

/// The scope is the dead letter's own tenant, which the caller may see.
async fn link_of(
    connection: &mut PgConnection,
    dead_letter: &DeadLetter,
) -> Result<Option<LinkSummary>, Error> {
    Ok(sqlx::query_as(
        "select id, tenant, kind, source_system, source_account, source_id, target_system, connection_id, target_id,
           (select c.account from connection c where c.id = connection_id) as account,
           state, conflict_cause, desired_k, applied_k, last_error, recheck_at, created_at, updated_at
         from link where tenant = $1 and (id = $2
           or ($2::bigint is null and kind = coalesce($5, split_part($3, '/', 1)) and source_id = substr($3, strpos($3, '/') + 1)
             and ($4::uuid is null or connection_id = $4)))
         order by id limit 1",
    )
    .bind(&dead_letter.tenant)
    .bind(dead_letter.link_id)
    .bind(&dead_letter.subject)
    .bind(dead_letter.connection_id)
    .bind(&dead_letter.facet)
    .fetch_optional(connection)
    .await?)
}
